package net

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/sock"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
)

// size is a length as send and recv take it.
func size(n uint64) int { return int(min(n, 1<<31-4096)) }

func sendto(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	f := newFrame(t, s, int(int32(a[3])))
	if a[4] != 0 && a[5] != 0 {
		f.msg.Addr, err = address(t, a[4], a[5])
	}
	n := 0
	if err == nil {
		f.user = t.Mem().Src(a[1], size(a[2]))
		n, err = f.send(o)
	}
	f.free()
	_ = o.Release()
	return uint64(n), err
}

func recvfrom(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	f := newFrame(t, s, int(int32(a[3])))
	f.user = t.Mem().Dst(a[1], size(a[2]))
	n, err := f.recv(o)
	if err == nil && a[4] != 0 {
		err = putAddress(t, &f.msg.Addr, a[4], a[5])
	}
	f.free()
	_ = o.Release()
	return uint64(n), err
}

// Offsets in a struct msghdr.
const (
	msgName       = 0
	msgNameLen    = 8
	msgIov        = 16
	msgIovLen     = 24
	msgControl    = 32
	msgControlLen = 40
	msgFlags      = 48
)

// header reads a struct msghdr and the iovecs it points to.
func (f *frame) header(addr uint64) error {
	if err := f.t.Mem().CopyIn(f.head[:], addr); err != nil {
		return err
	}
	return f.iovecs(le.Uint64(f.head[msgIov:]), le.Uint64(f.head[msgIovLen:]))
}

func sendmsg(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	f := newFrame(t, s, int(int32(a[2])))
	n, err := f.sendMessage(o, a[1])
	f.free()
	_ = o.Release()
	return uint64(n), err
}

func (f *frame) sendMessage(o *fd.Open, addr uint64) (int, error) {
	if err := f.header(addr); err != nil {
		return 0, err
	}
	if p, n := le.Uint64(f.head[msgName:]), le.Uint32(f.head[msgNameLen:]); p != 0 && n != 0 {
		if int32(n) < 0 {
			return 0, syscall.EINVAL
		}
		b := f.name[:min(n, abi.SizeofSockaddrMax)]
		if err := f.t.Mem().CopyIn(b, p); err != nil {
			return 0, err
		}
		var err error
		if f.msg.Addr, err = sock.ParseAddr(b); err != nil {
			return 0, err
		}
	}
	if n := le.Uint64(f.head[msgControlLen:]); n != 0 {
		if err := f.control(le.Uint64(f.head[msgControl:]), n); err != nil {
			return 0, err
		}
	}
	return f.send(o)
}

// maxControl is net.core.optmem_max: ENOBUFS beyond.
const maxControl = 20480

// control reads the control messages of a send.
func (f *frame) control(addr, n uint64) error {
	if n > maxControl {
		return syscall.ENOBUFS
	}
	b := f.bytes(int(n))
	if err := f.t.Mem().CopyIn(b, addr); err != nil {
		return err
	}
	domain, typ, _ := f.s.Kind()
	c := &f.msg.Control
	if err := sock.ParseControl(domain, typ, b, c); err != nil {
		return err
	}
	for _, n := range c.FDs {
		r, err := f.t.Files().Get(int(n))
		if err != nil {
			return err
		}
		c.Rights = append(c.Rights, r)
	}
	if u, ok := f.s.(interface{ MayPass(int) bool }); ok && len(c.Rights) > 0 && !u.MayPass(len(c.Rights)) {
		return syscall.ETOOMANYREFS
	}
	return nil
}

func recvmsg(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	f := newFrame(t, s, int(int32(a[2])))
	n, err := f.recvMessage(o, a[1])
	f.free()
	_ = o.Release()
	return uint64(n), err
}

func (f *frame) recvMessage(o *fd.Open, addr uint64) (int, error) {
	if err := f.header(addr); err != nil {
		return 0, err
	}
	room := int(int32(le.Uint32(f.head[msgNameLen:])))
	if room < 0 {
		return 0, syscall.EINVAL
	}
	n, err := f.recv(o)
	if err != nil {
		return 0, err
	}
	mem := f.t.Mem()
	if p := le.Uint64(f.head[msgName:]); p != 0 {
		k := f.msg.Addr.Put(f.name[:])
		if err := mem.CopyOut(p, f.name[:min(k, room)]); err != nil {
			return 0, err
		}
		le.PutUint32(f.head[msgNameLen:], uint32(k))
		if err := mem.CopyOut(addr+msgNameLen, f.head[msgNameLen:msgNameLen+4]); err != nil {
			return 0, err
		}
	}
	flags := f.msg.Flags | f.flags&abi.MSG_CMSG_CLOEXEC
	used, err := f.putControl(&flags)
	if err != nil {
		return 0, err
	}
	le.PutUint64(f.head[msgControlLen:], uint64(used))
	le.PutUint32(f.head[msgFlags:], uint32(flags))
	return n, mem.CopyOut(addr+msgControlLen, f.head[msgControlLen:msgFlags+4])
}

// putControl writes the control messages of a receive to where the header says, and
// returns how many bytes that were. Descriptors that come in are installed.
func (f *frame) putControl(flags *int) (int, error) {
	c := &f.msg.Control
	if c.Have == 0 {
		return 0, nil
	}
	at, n := le.Uint64(f.head[msgControl:]), le.Uint64(f.head[msgControlLen:])
	if at == 0 {
		n = 0
	}
	e := sock.Encoder{B: f.bytes(int(min(n, maxControl)))}
	e.Put(c)
	if c.Have&sock.HasRights != 0 {
		f.putRights(&e)
	}
	if e.Trunc {
		*flags |= syscall.MSG_CTRUNC
	}
	return e.N, f.t.Mem().CopyOut(at, e.B[:e.N])
}

func (f *frame) putRights(e *sock.Encoder) {
	c := &f.msg.Control
	room := e.RightsRoom()
	fds := c.FDs[:0]
	for i, r := range c.Rights {
		o, ok := r.(*fd.Open)
		if !ok || len(fds) >= room {
			e.Trunc = true
			break
		}
		n, err := f.t.Files().Install(o, 0, f.flags&abi.MSG_CMSG_CLOEXEC != 0)
		if err != nil {
			e.Trunc = true
			break
		}
		c.Rights[i] = nil
		fds = append(fds, int32(n))
	}
	for _, r := range c.Rights[len(fds):] { // no room for these
		_ = r.Release()
	}
	clear(c.Rights)
	c.Rights = c.Rights[:0]
	c.FDs = fds
	if len(fds) > 0 {
		e.PutRights(fds)
	}
}

func sendmmsg(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	count := min(uint32(a[2]), abi.UIO_MAXIOV)
	for i := range uint64(count) {
		at := a[1] + i*abi.SizeofMmsghdr
		f := newFrame(t, s, int(int32(a[3])))
		n, err := f.sendMessage(o, at)
		f.free()
		if err == nil {
			err = putLen(t, at, n)
		}
		if err != nil {
			if i > 0 {
				return i, nil
			}
			return 0, err
		}
	}
	return uint64(count), nil
}

// putLen writes msg_len of a struct mmsghdr.
func putLen(t *task.Task, at uint64, n int) error {
	var b [4]byte
	le.PutUint32(b[:], uint32(n))
	return t.Mem().CopyOut(at+abi.SizeofMsghdr, b[:])
}

func recvmmsg(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	var end time.Time
	if a[4] != 0 {
		var b [16]byte
		if err := t.Mem().CopyIn(b[:], a[4]); err != nil {
			return 0, err
		}
		sec, ns := int64(le.Uint64(b[:])), int64(le.Uint64(b[8:]))
		if sec < 0 || ns < 0 || ns >= 1e9 {
			return 0, syscall.EINVAL
		}
		end = time.Now().Add(time.Duration(min(sec, 1<<32))*time.Second + time.Duration(ns))
	}
	flags := int(int32(a[3]))
	one := flags&abi.MSG_WAITFORONE != 0
	flags &^= abi.MSG_WAITFORONE
	count := min(uint32(a[2]), abi.UIO_MAXIOV)
	for i := range uint64(count) {
		at := a[1] + i*abi.SizeofMmsghdr
		f := newFrame(t, s, flags)
		n, err := f.recvMessage(o, at)
		f.free()
		if err == nil {
			err = putLen(t, at, n)
		}
		if err != nil {
			if i > 0 {
				return i, nil
			}
			return 0, err
		}
		if one {
			flags |= syscall.MSG_DONTWAIT
		}
		if !end.IsZero() && !time.Now().Before(end) { // the time is looked at after each one
			return i + 1, nil
		}
	}
	return uint64(count), nil
}
