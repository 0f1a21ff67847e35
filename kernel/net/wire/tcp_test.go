package wire

import (
	"bytes"
	"testing"
)

func TestTCPPutThenRead(t *testing.T) {
	b := bytes.Repeat([]byte{0xff}, 24)
	h := TCP(b)
	f := TCPFields{SrcPort: 0x1234, DstPort: 80, Seq: 0xfffffff0, Ack: 7, Flags: TCPSyn | TCPAck | TCPUrg, Window: 512, Urgent: 9}
	h.Put(&f, 24)
	if _, ok := ParseTCP(b); !ok || h.SrcPort() != 0x1234 || h.DstPort() != 80 || h.Seq() != 0xfffffff0 || h.Ack() != 7 ||
		h.Flags() != TCPSyn|TCPAck|TCPUrg || h.Window() != 512 || h.Urgent() != 9 || h.HeaderLen() != 24 || h.Checksum() != 0 {
		t.Fatalf("read back % x", b)
	}
	if got := h.Options(); !bytes.Equal(got, []byte{0xff, 0xff, 0xff, 0xff}) {
		t.Errorf("options % x: Put must leave them", got)
	}
	if len(h.Payload()) != 0 {
		t.Errorf("payload of %d bytes", len(h.Payload()))
	}
	h.SetChecksum(0xbeef)
	if h.Checksum() != 0xbeef {
		t.Errorf("checksum %#x", h.Checksum())
	}
}

func TestParseTCP(t *testing.T) {
	b := make([]byte, 60)
	for _, c := range []struct {
		n, off int
		ok     bool
	}{{0, 0, false}, {19, 5, false}, {20, 5, true}, {20, 4, false}, {20, 0, false}, {20, 6, false}, {24, 6, true}, {59, 15, false}, {60, 15, true}} {
		b[12] = byte(c.off << 4)
		if _, got := ParseTCP(b[:c.n]); got != c.ok {
			t.Errorf("%d bytes, offset %d words: valid %v", c.n, c.off, got)
		}
	}
}

func TestTCPFlagsString(t *testing.T) {
	for f, want := range map[TCPFlags]string{
		0: "-", TCPSyn: "S", TCPSyn | TCPAck: "S.", TCPFin | TCPPsh | TCPAck: "FP.", 0xff: "FSRP.UEW",
	} {
		if got := f.String(); got != want {
			t.Errorf("%#x: %q, want %q", uint8(f), got, want)
		}
	}
	if !(TCPSyn | TCPAck).Has(TCPSyn) || TCPSyn.Has(TCPSyn|TCPAck) {
		t.Error("Has")
	}
}

func TestTCPOptionsRoundTrip(t *testing.T) {
	for _, c := range []struct {
		name string
		o    TCPOptions
		n    int // bytes
		sack int // blocks that fit
	}{
		{"none", TCPOptions{}, 0, 0},
		{"syn", TCPOptions{Have: TCPOptMSS | TCPOptWScale | TCPOptSACKOK | TCPOptTimestamp, MSS: 1460, WScale: 7, TSVal: 1, TSEcr: 2}, 20, 0},
		{"syn without timestamps", TCPOptions{Have: TCPOptMSS | TCPOptWScale | TCPOptSACKOK, MSS: 536, WScale: 14}, 12, 0},
		{"data", TCPOptions{Have: TCPOptTimestamp, TSVal: 0xdeadbeef, TSEcr: 0xffffffff}, 12, 0},
		{"one block", TCPOptions{Have: TCPOptSACK, NSACK: 1, SACK: [4]TCPSACKBlock{{1, 2}}}, 12, 1},
		{"four blocks", TCPOptions{Have: TCPOptSACK, NSACK: 4, SACK: [4]TCPSACKBlock{{1, 2}, {3, 4}, {5, 6}, {7, 8}}}, 36, 4},
		{"four blocks and timestamps", TCPOptions{Have: TCPOptSACK | TCPOptTimestamp, NSACK: 4, SACK: [4]TCPSACKBlock{{1, 2}, {3, 4}, {5, 6}, {7, 8}}}, 40, 3},
		{"no block", TCPOptions{Have: TCPOptSACK}, 0, 0},
	} {
		if c.o.Len() != c.n {
			t.Errorf("%s: %d bytes, want %d", c.name, c.o.Len(), c.n)
			continue
		}
		b := make([]byte, c.n)
		c.o.Put(b)
		var got TCPOptions
		if !got.Parse(b) {
			t.Errorf("%s: % x does not parse", c.name, b)
		}
		want := c.o
		want.NSACK = uint8(c.sack)
		if c.sack == 0 {
			want.Have &^= TCPOptSACK
		}
		for i := c.sack; i < TCPMaxSACK; i++ {
			want.SACK[i] = TCPSACKBlock{}
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, want)
		}
	}
}

func TestTCPOptionsParse(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		have TCPOpt
		ok   bool
	}{
		{"empty", nil, 0, true},
		{"end", []byte{0, 2, 4, 5, 180}, 0, true},
		{"nops", []byte{1, 1, 1, 1}, 0, true},
		{"unknown skipped", []byte{254, 4, 9, 9, 2, 4, 5, 180}, TCPOptMSS, true},
		{"length 0", []byte{2, 0, 5, 180}, 0, false},
		{"length 1", []byte{99, 1, 5, 180}, 0, false},
		{"too long", []byte{2, 5, 5, 180}, 0, false},
		{"kind alone", []byte{4, 2, 8}, TCPOptSACKOK, false},
		{"MSS of wrong length", []byte{2, 3, 5, 4, 2}, TCPOptSACKOK, true},
		{"SACK of 7", append([]byte{5, 9}, make([]byte, 7)...), 0, true},
		{"SACK of 0", []byte{5, 2, 1, 1}, 0, true},
		{"WS 15 is 14", []byte{3, 3, 15, 0}, TCPOptWScale, true},
		{"timestamps then truncated", []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 5}, TCPOptTimestamp, false},
	} {
		var o TCPOptions
		if ok := o.Parse(c.b); ok != c.ok || o.Have != c.have {
			t.Errorf("%s: have %b ok %v, want %b %v", c.name, o.Have, ok, c.have, c.ok)
		}
		if o.Have&TCPOptWScale != 0 && o.WScale != TCPMaxWScale {
			t.Errorf("%s: scale %d", c.name, o.WScale)
		}
	}
}

func TestTCPParseAllocatesNothing(t *testing.T) {
	o := TCPOptions{Have: TCPOptSACK | TCPOptTimestamp, NSACK: 3}
	b := make([]byte, o.Len())
	if n := testing.AllocsPerRun(100, func() {
		o.Put(b)
		o.Parse(b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Any options area: no panic, nothing outside it is read, and what was parsed
// comes back the same after being written and read again.
func FuzzTCPOptions(f *testing.F) {
	f.Add([]byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7})
	f.Add([]byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 20})
	f.Add([]byte{5, 34, 2, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:len(b):len(b)]
		var o, again TCPOptions
		o.Parse(b)
		if int(o.NSACK) > TCPMaxSACK || o.Have&TCPOptWScale != 0 && o.WScale > TCPMaxWScale {
			t.Fatalf("out of range: %+v", o)
		}
		n := o.Len()
		if n > TCPMaxOptions || n%4 != 0 {
			t.Fatalf("%+v takes %d bytes", o, n)
		}
		w := make([]byte, n)
		o.Put(w)
		if !again.Parse(w) {
			t.Fatalf("% x does not parse", w)
		}
		if again.Have&^TCPOptSACK != o.Have&^TCPOptSACK {
			t.Fatalf("wrote %b, read %b", o.Have, again.Have)
		}
		for i := range again.NSACK {
			if again.SACK[i] != o.SACK[i] {
				t.Fatalf("block %d: wrote %v, read %v", i, o.SACK[i], again.SACK[i])
			}
		}
	})
}

func FuzzTCPHeader(f *testing.F) {
	f.Add(make([]byte, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := ParseTCP(b[:len(b):len(b)])
		if !ok {
			return
		}
		var o TCPOptions
		o.Parse(h.Options())
		fields := TCPFields{h.SrcPort(), h.DstPort(), h.Seq(), h.Ack(), h.Flags(), h.Window(), h.Urgent()}
		w := TCP(bytes.Clone(b))
		w.Put(&fields, h.HeaderLen())
		w.SetChecksum(h.Checksum())
		w[12] |= b[12] & 0xf // reserved bits
		if !bytes.Equal(w, b) {
			t.Fatalf("wrote % x, read % x", w, b)
		}
	})
}

func BenchmarkTCPOptionsTimestamp(b *testing.B) {
	o := TCPOptions{Have: TCPOptTimestamp, TSVal: 1, TSEcr: 2}
	w := make([]byte, o.Len())
	o.Put(w)
	for b.Loop() {
		o.Parse(w)
	}
}
