package wire

import (
	"net/netip"
	"time"
)

// ICMPv6 message types (RFC 4443, RFC 4861, RFC 3810).
const (
	ICMPv6Unreachable  ICMPType = 1
	ICMPv6TooBig       ICMPType = 2
	ICMPv6TimeExceeded ICMPType = 3
	ICMPv6ParamProblem ICMPType = 4
	ICMPv6Echo         ICMPType = 128
	ICMPv6EchoReply    ICMPType = 129
	ICMPv6MLDQuery     ICMPType = 130
	ICMPv6RouterSol    ICMPType = 133
	ICMPv6RouterAdv    ICMPType = 134
	ICMPv6NeighborSol  ICMPType = 135
	ICMPv6NeighborAdv  ICMPType = 136
	ICMPv6Redirect     ICMPType = 137
	ICMPv6MLDv2Report  ICMPType = 143
)

// Codes of ICMPv6Unreachable and ICMPv6ParamProblem.
const (
	ICMPv6NoRoute         uint8 = 0
	ICMPv6Admin           uint8 = 1
	ICMPv6AddrUnreachable uint8 = 3
	ICMPv6PortUnreachable uint8 = 4

	ICMPv6ErroneousHeader uint8 = 0
	ICMPv6UnknownNext     uint8 = 1
	ICMPv6UnknownOption   uint8 = 2
)

// ChecksumOK6 verifies an ICMPv6 message between src and dst (RFC 4443 §2.3).
func (m ICMP) ChecksumOK6(src, dst []byte) bool {
	return Fold(Sum(PseudoSum6(src, dst, ProtoICMPv6, len(m)), m)) == 0xffff
}

// SetChecksum6 computes the checksum of an ICMPv6 message between src and dst.
func (m ICMP) SetChecksum6(src, dst []byte) {
	m[2], m[3] = 0, 0
	be.PutUint16(m[2:], ^Fold(Sum(PseudoSum6(src, dst, ProtoICMPv6, len(m)), m)))
}

// NDOption types (RFC 4861 §4.6, RFC 8106 §5.1).
const (
	NDSourceLLA uint8 = 1
	NDTargetLLA uint8 = 2
	NDPrefix    uint8 = 3
	NDMTU       uint8 = 5
	NDRDNSS     uint8 = 25
)

// Lengths of the fixed part of the ND messages, ICMP header included.
const (
	RouterSolLen   = 8
	RouterAdvLen   = 16
	NeighborMsgLen = 24
)

// NeighborMsg is a neighbor solicitation or advertisement (RFC 4861 §4.3, §4.4).
type NeighborMsg []byte

// ParseNeighborMsg views an ICMPv6 message as one, options checked.
func ParseNeighborMsg(b []byte) (NeighborMsg, bool) {
	return NeighborMsg(b), len(b) >= NeighborMsgLen && ndOptionsOK(b[NeighborMsgLen:])
}

func (m NeighborMsg) Target() netip.Addr { return addr6(m[8:]) }
func (m NeighborMsg) Router() bool       { return m[4]&0x80 != 0 }
func (m NeighborMsg) Solicited() bool    { return m[4]&0x40 != 0 }
func (m NeighborMsg) Override() bool     { return m[4]&0x20 != 0 }
func (m NeighborMsg) Options() []byte    { return m[NeighborMsgLen:] }

// PutNeighborMsg writes a message with one link-layer address option (none where
// opt is 0), checksum 0, to the front of b and returns its length. Flags are those of the
// advertisement's byte: 0x80 router, 0x40 solicited, 0x20 override.
func PutNeighborMsg(b []byte, t ICMPType, flags uint8, target netip.Addr, opt uint8, lla MAC) int {
	_ = b[NeighborMsgLen-1]
	PutICMP(b, t, 0, uint32(flags)<<24)
	a := target.As16()
	copy(b[8:], a[:])
	if opt == 0 {
		return NeighborMsgLen
	}
	return NeighborMsgLen + PutNDLLA(b[NeighborMsgLen:], opt, lla)
}

// PutNDLLA writes a link-layer address option and returns its length.
func PutNDLLA(b []byte, opt uint8, lla MAC) int {
	_ = b[7]
	b[0], b[1] = opt, 1
	copy(b[2:], lla[:])
	return 8
}

// RouterAdv is a router advertisement (RFC 4861 §4.2).
type RouterAdv []byte

// ParseRouterAdv views an ICMPv6 message as one, options checked.
func ParseRouterAdv(b []byte) (RouterAdv, bool) {
	return RouterAdv(b), len(b) >= RouterAdvLen && ndOptionsOK(b[RouterAdvLen:])
}

func (m RouterAdv) HopLimit() uint8 { return m[4] }
func (m RouterAdv) Managed() bool   { return m[5]&0x80 != 0 }
func (m RouterAdv) Lifetime() time.Duration {
	return time.Duration(be.Uint16(m[6:])) * time.Second
}
func (m RouterAdv) ReachableTime() time.Duration {
	return time.Duration(be.Uint32(m[8:])) * time.Millisecond
}
func (m RouterAdv) RetransTimer() time.Duration {
	return time.Duration(be.Uint32(m[12:])) * time.Millisecond
}
func (m RouterAdv) Options() []byte { return m[RouterAdvLen:] }

// ndOptionsOK reports whether every option has a length that fits and is not 0
// (RFC 4861 §4.6: else the whole packet is dropped).
func ndOptionsOK(o []byte) bool {
	for len(o) > 0 {
		if len(o) < 8 || o[1] == 0 || int(o[1])*8 > len(o) {
			return false
		}
		o = o[int(o[1])*8:]
	}
	return true
}

// NextNDOption splits the first option, header included, from checked options.
func NextNDOption(o []byte) (kind uint8, opt, rest []byte, ok bool) {
	if len(o) < 8 || o[1] == 0 || int(o[1])*8 > len(o) {
		return 0, nil, nil, false
	}
	n := int(o[1]) * 8
	return o[0], o[:n:n], o[n:], true
}

// NDLLA finds a link-layer address option of the given kind.
func NDLLA(o []byte, want uint8) (MAC, bool) {
	for {
		k, opt, rest, ok := NextNDOption(o)
		if !ok {
			return MAC{}, false
		}
		if k == want {
			return MAC(opt[2:8]), true
		}
		o = rest
	}
}

// NDPrefixInfo is a prefix information option (RFC 4861 §4.6.2).
type NDPrefixInfo []byte

// ParseNDPrefix views an option as one.
func ParseNDPrefix(o []byte) (NDPrefixInfo, bool) {
	return NDPrefixInfo(o), len(o) == 32 && o[0] == NDPrefix && o[2] <= 128
}

func (p NDPrefixInfo) Prefix() netip.Prefix {
	return netip.PrefixFrom(addr6(p[16:]), int(p[2])).Masked()
}
func (p NDPrefixInfo) OnLink() bool     { return p[3]&0x80 != 0 }
func (p NDPrefixInfo) Autonomous() bool { return p[3]&0x40 != 0 }

// Valid is the valid lifetime; the largest value means for ever.
func (p NDPrefixInfo) Valid() time.Duration { return ndLifetime(be.Uint32(p[4:])) }

// Preferred is the preferred lifetime.
func (p NDPrefixInfo) Preferred() time.Duration { return ndLifetime(be.Uint32(p[8:])) }

// Forever is the lifetime that ND writes as all ones.
const Forever = time.Duration(1<<63 - 1)

func ndLifetime(s uint32) time.Duration {
	if s == 0xffffffff {
		return Forever
	}
	return time.Duration(s) * time.Second
}

// NDMTUValue reads an MTU option (RFC 4861 §4.6.4).
func NDMTUValue(o []byte) (int, bool) {
	if len(o) != 8 || o[0] != NDMTU || be.Uint32(o[4:]) > 1<<30 {
		return 0, false
	}
	return int(be.Uint32(o[4:])), true
}

// NDRDNSSServers reads a recursive DNS server option (RFC 8106 §5.1): lifetime
// and the i-th server, until ok is false.
func NDRDNSSServers(o []byte, i int) (lifetime time.Duration, server netip.Addr, ok bool) {
	off := 8 + 16*i
	if len(o) < 24 || o[0] != NDRDNSS || off+16 > len(o) {
		return 0, netip.Addr{}, false
	}
	return ndLifetime(be.Uint32(o[4:])), addr6(o[off:]), true
}
