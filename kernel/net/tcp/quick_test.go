package tcp

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// What is sent, and when, is the same with and without the quick path, over wires
// of all kinds.
func TestQuickUnseen(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 40
	}
	if raceEnabled {
		seeds = 10
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		for name, run := range map[string]func(testing.TB, uint64, *world) uint64{
			"bulk": func(t testing.TB, seed uint64, w *world) uint64 {
				runPairOn(t, seed, w, "")
				return 0
			},
			"ask": runAsk,
		} {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				var sums [2][32]byte
				for i, off := range []bool{true, false} {
					w, _ := params(seed)
					w.a.cfg.noQuick, w.b.cfg.noQuick = off, off
					h := sha256.New()
					w.tap = func(now int64, from string, p []byte) {
						var b [8]byte
						binary.BigEndian.PutUint64(b[:], uint64(now))
						h.Write(b[:])
						h.Write([]byte(from))
						h.Write(p)
					}
					run(t, seed, w)
					h.Sum(sums[i][:0])
				}
				if sums[0] != sums[1] {
					t.Error("the quick path shows on the wire")
				}
			})
		}
	}
}

// The quick path is the usual one: of a connection that asks and answers on a
// good wire it takes nearly all.
func TestQuickIsUsual(t *testing.T) {
	w := newWorld(7, Config{}, Config{}, 1500, false)
	w.delay = 50e3
	quick := runAsk(t, 7, w)
	if segs := 2 * uint64(asks); quick < segs*9/10 {
		t.Errorf("%d segments of about %d took the quick path", quick, segs)
	}
}

const asks = 300

// runAsk has a ask and b answer, small and now and then large, with pauses, and
// returns how many segments took the quick path.
func runAsk(t testing.TB, seed uint64, w *world) (quick uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	var b *Conn
	w.b.listener = NewListener(&w.b.cfg, w.b, 10, 10)
	w.b.accepted = func(c *Conn) { b = c }
	a := w.a.connect(4000, 80)
	a.SetOptions(w.now, Options{NoDelay: r.IntN(2) == 0})
	buf := make([]byte, 20000)
	size := func() int {
		if r.IntN(10) == 0 {
			return 1 + r.IntN(len(buf))
		}
		return 1 + r.IntN(300)
	}
	// move sends n octets from one end to the other.
	move := func(from, to *Conn, n int) bool {
		for sent, got := 0, 0; got < n; {
			if sent < n {
				k, err := from.Send(w.now, buf[:n-sent])
				if err != nil {
					t.Errorf("send: %v", err)
					return false
				}
				sent += k
				from.Flush(w.now)
			}
			k, err := to.Recv(w.now, buf)
			if err != nil {
				t.Errorf("receive: %v", err)
				return false
			}
			got += k
			if k > 0 {
				to.Flush(w.now)
			} else if got < n && !w.step() {
				t.Error("nothing moves")
				return false
			}
		}
		return true
	}
	for b == nil && w.step() {
	}
	if b == nil {
		t.Fatal("never accepted")
	}
	for range asks {
		if !move(a, b, size()) || !move(b, a, size()) {
			break
		}
		if r.IntN(20) == 0 {
			w.now += r.Int64N(int64(2 * time.Second))
		}
	}
	quick = a.count.Quick + b.count.Quick
	a.Abort(w.now)
	b.Abort(w.now)
	a.Close(w.now)
	b.Close(w.now)
	for w.step() && w.now < int64(100*time.Hour) {
	}
	w.b.listener.Close(w.now)
	w.a.close(t)
	w.b.close(t)
	return quick
}
