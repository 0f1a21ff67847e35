package vfs

import (
	"sync"
	"sync/atomic"
)

// Dentry is a name of a directory and what it stands for: an inode, or (a negative
// one) nothing. Node and type never change; a name that changes its meaning gets
// another Dentry. Renames move it. It is alive as long as somebody has it, in the
// cache or outside, and as long as that the cache finds it again.
type Dentry struct {
	id   uint64
	tree *Tree
	node Node // nil: negative
	typ  Type

	where  atomic.Pointer[where]
	link   atomic.Pointer[string] // text of a symbolic link, read once
	mounts atomic.Int32           // mounts on it
	dead   atomic.Bool            // the name is gone
	opens  atomic.Int32           // Openeds of it
	tmp    atomic.Bool            // made by O_TMPFILE: may be linked though it has no name, once
	magic  bool                   // node is a Magic
	vola   bool                   // node is a Volatile: nothing in it is cached

	// mu is held while names in this directory change and while the file system is
	// asked for one. Order: ancestors first, then by id; Tree.renameMu before any.
	mu sync.Mutex
}

// where is a dentry's place.
type where struct {
	parent *Dentry // nil: root of its file system
	name   string
}

// Volatile is a directory whose names come and go by themselves; they are looked up
// each time.
type Volatile interface{ Volatile() bool }

func (t *Tree) newDentry(parent *Dentry, name string, n Node, typ Type) *Dentry {
	d := &Dentry{id: t.ids.Add(1), tree: t, node: n, typ: typ}
	d.where.Store(&where{parent, name})
	if n != nil {
		_, d.magic = n.(Magic)
		if v, ok := n.(Volatile); ok {
			d.vola = v.Volatile()
		}
	}
	return d
}

// typeOf is a node's type.
func typeOf(n Node) (Type, error) {
	if t, ok := n.(Typer); ok {
		return t.Type(), nil
	}
	a, err := n.Attr()
	return a.Type, err
}

// Typer is a Node that tells its type more cheaply than Attr does.
type Typer interface{ Type() Type }

// Name is the last component; "" of a root.
func (d *Dentry) Name() string { return d.where.Load().name }

// Parent is the directory it is in, nil of a root.
func (d *Dentry) Parent() *Dentry { return d.where.Load().parent }

// Node is the inode.
func (d *Dentry) Node() Node { return d.node }

// Type is the inode's type.
func (d *Dentry) Type() Type { return d.typ }

// Deleted says that the name has been removed.
func (d *Dentry) Deleted() bool { return d.dead.Load() }

// under says whether d is a or below it.
func (d *Dentry) under(a *Dentry) bool {
	for ; d != nil; d = d.Parent() {
		if d == a {
			return true
		}
	}
	return false
}

// Path is a place in the tree: a mount and a name in its file system. The zero Path
// is none; where a call takes a directory it stands for the working directory.
type Path struct {
	M *Mount
	D *Dentry
}

// IsZero says that p is none.
func (p Path) IsZero() bool { return p.D == nil }

// Node is the inode there.
func (p Path) Node() Node { return p.D.node }

// Type is its type.
func (p Path) Type() Type { return p.D.typ }
