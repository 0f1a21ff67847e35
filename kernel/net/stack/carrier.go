package stack

import (
	"time"

	"osv/kernel/pkt"
)

// A link that comes back may lead to another network than before: what was
// learnt of the old one is asked about again. Addresses stay in use meanwhile,
// and nothing happens when the carrier goes.

// carrierSettle is how long the carrier must have been there: plugs bounce.
const carrierSettle = 100 * time.Millisecond

type carrier struct {
	timers timers
	due    bool // carrierUp will be called; guarded by Interface.mu
}

// watchCarrier begins to listen to the link, where it tells.
func (ifc *Interface) watchCarrier() {
	if n, ok := ifc.link.(pkt.CarrierNotifier); ok {
		n.OnCarrier(func(up bool) {
			if up {
				ifc.carrierSoon()
			}
		})
	}
}

func (ifc *Interface) unwatchCarrier() {
	if n, ok := ifc.link.(pkt.CarrierNotifier); ok {
		n.OnCarrier(nil)
	}
	ifc.carrier.timers.stop()
}

// carrierSoon arranges for carrierUp, once for all changes until then.
func (ifc *Interface) carrierSoon() {
	ifc.mu.Lock()
	defer ifc.mu.Unlock()
	if !ifc.carrier.due {
		ifc.carrier.due = true
		ifc.carrier.timers.after(carrierSettle, ifc.carrierUp)
	}
}

// carrierUp has DHCP ask whether its lease holds here (RFC 2131 §4.4.2), asks for
// routers (RFC 4861 §6.3.7), and announces the addresses, since switches have
// forgotten the way to them (RFC 5227 §2.3, RFC 4861 §7.2.6).
func (ifc *Interface) carrierUp() {
	ifc.mu.Lock()
	ifc.carrier.due = false
	ifc.mu.Unlock()
	if !ifc.link.LinkUp() {
		return // the next change tells
	}
	ifc.stack.log("%s: link is up again", ifc.name)
	if c := ifc.dhcp.Load(); c != nil {
		c.LinkUp()
	}
	for _, p := range ifc.Addrs() {
		if p.Addr().Is4() {
			ifc.acd.announce(p.Addr())
		} else {
			ifc.nd.announce(p.Addr())
		}
	}
	if !ifc.noIPv6 {
		ifc.nd.again()
	}
}
