package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"osv/appliances/memcached/options"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/udp"
)

// world is a server and a way to reach it.
type world struct {
	t    *testing.T
	s    *Server
	dial func() (net.Conn, error)
	// exchange sends a datagram and returns the reply.
	exchange func(req string) string
	udp      net.Conn
	limit    time.Duration // of one exchange
}

// engines are the ways to serve that each test goes through: on the sockets of
// the operating system, and on our own stack over a wire in memory.
var engines = []string{"linux", "socket", "batch", "channel"}

func each(t *testing.T, f func(t *testing.T, w *world), args ...string) {
	for _, e := range engines {
		t.Run(e, func(t *testing.T) { f(t, newWorld(t, e, args...)) })
	}
}

func parse(t testing.TB, args ...string) options.Options {
	t.Helper()
	o, err := options.Parse(args, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func newWorld(t *testing.T, engine string, args ...string) *world {
	t.Helper()
	w := &world{t: t, limit: 30 * time.Second}
	args = append([]string{"-m", "64", "-t", "2"}, args...)
	if engine == "linux" {
		w.onLinux(args)
	} else {
		w.onStack(append(args, "-engine="+engine))
	}
	return w
}

func (w *world) start(o options.Options, h Host) {
	w.t.Helper()
	s, err := New(o, h)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.s = s
}

func (w *world) onLinux(args []string) {
	t := w.t
	// Ports that are free now; the listeners are ours from the start.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := parse(t, append(args, "-p", "0")...)
	h := NewHosted(o, 2)
	h.Out = io.Discard
	w.start(o, h)
	w.s.Serve(l)
	w.s.ServePacket(pc)
	t.Cleanup(func() { w.s.Close() })
	w.dial = func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
	c, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w.udp = c
	w.exchange = func(req string) string { return w.exchangeOn(c, req) }
}

var stackAddr = [2]netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.2/24")}

func (w *world) onStack(args []string) {
	t := w.t
	n, err := simnet.New(simnet.Config{Bufs: 4096, Ring: 1024})
	if err != nil {
		t.Fatal(err)
	}
	o := parse(t, append(args, "-p", "11211", "-U", "11211")...)
	var hosts [2]*OnStack
	for i := range hosts {
		if hosts[i], err = NewOnStack(o, 2, n.Links[i], stackAddr[i]); err != nil {
			t.Fatal(err)
		}
		hosts[i].Out = io.Discard
	}
	w.start(o, hosts[0])
	server := netip.AddrPortFrom(stackAddr[0].Addr(), 11211)
	w.dial = func() (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), w.limit)
		defer cancel()
		return hosts[1].Dial(ctx, server)
	}
	c, err := udp.Dial(hosts[1].Stack(), netip.AddrPort{}, server, udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.udp = c
	w.exchange = func(req string) string { return w.exchangeOn(c, req) }
	t.Cleanup(func() {
		c.Close()
		for _, e := range []error{w.s.Close(), hosts[1].Close(), hosts[0].Close(), n.Close()} {
			if e != nil {
				t.Error(e)
			}
		}
	})
}

// exchangeOn sends one request and puts its reply's datagrams together.
func (w *world) exchangeOn(c net.Conn, req string) string {
	w.t.Helper()
	c.SetDeadline(time.Now().Add(w.limit))
	if _, err := c.Write(append([]byte{0, 9, 0, 0, 0, 1, 0, 0}, req...)); err != nil {
		w.t.Fatal(err)
	}
	var parts []string
	for got, total := 0, 1; got < total; got++ {
		b := make([]byte, 2000)
		n, err := c.Read(b)
		if err != nil || n < 8 {
			w.t.Fatalf("reply to %.60q: %d bytes, %v", req, n, err)
		}
		total = int(binary.BigEndian.Uint16(b[4:]))
		if parts == nil {
			parts = make([]string, total)
		}
		parts[binary.BigEndian.Uint16(b[2:])] = string(b[8:n])
	}
	return strings.Join(parts, "")
}

// client is a connection with a reader.
type client struct {
	net.Conn
	*bufio.Reader
	t testing.TB
}

func (c *client) Read(b []byte) (int, error) { return c.Reader.Read(b) }

func (w *world) connect() *client {
	w.t.Helper()
	nc, err := w.dial()
	if err != nil {
		w.t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(w.limit))
	w.t.Cleanup(func() { nc.Close() })
	return &client{nc, bufio.NewReader(nc), w.t}
}

// ask sends a request and reads a reply of the same length as want.
func (c *client) ask(req, want string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, req); err != nil {
		c.t.Fatalf("%.60q: %v", req, err)
	}
	c.expect(req, want)
}

func (c *client) expect(req, want string) {
	c.t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c.Reader, b); err != nil || string(b) != want {
		c.t.Fatalf("%.60q: %.200q %v, want %.200q", req, b[:n], err, want)
	}
}

// closed expects the end of the connection.
func (c *client) closed() {
	c.t.Helper()
	if b, err := io.ReadAll(c.Reader); len(b) > 0 {
		c.t.Fatalf("%.60q and %v instead of the end", b, err)
	}
}

// stat is one of the server's statistics.
func (w *world) stat(name string) string {
	w.t.Helper()
	c := w.connect()
	defer c.Close()
	c.ask("stats\r\n", "")
	v := "none"
	for {
		line, err := c.ReadString('\n')
		if err != nil {
			w.t.Fatal(err)
		}
		if line == "END\r\n" {
			return v
		}
		if f := strings.Fields(line); f[1] == name {
			v = f[2]
		}
	}
}

// settles waits until f holds: for what happens in other goroutines.
func settles(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func bigValue(n int) string { return string(bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]) }
