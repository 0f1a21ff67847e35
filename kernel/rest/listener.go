package rest

import (
	"net"
	"net/netip"
	"sync"
)

// limitListener closes connections beyond a number, of all clients and of one, as
// soon as they are made: slow ones cannot take all the memory there is.
type limitListener struct {
	net.Listener
	s              *Server
	all, perClient int

	mu    sync.Mutex
	open  int
	whose map[netip.Addr]int
}

func (s *Server) limit(l net.Listener) net.Listener {
	return &limitListener{Listener: l, s: s, all: s.cfg.MaxConns, perClient: s.cfg.MaxClientConns, whose: map[netip.Addr]int{}}
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who := clientOf(c.RemoteAddr().String())
		if l.admit(who) {
			return &limitConn{Conn: c, l: l, who: who}, nil
		}
		c.Close()
	}
}

func (l *limitListener) admit(who netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.all:
		l.s.refused.conns.Add(1)
		return false
	case l.whose[who] >= l.perClient:
		l.s.refused.clientConns.Add(1)
		return false
	}
	l.open++
	l.whose[who]++
	return true
}

func (l *limitListener) release(who netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.whose[who]--; l.whose[who] == 0 {
		delete(l.whose, who)
	}
}

type limitConn struct {
	net.Conn
	l    *limitListener
	who  netip.Addr
	once sync.Once
}

func (c *limitConn) Close() error {
	c.once.Do(func() { c.l.release(c.who) })
	return c.Conn.Close()
}
