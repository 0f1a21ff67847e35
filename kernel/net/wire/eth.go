package wire

import "fmt"

// MAC is an Ethernet address.
type MAC [6]byte

// BroadcastMAC is the address of all stations.
var BroadcastMAC = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Word is the address as a number, the first octet uppermost of 48 bits: the form
// in which headers are put together. MACOf is its reverse.
func (m MAC) Word() uint64 {
	return uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])
}

// MACOf is the address whose Word is w; bits above the 48 do not count.
func MACOf(w uint64) MAC {
	return MAC{byte(w >> 40), byte(w >> 32), byte(w >> 24), byte(w >> 16), byte(w >> 8), byte(w)}
}

// IsMulticast reports a group address (802.3 §3.2.3), which broadcast is too.
func (m MAC) IsMulticast() bool { return m[0]&1 != 0 }

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// EtherType names the payload of a frame.
type EtherType uint16

const (
	EtherIPv4 EtherType = 0x0800
	EtherARP  EtherType = 0x0806
	EtherVLAN EtherType = 0x8100 // 802.1Q tag
	EtherIPv6 EtherType = 0x86dd
)

const (
	EthLen  = 14 // destination, source, type
	VLANLen = 4  // tag control and inner type
)

// Eth is an Ethernet II frame.
type Eth []byte

// ParseEth views b as a frame.
func ParseEth(b []byte) (Eth, bool) { return Eth(b), len(b) >= EthLen }

func (e Eth) Dst() MAC            { return MAC(e[0:6]) }
func (e Eth) Src() MAC            { return MAC(e[6:12]) }
func (e Eth) Type() EtherType     { return EtherType(be.Uint16(e[12:])) }
func (e Eth) SetDst(m MAC)        { copy(e[0:6], m[:]) }
func (e Eth) SetSrc(m MAC)        { copy(e[6:12], m[:]) }
func (e Eth) SetType(t EtherType) { be.PutUint16(e[12:], uint16(t)) }

// Swap exchanges source and destination.
func (e Eth) Swap() {
	d, s := MAC(e[0:6]), MAC(e[6:12])
	copy(e[0:6], s[:])
	copy(e[6:12], d[:])
}

// Payload returns type and offset of what follows the header and at most one
// 802.1Q tag, and the tag's VLAN identifier (0 for none and for a priority tag,
// 802.1Q §9.6). It reports false for a tag cut short or a second tag.
func (e Eth) Payload() (t EtherType, off int, vlan uint16, ok bool) {
	t, off = e.Type(), EthLen
	if t == EtherVLAN {
		if len(e) < EthLen+VLANLen {
			return 0, 0, 0, false
		}
		vlan = be.Uint16(e[14:]) & 0xfff
		t, off = EtherType(be.Uint16(e[16:])), EthLen+VLANLen
		if t == EtherVLAN {
			return 0, 0, 0, false
		}
	}
	return t, off, vlan, true
}
