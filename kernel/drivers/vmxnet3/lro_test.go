package vmxnet3_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"osv/kernel/drivers/vmxnet3"
	"osv/kernel/ktest/fakevmxnet3"
	"osv/kernel/pkt"
)

// lroBuf is the size of buffers of which 16 hold the largest frame.
var lroBuf = vmxnet3.RxBufBytes(4096)

func lroRig(t testing.TB, revisions uint32, before func(*fakevmxnet3.Card)) *rig {
	return newRig(t, rigOpt{msix: 3, bufSize: lroBuf, cfg: vmxnet3.Config{LRO: true},
		before: func(c *fakevmxnet3.Card) {
			c.Revisions = revisions
			if before != nil {
				before(c)
			}
		}})
}

// one delivers f and returns the frame that comes up.
func (r *rig) one(f []byte) *pkt.Buf {
	r.t.Helper()
	r.card.Deliver(0, f)
	r.card.Step()
	in := r.recv(2)
	if len(in) != 1 {
		r.t.Fatalf("%d frames of one of %d bytes: fault %v", len(in), len(f), r.dev.Fault())
	}
	return in[0]
}

// Merged segments of up to 64 KiB come up as one chain with the size of the segments:
// as revision 2 tells it, else a packet each.
func TestMergedSegmentsComeUp(t *testing.T) {
	const mss = 1448
	for _, c := range []struct {
		name      string
		revisions uint32
		merged    func(*fakevmxnet3.Card)
		want      int // 0: what fills a packet
	}{
		{"revision 1", 1, nil, 0},
		{"revision 2", 3, func(c *fakevmxnet3.Card) {
			c.Merged = func(f []byte) (int, int) { return (len(f) - 66 + mss - 1) / mss, mss }
		}, mss},
		{"revision 2 without a size", 3, func(c *fakevmxnet3.Card) {
			c.Merged = func(f []byte) (int, int) { return 4, 0 }
		}, -4},
		{"revision 2 without a word", 3, nil, 0},
	} {
		r := lroRig(t, c.revisions, c.merged)
		if !r.dev.Caps().LRO {
			t.Fatal("the link does not say that it merges")
		}
		for _, v6 := range []bool{false, true} {
			for _, vlan := range []bool{false, true} {
				for _, payload := range []int{4000, 9000, 30000, 65535 - 40 - 12, 2 * mss} {
					if v6 && payload > 65535-60 {
						continue
					}
					f, _, l4 := ipTCP(v6, vlan, payload)
					hdr := l4 + int(f[l4+12]>>4)*4
					b := r.one(f)
					r.want(b, f)
					want := c.want
					switch {
					case want == 0:
						want = 1500 + 14 - hdr
					case want < 0:
						want = (len(f) - hdr + 3) / 4
					}
					kind := pkt.GSOTCPv4
					if v6 {
						kind = pkt.GSOTCPv6
					}
					if b.GSO != kind || int(b.GSOSize) != want || int(b.HdrLen) != hdr || b.Flags != pkt.CsumValid {
						t.Errorf("%s: v6 %v, vlan %v, %d bytes: GSO %d of %d, header %d, flags %d; want %d of %d, header %d",
							c.name, v6, vlan, payload, b.GSO, b.GSOSize, b.HdrLen, b.Flags, kind, want, hdr)
					}
					b.Put()
				}
			}
		}
		// One segment, with and without the word that it is one.
		f, _, _ := ipTCP(false, false, 1000)
		if b := r.one(f); b.GSO != pkt.GSONone && c.want >= 0 || !bytes.Equal(flat(b), f) {
			t.Errorf("%s: one segment: GSO %d of %d", c.name, b.GSO, b.GSOSize)
		} else {
			b.Put()
		}
		if s := r.dev.Stats(); s.RxErrors != 0 {
			t.Errorf("%s: %+v, %v", c.name, s, r.dev.Fault())
		}
	}
}

// The bits of the checksum say no more of a merged frame than of another.
func TestMergedChecksum(t *testing.T) {
	r := lroRig(t, 1, func(c *fakevmxnet3.Card) { c.BadSums = func([]byte) bool { return true } })
	f, _, _ := ipTCP(false, false, 9000)
	b := r.one(f)
	if b.Flags != 0 || b.GSO != pkt.GSOTCPv4 {
		t.Errorf("flags %d, GSO %d", b.Flags, b.GSO)
	}
	b.Put()
}

// A large frame that is not of TCP segments is dropped, and the next one passes.
func TestLargeFrameThatIsNotMerged(t *testing.T) {
	tcp, l3, l4 := ipTCP(false, false, 9000)
	tcp6, _, l46 := ipTCP(true, false, 9000)
	change := func(f []byte, at int, v byte) []byte {
		f = bytes.Clone(f)
		f[at] = v
		return f
	}
	for name, f := range map[string][]byte{
		"no IP":                frame(9000, 1),
		"UDP":                  change(tcp, l3+9, 17),
		"no IPv4":              change(tcp, l3, 0x65),
		"a short IPv4 header":  change(tcp, l3, 0x44),
		"a short TCP header":   change(tcp, l4+12, 0x40),
		"no IPv6":              change(tcp6, 14, 0x45),
		"an extension":         change(tcp6, 20, 0),
		"a short TCP header 6": change(tcp6, l46+12, 0),
	} {
		r := lroRig(t, 1, func(c *fakevmxnet3.Card) { // whatever the device says of it
			c.OnRx = func(e *[4]uint32) {
				e[3] |= 1<<18 | 1<<20
				if f[12] == 8 {
					e[3] |= 1 << 21
				}
			}
		})
		r.card.Deliver(0, f)
		r.card.Deliver(0, tcp)
		r.card.Step()
		in := r.recv(4)
		if len(in) != 1 || in[0].TotalLen() != len(tcp) {
			t.Fatalf("%s: %d frames", name, len(in))
		}
		in[0].Put()
		if err := r.dev.Fault(); err == nil || !strings.Contains(err.Error(), "a frame of 9") || r.dev.Stats().RxErrors != 1 || r.dev.Err() != nil {
			t.Errorf("%s: %v, %+v", name, err, r.dev.Stats())
		}
	}
	// By what the device says, too.
	for name, bits := range map[string]uint32{"not TCP": 1 << 18, "of no IP": 1<<20 | 1<<21} {
		r := lroRig(t, 1, func(c *fakevmxnet3.Card) { c.OnRx = func(e *[4]uint32) { e[3] &^= bits } })
		r.card.Deliver(0, tcp)
		r.card.Step()
		if in := r.recv(4); len(in) != 0 || r.dev.Stats().RxErrors != 1 {
			t.Errorf("%s: %d frames, %+v", name, len(in), r.dev.Stats())
		}
	}
}

// Where buffers or rings are too small, or offloads are off, nothing is merged; a
// device that says that it did is broken.
func TestMergingNeedsRoom(t *testing.T) {
	for name, o := range map[string]rigOpt{
		"small buffers": {bufSize: vmxnet3.RxBufBytes(2048), cfg: vmxnet3.Config{LRO: true}},
		"no offload":    {bufSize: lroBuf, cfg: vmxnet3.Config{LRO: true, NoOffload: true}},
		"not wanted":    {bufSize: lroBuf},
	} {
		o.before = func(c *fakevmxnet3.Card) { c.Revisions = 3 }
		r := newRig(t, o)
		if r.dev.Caps().LRO {
			t.Errorf("%s: the link says that it merges", name)
		}
		f, _, _ := ipTCP(false, false, 9000)
		r.card.Deliver(0, f)
		if r.card.Step(); r.card.Oversize() != 1 || len(r.recv(1)) != 0 {
			t.Errorf("%s: %d frames were refused", name, r.card.Oversize())
		}
		r.card.OnRx = func(e *[4]uint32) { e[3] = e[3]&^(7<<24) | 4<<24 }
		r.card.Deliver(0, frame(100, 1))
		r.card.Step()
		if r.recv(1); r.dev.Err() == nil || !strings.Contains(r.dev.Err().Error(), "a completion of type 4") {
			t.Errorf("%s: %v", name, r.dev.Err())
		}
	}
}

// A reset brings merging back.
func TestMergingAfterReset(t *testing.T) {
	r := lroRig(t, 3, nil)
	if err := r.dev.Reset(); err != nil {
		t.Fatal(err)
	}
	f, _, _ := ipTCP(false, false, 20000)
	b := r.one(f)
	r.want(b, f)
	b.Put()
}

func TestMergedSegmentsDoNotAllocate(t *testing.T) {
	r := lroRig(t, 3, nil)
	f, _, _ := ipTCP(false, false, 60000)
	in := make([]*pkt.Buf, 8)
	for range 10 {
		for range 4 {
			r.card.Deliver(0, f)
		}
		r.card.Step()
		n := 0
		allocs := testing.AllocsPerRun(1, func() { // it runs twice: the second finds nothing
			k := r.dev.RxBatch(0, in)
			n += k
			pkt.PutBatch(in[:k])
		})
		if allocs != 0 || n != 4 {
			t.Fatalf("%v allocations, %d frames", allocs, n)
		}
	}
}

// Whatever a device says of a frame that may be merged, what comes up is no longer than
// IP can tell, its segments are not empty, and no buffer is lost.
func FuzzMergedAnswers(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 7, 4, 0xA8, 5}, uint16(20000))
	f.Add([]byte{0, 0, 0xC0, 0, 100, 0, 0, 7, 1, 0, 0, 0, 1, 0, 0xC0, 0, 100, 0, 0, 3, 0, 0, 0, 0}, uint16(3000))
	f.Fuzz(func(t *testing.T, answers []byte, size uint16) {
		r, err := tryRig(t, rigOpt{bufs: 128, bufSize: lroBuf, cfg: vmxnet3.Config{RxRing: 32, LRO: true},
			before: func(c *fakevmxnet3.Card) { c.Revisions = 3 }})
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		if !r.dev.Caps().LRO {
			t.Fatal("nothing is merged")
		}
		r.card.OnRx = func(c *[4]uint32) {
			if len(answers) < 12 {
				return
			}
			a := answers
			c[0] ^= uint32(a[0]) | uint32(a[1])<<8 | uint32(a[2])<<14 | uint32(a[3])<<24
			c[2] ^= uint32(a[4]) | uint32(a[5])<<8
			c[3] ^= uint32(a[6])<<16 ^ uint32(a[7])<<24
			c[1] = uint32(a[8])
			c[3] = c[3]&^0xFFFF | uint32(binary.LittleEndian.Uint16(a[10:]))
			answers = a[12:]
		}
		for i := range 12 {
			f, _, _ := ipTCP(i&1 != 0, i&2 != 0, int(size)>>(i%5))
			r.card.Deliver(0, f[:min(len(f), 60000)])
			r.card.Step()
			for _, b := range r.recv(5) {
				if n := b.TotalLen(); n < 14 || n > 14+4+40+65535 || (b.GSO != pkt.GSONone) != (b.GSOSize > 0) || int(b.GSOSize) > n {
					t.Errorf("a frame of %d bytes, GSO %d of %d", n, b.GSO, b.GSOSize)
				}
				b.Put()
			}
		}
	})
}
