package tmpfs

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/vfs"
)

// node is an inode.
type node struct {
	fs   *FS
	ino  uint64
	typ  vfs.Type
	rdev uint64

	target string // of a symbolic link
	dir    *dir   // of a directory, guarded by fs.names
	nlink  uint32 // guarded by fs.names

	writing sync.Mutex // writers, truncation
	size    atomic.Int64

	mu                         sync.RWMutex
	mode                       uint32
	uid, gid                   uint32
	atime, mtime, ctime, btime time.Time
	opens                      int
	gone                       bool // no name: pages go with the last open file
	data                       pages
	maps                       []vfs.Mapping
	attrs                      map[string][]byte
}

// FS is the file system.
func (n *node) FS() vfs.FileSystem { return n.fs }

// Type is the type, without the rest of Attr.
func (n *node) Type() vfs.Type { return n.typ }

// Perm is what permissions are decided by.
func (n *node) Perm() (mode, uid, gid uint32) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.mode, n.uid, n.gid
}

// Attr is what stat tells.
func (n *node) Attr() (vfs.Attr, error) {
	n.fs.names.RLock()
	nlink := n.nlink
	size := n.size.Load()
	if n.dir != nil {
		size = int64(len(n.dir.names)+2) * 20 // as Linux counts
	}
	n.fs.names.RUnlock()
	n.mu.RLock()
	defer n.mu.RUnlock()
	return vfs.Attr{
		Dev: n.fs.dev, Ino: n.ino, Type: n.typ, Mode: n.mode, Nlink: nlink,
		UID: n.uid, GID: n.gid, Rdev: n.rdev, Size: size,
		Blocks: n.data.count * (PageSize / 512), BlockSize: PageSize,
		Atime: n.atime, Mtime: n.mtime, Ctime: n.ctime, Btime: n.btime,
	}, nil
}

// SetAttr changes attributes; SetSize truncates.
func (n *node) SetAttr(set vfs.Set, a vfs.Attr) error {
	if set&vfs.SetSize != 0 {
		if n.typ != vfs.TypeFile {
			return syscall.EINVAL
		}
		if err := n.truncate(a.Size); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if set&vfs.SetMode != 0 {
		n.mode = a.Mode & 0o7777
	}
	if set&vfs.SetUID != 0 {
		n.uid = a.UID
	}
	if set&vfs.SetGID != 0 {
		n.gid = a.GID
	}
	if set&vfs.SetSize != 0 {
		n.mtime = now
	}
	if set&vfs.SetAtime != 0 {
		n.atime = a.Atime
	}
	if set&vfs.SetMtime != 0 {
		n.mtime = a.Mtime
	}
	n.ctime = now
	return nil
}

// touch notes a change of contents.
func (n *node) touch() {
	now := time.Now()
	n.mu.Lock()
	n.mtime, n.ctime = now, now
	n.mu.Unlock()
}

// changed notes a change of the inode.
func (n *node) changed() {
	now := time.Now()
	n.mu.Lock()
	n.ctime = now
	n.mu.Unlock()
}

// ReadLink is the text of a symbolic link.
func (n *node) ReadLink() (string, error) {
	if n.typ != vfs.TypeLink {
		return "", syscall.EINVAL
	}
	return n.target, nil
}

// Open opens a file or directory.
func (n *node) Open(flags int) (vfs.File, error) {
	if n.typ != vfs.TypeFile && n.typ != vfs.TypeDir {
		return nil, syscall.ENXIO
	}
	n.mu.Lock()
	n.opens++
	n.mu.Unlock()
	if n.typ == vfs.TypeDir {
		return &vfs.DirFile{N: n, Done: n.closed}, nil
	}
	return &file{n: n}, nil
}

func (n *node) closed() {
	n.mu.Lock()
	n.opens--
	last := n.gone && n.opens == 0
	n.mu.Unlock()
	if last {
		n.free()
	}
}

// unnamed notes that the last name is gone.
func (n *node) unnamed() {
	n.mu.Lock()
	n.gone = true
	last := n.opens == 0
	n.mu.Unlock()
	if last {
		n.free()
	}
}

// free gives the contents back.
func (n *node) free() {
	n.mu.Lock()
	old := n.data.cut(0)
	n.mu.Unlock()
	for _, p := range old {
		p.Release()
	}
	n.fs.inodes.Add(-1)
}

// clear frees what is in n and below. Caller holds fs.names.
func (n *node) clear() {
	if n.dir != nil {
		for _, e := range n.dir.names {
			e.n.clear()
		}
		return
	}
	n.mu.Lock()
	old := n.data.cut(0)
	n.mu.Unlock()
	for _, p := range old {
		p.Release()
	}
}

// XAttr is the extended attributes.
func (n *node) XAttr() vfs.XAttr { return (*xattrs)(n) }

type xattrs node

// Get is a value.
func (x *xattrs) Get(name string) ([]byte, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	v, ok := x.attrs[name]
	if !ok {
		return nil, syscall.ENODATA
	}
	return slices.Clone(v), nil
}

// Set sets a value; flags are XATTR_CREATE (1) and XATTR_REPLACE (2).
func (x *xattrs) Set(name string, value []byte, flags int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.attrs[name]
	switch {
	case ok && flags&1 != 0:
		return syscall.EEXIST
	case !ok && flags&2 != 0:
		return syscall.ENODATA
	}
	if x.attrs == nil {
		x.attrs = map[string][]byte{}
	}
	x.attrs[strings.Clone(name)] = append([]byte{}, value...)
	x.ctime = time.Now()
	return nil
}

// List is all names, in order.
func (x *xattrs) List() ([]string, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]string, 0, len(x.attrs))
	for k := range x.attrs {
		out = append(out, k)
	}
	slices.Sort(out)
	return out, nil
}

// Remove takes one away.
func (x *xattrs) Remove(name string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.attrs[name]; !ok {
		return syscall.ENODATA
	}
	delete(x.attrs, name)
	x.ctime = time.Now()
	return nil
}
