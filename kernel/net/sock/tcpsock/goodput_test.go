package tcpsock

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/netns"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/pcap"
	"osv/kernel/net/stack"
	"osv/kernel/net/taplink"
	"osv/kernel/net/tcpstack"
	"osv/kernel/pkt"
)

var (
	goodputTime = flag.Duration("tcp.goodput", 0, "measure goodput on bad paths against Linux's, each for so long")
	goodputRuns = flag.Int("tcp.goodputruns", 5, "how often; the medians count")
	goodputPcap = flag.String("tcp.goodputpcap", "", "write what both ends send, as the path takes it, to files of this `directory`")
	goodputRecv = flag.Bool("tcp.goodputrecv", false, "measure ours as the receiver only")
)

// path joins two links and treats frames badly on the way.
type badPath struct {
	delay         time.Duration
	loss, reorder float64
	rate          float64 // bytes per second, 0 for no limit
	limit         int     // frames that wait for the rate

	seed uint64
	wg   sync.WaitGroup

	// What the ends see, the first of join and the second; nil for not wanted.
	seen [2]*pcap.Writer
}

// capture begins to write what the ends see, where that is asked for, until the
// test is over.
func (p *badPath) capture(t *testing.T, name string) {
	if *goodputPcap == "" {
		return
	}
	for i := range p.seen {
		f, err := os.Create(filepath.Join(*goodputPcap, fmt.Sprintf("%s-%d-%d.pcap", name, p.seed, i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if p.seen[i], err = pcap.NewWriter(f, 128); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *badPath) see(end int, frame []byte) {
	if w := p.seen[end]; w != nil {
		w.Bytes(time.Now().UnixNano(), frame)
	}
}

type held struct {
	at   time.Time
	data []byte
}

// join forwards both ways until the links are closed.
func (p *badPath) join(a, b pkt.Link) {
	p.forward(a, b, 0)
	p.forward(b, a, 1)
}

// forward takes what end sends to the other.
func (p *badPath) forward(from, to pkt.Link, end int) {
	late, soon := make(chan held, 1<<16), make(chan held, 1<<12)
	rng := rand.New(rand.NewPCG(2*p.seed+uint64(end), 77))
	p.wg.Go(func() { // take
		bufs := make([]*pkt.Buf, 64)
		free := time.Now()
		for {
			n := from.RxBatch(0, bufs)
			if n == 0 {
				if from.RxWait(0) != nil {
					close(late)
					close(soon)
					return
				}
				continue
			}
			now := time.Now()
			for _, b := range bufs[:n] {
				data := append([]byte(nil), b.Bytes()...)
				b.Put()
				p.see(end, data)
				if rng.Float64() < p.loss {
					continue
				}
				at := now
				if p.rate > 0 {
					if free.Before(now) {
						free = now
					}
					if free.Sub(now).Seconds()*p.rate > float64(p.limit*1500) {
						continue
					}
					free = free.Add(time.Duration(float64(len(data)) / p.rate * 1e9))
					at = free
				}
				if rng.Float64() < p.reorder {
					soon <- held{at, data}
				} else {
					late <- held{at.Add(p.delay), data}
				}
			}
		}
	})
	give := func(c chan held) {
		var one [1]*pkt.Buf
		for h := range c {
			time.Sleep(time.Until(h.at))
			b := to.TxBuf(0)
			if b == nil {
				continue
			}
			copy(b.Append(len(h.data)), h.data)
			p.see(1-end, h.data)
			one[0] = b
			if to.TxBatch(0, one[:]) == 0 {
				b.Put()
			}
		}
	}
	p.wg.Go(func() { give(late) })
	p.wg.Go(func() { give(soon) })
}

// dialCubic connects with the same congestion control as ours: the machine may
// prefer another.
func dialCubic(t *testing.T, to string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 20 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			const tcpCongestion = 13
			err = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, tcpCongestion, "cubic")
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// elsewhere runs f in a network namespace of its own. Sockets made there stay
// there.
func elsewhere(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skip("needs a second network namespace:", err)
	}
}

// measure sends for d and returns what arrived, in Mbit/s.
func measure(t *testing.T, from, to net.Conn, d time.Duration) float64 {
	go func() {
		p := make([]byte, 64<<10)
		for end := time.Now().Add(d); time.Now().Before(end); {
			from.SetWriteDeadline(end)
			if _, err := from.Write(p); err != nil {
				break
			}
		}
		logLinux(t, from)
		from.(interface{ SetLinger(int) error }).SetLinger(0)
		from.Close()
	}()
	p := make([]byte, 256<<10)
	start, n := time.Now(), 0
	to.SetReadDeadline(start.Add(d))
	for {
		k, err := to.Read(p)
		if n += k; err != nil {
			break
		}
	}
	to.Close()
	return float64(n) * 8 / 1e6 / d.Seconds()
}

// logLinux tells what Linux's sender knows of its connection, where from is one.
func logLinux(t *testing.T, from net.Conn) {
	c, ok := from.(*net.TCPConn)
	if !ok {
		return
	}
	rc, err := c.SyscallConn()
	if err != nil {
		return
	}
	rc.Control(func(fd uintptr) {
		i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			t.Logf("Linux sending: %+v", *i)
		}
	})
}

// Goodput on bad paths: ours to Linux, Linux to ours, and Linux to Linux over the
// same wire, in turns. The bar is 0.9 of Linux to Linux.
func TestGoodput(t *testing.T) {
	if *goodputTime == 0 {
		t.Skip("measures: -tcp.goodput=20s")
	}
	for _, p := range []*badPath{
		{delay: 20 * time.Millisecond, loss: 0.01},
		{delay: 20 * time.Millisecond, loss: 0.001},
		{delay: 20 * time.Millisecond, reorder: 0.01, rate: 5e6, limit: 200},
		{delay: 20 * time.Millisecond, reorder: 0.05, rate: 5e6, limit: 200},
		{delay: 20 * time.Millisecond, loss: 0.01, reorder: 0.05},
		{delay: 20 * time.Millisecond, rate: 5e6, limit: 100},
		{delay: 5 * time.Millisecond, loss: 0.05},
	} {
		t.Run(fmt.Sprintf("delay=%v,loss=%v,reorder=%v,rate=%v", p.delay, p.loss, p.reorder, p.rate), func(t *testing.T) {
			var ll, ol, lo []float64
			for range *goodputRuns {
				p.seed++
				ll = append(ll, p.linuxToLinux(t))
				o, l := p.withOurs(t)
				ol, lo = append(ol, o), append(lo, l)
				t.Logf("run %d: Linux to Linux %.1f, ours to Linux %.1f, Linux to ours %.1f", p.seed, ll[len(ll)-1], o, l)
			}
			base, send, receive := median(ll), median(ol), median(lo)
			t.Logf("Mbit/s, medians: Linux to Linux %.1f %.1f; ours to Linux %.1f (%.2f) %.1f; Linux to ours %.1f (%.2f) %.1f",
				base, ll, send, send/base, ol, receive, receive/base, lo)
			if !*goodputRecv && send < 0.9*base || receive < 0.9*base {
				t.Error("below 0.9 of Linux to Linux")
			}
		})
	}
}

// median sorts v.
func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func (p *badPath) linuxToLinux(t *testing.T) float64 {
	netns.Require(t)
	mem := &dma.Host{}
	a, err := taplink.Open("lin0", taplink.Options{Mem: mem, Bufs: 8192})
	if err != nil {
		t.Fatal(err)
	}
	netns.Up(t, "lin0", netip.MustParsePrefix("10.0.0.2/24"))
	var b *taplink.Link
	var l net.Listener
	elsewhere(t, func() {
		if b, err = taplink.Open("lin1", taplink.Options{Mem: mem, Bufs: 8192}); err != nil {
			return
		}
		netns.Up(t, "lin1", netip.MustParsePrefix("10.0.0.1/24"))
		l, err = net.Listen("tcp", "10.0.0.1:80")
	})
	if err != nil {
		t.Fatal(err)
	}
	p.capture(t, "linux")
	p.join(a, b)
	from := dialCubic(t, "10.0.0.1:80")
	to, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r := measure(t, from, to, *goodputTime)
	l.Close()
	a.Close()
	b.Close()
	p.wg.Wait()
	a.Release()
	b.Release()
	return r
}

func (p *badPath) withOurs(t *testing.T) (send, receive float64) {
	mem := &dma.Host{}
	a, err := taplink.Open("lin0", taplink.Options{Mem: mem, Bufs: 8192})
	if err != nil {
		t.Fatal(err)
	}
	netns.Up(t, "lin0", netip.MustParsePrefix("10.0.0.2/24"))
	n, err := simnet.New(simnet.Config{Bufs: 16384, Ring: 8192})
	if err != nil {
		t.Fatal(err)
	}
	s, err := stack.New(stack.Config{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddLink(n.Links[0], stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}); err != nil {
		t.Fatal(err)
	}
	ts := tcpstack.New(s)
	h, err := New(ts, Config{Mem: mem, RecvMem: 24 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ts.SetNoFlow(h)
	p.capture(t, "ours")
	p.join(a, n.Links[1])
	if !*goodputRecv {
		send = oursSends(t, h)
	}

	ol, err := h.Listen(netip.MustParseAddrPort("10.0.0.1:80"), ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	lf := dialCubic(t, "10.0.0.1:80")
	ot, err := ol.Accept()
	if err != nil {
		t.Fatal(err)
	}
	receive = measure(t, lf, ot, *goodputTime)

	h.Close()
	s.Close()
	a.Close()
	n.Links[1].Close()
	p.wg.Wait()
	a.Release()
	n.Close()
	return send, receive
}

func oursSends(t *testing.T, h *Host) float64 {
	l, err := net.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	from, err := h.Dial(context.Background(), netip.AddrPort{}, netip.MustParseAddrPort("10.0.0.2:80"))
	if err != nil {
		t.Fatal(err)
	}
	to, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var info Info
	go func() {
		time.Sleep(*goodputTime * 9 / 10)
		info = from.Info()
	}()
	r := measure(t, from, to, *goodputTime)
	t.Logf("ours sending: %+v", info)
	l.Close()
	return r
}
