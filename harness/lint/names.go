package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// unsafeElsewhere are files above metal that use unsafe under another name, each
// with its reason.
var unsafeElsewhere = map[string]string{
	"kernel/hw/gate/gate.go":            "the border to metal, all of it",
	"kernel/ktest/progs/panics/main.go": "a boot test that makes the faults it tests for",
}

// UnsafeNames checks that a file above metal which imports unsafe says so in its
// name: a reviewer looks at those first. Tests may do as they like.
func UnsafeNames(dir string) (*Report, error) {
	names, err := goFiles(dir)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	users := 0
	for _, name := range names {
		if strings.HasPrefix(name, "kernel/metal/") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := read(dir, name)
		if err != nil {
			return nil, err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, src, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			r.add(name, 0, "%v", err)
			continue
		}
		i := slices.IndexFunc(f.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == `"unsafe"` })
		marked := isUnsafeName(name)
		switch {
		case i >= 0 && !marked && unsafeElsewhere[name] == "":
			r.add(name, fset.Position(f.Imports[i].Pos()).Line, "imports unsafe: move what needs it to a file called *_unsafe.go")
		case i < 0 && marked:
			r.add(name, 0, "is called *_unsafe.go and does not import unsafe")
		}
		if i >= 0 {
			users++
		}
	}
	r.note("%d files above metal import unsafe", users)
	return r, nil
}

// isUnsafeName takes x_unsafe.go, and x_unsafe_amd64.go.
func isUnsafeName(name string) bool {
	base := strings.TrimSuffix(name, ".go")
	for _, arch := range []string{"_amd64", "_arm64", "_linux"} {
		base = strings.TrimSuffix(base, arch)
	}
	return strings.HasSuffix(base, "_unsafe")
}
