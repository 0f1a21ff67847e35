package vfs

import (
	"maps"
	"sync"
	"sync/atomic"
	"syscall"
)

// Tree is a mount namespace with its dentry cache. Make one with NewTree; read
// walk.go for how a path becomes a Path.
type Tree struct {
	ids   atomic.Uint64 // of dentries
	cache dcache
	root  *Mount
	anon  *Mount // of paths outside the tree

	// mu is held while mounts change; mounts is read without it.
	mu      sync.Mutex
	mounts  atomic.Pointer[mountTable]
	mountID int

	// renameMu is held by renames between directories, which alone change what is
	// below what.
	renameMu sync.Mutex

	protectedLinks bool

	hook    atomic.Pointer[Hook]
	openers atomic.Pointer[openers]
}

// mountTable is replaced as a whole at each change.
type mountTable struct {
	at   map[Path]*Mount // mount point → what is mounted on it
	list []*Mount        // in the order they were made
}

// Options of a tree.
type Options struct {
	// Dentries is how many names the cache holds; 0 is DefaultDentries.
	Dentries int
	// Source and Flags are of the root mount.
	Source string
	Flags  MountFlags
	// ProtectedHardlinks refuses hard links to files of others, as
	// /proc/sys/fs/protected_hardlinks does; Linux's own default is not to.
	ProtectedHardlinks bool
}

// NewTree is a namespace with root as "/".
func NewTree(root FileSystem) *Tree { return NewTreeOptions(root, Options{}) }

// NewTreeOptions is NewTree with options.
func NewTreeOptions(root FileSystem, opt Options) *Tree {
	t := &Tree{mountID: 20, protectedLinks: opt.ProtectedHardlinks}
	if opt.Dentries == 0 {
		opt.Dentries = DefaultDentries
	}
	if opt.Source == "" {
		opt.Source = root.Type()
	}
	t.cache.init(opt.Dentries)
	t.openers.Store(&openers{})
	m := t.newMount(root, opt.Source, opt.Flags)
	m.root = t.newDentry(nil, "", root.Root(), TypeDir)
	t.root = m
	t.anon = &Mount{tree: t, anon: true}
	t.mounts.Store(&mountTable{at: map[Path]*Mount{}, list: []*Mount{m}})
	return t
}

// Root is "/", with what may have been mounted on it.
func (t *Tree) Root() Path { return t.cross(Path{t.root, t.root.root}) }

// cross goes on to what is mounted on p, if anything is.
func (t *Tree) cross(p Path) Path {
	for p.D.mounts.Load() != 0 {
		m := t.mounts.Load().at[p]
		if m == nil {
			break
		}
		p = Path{m, m.root}
	}
	return p
}

// Anon is a path outside the tree for a node without a name, such as a pipe:
// name is what /proc/PID/fd shows ("pipe:[7]").
func (t *Tree) Anon(n Node, name string) (Path, error) {
	typ, err := typeOf(n)
	if err != nil {
		return Path{}, err
	}
	d := t.newDentry(nil, name, n, typ)
	return Path{t.anon, d}, nil
}

// Sync makes all file systems write what they hold.
func (t *Tree) Sync() error {
	var first error
	seen := map[FileSystem]bool{}
	for _, m := range t.mounts.Load().list {
		if seen[m.fs] {
			continue
		}
		seen[m.fs] = true
		if err := m.fs.Sync(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Shutdown unmounts everything, whoever uses it: the end of a guest.
func (t *Tree) Shutdown() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var first error
	seen := map[FileSystem]bool{}
	list := t.mounts.Load().list
	for i := len(list) - 1; i >= 0; i-- {
		if fs := list[i].fs; !seen[fs] {
			seen[fs] = true
			if err := fs.Unmount(); err != nil && first == nil {
				first = err
			}
		}
	}
	return first
}

// change makes a new mount table from the present one. Caller holds t.mu.
func (t *Tree) change(f func(n *mountTable)) {
	old := t.mounts.Load()
	n := &mountTable{at: maps.Clone(old.at), list: append([]*Mount(nil), old.list...)}
	f(n)
	t.mounts.Store(n)
}

// anonDevs counts devices of file systems without one.
var anonDevs atomic.Uint32

// AnonDev is a device number for a file system without a device: major 0.
func AnonDev() uint64 {
	n := uint64(anonDevs.Add(1)) + 20
	return n&0xff | n&^0xff<<12
}

// Mkdev packs a device number as stat(2) gives it.
func Mkdev(major, minor uint32) uint64 {
	return uint64(minor&0xff) | uint64(major&0xfff)<<8 | uint64(minor&^0xff)<<12 | uint64(major&^0xfff)<<32
}

// Major and Minor take one apart.
func Major(dev uint64) uint32 { return uint32(dev>>8&0xfff | dev>>32&^0xfff) }

// Minor is the other half.
func Minor(dev uint64) uint32 { return uint32(dev&0xff | dev>>12&^0xff) }

// Hook is told of what happens to names and inodes, for inotify(7): an event of the
// inode node and, where dir is not nil, of the entry name in dir. cookie pairs the
// two halves of a rename. Name is valid during the call only.
type Hook func(dir Node, name string, node Node, mask, cookie uint32)

// SetHook puts f in place, nil for none.
func (t *Tree) SetHook(f Hook) {
	if f == nil {
		t.hook.Store(nil)
		return
	}
	t.hook.Store(&f)
}

// Emit tells the hook of an event (IN_* bits) at p: for calls that vfs does not see,
// such as reads and writes.
func (t *Tree) Emit(p Path, mask uint32) {
	h := t.hook.Load()
	if h == nil || p.D == nil {
		return
	}
	w := p.D.where.Load()
	if w.parent == nil || p.D.dead.Load() {
		(*h)(nil, "", p.D.node, mask, 0)
		return
	}
	(*h)(w.parent.node, w.name, p.D.node, mask, 0)
}

func (t *Tree) emit(dir *Dentry, name string, n Node, typ Type, mask, cookie uint32) {
	h := t.hook.Load()
	if h == nil {
		return
	}
	if typ == TypeDir {
		mask |= syscall.IN_ISDIR
	}
	var dn Node
	if dir != nil {
		dn = dir.node
	}
	(*h)(dn, name, n, mask, cookie)
}

// Opener opens a file that is more than its file system: a device, a FIFO.
type Opener func(p Path, flags int) (File, error)

type openerKey struct {
	typ  Type
	rdev uint64
}

type openers struct{ m map[openerKey]Opener }

// SetOpener has f open the files of a type and device number, wherever they are:
// character and block devices (ENXIO without one), FIFOs (rdev 0). Nodes that are
// Openable by themselves, as those of devfs, do not need it.
func (t *Tree) SetOpener(typ Type, rdev uint64, f Opener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := maps.Clone(t.openers.Load().m)
	if m == nil {
		m = map[openerKey]Opener{}
	}
	m[openerKey{typ, rdev}] = f
	t.openers.Store(&openers{m})
}
