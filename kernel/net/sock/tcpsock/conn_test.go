package tcpsock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"osv/kernel/ktest/simnet"
	"osv/kernel/net/demux"
	"osv/kernel/net/tcp"
)

func pattern(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 5))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func TestBothWaysAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		net  simnet.Config
	}{
		{"plain", simnet.Config{}},
		{"offloads", simnet.Config{Caps: offloads}},
		{"lossy", simnet.Config{Loss: 0.02, Dup: 0.02, Reorder: 0.02, Seed: 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, worldConfig{net: c.net})
			a, b := w.pair(80)
			da, db := pattern(2<<20, 1), pattern(1<<20, 2)
			var wg sync.WaitGroup
			move := func(c *Conn, out, want []byte) {
				wg.Go(func() {
					if n, err := c.Write(out); n != len(out) || err != nil {
						t.Errorf("wrote %d of %d: %v", n, len(out), err)
					}
					if err := c.CloseWrite(); err != nil {
						t.Error(err)
					}
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
		})
	}
}

func TestHTTPUnmodified(t *testing.T) {
	w := newWorld(t, worldConfig{net: simnet.Config{Caps: offloads}})
	l := w.listen(80)
	body := pattern(100<<10, 3)
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(rw http.ResponseWriter, r *http.Request) {
		in, _ := io.ReadAll(r.Body)
		rw.Write(in)
	})
	mux.HandleFunc("/get", func(rw http.ResponseWriter, r *http.Request) { rw.Write(body) })
	srv := &http.Server{Handler: mux}
	go srv.Serve(l)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, a string) (net.Conn, error) {
		return w.host[0].Dial(ctx, netip.AddrPort{}, netip.MustParseAddrPort(a))
	}}
	client := &http.Client{Transport: tr}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 25 {
				out := pattern(1+i*977, uint64(g*100+i))
				r, err := client.Post("http://10.0.0.2:80/echo", "", bytes.NewReader(out))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err != nil || !bytes.Equal(got, out) {
					t.Errorf("echo of %d octets: %d, %v", len(out), len(got), err)
				}
				if r, err = client.Get("http://10.0.0.2:80/get"); err != nil {
					t.Error(err)
					return
				}
				got, _ = io.ReadAll(r.Body)
				r.Body.Close()
				if !bytes.Equal(got, body) {
					t.Errorf("got %d octets", len(got))
				}
			}
		})
	}
	wg.Wait()
	tr.CloseIdleConnections()
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestManyConnections(t *testing.T) {
	w := newWorld(t, worldConfig{net: simnet.Config{Bufs: 8192}})
	l := w.listen(7)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			served.Go(func() {
				if _, err := io.Copy(c, c); err != nil {
					t.Error(err)
				}
				c.Close()
			})
		}
	})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 30 {
				c := w.dial(7)
				out := pattern(1+i*100, uint64(g))
				c.Write(out)
				c.CloseWrite()
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, out) {
					t.Errorf("%d octets of %d, %v", len(got), len(out), err)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	l.Close()
	served.Wait()
	if n := w.host[0].TimeWaits() + w.host[1].TimeWaits(); n == 0 {
		t.Error("no connection in TIME-WAIT")
	}
}

func TestWriteToReadFrom(t *testing.T) {
	w := newWorld(t, worldConfig{net: simnet.Config{Caps: offloads}})
	a, b := w.pair(80)
	out := pattern(1<<20, 9)
	go func() {
		if n, err := a.ReadFrom(bytes.NewReader(out)); n != int64(len(out)) || err != nil {
			t.Errorf("ReadFrom: %d, %v", n, err)
		}
		a.Close()
	}()
	var got bytes.Buffer
	if n, err := b.WriteTo(&got); n != int64(len(out)) || err != nil || !bytes.Equal(got.Bytes(), out) {
		t.Errorf("WriteTo: %d, %v", n, err)
	}
}

func TestHalfClose(t *testing.T) {
	w := newWorld(t, worldConfig{})
	a, b := w.pair(80)
	a.CloseWrite()
	if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write: %v", err)
	}
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	b.Write([]byte("still"))
	p := make([]byte, 10)
	if n, err := a.Read(p); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	a.CloseRead()
	if _, err := a.Read(p); err != io.EOF {
		t.Errorf("read after CloseRead: %v", err)
	}
}

func TestPortZero(t *testing.T) {
	w := newWorld(t, worldConfig{})
	l, err := w.host[1].Listen(netip.AddrPortFrom(netip.IPv4Unspecified(), 0), ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	go w.dial(port)
	if _, err := l.Accept(); err != nil {
		t.Error(err)
	}
	if _, err := w.host[1].Listen(netip.AddrPortFrom(netip.IPv4Unspecified(), port), ListenConfig{}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: %v", err)
	}
}

func TestLoopback(t *testing.T) {
	w := newWorld(t, worldConfig{})
	l := w.listen(80)
	a, err := w.host[1].Dial(context.Background(), netip.AddrPort{}, netip.MustParseAddrPort("10.0.0.2:80"))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := l.AcceptTCP()
	out := pattern(1<<20, 4)
	go func() {
		a.Write(out)
		a.Close()
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, out) {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

// A peer that sends while the application does something else gets its ACKs all
// the same, from the timer.
func TestIdleApplication(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	a, b := w.pair(80)
	if n, err := a.TryWrite(make([]byte, 30000)); n != 30000 || err != nil {
		t.Fatal(n, err)
	}
	w.advance(50 * time.Millisecond)
	if i := a.Info(); i.Unacked != 0 || i.Unsent != 0 {
		t.Errorf("%d octets not acknowledged, %d not sent", i.Unacked, i.Unsent)
	}
	if i := b.Info(); i.Readable != 30000 {
		t.Errorf("%d octets to read", i.Readable)
	}
	if w.host[1].Stats.IdleDrains.Load() == 0 {
		t.Error("nobody came")
	}
}

// More segments than the channel holds take the slow path, in order.
func TestChannelFull(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true, net: simnet.Config{Ring: 4096, Bufs: 8192}})
	a, b := w.pair(80)
	a.SetWriteBuffer(4 << 20)
	b.SetReadBuffer(4 << 20)
	a.SetNoDelay(true)
	out := pattern(40000, 6)
	for i := range out { // one octet a segment
		for {
			n, err := a.TryWrite(out[i : i+1])
			if n == 1 {
				break
			}
			if err != ErrWouldBlock {
				t.Fatal(err)
			}
			w.advance(10 * time.Millisecond)
		}
		if i%700 == 0 {
			w.poll() // the channel fills, nobody reads
		}
	}
	got := make([]byte, len(out))
	n := 0
	for rounds := 0; n < len(got); {
		k, err := b.TryRead(got[n:])
		n += k
		if err == ErrWouldBlock && rounds < 100 {
			w.advance(100 * time.Millisecond)
			rounds++
		} else if err != nil {
			t.Fatal(n, err, a.Info(), b.Info())
		}
	}
	if !bytes.Equal(got, out) {
		t.Error("wrong octets")
	}
	if i := b.Info(); i.OutOfOrder != 0 {
		t.Errorf("%d segments out of order", i.OutOfOrder)
	}
	if w.stack[1].Interfaces()[1].Counters().Reasons[demux.ChanFull.String()] == 0 {
		t.Error("the channel was never full")
	}
}

func TestReadiness(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	a, b := w.pair(80)
	if r := b.Ready(); r != Writable {
		t.Errorf("at first: %b", r)
	}
	if _, err := b.TryRead(make([]byte, 1)); err != ErrWouldBlock {
		t.Errorf("TryRead: %v", err)
	}
	calls := 0
	b.SetNotify(func() { calls++ })
	a.TryWrite([]byte("x"))
	w.poll()
	if calls == 0 {
		t.Error("not notified of an octet")
	}
	if r := b.Ready(); r != Readable|Writable {
		t.Errorf("with an octet: %b", r)
	}
	b.TryRead(make([]byte, 1))
	for {
		if _, err := b.TryWrite(make([]byte, 10000)); err == ErrWouldBlock {
			break
		}
	}
	if r := b.Ready(); r != 0 {
		t.Errorf("with a full buffer: %b", r)
	}
	calls = 0
	for a.drain(); a.Info().Readable < 60000; a.drain() {
		w.advance(10 * time.Millisecond)
		a.TryRead(make([]byte, 10000))
		if b.Ready()&Writable != 0 {
			break
		}
	}
	if calls == 0 || b.Ready()&Writable == 0 {
		t.Errorf("%d calls, %b", calls, b.Ready())
	}
	a.Close()
	w.advance(time.Second)
	if r := b.Ready(); r&(HungUp|Failed) == 0 || r&Readable == 0 {
		t.Errorf("after the peer's close: %b", r)
	}
	b.SetNotify(nil)
}

func TestTimeWaitBoundAndReuse(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true, host: Config{MaxTimeWait: 3}})
	l := w.listen(80)
	src, path, _ := w.host[1].stack.Route(netip.Addr{}, hostAddr[0])
	_ = src
	closeBoth := func(port uint16) {
		t.Helper()
		tu := tcp.Tuple{Local: addr(0, port), Remote: addr(1, 80)}
		_, p, _ := w.host[0].stack.Route(netip.Addr{}, hostAddr[1])
		a, err := w.host[0].open(tu, p, &DialConfig{Options: tcp.Options{NoDelay: true}})
		if err != nil {
			t.Fatal(err)
		}
		w.poll()
		a.drain()
		w.poll()
		b, err := l.TryAccept()
		if err != nil {
			t.Fatalf("port %d: %v", port, err)
		}
		b.Close() // the server closes first, and waits
		w.advance(20 * time.Millisecond)
		a.Close()
		w.advance(20 * time.Millisecond)
	}
	for i := range uint16(5) {
		closeBoth(5000 + i)
	}
	if n := w.host[1].TimeWaits(); n != 3 {
		t.Errorf("%d in TIME-WAIT, want 3", n)
	}
	if n := w.host[1].Stats.TimeWaitDropped.Load(); n != 2 {
		t.Errorf("%d dropped, want 2", n)
	}
	closeBoth(5004) // the tuple is in TIME-WAIT still
	if n := w.host[1].Stats.TimeWaitReused.Load(); n != 1 {
		t.Errorf("%d reused, want 1", n)
	}
	w.advance(2 * time.Minute)
	if n := w.host[1].TimeWaits(); n != 0 {
		t.Errorf("%d in TIME-WAIT after 2 MSL", n)
	}
	_ = path
}

// Connections that come and go in every way at once: nothing may be lost or left
// behind, whatever the order (osv-facts §1.1: teardown races).
func TestTeardownStress(t *testing.T) {
	w := newWorld(t, worldConfig{net: simnet.Config{Bufs: 8192, Dup: 0.05, Reorder: 0.05, Seed: 3}})
	l := w.listen(80)
	var wg, served sync.WaitGroup
	served.Go(func() {
		for i := 0; ; i++ {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			served.Go(func() {
				switch i % 4 {
				case 0:
					io.Copy(io.Discard, c)
					c.Close()
				case 1:
					c.Write(make([]byte, 5000))
					c.Close()
				case 2:
					c.SetLinger(0)
					c.Close()
				case 3:
					go c.Read(make([]byte, 100))
					go c.Write(make([]byte, 100000))
					c.Close()
				}
			})
		}
	})
	for g := range 4 {
		wg.Go(func() {
			for i := range 60 {
				ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
				c, err := w.host[0].Dial(ctx, netip.AddrPort{}, addr(1, 80))
				stop()
				if err != nil {
					if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.ECONNREFUSED) {
						t.Error(err)
					}
					continue
				}
				switch (i + g) % 3 {
				case 0:
					c.Write(make([]byte, 3000))
					go c.Close()
					c.Read(make([]byte, 10))
				case 1:
					c.SetDeadline(time.Now().Add(2 * time.Millisecond))
					io.Copy(io.Discard, c)
					c.Close()
				case 2:
					c.SetLinger(0)
					c.Close()
				}
			}
		})
	}
	wg.Wait()
	l.Close()
	served.Wait()
}

func ExampleHost_Listen() {
	w := newWorld(exampleTB{}, worldConfig{})
	defer w.closeExample()
	l, err := w.host[1].Listen(netip.MustParseAddrPort("10.0.0.2:7"), ListenConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		c, _ := l.Accept()
		io.Copy(c, c)
		c.Close()
	}()
	c, err := w.host[0].Dial(context.Background(), netip.AddrPort{}, netip.MustParseAddrPort("10.0.0.2:7"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprintln(c, "hello")
	c.CloseWrite()
	answer, _ := io.ReadAll(c)
	fmt.Printf("%s", answer)
	c.Close()
	// Output: hello
}
