package wire

import "net/netip"

// ARPOp is the operation of an ARP packet.
type ARPOp uint16

const (
	ARPRequest ARPOp = 1
	ARPReply   ARPOp = 2
)

// ARPLen is the length of an ARP packet for Ethernet and IPv4.
const ARPLen = 28

// ARP is an ARP packet (RFC 826) for Ethernet and IPv4.
type ARP []byte

// ParseARP views b as an ARP packet. It reports false for other hardware or
// protocol types and lengths.
func ParseARP(b []byte) (ARP, bool) {
	if len(b) < ARPLen {
		return nil, false
	}
	// hardware 1 (Ethernet), protocol IPv4, lengths 6 and 4
	return ARP(b[:ARPLen]), be.Uint32(b) == 1<<16|uint32(EtherIPv4) && b[4] == 6 && b[5] == 4
}

func (a ARP) Op() ARPOp            { return ARPOp(be.Uint16(a[6:])) }
func (a ARP) SenderMAC() MAC       { return MAC(a[8:14]) }
func (a ARP) SenderIP() netip.Addr { return addr4(a[14:]) }
func (a ARP) TargetMAC() MAC       { return MAC(a[18:24]) }
func (a ARP) TargetIP() netip.Addr { return addr4(a[24:]) }

// PutARP writes a whole packet to the front of b.
func PutARP(b []byte, op ARPOp, sender MAC, senderIP netip.Addr, target MAC, targetIP netip.Addr) {
	_ = b[ARPLen-1]
	be.PutUint32(b, 1<<16|uint32(EtherIPv4))
	b[4], b[5] = 6, 4
	be.PutUint16(b[6:], uint16(op))
	copy(b[8:], sender[:])
	s, t := senderIP.As4(), targetIP.As4()
	copy(b[14:], s[:])
	copy(b[18:], target[:])
	copy(b[24:], t[:])
}
