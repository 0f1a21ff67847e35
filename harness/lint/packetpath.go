package lint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A file on the packet path says where it stands in it, so that one can walk by
// grep (grep -rn 'Packet path' kernel):
//
//	// Packet path, receive, step 2 of 5.
//	// From: drivers/virtionet/rx.go.  To: netchan/netchan.go.
//	// May not: allocate, block, take a lock, look past the transport header.
//
// Instead of "step N of M" it may say "steps A and B of M", "last step", or
// "between steps A and B of M" where it drives its neighbours. From and To name files (from the module's
// root, kernel or kernel/net) or say in words what is not a file.

// banner is one file's place on the path.
type banner struct {
	file      string
	line      int
	direction string // receive, transmit
	step, to  int    // first and last of its steps, 0 if not said
	of        int    // 0 if not said
	last      bool
	src, dst  []string // files that From and To name, as written
}

var (
	bannerStart = regexp.MustCompile(`^Packet path, (\w+), (.*)$`)
	bannerStep  = regexp.MustCompile(`^step (\d+) of (\d+)\b`)
	bannerSteps = regexp.MustCompile(`^steps (\d+) and (\d+) of (\d+)\b`)
	bannerLast  = regexp.MustCompile(`^last step\b`)
	bannerIn    = regexp.MustCompile(`^between steps (\d+) and (\d+) of (\d+)\b`)
	goPath      = regexp.MustCompile(`[\w./-]+\.go\b`)
)

// PacketPath checks the banners of the packet path in the module in dir.
func PacketPath(dir string) (*Report, error) {
	names, err := goFiles(dir)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	var all []banner
	for _, name := range names {
		src, err := read(dir, name)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(src), "// Packet path") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			r.add(name, 0, "%v", err)
			continue
		}
		for _, g := range f.Comments {
			if b, ok := parseBanner(r, fset, name, g); ok {
				all = append(all, b)
			}
		}
	}
	checkSteps(r, all)
	for _, b := range all {
		b.checkFiles(r, dir, all)
	}
	r.sort()
	r.note("%d files on the packet path", len(all))
	return r, nil
}

// parseBanner reads the banner in a group of comments, if one starts there.
func parseBanner(r *Report, fset *token.FileSet, name string, g *ast.CommentGroup) (b banner, ok bool) {
	for i, c := range g.List {
		text, isLine := strings.CutPrefix(c.Text, "// ")
		if !isLine || !strings.HasPrefix(text, "Packet path") {
			continue
		}
		b = banner{file: name, line: fset.Position(c.Pos()).Line}
		m := bannerStart.FindStringSubmatch(text)
		if m == nil || m[1] != "receive" && m[1] != "transmit" {
			r.add(name, b.line, "banner reads %q, want Packet path, receive|transmit, step N of M.", text)
			return b, false
		}
		b.direction = m[1]
		switch where := m[2]; {
		case bannerStep.MatchString(where):
			m := bannerStep.FindStringSubmatch(where)
			b.step, b.to, b.of = number(m[1]), number(m[1]), number(m[2])
		case bannerSteps.MatchString(where):
			m := bannerSteps.FindStringSubmatch(where)
			b.step, b.to, b.of = number(m[1]), number(m[2]), number(m[3])
		case bannerIn.MatchString(where):
			b.of = number(bannerIn.FindStringSubmatch(where)[3])
		case bannerLast.MatchString(where):
			b.last = true
		default:
			r.add(name, b.line, "banner says %q, want step N of M, steps A and B of M, last step, or between steps A and B of M", where)
			return b, false
		}
		// The rest up to the next paragraph, in one line.
		var rest []string
		for _, c := range g.List[i+1:] {
			if strings.TrimSpace(strings.TrimPrefix(c.Text, "//")) == "" {
				break
			}
			rest = append(rest, strings.TrimSpace(strings.TrimPrefix(c.Text, "//")))
		}
		b.parts(r, strings.Join(rest, " "))
		return b, true
	}
	return b, false
}

// parts splits what follows the first line: From: …  To: …  May not: ….
func (b *banner) parts(r *Report, text string) {
	from := strings.Index(text, "From: ")
	to := strings.Index(text, "To: ")
	not := strings.Index(text, "May not: ")
	if from != 0 || to < from || not < to {
		r.add(b.file, b.line, "banner lacks From:, To: and May not:, in this order, right below it")
		return
	}
	b.src = goPath.FindAllString(text[from:to], -1)
	b.dst = goPath.FindAllString(text[to:not], -1)
}

func number(digits string) int {
	n, _ := strconv.Atoi(digits) // too large is no step either
	return n
}

// checkSteps compares the banners of each direction with each other.
func checkSteps(r *Report, all []banner) {
	for _, direction := range []string{"receive", "transmit"} {
		var of, first banner
		seen := map[int]bool{}
		byPackage := map[string]banner{}
		for _, b := range all {
			if b.direction != direction {
				continue
			}
			if b.of != 0 {
				if of.of == 0 {
					of = b
				} else if of.of != b.of {
					r.add(b.file, b.line, "%s path has %d steps here and %d in %s", direction, b.of, of.of, of.file)
				}
			}
			if first.file == "" {
				first = b
			}
		}
		for _, b := range all {
			if b.direction != direction || b.step == 0 && !b.last {
				continue
			}
			first, end := b.step, b.to
			if b.last {
				first, end = of.of, of.of
			}
			if b.of != 0 && (first < 1 || end < first || end > b.of) {
				r.add(b.file, b.line, "%s path: step %d to %d of %d", direction, first, end, b.of)
				continue
			}
			for step := first; step <= end; step++ {
				seen[step] = true
				// Several drivers, or several protocols, share a step; two files of one
				// package do not.
				key := fmt.Sprint(path.Dir(b.file), " ", step)
				if other, ok := byPackage[key]; ok {
					r.add(b.file, b.line, "%s path: step %d is also that of %s", direction, step, other.file)
				}
				byPackage[key] = b
			}
		}
		for s := 1; s <= of.of; s++ {
			if !seen[s] {
				f := Finding{File: of.file, Line: of.line, Warning: true}
				f.Message = fmt.Sprintf("%s path has %d steps, but no file is step %d", direction, of.of, s)
				r.Findings = append(r.Findings, f)
			}
		}
		if of.of == 0 && first.file != "" {
			r.add(first.file, first.line, "no file says how many steps the %s path has", direction)
		}
	}
}

// checkFiles checks that what From and To name exists, and stands on the right
// side of b.
func (b *banner) checkFiles(r *Report, dir string, all []banner) {
	side := func(names []string, word string, wrong func(other banner) bool) {
		for _, name := range names {
			file := find(dir, b.file, name)
			if file == "" {
				r.add(b.file, b.line, "%s: there is no %s", word, name)
				continue
			}
			i := slices.IndexFunc(all, func(o banner) bool { return o.file == file && o.direction == b.direction })
			if i >= 0 && b.step != 0 && all[i].step != 0 && wrong(all[i]) {
				r.add(b.file, b.line, "%s: %s is step %d, this is step %d", word, name, all[i].step, b.step)
			}
		}
	}
	side(b.src, "From", func(other banner) bool { return other.to >= b.step })
	side(b.dst, "To", func(other banner) bool { return other.step <= b.to })
}

// find returns the file that a banner names, relative to dir, "" if there is none.
func find(dir, from, name string) string {
	for _, base := range []string{".", "kernel", "kernel/net", path.Dir(from)} {
		file := path.Join(base, name)
		if s, err := os.Stat(filepath.Join(dir, filepath.FromSlash(file))); err == nil && s.Mode().IsRegular() {
			return file
		}
	}
	return ""
}
