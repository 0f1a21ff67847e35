package wire

// ICMPType is the type of an ICMP message (RFC 792).
type ICMPType uint8

const (
	ICMPEchoReply    ICMPType = 0
	ICMPUnreachable  ICMPType = 3
	ICMPRedirect     ICMPType = 5
	ICMPEcho         ICMPType = 8
	ICMPTimeExceeded ICMPType = 11
	ICMPParamProblem ICMPType = 12
)

// Codes of ICMPUnreachable (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1).
const (
	ICMPNetUnreachable   uint8 = 0
	ICMPHostUnreachable  uint8 = 1
	ICMPProtoUnreachable uint8 = 2
	ICMPPortUnreachable  uint8 = 3
	ICMPFragNeeded       uint8 = 4
	ICMPAdminProhibited  uint8 = 13
)

// Codes of ICMPTimeExceeded.
const (
	ICMPTTLExceeded        uint8 = 0
	ICMPReassemblyExceeded uint8 = 1
)

// ICMPLen is the length of the header of ICMP and ICMPv6 messages.
const ICMPLen = 8

// ICMP is an ICMP or ICMPv6 message; the layout of the first 8 bytes is shared.
type ICMP []byte

// ParseICMP views b as a message.
func ParseICMP(b []byte) (ICMP, bool) { return ICMP(b), len(b) >= ICMPLen }

func (m ICMP) Type() ICMPType  { return ICMPType(m[0]) }
func (m ICMP) Code() uint8     { return m[1] }
func (m ICMP) Body() []byte    { return m[ICMPLen:] }
func (m ICMP) Ident() uint16   { return be.Uint16(m[4:]) }      // of an echo
func (m ICMP) Seq() uint16     { return be.Uint16(m[6:]) }      // of an echo
func (m ICMP) NextMTU() int    { return int(be.Uint16(m[6:])) } // of ICMPFragNeeded (RFC 1191 §4)
func (m ICMP) Pointer() uint32 { return be.Uint32(m[4:]) }      // of an ICMPv6 parameter problem
func (m ICMP) MTU6() uint32    { return be.Uint32(m[4:]) }      // of ICMPv6 packet too big

// ChecksumOK verifies an ICMP message, which has no pseudo header.
func (m ICMP) ChecksumOK() bool { return Checksum(m) == 0 }

// SetChecksum computes the checksum of an ICMP message.
func (m ICMP) SetChecksum() {
	m[2], m[3] = 0, 0
	be.PutUint16(m[2:], Checksum(m))
}

// PutICMP writes a header of 8 bytes with a checksum of 0; rest is the second word.
func PutICMP(b []byte, t ICMPType, code uint8, rest uint32) {
	_ = b[ICMPLen-1]
	b[0], b[1], b[2], b[3] = uint8(t), code, 0, 0
	be.PutUint32(b[4:], rest)
}
