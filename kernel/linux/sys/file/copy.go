package file

import (
	"syscall"
	"time"

	"osv/kernel/linux/fd"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// offset reads a file offset that a call goes on from; 0 is the file's own position.
func offset(t *task.Task, addr uint64) (int64, error) {
	var b [8]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return 0, err
	}
	off := int64(le.Uint64(b[:]))
	if off < 0 {
		return 0, syscall.EINVAL
	}
	return off, nil
}

func putOffset(t *task.Task, addr uint64, off int64) error {
	return t.Mem().CopyOut(addr, le.AppendUint64(nil, uint64(off)))
}

const maxTransfer = 0x7ffff000

// sendfile copies a file to any other.
func sendfile(t *task.Task, a *sys.Args) (uint64, error) {
	off := int64(-1)
	var err error
	if a[2] != 0 {
		if off, err = offset(t, a[2]); err != nil {
			return 0, err
		}
	}
	files := t.Files()
	in, err := files.Get(int(int32(a[1])))
	if err != nil {
		return 0, err
	}
	defer in.Release()
	if !in.CanRead() {
		return 0, syscall.EBADF
	}
	if in.Stream() && a[2] != 0 {
		return 0, syscall.ESPIPE
	}
	out, err := files.Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer out.Release()
	switch {
	case !out.CanWrite():
		return 0, syscall.EBADF
	case in.Stream():
		return 0, syscall.EINVAL
	case out.Flags()&syscall.O_APPEND != 0:
		return 0, syscall.EINVAL
	}
	at, err := in.Attr()
	if err != nil || at.Type == vfs.TypeDir {
		return 0, syscall.EINVAL
	}
	start := off
	if off < 0 {
		start = in.Pos()
	}
	n, err := copyRange(t, in, start, out, -1, min(a[3], maxTransfer))
	err = signalled(t, err)
	if n > 0 && off < 0 {
		_, _ = in.Seek(start+int64(n), 0)
	}
	if a[2] != 0 {
		if e := putOffset(t, a[2], start+int64(n)); e != nil && err == nil {
			return 0, e
		}
	}
	return num(n, err)
}

// copyRange copies up to n bytes from off of in to outOff of out (negative: where it
// is), through a buffer. It ends early where out takes less than it is offered, or at
// the end of in. What was copied is returned without an error.
func copyRange(t *task.Task, in *fd.Open, off int64, out *fd.Open, outOff int64, n uint64) (int, error) {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	var dst, src vfs.Bytes
	most, err := mayWrite(t, out, outOff, int(n))
	if err != nil {
		return 0, err
	}
	n = uint64(most)
	total := 0
	for uint64(total) < n {
		dst = vfs.Bytes{B: buf[:min(uint64(len(buf)), n-uint64(total))]}
		k, err := in.ReadAt(t, &dst, off)
		if err != nil || k == 0 {
			return ended(total, err)
		}
		src = vfs.Bytes{B: buf[:k]}
		var w int
		if outOff < 0 {
			w, err = out.Write(t, &src)
		} else {
			w, err = out.WriteAt(t, &src, outOff)
			outOff += int64(w)
		}
		total += w
		off += int64(w)
		if err != nil || w < k {
			return ended(total, err)
		}
		if t.Interrupted() {
			break
		}
	}
	return total, nil
}

func ended(n int, err error) (int, error) {
	if n > 0 {
		return n, nil
	}
	return 0, err
}

func copyFileRange(t *task.Task, a *sys.Args) (uint64, error) {
	files := t.Files()
	in, err := files.Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer in.Release()
	out, err := files.Get(int(int32(a[2])))
	if err != nil {
		return 0, err
	}
	defer out.Release()
	inOff, outOff := in.Pos(), out.Pos()
	if a[1] != 0 {
		if inOff, err = offset(t, a[1]); err != nil {
			return 0, err
		}
	}
	if a[3] != 0 {
		if outOff, err = offset(t, a[3]); err != nil {
			return 0, err
		}
	}
	if a[5] != 0 {
		return 0, syscall.EINVAL
	}
	x, err := in.Attr()
	if err != nil {
		return 0, err
	}
	y, err := out.Attr()
	n := int64(min(a[4], maxTransfer))
	switch {
	case err != nil:
		return 0, err
	case x.Type == vfs.TypeDir || y.Type == vfs.TypeDir:
		return 0, syscall.EISDIR
	case x.Type != vfs.TypeFile || y.Type != vfs.TypeFile:
		return 0, syscall.EINVAL
	case !in.CanRead() || !out.CanWrite() || out.Flags()&syscall.O_APPEND != 0:
		return 0, syscall.EBADF
	case x.Dev == y.Dev && x.Ino == y.Ino && inOff < outOff+n && outOff < inOff+n:
		return 0, syscall.EINVAL
	}
	k, err := copyRange(t, in, inOff, out, outOff, uint64(n))
	if k > 0 {
		err = moved(t, in, a[1], inOff+int64(k))
		if e := moved(t, out, a[3], outOff+int64(k)); err == nil {
			err = e
		}
	}
	return num(k, err)
}

// moved tells where a transfer has ended: at addr, or in the file's position.
func moved(t *task.Task, o *fd.Open, addr uint64, off int64) error {
	if addr != 0 {
		return putOffset(t, addr, off)
	}
	_, err := o.Seek(off, 0)
	return err
}

// Flags of splice, tee and vmsplice.
const (
	spliceNonblock = 2
	spliceAll      = 15
)

func splice(t *task.Task, a *sys.Args) (uint64, error) {
	flags := a[5]
	if a[4] == 0 {
		return 0, nil
	}
	if flags&^spliceAll != 0 {
		return 0, syscall.EINVAL
	}
	files := t.Files()
	in, err := files.Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer in.Release()
	out, err := files.Get(int(int32(a[2])))
	if err != nil {
		return 0, err
	}
	defer out.Release()
	if !in.CanRead() || !out.CanWrite() {
		return 0, syscall.EBADF
	}
	n := int(min(a[4], maxTransfer))
	nowait := flags&spliceNonblock != 0
	var k int
	switch {
	case in.ReadPipe() && out.WritePipe():
		if a[1] != 0 || a[3] != 0 {
			return 0, syscall.ESPIPE
		}
		k, err = pipeToPipe(t, in, out, n, false, nowait)
	case in.ReadPipe():
		k, err = fromPipe(t, in, out, a[1], a[3], n, nowait)
	case out.WritePipe():
		k, err = intoPipe(t, in, out, a[1], a[3], n, nowait)
	default:
		return 0, syscall.EINVAL
	}
	return num(k, signalled(t, err))
}

// waitOr runs f until it is not EAGAIN, and waits for p in between unless nowait.
func waitOr(t *task.Task, p *fd.Open, want poll.Events, nowait bool, f func() (int, error)) (int, error) {
	n, err := f()
	if err != syscall.EAGAIN || nowait || p.Nonblock() {
		return n, err
	}
	err = fd.Retry(t, p, want, time.Time{}, func() (err error) {
		n, err = f()
		return err
	})
	return n, err
}

// pipeToPipe moves, or copies, between two pipes.
func pipeToPipe(t *task.Task, in, out *fd.Open, n int, keep, nowait bool) (int, error) {
	for {
		k, err := fd.PipeToPipe(in, out, n, keep)
		if err != syscall.EAGAIN || nowait || in.Nonblock() || out.Nonblock() {
			return k, err
		}
		p, want := in, poll.In
		if in.Ready()&poll.In != 0 {
			p, want = out, poll.Out
		}
		if err := fd.WaitFor(t, p, want, time.Time{}); err != nil {
			return 0, err
		}
	}
}

// fromPipe is splice out of a pipe. What the file cannot take now stays in the pipe.
func fromPipe(t *task.Task, in, out *fd.Open, inAddr, outAddr uint64, n int, nowait bool) (int, error) {
	if inAddr != 0 {
		return 0, syscall.ESPIPE
	}
	off := int64(-1)
	if outAddr != 0 {
		if out.Stream() {
			return 0, syscall.ESPIPE
		}
		var err error
		if off, err = offset(t, outAddr); err != nil {
			return 0, err
		}
	}
	if out.Flags()&syscall.O_APPEND != 0 {
		return 0, syscall.EINVAL
	}
	pos := off
	if off < 0 && !out.Stream() {
		pos = out.Pos()
	}
	n, err := mayWrite(t, out, pos, n)
	if err != nil {
		return 0, err
	}
	full := false
	var src vfs.Bytes
	take := func(p []byte) (int, error) {
		src = vfs.Bytes{B: p}
		k, _, err := out.File().Write(&src, pos, false)
		if full = err == syscall.EAGAIN; full {
			err = nil
		}
		if k > 0 && !out.Stream() {
			pos += int64(k)
		}
		return k, err
	}
	for {
		k, err := waitOr(t, in, poll.In, nowait, func() (int, error) {
			full = false
			k, err := in.PipeTo(n, take)
			if k == 0 && full {
				err = nil
			}
			return k, err
		})
		if k == 0 && full && err == nil {
			if nowait || out.Nonblock() {
				return 0, syscall.EAGAIN
			}
			if err := fd.WaitFor(t, out, poll.Out, time.Time{}); err != nil {
				return 0, err
			}
			continue
		}
		if k > 0 && !out.Stream() {
			err = moved(t, out, outAddr, pos)
		}
		return k, err
	}
}

// intoPipe is splice into a pipe.
func intoPipe(t *task.Task, in, out *fd.Open, inAddr, outAddr uint64, n int, nowait bool) (int, error) {
	if outAddr != 0 {
		return 0, syscall.ESPIPE
	}
	pos := int64(-1)
	if inAddr != 0 {
		if in.Stream() {
			return 0, syscall.ESPIPE
		}
		var err error
		if pos, err = offset(t, inAddr); err != nil {
			return 0, err
		}
	} else if !in.Stream() {
		pos = in.Pos()
	}
	if at, err := in.Attr(); err != nil || at.Type == vfs.TypeDir {
		return 0, syscall.EINVAL
	}
	// Room first, then data: nothing is read that cannot be put.
	empty := false
	var dst vfs.Bytes
	fill := func(p []byte) (int, error) {
		dst = vfs.Bytes{B: p}
		k, err := in.File().Read(&dst, pos)
		if empty = err == syscall.EAGAIN; empty {
			err = nil
		}
		if k > 0 && !in.Stream() {
			pos += int64(k)
		}
		return k, err
	}
	for {
		k, err := waitOr(t, out, poll.Out, nowait, func() (int, error) {
			empty = false
			return out.ToPipe(n, fill)
		})
		if k == 0 && err == nil && empty {
			if nowait || in.Nonblock() {
				return 0, syscall.EAGAIN
			}
			if err := fd.WaitFor(t, in, poll.In|poll.RdHup, time.Time{}); err != nil {
				return 0, err
			}
			continue
		}
		if k > 0 && !in.Stream() {
			err = moved(t, in, inAddr, pos)
		}
		return k, err
	}
}

func tee(t *task.Task, a *sys.Args) (uint64, error) {
	if a[3]&^spliceAll != 0 {
		return 0, syscall.EINVAL
	}
	if a[2] == 0 {
		return 0, nil
	}
	files := t.Files()
	in, err := files.Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer in.Release()
	out, err := files.Get(int(int32(a[1])))
	if err != nil {
		return 0, err
	}
	defer out.Release()
	if !in.CanRead() || !out.CanWrite() {
		return 0, syscall.EBADF
	}
	if !in.ReadPipe() || !out.WritePipe() {
		return 0, syscall.EINVAL
	}
	k, err := pipeToPipe(t, in, out, int(min(a[2], maxTransfer)), true, a[3]&spliceNonblock != 0)
	return num(k, signalled(t, err))
}

// vmsplice copies between user memory and a pipe: writev or readv of it.
func vmsplice(t *task.Task, a *sys.Args) (uint64, error) {
	if a[3]&^spliceAll != 0 {
		return 0, syscall.EINVAL
	}
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	if !o.IsPipe() {
		return 0, syscall.EBADF
	}
	v, err := getVector(t, a[1], a[2])
	if err != nil {
		return 0, err
	}
	defer vectors.Put(v)
	nowait := a[3]&spliceNonblock != 0
	var n int
	u := &v.user
	if u.Left() == 0 {
		return 0, nil
	}
	switch {
	case o.CanWrite() && nowait:
		n, err = o.WriteNow(t, u)
	case o.CanWrite():
		n, err = o.Write(t, u)
	case nowait:
		n, err = o.ReadNow(t, u)
	default:
		n, err = o.Read(t, u)
	}
	return num(n, signalled(t, err))
}
