// Package tmpfs is a file system in memory: directories in maps, file contents in
// page frames, so that mmap maps them in place.
//
// Spec: tmpfs(5) and Documentation/filesystems/tmpfs.rst of Linux 6.1 (options size,
// nr_inodes, mode, uid, gid); extended attributes of the user namespace as since 6.6.
// Not covered: swap, huge pages, quotas, POSIX ACLs. Who may use it: kernel/platform
// and kernel/linux, which mount it; devfs puts its names on top of it.
//
// Locks: FS.names guards what is in directories and link counts; node.writing
// serialises writers and truncation of one file; node.mu guards attributes and the
// tree of pages. Order as listed. No lock but writing is held while bytes are copied,
// since the copy may fault on a mapping of the same file. Start reading at FS, then
// node.go, dir.go, file.go.
package tmpfs

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/vfs"
)

// PageSize is the size of a page in bytes.
const PageSize = 4096

// Magic is TMPFS_MAGIC, what statfs tells.
const Magic = 0x01021994

// Frames is where file contents are kept; the page cache's Frames fit.
type Frames interface {
	// Alloc returns a frame of PageSize bytes: its physical address (hosted: any number
	// of its own) and how the kernel sees it.
	Alloc(zero bool) (frame uint64, b []byte, err error)
	Free(frame uint64, b []byte)
}

// Options of a file system. The zero value is sound.
type Options struct {
	Frames Frames // nil: the Go heap
	Size   int64  // limit in bytes, rounded up to pages; 0: none
	Inodes int64  // limit of files; 0: none
	Mode   uint32 // of the root; 0: 01777
	UID    uint32
	GID    uint32
	// Type is what FileSystem.Type tells; "" is "tmpfs".
	Type string
}

// FS is one file system.
type FS struct {
	opt    Options
	dev    uint64
	pages  int64 // limit, 0: none
	used   atomic.Int64
	inodes atomic.Int64
	nextIn atomic.Uint64
	root   *node
	zero   [PageSize]byte

	names sync.RWMutex
}

// New makes an empty file system.
func New(opt Options) *FS {
	if opt.Frames == nil {
		opt.Frames = &heapFrames{}
	}
	if opt.Mode == 0 {
		opt.Mode = 0o1777
	}
	if opt.Type == "" {
		opt.Type = "tmpfs"
	}
	f := &FS{opt: opt, dev: vfs.AnonDev(), pages: (opt.Size + PageSize - 1) / PageSize}
	f.root, _ = f.newNode(vfs.NewNode{Type: vfs.TypeDir, Mode: opt.Mode, UID: opt.UID, GID: opt.GID})
	f.root.nlink = 2
	f.root.dir.parent = f.root
	return f
}

// Type is "tmpfs", or what Options said.
func (f *FS) Type() string { return f.opt.Type }

// Root is the root directory.
func (f *FS) Root() vfs.Node { return f.root }

// StatFS tells sizes in pages; without limits they are zero, as Linux has it.
func (f *FS) StatFS() (vfs.StatFS, error) {
	s := vfs.StatFS{Magic: Magic, BlockSize: PageSize, NameMax: vfs.NameMax}
	s.FSID[0] = int32(f.dev)
	if f.pages != 0 {
		s.Blocks = uint64(f.pages)
		s.Bfree = uint64(max(f.pages-f.used.Load(), 0))
		s.Bavail = s.Bfree
	}
	if f.opt.Inodes != 0 {
		s.Files = uint64(f.opt.Inodes)
		s.Ffree = uint64(max(f.opt.Inodes-f.inodes.Load(), 0))
	}
	return s, nil
}

// Used is how many bytes of pages the files have.
func (f *FS) Used() int64 { return f.used.Load() * PageSize }

// Sync has nothing to write.
func (f *FS) Sync() error { return nil }

// Unmount frees all contents.
func (f *FS) Unmount() error {
	f.names.Lock()
	defer f.names.Unlock()
	f.root.clear()
	return nil
}

// newNode makes an inode without a name; ENOSPC at the limit.
func (f *FS) newNode(nn vfs.NewNode) (*node, error) {
	if n := f.inodes.Add(1); f.opt.Inodes != 0 && n > f.opt.Inodes {
		f.inodes.Add(-1)
		return nil, syscall.ENOSPC
	}
	now := time.Now()
	n := &node{fs: f, ino: f.nextIn.Add(1), typ: nn.Type, nlink: 1, mode: nn.Mode & 0o7777,
		uid: nn.UID, gid: nn.GID, rdev: nn.Rdev, target: nn.Target,
		atime: now, mtime: now, ctime: now, btime: now}
	switch nn.Type {
	case vfs.TypeDir:
		n.dir = &dir{names: map[string]*dirent{}}
	case vfs.TypeLink:
		n.size.Store(int64(len(nn.Target)))
	}
	return n, nil
}

// charge takes one page of the limit.
func (f *FS) charge() error {
	if n := f.used.Add(1); f.pages != 0 && n > f.pages {
		f.used.Add(-1)
		return syscall.ENOSPC
	}
	return nil
}

// heapFrames are frames of the Go heap, for hosted use.
type heapFrames struct{ next atomic.Uint64 }

func (h *heapFrames) Alloc(bool) (uint64, []byte, error) {
	return h.next.Add(1) * PageSize, make([]byte, PageSize), nil
}

func (h *heapFrames) Free(uint64, []byte) {}
