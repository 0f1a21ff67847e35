package tcpsock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/netns"
	"osv/kernel/net/stack"
	"osv/kernel/net/taplink"
	"osv/kernel/net/tcpstack"
)

// The tests of this file talk to the TCP of the machine's Linux, over a TAP
// device in a namespace of their own.

func TestMain(m *testing.M) { netns.Main(m) }

type linuxWorld struct {
	host   *Host
	v4, v6 [2]netip.Addr // ours, Linux's
}

func newLinuxWorld(t testing.TB, offload bool) *linuxWorld {
	t.Helper()
	netns.Require(t)
	mem := &dma.Host{}
	l, err := taplink.Open("osv0", taplink.Options{Mem: mem, Offload: offload, Bufs: 4096})
	if err != nil {
		t.Fatal(err)
	}
	w := &linuxWorld{
		v4: [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")},
		v6: [2]netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")},
	}
	netns.Up(t, "osv0", netip.PrefixFrom(w.v4[1], 24), netip.PrefixFrom(w.v6[1], 64))
	s, err := stack.New(stack.Config{Mem: mem, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddLink(l, stack.IfConfig{Addrs: []netip.Prefix{netip.PrefixFrom(w.v4[0], 24), netip.PrefixFrom(w.v6[0], 64)}}); err != nil {
		t.Fatal(err)
	}
	ts := tcpstack.New(s)
	if w.host, err = New(ts, Config{Mem: mem}); err != nil {
		t.Fatal(err)
	}
	ts.SetNoFlow(w.host)
	t.Cleanup(func() {
		if t.Failed() {
			for _, ifc := range s.Interfaces() {
				t.Logf("%s: %+v %+v", ifc.Name(), ifc.Counters(), ifc.Link().Stats())
			}
		}
		for _, err := range []error{w.host.Close(), s.Close(), l.Release()} {
			if err != nil {
				t.Error(err)
			}
		}
		if n := mem.Live(); n != 0 {
			t.Errorf("%d regions of memory left", n)
		}
	})
	return w
}

func linuxModes(t *testing.T, f func(t *testing.T, w *linuxWorld, ours, theirs netip.Addr)) {
	for _, offload := range []bool{false, true} {
		for _, v6 := range []bool{false, true} {
			name := "plain"
			if offload {
				name = "offload"
			}
			if v6 {
				name += "6"
			}
			t.Run(name, func(t *testing.T) {
				w := newLinuxWorld(t, offload)
				a := w.v4
				if v6 {
					a = w.v6
				}
				f(t, w, a[0], a[1])
			})
		}
	}
}

// exchange moves octets both ways at once and closes.
func exchange(t *testing.T, a, b net.Conn, size int) {
	t.Helper()
	da, db := pattern(size, 1), pattern(size/2, 2)
	var wg sync.WaitGroup
	move := func(c net.Conn, out, want []byte) {
		wg.Go(func() {
			if n, err := c.Write(out); n != len(out) || err != nil {
				t.Errorf("wrote %d of %d: %v", n, len(out), err)
			}
			c.(interface{ CloseWrite() error }).CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d octets, want %d: %v", len(got), len(want), err)
			}
		})
	}
	move(a, da, db)
	move(b, db, da)
	wg.Wait()
	a.Close()
	b.Close()
}

func TestLinuxAnswers(t *testing.T) {
	linuxModes(t, func(t *testing.T, w *linuxWorld, ours, theirs netip.Addr) {
		l, err := net.Listen("tcp", netip.AddrPortFrom(theirs, 7000).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for range 3 {
			ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
			a, err := w.host.Dial(ctx, netip.AddrPort{}, netip.AddrPortFrom(theirs, 7000))
			stop()
			if err != nil {
				t.Fatal(err)
			}
			b, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, a, b, 4<<20)
		}
	})
}

func TestLinuxAsks(t *testing.T) {
	linuxModes(t, func(t *testing.T, w *linuxWorld, ours, theirs netip.Addr) {
		l, err := w.host.Listen(netip.AddrPortFrom(netip.IPv6Unspecified(), 7000), ListenConfig{})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			b, err := net.DialTimeout("tcp", netip.AddrPortFrom(ours, 7000).String(), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			a, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, a, b, 4<<20)
		}
	})
}

func TestLinuxHTTP(t *testing.T) {
	w := newLinuxWorld(t, true)
	l, err := w.host.Listen(netip.AddrPortFrom(w.v4[0], 80), ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	body := pattern(30000, 5)
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { rw.Write(body) })}
	go srv.Serve(l)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			tr := &http.Transport{}
			client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
			for i := range 100 {
				r, err := client.Get("http://10.0.0.1/")
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d octets, %v", len(got), err)
				}
				if i%10 == 9 {
					tr.CloseIdleConnections()
				}
			}
		})
	}
	wg.Wait()
	srv.Shutdown(context.Background())
}

func TestLinuxResets(t *testing.T) {
	w := newLinuxWorld(t, false)
	// Nobody listens, either way.
	if _, err := w.host.Dial(context.Background(), netip.AddrPort{}, netip.AddrPortFrom(w.v4[1], 9)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("our dial: %v", err)
	}
	if _, err := net.DialTimeout("tcp", "10.0.0.1:9", 5*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Linux's dial: %v", err)
	}
	l, err := w.host.Listen(netip.AddrPortFrom(w.v4[0], 80), ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	pair := func() (*Conn, *net.TCPConn) {
		t.Helper()
		b, err := net.DialTimeout("tcp", "10.0.0.1:80", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		a, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		return a, b.(*net.TCPConn)
	}
	a, b := pair()
	b.SetLinger(0)
	b.Close()
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Linux aborts: %v", err)
	}
	a, b = pair()
	a.SetLinger(0)
	a.Close()
	b.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("we abort: %v", err)
	}
	b.Close()
	// Octets not read: a RST takes the place of the FIN.
	a, b = pair()
	b.Write([]byte("unread"))
	b.SetDeadline(time.Now().Add(5 * time.Second))
	for a.Info().Readable == 0 {
		a.Ready()
		time.Sleep(time.Millisecond)
	}
	a.Close()
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("we close with octets unread: %v", err)
	}
	b.Close()
}

// What a stream reaches on the TAP device, for the log.
func TestLinuxStream(t *testing.T) {
	if testing.Short() {
		t.Skip("measures")
	}
	for _, offload := range []bool{false, true} {
		for _, send := range []bool{false, true} {
			t.Run(fmt.Sprintf("offload=%v/send=%v", offload, send), func(t *testing.T) { linuxStream(t, offload, send) })
		}
	}
}

func linuxStream(t *testing.T, offload, send bool) {
	w := newLinuxWorld(t, offload)
	l, err := w.host.Listen(netip.AddrPortFrom(w.v4[0], 80), ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	const size = 256 << 20
	b, err := net.DialTimeout("tcp", "10.0.0.1:80", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	var from, to net.Conn = b, a
	if send {
		from, to = a, b
	}
	start := time.Now()
	go func() {
		p := make([]byte, 128<<10)
		for n := 0; n < size; n += len(p) {
			if _, err := from.Write(p); err != nil {
				t.Error(err)
				return
			}
		}
		from.Close()
	}()
	p := make([]byte, 128<<10)
	n := 0
	for {
		k, err := to.Read(p)
		n += k
		if err != nil {
			break
		}
	}
	d := time.Since(start)
	i := a.Info()
	t.Logf("%.2f Gbit/s; cwnd %d, srtt %v, %d retransmits, %d timeouts, in %d out %d",
		float64(n)*8/1e9/d.Seconds(), i.Cwnd, i.SRTT, i.Retransmits, i.Timeouts, i.SegsIn, i.SegsOut)
	if n != size {
		t.Errorf("%d octets", n)
	}
	a.Close()
	b.Close()
}
