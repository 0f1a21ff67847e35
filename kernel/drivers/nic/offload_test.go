package nic

import (
	"encoding/binary"
	"testing"

	"osv/kernel/hw/dma"
	"osv/kernel/pkt"
)

// Whatever a frame says of itself, Plan stays inside it, and Reseed after it takes
// the length out of the seed and nothing else.
func FuzzPlan(f *testing.F) {
	tcp := make([]byte, 80)
	tcp[12], tcp[14+33] = 8, 0
	tcp[34+12] = 0x50
	f.Add(tcp, uint16(34), uint16(16), uint8(1), uint16(10), uint16(0))
	f.Add(tcp[:20], uint16(14), uint16(2), uint8(0), uint16(0), uint16(0))
	var mem dma.Host
	pool, err := pkt.NewPool(&mem, 2, 2048)
	if err != nil {
		f.Fatal(err)
	}
	caps := pkt.Caps{TxCsum: true, TSO4: true, TSO6: true, GSOMax: 65549}
	f.Fuzz(func(t *testing.T, frame []byte, start, off uint16, gso uint8, mss, hdr uint16) {
		b := pool.Get()
		defer b.Put()
		copy(b.Append(min(len(frame), 1500)), frame)
		b.Flags, b.CsumStart, b.CsumOffset, b.GSO, b.GSOSize, b.HdrLen = pkt.CsumPartial, start, off, pkt.GSO(gso), mss, hdr
		before := append([]byte(nil), b.Bytes()...)
		var o Offload
		if !o.Plan(b, &caps, 255, 255) {
			return
		}
		if o.L4 != int(start) || o.Sum+2 > len(before) || o.TSO && (o.Hdr > len(before) || o.Hdr >= b.TotalLen() || mss == 0) {
			t.Fatalf("%+v of %d bytes", o, len(before))
		}
		if !o.TSO {
			return
		}
		o.Reseed(b)
		seed := binary.BigEndian.Uint16(b.Bytes()[o.Sum:])
		s := uint32(seed) + uint32(len(before)-o.L4)
		if got, want := uint16(s>>16+s&0xFFFF), binary.BigEndian.Uint16(before[o.Sum:]); got != want && got%0xFFFF != want%0xFFFF {
			t.Fatalf("seed %#x and length make %#x, want %#x", seed, got, want)
		}
	})
}
