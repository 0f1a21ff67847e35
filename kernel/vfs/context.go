package vfs

import (
	"sync"
	"sync/atomic"
)

// Context is who asks: one per thread, changed by that thread alone. Threads made
// with CLONE_FS have the same Dirs.
type Context struct {
	Tree  *Tree
	Dirs  *Dirs
	Creds *Creds
	// PID and TID are the caller's, for the links "self" and "thread-self" of /proc.
	PID, TID int
}

// NewContext is one at the tree's root with umask 022.
func NewContext(t *Tree, c *Creds) *Context {
	return &Context{Tree: t, Dirs: newDirs(t.Root(), t.Root(), 0o022), Creds: c}
}

// Fork is the context of a new thread or process; with share set it has the same
// directories (CLONE_FS). The caller sets PID and TID.
func (c *Context) Fork(share bool) *Context {
	n := *c
	if share {
		c.Dirs.refs.Add(1)
	} else {
		d := c.Dirs.state.Load()
		n.Dirs = newDirs(d.root, d.cwd, c.Dirs.umask.Load())
	}
	return &n
}

// Unshare gives the thread directories of its own (unshare(CLONE_FS)).
func (c *Context) Unshare() {
	old := c.Dirs
	d := old.state.Load()
	c.Dirs = newDirs(d.root, d.cwd, old.umask.Load())
	old.drop()
}

// Close lets go of the directories; the context is not used after it.
func (c *Context) Close() { c.Dirs.drop() }

// Root, Cwd and Umask are the present ones.
func (c *Context) Root() Path    { return c.Dirs.Root() }
func (c *Context) Cwd() Path     { return c.Dirs.Cwd() }
func (c *Context) Umask() uint32 { return c.Dirs.umask.Load() }

// Dirs are a process's root directory, working directory and umask.
type Dirs struct {
	mu    sync.Mutex // changes
	state atomic.Pointer[dirState]
	umask atomic.Uint32
	refs  atomic.Int32
}

type dirState struct{ root, cwd Path }

func newDirs(root, cwd Path, umask uint32) *Dirs {
	d := &Dirs{}
	root.M.hold()
	cwd.M.hold()
	d.state.Store(&dirState{root, cwd})
	d.umask.Store(umask)
	d.refs.Store(1)
	return d
}

func (d *Dirs) drop() {
	if d.refs.Add(-1) == 0 {
		s := d.state.Load()
		s.root.M.release()
		s.cwd.M.release()
	}
}

// Root is the root directory.
func (d *Dirs) Root() Path { return d.state.Load().root }

// Cwd is the working directory.
func (d *Dirs) Cwd() Path { return d.state.Load().cwd }

// SetCwd makes p, a directory, the working directory.
func (d *Dirs) SetCwd(p Path) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.state.Load()
	p.M.hold()
	d.state.Store(&dirState{old.root, p})
	old.cwd.M.release()
}

// SetRoot makes p, a directory, the root directory.
func (d *Dirs) SetRoot(p Path) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.state.Load()
	p.M.hold()
	d.state.Store(&dirState{p, old.cwd})
	old.root.M.release()
}

// SetUmask sets the umask and returns the one before.
func (d *Dirs) SetUmask(m uint32) uint32 { return d.umask.Swap(m & 0o777) }
