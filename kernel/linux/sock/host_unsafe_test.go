package sock

import (
	"syscall"
	"unsafe"

	"osv/kernel/vfs/poll"
)

// host is the host's Linux.
type host struct{ fds []int }

func (w *host) settle() {}

func fail(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

func (w *host) socket(domain, typ int) error {
	fd, err := syscall.Socket(domain, typ|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		w.fds = append(w.fds, fd)
	}
	return err
}

func (w *host) pair(typ int) error {
	p, err := syscall.Socketpair(syscall.AF_UNIX, typ|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		w.fds = append(w.fds, p[0], p[1])
	}
	return err
}

func (w *host) withAddr(nr uintptr, s int, a *Addr) error {
	var b [128]byte
	n := a.Put(b[:])
	if a.Family == syscall.AF_UNSPEC {
		n = 16
	}
	_, _, e := syscall.Syscall(nr, uintptr(w.fds[s]), uintptr(unsafe.Pointer(&b)), uintptr(n))
	return fail(e)
}

func (w *host) bind(s int, a *Addr) error    { return w.withAddr(syscall.SYS_BIND, s, a) }
func (w *host) connect(s int, a *Addr) error { return w.withAddr(syscall.SYS_CONNECT, s, a) }
func (w *host) listen(s, n int) error        { return syscall.Listen(w.fds[s], n) }
func (w *host) shutdown(s, how int) error    { return syscall.Shutdown(w.fds[s], how) }

func (w *host) getAddr(nr uintptr, s int) (Addr, error) {
	var b [128]byte
	n := uint32(len(b))
	_, _, e := syscall.Syscall(nr, uintptr(w.fds[s]), uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&n)))
	if e != 0 {
		return Addr{}, e
	}
	a, _ := ParseAddr(b[:n])
	return a, nil
}

func (w *host) local(s int) (Addr, error) { return w.getAddr(syscall.SYS_GETSOCKNAME, s) }
func (w *host) peer(s int) (Addr, error)  { return w.getAddr(syscall.SYS_GETPEERNAME, s) }

func (w *host) accept(s int) (Addr, error) {
	var b [128]byte
	n := uint32(len(b))
	fd, _, e := syscall.Syscall6(syscall.SYS_ACCEPT4, uintptr(w.fds[s]), uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&n)), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return Addr{}, e
	}
	w.fds = append(w.fds, int(fd))
	a, _ := ParseAddr(b[:n])
	return a, nil
}

func (w *host) send(s int, p []byte, to *Addr, flags int) (int, error) {
	var b [128]byte
	n := 0
	var q unsafe.Pointer
	if to != nil {
		if n = to.Put(b[:]); n > 0 {
			q = unsafe.Pointer(&b)
		}
	}
	var data unsafe.Pointer
	if len(p) > 0 {
		data = unsafe.Pointer(&p[0])
	}
	k, _, e := syscall.Syscall6(syscall.SYS_SENDTO, uintptr(w.fds[s]), uintptr(data), uintptr(len(p)), uintptr(flags|syscall.MSG_NOSIGNAL), uintptr(q), uintptr(n))
	if e != 0 {
		return 0, e
	}
	return int(k), nil
}

func (w *host) recv(s, n, flags int) (string, int, Addr, error) {
	p := make([]byte, max(n, 1))
	k, _, rf, from, err := recvmsg(w.fds[s], p[:n], flags)
	if err != nil {
		return "", 0, Addr{}, err
	}
	return string(p[:min(k, n)]), k<<8 | rf&0xff, from, nil
}

func recvmsg(fd int, p []byte, flags int) (n, oobn, rf int, from Addr, err error) {
	var name [128]byte
	iov := syscall.Iovec{Len: uint64(len(p))}
	if len(p) > 0 {
		iov.Base = &p[0]
	}
	m := syscall.Msghdr{Name: &name[0], Namelen: uint32(len(name)), Iov: &iov, Iovlen: 1}
	r, _, e := syscall.Syscall(syscall.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), uintptr(flags))
	if e != 0 {
		return 0, 0, 0, Addr{}, e
	}
	if m.Namelen > 0 {
		from, _ = ParseAddr(name[:m.Namelen])
	}
	return int(r), 0, int(m.Flags), from, nil
}

func (w *host) ready(s int) poll.Events {
	type pollfd struct {
		fd              int32
		events, revents int16
	}
	p := pollfd{fd: int32(w.fds[s]), events: int16(poll.Any)}
	syscall.Syscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(&p)), 1, 0)
	return poll.Events(uint16(p.revents)) & poll.Any
}

func (w *host) setInt(s, level, name, v int) error {
	return syscall.SetsockoptInt(w.fds[s], level, name, v)
}

func (w *host) getInt(s, level, name int) (int, error) {
	return syscall.GetsockoptInt(w.fds[s], level, name)
}

func (w *host) inq(s int) (int, error) {
	var n int32
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(w.fds[s]), syscall.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	return int(n), fail(e)
}

func (w *host) close(s int) { syscall.Close(w.fds[s]); w.fds[s] = -1 }
