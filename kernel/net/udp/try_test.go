package udp

import (
	"net/netip"
	"syscall"
	"testing"

	"osv/kernel/hw/dma"
	"osv/kernel/net/stack"
)

// bytesOf is a Src and a Dst.
type bytesOf struct {
	b   []byte
	pos int
	err error
}

func (s *bytesOf) Left() int { return len(s.b) - s.pos }
func (s *bytesOf) Room() int { return len(s.b) - s.pos }
func (s *bytesOf) Take(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n := copy(p, s.b[s.pos:])
	s.pos += n
	return n, nil
}

func (s *bytesOf) Put(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n := copy(s.b[s.pos:], p)
	s.pos += n
	return n, nil
}

// manual is a stack with loopback that runs when told to.
func manual(t *testing.T) *stack.Stack {
	t.Helper()
	s, err := stack.New(stack.Config{Mem: new(dma.Host), Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func listenTry(t *testing.T, s *stack.Stack, at string, o Options) *Conn {
	t.Helper()
	if o.Arrival == nil {
		o.Arrival = func() {}
	}
	c, err := Listen(s, netip.MustParseAddrPort(at), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func sendTry(t *testing.T, c *Conn, p string, to netip.AddrPort) error {
	t.Helper()
	return c.TryWriteFrom(&bytesOf{b: []byte(p)}, len(p), &Message{Addr: to}, false)
}

func readTry(c *Conn, peek bool) (string, Message, error) {
	d := bytesOf{b: make([]byte, 100)}
	var m Message
	n, err := c.TryReadTo(&d, &m, peek)
	return string(d.b[:n]), m, err
}

func TestTryReadAndWrite(t *testing.T) {
	s := manual(t)
	arrived := 0
	a := listenTry(t, s, "127.0.0.1:1000", Options{Arrival: func() { arrived++ }})
	b := listenTry(t, s, "127.0.0.1:2000", Options{})
	if _, _, err := readTry(a, false); err != ErrWouldBlock {
		t.Error(err)
	}
	b.SetLife(9, 0, 16)
	for _, p := range []string{"one", "two"} {
		if err := sendTry(t, b, p, a.LocalAddrPort()); err != nil {
			t.Fatal(err)
		}
	}
	s.Poll()
	if arrived == 0 || !a.Waiting() || a.HasErr() {
		t.Error("nothing has arrived")
	}
	if n, ok := a.NextLen(); n != 3 || !ok {
		t.Error(n, ok)
	}
	for _, x := range []struct {
		want string
		peek bool
	}{{"one", true}, {"one", false}, {"two", false}} {
		if got, m, err := readTry(a, x.peek); got != x.want || err != nil || m.N != 3 || m.Addr != b.LocalAddrPort() || m.TTL != 9 || m.TOS != 16 {
			t.Errorf("%q %+v %v, want %q", got, m, err, x.want)
		}
	}
	if n, err := a.TryReadTo(&bytesOf{}, new(Message), true); n != 0 || err != ErrWouldBlock {
		t.Error(n, err)
	}
	if _, ok := a.NextLen(); ok || a.Waiting() {
		t.Error("still something there")
	}
	// A datagram that goes by way of fragments, and one that may not.
	long := make([]byte, 20000)
	if err := b.TryWriteFrom(&bytesOf{b: long}, len(long), &Message{Addr: a.LocalAddrPort()}, true); err != syscall.EMSGSIZE {
		t.Error(err)
	}
	if err := b.TryWriteFrom(&bytesOf{b: long}, len(long), &Message{Addr: a.LocalAddrPort()}, false); err != nil {
		t.Error(err)
	}
	s.Poll()
	d := bytesOf{b: make([]byte, 30000)}
	if n, err := a.TryReadTo(&d, new(Message), false); n != len(long) || err != nil {
		t.Error(n, err)
	}
	// Memory that cannot be reached.
	if err := b.TryWriteFrom(&bytesOf{b: long, err: syscall.EFAULT}, 10, &Message{Addr: a.LocalAddrPort()}, false); err != syscall.EFAULT {
		t.Error(err)
	}
	sendTry(t, b, "x", a.LocalAddrPort())
	s.Poll()
	if _, err := a.TryReadTo(&bytesOf{b: make([]byte, 5), err: syscall.EFAULT}, new(Message), false); err != syscall.EFAULT {
		t.Error(err)
	}
	if err := sendTry(t, b, "x", netip.AddrPort{}); err != syscall.EDESTADDRREQ {
		t.Error(err)
	}
	if err := sendTry(t, b, "x", netip.MustParseAddrPort("127.0.0.1:0")); err != syscall.EINVAL {
		t.Error(err)
	}
	if mtu, err := b.PathMTU(netip.MustParseAddr("127.0.0.1")); mtu != 8192 || err != nil {
		t.Error(mtu, err)
	}
}

func TestConnectAndDisconnect(t *testing.T) {
	s := manual(t)
	c := listenTry(t, s, "[::]:1000", Options{})
	peer := listenTry(t, s, "127.0.0.1:2000", Options{})
	other := listenTry(t, s, "127.0.0.1:3000", Options{})
	at := netip.MustParseAddrPort("127.0.0.1:1000")
	sendTry(t, other, "before", at)
	s.Poll()
	if err := c.Connect(netip.Addr{}, peer.LocalAddrPort()); err != nil {
		t.Fatal(err)
	}
	if c.LocalAddrPort() != at || c.RemoteAddrPort() != peer.LocalAddrPort() {
		t.Error(c)
	}
	sendTry(t, other, "refused", at)
	sendTry(t, peer, "taken", at)
	s.Poll()
	for _, want := range []string{"before", "taken"} {
		if got, _, err := readTry(c, false); got != want || err != nil {
			t.Errorf("%q %v, want %q", got, err, want)
		}
	}
	if err := sendTry(t, c, "to the peer", netip.AddrPort{}); err != nil {
		t.Error(err)
	}
	s.Poll()
	if got, _, _ := readTry(peer, false); got != "to the peer" {
		t.Error(got)
	}
	// A second socket may have the port meanwhile: it gets what the first does not.
	second := listenTry(t, s, "127.0.0.1:1000", Options{})
	if err := c.Connect(netip.Addr{}, other.LocalAddrPort()); err != nil {
		t.Fatal(err)
	}
	sendTry(t, peer, "to the second", at)
	sendTry(t, other, "to the first", at)
	s.Poll()
	if got, _, _ := readTry(second, false); got != "to the second" {
		t.Error(got)
	}
	if got, _, _ := readTry(c, false); got != "to the first" {
		t.Error(got)
	}
	if err := second.Connect(netip.Addr{}, other.LocalAddrPort()); err != syscall.EADDRINUSE {
		t.Error(err)
	}
	if err := c.Disconnect(netip.MustParseAddr("127.0.0.1")); err != syscall.EADDRINUSE {
		t.Error(err)
	}
	second.Close()
	if err := c.Disconnect(netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	sendTry(t, peer, "again", at)
	s.Poll()
	if got, _, err := readTry(c, false); got != "again" {
		t.Error(got, err)
	}
	// Nobody there: the error is told once.
	if err := c.Connect(netip.Addr{}, netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
		t.Fatal(err)
	}
	sendTry(t, c, "x", netip.AddrPort{})
	s.Poll()
	if !c.HasErr() {
		t.Error("no error")
	}
	if _, _, err := readTry(c, false); err != syscall.ECONNREFUSED {
		t.Error(err)
	}
	if err := c.TakeErr(); err != nil {
		t.Error(err)
	}
	c.Leave()
	if s.PortInUse(17, 1000) {
		t.Error("the port is still taken")
	}
	if err := c.Rebind(netip.MustParseAddrPort("[::]:1001")); err != nil {
		t.Fatal(err)
	}
	if err := c.Rebind(netip.MustParseAddrPort("127.0.0.1:2000")); err != syscall.EADDRINUSE {
		t.Error(err)
	}
	sendTry(t, peer, "elsewhere", netip.MustParseAddrPort("127.0.0.1:1001"))
	s.Poll()
	if got, _, err := readTry(c, false); got != "elsewhere" {
		t.Error(got, err)
	}
}

func TestSharedPort(t *testing.T) {
	s := manual(t)
	for _, spread := range []bool{true, false} {
		o := Options{Share: true, Spread: spread}
		members := []*Conn{listenTry(t, s, "127.0.0.1:1000", o), listenTry(t, s, "127.0.0.1:1000", o)}
		if _, err := Listen(s, netip.MustParseAddrPort("127.0.0.1:1000"), Options{}); err == nil {
			t.Error("a socket that does not share has the port")
		}
		for range 40 {
			c := listenTry(t, s, "127.0.0.1:0", Options{})
			sendTry(t, c, "x", netip.MustParseAddrPort("127.0.0.1:1000"))
			s.Poll()
			c.Close()
		}
		var got [2]int
		for i, m := range members {
			for {
				if _, _, err := readTry(m, false); err != nil {
					break
				}
				got[i]++
			}
		}
		if got[0]+got[1] != 40 || spread && (got[0] == 0 || got[1] == 0) || !spread && got[0] != 0 {
			t.Errorf("spread %v: %v", spread, got)
		}
		members[0].Close()
		members[1].Close()
		if s.PortInUse(17, 1000) {
			t.Error("the port is still taken")
		}
	}
}
