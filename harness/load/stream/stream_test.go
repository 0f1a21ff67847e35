package stream

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"osv/harness/load"
	"osv/harness/load/loadtest"
	"osv/harness/load/mctext"
	"osv/harness/load/null"
)

func testItems(t testing.TB, n int, value string) *mctext.Items {
	t.Helper()
	return loadtest.Items(t, n, value, 400000)
}

func mix(t testing.TB, it *mctext.Items, sets float64) *mctext.Mix {
	t.Helper()
	return loadtest.Mix(t, it, sets)
}

func spec(mode load.Mode, conns, out int, d time.Duration) load.Spec {
	return load.Spec{Kind: load.MemcachedTCP, Mode: mode, Rate: 2000, Conns: conns, Outstanding: out, Warmup: load.Duration(d / 4),
		Duration: load.Duration(d), Timeout: load.Duration(2 * time.Second)}.WithDefaults()
}

func nullServer(t testing.TB, it *mctext.Items) netip.AddrPort {
	t.Helper()
	s, err := null.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"), it)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.Addr
}

func TestClosedLoop(t *testing.T) {
	it := testItems(t, 1000, "100")
	addr := nullServer(t, it)
	for _, c := range [][2]int{{1, 1}, {16, 1}, {4, 32}} {
		m := mix(t, it, 0.5)
		e, err := Run(context.Background(), spec(load.Closed, c[0], c[1], 200*time.Millisecond), m, addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := e.Result()
		if ok, why := r.Clean(); !ok || r.Completed < 200 || m.StoredCount() == 0 {
			t.Errorf("%v: %s, %d completed", c, why, r.Completed)
		}
	}
}

func TestOpenLoopSpreadsOverConnections(t *testing.T) {
	it := testItems(t, 100, "32")
	e, err := Run(context.Background(), spec(load.Open, 300, 4, 300*time.Millisecond), mix(t, it, 0), nullServer(t, it), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := e.Result()
	if ok, why := r.Clean(); !ok || r.Offered < 1500 || r.Offered > 2500 || r.Latency.Count != r.SendLag.Count {
		t.Errorf("%s %+v", why, r)
	}
}

// Values larger than one read, than the socket buffers and than the transmit
// room of a pipeline.
func TestLargeValues(t *testing.T) {
	it := testItems(t, 8, "400000")
	addr := nullServer(t, it)
	set := mctext.NewJob(it, mctext.OpSet, 1, mctext.All(it), 1)
	if err := RunJob(context.Background(), spec(load.Closed, 3, 4, time.Second), set, addr); err != nil || set.Pending() != 0 {
		t.Fatalf("%v, %d pending", err, set.Pending())
	}
	get := mctext.NewJob(it, mctext.OpGet, 1, mctext.All(it), 1)
	if err := RunJob(context.Background(), spec(load.Closed, 2, 4, time.Second), get, addr); err != nil || get.Pending() != 0 || get.Misses() != 0 {
		t.Fatalf("%v, %d pending, %d misses", err, get.Pending(), get.Misses())
	}
}

// scripted is a server whose every connection runs f.
func scripted(t *testing.T, f func(c net.Conn, r *bufio.Reader)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c, bufio.NewReader(c)) }()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// serveGets answers n requests rightly, then returns.
func serveGets(it *mctext.Items, c net.Conn, r *bufio.Reader, n int) {
	for range n {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		i, _ := it.Find([]byte(strings.TrimSpace(strings.TrimPrefix(line, "get "))))
		if _, err := c.Write(it.AppendValue(nil, i, 0)); err != nil {
			return
		}
	}
}

func TestFaults(t *testing.T) {
	it := testItems(t, 50, "32")
	for name, c := range map[string]struct {
		end  func(c net.Conn, r *bufio.Reader)
		want string
	}{
		"closed": {func(c net.Conn, r *bufio.Reader) {}, "failed: connection"},
		"wrong":  {func(c net.Conn, r *bufio.Reader) { r.ReadString('\n'); c.Write([]byte("ERROR\r\n")); r.ReadByte() }, "wrong reply"},
		"unasked": {func(c net.Conn, r *bufio.Reader) {
			c.Write([]byte("END\r\nEND\r\nEND\r\nEND\r\nEND\r\nEND\r\n"))
			r.ReadByte()
		}, "nobody asked"},
		"standstill": {func(c net.Conn, r *bufio.Reader) { <-make(chan int) }, "no reply within the timeout"},
		"reset":      {func(c net.Conn, r *bufio.Reader) { c.(*net.TCPConn).SetLinger(0) }, "connection"},
	} {
		addr := scripted(t, func(conn net.Conn, r *bufio.Reader) {
			serveGets(it, conn, r, 20)
			c.end(conn, r)
		})
		s := spec(load.Closed, 2, 4, 3*time.Second)
		s.Timeout = load.Duration(200 * time.Millisecond)
		_, err := Run(context.Background(), s, mix(t, it, 0), addr, nil)
		if err == nil || !strings.Contains(err.Error(), "every connection failed") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOneBrokenConnectionSpoilsTheSample(t *testing.T) {
	it := testItems(t, 50, "32")
	first := make(chan bool, 1)
	first <- true
	addr := scripted(t, func(c net.Conn, r *bufio.Reader) {
		select {
		case <-first:
			serveGets(it, c, r, 5)
		default:
			serveGets(it, c, r, 1<<30)
		}
	})
	e, err := Run(context.Background(), spec(load.Closed, 3, 1, 200*time.Millisecond), mix(t, it, 0), addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := e.Result()
	if ok, why := r.Clean(); ok || r.Errors != 1 || !strings.Contains(why, "connection") {
		t.Errorf("%v %q %d", ok, why, r.Errors)
	}
	if r.Completed == 0 {
		t.Error("the other connections stopped")
	}
	job := mctext.NewJob(it, mctext.OpGet, 0, mctext.All(it), 1)
	bad := scripted(t, func(c net.Conn, r *bufio.Reader) { c.Write([]byte("x")) })
	if err := RunJob(context.Background(), spec(load.Closed, 1, 1, time.Second), job, bad); err == nil {
		t.Error("a job over a bad connection succeeded")
	}
}

func TestMissesAreCounted(t *testing.T) {
	it := testItems(t, 50, "32")
	addr := scripted(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			c.Write([]byte("END\r\n"))
		}
	})
	e, err := Run(context.Background(), spec(load.Closed, 1, 1, 100*time.Millisecond), mix(t, it, 0), addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := e.Result(); r.Misses == 0 || r.Hits != 0 || r.Completed == 0 {
		t.Errorf("%+v", r)
	}
}

func TestConnectRefusedAndCancel(t *testing.T) {
	it := testItems(t, 10, "32")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	if _, err := Run(context.Background(), spec(load.Closed, 1, 1, time.Second), mix(t, it, 0), addr, nil); err == nil || !strings.Contains(err.Error(), "connect") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(30*time.Millisecond, cancel)
	began := time.Now()
	if _, err := Run(ctx, spec(load.Open, 2, 2, 50*time.Second), mix(t, it, 0), nullServer(t, it), nil); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if _, err := Run(context.Background(), load.Spec{Mode: load.Open}, mix(t, it, 0), addr, nil); err == nil {
		t.Error("an open loop without a rate")
	}
}

func TestNoAllocationsInTheLoop(t *testing.T) {
	it := testItems(t, 1000, "100")
	for _, mode := range []load.Mode{load.Closed, load.Open} {
		s := spec(mode, 8, 16, 5*time.Second)
		s.Rate = 20000
		base, err := load.NewEngine(s, mix(t, it, 0.3), false)
		if err != nil {
			t.Fatal(err)
		}
		e, err := newEngine(base)
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		if err := e.connect(context.Background(), nullServer(t, it)); err != nil {
			t.Fatal(err)
		}
		runtime.LockOSThread()
		turn := func() {
			if _, err := e.turn(); err != nil {
				t.Fatal(err)
			}
		}
		for range 50 {
			turn()
		}
		allocs := testing.AllocsPerRun(200, turn)
		runtime.UnlockOSThread()
		// The null server runs in this process and grows its buffers now and then.
		if allocs != 0 {
			t.Errorf("%s: %v allocations per turn", mode, allocs)
		}
	}
}
