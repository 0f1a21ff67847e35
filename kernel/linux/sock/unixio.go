package sock

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Read is recv without flags.
func (s *unix) Read(d vfs.Dst, _ int64) (int, error) { return s.Recv(d, nil, 0) }

// Write is send without flags.
func (s *unix) Write(src vfs.Src, _ int64, _ bool) (int, int64, error) {
	n, err := s.Send(nil, src, nil, 0)
	return n, 0, err
}

// Send sends to the peer, or a datagram to m.Addr.
func (s *unix) Send(c Caller, src vfs.Src, m *Message, flags int) (int, error) {
	if flags&msgOOB != 0 {
		return 0, syscall.EOPNOTSUPP
	}
	if m != nil && m.Control.Have&HasCred != 0 {
		if own := s.credOf(c); m.Control.Cred != own && (c == nil || !c.Privileged()) {
			return 0, syscall.EPERM
		}
	}
	if s.stream() {
		return s.sendStream(c, src, m)
	}
	return s.sendDatagram(c, src, m)
}

// credOf is what goes with a letter: the caller's, or, for a plain write, those of who
// made the socket.
func (s *unix) credOf(c Caller) Cred {
	if c != nil {
		return c.Cred()
	}
	return s.cred
}

// address fills in what goes with a letter beside its octets. The rights are the
// letter's from then on.
func (s *unix) address(l *letter, c Caller, m *Message) {
	l.from, l.cred = s, s.credOf(c)
	if m == nil {
		return
	}
	if m.Control.Have&HasCred != 0 {
		l.cred = m.Control.Cred
	}
	if m.Control.Have&HasRights != 0 && len(m.Control.Rights) > 0 {
		l.rights = append(l.rights[:0], m.Control.Rights...)
		clear(m.Control.Rights)
		m.Control.Rights = m.Control.Rights[:0]
		m.Control.Have &^= HasRights
		s.net.unix.launch(l.rights)
	}
}

// streamChunk is the most octets of one letter of a stream.
const streamChunk = 65536

func (s *unix) sendStream(c Caller, src vfs.Src, m *Message) (int, error) {
	if m != nil && m.Addr.Family != syscall.AF_UNSPEC {
		if s.state.Load() == unixConnected {
			return 0, syscall.EISCONN
		}
		return 0, syscall.EOPNOTSUPP
	}
	o := s.peer.Load()
	if o == nil {
		return 0, syscall.ENOTCONN
	}
	done := 0
	for {
		if s.shut.Load()&shutWr != 0 || o.dead.Load() || o.shut.Load()&shutRd != 0 {
			if done > 0 {
				return done, nil
			}
			return 0, syscall.EPIPE
		}
		left := src.Left()
		if left == 0 {
			return done, nil
		}
		room := int64(s.sndLimit()) - s.sent.Load()
		if room <= 0 {
			if done > 0 {
				return done, nil
			}
			return 0, syscall.EAGAIN
		}
		n, err := s.sendLetter(o, c, src, m, min(left, streamChunk))
		done += n
		if err != nil {
			if done > 0 {
				err = nil
			}
			return done, err
		}
	}
}

// sendLetter sends n octets of src as one letter.
func (s *unix) sendLetter(o *unix, c Caller, src vfs.Src, m *Message, n int) (int, error) {
	l := newLetter(n)
	if k, err := src.Take(l.data); err != nil {
		if k == 0 || !s.stream() {
			l.free()
			return 0, err
		}
		l.data = l.data[:k]
		n = k
	}
	s.address(l, c, m)
	s.sent.Add(l.cost())
	if !o.in.put(l) {
		s.sent.Add(-l.cost())
		s.net.unix.land(l.rights)
		l.free()
		if s.byConn() {
			return 0, syscall.EPIPE
		}
		return 0, syscall.ECONNREFUSED
	}
	o.list.Notify(poll.In)
	return n, nil
}

func (s *unix) sendDatagram(c Caller, src vfs.Src, m *Message) (int, error) {
	n := src.Left()
	limit := s.sndLimit()
	switch {
	case n > limit-32:
		return 0, syscall.EMSGSIZE
	case s.byConn() && s.state.Load() != unixConnected:
		return 0, syscall.ENOTCONN
	case !s.byConn() && m != nil && m.Addr.Family != syscall.AF_UNSPEC && (m.Addr.Family != syscall.AF_UNIX || m.Addr.Path == ""):
		return 0, syscall.EINVAL
	}
	if e := s.takeErr(); e != 0 {
		return 0, e
	}
	if s.shut.Load()&shutWr != 0 {
		return 0, syscall.EPIPE
	}
	o := s.peer.Load()
	if m != nil && m.Addr.Family != syscall.AF_UNSPEC {
		if !s.byConn() { // SOCK_SEQPACKET ignores it
			var err error
			if o, err = s.sendTo(c, &m.Addr); err != nil {
				return 0, err
			}
		}
	}
	if o == nil {
		return 0, syscall.ENOTCONN
	}
	if p := o.peer.Load(); !s.byConn() && p != nil && p != s {
		return 0, syscall.EPERM
	}
	if o.dead.Load() {
		if s.byConn() {
			return 0, syscall.EPIPE
		}
		if s.peer.CompareAndSwap(o, nil) {
			s.in.drop(false)
		}
		return 0, syscall.ECONNREFUSED
	}
	if o.shut.Load()&shutRd != 0 {
		return 0, syscall.EPIPE
	}
	if s.sent.Load()+int64(n) > int64(limit) {
		return 0, syscall.EAGAIN
	}
	if o != s && o.peer.Load() != s && o.in.full() {
		o.in.waitFor(s)
		if o.in.full() {
			return 0, syscall.EAGAIN
		}
	}
	return s.sendLetter(o, c, src, m, n)
}

// sendTo finds the receiver of one datagram.
func (s *unix) sendTo(c Caller, a *Addr) (*unix, error) {
	o, err := s.net.unix.find(c, a.Path, s.typ)
	if err != nil {
		return nil, err
	}
	if o.typ != s.typ {
		return nil, syscall.EPROTOTYPE
	}
	return o, nil
}

// Recv takes octets of a stream, or a datagram.
func (s *unix) Recv(d vfs.Dst, m *Message, flags int) (int, error) {
	if m != nil {
		m.Addr, m.Control.Have, m.Flags = Addr{}, 0, 0
		m.Control.Rights = m.Control.Rights[:0]
	}
	switch {
	case flags&msgOOB != 0:
		return 0, syscall.EOPNOTSUPP
	case s.stream() && s.state.Load() != unixConnected:
		return 0, syscall.EINVAL
	case s.byConn() && s.state.Load() != unixConnected:
		return 0, syscall.ENOTCONN
	case flags&msgErrQueue != 0:
		return 0, syscall.EAGAIN
	}
	s.in.read.Lock()
	defer s.in.read.Unlock()
	if s.stream() {
		return s.recvStream(d, m, flags)
	}
	return s.recvDatagram(d, m, flags)
}

// recvStream takes octets. Those of letters with rights, or with other credentials
// where the program wants to know them, are not mixed with others.
func (s *unix) recvStream(d vfs.Dst, m *Message, flags int) (int, error) {
	l := s.in.front()
	if l == nil {
		if e := s.takeErr(); e != 0 {
			return 0, e
		}
		if s.shut.Load()&shutRd != 0 {
			return 0, nil
		}
		return 0, syscall.EAGAIN
	}
	want := s.passed.Load()
	peek := flags&msgPeek != 0
	cred := l.cred
	done, room := 0, d.Room()
	s.tell(l, m, want)
	for l != nil && room > 0 && (!want || l.cred == cred) {
		p := l.data[l.off:]
		p = p[:min(len(p), room)]
		n := len(p)
		if flags&msgTrunc == 0 || peek {
			var err error
			if n, err = d.Put(p); err != nil && done+n == 0 {
				return 0, err
			}
		}
		done, room = done+n, room-n
		if peek {
			s.lend(l, m)
			if n < len(p) || len(l.rights) > 0 {
				break
			}
			l = s.in.after(l)
			continue
		}
		rights := s.hand(l, m)
		if l.off += n; l.off < len(l.data) {
			break
		}
		s.in.pop(l)
		l.free()
		if rights {
			break
		}
		l = s.in.front()
	}
	return done, nil
}

func (s *unix) recvDatagram(d vfs.Dst, m *Message, flags int) (int, error) {
	if e := s.takeErr(); e != 0 {
		return 0, e
	}
	l := s.in.front()
	if l == nil {
		if s.shut.Load()&shutRd != 0 && (s.byConn() || flags&syscall.MSG_DONTWAIT == 0) {
			return 0, nil
		}
		return 0, syscall.EAGAIN
	}
	n := min(len(l.data), d.Room())
	var err error
	if n > 0 {
		n, err = d.Put(l.data[:n])
	}
	whole := len(l.data)
	s.tell(l, m, s.passed.Load())
	if m != nil && n < whole {
		m.Flags |= msgTrunc
	}
	if flags&msgPeek == 0 {
		s.hand(l, m)
		s.in.pop(l)
		l.free()
	} else {
		s.lend(l, m)
	}
	if err != nil {
		return 0, err
	}
	if flags&msgTrunc != 0 {
		n = whole
	}
	return n, nil
}

// tell fills in who l is from.
func (s *unix) tell(l *letter, m *Message, cred bool) {
	if m == nil {
		return
	}
	if a := l.from.name.Load(); a != nil { // also where it was bound after it sent
		m.Addr = *a
	}
	if cred {
		m.Control.Have |= HasCred
		m.Control.Cred = l.cred
	}
}

// lend gives a reader with MSG_PEEK references of its own to the rights of l.
func (s *unix) lend(l *letter, m *Message) {
	if m == nil || len(l.rights) == 0 {
		return
	}
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	for _, r := range l.rights {
		r.Hold()
		m.Control.Rights = append(m.Control.Rights, r)
	}
	m.Control.Have |= HasRights
}

// hand gives the rights of l to who reads it, and reports whether there were any. A
// reader that takes no control messages has them closed.
func (s *unix) hand(l *letter, m *Message) bool {
	if len(l.rights) == 0 {
		return false
	}
	s.in.mu.Lock()
	rights := l.rights
	l.rights = nil
	s.in.mu.Unlock()
	s.net.unix.land(rights)
	if m != nil {
		m.Control.Rights = append(m.Control.Rights, rights...)
		m.Control.Have |= HasRights
		return true
	}
	for _, r := range rights {
		_ = r.Release()
	}
	return true
}
