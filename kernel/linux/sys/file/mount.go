package file

import (
	"strconv"
	"strings"
	"sync"
	"syscall"

	"osv/kernel/linux/mm"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

// Maker makes a file system for mount(2) of what source and the options data name.
type Maker func(t *task.Task, source, data string) (vfs.FileSystem, error)

var makers = struct {
	mu sync.RWMutex
	m  map[string]Maker
}{m: map[string]Maker{"tmpfs": newTmpfs, "ramfs": newTmpfs}}

// RegisterFileSystem has mount(2) know a type: proc, sysfs, devtmpfs, ext4 are the
// composition's to give.
func RegisterFileSystem(typ string, f Maker) {
	makers.mu.Lock()
	defer makers.mu.Unlock()
	makers.m[typ] = f
}

// newTmpfs makes a tmpfs with the options size, nr_inodes, mode, uid and gid. Without a
// size it holds half of the memory.
func newTmpfs(t *task.Task, _, data string) (vfs.FileSystem, error) {
	opt := tmpfs.Options{UID: t.Creds().FSUID, GID: t.Creds().FSGID, Frames: mm.Frames{M: t.Kernel().Machine()},
		Size: int64(t.Kernel().TotalMemory() / 2)}
	for _, o := range strings.Split(data, ",") {
		name, value, _ := strings.Cut(o, "=")
		var n int64
		err := error(nil)
		switch name {
		case "size", "nr_inodes":
			n, err = size(value)
		case "mode":
			n, err = strconv.ParseInt(value, 8, 32)
		case "uid", "gid":
			n, err = strconv.ParseInt(value, 10, 32)
		}
		if err != nil {
			return nil, syscall.EINVAL
		}
		switch name {
		case "size":
			opt.Size = n
		case "nr_inodes":
			opt.Inodes = n
		case "mode":
			opt.Mode = uint32(n) & 0o7777
		case "uid":
			opt.UID = uint32(n)
		case "gid":
			opt.GID = uint32(n)
		}
	}
	return tmpfs.New(opt), nil
}

// size is a number with the suffixes k, m and g.
func size(s string) (int64, error) {
	shift := 0
	if s != "" {
		switch s[len(s)-1] | 0x20 {
		case 'k':
			shift = 10
		case 'm':
			shift = 20
		case 'g':
			shift = 30
		}
	}
	if shift > 0 {
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 62-shift)
	return n << shift, err
}

// optional reads a string that may be missing.
func optional(t *task.Task, addr uint64, most int) (string, error) {
	if addr == 0 {
		return "", nil
	}
	return t.Mem().String(addr, most)
}

const (
	msPropagation = syscall.MS_SHARED | syscall.MS_PRIVATE | syscall.MS_SLAVE | syscall.MS_UNBINDABLE
	msMgcVal      = 0xc0ed0000
	msMgcMask     = 0xffff0000
)

func mount(t *task.Task, a *sys.Args) (uint64, error) {
	typ, err := optional(t, a[2], vfs.PathMax)
	if err != nil {
		return 0, err
	}
	source, err := optional(t, a[0], vfs.PathMax)
	if err != nil {
		return 0, err
	}
	data := ""
	if a[4] != 0 {
		if data, err = t.Mem().String(a[4], vfs.PathMax); err == syscall.ENAMETOOLONG {
			data, err = "", nil // binary options: none that we know
		}
		if err != nil {
			return 0, err
		}
	}
	flags := a[3]
	if flags&msMgcMask == msMgcVal {
		flags &^= msMgcMask
	}
	return change(t, atFdcwdArg, a[1], 0, func(p vfs.Path) error {
		if !t.Creds().Has(vfs.CapSysAdmin) {
			return syscall.EPERM
		}
		tree, mf := t.FS().Tree, vfs.MountFlags(flags)
		switch {
		case flags&syscall.MS_REMOUNT != 0 && flags&syscall.MS_BIND != 0, flags&syscall.MS_REMOUNT != 0:
			return tree.Remount(p, mf)
		case flags&syscall.MS_BIND != 0:
			from, err := vfs.Walk(t.FS(), vfs.Path{}, source, vfs.Follow)
			if err != nil {
				return err
			}
			return tree.Bind(from, p, flags&syscall.MS_REC != 0)
		case flags&msPropagation != 0:
			return nil // one namespace: nothing is passed on anyway
		case flags&syscall.MS_MOVE != 0:
			return syscall.EINVAL
		}
		makers.mu.RLock()
		f := makers.m[typ]
		makers.mu.RUnlock()
		if f == nil {
			return syscall.ENODEV
		}
		fs, err := f(t, source, data)
		if err != nil {
			return err
		}
		_, err = tree.Mount(source, fs, p, mf)
		return err
	})
}

// Flags of umount2.
const (
	mntForce       = 1
	mntDetach      = 2
	mntExpire      = 4
	umountNofollow = 8
)

func umount2(t *task.Task, a *sys.Args) (uint64, error) {
	if a[1]&^(mntForce|mntDetach|mntExpire|umountNofollow) != 0 {
		return 0, syscall.EINVAL
	}
	flags := uint64(0)
	if a[1]&umountNofollow != 0 {
		flags = atSymlinkNofollow
	}
	return change(t, atFdcwdArg, a[0], flags, func(p vfs.Path) error {
		if !t.Creds().Has(vfs.CapSysAdmin) {
			return syscall.EPERM
		}
		if a[1]&mntExpire != 0 {
			return syscall.EINVAL
		}
		return t.FS().Tree.Unmount(p, a[1]&mntDetach != 0)
	})
}
