package stack

import (
	"osv/kernel/net/demux"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

const dhcpClientPort = 68 // RFC 2131 §4.1

// dhcpInput hands a datagram for the DHCP client to it, whatever its address:
// the client has none yet. It reports whether it took b.
func (ifc *Interface) dhcpInput(b *pkt.Buf, m *demux.Meta) bool {
	fn := ifc.dhcpPort.Load()
	if fn == nil || m.Class != demux.UDP || m.V6 || m.DstPort != dhcpClientPort || b.Next != nil {
		return false
	}
	(*fn)(b.Bytes()[m.Payload:m.DataEnd])
	b.Put()
	return true
}

func (ifc *Interface) startDHCP(hostname string) {}

var _ = wire.UDPLen
