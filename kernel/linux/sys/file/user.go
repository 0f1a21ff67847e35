package file

import (
	"encoding/binary"
	"sync"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

var le = binary.LittleEndian

const (
	atFdcwd           = -100
	atSymlinkNofollow = 0x100
	atRemovedir       = 0x200
	atSymlinkFollow   = 0x400
	atNoAutomount     = 0x800
	atEmptyPath       = 0x1000
	atStatxSync       = 0x6000
	atEaccess         = 0x200
)

// getUser is user memory as Dst and Src: a call has one at a time.
func getUser(t *task.Task, addr uint64, n uint64) *mm.User {
	if u := t.IO(addr, int(min(n, 1<<31))); u != nil {
		return u
	}
	u := new(mm.User)
	*u = t.Mem().Dst(addr, int(min(n, 1<<31)))
	return u
}

// buffers are for what is copied between files, or in and out of user memory.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// inUser says whether a range can be user memory at all (access_ok).
func inUser(addr, n uint64) bool { return addr+n >= addr && addr+n <= mm.TaskSize }

// path reads a path name: EFAULT, ENAMETOOLONG.
func path(t *task.Task, addr uint64) (string, error) { return t.Mem().String(addr, vfs.PathMax) }

// place is a directory descriptor's place. Its file must be released.
type place struct {
	vfs.Path
	o *fd.Open
}

func (p *place) done() {
	if p.o != nil {
		_ = p.o.Release()
	}
}

// at is where the path name begins: zero for the working directory and for absolute
// paths; EBADF, ENOTDIR for what has no place.
func at(t *task.Task, dirfd uint64, name string) (place, error) {
	n := int(int32(dirfd))
	if n == atFdcwd || name != "" && name[0] == '/' {
		return place{}, nil
	}
	o, err := t.Files().GetAny(n)
	if err != nil {
		return place{}, err
	}
	if o.Where().IsZero() && name != "" {
		_ = o.Release()
		return place{}, syscall.ENOTDIR
	}
	return place{o.Where(), o}, nil
}

// pathAt reads a path name and finds where it begins.
func pathAt(t *task.Task, dirfd, addr uint64) (string, place, error) {
	name, err := path(t, addr)
	if err != nil {
		return "", place{}, err
	}
	p, err := at(t, dirfd, name)
	return name, p, err
}

// readTime reads a struct timespec: EFAULT, EINVAL.
func readTime(t *task.Task, addr uint64) (time.Duration, error) {
	var b [16]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return 0, err
	}
	sec, nsec := int64(le.Uint64(b[:])), int64(le.Uint64(b[8:]))
	if sec < 0 || nsec < 0 || nsec >= 1e9 {
		return 0, syscall.EINVAL
	}
	return duration(sec, nsec), nil
}

// duration is that of a timespec, cut to what a Duration holds (292 years).
func duration(sec, nsec int64) time.Duration {
	if sec > 1<<33 {
		return 1 << 62
	}
	return time.Duration(sec)*time.Second + time.Duration(nsec)
}

// writeTime writes a struct timespec.
func writeTime(t *task.Task, addr uint64, d time.Duration) error {
	var b [16]byte
	putTime(b[:], d)
	return t.Mem().CopyOut(addr, b[:])
}

func putTime(b []byte, d time.Duration) {
	d = max(d, 0)
	le.PutUint64(b, uint64(d/time.Second))
	le.PutUint64(b[8:], uint64(d%time.Second))
}

// deadline is when a timeout ends; one of zero has no time to wait.
func deadline(d time.Duration) time.Time { return time.Now().Add(d) }

// signalled sends the signal that goes with a write that failed: SIGPIPE with EPIPE.
func signalled(t *task.Task, err error) error {
	if err == syscall.EPIPE {
		_ = t.Send(abi.Siginfo{Signo: int32(syscall.SIGPIPE), Code: abi.SI_USER, PID: int32(t.Proc().PID()), UID: t.Creds().UID})
	}
	return err
}

// num and no are what calls return.
func num(n int, err error) (uint64, error) {
	if err != nil {
		return 0, err
	}
	return uint64(n), nil
}

func no(err error) (uint64, error) { return 0, err }
