package vfs_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

// system is what the two sides of the comparison can do: the host's Linux, and us.
type system interface {
	mkdir(path string, mode uint32) error
	mknod(path string, mode uint32) error
	open(path string, flags int, mode uint32, write string) (string, error)
	unlink(path string, dir bool) error
	rename(a, b string, flags uint32) error
	link(a, b string, follow bool) error
	symlink(target, path string) error
	readlink(path string) (string, error)
	stat(path string, follow bool) (string, error)
	access(path string, want uint32) error
	chmod(path string, mode uint32) error
	chown(path string, uid, gid uint32) error
	truncate(path string, n int64) error
	readdir(path string) (string, error)
	chdir(path string) error
	getcwd() (string, error)
	openat2(path string, flags int, resolve uint64) error
	become(uid uint32)
}

// host is a directory of the host's, as root directory of a thread of its own.
type host struct{}

func (host) mkdir(p string, m uint32) error { return unix.Mkdir(p, m) }
func (host) mknod(p string, m uint32) error { return unix.Mknod(p, m, 0) }
func (host) open(p string, flags int, mode uint32, write string) (string, error) {
	fd, err := unix.Open(p, flags|unix.O_NONBLOCK, mode)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	unix.Fstat(fd, &st)
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Sprintf("type %o", st.Mode&unix.S_IFMT), nil
	}
	if write != "" {
		n, err := unix.Write(fd, []byte(write))
		return fmt.Sprint("wrote ", n), err
	}
	var b [100]byte
	n, err := unix.Read(fd, b[:])
	if n < 0 {
		n = 0
	}
	return string(b[:n]), err
}
func (host) unlink(p string, dir bool) error {
	if dir {
		return unix.Rmdir(p)
	}
	return unix.Unlink(p)
}
func (host) rename(a, b string, flags uint32) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, uint(flags))
}
func (host) link(a, b string, follow bool) error {
	f := 0
	if follow {
		f = unix.AT_SYMLINK_FOLLOW
	}
	return unix.Linkat(unix.AT_FDCWD, a, unix.AT_FDCWD, b, f)
}
func (host) symlink(target, p string) error { return unix.Symlink(target, p) }
func (host) readlink(p string) (string, error) {
	var b [4200]byte
	n, err := unix.Readlink(p, b[:])
	return string(b[:max(n, 0)]), err
}
func (host) stat(p string, follow bool) (string, error) {
	var st unix.Stat_t
	f := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		f = 0
	}
	if err := unix.Fstatat(unix.AT_FDCWD, p, &st, f); err != nil {
		return "", err
	}
	return showStat(st.Mode, st.Nlink, st.Uid, st.Gid, st.Size), nil
}
func (host) access(p string, want uint32) error {
	_, _, e := unix.Syscall6(unix.SYS_FACCESSAT2, ^uintptr(99), cstr(p), uintptr(want), unix.AT_EACCESS, 0, 0)
	return errno(e)
}
func (host) chmod(p string, m uint32) error { return unix.Chmod(p, m) }
func (host) chown(p string, uid, gid uint32) error {
	return unix.Lchown(p, int(int32(uid)), int(int32(gid)))
}
func (host) truncate(p string, n int64) error { return unix.Truncate(p, n) }
func (host) readdir(p string) (string, error) {
	fd, err := unix.Open(p, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var names []string
	for {
		var b [4096]byte
		n, err := unix.Getdents(fd, b[:])
		if err != nil {
			return "", err
		}
		if n == 0 {
			break
		}
		_, _, more := unix.ParseDirent(b[:n], -1, nil)
		names = append(names, more...)
	}
	slices.Sort(names)
	return strings.Join(names, " "), nil
}
func (host) chdir(p string) error { return unix.Chdir(p) }
func (host) getcwd() (string, error) {
	var b [5000]byte
	n, err := unix.Getcwd(b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n-1]), nil
}
func (host) openat2(p string, flags int, resolve uint64) error {
	fd, err := unix.Openat2(unix.AT_FDCWD, p, &unix.OpenHow{Flags: uint64(flags), Resolve: resolve})
	if err == nil {
		unix.Close(fd)
	}
	return err
}
func (host) become(uid uint32) {
	unix.SetfsuidRetUid(int(uid))
	unix.SetfsgidRetGid(int(uid))
}

func showStat(mode uint32, nlink uint64, uid, gid uint32, size int64) string {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		size = 0
	}
	return fmt.Sprintf("%o nlink %d %d:%d size %d", mode, nlink, uid, gid, size)
}

func errno(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// ours is a Tree on tmpfs.
type ours struct {
	c *vfs.Context
}

var none vfs.Path

func (o *ours) mkdir(p string, m uint32) error { return vfs.MkdirAt(o.c, none, p, m) }
func (o *ours) mknod(p string, m uint32) error {
	_, err := vfs.MknodAt(o.c, none, p, vfs.Type(m&unix.S_IFMT), m&0o7777, 0)
	return err
}
func (o *ours) open(p string, flags int, mode uint32, write string) (string, error) {
	f, err := vfs.OpenAt(o.c, none, p, flags, mode, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if f.Path.Type() != vfs.TypeFile {
		return fmt.Sprintf("type %o", f.Path.Type()), nil
	}
	if write != "" {
		if flags&3 == 0 {
			return "wrote -1", syscall.EBADF
		}
		n, _, err := f.File.Write(&vfs.Bytes{B: []byte(write)}, 0, flags&unix.O_APPEND != 0)
		vfs.Written(o.c.Creds, f.Path.Node())
		return fmt.Sprint("wrote ", n), err
	}
	if flags&3 == 1 {
		return "", syscall.EBADF
	}
	var b [100]byte
	n, err := f.File.Read(&vfs.Bytes{B: b[:]}, 0)
	return string(b[:n]), err
}
func (o *ours) unlink(p string, dir bool) error { return vfs.UnlinkAt(o.c, none, p, dir) }
func (o *ours) rename(a, b string, flags uint32) error {
	return vfs.RenameAt(o.c, none, a, none, b, flags)
}
func (o *ours) link(a, b string, follow bool) error {
	var f vfs.Flags
	if follow {
		f = vfs.Follow
	}
	return vfs.LinkAt(o.c, none, a, none, b, f)
}
func (o *ours) symlink(target, p string) error    { return vfs.SymlinkAt(o.c, target, none, p) }
func (o *ours) readlink(p string) (string, error) { return vfs.ReadlinkAt(o.c, none, p) }
func (o *ours) stat(p string, follow bool) (string, error) {
	var f vfs.Flags
	if follow {
		f = vfs.Follow
	}
	a, _, err := vfs.StatAt(o.c, none, p, f)
	if err != nil {
		return "", err
	}
	return showStat(uint32(a.Type)|a.Mode, uint64(a.Nlink), a.UID, a.GID, a.Size), nil
}
func (o *ours) access(p string, want uint32) error {
	return vfs.AccessAt(o.c, none, p, want, vfs.Follow|vfs.EffectiveIDs)
}
func (o *ours) walk(p string, f vfs.Flags) (vfs.Path, error) { return vfs.Walk(o.c, none, p, f) }
func (o *ours) chmod(p string, m uint32) error {
	w, err := o.walk(p, vfs.Follow)
	if err != nil {
		return err
	}
	return vfs.Chmod(o.c, w, m)
}
func (o *ours) chown(p string, uid, gid uint32) error {
	w, err := o.walk(p, 0)
	if err != nil {
		return err
	}
	return vfs.Chown(o.c, w, uid, gid)
}
func (o *ours) truncate(p string, n int64) error {
	if n < 0 {
		return syscall.EINVAL // before the path is looked at
	}
	w, err := o.walk(p, vfs.Follow)
	if err != nil {
		return err
	}
	return vfs.Truncate(o.c, w, n)
}
func (o *ours) readdir(p string) (string, error) {
	f, err := vfs.OpenAt(o.c, none, p, unix.O_DIRECTORY, 0, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var names []string
	// One entry a call, by position, as a program with a small buffer does.
	for pos := int64(0); ; {
		got := false
		err := vfs.ReadDir(f.Path, pos, func(e vfs.DirEntry, next int64) bool {
			if got {
				return false
			}
			names, pos, got = append(names, e.Name), next, true
			return true
		})
		if err != nil {
			return "", err
		}
		if !got {
			break
		}
	}
	names = slices.DeleteFunc(names, func(s string) bool { return s == "." || s == ".." })
	slices.Sort(names)
	return strings.Join(names, " "), nil
}
func (o *ours) chdir(p string) error {
	w, err := o.walk(p, vfs.Follow|vfs.Directory)
	if err == nil {
		err = vfs.MayAccess(o.c.Creds, w, vfs.MayExec)
	}
	if err == nil {
		o.c.Dirs.SetCwd(w)
	}
	return err
}
func (o *ours) getcwd() (string, error) { return o.c.Getcwd() }
func (o *ours) openat2(p string, flags int, resolve uint64) error {
	var f vfs.Flags
	for _, m := range []struct {
		bit uint64
		f   vfs.Flags
	}{{unix.RESOLVE_BENEATH, vfs.Beneath}, {unix.RESOLVE_IN_ROOT, vfs.InRoot},
		{unix.RESOLVE_NO_SYMLINKS, vfs.NoSymlinks}, {unix.RESOLVE_NO_XDEV, vfs.NoXDev},
		{unix.RESOLVE_NO_MAGICLINKS, vfs.NoMagic}} {
		if resolve&m.bit != 0 {
			f |= m.f
		}
	}
	w, err := vfs.OpenAt(o.c, none, p, flags, 0, f)
	if err == nil {
		w.Close()
	}
	return err
}
func (o *ours) become(uid uint32) {
	if uid == 0 {
		o.c.Creds = vfs.RootCreds()
		return
	}
	c := vfs.UserCreds(uid, uid)
	c.UID, c.GID, c.EUID, c.EGID = 0, 0, 0, 0
	o.c.Creds = c
}

// pathOf makes up a path of few names, so that they meet.
func pathOf(r *rand.Rand) string {
	if r.IntN(60) == 0 {
		return []string{"", "/", ".", "..", "//", "./", "../", strings.Repeat("n", 256),
			strings.Repeat("n", 255), strings.Repeat("a/", 2048), "a/" + strings.Repeat("n", 256) + "/b"}[r.IntN(11)]
	}
	var b strings.Builder
	if r.IntN(4) == 0 {
		b.WriteString(strings.Repeat("/", 1+r.IntN(2)))
	}
	n := 1 + r.IntN(3)
	for i := range n {
		if i > 0 {
			b.WriteString(strings.Repeat("/", 1+r.IntN(8)/7))
		}
		k := r.IntN(16)
		switch {
		case k < 14:
			b.WriteByte("abcdef"[r.IntN(6)])
		case k == 14:
			b.WriteString(".")
		default:
			b.WriteString("..")
		}
	}
	if r.IntN(10) == 0 {
		b.WriteByte('/')
	}
	return b.String()
}

// step does one random operation and tells what came of it.
func step(r *rand.Rand, s system) string {
	p, q := pathOf(r), pathOf(r)
	mode := []uint32{0o755, 0o700, 0o777, 0o644, 0, 0o1777, 0o2775, 0o4755, 0o611}[r.IntN(9)]
	out, err := "", error(nil)
	op := ""
	switch k := r.IntN(24); k {
	case 0, 1, 2:
		op, err = fmt.Sprintf("mkdir %q %o", p, mode|0o100), s.mkdir(p, mode|0o100)
	case 3, 4, 5:
		flags := []int{0, 1, 2}[r.IntN(3)]
		for _, f := range []int{unix.O_CREAT, unix.O_EXCL, unix.O_TRUNC, unix.O_APPEND, unix.O_NOFOLLOW} {
			if r.IntN(3) == 0 {
				flags |= f
			}
		}
		if r.IntN(8) == 0 && flags&unix.O_CREAT == 0 {
			flags |= unix.O_DIRECTORY
		}
		if r.IntN(16) == 0 {
			flags |= unix.O_NOATIME
		}
		w := []string{"", "hello", "x"}[r.IntN(3)]
		op = fmt.Sprintf("open %q %#x %o %q", p, flags, mode, w)
		out, err = s.open(p, flags, mode, w)
	case 6:
		op, err = fmt.Sprintf("unlink %q", p), s.unlink(p, false)
	case 7:
		op, err = fmt.Sprintf("rmdir %q", p), s.unlink(p, true)
	case 8, 9, 10:
		f := []uint32{0, 0, 1, 2, 3}[r.IntN(5)]
		op, err = fmt.Sprintf("rename %q %q %d", p, q, f), s.rename(p, q, f)
	case 11:
		follow := r.IntN(2) == 0
		op, err = fmt.Sprintf("link %q %q %v", p, q, follow), s.link(p, q, follow)
	case 12, 13:
		op, err = fmt.Sprintf("symlink %q %q", p, q), s.symlink(p, q)
	case 14:
		op = fmt.Sprintf("readlink %q", p)
		out, err = s.readlink(p)
	case 15, 16:
		follow := r.IntN(2) == 0
		op = fmt.Sprintf("stat %q %v", p, follow)
		out, err = s.stat(p, follow)
	case 17:
		want := uint32(r.IntN(8))
		op, err = fmt.Sprintf("access %q %d", p, want), s.access(p, want)
	case 18:
		op, err = fmt.Sprintf("chmod %q %o", p, mode), s.chmod(p, mode)
	case 19:
		uid, gid := []uint32{0, 1000, vfs.NoID}[r.IntN(3)], []uint32{0, 1000, vfs.NoID}[r.IntN(3)]
		op, err = fmt.Sprintf("chown %q %d %d", p, int32(uid), int32(gid)), s.chown(p, uid, gid)
	case 20:
		n := []int64{0, 3, 10000, -1}[r.IntN(4)]
		op, err = fmt.Sprintf("truncate %q %d", p, n), s.truncate(p, n)
	case 21:
		op = fmt.Sprintf("readdir %q", p)
		out, err = s.readdir(p)
	case 22:
		if r.IntN(2) == 0 {
			op, err = fmt.Sprintf("chdir %q", p), s.chdir(p)
			if err == nil {
				out, err = s.getcwd()
			}
		} else {
			op, err = fmt.Sprintf("mknod %q", p), s.mknod(p, mode&0o777|[]uint32{unix.S_IFIFO, unix.S_IFREG, unix.S_IFSOCK}[r.IntN(3)])
		}
	case 23:
		if r.IntN(3) == 0 {
			uid := []uint32{0, 1000}[r.IntN(2)]
			op = fmt.Sprint("become ", uid)
			s.become(uid)
			break
		}
		res := uint64(0)
		for _, b := range []uint64{unix.RESOLVE_BENEATH, unix.RESOLVE_IN_ROOT, unix.RESOLVE_NO_SYMLINKS, unix.RESOLVE_NO_XDEV} {
			if r.IntN(2) == 0 {
				res |= b
			}
		}
		if res&unix.RESOLVE_BENEATH != 0 {
			res &^= unix.RESOLVE_IN_ROOT
		}
		op, err = fmt.Sprintf("openat2 %q %#x", p, res), s.openat2(p, unix.O_PATH|[]int{0, unix.O_NOFOLLOW, unix.O_DIRECTORY}[r.IntN(3)], res)
	}
	var e syscall.Errno
	if errors.As(err, &e) {
		return fmt.Sprintf("%s = %s %s", op, unix.ErrnoName(e), out)
	}
	return fmt.Sprintf("%s = %q", op, out)
}

// onHost runs f on a thread whose root directory is dir; the thread ends with it.
func onHost(t *testing.T, dir string, f func()) {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes with the goroutine
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- err
			return
		}
		if err := unix.Chroot(dir); err != nil {
			done <- err
			return
		}
		unix.Umask(0o022)
		done <- unix.Chdir("/")
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Skipf("a root directory of one's own: %v", err)
	}
	<-done
}

// TestTracesAgainstLinux does the same random operations on a directory of the
// host's Linux and on a Tree of tmpfs: results and errors are the same.
func TestTracesAgainstLinux(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs user 0 for chroot")
	}
	hard, _ := os.ReadFile("/proc/sys/fs/protected_hardlinks")
	protected := strings.TrimSpace(string(hard)) == "1"
	traces, length := 150, 400
	if testing.Short() {
		traces = 30
	}
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = t.TempDir()
	}
	seed := uint64(time.Now().UnixNano())
	for i := range traces {
		seed := seed + uint64(i)
		dir, err := os.MkdirTemp(base, "vfs")
		if err != nil {
			t.Fatal(err)
		}
		os.Chmod(dir, 0o777)
		var want []string
		onHost(t, dir, func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for range length {
				want = append(want, step(r, host{}))
			}
		})
		os.RemoveAll(filepath.Clean(dir))
		tree := vfs.NewTreeOptions(tmpfs.New(tmpfs.Options{Mode: 0o777}), vfs.Options{Dentries: 16 + int(seed%64), ProtectedHardlinks: protected})
		tree.SetOpener(vfs.TypePipe, 0, func(p vfs.Path, flags int) (vfs.File, error) {
			if flags&3 == 1 {
				return nil, syscall.ENXIO // nobody reads
			}
			return &vfs.DirFile{N: p.Node()}, nil
		})
		us := &ours{vfs.NewContext(tree, vfs.RootCreds())}
		r := rand.New(rand.NewPCG(seed, 1))
		for j := range length {
			got := step(r, us)
			if got != want[j] {
				t.Fatalf("seed %d, step %d:\nLinux %s\nours  %s\nbefore:\n%s", seed, j, want[j], got,
					strings.Join(want[max(0, j-60):j], "\n"))
			}
		}
	}
}
