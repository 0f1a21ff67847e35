// Package lint holds the project's own checks, those that go vet cannot know:
//
//   - check-metal: code below the Go runtime (kernel/metal) neither allocates nor
//     uses what needs the runtime. See metal.go, which says how each part works.
//   - packet-path: the banners by which one walks the packet path by grep agree
//     with each other and with the files there are. See packetpath.go.
//   - unsafe-names: above metal, unsafe lives in files that say so. See names.go.
//   - docs: package comments, file lengths, the paths that ARCHITECTURE.md names,
//     unfinished corners left in comments. See docs.go.
//
// Who may use it: harness/cmd/lint, and tests. It reads the tree and runs the go
// command; it changes nothing. It may not import the kernel. Start reading at
// Run.
package lint

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// Finding is one thing that is wrong.
type Finding struct {
	File    string // relative to the module's directory; empty if no file is to blame
	Line    int    // 0 if no line is
	Message string
	Warning bool // does not fail the check
}

// String is the finding as a compiler would print it.
func (f Finding) String() string {
	s := f.Message
	if f.Warning {
		s = "warning: " + s
	}
	switch {
	case f.File == "":
		return s
	case f.Line == 0:
		return f.File + ": " + s
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, s)
}

// Report is what a check found.
type Report struct {
	Findings []Finding
	Notes    []string // what was looked at, for the reader who wonders
}

func (r *Report) add(file string, line int, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{File: file, Line: line, Message: fmt.Sprintf(format, args...)})
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Failed says whether there is a finding that is not a warning.
func (r *Report) Failed() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return !f.Warning })
}

// sort orders the findings, and drops those said before.
func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
	})
	r.Findings = slices.Compact(r.Findings)
}

// Checks are the checks by name, in the order in which "all" runs them.
var Checks = []struct {
	Name, About string
	run         func(dir string) (*Report, error)
}{
	{"packet-path", "banners of the packet path agree with each other and the files", PacketPath},
	{"unsafe-names", "above metal, unsafe only in *_unsafe.go", UnsafeNames},
	{"docs", "package comments, file lengths, ARCHITECTURE.md, no unfinished corners in comments", Docs},
	{"check-metal", "no heap, no runtime below the runtime", func(dir string) (*Report, error) { return CheckMetal(Metal{Dir: dir}) }},
}

// Run runs the check of that name, or all of them, on the module in dir, and
// prints what it found. ok is false if a check failed; err says that one could
// not be run.
func Run(dir, name string, w io.Writer, verbose bool) (ok bool, err error) {
	ok, known := true, false
	for _, c := range Checks {
		if name != "all" && name != c.Name {
			continue
		}
		known = true
		r, err := c.run(dir)
		if err != nil {
			return false, fmt.Errorf("%s: %w", c.Name, err)
		}
		r.sort()
		for _, f := range r.Findings {
			fmt.Fprintln(w, f)
		}
		if verbose {
			for _, n := range r.Notes {
				fmt.Fprintf(w, "%s: %s\n", c.Name, n)
			}
		}
		if r.Failed() {
			ok = false
			fmt.Fprintf(w, "%s: FAILED\n", c.Name)
		} else {
			fmt.Fprintf(w, "%s: ok\n", c.Name)
		}
	}
	if !known {
		return false, fmt.Errorf("no check is called %q", name)
	}
	return ok, nil
}
