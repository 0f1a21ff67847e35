package sock

import (
	"sync/atomic"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// unix is a socket of AF_UNIX. What it has received waits in its inbox, which
// senders put into; all else that involves two sockets happens with unixTable.mu
// held, so that no two sockets are ever locked at once. The words that sending and
// receiving look at are atomic.
type unix struct {
	base
	in     inbox
	peer   atomic.Pointer[unix] // the other end, or where datagrams go
	state  atomic.Uint32        // unixIdle and so on
	shut   atomic.Uint32        // shutRd, shutWr
	dead   atomic.Bool          // closed
	err    atomic.Int32         // SO_ERROR
	name   atomic.Pointer[Addr] // bound to; nil for unnamed
	sent   atomic.Int64         // bytes of this socket's in inboxes
	passed atomic.Bool          // SO_PASSCRED

	// Guarded by unixTable.mu.
	key      nodeKey // of a path
	byNode   bool
	cred     Cred // of who made or connected it
	peerCred Cred
	hasPeer  bool
	pending  []*unix // of a listener: ends that wait for accept
	backlog  int
}

const (
	unixIdle uint32 = iota
	unixListening
	unixConnected
)

func (n *Net) newUnix(typ, proto int) (*unix, error) {
	switch typ {
	case syscall.SOCK_STREAM, syscall.SOCK_DGRAM, syscall.SOCK_SEQPACKET:
	case syscall.SOCK_RAW: // as Linux has it
		typ = syscall.SOCK_DGRAM
	default:
		return nil, syscall.ESOCKTNOSUPPORT
	}
	if proto != 0 && proto != syscall.AF_UNIX {
		return nil, syscall.EPROTONOSUPPORT
	}
	s := &unix{}
	s.init(n, syscall.AF_UNIX, typ, 0)
	n.open.add(s, &s.base)
	return s, nil
}

// stream says that octets have no borders, byConn that there is a connection.
func (s *unix) stream() bool { return s.typ == syscall.SOCK_STREAM }
func (s *unix) byConn() bool { return s.typ != syscall.SOCK_DGRAM }

// pair joins two fresh sockets.
func (s *unix) pair(o *unix, c Cred) {
	s.cred, s.peerCred, s.hasPeer = c, c, true
	o.cred, o.peerCred, o.hasPeer = c, c, true
	s.peer.Store(o)
	o.peer.Store(s)
	if s.byConn() {
		s.state.Store(unixConnected)
		o.state.Store(unixConnected)
	}
}

// Ready is unix_poll and unix_dgram_poll.
func (s *unix) Ready() poll.Events {
	var e poll.Events
	if s.err.Load() != 0 {
		e |= poll.Err
	}
	shut, state := s.shut.Load(), s.state.Load()
	if shut == shutRd|shutWr {
		e |= poll.Hup
	}
	if shut&shutRd != 0 {
		e |= poll.RdHup | poll.In
	}
	if s.byConn() && state == unixIdle {
		e |= poll.Hup
	}
	if state == unixListening {
		t := &s.net.unix
		t.mu.Lock()
		if len(s.pending) > 0 {
			e |= poll.In
		}
		t.mu.Unlock()
		return e
	}
	if s.in.count.Load() > 0 {
		e |= poll.In
	}
	if s.writable() {
		e |= poll.Out
	}
	return e
}

// writable says that a waiting sender has a reason to try: three quarters of the
// buffer are free, and the receiver's queue is not full.
func (s *unix) writable() bool {
	if s.sent.Load()*4 > int64(s.sndLimit()) {
		return false
	}
	if s.stream() {
		return true
	}
	o := s.peer.Load()
	if o == nil || o.peer.Load() == s || !o.in.full() {
		return true
	}
	o.in.waitFor(s)
	return !o.in.full()
}

// sndLimit is SO_SNDBUF.
func (s *unix) sndLimit() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sndBuf()
}

// takeErr is SO_ERROR, which is gone then.
func (s *unix) takeErr() syscall.Errno { return syscall.Errno(s.err.Swap(0)) }

// Bind is bind(2): to a path, to a name in the abstract space, or, with no name at
// all, to one that is chosen there.
func (s *unix) Bind(c Caller, a *Addr) error {
	if a.Family != syscall.AF_UNIX {
		return syscall.EINVAL
	}
	t := &s.net.unix
	if s.name.Load() != nil {
		return syscall.EINVAL
	}
	name := a.Path
	var node vfs.Node
	if name != "" && name[0] != 0 {
		var err error
		if node, err = c.MakeSocket(name); err != nil {
			if err == syscall.EEXIST {
				err = syscall.EADDRINUSE
			}
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.name.Load() != nil {
		return syscall.EINVAL
	}
	return t.bind(s, name, node)
}

// Listen is listen(2).
func (s *unix) Listen(c Caller, backlog int) error {
	if !s.byConn() {
		return syscall.EOPNOTSUPP
	}
	t := &s.net.unix
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.name.Load() == nil || s.state.Load() == unixConnected {
		return syscall.EINVAL
	}
	s.backlog = int(min(uint32(backlog), abi.SOMAXCONN))
	s.cred = c.Cred()
	s.state.Store(unixListening)
	return nil
}

// Accept takes a connection that waits.
func (s *unix) Accept(flags int) (Socket, Addr, error) {
	if !s.byConn() {
		return nil, Addr{}, syscall.EOPNOTSUPP
	}
	t := &s.net.unix
	t.mu.Lock()
	if s.state.Load() != unixListening {
		t.mu.Unlock()
		return nil, Addr{}, syscall.EINVAL
	}
	if len(s.pending) == 0 {
		t.mu.Unlock()
		if s.shut.Load()&shutRd != 0 && flags&syscall.MSG_DONTWAIT == 0 {
			return nil, Addr{}, syscall.EINVAL
		}
		return nil, Addr{}, syscall.EAGAIN
	}
	n := s.pending[0]
	s.pending = append(s.pending[:0:0], s.pending[1:]...)
	t.mu.Unlock()
	s.in.wake(poll.Out) // those who found no room
	from := Addr{Family: syscall.AF_UNIX}
	if p := n.peer.Load(); p != nil {
		from = p.LocalAddr()
	}
	return n, from, nil
}

// Connect is connect(2). It never takes time: EAGAIN says that the listener's queue is
// full, and Out is told when it may have room.
func (s *unix) Connect(c Caller, a *Addr) error {
	if a.Family == syscall.AF_UNSPEC && !s.byConn() {
		s.setPeer(nil)
		return nil
	}
	if a.Family != syscall.AF_UNIX || a.Path == "" {
		return syscall.EINVAL
	}
	o, err := s.net.unix.find(c, a.Path, s.typ)
	if err != nil {
		return err
	}
	if o.typ != s.typ {
		return syscall.EPROTOTYPE
	}
	if !s.byConn() {
		if p := o.peer.Load(); p != nil && p != s {
			return syscall.EPERM
		}
		s.setPeer(o)
		return nil
	}
	return s.connectTo(o, c.Cred())
}

// setPeer changes where datagrams go, nil for nowhere.
func (s *unix) setPeer(o *unix) {
	t := &s.net.unix
	t.mu.Lock()
	old := s.peer.Swap(o)
	t.mu.Unlock()
	if old == nil || old == o {
		return
	}
	if s.in.drop(false) && old.peer.Load() == s && !old.dead.Load() {
		old.err.Store(int32(syscall.ECONNRESET))
		old.list.Notify(poll.Err)
	}
}

// connectTo makes s one end of a connection whose other end waits for o's Accept.
func (s *unix) connectTo(o *unix, c Cred) error {
	t := &s.net.unix
	t.mu.Lock()
	if o.dead.Load() || o.state.Load() != unixListening || o.shut.Load()&shutRd != 0 {
		t.mu.Unlock()
		return syscall.ECONNREFUSED
	}
	if len(o.pending) > o.backlog {
		t.mu.Unlock()
		o.in.waitFor(s)
		return syscall.EAGAIN
	}
	switch s.state.Load() {
	case unixConnected:
		t.mu.Unlock()
		return syscall.EISCONN
	case unixListening:
		t.mu.Unlock()
		return syscall.EINVAL
	}
	n, _ := s.net.newUnix(s.typ, 0)
	n.name.Store(o.name.Load())
	n.cred, n.peerCred, n.hasPeer = o.cred, c, true
	s.cred, s.peerCred, s.hasPeer = c, o.cred, true
	o.mu.Lock()
	n.opt.passCred = o.opt.passCred
	n.opt.sndBuf = o.opt.sndBuf
	o.mu.Unlock()
	n.passed.Store(n.opt.passCred)
	n.peer.Store(s)
	s.peer.Store(n)
	s.shut.Store(0)
	n.state.Store(unixConnected)
	s.state.Store(unixConnected)
	o.pending = append(o.pending, n)
	t.mu.Unlock()
	o.list.Notify(poll.In)
	s.list.Notify(poll.Out)
	return nil
}

// Connected is what Connect said.
func (s *unix) Connected() error {
	if s.byConn() && s.state.Load() != unixConnected {
		return syscall.EAGAIN
	}
	return nil
}

// Shutdown is shutdown(2). It tells the other end of a connection.
func (s *unix) Shutdown(how int) error {
	if how < syscall.SHUT_RD || how > syscall.SHUT_RDWR {
		return syscall.EINVAL
	}
	bits := uint32(how + 1)
	t := &s.net.unix
	t.mu.Lock()
	s.shut.Or(bits)
	o := s.peer.Load()
	t.mu.Unlock()
	s.list.Notify(poll.In | poll.Out | poll.Hup | poll.RdHup)
	if o != nil && s.byConn() {
		o.shut.Or(bits>>1 | bits&1<<1)
		o.list.Notify(poll.In | poll.Out | poll.Hup | poll.RdHup)
	}
	if s.state.Load() == unixListening {
		s.in.wake(poll.Out)
	}
	return nil
}

// LocalAddr is getsockname(2).
func (s *unix) LocalAddr() Addr {
	if a := s.name.Load(); a != nil {
		return *a
	}
	return Addr{Family: syscall.AF_UNIX}
}

// PeerAddr is getpeername(2).
func (s *unix) PeerAddr() (Addr, error) {
	o := s.peer.Load()
	if o == nil {
		return Addr{}, syscall.ENOTCONN
	}
	return o.LocalAddr(), nil
}

// Close ends the socket: the other end of a connection reads what there is and then
// the end, or ECONNRESET where this one had not read all.
func (s *unix) Close() error {
	s.net.open.remove(s)
	t := &s.net.unix
	t.mu.Lock()
	if s.dead.Swap(true) {
		t.mu.Unlock()
		return nil
	}
	t.unbind(s)
	pending := s.pending
	s.pending = nil
	o := s.peer.Load()
	if s.byConn() {
		s.shut.Store(shutRd | shutWr)
	} else {
		s.peer.Store(nil)
	}
	t.mu.Unlock()

	unread := s.in.drop(true)
	if o != nil && s.byConn() && !o.dead.Load() {
		if unread {
			o.err.Store(int32(syscall.ECONNRESET))
		}
		o.shut.Store(shutRd | shutWr)
		o.list.Notify(poll.In | poll.Out | poll.Hup | poll.RdHup | poll.Err)
	}
	for _, n := range pending { // nobody accepts them any more
		n.refuse()
	}
	s.net.collect()
	return nil
}

// refuse ends a connection that nobody has accepted.
func (s *unix) refuse() {
	if o := s.peer.Load(); o != nil {
		o.err.Store(int32(syscall.ECONNRESET))
	}
	_ = s.Close()
}

// SetOption is setsockopt(2).
func (s *unix) SetOption(level, name int, v []byte) error {
	if level != syscall.SOL_SOCKET {
		return syscall.EOPNOTSUPP
	}
	switch name {
	case abi.SO_REUSEPORT:
		if n, err := intArg(v); err != nil || n != 0 {
			return syscall.EOPNOTSUPP
		}
	case abi.SO_ZEROCOPY:
		return syscall.EOPNOTSUPP
	}
	err := s.setSocket(name, v)
	if name == abi.SO_PASSCRED && err == nil {
		s.mu.Lock()
		s.passed.Store(s.opt.passCred)
		s.mu.Unlock()
	}
	if name == syscall.SO_SNDBUF && err == nil {
		s.list.Notify(poll.Out)
	}
	return err
}

// Option is getsockopt(2).
func (s *unix) Option(level, name int, v []byte) (int, error) {
	if level != syscall.SOL_SOCKET {
		return 0, syscall.EOPNOTSUPP
	}
	switch name {
	case syscall.SO_ERROR:
		return putInt(v, int(s.takeErr()))
	case syscall.SO_ACCEPTCONN:
		return putBool(v, s.state.Load() == unixListening)
	case abi.SO_PEERCRED:
		t := &s.net.unix
		t.mu.Lock()
		c, ok := s.peerCred, s.hasPeer
		if s.state.Load() == unixListening {
			c, ok = s.cred, true
		}
		t.mu.Unlock()
		if !ok {
			c = Cred{0, 1<<32 - 1, 1<<32 - 1}
		}
		var b [abi.SizeofUcred]byte
		ne.PutUint32(b[:], c.PID)
		ne.PutUint32(b[4:], c.UID)
		ne.PutUint32(b[8:], c.GID)
		return copy(v, b[:]), nil
	case abi.SO_PEERGROUPS:
		return 0, nil
	case abi.SO_PEERSEC:
		return 0, syscall.ENOPROTOOPT
	}
	return s.socketOption(name, v)
}

// Control is ioctl(2).
func (s *unix) Control(mem vfs.Memory, req uint32, arg uint64) (uint64, error) {
	switch req {
	case abi.SIOCINQ:
		if s.state.Load() == unixListening {
			return 0, syscall.EINVAL
		}
		return 0, putArg(mem, arg, s.in.readable(s.byConn()))
	case abi.SIOCOUTQ:
		return 0, putArg(mem, arg, int(s.sent.Load()))
	}
	return 0, syscall.ENOTTY
}
