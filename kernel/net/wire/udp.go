package wire

// UDPLen is the length of a UDP header.
const UDPLen = 8

// UDP is a UDP datagram (RFC 768), header and payload.
type UDP []byte

// ParseUDP views the datagram at the front of b, cut to its length field. It
// reports false where that does not fit.
func ParseUDP(b []byte) (UDP, bool) {
	if len(b) < UDPLen {
		return nil, false
	}
	n := int(be.Uint16(b[4:]))
	if n < UDPLen || n > len(b) {
		return nil, false
	}
	return UDP(b[:n]), true
}

func (u UDP) SrcPort() uint16  { return be.Uint16(u) }
func (u UDP) DstPort() uint16  { return be.Uint16(u[2:]) }
func (u UDP) Len() int         { return int(be.Uint16(u[4:])) }
func (u UDP) Checksum() uint16 { return be.Uint16(u[6:]) }
func (u UDP) Payload() []byte  { return u[UDPLen:] }

// PutUDP writes a header of 8 bytes; length counts it, sum is as it shall stand.
func PutUDP(b []byte, src, dst uint16, length int, sum uint16) {
	_ = b[UDPLen-1]
	be.PutUint16(b[0:], src)
	be.PutUint16(b[2:], dst)
	be.PutUint16(b[4:], uint16(length))
	be.PutUint16(b[6:], sum)
}

// UDPChecksum is the checksum to send for a datagram whose header and payload
// sum to acc with the pseudo header, the checksum field being 0. A result of 0
// is sent as all ones, since 0 says that there is none (RFC 768).
func UDPChecksum(acc uint32) uint16 {
	if s := ^Fold(acc); s != 0 {
		return s
	}
	return 0xffff
}
