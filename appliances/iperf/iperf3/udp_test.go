package iperf3

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// datagram is one with a number, sent at a time.
func datagram(n uint64, sent time.Time, wide bool) []byte {
	b := make([]byte, 64)
	putHeader(b, sent, n, wide)
	return b
}

func TestReceiverCounts(t *testing.T) {
	t0 := time.Unix(1700000000, 0)
	for _, wide := range []bool{false, true} {
		for _, c := range []struct {
			name       string
			numbers    []uint64
			lost, late int64
		}{
			{"in order", []uint64{1, 2, 3, 4}, 0, 0},
			{"a gap", []uint64{1, 2, 5, 6}, 2, 0},
			{"a gap at the beginning", []uint64{3, 4}, 2, 0},
			{"exchanged", []uint64{1, 3, 2, 4}, 0, 1},
			{"late and lost", []uint64{1, 5, 3, 6}, 2, 1},
			{"twice", []uint64{1, 2, 2, 3}, 0, 1},
		} {
			r := receiver{wide: wide}
			for i, n := range c.numbers {
				if !r.take(datagram(n, t0, wide), 64, int64(i)) {
					t.Fatalf("%s: refused", c.name)
				}
			}
			highest := c.numbers[0]
			for _, n := range c.numbers {
				highest = max(highest, n)
			}
			if r.lost != c.lost || r.late != c.late || r.highest != int64(highest) || r.bytes != uint64(64*len(c.numbers)) {
				t.Errorf("%s: lost %d late %d highest %d bytes %d, want %d %d %d", c.name, r.lost, r.late, r.highest, r.bytes, c.lost, c.late, highest)
			}
		}
	}
	r := receiver{wide: true}
	if r.take(make([]byte, 15), 15, 0) || (&receiver{}).take(make([]byte, 11), 11, 0) || (&receiver{}).take(nil, 0, 0) {
		t.Error("a datagram without a whole header counts")
	}
}

// A loss counted for a gap is taken back for each datagram that comes late: after
// any permutation of all, nothing is lost.
func TestReceiverPermutation(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 1 + rng.IntN(50)
		r := receiver{}
		for _, i := range rng.Perm(n) {
			r.take(datagram(uint64(i+1), time.Unix(0, 0), false), 64, 0)
		}
		if r.lost != 0 || r.highest != int64(n) {
			t.Fatalf("%d datagrams: lost %d, highest %d", n, r.lost, r.highest)
		}
	}
}

// RFC 3550 §6.4.1, with transit times of 10, 14 and 14 ms.
func TestReceiverJitter(t *testing.T) {
	t0 := time.Unix(1700000000, 0)
	r := receiver{}
	at := int64(5e9)
	for i, transit := range []time.Duration{10, 14, 14} {
		sent := t0.Add(time.Duration(i) * time.Second)
		r.take(datagram(uint64(i+1), sent, false), 64, at+int64(i)*1e9+int64(transit*time.Millisecond))
	}
	want := 0.004 / 16 * 15 / 16
	if math.Abs(r.jitter-want) > 1e-6 {
		t.Errorf("jitter %v, want %v", r.jitter, want)
	}
}

func TestReceiverAllocatesNothing(t *testing.T) {
	var s stream
	r := receiver{wide: true}
	b := datagram(1, time.Unix(0, 0), true)
	n := uint64(0)
	if got := testing.AllocsPerRun(100, func() {
		n++
		putHeader(b, time.Unix(5, 6), n, true)
		r.take(b, 64, int64(n))
		s.publish(&r)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestHello(t *testing.T) {
	if a, ok := answerTo([]byte("9876")); !ok || string(a[:]) != "6789" {
		t.Errorf("%q %v", a, ok)
	}
	if a, ok := answerTo(oldHello[:]); !ok || a != oldAnswer { // 123456789, 987654321
		t.Errorf("%q %v", a, ok)
	}
	for _, d := range []string{"", "987", "98765", "1234"} {
		if _, ok := answerTo([]byte(d)); ok {
			t.Errorf("%q is answered", d)
		}
	}
}

func FuzzReceiver(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), int64(5), true)
	f.Add([]byte{}, int64(0), false)
	f.Fuzz(func(t *testing.T, b []byte, ns int64, wide bool) {
		r := receiver{wide: wide}
		for range 3 {
			r.take(b, len(b), ns)
		}
		if r.lost < 0 || r.highest < 0 {
			t.Fatalf("%+v", r)
		}
	})
}

// sendUDP and sendTCP, block by block.
func TestSendersAllocateNothing(t *testing.T) {
	ts := newTest(nil, Params{Protocol: UDP, Block: 100, Bitrate: 1e9, PacingTimer: time.Microsecond}, true, nil)
	p := ts.pacing()
	b := make([]byte, 100)
	n := uint64(0)
	if got := testing.AllocsPerRun(200, func() {
		n++
		if ts.claim(100) == 0 || !p.wait(100) || !p.sleep(time.Microsecond) {
			t.Fatal("the test is over")
		}
		putHeader(b, time.Now(), n, false)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
	ts.haltAll()
	if p.sleep(time.Hour) {
		t.Error("sleeps beyond the end")
	}
}
