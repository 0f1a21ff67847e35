package tcp

import (
	"bytes"
	"testing"

	"osv/kernel/pkt"
)

// A frame in which the device has merged segments is acknowledged, counted and
// measured as those segments (RFC 5681 §4.2: an ACK for every second full one).
func TestMergedFrameIsItsSegments(t *testing.T) {
	for _, c := range []struct {
		octets  int
		lie     uint16 // instead of the true segment size
		counted uint64
		delayed bool
	}{
		{octets: 3 * 1448, counted: 3},
		{octets: 5*1448 + 1, counted: 6},
		{octets: 1448 + 100, counted: 2, delayed: true}, // one full segment
		{octets: 1448, counted: 1, delayed: true},
		// A device that says otherwise can at most confuse the counter.
		{octets: 3 * 1448, lie: 1, counted: 3 * 1448},
		{octets: 3 * 1448, lie: 65535, counted: 1},
	} {
		w := newWirePair(t, 65536)
		w.a.SetOptions(w.now, Options{NoDelay: true})
		w.b.quickAcks, w.b.rcvMSS = 0, 1448
		before := w.b.count.SegsIn
		w.a.Send(w.now, make([]byte, c.octets))
		w.a.Flush(w.now)
		if w.nB != 1 || c.octets > 1448 && w.toB[0].GSO != pkt.GSOTCPv4 {
			t.Fatalf("%d octets: %d frames", c.octets, w.nB)
		}
		if c.lie != 0 {
			w.toB[0].GSOSize = c.lie
		}
		w.settle()
		if n := w.b.count.SegsIn - before; n != c.counted {
			t.Errorf("%d octets, size %d: counted as %d segments, want %d", c.octets, c.lie, n, c.counted)
		}
		if delayed := w.b.delackAt != 0; delayed != c.delayed || delayed == (w.b.lastAckSent == w.b.rcvNxt) {
			t.Errorf("%d octets, size %d: ACK delayed: %v", c.octets, c.lie, delayed)
		}
		if w.b.rcvMSS < 1448 || w.b.rcvMSS > 1460 {
			t.Errorf("%d octets, size %d: the peer's segments are taken for %d octets", c.octets, c.lie, w.b.rcvMSS)
		}
		w.close(t)
	}
}

// The segment size is learnt from what the device says of a frame, not from the
// frame's length.
func TestMergedFrameTeachesSegmentSize(t *testing.T) {
	w := newWirePair(t, 65536)
	defer w.close(t)
	w.a.Send(w.now, make([]byte, 8*1448))
	w.a.Flush(w.now)
	w.settle()
	if w.b.rcvMSS != 1448 {
		t.Errorf("learnt %d, want 1448", w.b.rcvMSS)
	}
}

// Merged frames out of order, twice, and overlapping what is there, make the
// stream that was sent, with one duplicate ACK each.
func TestMergedFramesOutOfOrder(t *testing.T) {
	w := newWirePair(t, 65536)
	defer w.close(t)
	sent := make([]byte, 9*1448)
	for i := range sent {
		sent[i] = byte(i * 7)
	}
	for i := range 3 {
		w.a.Send(w.now, sent[i*3*1448:][:3*1448])
		w.a.Flush(w.now)
	}
	if w.nB != 3 {
		t.Fatalf("%d frames", w.nB)
	}
	first, second, third := w.toB[0], w.toB[1], w.toB[2]
	// The last segment of the first frame with the first of the second.
	again := w.pool.Get()
	copy(again.Append(32), second.Bytes())
	put32(again.Bytes()[4:], uint32(w.b.rcvNxt)+2*1448)
	copy(again.Append(1448), sent[2*1448:])
	again.Next = w.pool.Get()
	again.Next.Reset(0)
	copy(again.Next.Append(1448), sent[3*1448:])
	again.GSO, again.GSOSize = pkt.GSOTCPv4, 1448

	w.toB[0], w.toB[1], w.toB[2], w.toB[3], w.nB = third, second, again, first, 4
	acks := w.b.count.SegsOut
	w.settle()
	if n := w.b.count.SegsOut - acks; n != 4 {
		t.Errorf("%d ACKs for three frames beyond a hole and one that fills it", n)
	}
	got := make([]byte, len(sent)+1)
	n, err := w.b.Recv(w.now, got)
	if err != nil || !bytes.Equal(got[:n], sent) {
		t.Errorf("read %d octets of %d, %v", n, len(sent), err)
	}
}

func put32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
}

// A peer whose segments fill a quarter of their buffers is not promised more than
// those buffers hold, though nobody reads.
func TestWindowKnowsHowFullBuffersAre(t *testing.T) {
	const limit = 1 << 20
	m := NewMemory(limit)
	w := newWirePairWith(t, 0, func(c *Config) { c.Memory = m; c.RcvBuf = 4 << 20 })
	defer w.close(t)
	w.a.SetPath(Path{MTU: 576})
	out := make([]byte, 64<<10)
	for range 100 {
		w.now += 1e8
		w.a.Send(w.now, out)
		w.a.Timer(w.now)
		w.a.Flush(w.now)
		w.settle()
	}
	if w.b.count.Dropped != 0 || w.a.count.Retransmits != 0 {
		t.Errorf("%d segments had no room, %d were sent again", w.b.count.Dropped, w.a.count.Retransmits)
	}
	if u := m.Used(); u < limit/2 || u > limit {
		t.Errorf("%d bytes held of %d", u, limit)
	}
}
