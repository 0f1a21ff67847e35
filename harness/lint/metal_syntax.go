package lint

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"
)

// metalImports are the packages outside metal that metal may import. They hold
// nothing but functions that compile to a few instructions.
var metalImports = []string{"unsafe", "sync/atomic", "math/bits"}

// checkSyntax reports every construct that needs the runtime. pkgs are sorted
// by import.
func checkSyntax(r *Report, pkgs []*metalPkg) {
	std := importer.ForCompiler(token.NewFileSet(), "source", nil)
	imports := metalImporter{std: std, done: map[string]*types.Package{}}
	for _, p := range pkgs {
		info := &types.Info{
			Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{},
			Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
		}
		var first error
		conf := types.Config{
			Importer: imports, Sizes: types.SizesFor("gc", "amd64"),
			Error: func(err error) {
				if first == nil && !strings.Contains(err.Error(), errImport) { // reported as an import
					first = err
				}
			},
		}
		tp, _ := conf.Check(p.ImportPath, p.fset, p.files, info)
		imports.done[p.ImportPath] = tp
		c := &syntaxCheck{r: r, p: p, info: info, called: map[ast.Expr]bool{}}
		if first != nil {
			// The compiler took it, so this is the check's own fault.
			c.r.add(p.names[0], 0, "package %s: %v", p.ImportPath, first)
		}
		for _, f := range p.files {
			c.imports(f)
			c.initialisers(f)
			ast.Inspect(f, c.node)
		}
	}
}

// metalImporter gives the packages of metal that were checked before, and of the
// standard library only what is permitted: the rest is reported as an import.
type metalImporter struct {
	std  types.Importer
	done map[string]*types.Package
}

func (i metalImporter) Import(path string) (*types.Package, error) {
	if p := i.done[path]; p != nil {
		return p, nil
	}
	if path == "unsafe" || slices.Contains(metalImports, path) {
		return i.std.Import(path)
	}
	return nil, fmt.Errorf("%s %s", path, errImport)
}

const errImport = "is not for code below the runtime"

type syntaxCheck struct {
	r      *Report
	p      *metalPkg
	info   *types.Info
	called map[ast.Expr]bool // what stands before the parentheses of a call
}

func (c *syntaxCheck) report(at ast.Node, format string, args ...any) {
	p := c.p.fset.Position(at.Pos())
	c.r.add(p.Filename, p.Line, format, args...)
}

func (c *syntaxCheck) imports(f *ast.File) {
	for _, s := range f.Imports {
		path, err := strconv.Unquote(s.Path.Value)
		if err == nil && !strings.HasPrefix(path, metalPath) && !slices.Contains(metalImports, path) {
			c.report(s, "import of %s: metal may import metal and %s", path, strings.Join(metalImports, ", "))
		}
	}
}

// initialisers reports package-level code: the runtime would run it after metal
// has long been at work.
func (c *syntaxCheck) initialisers(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				c.report(d, "func init runs when the kernel is up already")
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR {
				continue
			}
			for _, s := range d.Specs {
				for _, v := range s.(*ast.ValueSpec).Values {
					if bad := c.computed(v); bad != nil {
						c.report(bad, "initialiser of a package variable that must be computed")
					}
				}
			}
		}
	}
}

// computed returns the part of a package-level expression that the linker
// cannot lay out, nil if there is none: a call, or a value read from a variable.
func (c *syntaxCheck) computed(e ast.Expr) (bad ast.Expr) {
	ast.Inspect(e, func(n ast.Node) bool {
		x, ok := n.(ast.Expr)
		if !ok || bad != nil {
			return bad == nil
		}
		if c.info.Types[x].Value != nil {
			return false // a constant
		}
		switch x := x.(type) {
		case *ast.FuncLit:
			return false // reported as a closure
		case *ast.CallExpr:
			if !c.info.Types[x.Fun].IsType() {
				bad = x
			}
		case *ast.UnaryExpr:
			if x.Op == token.AND {
				return false // an address, or a composite literal's, reported elsewhere
			}
			if x.Op == token.ARROW {
				bad = x
			}
		case *ast.StarExpr:
			if !c.info.Types[x].IsType() {
				bad = x
			}
		case *ast.IndexExpr, *ast.SliceExpr:
			bad = x
		case *ast.Ident:
			if _, ok := c.info.Uses[x].(*types.Var); ok && !c.isField(x) {
				bad = x
			}
		}
		return bad == nil
	})
	return bad
}

func (c *syntaxCheck) isField(id *ast.Ident) bool {
	v, ok := c.info.Uses[id].(*types.Var)
	return ok && v.IsField()
}

// node looks at one node of the syntax tree.
func (c *syntaxCheck) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		c.report(n, "go statement: there are no goroutines below the runtime")
	case *ast.DeferStmt:
		c.report(n, "defer needs the runtime")
	case *ast.SelectStmt:
		c.report(n, "select needs the runtime")
	case *ast.SendStmt:
		c.report(n, "channel send needs the runtime")
	case *ast.ChanType:
		c.report(n, "channel type")
	case *ast.MapType:
		c.report(n, "map type")
	case *ast.InterfaceType:
		c.report(n, "interface type")
	case *ast.FuncLit:
		c.report(n, "function literal: a closure lives on the heap")
	case *ast.RangeStmt:
		if _, ok := c.under(n.X).(*types.Signature); ok {
			c.report(n, "range over a function makes a closure")
		}
	case *ast.UnaryExpr:
		c.unary(n)
	case *ast.BinaryExpr:
		if n.Op == token.ADD && c.isString(n) && c.info.Types[n].Value == nil {
			c.report(n, "string concatenation allocates")
		}
	case *ast.AssignStmt:
		if n.Tok == token.ADD_ASSIGN && c.isString(n.Lhs[0]) {
			c.report(n, "string concatenation allocates")
		}
	case *ast.CallExpr:
		c.call(n)
	case *ast.SelectorExpr:
		if s := c.info.Selections[n]; s != nil && s.Kind() == types.MethodVal && !c.called[n] {
			c.report(n, "method value %s: a closure lives on the heap", n.Sel.Name)
		}
	case *ast.Ident:
		c.ident(n)
	}
	return true
}

func (c *syntaxCheck) unary(n *ast.UnaryExpr) {
	switch n.Op {
	case token.ARROW:
		c.report(n, "channel receive needs the runtime")
	case token.AND:
		if _, ok := ast.Unparen(n.X).(*ast.CompositeLit); ok {
			c.report(n, "address of a composite literal: it may live on the heap")
		}
	}
}

// ident reports names of types and variables whose type needs the runtime, where
// the type itself is written down elsewhere (error, any, another package's).
func (c *syntaxCheck) ident(n *ast.Ident) {
	switch o := c.info.Uses[n].(type) {
	case *types.TypeName:
		if types.IsInterface(o.Type()) {
			c.report(n, "interface type %s", n.Name)
		}
	case *types.Var:
		c.varType(n, o)
	}
	if o, ok := c.info.Defs[n].(*types.Var); ok {
		c.varType(n, o)
	}
}

func (c *syntaxCheck) varType(n *ast.Ident, v *types.Var) {
	switch v.Type().Underlying().(type) {
	case *types.Interface:
		c.report(n, "%s is of interface type %s", n.Name, v.Type())
	case *types.Map:
		c.report(n, "%s is a map", n.Name)
	case *types.Chan:
		c.report(n, "%s is a channel", n.Name)
	}
}

// forbiddenBuiltins allocate, or end in the runtime.
var forbiddenBuiltins = map[string]string{
	"append":  "allocates",
	"make":    "allocates",
	"new":     "allocates",
	"panic":   "needs the runtime; print with klog and halt",
	"recover": "needs the runtime",
	"print":   "writes through the runtime; use klog",
	"println": "writes through the runtime; use klog",
	"delete":  "is for maps",
	"close":   "is for channels",
}

func (c *syntaxCheck) call(n *ast.CallExpr) {
	fun := ast.Unparen(n.Fun)
	c.called[fun] = true
	tv := c.info.Types[fun]
	switch {
	case tv.IsType():
		c.conversion(n, tv.Type)
		return
	case tv.IsBuiltin():
		name := ""
		switch f := fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name // unsafe.…
		}
		if why := forbiddenBuiltins[name]; why != "" {
			c.report(n, "%s %s", name, why)
		}
		return
	}
	sig, ok := c.under(fun).(*types.Signature)
	if !ok {
		return
	}
	if !c.static(fun) {
		c.report(n, "call through a function value: nothing checks where it goes")
	}
	for v := range sig.Params().Variables() {
		t := v.Type()
		if s, ok := t.(*types.Slice); ok && sig.Variadic() {
			t = s.Elem()
		}
		if types.IsInterface(t) {
			c.report(n, "argument %s is of interface type %s: what is passed is boxed", v.Name(), t)
		}
	}
}

// static says whether the function that a call names is known when compiled.
func (c *syntaxCheck) static(fun ast.Expr) bool {
	switch f := fun.(type) {
	case *ast.Ident:
		_, ok := c.info.Uses[f].(*types.Func)
		return ok
	case *ast.SelectorExpr:
		if s := c.info.Selections[f]; s != nil {
			return s.Kind() == types.MethodVal && !types.IsInterface(s.Recv())
		}
		_, ok := c.info.Uses[f.Sel].(*types.Func)
		return ok
	case *ast.IndexExpr: // a generic function with its type
		return c.static(ast.Unparen(f.X))
	case *ast.FuncLit:
		return true // reported as a closure
	}
	return false
}

// conversion reports those that copy into a new string or slice.
func (c *syntaxCheck) conversion(n *ast.CallExpr, to types.Type) {
	if len(n.Args) != 1 || c.info.Types[n].Value != nil {
		return
	}
	from := c.under(n.Args[0])
	_, fromSlice := from.(*types.Slice)
	_, toSlice := to.Underlying().(*types.Slice)
	fromString, toString := isString(from), isString(to.Underlying())
	switch {
	case toString && !fromString:
		c.report(n, "conversion to string allocates")
	case toSlice && fromString && !fromSlice:
		c.report(n, "conversion of a string to a slice allocates")
	}
}

func (c *syntaxCheck) under(e ast.Expr) types.Type {
	if t := c.info.TypeOf(e); t != nil {
		return t.Underlying()
	}
	return types.Typ[types.Invalid]
}

func (c *syntaxCheck) isString(e ast.Expr) bool { return isString(c.under(e)) }

func isString(t types.Type) bool {
	b, ok := t.(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}
