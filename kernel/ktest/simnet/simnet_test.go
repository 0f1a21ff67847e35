package simnet

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	kclock "osv/kernel/ktest/clock"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

func mustNew(t testing.TB, cfg Config) *Net {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, l := range n.Links {
			drain(l)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// drain returns what a port received, as bytes.
func drain(l *Link) (out [][]byte) {
	var b [16]*pkt.Buf
	for q := range l.caps.RxQueues {
		for n := l.RxBatch(q, b[:]); n > 0; n = l.RxBatch(q, b[:]) {
			for _, b := range b[:n] {
				out = append(out, append([]byte(nil), b.Bytes()...))
				b.Put()
			}
		}
	}
	return out
}

func frame(dst byte, n int) []byte {
	f := make([]byte, 60)
	f[0], f[5] = 2, dst
	f[20] = byte(n)
	f[21] = byte(n >> 8)
	return f
}

func send(l *Link, f []byte) {
	b := l.TxBuf(0)
	copy(b.Append(len(f)), f)
	l.TxBatch(0, []*pkt.Buf{b})
}

func TestSwitching(t *testing.T) {
	n := mustNew(t, Config{Ports: 3})
	send(n.Links[0], frame(2, 1))
	if len(drain(n.Links[1])) != 1 || len(drain(n.Links[2])) != 0 {
		t.Error("unicast did not go to its port alone")
	}
	b := frame(2, 1)
	copy(b, wire.BroadcastMAC[:])
	send(n.Links[0], b)
	send(n.Links[0], frame(9, 1)) // unknown: flooded
	for i, want := range []int{0, 2, 2} {
		if got := len(drain(n.Links[i])); got != want {
			t.Errorf("port %d got %d, want %d", i, got, want)
		}
	}
	l := n.Links[0]
	if l.Name() != "sim0" || l.MAC() != (wire.MAC{2, 0, 0, 0, 0, 1}) || !l.LinkUp() || l.InUse() != 0 {
		t.Error("properties")
	}
	l.SetUp(false)
	send(l, frame(2, 1))
	l.Inject(frame(2, 1))
	if len(drain(n.Links[1])) != 0 || l.LinkUp() {
		t.Error("a frame through an unplugged cable")
	}
	if s := l.Stats(); s.TxFrames != 4 || s.Doorbells != 4 {
		t.Errorf("%+v", s)
	}
}

// What a link does not support is refused, as a device would.
func TestDeviceLimits(t *testing.T) {
	n := mustNew(t, Config{})
	l := n.Links[0]
	for what, f := range map[string]func(b *pkt.Buf){
		"too long":           func(b *pkt.Buf) { b.Append(1519) },
		"too short":          func(b *pkt.Buf) { b.Append(13) },
		"checksum offload":   func(b *pkt.Buf) { b.Append(60); b.Flags = pkt.CsumPartial },
		"segmentation":       func(b *pkt.Buf) { b.Append(60); b.GSO = pkt.GSOTCPv4 },
		"more than one part": func(b *pkt.Buf) { b.Append(60); b.Next = l.TxBuf(0) },
	} {
		before := l.Stats().TxErrors
		b := l.TxBuf(0)
		f(b)
		l.TxBatch(0, []*pkt.Buf{b})
		if l.Stats().TxErrors != before+1 || len(drain(n.Links[1])) != 0 {
			t.Errorf("%s: passed", what)
		}
	}
}

// A device that leaves checksums out completes them for a peer that wants them.
func TestChecksumOffload(t *testing.T) {
	for _, rx := range []bool{false, true} {
		n := mustNew(t, Config{Caps: pkt.Caps{TxCsum: true, RxCsum: rx, TxScatter: 2, TSO4: true, GSOMax: 4000}})
		l := n.Links[0]
		a, b := l.TxBuf(0), l.TxBuf(0)
		copy(a.Append(34), frame(2, 0))
		copy(b.Append(2000), bytes.Repeat([]byte{7}, 2000))
		a.Next, a.Flags, a.CsumStart, a.CsumOffset, a.GSO, a.GSOSize = b, pkt.CsumPartial, 20, 6, pkt.GSOTCPv4, 1000
		l.TxBatch(0, []*pkt.Buf{a})
		var got [1]*pkt.Buf
		if n.Links[1].RxBatch(0, got[:]) != 1 {
			t.Fatal("nothing received")
		}
		g := got[0]
		if g.Len() != 2034 || g.GSO != pkt.GSOTCPv4 || g.GSOSize != 1000 {
			t.Errorf("%d bytes, GSO %d of %d", g.Len(), g.GSO, g.GSOSize)
		}
		sumOK := wire.Fold(wire.Sum(0, g.Bytes()[20:])) == 0xffff
		if rx && g.Flags != pkt.CsumPartial || !rx && (g.Flags != 0 || !sumOK) {
			t.Errorf("rx offload %v: flags %d, sum right %v", rx, g.Flags, sumOK)
		}
		g.Put()
	}
}

// The same seed gives the same wire; each kind of damage happens about as often
// as asked.
func TestChanceIsSeeded(t *testing.T) {
	run := func(seed uint64) (string, [][]byte, *Net) {
		n := mustNew(t, Config{Seed: seed, Loss: 0.2, Dup: 0.1, Corrupt: 0.1, Reorder: 0.2, Ring: 2048, Bufs: 2048})
		for i := range 1000 {
			send(n.Links[0], frame(2, i))
		}
		got := drain(n.Links[1])
		return fmt.Sprintf("% x", got), got, n
	}
	a, got, _ := run(1)
	b, _, _ := run(1)
	c, _, _ := run(2)
	if a != b {
		t.Error("same seed, another wire")
	}
	if a == c {
		t.Error("another seed, the same wire")
	}
	seen, damaged, back, last := map[int]int{}, 0, 0, -1
	for _, f := range got {
		i := int(f[20]) | int(f[21])<<8
		if i >= 1000 || !bytes.Equal(f, frame(2, i)) {
			damaged++
			continue
		}
		seen[i]++
		if i < last {
			back++
		}
		last = i
	}
	twice := 0
	for _, k := range seen {
		if k == 2 {
			twice++
		}
	}
	within := func(what string, n, lo, hi int) {
		if n < lo || n > hi {
			t.Errorf("%d %s, want %d to %d", n, what, lo, hi)
		}
	}
	within("received", len(got), 820, 940) // 0.8 x 1.1, some to ports that are not there
	within("damaged", damaged, 40, 140)
	within("twice", twice, 40, 110)
	within("out of order", back, 60, 260)
}

func TestDelayAndJitter(t *testing.T) {
	var clk kclock.Fake
	n := mustNew(t, Config{Clock: &clk, Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Seed: 3})
	for i := range 50 {
		send(n.Links[0], frame(2, i))
	}
	clk.Advance(9 * time.Millisecond)
	if len(drain(n.Links[1])) != 0 {
		t.Error("too early")
	}
	clk.Advance(7 * time.Millisecond)
	got := drain(n.Links[1])
	for i, f := range got {
		if int(f[20]) != i {
			t.Fatalf("frame %d in place %d: jitter reordered", f[20], i)
		}
	}
	if len(got) != 50 {
		t.Errorf("%d of 50", len(got))
	}
	send(n.Links[0], frame(2, 1))
	n.Links[0].Close()
	if clk.Pending() != 0 {
		t.Error("a frame is under way after Close")
	}
	n2 := mustNew(t, Config{Clock: &clk, Delay: time.Millisecond, Reorder: 0.5, Seed: 3})
	for i := range 50 {
		send(n2.Links[0], frame(2, i))
		clk.Advance(100 * time.Microsecond)
	}
	clk.Advance(time.Second)
	last, back := -1, 0
	for _, f := range drain(n2.Links[1]) {
		if int(f[20]) < last {
			back++
		}
		last = int(f[20])
	}
	if back == 0 {
		t.Error("nothing was reordered")
	}
	for _, bad := range []Config{{Delay: 1}, {Corrupt: 0.1, Caps: pkt.Caps{RxCsum: true}}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v accepted", bad)
		}
	}
}

func TestFullAndClosed(t *testing.T) {
	n := mustNew(t, Config{Bufs: 20, Ring: 8})
	tapped := 0
	n.Links[0].SetTap(func([]byte) { tapped++ })
	for i := range 30 {
		send(n.Links[0], frame(2, i))
	}
	if got := len(drain(n.Links[1])); got != 8 || n.Links[1].Stats().RxNoBuf != 22 || tapped != 30 {
		t.Errorf("%d received, %d without room, %d tapped", got, n.Links[1].Stats().RxNoBuf, tapped)
	}
	var held []*pkt.Buf
	for b := n.Links[1].TxBuf(0); b != nil; b = n.Links[1].TxBuf(0) {
		held = append(held, b)
	}
	send(n.Links[0], frame(2, 1)) // the receiver's pool is empty
	if n.Links[1].Stats().RxNoBuf != 23 {
		t.Error("not counted")
	}
	for _, b := range held {
		b.Put()
	}
	n.Links[1].RxWake(0)
	if err := n.Links[1].RxWait(0); err != nil {
		t.Error(err)
	}
	done := make(chan error)
	go func() {
		for {
			if err := n.Links[1].RxWait(0); err != nil {
				done <- err
				return
			}
		}
	}()
	n.Links[1].Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := n.Links[1].RxWait(0); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestQueues(t *testing.T) {
	n := mustNew(t, Config{Queues: 4, Ring: 1024, Bufs: 1024})
	for i := range 256 {
		f := frame(2, i)
		f[35] = byte(i)
		send(n.Links[0], f)
	}
	var b [256]*pkt.Buf
	for q := range 4 {
		k := n.Links[1].RxBatch(q, b[:])
		if k == 0 {
			t.Errorf("queue %d got nothing", q)
		}
		for _, b := range b[:k] {
			if int(b.Queue) != q {
				t.Errorf("queue %d says %d", q, b.Queue)
			}
			b.Put()
		}
	}
}
