package lint

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	maxFileLines = 600 // past it, look for a second concept
	maxArchLines = 150
	archFile     = "ARCHITECTURE.md"
)

// unfinished are the words for which KNOWN-GAPS.md is the place.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

// Docs checks what a newcomer reads.
func Docs(dir string) (*Report, error) {
	names, err := files(dir)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	packages := map[string]bool{} // directory → has a package comment
	first := map[string]string{}  // directory → a file of it
	for _, name := range names {
		text := textKind(name)
		if text == "" {
			continue
		}
		src, err := read(dir, name)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, err
		}
		lines := bytes.Count(src, []byte("\n"))
		if text == "go" {
			generated, documented := goDocs(r, name, src)
			d := path.Dir(name)
			if !strings.HasSuffix(name, "_test.go") {
				packages[d] = packages[d] || documented
				if first[d] == "" {
					first[d] = name
				}
			}
			if lines > maxFileLines && !generated {
				r.Findings = append(r.Findings, Finding{File: name, Warning: true,
					Message: fmt.Sprintf("%d lines; past %d, look for a second concept", lines, maxFileLines)})
			}
			continue
		}
		for i, line := range strings.Split(string(src), "\n") {
			if w := unfinished.FindString(line); w != "" {
				r.add(name, i+1, "%s: what is unfinished belongs into KNOWN-GAPS.md", w)
			}
		}
	}
	for _, d := range slices.Sorted(maps.Keys(packages)) {
		if !packages[d] {
			r.add(first[d], 0, "package in %s has no package comment", d)
		}
	}
	r.note("%d packages", len(packages))
	if err := architecture(r, dir); err != nil {
		return nil, err
	}
	r.sort()
	return r, nil
}

// textKind says how a file is read: as Go, line by line, or (empty) not at all.
func textKind(name string) string {
	switch base := path.Base(name); path.Ext(base) {
	case ".go":
		return "go"
	case ".s", ".S", ".h", ".sh", ".md", ".py", ".yml", ".yaml", ".toml":
		return "lines"
	default:
		if base == "Makefile" {
			return "lines"
		}
	}
	return ""
}

// goDocs checks one Go file's comments; it says whether the file is generated,
// and whether it has the package comment.
func goDocs(r *Report, name string, src []byte) (generated, documented bool) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		r.add(name, 0, "%v", err)
		return false, true
	}
	for _, g := range f.Comments {
		for _, c := range g.List {
			for i, line := range strings.Split(c.Text, "\n") {
				if w := unfinished.FindString(line); w != "" {
					r.add(name, fset.Position(c.Pos()).Line+i, "%s: what is unfinished belongs into KNOWN-GAPS.md", w)
				}
			}
		}
	}
	return ast.IsGenerated(f), f.Doc != nil
}

// Paths in prose: in backquotes and with a slash or a known ending, or starting
// with a folder of ours.
var (
	quoted   = regexp.MustCompile("`([^`\n]+)`")
	ourPath  = regexp.MustCompile(`(?:^|[\s("'])((?:kernel|appliances|harness|capstan)/[\w.{},*/-]+)`)
	pathLike = regexp.MustCompile(`^(\./)?[\w.{},*-]+(/[\w.{},*-]+)*/?$`)
)

// architecture checks the one page that must not lie. It is absent in the first
// days of a tree.
func architecture(r *Report, dir string) error {
	src, err := read(dir, archFile)
	if errors.Is(err, fs.ErrNotExist) {
		r.note("no %s yet", archFile)
		return nil
	}
	if err != nil {
		return err
	}
	if n := bytes.Count(src, []byte("\n")); n >= maxArchLines {
		r.add(archFile, 0, "%d lines, should be under %d", n, maxArchLines)
	}
	paths := 0
	for i, line := range strings.Split(string(src), "\n") {
		for _, p := range pathsIn(line) {
			paths++
			if !exists(dir, p) {
				r.add(archFile, i+1, "there is no %s", p)
			}
		}
	}
	r.note("%s names %d paths", archFile, paths)
	return nil
}

// pathsIn returns the paths of the tree that a line of prose names.
func pathsIn(line string) []string {
	var out []string
	add := func(p string) {
		p = strings.TrimRight(p, ".,:;")
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for _, m := range quoted.FindAllStringSubmatch(line, -1) {
		p := m[1]
		if !pathLike.MatchString(p) {
			continue
		}
		top, _, deep := strings.Cut(p, "/")
		switch {
		case strings.HasPrefix(p, "build/") || strings.HasPrefix(p, "results/"): // made, not kept
		case deep && slices.Contains([]string{"kernel", "appliances", "harness", "capstan", ".ci"}, top),
			slices.Contains([]string{".go", ".s", ".md", ".S"}, path.Ext(p)),
			deep && path.Ext(p) == "":
			add(p)
		}
	}
	for _, m := range ourPath.FindAllStringSubmatch(line, -1) {
		add(m[1])
	}
	return out
}

// exists says whether a path of the tree, which may hold {a,b} and *, names
// something. Paths may be relative to kernel, as in the package comments.
func exists(dir, p string) bool {
	for _, q := range braces(p) {
		found := false
		for _, base := range []string{"", "kernel", "kernel/net"} {
			m, err := filepath.Glob(filepath.Join(dir, base, filepath.FromSlash(q)))
			found = found || err == nil && len(m) > 0
		}
		if !found {
			return false
		}
	}
	return true
}

// braces expands a{b,c}d to abd, acd.
func braces(p string) []string {
	open := strings.IndexByte(p, '{')
	if open < 0 {
		return []string{p}
	}
	end := strings.IndexByte(p[open:], '}')
	if end < 0 {
		return []string{p}
	}
	var out []string
	for alt := range strings.SplitSeq(p[open+1:open+end], ",") {
		out = append(out, braces(p[:open]+alt+p[open+end+1:])...)
	}
	return out
}
