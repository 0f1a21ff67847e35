package virtionet

import (
	"encoding/binary"

	"osv/kernel/pkt"
)

// struct virtio_net_hdr, §5.1.6: flags, gso_type, then 16-bit hdr_len, gso_size,
// csum_start, csum_offset, and num_buffers, which a legacy device without
// mergeable buffers does not have (§5.1.6.1).
const (
	hdrBytes       = 12
	hdrBytesLegacy = 10
	hdrNumBuffers  = 10 // offset

	etherLen = 14
)

const (
	flagNeedsCsum = 1 << 0
	flagDataValid = 1 << 1
)

const (
	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoECN   = 0x80
)

// putHdr writes the header for frame b into h, of 10 or 12 bytes.
func putHdr(h []byte, b *pkt.Buf) {
	var flags, gso uint64
	if b.Flags&pkt.CsumPartial != 0 {
		flags = flagNeedsCsum
	}
	switch b.GSO {
	case pkt.GSOTCPv4:
		gso = gsoTCPv4
	case pkt.GSOTCPv6:
		gso = gsoTCPv6
	}
	w := flags | gso<<8
	if gso != 0 {
		w |= uint64(b.HdrLen)<<16 | uint64(b.GSOSize)<<32
	}
	var off uint16
	if flags != 0 {
		w |= uint64(b.CsumStart) << 48
		off = b.CsumOffset
	}
	binary.LittleEndian.PutUint64(h, w)
	binary.LittleEndian.PutUint16(h[8:], off)
	if len(h) == hdrBytes {
		binary.LittleEndian.PutUint16(h[hdrNumBuffers:], 0) // §5.1.6.2.1: the driver sets it to 0
	}
}

// takeHdr sets b's offload fields from the received header h. total is the whole
// frame's length in bytes. It reports false where they do not fit the frame.
func takeHdr(b *pkt.Buf, h []byte, total int) bool {
	w := binary.LittleEndian.Uint64(h)
	if w&0xffff == 0 {
		return true
	}
	if w&flagNeedsCsum != 0 {
		b.CsumStart = uint16(w >> 48)
		b.CsumOffset = binary.LittleEndian.Uint16(h[8:])
		if int(b.CsumStart)+int(b.CsumOffset)+2 > total {
			return false
		}
		b.Flags |= pkt.CsumPartial
	} else if w&flagDataValid != 0 {
		b.Flags |= pkt.CsumValid
	}
	switch uint8(w>>8) &^ gsoECN {
	case gsoNone:
		return true
	case gsoTCPv4:
		b.GSO = pkt.GSOTCPv4
	case gsoTCPv6:
		b.GSO = pkt.GSOTCPv6
	default:
		return false // not agreed on
	}
	b.HdrLen, b.GSOSize = uint16(w>>16), uint16(w>>32)
	return b.GSOSize != 0
}
