// Package pseudo is what procfs and sysfs are made of: directories, links and files
// whose contents are made up when they are read.
//
// Spec: seq_file semantics of Linux (Documentation/filesystems/seq_file.rst): a file's
// text is made at a read of its beginning and stays as it is for the rest of that
// pass. Who may use it: file systems below kernel/vfs. It holds no text of its own.
// Start reading at FS, then node.go.
package pseudo

import (
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/vfs"
)

// FS is one such file system.
type FS struct {
	typ   string
	magic int64
	dev   uint64
	size  int64 // of every file as stat tells it
	born  time.Time
	inos  atomic.Uint64
	root  *Dir
}

// New makes one with an empty root directory. size is what stat says of files: 0 for
// procfs, 4096 for sysfs.
func New(typ string, magic, size int64) *FS {
	f := &FS{typ: typ, magic: magic, dev: vfs.AnonDev(), size: size, born: time.Now()}
	f.root = f.NewDir(0o555)
	return f
}

// Top is the root directory, to be filled.
func (f *FS) Top() *Dir { return f.root }

// Dev is its device number.
func (f *FS) Dev() uint64 { return f.dev }

// NewIno is an inode number that nothing else has, below 1<<32.
func (f *FS) NewIno() uint64 { return f.inos.Add(1) }

// Type is the name of the type.
func (f *FS) Type() string { return f.typ }

// Root is the root directory.
func (f *FS) Root() vfs.Node { return f.root }

// StatFS tells no sizes.
func (f *FS) StatFS() (vfs.StatFS, error) {
	return vfs.StatFS{Magic: f.magic, BlockSize: 4096, NameMax: vfs.NameMax, FSID: [2]int32{int32(f.dev)}}, nil
}

// Sync and Unmount have nothing to do.
func (f *FS) Sync() error    { return nil }
func (f *FS) Unmount() error { return nil }

// Node is what all nodes here have: where they are, who owns them. Embed it.
type Node struct {
	vfs.NoDir
	Fs       *FS
	Ino      uint64
	Kind     vfs.Type
	Mode     uint32
	UID, GID uint32
	At       time.Time // all times; zero: when the file system was made
	Size     int64
	Nlink    uint32 // 0: 1
}

// FS is the file system.
func (n *Node) FS() vfs.FileSystem { return n.Fs }

// Type is the type.
func (n *Node) Type() vfs.Type { return n.Kind }

// Perm is what permissions are decided by.
func (n *Node) Perm() (mode, uid, gid uint32) { return n.Mode, n.UID, n.GID }

// Attr is what stat tells.
func (n *Node) Attr() (vfs.Attr, error) {
	t := n.At
	if t.IsZero() {
		t = n.Fs.born
	}
	return vfs.Attr{Dev: n.Fs.dev, Ino: n.Ino, Type: n.Kind, Mode: n.Mode, Nlink: max(n.Nlink, 1),
		UID: n.UID, GID: n.GID, Size: n.Size, BlockSize: 4096, Atime: t, Mtime: t, Ctime: t, Btime: t}, nil
}

// SetAttr lets a file be opened with O_TRUNC and refuses all else.
func (n *Node) SetAttr(set vfs.Set, _ vfs.Attr) error {
	if set == vfs.SetSize && n.Kind == vfs.TypeFile {
		return nil
	}
	return syscall.EPERM
}
