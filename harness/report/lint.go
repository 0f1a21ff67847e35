package report

import (
	"fmt"
	"regexp"
	"strings"
)

// The claim linter: nothing is published that a sceptic could not check. It
// reads the text as a reader does and knows nothing of how it was made, so a
// sentence added by hand is held to the same rules.

var (
	hasN        = regexp.MustCompile(`\bn=\d+`)
	hasInterval = regexp.MustCompile(`\[-?[\d,.]+, -?[\d,.]+\] \(95 % CI`)
	hasAbsolute = regexp.MustCompile(`[\d.]+ (req/s|Mbit/s|instr/req|instr/KiB|µs/req|s|MiB|M/s|% of a core|µs)\b.*against .*[\d.]+ (req/s|Mbit/s|instr/req|instr/KiB|µs/req|s|MiB|M/s|% of a core|µs)\b|% of a core.*against`)
	hasAccel    = regexp.MustCompile(`Accelerator: \S`)
	hasRatio    = regexp.MustCompile(`\d(\.\d+)?\s*(×|x\b|times\b)|\bratio \d`)
	comparative = regexp.MustCompile(`(?i)\b(better|worse|faster|slower|beats|wins|loses|outperforms?|improve[sd]?|times)\b`)
	vague       = regexp.MustCompile(`(?i)\b(blazing|blazingly|lightning|massive(ly)?|dramatic(ally)?|significantly|huge(ly)?|incredibl[ey])\b`)
)

// Lint reports what is wrong with a claims.md. emulated forbids ratios in
// headings.
func Lint(text string, emulated bool) []string {
	var out []string
	section := ""
	for i, line := range strings.Split(text, "\n") {
		bad := func(format string, a ...any) {
			out = append(out, fmt.Sprintf("line %d: %s", i+1, fmt.Sprintf(format, a...)))
		}
		if w := vague.FindString(line); w != "" {
			bad("%q is praise, not a measurement", w)
		}
		if strings.HasPrefix(line, "#") {
			section = strings.TrimSpace(line)
			if emulated && hasRatio.MatchString(line) {
				bad("a ratio in a heading, under emulation")
			}
			if comparative.MatchString(line) && !hasN.MatchString(line) {
				bad("a comparison in a heading")
			}
			continue
		}
		if !strings.HasPrefix(line, "- ") {
			if comparative.MatchString(line) || hasRatio.MatchString(line) {
				bad("a comparison outside the list of claims")
			}
			continue
		}
		switch section {
		case claimsHeading:
			for _, rule := range []struct {
				re   *regexp.Regexp
				what string
			}{{hasN, "n"}, {hasInterval, "a 95 % interval of the ratio"}, {hasAbsolute, "absolute values of both sides"}, {hasAccel, "the accelerator"}} {
				if !rule.re.MatchString(line) {
					bad("a claim without %s", rule.what)
				}
			}
		case unclaimsHeading:
			if m := comparative.FindString(strings.SplitN(line, "Not claimed:", 2)[0]); m != "" {
				bad("%q in what is not claimed", m)
			}
			if !strings.Contains(line, "Not claimed: ") {
				bad("no reason why this is not claimed")
			}
		default:
			bad("a claim outside %q", claimsHeading)
		}
	}
	return out
}

// LintTitle holds a chart's title to the rules: numbers, no praise, and under
// emulation no ratio.
func LintTitle(title string, emulated bool) []string {
	var out []string
	if w := vague.FindString(title); w != "" {
		out = append(out, fmt.Sprintf("title %q: %q is praise", title, w))
	}
	if emulated && hasRatio.MatchString(title) {
		out = append(out, fmt.Sprintf("title %q: a ratio under emulation", title))
	}
	return out
}
