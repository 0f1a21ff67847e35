package file

import (
	"math"
	"sync"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

func read(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	n := 0
	switch {
	case !o.CanRead():
		err = syscall.EBADF
	case !inUser(a[1], a[2]):
		err = syscall.EFAULT
	default:
		u := getUser(t, a[1], a[2])
		n, err = o.Read(t, u)
		t.EndIO(u)
	}
	_ = o.Release()
	return num(n, err)
}

func write(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	n := 0
	switch {
	case !o.CanWrite():
		err = syscall.EBADF
	case !inUser(a[1], a[2]):
		err = syscall.EFAULT
	default:
		u := getUser(t, a[1], a[2])
		n, err = writeOpen(t, o, u)
		t.EndIO(u)
	}
	_ = o.Release()
	return num(n, err)
}

// writeOpen is Write with what goes with it: signals, limits, set-ID bits.
func writeOpen(t *task.Task, o *fd.Open, u *mm.User) (int, error) {
	if o.Stream() {
		n, err := o.Write(t, u)
		if err != nil {
			err = signalled(t, err)
		}
		return n, err
	}
	if err := limitSize(t, o, -1, u); err != nil {
		return 0, err
	}
	n, err := o.Write(t, u)
	written(t, o, n)
	return n, err
}

// limitSize cuts a write at off (negative: at the position) off at RLIMIT_FSIZE: EFBIG
// with SIGXFSZ where nothing may be written.
func limitSize(t *task.Task, o *fd.Open, off int64, u *mm.User) error {
	if t.Proc().Limit(abi.RLIMIT_FSIZE).Cur == abi.RLIM_INFINITY || u.Left() == 0 {
		return nil
	}
	n, err := mayWrite(t, o, off, u.Left())
	u.Limit(n)
	return err
}

// mayWrite is how many of n bytes the limit lets be written at off.
func mayWrite(t *task.Task, o *fd.Open, off int64, n int) (int, error) {
	lim := t.Proc().Limit(abi.RLIMIT_FSIZE).Cur
	node := o.File().Node()
	if lim == abi.RLIM_INFINITY || n == 0 || node == nil {
		return n, nil
	}
	a, err := node.Attr()
	switch {
	case err != nil || a.Type != vfs.TypeFile:
		return n, nil
	case o.Flags()&syscall.O_APPEND != 0:
		off = a.Size
	case off < 0:
		off = o.Pos()
	}
	if uint64(off) >= lim {
		return 0, tooLong(t, int64(min(lim, math.MaxInt64-1))+1)
	}
	return int(min(uint64(n), lim-uint64(off))), nil
}

// written takes set-ID bits away from a file that somebody without CAP_FSETID has
// written to.
func written(t *task.Task, o *fd.Open, n int) {
	if c := t.Creds(); n > 0 && !c.Has(vfs.CapFSetID) {
		if node := o.File().Node(); node != nil {
			_ = vfs.Written(c, node)
		}
	}
}

func pread64(t *task.Task, a *sys.Args) (uint64, error) {
	if int64(a[3]) < 0 {
		return 0, syscall.EINVAL
	}
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	n := 0
	switch {
	case o.Stream():
		err = syscall.ESPIPE
	case !o.CanRead():
		err = syscall.EBADF
	case !inUser(a[1], a[2]):
		err = syscall.EFAULT
	default:
		u := getUser(t, a[1], a[2])
		n, err = o.ReadAt(t, u, int64(a[3]))
		t.EndIO(u)
	}
	_ = o.Release()
	return num(n, err)
}

func pwrite64(t *task.Task, a *sys.Args) (uint64, error) {
	if int64(a[3]) < 0 {
		return 0, syscall.EINVAL
	}
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	n := 0
	switch {
	case o.Stream():
		err = syscall.ESPIPE
	case !o.CanWrite():
		err = syscall.EBADF
	case !inUser(a[1], a[2]):
		err = syscall.EFAULT
	default:
		u := getUser(t, a[1], a[2])
		if err = limitSize(t, o, int64(a[3]), u); err == nil {
			n, err = o.WriteAt(t, u, int64(a[3]))
			written(t, o, n)
		}
		t.EndIO(u)
	}
	_ = o.Release()
	return num(n, err)
}

// vector is the memory of a readv or writev.
type vector struct {
	iov  [maxIovec]mm.Iovec
	raw  [maxIovec * 16]byte
	user mm.User
}

const maxIovec = 1024 // UIO_MAXIOV

var vectors = sync.Pool{New: func() any { return new(vector) }}

// getVector reads an array of struct iovec: EINVAL, EFAULT.
func getVector(t *task.Task, addr, count uint64) (*vector, error) {
	n := int(int32(count))
	if n < 0 || n > maxIovec {
		return nil, syscall.EINVAL
	}
	v := vectors.Get().(*vector)
	raw := v.raw[:n*16]
	if err := t.Mem().CopyIn(raw, addr); err != nil {
		vectors.Put(v)
		return nil, err
	}
	for i := range n {
		iov := mm.Iovec{Base: le.Uint64(raw[i*16:]), Len: le.Uint64(raw[i*16+8:])}
		err := error(nil)
		if int64(iov.Len) < 0 {
			err = syscall.EINVAL
		} else if !inUser(iov.Base, iov.Len) {
			err = syscall.EFAULT
		}
		if err != nil {
			vectors.Put(v)
			return nil, err
		}
		v.iov[i] = iov
	}
	v.user = t.Mem().DstVec(v.iov[:n])
	return v, nil
}

func readv(t *task.Task, a *sys.Args) (uint64, error)  { return readVec(t, a, -1, 0) }
func writev(t *task.Task, a *sys.Args) (uint64, error) { return writeVec(t, a, -1, 0) }

func preadv(t *task.Task, a *sys.Args) (uint64, error) {
	if int64(a[3]) < 0 {
		return 0, syscall.EINVAL
	}
	return readVec(t, a, int64(a[3]), 0)
}

func pwritev(t *task.Task, a *sys.Args) (uint64, error) {
	if int64(a[3]) < 0 {
		return 0, syscall.EINVAL
	}
	return writeVec(t, a, int64(a[3]), 0)
}

// Flags of preadv2 and pwritev2.
const (
	rwfHipri  = 1
	rwfDsync  = 2
	rwfSync   = 4
	rwfNowait = 8
	rwfAppend = 16
	rwfAll    = rwfHipri | rwfDsync | rwfSync | rwfNowait | rwfAppend
)

func preadv2(t *task.Task, a *sys.Args) (uint64, error) {
	off := int64(a[3])
	if off < -1 {
		return 0, syscall.EINVAL
	}
	return readVec(t, a, off, a[5])
}

func pwritev2(t *task.Task, a *sys.Args) (uint64, error) {
	off := int64(a[3])
	if off < -1 {
		return 0, syscall.EINVAL
	}
	return writeVec(t, a, off, a[5])
}

// readVec reads at off, or where that is negative at the position.
func readVec(t *task.Task, a *sys.Args, off int64, flags uint64) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	n, err := readVecOpen(t, o, a, off, flags)
	_ = o.Release()
	return num(n, err)
}

func readVecOpen(t *task.Task, o *fd.Open, a *sys.Args, off int64, flags uint64) (int, error) {
	if off >= 0 && o.Stream() {
		return 0, syscall.ESPIPE
	}
	if !o.CanRead() {
		return 0, syscall.EBADF
	}
	v, err := getVector(t, a[1], a[2])
	if err != nil {
		return 0, err
	}
	defer vectors.Put(v)
	switch {
	case flags&^rwfAll != 0:
		return 0, syscall.EOPNOTSUPP
	case v.user.Left() == 0:
		return 0, nil
	case off >= 0:
		return o.ReadAt(t, &v.user, off)
	case flags&rwfNowait != 0:
		return o.ReadNow(t, &v.user)
	}
	return o.Read(t, &v.user)
}

func writeVec(t *task.Task, a *sys.Args, off int64, flags uint64) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	n, err := writeVecOpen(t, o, a, off, flags)
	_ = o.Release()
	return num(n, err)
}

func writeVecOpen(t *task.Task, o *fd.Open, a *sys.Args, off int64, flags uint64) (int, error) {
	if off >= 0 && o.Stream() {
		return 0, syscall.ESPIPE
	}
	if !o.CanWrite() {
		return 0, syscall.EBADF
	}
	v, err := getVector(t, a[1], a[2])
	if err != nil {
		return 0, err
	}
	defer vectors.Put(v)
	if flags&^rwfAll != 0 {
		return 0, syscall.EOPNOTSUPP
	}
	if v.user.Left() == 0 {
		return 0, nil
	}
	n := 0
	switch {
	case flags&rwfAppend != 0:
		var pos int64
		n, pos, err = o.File().Write(&v.user, 0, true)
		if off < 0 && n > 0 {
			_, _ = o.Seek(pos+int64(n), 0)
		}
	case flags&rwfNowait != 0 && off < 0:
		n, err = o.WriteNow(t, &v.user)
		err = signalled(t, err)
	case off < 0:
		n, err = writeOpen(t, o, &v.user)
	default:
		if err = limitSize(t, o, off, &v.user); err == nil {
			n, err = o.WriteAt(t, &v.user, off)
			written(t, o, n)
		}
	}
	if err == nil && flags&(rwfDsync|rwfSync) != 0 {
		err = o.File().Sync(flags&rwfSync == 0)
	}
	return n, err
}

func lseek(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	at, err := o.Seek(int64(a[1]), int(int32(a[2])))
	_ = o.Release()
	if err != nil {
		return 0, err
	}
	return uint64(at), nil
}
