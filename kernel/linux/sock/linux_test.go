package sock

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	kclock "osv/kernel/ktest/clock"
	netsock "osv/kernel/net/sock"
	"osv/kernel/net/stack"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// The same random calls are made on the host's Linux and here, and every result, error
// and readiness is compared. Ports and names differ between the two, so addresses are
// told by the socket that has them.

// world is one of the two. Sockets are numbered from 0 in the order of their making.
type world interface {
	socket(domain, typ int) error
	pair(typ int) error
	bind(s int, a *Addr) error
	listen(s, backlog int) error
	accept(s int) (Addr, error)
	connect(s int, a *Addr) error
	shutdown(s, how int) error
	send(s int, p []byte, to *Addr, flags int) (int, error)
	recv(s, n, flags int) (string, int, Addr, error)
	local(s int) (Addr, error)
	peer(s int) (Addr, error)
	ready(s int) poll.Events
	setInt(s, level, name, v int) error
	getInt(s, level, name int) (int, error)
	inq(s int) (int, error)
	close(s int)
	settle()
}

// ours are the sockets of this package on a stack that only runs when told to.
type ours struct {
	t  testing.TB
	n  *Net
	st *stack.Stack
	s  []Socket
	c  *testCaller
}

func newOurs(t testing.TB) *ours {
	mem, clock := new(dma.Host), &kclock.Fake{}
	clock.Advance(time.Hour)
	st, err := stack.New(stack.Config{Mem: mem, Manual: true, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	n, err := netsock.New(st, netsock.Config{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	w := &ours{t: t, n: New(Config{Net: n}), st: st, c: newCaller()}
	w.c.cred = Cred{uint32(os.Getpid()), uint32(os.Geteuid()), uint32(os.Getegid())}
	t.Cleanup(func() {
		w.settle()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		w.settle()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *ours) settle() {
	for {
		for _, s := range w.s {
			if s != nil {
				s.Ready()
			}
		}
		if w.st.Poll() == 0 {
			return
		}
	}
}

func (w *ours) socket(domain, typ int) error {
	s, err := w.n.Socket(domain, typ, 0)
	if err == nil {
		w.s = append(w.s, s)
	}
	return err
}

func (w *ours) pair(typ int) error {
	a, b, err := w.n.Pair(w.c, syscall.AF_UNIX, typ, 0)
	if err == nil {
		w.s = append(w.s, a, b)
	}
	return err
}

func (w *ours) bind(s int, a *Addr) error    { return w.s[s].Bind(w.c, a) }
func (w *ours) listen(s, n int) error        { return w.s[s].Listen(w.c, n) }
func (w *ours) connect(s int, a *Addr) error { return w.s[s].Connect(w.c, a) }
func (w *ours) shutdown(s, how int) error    { return w.s[s].Shutdown(how) }
func (w *ours) local(s int) (Addr, error)    { return w.s[s].LocalAddr(), nil }
func (w *ours) peer(s int) (Addr, error)     { return w.s[s].PeerAddr() }
func (w *ours) ready(s int) poll.Events      { return w.s[s].Ready() & poll.Any }
func (w *ours) accept(s int) (Addr, error) {
	c, a, err := w.s[s].Accept(syscall.MSG_DONTWAIT)
	if err == nil {
		w.s = append(w.s, c)
	}
	return a, err
}

func (w *ours) send(s int, p []byte, to *Addr, flags int) (int, error) {
	m := Message{}
	if to != nil {
		m.Addr = *to
	}
	return w.s[s].Send(w.c, &vfs.Bytes{B: p}, &m, flags)
}

func (w *ours) recv(s, n, flags int) (string, int, Addr, error) {
	b := vfs.Bytes{B: make([]byte, n)}
	var m Message
	k, err := w.s[s].Recv(&b, &m, flags|syscall.MSG_DONTWAIT)
	return string(b.B[:n-b.Room()]), k<<8 | m.Flags&0xff, m.Addr, err
}

func (w *ours) setInt(s, level, name, v int) error {
	var b [4]byte
	ne.PutUint32(b[:], uint32(v))
	return w.s[s].SetOption(level, name, b[:])
}

func (w *ours) getInt(s, level, name int) (int, error) {
	var b [4]byte
	_, err := w.s[s].Option(level, name, b[:])
	return int(int32(ne.Uint32(b[:]))), err
}

type sliceMemory []byte

func (m sliceMemory) CopyIn(p []byte, addr uint64) error  { copy(p, m[addr:]); return nil }
func (m sliceMemory) CopyOut(addr uint64, p []byte) error { copy(m[addr:], p); return nil }

func (w *ours) inq(s int) (int, error) {
	m := make(sliceMemory, 8)
	_, err := w.s[s].Control(m, syscall.TIOCINQ, 0)
	return int(int32(ne.Uint32(m))), err
}

func (w *ours) close(s int) { w.s[s].Close(); w.s[s] = nil }

// twin runs both worlds side by side.
type twin struct {
	t     testing.TB
	h     *host
	o     *ours
	open  []bool
	typ   []int
	dom   []int
	trace strings.Builder
	names [2]map[string]string // addresses as both call them
	bad   bool
	said  string // of what differs
}

func newTwin(t testing.TB) *twin {
	w := &twin{t: t, h: &host{}, o: newOurs(t)}
	w.names[0], w.names[1] = map[string]string{}, map[string]string{}
	t.Cleanup(func() {
		for i, open := range w.open {
			if open {
				w.h.close(i)
				w.o.close(i)
			}
		}
	})
	return w
}

// same compares what a call has returned.
func (w *twin) same(what string, h, o any) {
	fmt.Fprintf(&w.trace, "%s = %v\n", what, h)
	if fmt.Sprint(h) != fmt.Sprint(o) && !w.bad {
		w.bad = true
		w.said = fmt.Sprintf("%s\nLinux: %v\nhere:  %v", w.trace.String(), h, o)
	}
}

// addr is an address without what differs between the worlds: its port is told by the
// first socket that had it.
func (w *twin) addr(world int, a Addr) string {
	if a.Family == 0 {
		return "-"
	}
	if a.Family == syscall.AF_UNIX {
		return fmt.Sprintf("%q", a.Path)
	}
	if a.Inet.Port() == 0 {
		return a.Inet.String()
	}
	k := fmt.Sprint(a.Inet.Port())
	if w.names[world][k] == "" {
		w.names[world][k] = fmt.Sprintf("port#%d", len(w.names[world]))
	}
	return a.Inet.Addr().String() + " " + w.names[world][k]
}

func (w *twin) added(n, domain, typ int) {
	for range n {
		w.open, w.typ, w.dom = append(w.open, true), append(w.typ, typ), append(w.dom, domain)
	}
}

// pick is an open socket, -1 without one.
func (w *twin) pick(r *rand.Rand) int {
	var live []int
	for i, ok := range w.open {
		if ok {
			live = append(live, i)
		}
	}
	if len(live) == 0 {
		return -1
	}
	return live[r.IntN(len(live))]
}

// addrOf are the addresses in both worlds of what socket s is bound to, as something
// to connect or send to.
func (w *twin) addrOf(s int) (h, o Addr) {
	h, _ = w.h.local(s)
	o, _ = w.o.local(s)
	return h, o
}

func (w *twin) checkReady() {
	w.o.settle()
	var h, o strings.Builder
	for i, ok := range w.open {
		if ok {
			fmt.Fprintf(&h, " %d:%#x", i, w.h.ready(i))
			fmt.Fprintf(&o, " %d:%#x", i, w.o.ready(i))
		}
	}
	if !w.bad {
		w.same("    ready", h.String(), o.String())
	}
}

// step makes one random call in both worlds.
func (w *twin) step(r *rand.Rand, domains, types []int) {
	const maxSockets = 8
	s := w.pick(r)
	live := 0
	for _, ok := range w.open {
		if ok {
			live++
		}
	}
	op := r.IntN(100)
	if s < 0 || op < 12 && live < maxSockets {
		d, y := domains[r.IntN(len(domains))], types[r.IntN(len(types))]
		if d == syscall.AF_UNIX && r.IntN(3) == 0 {
			w.same(fmt.Sprintf("socketpair(%d)", y), w.h.pair(y), w.o.pair(y))
			w.added(2, d, y)
			return
		}
		w.same(fmt.Sprintf("socket(%d, %d)", d, y), w.h.socket(d, y), w.o.socket(d, y))
		w.added(1, d, y)
		return
	}
	d := w.dom[s]
	switch {
	case op < 20:
		w.bindStep(r, s)
	case op < 26:
		n := r.IntN(4)
		w.same(fmt.Sprintf("listen(%d, %d)", s, n), w.h.listen(s, n), w.o.listen(s, n))
	case op < 34:
		ha, herr := w.h.accept(s)
		oa, oerr := w.o.accept(s)
		w.same(fmt.Sprintf("accept(%d)", s), fmt.Sprint(w.addr(0, ha), herr), fmt.Sprint(w.addr(1, oa), oerr))
		if herr == nil && oerr == nil {
			w.added(1, d, w.typ[s])
		}
	case op < 46:
		to := w.pick(r)
		h, o := w.addrOf(to)
		if r.IntN(12) == 0 && d != syscall.AF_UNIX {
			h, o = Addr{}, Addr{}
		} else if d != syscall.AF_UNIX && (h.Inet.Port() == 0 || o.Inet.Port() == 0 || to == s && w.typ[s] == syscall.SOCK_STREAM) {
			h.Inet = netip.AddrPortFrom(h.Inet.Addr(), 1) // where nobody listens
			o.Inet = netip.AddrPortFrom(o.Inet.Addr(), 1)
		}
		w.addr(1, o)
		w.same(fmt.Sprintf("connect(%d, %s of %d)", s, w.addr(0, h), to), w.h.connect(s, &h), w.o.connect(s, &o))
	case op < 60:
		p := make([]byte, 1+r.IntN(200))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		var h, o *Addr
		to := -1
		if r.IntN(3) == 0 {
			to = w.pick(r)
			a, b := w.addrOf(to)
			h, o = &a, &b
		}
		hn, herr := w.h.send(s, p, h, 0)
		on, oerr := w.o.send(s, p, o, 0)
		w.same(fmt.Sprintf("send(%d, %d bytes, to %d)", s, len(p), to), fmt.Sprint(hn, herr), fmt.Sprint(on, oerr))
	case op < 78:
		n, flags := 1+r.IntN(300), 0
		if r.IntN(5) == 0 {
			flags |= syscall.MSG_PEEK
		}
		if r.IntN(8) == 0 {
			flags |= syscall.MSG_TRUNC
		}
		hs, hk, ha, herr := w.h.recv(s, n, flags)
		os, ok, oa, oerr := w.o.recv(s, n, flags)
		if flags&syscall.MSG_TRUNC != 0 && w.typ[s] == syscall.SOCK_STREAM {
			hs, os = "", "" // what TCP drops is not copied
		}
		w.same(fmt.Sprintf("recv(%d, %d, %#x)", s, n, flags), fmt.Sprintf("%x %#x %s %v", hs, hk, w.addr(0, ha), herr), fmt.Sprintf("%x %#x %s %v", os, ok, w.addr(1, oa), oerr))
	case op < 84:
		how := r.IntN(3)
		if w.odd(s) {
			return
		}
		if w.typ[s] == syscall.SOCK_STREAM && d != syscall.AF_UNIX {
			how = syscall.SHUT_WR // with both, Linux resets who sends more
		}
		w.same(fmt.Sprintf("shutdown(%d, %d)", s, how), w.h.shutdown(s, how), w.o.shutdown(s, how))
	case op < 88:
		if w.odd(s) {
			return
		}
		ha, herr := w.h.local(s)
		oa, oerr := w.o.local(s)
		w.same(fmt.Sprintf("getsockname(%d)", s), fmt.Sprint(w.addr(0, ha), herr), fmt.Sprint(w.addr(1, oa), oerr))
	case op < 91:
		ha, herr := w.h.peer(s)
		oa, oerr := w.o.peer(s)
		w.same(fmt.Sprintf("getpeername(%d)", s), fmt.Sprint(w.addr(0, ha), herr), fmt.Sprint(w.addr(1, oa), oerr))
	case op < 94:
		hn, herr := w.h.getInt(s, syscall.SOL_SOCKET, syscall.SO_ERROR)
		on, oerr := w.o.getInt(s, syscall.SOL_SOCKET, syscall.SO_ERROR)
		w.same(fmt.Sprintf("SO_ERROR of %d", s), fmt.Sprint(syscall.Errno(hn), herr), fmt.Sprint(syscall.Errno(on), oerr))
	case op < 96:
		hn, herr := w.h.inq(s)
		on, oerr := w.o.inq(s)
		w.same(fmt.Sprintf("FIONREAD of %d", s), fmt.Sprint(hn, herr), fmt.Sprint(on, oerr))
	default:
		w.same(fmt.Sprintf("close(%d)", s), nil, nil)
		w.h.close(s)
		w.o.close(s)
		w.open[s] = false
	}
}

// odd says that s is a TCP socket that is not connected: what shutdown and getsockname
// do to, and say of, one whose connection has failed or was never there follows
// Linux's bookkeeping further than anyone goes by, and is not compared.
func (w *twin) odd(s int) bool {
	if w.typ[s] != syscall.SOCK_STREAM || w.dom[s] == syscall.AF_UNIX {
		return false
	}
	_, err := w.h.peer(s)
	return err != nil
}

var unixNames int

func (w *twin) bindStep(r *rand.Rand, s int) {
	d := w.dom[s]
	if d == syscall.AF_UNIX {
		unixNames++
		a := Addr{Family: syscall.AF_UNIX, Path: fmt.Sprintf("\x00osv-test-%d-%d", os.Getpid(), unixNames)}
		if r.IntN(4) == 0 {
			if h, _ := w.addrOf(w.pick(r)); h.Path != "" {
				a = h
			}
		}
		w.same(fmt.Sprintf("bind(%d, %q)", s, a.Path), w.h.bind(s, &a), w.o.bind(s, &a))
		return
	}
	if r.IntN(3) == 0 {
		on := r.IntN(2)
		w.same(fmt.Sprintf("SO_REUSEADDR of %d = %d", s, on), w.h.setInt(s, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, on), w.o.setInt(s, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, on))
	}
	h := Addr{Family: uint16(d), Inet: netip.AddrPortFrom(anyOf(d), 0)}
	if r.IntN(2) == 0 {
		h.Inet = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
		if d == syscall.AF_INET6 {
			h.Inet = netip.AddrPortFrom(netip.IPv6Loopback(), 0)
		}
	}
	o := h
	other := -1
	if r.IntN(4) == 0 && w.h.ready(s)&poll.Err == 0 {
		if other = w.pick(r); w.typ[other] == syscall.SOCK_STREAM && w.h.ready(other)&poll.Hup != 0 {
			return // how long the port of what has ended stays taken is not compared
		}
		a, b := w.addrOf(other)
		h.Inet = netip.AddrPortFrom(h.Inet.Addr(), a.Inet.Port())
		o.Inet = netip.AddrPortFrom(o.Inet.Addr(), b.Inet.Port())
	}
	w.same(fmt.Sprintf("bind(%d, %v with port of %d)", s, h.Inet.Addr(), other), w.h.bind(s, &h), w.o.bind(s, &o))
}

func runTwin(t *testing.T, domains, types []int) {
	seeds := 150
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			// A port that is chosen may be one that was there before, in one of the
			// worlds: a trace is only believed the second time.
			var w *twin
			for range 2 {
				w = newTwin(t)
				r := rand.New(rand.NewPCG(uint64(seed), 7))
				for i := 0; i < 80 && !w.bad; i++ {
					w.step(r, domains, types)
					w.checkReady()
				}
				if !w.bad {
					return
				}
			}
			t.Error(w.said)
		})
		if !ok {
			return
		}
	}
}

func TestLinuxTCP(t *testing.T) {
	runTwin(t, []int{syscall.AF_INET}, []int{syscall.SOCK_STREAM})
}

func TestLinuxTCP6(t *testing.T) {
	runTwin(t, []int{syscall.AF_INET, syscall.AF_INET6}, []int{syscall.SOCK_STREAM})
}

func TestLinuxUDP(t *testing.T) {
	runTwin(t, []int{syscall.AF_INET}, []int{syscall.SOCK_DGRAM})
}

func TestLinuxUDP6(t *testing.T) {
	runTwin(t, []int{syscall.AF_INET6}, []int{syscall.SOCK_DGRAM})
}

func TestLinuxUnix(t *testing.T) {
	runTwin(t, []int{syscall.AF_UNIX}, []int{syscall.SOCK_STREAM, syscall.SOCK_DGRAM, syscall.SOCK_SEQPACKET})
}
