package tcp

import (
	"bytes"
	"testing"

	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// sharingPair is a wirePair whose send buffers can be shared, in chunks of size.
func sharingPair(t testing.TB, size, shares, pieces int) (*wirePair, *pkt.Pool) {
	chunks, err := pkt.NewSharedPool(&testMem, 512, size, shares)
	if err != nil {
		t.Fatal(err)
	}
	w := newWirePairWith(t, 65536, func(c *Config) { c.Chunks = chunks })
	w.a.cc.cwnd = 1 << 20
	w.a.SetOptions(w.now, Options{NoDelay: true})
	w.a.SetPath(Path{MTU: 1500, GSOMax: 65536, Pieces: pieces})
	t.Cleanup(func() {
		w.close(t)
		if err := chunks.Close(&testMem); err != nil {
			t.Error(err)
		}
	})
	return w, chunks
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// A large frame is a header and the chunks themselves; they stay until both the
// peer's ACK and the device are through with them, whichever is last.
func TestLargeFramesAreNotCopied(t *testing.T) {
	w, chunks := sharingPair(t, 4096, 64, 40)
	sent := pattern(20 * 1448)
	w.a.Send(w.now, sent)
	w.a.Flush(w.now)
	if w.nB != 1 || w.toB[0].TotalLen() != 20+12+len(sent) || w.toB[0].Len() != 32 || w.toB[0].GSO != pkt.GSOTCPv4 {
		t.Fatalf("%d frames, the first of %d+%d bytes", w.nB, w.toB[0].Len(), w.toB[0].TotalLen()-w.toB[0].Len())
	}
	frame := w.toB[0]
	at := 0
	for p := frame.Next; p != nil; p = p.Next {
		if c := w.a.snd.chunk(at / 4096); p.Bus() != c.Mem.Bus || !bytes.Equal(p.Bytes(), sent[at:at+p.Len()]) {
			t.Errorf("octets %d to %d are not those in the chunk", at, at+p.Len())
		}
		at += p.Len()
	}
	if at != len(sent) {
		t.Errorf("%d octets", at)
	}
	// The peer acknowledges them, while the device still has the frame.
	w.nB = 0
	w.a.Input(w.now, &Segment{Seq: w.a.rcvNxt, Ack: w.a.sndNxt, Flags: wire.TCPAck, Window: 0xffff,
		Opt: wire.TCPOptions{Have: wire.TCPOptTimestamp, TSVal: w.a.tsRecent, TSEcr: w.a.tsClock(w.now)}})
	if w.a.snd.len != 0 || chunks.InUse() != 8 {
		t.Errorf("%d octets, %d chunks in use after the ACK", w.a.snd.len, chunks.InUse())
	}
	frame.Put()
	if chunks.InUse() != 0 {
		t.Errorf("%d chunks in use after both", chunks.InUse())
	}
}

// Frames begin and end anywhere in the chunks, and are sent again cut elsewhere,
// while the first copies are still under way; with few pieces to a frame, and
// where shares run out, octets are copied. The stream is what was sent.
func TestAttachedStream(t *testing.T) {
	for _, c := range []struct{ size, shares, pieces int }{
		{4096, 64, 40}, {4096, 64, 2}, {4096, 64, 3}, {4096, 3, 40}, {1000, 128, 40}, {1000, 128, 4}, {16384, 8, 18}, {600, 1, 33},
	} {
		w, chunks := sharingPair(t, c.size, c.shares, c.pieces)
		sent := pattern(150_000)
		var got []byte
		buf := make([]byte, 20_000)
		var kept []*pkt.Buf
		for round, off := 0, 0; len(got) < len(sent); round++ {
			if round > 10_000 {
				t.Fatalf("%+v: %d octets of %d", c, len(got), len(sent))
			}
			if off < len(sent) {
				n, _ := w.a.Send(w.now, sent[off:min(off+1+round*977%30_000, len(sent))])
				off += n
			}
			w.a.Flush(w.now)
			for i := range w.nB {
				if n := pieces(w.toB[i]); n > max(c.pieces, 1) {
					t.Fatalf("%+v: a frame of %d pieces", c, n)
				}
			}
			if round%5 == 1 && w.nB > 0 { // lost, and kept by the device for long
				w.nB--
				kept = append(kept, w.toB[w.nB])
			}
			w.settle()
			w.now += 3e8
			w.a.Timer(w.now)
			w.b.Timer(w.now)
			w.settle()
			n, _ := w.b.Recv(w.now, buf)
			got = append(got, buf[:n]...)
			w.b.Flush(w.now)
			if len(kept) > 3 {
				kept[0].Put()
				kept = kept[1:]
			}
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%+v: the stream differs", c)
		}
		pkt.PutBatch(kept)
		w.settle()
		if chunks.InUse() != 0 {
			t.Errorf("%+v: %d chunks in use", c, chunks.InUse())
		}
	}
}

func pieces(b *pkt.Buf) int {
	n := 0
	for ; b != nil; b = b.Next {
		n++
	}
	return n
}

func TestAttachedAllocatesNothing(t *testing.T) {
	w, _ := sharingPair(t, 4096, 512, 40)
	buf := make([]byte, 64<<10)
	for range 50 {
		w.now += 1e6
		bulk(w, buf)
	}
	if n := testing.AllocsPerRun(100, func() {
		w.now += 1e6
		bulk(w, buf)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
