// Package wire holds views of protocol headers over byte slices: nothing is
// copied, nothing is allocated, nothing is remembered.
//
// Spec: IEEE 802.3 and 802.1Q framing, RFC 826 (ARP), RFC 791 (IPv4), RFC 8200
// (IPv6 and extension headers), RFC 792 and RFC 4884 (ICMP), RFC 4443 (ICMPv6),
// RFC 4861 (ND messages and options), RFC 768 (UDP), RFC 1071 and RFC 1624
// (checksum). TCP is in tcp.go.
//
// Who may use it: anyone. May not: allocate, keep state, know sockets.
//
// A Parse function checks that every fixed field and every length of the header
// is inside the slice, and returns false where not; the methods of the view it
// returns then never read beyond it. Setters write in place. Start reading at
// eth.go; checksum.go is what is spent time in.
package wire

import (
	"encoding/binary"
	"net/netip"
)

var be = binary.BigEndian

// addr4 reads an IPv4 address at the front of b.
func addr4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }

// addr6 reads an IPv6 address at the front of b.
func addr6(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b[:16])) }

// Addr4 is the IPv4 address of a big-endian number.
func Addr4(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// U32 is the big-endian number of an IPv4 address (also of one mapped into
// IPv6). It panics for any other.
func U32(a netip.Addr) uint32 {
	b := a.Unmap().As4()
	return be.Uint32(b[:])
}
