// Package net is the system calls of sockets: socket(2) to recvmmsg(2).
//
// Spec: Linux 6.1 (net/socket.c) and man-pages 6.03, section 2. It decodes arguments,
// calls kernel/linux/sock, waits by kernel/linux/fd where a call may, and encodes
// results. Who may use it: kernel/linux joins Calls into the table. read(2), write(2),
// poll and ioctl of sockets are sys/file's business, as of any other file.
//
// Start reading at Calls, then frame.go.
package net

import (
	"encoding/binary"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/sock"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

var le = binary.LittleEndian

// Numbers that package syscall does not have.
const sysSendmmsg = 307

// Calls are this topic's entries, for the sockets of n.
func Calls(n *sock.Net) []sys.Entry {
	c := &calls{n}
	const (
		options = "what the stack has no use for is kept and told again; no filters (SO_ATTACH_FILTER, _BPF), no TCP_MD5SIG, TCP_REPAIR, TCP_ULP"
		data    = "no MSG_ERRQUEUE (EAGAIN), MSG_ZEROCOPY and MSG_FASTOPEN as without; urgent data is in line; AF_UNIX without MSG_OOB"
	)
	return []sys.Entry{
		{Nr: syscall.SYS_SOCKET, Name: "socket", Level: sys.Partial, Fn: c.socket, Sig: "ddd",
			Note: "AF_UNIX, AF_INET, AF_INET6 (stream, datagram, seqpacket of AF_UNIX), AF_NETLINK (NETLINK_ROUTE: dumps of links, addresses, routes); no SOCK_RAW, AF_PACKET, AF_VSOCK"},
		{Nr: syscall.SYS_SOCKETPAIR, Name: "socketpair", Level: sys.Full, Fn: c.socketpair, Sig: "dddp"},
		{Nr: syscall.SYS_BIND, Name: "bind", Level: sys.Full, Fn: bind, Sig: "fpu"},
		{Nr: syscall.SYS_LISTEN, Name: "listen", Level: sys.Full, Fn: listen, Sig: "fd"},
		{Nr: syscall.SYS_ACCEPT, Name: "accept", Level: sys.Full, Fn: accept, Sig: "fpp"},
		{Nr: syscall.SYS_ACCEPT4, Name: "accept4", Level: sys.Full, Fn: accept4, Sig: "fppx"},
		{Nr: syscall.SYS_CONNECT, Name: "connect", Level: sys.Full, Fn: connect, Sig: "fpu"},
		{Nr: syscall.SYS_SHUTDOWN, Name: "shutdown", Level: sys.Full, Fn: shutdown, Sig: "fd"},
		{Nr: syscall.SYS_GETSOCKNAME, Name: "getsockname", Level: sys.Full, Fn: getsockname, Sig: "fpp"},
		{Nr: syscall.SYS_GETPEERNAME, Name: "getpeername", Level: sys.Full, Fn: getpeername, Sig: "fpp"},
		{Nr: syscall.SYS_SETSOCKOPT, Name: "setsockopt", Level: sys.Partial, Fn: setsockopt, Sig: "fddpu", Note: options},
		{Nr: syscall.SYS_GETSOCKOPT, Name: "getsockopt", Level: sys.Partial, Fn: getsockopt, Sig: "fddpp", Note: options},
		{Nr: syscall.SYS_SENDTO, Name: "sendto", Level: sys.Partial, Fn: sendto, Sig: "fbuxpu", Note: data},
		{Nr: syscall.SYS_RECVFROM, Name: "recvfrom", Level: sys.Partial, Fn: recvfrom, Sig: "fBuxpp", Note: data},
		{Nr: syscall.SYS_SENDMSG, Name: "sendmsg", Level: sys.Partial, Fn: sendmsg, Sig: "fpx", Note: data},
		{Nr: syscall.SYS_RECVMSG, Name: "recvmsg", Level: sys.Partial, Fn: recvmsg, Sig: "fpx", Note: data},
		{Nr: sysSendmmsg, Name: "sendmmsg", Level: sys.Partial, Fn: sendmmsg, Sig: "fpux", Note: data},
		{Nr: syscall.SYS_RECVMMSG, Name: "recvmmsg", Level: sys.Partial, Fn: recvmmsg, Sig: "fpuxp", Note: data},
	}
}

type calls struct{ net *sock.Net }

// caller is a task as sockets see it.
type caller struct{ t *task.Task }

func (c caller) Cred() sock.Cred {
	k := c.t.Creds()
	return sock.Cred{PID: uint32(c.t.Proc().PID()), UID: k.EUID, GID: k.EGID}
}

func (c caller) Privileged() bool { return c.t.Creds().Has(vfs.CapSysAdmin) }

func (c caller) MakeSocket(path string) (vfs.Node, error) {
	p, err := vfs.MknodAt(c.t.FS(), vfs.Path{}, path, vfs.TypeSocket, 0o777, 0)
	if err != nil {
		return nil, err
	}
	return p.Node(), nil
}

func (c caller) FindSocket(path string) (vfs.Node, error) {
	p, err := vfs.Walk(c.t.FS(), vfs.Path{}, path, vfs.Follow)
	if err != nil {
		return nil, err
	}
	if err := vfs.MayAccess(c.t.FS().Creds, p, vfs.MayWrite); err != nil {
		return nil, err
	}
	if p.Type() != vfs.TypeSocket {
		return nil, syscall.ECONNREFUSED
	}
	return p.Node(), nil
}

// open finds the socket that a descriptor names. The caller releases the open file.
func open(t *task.Task, n uint64) (*fd.Open, sock.Socket, error) {
	o, err := t.Files().Get(int(int32(n)))
	if err != nil {
		return nil, nil, err
	}
	s, ok := o.File().(sock.Socket)
	if !ok {
		_ = o.Release()
		return nil, nil, syscall.ENOTSOCK
	}
	return o, s, nil
}

// install gives a new socket a descriptor.
func install(t *task.Task, s sock.Socket, flags int) (int, error) {
	o := fd.NewOpen(s, syscall.O_RDWR|flags&syscall.O_NONBLOCK)
	n, err := t.Files().Install(o, 0, flags&abi.SOCK_CLOEXEC != 0)
	if err != nil {
		_ = o.Release()
	}
	return n, err
}

const typeFlags = abi.SOCK_NONBLOCK | abi.SOCK_CLOEXEC

func (c *calls) socket(t *task.Task, a *sys.Args) (uint64, error) {
	typ := int(int32(a[1]))
	if typ&^(abi.SOCK_TYPE_MASK|typeFlags) != 0 {
		return 0, syscall.EINVAL
	}
	s, err := c.net.Socket(int(int32(a[0])), typ&abi.SOCK_TYPE_MASK, int(int32(a[2])))
	if err != nil {
		return 0, err
	}
	n, err := install(t, s, typ)
	return uint64(n), err
}

func (c *calls) socketpair(t *task.Task, a *sys.Args) (uint64, error) {
	typ := int(int32(a[1]))
	if typ&^(abi.SOCK_TYPE_MASK|typeFlags) != 0 {
		return 0, syscall.EINVAL
	}
	x, y, err := c.net.Pair(caller{t}, int(int32(a[0])), typ&abi.SOCK_TYPE_MASK, int(int32(a[2])))
	if err != nil {
		return 0, err
	}
	n, err := install(t, x, typ)
	if err != nil {
		_ = y.Close()
		return 0, err
	}
	m, err := install(t, y, typ)
	if err != nil {
		_ = t.Files().Close(n)
		return 0, err
	}
	var b [8]byte
	le.PutUint32(b[:], uint32(n))
	le.PutUint32(b[4:], uint32(m))
	if err := t.Mem().CopyOut(a[3], b[:]); err != nil {
		_ = t.Files().Close(n)
		_ = t.Files().Close(m)
		return 0, err
	}
	return 0, nil
}

// address reads a struct sockaddr of n bytes.
func address(t *task.Task, addr uint64, n uint64) (sock.Addr, error) {
	size := int(int32(n))
	if size < 0 || size > abi.SizeofSockaddrMax {
		return sock.Addr{}, syscall.EINVAL
	}
	var b [abi.SizeofSockaddrMax]byte
	if err := t.Mem().CopyIn(b[:size], addr); err != nil {
		return sock.Addr{}, err
	}
	return sock.ParseAddr(b[:size])
}

// putAddress writes an address to where a program wants it, as far as *length, an int,
// says that there is room, and sets *length to how long it is.
func putAddress(t *task.Task, a *sock.Addr, addr, length uint64) error {
	if addr == 0 {
		return nil
	}
	var w [4]byte
	if err := t.Mem().CopyIn(w[:], length); err != nil {
		return err
	}
	room := int(int32(le.Uint32(w[:])))
	if room < 0 {
		return syscall.EINVAL
	}
	var b [abi.SizeofSockaddrMax]byte
	n := a.Put(b[:])
	if err := t.Mem().CopyOut(addr, b[:min(n, room)]); err != nil {
		return err
	}
	le.PutUint32(w[:], uint32(n))
	return t.Mem().CopyOut(length, w[:])
}

func bind(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	to, err := address(t, a[1], a[2])
	if err != nil {
		return 0, err
	}
	if int(int32(a[2])) > 2 || to.Family != syscall.AF_UNIX { // else a name is to be chosen
		if to.Family == syscall.AF_INET && to.Inet.Port() != 0 && to.Inet.Port() < 1024 && !t.Creds().Has(capNetBindService) {
			return 0, syscall.EACCES
		}
		if to.Family == syscall.AF_INET6 && to.Inet.Port() != 0 && to.Inet.Port() < 1024 && !t.Creds().Has(capNetBindService) {
			return 0, syscall.EACCES
		}
	}
	return 0, s.Bind(caller{t}, &to)
}

// capNetBindService is what ports below 1024 want.
const capNetBindService = vfs.Cap(10)

func listen(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	return 0, s.Listen(caller{t}, int(int32(a[1])))
}

func accept(t *task.Task, a *sys.Args) (uint64, error) { return accept1(t, a, 0) }

func accept4(t *task.Task, a *sys.Args) (uint64, error) {
	flags := int(int32(a[3]))
	if flags&^typeFlags != 0 {
		return 0, syscall.EINVAL
	}
	return accept1(t, a, flags)
}

func accept1(t *task.Task, a *sys.Args, flags int) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	n, err := t.Files().Reserve(0, flags&abi.SOCK_CLOEXEC != 0)
	if err != nil {
		return 0, err
	}
	c, from, err := acceptWait(t, o, s)
	if err != nil {
		t.Files().Unreserve(n)
		return 0, err
	}
	if err := putAddress(t, &from, a[1], a[2]); err != nil {
		t.Files().Unreserve(n)
		_ = c.Close()
		return 0, err
	}
	t.Files().Set(n, fd.NewOpen(c, syscall.O_RDWR|flags&syscall.O_NONBLOCK))
	return uint64(n), nil
}

func shutdown(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	return 0, s.Shutdown(int(int32(a[1])))
}

func getsockname(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	l := s.LocalAddr()
	return 0, putName(t, &l, a)
}

func getpeername(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	r, err := s.PeerAddr()
	if err != nil {
		return 0, err
	}
	return 0, putName(t, &r, a)
}

// putName is putAddress for calls whose very purpose it is: a null pointer is EFAULT.
func putName(t *task.Task, n *sock.Addr, a *sys.Args) error {
	if a[1] == 0 {
		return syscall.EFAULT
	}
	return putAddress(t, n, a[1], a[2])
}

// maxOption is the most bytes of an option's value that are looked at.
const maxOption = 512

func setsockopt(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	n := int(int32(a[4]))
	if n < 0 {
		return 0, syscall.EINVAL
	}
	b := make([]byte, min(n, maxOption))
	if err := t.Mem().CopyIn(b, a[3]); err != nil {
		return 0, err
	}
	return 0, s.SetOption(int(int32(a[1])), int(int32(a[2])), b)
}

func getsockopt(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	var w [4]byte
	if err := t.Mem().CopyIn(w[:], a[4]); err != nil {
		return 0, err
	}
	n := int(int32(le.Uint32(w[:])))
	if n < 0 {
		return 0, syscall.EINVAL
	}
	b := make([]byte, min(n, maxOption))
	k, err := s.Option(int(int32(a[1])), int(int32(a[2])), b)
	if err != nil {
		return 0, err
	}
	if err := t.Mem().CopyOut(a[3], b[:k]); err != nil {
		return 0, err
	}
	le.PutUint32(w[:], uint32(k))
	return 0, t.Mem().CopyOut(a[4], w[:])
}
