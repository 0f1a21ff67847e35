// Package sock is Linux's sockets: AF_INET and AF_INET6 over the network stack,
// AF_UNIX, and as much of AF_NETLINK as tells a program its interfaces, addresses
// and routes.
//
// Spec: Linux 6.1 (net/socket.c, net/core/sock.c, net/ipv4, net/ipv6, net/unix) as
// man-pages 6.03 describe it: socket(7), ip(7), ipv6(7), tcp(7), udp(7), unix(7),
// netlink(7), rtnetlink(7), netdevice(7). Tests put the same calls to the host's
// Linux and compare. Who may use it: kernel/linux/sys/net, which decodes the calls,
// and the composition in kernel/linux. It knows neither descriptors nor tasks: who
// calls is a Caller, what SCM_RIGHTS passes a Right.
//
// No call waits. What cannot go on is EAGAIN, or EINPROGRESS for connect, and the
// loop in kernel/linux/fd waits by Ready and Watch. Protocol work is done by whoever
// calls: the receive loop of the stack puts packets into a socket's channel and tells
// the waiters; Ready, Recv or Send then take them out.
//
// Locks: a socket's mu is outside those of the stack, unixTable.mu and inbox.read are
// outside every socket's mu, and inbox.mu and poll.List's lock are innermost. No two
// sockets' mu are held at once.
//
// Start reading at Socket, then tcp.go and udp.go, then unix.go.
package sock

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	netsock "osv/kernel/net/sock"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Socket is a socket. Errors are syscall.Errno. Any thread may call any method.
type Socket interface {
	vfs.File
	vfs.Controller

	// Kind is what socket(2) was given.
	Kind() (domain, typ, proto int)

	Bind(c Caller, a *Addr) error
	// Listen is listen(2).
	Listen(c Caller, backlog int) error
	// Accept takes a connection: EAGAIN where none waits. flags may be MSG_DONTWAIT, as
	// those of Recv.
	Accept(flags int) (Socket, Addr, error)
	// Connect connects to a; EINPROGRESS where that takes time: once the socket is
	// Out, or has an error, Connected says how it ended.
	Connect(c Caller, a *Addr) error
	// Connected is nil where the socket is connected, EAGAIN while it is on its way,
	// and the error that ended the attempt otherwise, once.
	Connected() error
	Shutdown(how int) error
	LocalAddr() Addr
	// PeerAddr is getpeername(2): ENOTCONN.
	PeerAddr() (Addr, error)

	// Send sends from s: a datagram is all of it, and a stream takes what there is
	// room for. m may be nil. flags are those of send(2).
	Send(c Caller, s vfs.Src, m *Message, flags int) (int, error)
	// Recv receives into d. m may be nil; else its fields are filled in. Of a datagram
	// that is longer than d the result is its whole length if flags say MSG_TRUNC.
	// MSG_DONTWAIT says that the caller does not wait, also where its descriptor is
	// O_NONBLOCK: a few results differ.
	Recv(d vfs.Dst, m *Message, flags int) (int, error)

	SetOption(level, name int, v []byte) error
	// Option puts the value of an option into v and returns its length; v may be
	// shorter than that, and holds its front then.
	Option(level, name int, v []byte) (int, error)

	// Timeouts are SO_RCVTIMEO and SO_SNDTIMEO: 0 is never.
	Timeouts() (read, write time.Duration)
}

// Message is what goes with data: an address, control messages, flags.
type Message struct {
	Addr    Addr // Send: to where, family 0 for nowhere; Recv: from where
	Control Control
	Flags   int // Recv: MSG_TRUNC, MSG_CTRUNC, MSG_EOR, MSG_OOB
}

// Caller is the thread that makes a call, for those calls that must know.
type Caller interface {
	// Cred is what SO_PEERCRED and SCM_CREDENTIALS tell of it.
	Cred() Cred
	// MakeSocket makes a node for an AF_UNIX socket at a path (EADDRINUSE where there
	// is something), FindSocket finds one to connect to: it follows links, and the
	// caller must be allowed to write to it.
	MakeSocket(path string) (vfs.Node, error)
	FindSocket(path string) (vfs.Node, error)
	// Privileged says whether it may claim credentials that are not its own.
	Privileged() bool
}

// Cred is a struct ucred.
type Cred struct{ PID, UID, GID uint32 }

// Right is an open file description on its way in an SCM_RIGHTS message. Whoever has
// it last gives it back: *fd.Open is one.
type Right interface {
	File() vfs.File
	Hold() // takes one more reference
	Release() error
}

// Config is what sockets are made on.
type Config struct {
	Net *netsock.Net // nil: no AF_INET, AF_INET6, AF_NETLINK
}

// Net is the sockets of one system.
type Net struct {
	stack    *stack.Stack
	tcp      *tcpsock.Host
	ports    portTable // of TCP
	udpPorts portTable
	unix     unixTable

	open       registry
	netlinkPID atomic.Uint32
	cookies    atomic.Uint64
}

// New makes the sockets of a system.
func New(cfg Config) *Net {
	n := &Net{}
	if cfg.Net != nil {
		n.stack, n.tcp = cfg.Net.Stack(), cfg.Net.TCP()
	}
	n.ports.init()
	n.udpPorts.init()
	n.unix.init()
	n.netlinkPID.Store(0x80000000)
	return n
}

// Stack is the stack below, nil without one.
func (n *Net) Stack() *stack.Stack { return n.stack }

// Socket makes a socket. typ has no flags.
func (n *Net) Socket(domain, typ, proto int) (Socket, error) {
	if domain < 0 || domain >= 46 {
		return nil, syscall.EAFNOSUPPORT
	}
	if typ < 0 || typ > 10 {
		return nil, syscall.EINVAL
	}
	switch domain {
	case syscall.AF_UNIX:
		return n.newUnix(typ, proto)
	case syscall.AF_INET, syscall.AF_INET6:
		if n.stack == nil {
			return nil, syscall.EAFNOSUPPORT
		}
		return n.newInet(domain, typ, proto)
	case syscall.AF_NETLINK:
		if n.stack == nil {
			return nil, syscall.EAFNOSUPPORT
		}
		return n.newNetlink(typ, proto)
	}
	return nil, syscall.EAFNOSUPPORT
}

func (n *Net) newInet(domain, typ, proto int) (Socket, error) {
	switch typ {
	case syscall.SOCK_STREAM:
		if proto != 0 && proto != syscall.IPPROTO_TCP {
			return nil, syscall.EPROTONOSUPPORT
		}
		return newTCP(n, domain), nil
	case syscall.SOCK_DGRAM:
		if proto != 0 && proto != syscall.IPPROTO_UDP {
			return nil, syscall.EPROTONOSUPPORT
		}
		return newUDP(n, domain), nil
	case syscall.SOCK_RAW:
		if proto == 0 {
			return nil, syscall.EPROTONOSUPPORT
		}
		return nil, syscall.EPERM // as without CAP_NET_RAW
	}
	return nil, syscall.ESOCKTNOSUPPORT
}

// Pair is socketpair(2): AF_UNIX only.
func (n *Net) Pair(c Caller, domain, typ, proto int) (Socket, Socket, error) {
	a, err := n.Socket(domain, typ, proto)
	if err != nil {
		return nil, nil, err
	}
	b, err := n.Socket(domain, typ, proto)
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	ua, ok := a.(*unix)
	if !ok {
		a.Close()
		b.Close()
		return nil, nil, syscall.EOPNOTSUPP
	}
	ua.pair(b.(*unix), c.Cred())
	return a, b, nil
}

// ifIndex is an interface's number, from 1; 0 where there is none of that name.
func (n *Net) ifIndex(name string) int {
	for i, ifc := range n.stack.Interfaces() {
		if ifc.Name() == name {
			return i + 1
		}
	}
	return 0
}

// ifByIndex is the interface with that number; nil where there is none.
func (n *Net) ifByIndex(i int) *stack.Interface {
	all := n.stack.Interfaces()
	if i < 1 || i > len(all) {
		return nil
	}
	return all[i-1]
}

// ifOf is the number of the interface that has an address of this host.
func (n *Net) ifOf(a netip.Addr) int {
	for i, ifc := range n.stack.Interfaces() {
		if ifc.HasAddr(a) {
			return i + 1
		}
	}
	return 0
}

// base is what all sockets have.
type base struct {
	net         *Net
	domain, typ int
	proto       int
	list        poll.List
	cookie      uint64

	mu  sync.Mutex // guards what follows, and the socket's own state
	opt options

	timeouts [2]atomic.Int64 // ns: SO_RCVTIMEO, SO_SNDTIMEO
}

func (b *base) init(n *Net, domain, typ, proto int) {
	b.net, b.domain, b.typ, b.proto = n, domain, typ, proto
	b.opt.linger = -1
	b.cookie = n.cookies.Add(1)
}

func (b *base) Kind() (domain, typ, proto int) { return b.domain, b.typ, b.proto }

// Node is nil: a socket has an inode of its own, which nobody reaches by a path.
func (b *base) Node() vfs.Node { return nil }

// Seekable is false: ESPIPE.
func (b *base) Seekable() bool { return false }

// Sync of a socket is EINVAL.
func (b *base) Sync(bool) error { return syscall.EINVAL }

// Watch has w told of changes.
func (b *base) Watch(w *poll.Waiter) { b.list.Add(w) }

// Unwatch ends that.
func (b *base) Unwatch(w *poll.Waiter) { b.list.Remove(w) }

// Timeouts are SO_RCVTIMEO and SO_SNDTIMEO.
func (b *base) Timeouts() (read, write time.Duration) {
	return time.Duration(b.timeouts[0].Load()), time.Duration(b.timeouts[1].Load())
}

// Flags of send and recv that every socket knows or may ignore.
const (
	msgOOB      = syscall.MSG_OOB
	msgPeek     = syscall.MSG_PEEK
	msgTrunc    = syscall.MSG_TRUNC
	msgErrQueue = abi.MSG_ERRQUEUE
	msgMore     = abi.MSG_MORE
)

// discard is a Dst that takes n bytes and forgets them.
type discard struct{ n int }

func (d *discard) Room() int { return d.n }
func (d *discard) Put(p []byte) (int, error) {
	k := min(len(p), d.n)
	d.n -= k
	return k, nil
}
