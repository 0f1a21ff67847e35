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

// maxFrame is the longest frame that an IP header can tell of: Ethernet with a
// VLAN tag, an IPv6 header, 65,535 bytes.
const maxFrame = etherLen + 4 + 40 + 65535

// minTCP is the least that stands in front of the payload of a TCP segment:
// Ethernet, IPv4, TCP.
const minTCP = etherLen + 20 + 20

// takeHdr sets b's offload fields from the received header h. total is the whole
// frame's length in bytes. It reports false where they do not fit the frame, or
// were not agreed on.
func (r *rxQueue) takeHdr(b *pkt.Buf, h []byte, total int) bool {
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
	gso := uint8(w >> 8)
	if gso == gsoNone {
		return true
	}
	if gso&gsoECN != 0 && !r.ecn {
		return false
	}
	switch gso &^ gsoECN {
	case gsoTCPv4:
		b.GSO = pkt.GSOTCPv4
	case gsoTCPv6:
		b.GSO = pkt.GSOTCPv6
	}
	b.HdrLen, b.GSOSize = uint16(w>>16), uint16(w>>32)
	if !r.merged[b.GSO] || b.GSOSize == 0 { // not agreed on; no segments, §5.1.6.4.1
		return false
	}
	if int(b.GSOSize) >= total-minTCP { // one segment, whatever the device calls it
		b.GSO, b.GSOSize, b.HdrLen = pkt.GSONone, 0, 0
	}
	return true
}
