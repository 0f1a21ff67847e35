package sock

import (
	"bytes"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	netsock "osv/kernel/net/sock"
	"osv/kernel/net/stack"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// newWorld is sockets on a stack that has a loopback interface only.
func newWorld(t testing.TB) *Net {
	t.Helper()
	mem := new(dma.Host)
	st, err := stack.New(stack.Config{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	n, err := netsock.New(st, netsock.Config{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		st.Close()
	})
	return New(Config{Net: n})
}

// testCaller is a thread with a file tree of socket nodes.
type testCaller struct {
	cred  Cred
	root  bool
	mu    sync.Mutex
	nodes map[string]*testNode
}

func newCaller() *testCaller {
	return &testCaller{cred: Cred{PID: 42, UID: 1000, GID: 100}, nodes: map[string]*testNode{}}
}

type testNode struct {
	vfs.Node
	ino uint64
}

func (n *testNode) Attr() (vfs.Attr, error) {
	return vfs.Attr{Dev: 1, Ino: n.ino, Type: vfs.TypeSocket}, nil
}

func (c *testCaller) Cred() Cred       { return c.cred }
func (c *testCaller) Privileged() bool { return c.root }
func (c *testCaller) MakeSocket(path string) (vfs.Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[path] != nil {
		return nil, syscall.EEXIST
	}
	c.nodes[path] = &testNode{ino: uint64(len(c.nodes) + 1)}
	return c.nodes[path], nil
}

func (c *testCaller) FindSocket(path string) (vfs.Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[path]; n != nil {
		return n, nil
	}
	return nil, syscall.ENOENT
}

// wait waits until s is ready for one of want, as kernel/linux/fd does.
func wait(t testing.TB, s Socket, want poll.Events) {
	t.Helper()
	c := make(chan struct{}, 1)
	w := poll.Waiter{Notify: func(e poll.Events) bool {
		if e&(want|poll.Err|poll.Hup) == 0 {
			return false
		}
		select {
		case c <- struct{}{}:
		default:
		}
		return true
	}}
	s.Watch(&w)
	defer s.Unwatch(&w)
	end := time.After(10 * time.Second)
	for s.Ready()&(want|poll.Err|poll.Hup) == 0 {
		select {
		case <-c:
		case <-end:
			t.Errorf("not ready for %#x: %#x", want, s.Ready())
			return
		}
	}
}

func in4(port uint16) *Addr {
	return &Addr{Family: syscall.AF_INET, Inet: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
}

func in6(a string, port uint16) *Addr {
	return &Addr{Family: syscall.AF_INET6, Inet: netip.AddrPortFrom(netip.MustParseAddr(a), port)}
}

func send(t testing.TB, s Socket, p string) {
	t.Helper()
	b := vfs.Bytes{B: []byte(p)}
	for b.Left() > 0 {
		_, err := s.Send(nil, &b, nil, 0)
		if err == syscall.EAGAIN {
			wait(t, s, poll.Out)
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

func recv(t testing.TB, s Socket, n int) string {
	t.Helper()
	b := vfs.Bytes{B: make([]byte, n)}
	for b.Room() > 0 {
		k, err := s.Recv(&b, nil, 0)
		if err == syscall.EAGAIN {
			wait(t, s, poll.In)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if k == 0 {
			break
		}
	}
	return string(b.B[:n-b.Room()])
}

// pairTCP is a connection over loopback.
func pairTCP(t testing.TB, n *Net, domain int) (a, b Socket) {
	t.Helper()
	l := must(n.Socket(domain, syscall.SOCK_STREAM, 0))
	defer l.Close()
	any := &Addr{Family: uint16(domain), Inet: netip.AddrPortFrom(anyOf(domain), 0)}
	if err := l.Bind(nil, any); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(nil, 5); err != nil {
		t.Fatal(err)
	}
	to := l.LocalAddr()
	a = must(n.Socket(domain, syscall.SOCK_STREAM, 0))
	if err := a.Connect(nil, &to); err != syscall.EINPROGRESS && err != nil {
		t.Fatal(err)
	}
	wait(t, a, poll.Out)
	if err := a.Connected(); err != nil {
		t.Fatal(err)
	}
	wait(t, l, poll.In)
	b, from, err := l.Accept(0)
	if err != nil {
		t.Fatal(err)
	}
	if from != a.LocalAddr() {
		t.Errorf("accept from %v, want %v", from, a.LocalAddr())
	}
	return a, b
}

func must(s Socket, err error) Socket {
	if err != nil {
		panic(err)
	}
	return s
}

func TestTCPEcho(t *testing.T) {
	n := newWorld(t)
	for _, domain := range []int{syscall.AF_INET, syscall.AF_INET6} {
		a, b := pairTCP(t, n, domain)
		send(t, a, "hello")
		if got := recv(t, b, 5); got != "hello" {
			t.Errorf("got %q", got)
		}
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go send(t, b, string(big))
		if got := recv(t, a, len(big)); got != string(big) {
			t.Error("a megabyte came differently")
		}
		if err := b.Shutdown(syscall.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		if got := recv(t, a, 1); got != "" {
			t.Errorf("after the end: %q", got)
		}
		a.Close()
		b.Close()
	}
}

func TestUDPEcho(t *testing.T) {
	n := newWorld(t)
	a := must(n.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0))
	b := must(n.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM, 0))
	defer a.Close()
	defer b.Close()
	if err := b.Bind(nil, in6("::", 5000)); err != nil {
		t.Fatal(err)
	}
	src := vfs.Bytes{B: []byte("ping")}
	if k, err := a.Send(nil, &src, &Message{Addr: *in4(5000)}, 0); k != 4 || err != nil {
		t.Fatal(k, err)
	}
	wait(t, b, poll.In)
	dst := vfs.Bytes{B: make([]byte, 3)}
	var m Message
	if k, err := b.Recv(&dst, &m, syscall.MSG_PEEK); k != 3 || err != nil || m.Flags != syscall.MSG_TRUNC {
		t.Fatal(k, err, m)
	}
	if want := "::ffff:127.0.0.1"; m.Addr.Inet.Addr().String() != want {
		t.Errorf("from %v, want %s", m.Addr.Inet, want)
	}
	dst = vfs.Bytes{B: make([]byte, 10)}
	if k, err := b.Recv(&dst, &m, 0); k != 4 || err != nil {
		t.Fatal(k, err)
	}
	if _, err := b.Recv(&dst, &m, 0); err != syscall.EAGAIN {
		t.Error(err)
	}
}

func TestUnixStream(t *testing.T) {
	n, c := newWorld(t), newCaller()
	l := must(n.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0))
	if err := l.Bind(c, &Addr{Family: syscall.AF_UNIX, Path: "/run/s"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(c, 1); err != nil {
		t.Fatal(err)
	}
	a := must(n.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0))
	if err := a.Connect(c, &Addr{Family: syscall.AF_UNIX, Path: "/run/s"}); err != nil {
		t.Fatal(err)
	}
	b, _, err := l.Accept(0)
	if err != nil {
		t.Fatal(err)
	}
	send(t, a, "hello")
	if got := recv(t, b, 5); got != "hello" {
		t.Errorf("got %q", got)
	}
	big := string(bytes.Repeat([]byte("0123456789abcdef"), 1<<16))
	go send(t, b, big)
	if recv(t, a, len(big)) != big {
		t.Error("a megabyte came differently")
	}
	a.Close()
	if got := recv(t, b, 1); got != "" {
		t.Error(got)
	}
	src := vfs.Bytes{B: []byte("x")}
	if _, err := b.Send(c, &src, nil, 0); err != syscall.EPIPE {
		t.Error(err)
	}
	b.Close()
	l.Close()
}
