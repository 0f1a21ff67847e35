package vfs

import (
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
)

// MountFlags are those of mount(2) that belong to a mount point.
type MountFlags uint32

const (
	MountReadOnly MountFlags = syscall.MS_RDONLY
	MountNoSuid   MountFlags = syscall.MS_NOSUID
	MountNoDev    MountFlags = syscall.MS_NODEV
	MountNoExec   MountFlags = syscall.MS_NOEXEC
	MountNoAtime  MountFlags = syscall.MS_NOATIME
	MountRelatime MountFlags = syscall.MS_RELATIME

	mountMask = MountReadOnly | MountNoSuid | MountNoDev | MountNoExec | MountNoAtime | MountRelatime
)

// Mount is a file system, or a part of one, at a place in the tree.
type Mount struct {
	id     int
	tree   *Tree
	fs     FileSystem
	root   *Dentry
	source string
	flags  atomic.Uint32
	users  atomic.Int64 // open files, working and root directories
	at     atomic.Pointer[Path]
	anon   bool // of paths outside the tree
}

func (t *Tree) newMount(fs FileSystem, source string, flags MountFlags) *Mount {
	t.mountID++
	m := &Mount{id: t.mountID, tree: t, fs: fs, source: source}
	m.flags.Store(uint32(flags & mountMask))
	return m
}

func (m *Mount) hold()    { m.users.Add(1) }
func (m *Mount) release() { m.users.Add(-1) }

// FS is what is mounted; nil of a path outside the tree.
func (m *Mount) FS() FileSystem { return m.fs }

// ID is the mount ID of mountinfo and statx.
func (m *Mount) ID() int { return m.id }

// Flags are the present ones.
func (m *Mount) Flags() MountFlags { return MountFlags(m.flags.Load()) }

func (m *Mount) readOnly() bool { return MountFlags(m.flags.Load())&MountReadOnly != 0 }

// point is where it is mounted; zero of the root.
func (m *Mount) point() Path {
	if p := m.at.Load(); p != nil {
		return *p
	}
	return Path{}
}

// Mount puts fs on the directory at. source is what /proc/mounts shows in front.
func (t *Tree) Mount(source string, fs FileSystem, at Path, flags MountFlags) (*Mount, error) {
	n := fs.Root()
	typ, err := typeOf(n)
	if err != nil {
		return nil, err
	}
	if source == "" {
		source = "none"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var root *Dentry
	for _, m := range t.mounts.Load().list { // mounted a second time: the same names
		if m.fs == fs {
			for root = m.root; root.Parent() != nil; root = root.Parent() {
			}
		}
	}
	if root == nil {
		root = t.newDentry(nil, "", n, typ)
	}
	return t.attach(t.newMount(fs, source, flags), root, at)
}

// Bind shows the file or directory from at another place too; recursive takes the
// mounts below along.
func (t *Tree) Bind(from, at Path, recursive bool) error {
	if from.M.anon {
		return syscall.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var below []*Mount
	if recursive {
		for _, m := range t.mounts.Load().list {
			if p := m.point(); p.M == from.M && p.D.under(from.D) {
				below = append(below, m)
			}
		}
	}
	top, err := t.attach(t.newMount(from.M.fs, from.M.source, from.M.Flags()), from.D, at)
	if err != nil {
		return err
	}
	twin := map[*Mount]*Mount{from.M: top}
	for len(below) > 0 {
		m := below[0]
		below = below[1:]
		p := m.point()
		c, err := t.attach(t.newMount(m.fs, m.source, m.Flags()), m.root, Path{twin[p.M], p.D})
		if err != nil {
			return err
		}
		twin[m] = c
		for _, n := range t.mounts.Load().list {
			if n.point().M == m && twin[n] == nil {
				below = append(below, n)
			}
		}
	}
	return nil
}

// attach mounts m with the root given at a place. Caller holds t.mu.
func (t *Tree) attach(m *Mount, root *Dentry, at Path) (*Mount, error) {
	at = t.cross(at)
	if at.M.anon || at.D.dead.Load() {
		return nil, syscall.ENOENT
	}
	if (root.typ == TypeDir) != (at.D.typ == TypeDir) {
		return nil, syscall.ENOTDIR
	}
	m.root = root
	m.at.Store(&at)
	at.D.mounts.Add(1)
	t.change(func(n *mountTable) {
		n.at[at] = m
		n.list = append(n.list, m)
	})
	return m, nil
}

// Remount changes the flags of the mount whose root is at: EINVAL of another place.
func (t *Tree) Remount(at Path, flags MountFlags) error {
	if at.M.anon || at.D != at.M.root {
		return syscall.EINVAL
	}
	at.M.flags.Store(uint32(flags & mountMask))
	return nil
}

// Unmount takes away the mount whose root is at: EINVAL where it is not one, EBUSY
// while something is mounted below it or files of it are in use. detach (MNT_DETACH)
// takes it out of the tree with all that is below, whoever still uses it.
func (t *Tree) Unmount(at Path, detach bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := at.M
	table := t.mounts.Load()
	if m.anon || at.D != m.root || !slices.Contains(table.list, m) {
		return syscall.EINVAL
	}
	if m == t.root {
		return syscall.EBUSY
	}
	gone := []*Mount{m}
	for i := 0; i < len(gone); i++ {
		for _, c := range table.list {
			if c.point().M == gone[i] {
				gone = append(gone, c)
			}
		}
	}
	if !detach && (len(gone) > 1 || m.users.Load() != 0) {
		return syscall.EBUSY
	}
	t.change(func(n *mountTable) {
		for _, g := range gone {
			p := g.point()
			p.D.mounts.Add(-1)
			delete(n.at, p)
			n.list = slices.DeleteFunc(n.list, func(x *Mount) bool { return x == g })
		}
	})
	var first error
	for _, g := range gone {
		if slices.ContainsFunc(t.mounts.Load().list, func(x *Mount) bool { return x.fs == g.fs }) {
			continue // shown elsewhere still
		}
		if g.users.Load() != 0 {
			continue // detached with users: synced at Shutdown's latest by its owner
		}
		t.cache.dropUnder(g.root)
		if err := g.fs.Unmount(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// MountInfo is one line of /proc/self/mountinfo and /proc/self/mounts.
type MountInfo struct {
	ID, Parent int
	Dev        uint64
	Root       string // within the file system
	Point      string // within the asker's root
	Flags      MountFlags
	Type       string
	Source     string
}

// Mounts tells those that can be reached from root, in the order they were made.
func (t *Tree) Mounts(root Path) []MountInfo {
	var out []MountInfo
	for _, m := range t.mounts.Load().list {
		point, ok := t.pathIn(root, Path{m, m.root})
		if !ok {
			continue
		}
		i := MountInfo{ID: m.id, Root: m.root.fsPath(), Point: point,
			Flags: m.Flags(), Type: m.fs.Type(), Source: m.source}
		if a, err := m.root.node.Attr(); err == nil {
			i.Dev = a.Dev
		}
		if p := m.point(); p.M != nil {
			i.Parent = p.M.id
		} else {
			i.Parent = 1
		}
		out = append(out, i)
	}
	return out
}

// Options are the flags as text, "rw,nosuid,…".
func (f MountFlags) Options() string {
	var b strings.Builder
	b.WriteString("rw")
	if f&MountReadOnly != 0 {
		b.Reset()
		b.WriteString("ro")
	}
	for _, o := range [...]struct {
		f MountFlags
		s string
	}{{MountNoSuid, ",nosuid"}, {MountNoDev, ",nodev"}, {MountNoExec, ",noexec"},
		{MountNoAtime, ",noatime"}, {MountRelatime, ",relatime"}} {
		if f&o.f != 0 {
			b.WriteString(o.s)
		}
	}
	return b.String()
}
