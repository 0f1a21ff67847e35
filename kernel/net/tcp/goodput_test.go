package tcp

import (
	"math"
	"testing"
	"time"
)

// bulkRun sends without end from a to b for d and returns the octets that b has
// read.
func bulkRun(w *world, d time.Duration) (octets int, c *Conn) {
	var to *Conn
	w.b.listener = NewListener(&w.b.cfg, w.b, 10, 10)
	w.b.accepted = func(c *Conn) { to = c }
	from := w.a.connect(4000, 80)
	buf := make([]byte, 64<<10)
	end := w.now + int64(d)
	for w.now < end {
		for {
			if n, _ := from.Send(w.now, buf); n == 0 {
				break
			}
		}
		from.Flush(w.now)
		for to != nil {
			n, _ := to.Recv(w.now, buf)
			if octets += n; n == 0 {
				break
			}
		}
		if to != nil {
			to.Flush(w.now)
		}
		if !w.step() {
			break
		}
	}
	return octets, from
}

// Goodput over paths that lose, reorder and queue, against what the path or the
// model of the congestion control gives.
func TestGoodput(t *testing.T) {
	if raceEnabled {
		t.Skip("computes only")
	}
	const mss = 1448
	for _, c := range []struct {
		name          string
		batch         bool
		delay         time.Duration
		loss, reorder float64
		rate          int64
		limit         int
		reno          bool
		secs          int
		want          float64 // octets per second
	}{
		// RFC 9438 §5.1: in the Reno-friendly region both send sqrt(3/2p) segments
		// in a round trip.
		{name: "reno, 1 % loss", delay: 20 * time.Millisecond, loss: 0.01, reno: true, secs: 30, want: mss * math.Sqrt(1.5/0.01) / 0.040},
		{name: "cubic, 1 % loss", delay: 20 * time.Millisecond, loss: 0.01, secs: 30, want: mss * math.Sqrt(1.5/0.01) / 0.040},
		{name: "cubic, 0.1 % loss", delay: 20 * time.Millisecond, loss: 0.001, secs: 40, want: mss * math.Sqrt(1.5/0.001) / 0.040},
		{name: "cubic, 0.1 % loss, few ACKs", batch: true, delay: 20 * time.Millisecond, loss: 0.001, secs: 40, want: mss * math.Sqrt(1.5/0.001) / 0.040},
		{name: "cubic, 1 % loss, few ACKs", batch: true, delay: 20 * time.Millisecond, loss: 0.01, secs: 40, want: mss * math.Sqrt(1.5/0.01) / 0.040},
		// §5.1, equation 5 for C = 0.4.
		{name: "cubic, long, 0.01 % loss", delay: 100 * time.Millisecond, loss: 0.0001, secs: 600, want: mss * 1.054 * math.Pow(0.2/0.0001, 0.75) / 0.2},
		{name: "cubic, queue of one BDP", delay: 20 * time.Millisecond, rate: 5e6, limit: 133, secs: 10, want: 5e6 * 1448 / 1520},
		{name: "cubic, queue of a fifth", delay: 20 * time.Millisecond, rate: 5e6, limit: 27, secs: 10, want: 5e6 * 1448 / 1520},
		{name: "cubic, 100 Mbit/s, 100 ms", delay: 50 * time.Millisecond, rate: 12.5e6, limit: 800, secs: 10, want: 12.5e6 * 1448 / 1520},
		{name: "cubic, 1 Gbit/s, 1 ms", delay: 500 * time.Microsecond, rate: 125e6, limit: 100, secs: 1, want: 125e6 * 1448 / 1520},
		{name: "cubic, reordering", delay: 20 * time.Millisecond, reorder: 0.01, rate: 5e6, limit: 200, secs: 10, want: 5e6 * 1448 / 1520},
		{name: "cubic, more reordering", delay: 20 * time.Millisecond, reorder: 0.02, rate: 5e6, limit: 200, secs: 30, want: 5e6 * 1448 / 1520},
		{name: "cubic, much reordering", delay: 20 * time.Millisecond, reorder: 0.05, rate: 12.5e6, limit: 400, secs: 20, want: 12.5e6 * 1448 / 1520},
		{name: "cubic, much reordering, few ACKs", batch: true, delay: 20 * time.Millisecond, reorder: 0.05, rate: 12.5e6, limit: 400, secs: 20, want: 12.5e6 * 1448 / 1520},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.secs > 100 && testing.Short() {
				t.Skip("takes some seconds")
			}
			cfg := Config{NewReno: c.reno}
			w := newWorld(42, cfg, cfg, 1500, false)
			w.delay, w.loss, w.reorder, w.rate, w.limit = int64(c.delay), c.loss, c.reorder, c.rate, c.limit
			w.oneWay, w.early, w.batch = true, true, c.batch
			n, from := bulkRun(w, time.Duration(c.secs)*time.Second)
			got := float64(n) / float64(c.secs)
			i := from.Sender()
			t.Logf("%.2f of %.2f Mbit/s, %.2f; %d retransmits, %d recoveries, %d timeouts, %d undone, cwnd %d", got*8e-6, c.want*8e-6, got/c.want,
				i.Retransmits, i.Recoveries, i.Timeouts, i.Undone, i.Cwnd/mss)
			// What was lost last is not sent again yet.
			if n := int(i.Retransmits); c.reorder == 0 && (n > w.lost || n < w.lost-20) {
				t.Errorf("%d segments lost, and %d sent again", w.lost, i.Retransmits)
			}
			if got < 0.8*c.want || got > 1.5*c.want {
				t.Errorf("%.3g octets a second, the model says %.3g", got, c.want)
			}
		})
	}
}
