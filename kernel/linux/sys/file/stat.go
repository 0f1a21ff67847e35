package file

import (
	"syscall"
	"time"

	"osv/kernel/linux/fd"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// followFlags are the path flags of the *at calls' AT_* bits.
func followFlags(flags uint64) vfs.Flags {
	f := vfs.Follow
	if flags&atSymlinkNofollow != 0 {
		f = 0
	}
	if flags&atEmptyPath != 0 {
		f |= vfs.EmptyPath
	}
	return f
}

// attrAt is what stat tells of a path, or with AT_EMPTY_PATH and no path of a
// descriptor.
func attrAt(t *task.Task, dirfd, addr, flags uint64) (vfs.Attr, vfs.Path, error) {
	var name string
	if addr != 0 || flags&atEmptyPath == 0 {
		var err error
		if name, err = path(t, addr); err != nil {
			return vfs.Attr{}, vfs.Path{}, err
		}
	}
	p, err := at(t, dirfd, name)
	if err != nil {
		return vfs.Attr{}, vfs.Path{}, err
	}
	defer p.done()
	if name == "" && flags&atEmptyPath != 0 && p.o != nil {
		a, err := p.o.Attr()
		return a, p.Path, err
	}
	return vfs.StatAt(t.FS(), p.Path, name, followFlags(flags))
}

// statSize is that of struct stat.
const statSize = 144

func encodeStat(b *[statSize]byte, a *vfs.Attr) {
	le.PutUint64(b[0:], a.Dev)
	le.PutUint64(b[8:], a.Ino)
	le.PutUint64(b[16:], uint64(a.Nlink))
	le.PutUint32(b[24:], uint32(a.Type)|a.Mode)
	le.PutUint32(b[28:], a.UID)
	le.PutUint32(b[32:], a.GID)
	le.PutUint64(b[40:], a.Rdev)
	le.PutUint64(b[48:], uint64(a.Size))
	le.PutUint64(b[56:], uint64(a.BlockSize))
	le.PutUint64(b[64:], uint64(a.Blocks))
	for i, x := range [...]time.Time{a.Atime, a.Mtime, a.Ctime} {
		sec, nsec := unix(x)
		le.PutUint64(b[72+16*i:], uint64(sec))
		le.PutUint64(b[80+16*i:], uint64(nsec))
	}
}

// unix is a time as the ABI has it, 0 for one that is not known.
func unix(x time.Time) (sec int64, nsec int) {
	if x.IsZero() {
		return 0, 0
	}
	return x.Unix(), x.Nanosecond()
}

func putStat(t *task.Task, addr uint64, a *vfs.Attr, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	b := buffers.Get().(*[64 << 10]byte)
	s := (*[statSize]byte)(b[:])
	*s = [statSize]byte{}
	encodeStat(s, a)
	err = t.Mem().CopyOut(addr, s[:])
	buffers.Put(b)
	return 0, err
}

func stat(t *task.Task, a *sys.Args) (uint64, error) {
	at, _, err := attrAt(t, atFdcwdArg, a[0], 0)
	return putStat(t, a[1], &at, err)
}

func lstat(t *task.Task, a *sys.Args) (uint64, error) {
	at, _, err := attrAt(t, atFdcwdArg, a[0], atSymlinkNofollow)
	return putStat(t, a[1], &at, err)
}

func fstat(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := t.Files().GetAny(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	at, err := o.Attr()
	_ = o.Release()
	return putStat(t, a[1], &at, err)
}

func newfstatat(t *task.Task, a *sys.Args) (uint64, error) {
	if a[3]&^(atSymlinkNofollow|atNoAutomount|atEmptyPath) != 0 {
		return 0, syscall.EINVAL
	}
	at, _, err := attrAt(t, a[0], a[1], a[3])
	return putStat(t, a[2], &at, err)
}

// Bits of statx.
const (
	statxBasic      = 0x7ff
	statxBtime      = 0x800
	statxMntID      = 0x1000
	statxReserved   = 0x80000000
	attrMountRoot   = 0x2000
	attrAutomount   = 0x1000
	statxAttributes = attrMountRoot | attrAutomount
)

func statx(t *task.Task, a *sys.Args) (uint64, error) {
	flags, mask := a[2], a[3]
	if mask&statxReserved != 0 || flags&atStatxSync == atStatxSync ||
		flags&^(atSymlinkNofollow|atNoAutomount|atEmptyPath|atStatxSync) != 0 {
		return 0, syscall.EINVAL
	}
	at, p, err := attrAt(t, a[0], a[1], flags)
	if err != nil {
		return 0, err
	}
	var b [256]byte
	has, attrs, mount := uint32(statxBasic), uint64(0), uint64(0)
	if !at.Btime.IsZero() {
		has |= statxBtime
	}
	if !p.IsZero() {
		has |= statxMntID
		mount = uint64(p.M.ID())
		if p.MountRoot() {
			attrs |= attrMountRoot
		}
	}
	le.PutUint32(b[0:], has)
	le.PutUint32(b[4:], uint32(at.BlockSize))
	le.PutUint64(b[8:], attrs)
	le.PutUint32(b[16:], at.Nlink)
	le.PutUint32(b[20:], at.UID)
	le.PutUint32(b[24:], at.GID)
	le.PutUint16(b[28:], uint16(at.Type)|uint16(at.Mode))
	le.PutUint64(b[32:], at.Ino)
	le.PutUint64(b[40:], uint64(at.Size))
	le.PutUint64(b[48:], uint64(at.Blocks))
	le.PutUint64(b[56:], statxAttributes)
	for i, x := range [...]time.Time{at.Atime, at.Btime, at.Ctime, at.Mtime} {
		sec, nsec := unix(x)
		le.PutUint64(b[64+16*i:], uint64(sec))
		le.PutUint32(b[72+16*i:], uint32(nsec))
	}
	le.PutUint32(b[128:], vfs.Major(at.Rdev))
	le.PutUint32(b[132:], vfs.Minor(at.Rdev))
	le.PutUint32(b[136:], vfs.Major(at.Dev))
	le.PutUint32(b[140:], vfs.Minor(at.Dev))
	le.PutUint64(b[144:], mount)
	return 0, t.Mem().CopyOut(a[4], b[:])
}

func putStatFS(t *task.Task, addr uint64, p vfs.Path) error {
	s, err := vfs.StatFSOf(p)
	if err != nil {
		return err
	}
	var b [120]byte
	flags := uint64(0x20) // ST_VALID
	if s.ReadOnly {
		flags |= 1
	}
	if s.NoDev {
		flags |= 4
	}
	if s.NoExec {
		flags |= 8
	}
	for i, v := range [...]uint64{uint64(s.Magic), uint64(s.BlockSize), s.Blocks, s.Bfree, s.Bavail, s.Files, s.Ffree} {
		le.PutUint64(b[8*i:], v)
	}
	le.PutUint32(b[56:], uint32(s.FSID[0]))
	le.PutUint32(b[60:], uint32(s.FSID[1]))
	le.PutUint64(b[64:], uint64(s.NameMax))
	le.PutUint64(b[72:], uint64(s.BlockSize))
	le.PutUint64(b[80:], flags)
	return t.Mem().CopyOut(addr, b[:])
}

func statfs(t *task.Task, a *sys.Args) (uint64, error) {
	return one(t, atFdcwdArg, a[0], func(dir vfs.Path, name string) error {
		p, err := vfs.Walk(t.FS(), dir, name, vfs.Follow)
		if err != nil {
			return err
		}
		return putStatFS(t, a[1], p)
	})
}

func fstatfs(t *task.Task, a *sys.Args) (uint64, error) {
	return withPath(t, a[0], func(o *fd.Open, p vfs.Path) error {
		if p.IsZero() {
			return putAnonStatFS(t, a[1], o)
		}
		return putStatFS(t, a[1], p)
	})
}

// putAnonStatFS is fstatfs of a pipe, socket or other file without a place.
func putAnonStatFS(t *task.Task, addr uint64, o *fd.Open) error {
	at, err := o.Attr()
	if err != nil {
		return err
	}
	magic := uint64(0x09041934) // ANON_INODE_FS_MAGIC
	switch at.Type {
	case vfs.TypePipe:
		magic = 0x50495045
	case vfs.TypeSocket:
		magic = 0x534f434b
	}
	var b [120]byte
	le.PutUint64(b[0:], magic)
	le.PutUint64(b[8:], 4096)
	le.PutUint64(b[64:], vfs.NameMax)
	le.PutUint64(b[72:], 4096)
	le.PutUint64(b[80:], 0x20)
	return t.Mem().CopyOut(addr, b[:])
}

// withPath runs f with a descriptor's file and its place, which may be zero.
func withPath(t *task.Task, n uint64, f func(o *fd.Open, p vfs.Path) error) (uint64, error) {
	o, err := t.Files().GetAny(int(int32(n)))
	if err != nil {
		return 0, err
	}
	err = f(o, o.Where())
	_ = o.Release()
	return 0, err
}
