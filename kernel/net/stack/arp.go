package stack

import (
	"net/netip"
	"sync"
	"time"

	"osv/kernel/net/demux"
	"osv/kernel/net/neigh"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// ARP (RFC 826) and address conflict detection (RFC 5227).

// solicit is the neighbour cache's question, ARP or neighbour solicitation.
func (ifc *Interface) solicit(a netip.Addr, to wire.MAC) {
	if a.Is6() {
		ifc.nd.solicit(a, to)
		return
	}
	src, ok := ifc.source(a)
	if !ok {
		return // the address went away; the entry will time out
	}
	if to == (wire.MAC{}) {
		to = wire.BroadcastMAC
	}
	ifc.sendARP(to, wire.ARPRequest, src, wire.MAC{}, a)
}

var unspecified4 = netip.IPv4Unspecified()

func (ifc *Interface) sendARP(to wire.MAC, op wire.ARPOp, src netip.Addr, target wire.MAC, dst netip.Addr) {
	b := ifc.txBuf(0)
	if b == nil {
		return
	}
	wire.PutARP(b.Append(wire.ARPLen), op, ifc.mac, src, target, dst)
	wire.Eth(b.Prepend(wire.EthLen)).SetType(wire.EtherARP)
	ifc.sendTo(0, to, b)
}

// arpInput takes in an ARP packet (RFC 826, "Packet Reception").
func (ifc *Interface) arpInput(b *pkt.Buf, off int) {
	defer b.Put()
	a, ok := wire.ParseARP(b.Bytes()[off:])
	if !ok || ifc.loopback {
		ifc.count.drop(demux.OtherType)
		return
	}
	mac, ip, target := a.SenderMAC(), a.SenderIP(), a.TargetIP()
	if mac.IsMulticast() || mac == ifc.mac || ip.IsMulticast() || ip == broadcast4 {
		ifc.count.drop(demux.BadSource)
		return
	}
	ifc.acd.heard(a)
	set := ifc.addrs.Load()
	if set.has(ip) {
		return // a conflict, which acd has dealt with; never learn our own address
	}
	mine := set.has(target)
	if ip != unspecified4 { // else a probe (RFC 5227 §1.1), which says nothing of its sender
		ifc.neigh.Learn(neigh.News{
			Addr: ip, MAC: mac, Override: true,
			Solicited: a.Op() == wire.ARPReply && mine && ifc.neigh.Solicited(ip),
			Create:    a.Op() == wire.ARPRequest && mine,
		})
	}
	if mine && a.Op() == wire.ARPRequest {
		ifc.sendARP(mac, wire.ARPReply, target, mac, ip)
	}
}

// Constants of RFC 5227 §1.1.
const (
	acdProbeWait        = 1 * time.Second
	acdProbeNum         = 3
	acdProbeMin         = 1 * time.Second
	acdProbeMax         = 2 * time.Second
	acdAnnounceWait     = 2 * time.Second
	acdAnnounceNum      = 2
	acdAnnounceInterval = 2 * time.Second
	acdDefendInterval   = 10 * time.Second
)

// acd is address conflict detection on one interface.
type acd struct {
	ifc    *Interface
	timers timers

	mu       sync.Mutex // guards all below
	probing  map[netip.Addr]*acdProbe
	defended map[netip.Addr]int64 // ns of the last defence
	count    int                  // conflicts seen
}

type acdProbe struct {
	sent int
	done func(ok bool)
}

func (a *acd) stop() { a.timers.stop() }

// between is a random time of at least lo and less than hi.
func (s *Stack) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.cfg.Random()%uint64(hi-lo))
}

// probe asks whether anybody has p's address (RFC 5227 §2.1) and calls done, in
// a timer's goroutine or the slow path, once that is known.
func (a *acd) probe(p netip.Prefix, done func(ok bool)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.probing == nil {
		a.probing = map[netip.Addr]*acdProbe{}
	}
	pr := &acdProbe{done: done}
	a.probing[p.Addr()] = pr
	var step func()
	step = func() {
		a.mu.Lock()
		if a.probing[p.Addr()] != pr {
			a.mu.Unlock()
			return // a conflict ended it
		}
		if pr.sent == acdProbeNum {
			delete(a.probing, p.Addr())
			a.mu.Unlock()
			done(true)
			return
		}
		pr.sent++
		wait := a.ifc.stack.between(acdProbeMin, acdProbeMax)
		if pr.sent == acdProbeNum {
			wait = acdAnnounceWait
		}
		a.timers.after(wait, step)
		a.mu.Unlock()
		a.ifc.sendARP(wire.BroadcastMAC, wire.ARPRequest, unspecified4, wire.MAC{}, p.Addr())
	}
	a.timers.after(a.ifc.stack.between(0, acdProbeWait), step)
}

// announce tells everyone that addr is here (RFC 5227 §2.3).
func (a *acd) announce(addr netip.Addr) {
	n := 0
	var step func()
	step = func() {
		if !a.ifc.hasAddr(addr) {
			return
		}
		a.ifc.sendARP(wire.BroadcastMAC, wire.ARPRequest, addr, wire.MAC{}, addr)
		if n++; n < acdAnnounceNum {
			a.timers.after(acdAnnounceInterval, step)
		}
	}
	step()
}

// heard looks for conflicts in an ARP packet of another station.
func (a *acd) heard(p wire.ARP) {
	ip, target := p.SenderIP(), p.TargetIP()
	now := a.ifc.stack.clock.Now()
	a.mu.Lock()
	// RFC 5227 §2.1.1: somebody has, or is probing for, what we probe for.
	for addr, pr := range a.probing {
		if ip == addr || ip == unspecified4 && target == addr && p.Op() == wire.ARPRequest {
			delete(a.probing, addr)
			a.count++
			a.mu.Unlock()
			a.ifc.stack.log("%s: %v is in use by %v", a.ifc.name, addr, p.SenderMAC())
			pr.done(false)
			return
		}
	}
	if !a.ifc.addrs.Load().has(ip) {
		a.mu.Unlock()
		return
	}
	// RFC 5227 §2.4 (c): keep the address, defend it now and then.
	a.count++
	last, before := a.defended[ip]
	defend := !before || now-last >= int64(acdDefendInterval)
	if defend {
		if a.defended == nil {
			a.defended = map[netip.Addr]int64{}
		}
		a.defended[ip] = now
	}
	a.mu.Unlock()
	if defend {
		a.ifc.stack.log("%s: %v also claims our address %v", a.ifc.name, p.SenderMAC(), ip)
		a.ifc.sendARP(wire.BroadcastMAC, wire.ARPRequest, ip, wire.MAC{}, ip)
	}
}

// Conflicts is the number of ARP packets in which another station claimed an
// address of this interface, or one it was probing for.
func (ifc *Interface) Conflicts() int {
	ifc.acd.mu.Lock()
	defer ifc.acd.mu.Unlock()
	return ifc.acd.count
}
