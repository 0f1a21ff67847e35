package tcpsock

import (
	"context"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"osv/kernel/ktest/simnet"
	"osv/kernel/net/wire"
)

// patience is for what goes wrong only: a machine may be very busy elsewhere.
const patience = 2 * time.Minute

// within reports whether ok came true in time.
func within(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); !ok(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

// Ten thousand open connections on which nothing happens cost memory and no
// time, and each still works.
func TestTenThousandIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	n := 10000
	if raceEnabled {
		n = 1000
	}
	w := newWorld(t, worldConfig{net: simnet.Config{Bufs: 16384, Ring: 4096}})
	l := w.listen(80)
	defer l.Close()
	var server []*Conn
	var accepted sync.WaitGroup
	accepted.Go(func() {
		for len(server) < n {
			c, err := l.AcceptTCP()
			if err != nil {
				t.Errorf("after %d connections: %v", len(server), err)
				return
			}
			server = append(server, c)
		}
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	client := make([]*Conn, n)
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				var err error
				client[i], err = w.host[0].Dial(ctx, netip.AddrPort{}, addr(1, 80))
				if cancel(); err != nil {
					t.Errorf("connection %d: %v", i, err)
					l.Close() // else AcceptTCP would wait for it
					return
				}
			}
		})
	}
	wg.Wait()
	accepted.Wait()
	if t.Failed() {
		return
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d bytes of heap for both ends of a connection", (after.HeapAlloc-before.HeapAlloc)/uint64(n))
	// On a machine that is busy elsewhere many timers fall due at once, each with a
	// goroutine that is soon over.
	if !within(patience, func() bool { return runtime.NumGoroutine() <= 200 }) {
		t.Errorf("%d goroutines", runtime.NumGoroutine())
	}
	// Each of them answers.
	byAddr := map[string]*Conn{}
	for _, c := range server {
		byAddr[c.RemoteAddr().String()] = c
	}
	p := make([]byte, 4)
	for i := 0; i < n; i += 97 {
		client[i].Write([]byte("ping"))
		s := byAddr[client[i].LocalAddr().String()]
		s.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(s, p); err != nil || string(p) != "ping" {
			t.Fatalf("connection %d: %q, %v", i, p, err)
		}
	}
	for i := range n {
		client[i].Close()
		server[i].Close()
	}
}

// A client goes on working while SYNs from addresses that do not answer flood the
// listener.
func TestSynFlood(t *testing.T) {
	w := newWorld(t, worldConfig{net: simnet.Config{Ports: 3, Bufs: 8192, Ring: 4096}, host: Config{HalfOpen: 64}})
	l := w.listen(80)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			served.Go(func() {
				io.Copy(c, c)
				c.Close()
			})
		}
	})
	stop := make(chan struct{})
	var flood sync.WaitGroup
	flood.Go(func() {
		f := floodFrame(w.net.Links[2], w.net.Links[1])
		for i := uint32(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			f.send(i)
			// Bounded: some 50,000 a second, and never more than the receiver has
			// room for, however long it waits for a processor. What one that is
			// drowned loses, no protocol gets back.
			for i%64 == 0 && uint64(i) > l.Stats().SYNs {
				time.Sleep(time.Millisecond)
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	})
	cookies := func(n uint64) {
		t.Helper()
		if !within(patience, func() bool { return l.Stats().Cookies >= n }) {
			t.Errorf("the flood has stopped: %+v", l.Stats())
		}
	}
	cookies(1000)
	for i := range 50 {
		cookies(l.Stats().Cookies + 64) // it goes on
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		c, err := w.host[0].Dial(ctx, netip.AddrPort{}, addr(1, 80))
		cancel()
		if err != nil {
			t.Errorf("connection %d: %v", i, err)
			break
		}
		c.SetDeadline(time.Now().Add(patience))
		out := pattern(3000, uint64(i))
		c.Write(out)
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || len(got) != len(out) {
			t.Errorf("connection %d: %d octets, %v", i, len(got), err)
		}
		c.Close()
	}
	close(stop)
	flood.Wait()
	s := l.Stats()
	if s.CookiesOpened == 0 || s.Cookies < 1000 {
		t.Errorf("%+v: cookies were not what let the client in", s)
	}
	t.Logf("%+v", s)
	l.Close()
	served.Wait()
}

// floods sends SYNs from changing addresses.
type floods struct {
	link  *simnet.Link
	frame []byte
}

func floodFrame(from, to *simnet.Link) *floods {
	f := make([]byte, wire.EthLen+wire.IPv4MinLen+wire.TCPMinHeader)
	a, b := to.MAC(), from.MAC()
	copy(f, a[:])
	copy(f[6:], b[:])
	f[12], f[13] = 8, 0
	return &floods{from, f}
}

func (f *floods) send(i uint32) {
	src, dst := wire.U32(netip.MustParseAddr("10.0.0.128"))+i%100, wire.U32(hostAddr[1])
	ip := f.frame[wire.EthLen:]
	wire.PutIPv4(ip, &wire.IPv4Fields{TotalLen: 40, TTL: 64, Proto: wire.ProtoTCP, Src: src, Dst: dst})
	h := wire.TCP(ip[wire.IPv4MinLen:])
	h.Put(&wire.TCPFields{SrcPort: uint16(1024 + i/100), DstPort: 80, Seq: i * 7919, Flags: wire.TCPSyn, Window: 1000}, wire.TCPMinHeader)
	h.SetChecksum(^wire.Fold(wire.Sum(wire.PseudoSum4(src, dst, wire.ProtoTCP, 20), h)))
	f.link.Inject(f.frame)
}
