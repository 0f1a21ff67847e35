package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Code below the Go runtime runs without a heap, without goroutines and, when a
// trap is served, on a stack that does not grow. Nothing in the language says
// so; four checks do:
//
//	compile  the compiler's own escape analysis (-m) and its list of write
//	         barriers (-d=wb=1). A line that must differ says why at its end:
//	         // alloc: reason
//	syntax   what allocates, blocks or needs the runtime by its nature: go, defer,
//	         channels, maps, closures, interfaces, append, make, new, &T{…},
//	         string concatenation and conversion, panic, initialisers that run;
//	         and the list of permitted imports, which makes the other checks
//	         sound: metal calls only code that is checked as well
//	link     the machine code of a linked program: every call or jump out of
//	         metal goes to one of a few runtime functions (linkAllowed), and no
//	         package of metal has an init function
//
// The syntax check sees each construct where it stands; the compile check sees
// what the compiler makes of it; the link check sees what is left, whatever it
// came from.

// Metal says what CheckMetal looks at.
type Metal struct {
	Dir     string   // the module's directory
	Flags   []string // further go build flags (a test's -overlay)
	Program string   // main package that is linked; "" = ./kernel/ktest/progs/hello
	NoLink  bool     // leave out the link check
}

const (
	metalPath = "osv/kernel/metal/"
	metalDirs = "./kernel/metal/..."
)

// The kernel is built for this machine, wherever the check runs.
var metalEnv = []string{"GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "CGO_ENABLED=0"}

// CheckMetal checks the packages below the Go runtime.
func CheckMetal(m Metal) (*Report, error) {
	if m.Program == "" {
		m.Program = "./kernel/ktest/progs/hello"
	}
	pkgs, err := m.load()
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := m.compile(r, pkgs); err != nil {
		return nil, err
	}
	checkSyntax(r, pkgs)
	if !m.NoLink {
		if err := m.link(r); err != nil {
			return nil, err
		}
	}
	r.sort()
	return r, nil
}

// metalPkg is one package of metal, parsed.
type metalPkg struct {
	Dir, ImportPath string
	GoFiles         []string
	Imports         []string

	fset   *token.FileSet
	files  []*ast.File
	names  []string                  // of files, relative to the module
	exempt map[string]map[int]string // file, line → reason of an alloc comment
}

// load lists and parses the packages, sorted so that each comes after those it
// imports.
func (m Metal) load() ([]*metalPkg, error) {
	out, err := m.goCommand("list", append(m.Flags, "-json=Dir,ImportPath,GoFiles,Imports", metalDirs)...)
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(m.Dir)
	if err != nil {
		return nil, err
	}
	overlay, err := m.overlay()
	if err != nil {
		return nil, err
	}
	byPath := map[string]*metalPkg{}
	fset := token.NewFileSet()
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &metalPkg{fset: fset, exempt: map[string]map[int]string{}}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		for _, name := range p.GoFiles {
			if err := p.parse(root, filepath.Join(p.Dir, name), overlay); err != nil {
				return nil, err
			}
		}
		byPath[p.ImportPath] = p
	}
	if len(byPath) == 0 {
		return nil, fmt.Errorf("no packages match %s", metalDirs)
	}
	var sorted []*metalPkg
	done := map[string]bool{}
	var visit func(p *metalPkg)
	visit = func(p *metalPkg) {
		if done[p.ImportPath] {
			return
		}
		done[p.ImportPath] = true
		for _, i := range p.Imports {
			if q := byPath[i]; q != nil {
				visit(q)
			}
		}
		sorted = append(sorted, p)
	}
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		visit(byPath[path])
	}
	return sorted, nil
}

const exemption = "// alloc:"

func (p *metalPkg) parse(root, file string, overlay map[string]string) error {
	from := file
	if o, ok := overlay[file]; ok {
		from = o
	}
	src, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(root, file)
	if err != nil {
		return err
	}
	name = filepath.ToSlash(name)
	f, err := parser.ParseFile(p.fset, name, src, parser.ParseComments)
	if err != nil {
		return err
	}
	p.files, p.names = append(p.files, f), append(p.names, name)
	p.exempt[name] = map[int]string{}
	for _, g := range f.Comments {
		for _, c := range g.List {
			if reason, ok := strings.CutPrefix(c.Text, exemption); ok {
				p.exempt[name][p.fset.Position(c.Pos()).Line] = strings.TrimSpace(reason)
			}
		}
	}
	return nil
}

// overlay returns the replacements of a -overlay flag, which go list and go
// build apply themselves.
func (m Metal) overlay() (map[string]string, error) {
	var o struct{ Replace map[string]string }
	for _, f := range m.Flags {
		name, ok := strings.CutPrefix(f, "-overlay=")
		if !ok {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, &o); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return o.Replace, nil
}

// goCommand runs the go command in the module and returns its standard output.
func (m Metal) goCommand(verb string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", append([]string{verb}, args...)...)
	cmd.Dir = m.Dir
	cmd.Env = append(os.Environ(), metalEnv...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", verb, err, errs.Bytes())
	}
	if verb == "build" {
		return errs.Bytes(), nil // where the compiler's remarks go
	}
	return out.Bytes(), nil
}
