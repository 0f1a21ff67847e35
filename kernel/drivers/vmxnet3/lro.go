package vmxnet3

import (
	"encoding/binary"

	"osv/kernel/pkt"
)

// maxFrame is the longest frame that an IP header can tell of: Ethernet with a VLAN
// tag, an IPv6 header, 65,535 bytes.
const maxFrame = etherLen + 4 + 40 + 65535

// maxMergedBufs is how many buffers a frame of merged segments may take: devices are
// known to work with the 18 that Linux offers (MAX_SKB_FRAGS and one).
const maxMergedBufs = 18

// sizeFrames works out how long a frame may be and how many buffers it takes, and
// returns how many body buffers the rings have for frames beside the given number of
// head buffers. Segments are merged only where two frames of the largest size fit.
func (r *rxQueue) sizeFrames(heads int, lro bool) (bodies int) {
	for {
		if r.max = r.plain; lro {
			r.max = maxFrame
		}
		r.maxBufs = int((r.max + r.bufLen - 1) / r.bufLen)
		bodies = max(min(heads*min(r.maxBufs-1, 2), maxRing), ringUnit)
		if r.lro = lro; !lro || r.maxBufs <= maxMergedBufs && r.maxBufs-1 <= bodies/2 {
			return bodies
		}
		lro = false
	}
}

// merged sets what is known of a frame of merged segments, whose last completion has
// the word w. It reports false, with the fault noted, where the frame cannot be one.
// A frame whose checksum the device does not vouch for goes up as well: the stack sums.
func (r *rxQueue) merged(b *pkt.Buf, w uint64) bool {
	hdr := tcpHeaders(b.Bytes())
	switch {
	case w&rcdTCP == 0 || w&(rcdV4|rcdV6) == 0 || w&rcdFrag != 0 || hdr == 0 || uint32(hdr) >= r.size:
		r.wrong("a frame of %d bytes, want at most %d where it is not of merged TCP segments", r.size, r.plain)
		return false
	case w&rcdV4 != 0:
		b.GSO = pkt.GSOTCPv4
	default:
		b.GSO = pkt.GSOTCPv6
	}
	data := r.size - uint32(hdr)
	size := uint32(r.mss)
	if size == 0 && r.segs > 1 {
		size = (data + uint32(r.segs) - 1) / uint32(r.segs)
	}
	if size == 0 || size > 0xFFFF {
		// Revision 1 does not tell: segments of a bulk transfer fill their packets.
		size = uint32(max(int(r.plain)-4-hdr, 1))
	}
	if b.GSOSize, b.HdrLen = uint16(size), uint16(hdr); size >= data { // one segment, whatever the device calls it
		b.GSO, b.GSOSize, b.HdrLen = pkt.GSONone, 0, 0
	}
	return true
}

// tcpHeaders is how many bytes of headers a frame of TCP starts with, 0 where its
// first buffer does not hold them or it is no such frame.
func tcpHeaders(f []byte) int {
	if len(f) < etherLen+4 {
		return 0
	}
	l3 := etherLen
	kind := binary.BigEndian.Uint16(f[12:])
	if kind == 0x8100 { // a VLAN tag
		kind, l3 = binary.BigEndian.Uint16(f[16:]), l3+4
	}
	l4, proto := 0, byte(0)
	switch {
	case kind == 0x0800 && len(f) >= l3+20 && f[l3]>>4 == 4 && f[l3]&15 >= 5:
		l4, proto = l3+int(f[l3]&15)*4, f[l3+9]
	case kind == 0x86DD && len(f) >= l3+40 && f[l3]>>4 == 6: // merged segments have no extension headers
		l4, proto = l3+40, f[l3+6]
	}
	if proto != 6 || len(f) < l4+20 || f[l4+12]>>4 < 5 || len(f) < l4+int(f[l4+12]>>4)*4 {
		return 0
	}
	return l4 + int(f[l4+12]>>4)*4
}
