// Package vfs is the file tree: what a file system, an inode and an open file are,
// and (in tree.go and its neighbours) mounts, path walks and the dentry cache over
// them.
//
// Spec: POSIX.1-2017 and Linux's man-pages 6.03 for what each operation does; errors
// are syscall.Errno values, so that the Linux layer passes them on. Who may use it:
// kernel/linux, kernel/rest, kernel/platform. It knows no device, no process and no
// user memory. File systems are packages below it (ext4, tmpfs, procfs, …).
//
// Every method may be called by any goroutine at any time. Start reading at Node.
package vfs

import (
	"syscall"
	"time"

	"osv/kernel/vfs/poll"
)

// Type is what kind of file an inode is: the S_IFMT bits of st_mode.
type Type uint32

const (
	TypePipe   Type = syscall.S_IFIFO
	TypeChar   Type = syscall.S_IFCHR
	TypeDir    Type = syscall.S_IFDIR
	TypeBlock  Type = syscall.S_IFBLK
	TypeFile   Type = syscall.S_IFREG
	TypeLink   Type = syscall.S_IFLNK
	TypeSocket Type = syscall.S_IFSOCK
	TypeMask   Type = syscall.S_IFMT
)

// Attr is what stat tells.
type Attr struct {
	Dev       uint64 // of the file system, as makedev gives it
	Ino       uint64
	Type      Type
	Mode      uint32 // permissions with set-ID and sticky bits, 07777
	Nlink     uint32
	UID, GID  uint32
	Rdev      uint64 // of a device file
	Size      int64  // bytes
	Blocks    int64  // units of 512 bytes
	BlockSize int64  // preferred unit of transfer

	Atime, Mtime, Ctime, Btime time.Time
}

// Set says which fields of an Attr SetAttr changes.
type Set uint32

const (
	SetMode Set = 1 << iota
	SetUID
	SetGID
	SetSize  // truncate or extend with zeros
	SetAtime // to Attr.Atime
	SetMtime
)

// NewNode describes a node to be made.
type NewNode struct {
	Type     Type
	Mode     uint32 // 07777, umask applied
	UID, GID uint32
	Rdev     uint64 // TypeChar, TypeBlock
	Target   string // TypeLink
}

// Node is an inode. Directory methods of something else return ENOTDIR.
// Permissions are not checked here but by the caller (Access in access.go).
type Node interface {
	FS() FileSystem
	Attr() (Attr, error)
	// SetAttr changes what set names; Ctime follows by itself.
	SetAttr(set Set, a Attr) error

	// Lookup finds a name in a directory, never "." or "..": ENOENT.
	Lookup(name string) (Node, error)
	// Make makes name in a directory: EEXIST, ENOSPC, EROFS, ENAMETOOLONG.
	Make(name string, n NewNode) (Node, error)
	// Link makes name another name of n, of the same file system: EXDEV, EMLINK.
	Link(name string, n Node) error
	// Remove takes a name away: of a directory with dir set (ENOTEMPTY, ENOTDIR), of
	// anything else without (EISDIR). An open file lives on until it is closed.
	Remove(name string, dir bool) error
	// Rename moves old to name in the directory to. flags are RENAME_NOREPLACE and
	// RENAME_EXCHANGE; EINVAL for those that the file system does not know. The
	// caller has made sure that to is not below what is moved.
	Rename(old string, to Node, name string, flags uint32) error
	// ReadDir calls f for each entry from the position off on (0: the start), with
	// the position of the entry after it, until f returns false. "." and ".." are
	// the caller's. Entries that are there all the time are told exactly once.
	ReadDir(off int64, f func(e DirEntry, next int64) bool) error
	// ReadLink is the target of a symbolic link, EINVAL of anything else.
	ReadLink() (string, error)

	// Open makes an open file of it. flags are the open(2) flags without those that
	// the path walk has dealt with (O_CREAT, O_EXCL, O_NOFOLLOW, O_TRUNC, O_CLOEXEC).
	Open(flags int) (File, error)
	// XAttr is the node's extended attributes, nil where there are none to be had.
	XAttr() XAttr
}

// DirEntry is one name of a directory.
type DirEntry struct {
	Name string
	Ino  uint64
	Type Type
}

// XAttr is a node's extended attributes, names with their prefix ("user.x").
type XAttr interface {
	Get(name string) ([]byte, error) // ENODATA
	Set(name string, value []byte, flags int) error
	List() ([]string, error)
	Remove(name string) error
}

// FileSystem is one mounted file system.
type FileSystem interface {
	Type() string // "ext4"
	Root() Node
	StatFS() (StatFS, error)
	// Sync returns when all that was written before is on the medium.
	Sync() error
	// Unmount syncs and ends it; EBUSY is the caller's to find.
	Unmount() error
}

// StatFS is what statfs tells, sizes in units of BlockSize.
type StatFS struct {
	Magic                   int64
	BlockSize               int64
	Blocks, Bfree, Bavail   uint64
	Files, Ffree            uint64
	NameMax                 int64
	ReadOnly, NoExec, NoDev bool
	FSID                    [2]int32
}

// Dst is where a read puts its bytes: user memory or a slice. Put copies from p,
// as much as there is room for, and returns how much; EFAULT where memory cannot be
// written. Several Puts fill it from front to back.
type Dst interface {
	Room() int
	Put(p []byte) (int, error)
}

// Src is where a write takes its bytes from: Take copies into p.
type Src interface {
	Left() int
	Take(p []byte) (int, error)
}

// File is an open file. It has no position and does not wait: what cannot go on
// now is EAGAIN, and the caller waits by the file's Pollable, if it wants to.
type File interface {
	poll.Pollable // of regular files: always In|Out, and nothing is told
	Node() Node   // nil for files without one (epoll, eventfd)
	// Read and Write transfer at off, in bytes; streams ignore off. They return what
	// was transferred, and an error only if that is nothing; 0 with nil is the end.
	// A Write with appending set goes to the end and returns where it began through
	// its second result; else that is off.
	Read(d Dst, off int64) (int, error)
	Write(s Src, off int64, appending bool) (n int, at int64, err error)
	// Seekable says whether there is a position (ESPIPE otherwise).
	Seekable() bool
	// Sync is fsync, or fdatasync.
	Sync(dataOnly bool) error
	// Close is called once, when the last descriptor is gone.
	Close() error
}

// Page is one page of a file's contents in memory, as the page cache keeps it. It
// stays where it is, with what is written to it, until Release.
type Page interface {
	// Frame is its physical address (hosted: any number that is its own), Bytes its
	// 4096 bytes as the kernel sees them.
	Frame() uint64
	Bytes() []byte
	// Dirty says that it was written to through a mapping.
	Dirty()
	Release()
}

// Mapper is a File that mmap can map. PageAt returns the page at off, a multiple of
// 4096, filled, for write where it will be written to in place (which allocates the
// blocks behind a hole): EFBIG beyond the end (the program gets SIGBUS), EIO.
type Mapper interface {
	PageAt(off int64, write bool) (Page, error)
}

// The further things that some files can do; whether one can is whether it
// implements them.
type (
	// Allocator is fallocate(2).
	Allocator interface {
		Allocate(mode uint32, off, n int64) error
	}
	// Seeker finds data and holes: SEEK_DATA, SEEK_HOLE.
	Seeker interface {
		SeekData(off int64, hole bool) (int64, error)
	}
	// Unmoving is a file whose lseek says 0 whatever it is asked for.
	Unmoving interface{ Unmoving() }
	// Controller is ioctl(2); arg is raw, mem reaches the caller's memory.
	Controller interface {
		Control(mem Memory, req uint32, arg uint64) (uint64, error)
	}
	// DirPositioner is a directory whose open file is read by ReadDir of the node but
	// wants to know of rewinds.
	DirPositioner interface {
		Rewind()
	}
)

// Memory is a caller's memory, for those few files that follow pointers.
type Memory interface {
	CopyIn(p []byte, addr uint64) error  // EFAULT
	CopyOut(addr uint64, p []byte) error // EFAULT
}

// Bytes is a slice as Dst and Src. The zero value of the position fields starts at
// the front.
type Bytes struct {
	B   []byte
	pos int
}

// Room and Left are the bytes that are still to be filled or taken.
func (b *Bytes) Room() int { return len(b.B) - b.pos }
func (b *Bytes) Left() int { return len(b.B) - b.pos }

// Put copies p into b.
func (b *Bytes) Put(p []byte) (int, error) {
	n := copy(b.B[b.pos:], p)
	b.pos += n
	return n, nil
}

// Take copies out of b into p.
func (b *Bytes) Take(p []byte) (int, error) {
	n := copy(p, b.B[b.pos:])
	b.pos += n
	return n, nil
}
