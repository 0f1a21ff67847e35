package net

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/sock"
	"osv/kernel/linux/task"
	"osv/kernel/vfs/poll"
)

// frame is what one send or receive needs beside its arguments. A task has one, since
// it makes one call at a time, so that calls allocate nothing.
type frame struct {
	t     *task.Task
	s     sock.Socket
	user  mm.User
	msg   sock.Message
	flags int
	done  int  // bytes so far, of calls that go on until all is done
	all   bool // MSG_WAITALL

	iov   []mm.Iovec
	iov8  [8]mm.Iovec
	head  [abi.SizeofMsghdr]byte
	raw   []byte // of iovecs and control messages
	raw8  [8 * 16]byte
	name  [abi.SizeofSockaddrMax]byte
	sends func() error // sendOnce and recvOnce, as values
	recvs func() error
}

// newFrame is the task's frame, ready for a call.
func newFrame(t *task.Task, s sock.Socket, flags int) *frame {
	f, _ := t.Sockets.(*frame)
	if f == nil {
		f = &frame{t: t}
		f.sends, f.recvs = f.sendOnce, f.recvOnce
		t.Sockets = f
	}
	f.s, f.flags, f.done, f.all = s, flags, 0, false
	f.msg.Addr, f.msg.Flags = sock.Addr{}, 0
	f.msg.Control.Have = 0
	return f
}

// free ends the call that f was for.
func (f *frame) free() {
	f.s = nil
	c := &f.msg.Control
	if len(c.Rights) > 0 { // what nobody has taken over
		for i := range c.Rights {
			_ = c.Rights[i].Release()
			c.Rights[i] = nil
		}
		c.Rights = c.Rights[:0]
	}
	c.FDs = c.FDs[:0]
}

// bytes is room for n bytes, in the frame where they are few.
func (f *frame) bytes(n int) []byte {
	if n <= len(f.raw8) {
		return f.raw8[:n]
	}
	if cap(f.raw) < n {
		f.raw = make([]byte, n)
	}
	return f.raw[:n]
}

// iovecs reads n struct iovec at addr into f.user.
func (f *frame) iovecs(addr, n uint64) error {
	if n > abi.UIO_MAXIOV {
		return syscall.EMSGSIZE
	}
	v := f.iov8[:min(n, uint64(len(f.iov8)))]
	if n > uint64(len(f.iov8)) {
		if uint64(cap(f.iov)) < n {
			f.iov = make([]mm.Iovec, n)
		}
		v = f.iov[:n]
	}
	mem := f.t.Mem()
	if err := mem.CopyIn(iovecBytes(v), addr); err != nil {
		return err
	}
	for i := range v {
		if int64(v[i].Len) < 0 {
			return syscall.EINVAL
		}
	}
	if len(v) == 1 {
		f.user = mem.Dst(v[0].Base, int(min(v[0].Len, 1<<31-4096)))
	} else {
		f.user = mem.DstVec(v)
	}
	return nil
}

func after(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// sendOnce is one attempt to go on with a send: EAGAIN where more is to be sent and
// cannot be now.
func (f *frame) sendOnce() error {
	for {
		n, err := f.s.Send(caller{f.t}, &f.user, &f.msg, f.flags)
		f.done += n
		if err != nil {
			return err
		}
		if n == 0 || f.user.Left() == 0 {
			return nil
		}
	}
}

// send sends what f has, and waits where it may.
func (f *frame) send(o *fd.Open) (int, error) {
	err := f.sendOnce()
	if err == syscall.EAGAIN && f.flags&syscall.MSG_DONTWAIT == 0 && !o.Nonblock() {
		_, w := f.s.Timeouts()
		err = fd.Retry(f.t, f.s, poll.Out, after(w), f.sends)
	}
	if f.done > 0 {
		return f.done, nil
	}
	if err == syscall.EPIPE && f.flags&syscall.MSG_NOSIGNAL == 0 {
		if _, typ, _ := f.s.Kind(); typ == syscall.SOCK_STREAM {
			sigpipe(f.t)
		}
	}
	return 0, err
}

func sigpipe(t *task.Task) {
	_ = t.Send(abi.Siginfo{Signo: int32(syscall.SIGPIPE), Code: abi.SI_USER, PID: int32(t.Proc().PID()), UID: t.Creds().UID})
}

// recvOnce is one attempt to go on with a receive.
func (f *frame) recvOnce() error {
	for {
		n, err := f.s.Recv(&f.user, &f.msg, f.flags)
		f.done += n
		if err != nil {
			return err
		}
		if !f.all || n == 0 || f.user.Room() == 0 {
			return nil
		}
	}
}

// recv receives into what f has, and waits where it may.
func (f *frame) recv(o *fd.Open) (int, error) {
	if f.flags&(syscall.MSG_WAITALL|syscall.MSG_PEEK|syscall.MSG_TRUNC) == syscall.MSG_WAITALL {
		_, typ, _ := f.s.Kind()
		f.all = typ == syscall.SOCK_STREAM
	}
	if o.Nonblock() {
		f.flags |= syscall.MSG_DONTWAIT
	}
	err := f.recvOnce()
	if err == syscall.EAGAIN && f.flags&syscall.MSG_DONTWAIT == 0 {
		r, _ := f.s.Timeouts()
		err = fd.Retry(f.t, f.s, poll.In|poll.RdHup, after(r), f.recvs)
	}
	if f.done > 0 {
		return f.done, nil
	}
	return 0, err
}

// acceptWait is accept, which waits where it may.
func acceptWait(t *task.Task, o *fd.Open, s sock.Socket) (sock.Socket, sock.Addr, error) {
	if o.Nonblock() {
		return s.Accept(syscall.MSG_DONTWAIT)
	}
	c, from, err := s.Accept(0)
	if err != syscall.EAGAIN {
		return c, from, err
	}
	r, _ := s.Timeouts()
	err = fd.Retry(t, s, poll.In, after(r), func() (err error) {
		c, from, err = s.Accept(0)
		return err
	})
	return c, from, err
}
