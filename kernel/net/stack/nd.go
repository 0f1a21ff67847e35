package stack

import (
	"net/netip"

	"osv/kernel/net/demux"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

type ndState struct{ ifc *Interface }

func (n *ndState) start()                            {}
func (n *ndState) stop()                             {}
func (n *ndState) solicit(a netip.Addr, to wire.MAC) {}

func (ifc *Interface) input6(l *rxLoop, b *pkt.Buf, m *demux.Meta, group bool) {
	ifc.dropSlow(b, demux.NoSink)
}
