package demux

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"osv/kernel/net/wire"
)

// portMap finds the sink of a local port: bound UDP sockets, UDP handlers and
// TCP listeners. It is indexed by the port itself, in two steps to stay small,
// so it needs no hash and no sender can unbalance it.
type portMap[S any] struct {
	pages [256]atomic.Pointer[portPage[S]]
	mu    sync.Mutex // guards all changes
}

type portPage[S any] [256]portSlot[S]

type portSlot[S any] struct {
	binds atomic.Pointer[[]bind[S]] // replaced as a whole
	// exact counts the flows of the flow table with this local port: where it is
	// 0, the receive path has no hash to compute.
	exact atomic.Int32
}

// bind is one local address of a port. The zero addr is any address.
type bind[S any] struct {
	addr   netip.Addr
	v4, v6 bool   // families it takes
	a4     uint32 // addr as a number, 0 for any
	sink   *S
}

func (p *portMap[S]) slot(port uint16) *portSlot[S] {
	page := p.pages[port>>8].Load()
	if page == nil {
		return nil
	}
	return &page[port&0xff]
}

// slotFor is slot, made where it is missing. Caller must hold mu.
func (p *portMap[S]) slotFor(port uint16) *portSlot[S] {
	if s := p.slot(port); s != nil {
		return s
	}
	page := new(portPage[S])
	p.pages[port>>8].Store(page)
	return &page[port&0xff]
}

// makeBind makes a bind of an address: 0.0.0.0 is any IPv4 address, :: any IPv6
// address, the zero Addr any of either family.
func makeBind[S any](a netip.Addr, s *S) bind[S] {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return bind[S]{v4: true, v6: true, sink: s}
	case a == netip.IPv6Unspecified():
		return bind[S]{v6: true, sink: s}
	case a == netip.IPv4Unspecified():
		return bind[S]{v4: true, sink: s}
	case a.Is4():
		return bind[S]{addr: a, v4: true, a4: wire.U32(a), sink: s}
	}
	return bind[S]{addr: a.WithZone(""), v6: true, sink: s}
}

func (b *bind[S]) overlaps(o *bind[S]) bool {
	return (b.v4 && o.v4 || b.v6 && o.v6) && (b.addr == o.addr || !b.addr.IsValid() || !o.addr.IsValid())
}

// add binds port. A bind to one address may stand beside one to any address of
// the same port, as on other systems only with an option; two equal binds may not.
func (p *portMap[S]) add(port uint16, nb bind[S]) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := p.slotFor(port)
	var list []bind[S]
	if old := slot.binds.Load(); old != nil {
		list = slices.Clone(*old)
	}
	for i := range list {
		if list[i].overlaps(&nb) && list[i].addr == nb.addr {
			return false
		}
	}
	// binds to one address come first, so that the first match is the best one
	if nb.addr.IsValid() {
		list = slices.Insert(list, 0, nb)
	} else {
		list = append(list, nb)
	}
	slot.binds.Store(&list)
	return true
}

func (p *portMap[S]) remove(port uint16, s *S) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := p.slot(port)
	if slot == nil {
		return false
	}
	old := slot.binds.Load()
	if old == nil {
		return false
	}
	list := slices.DeleteFunc(slices.Clone(*old), func(b bind[S]) bool { return b.sink == s })
	if len(list) == len(*old) {
		return false
	}
	if len(list) == 0 {
		slot.binds.Store(nil)
	} else {
		slot.binds.Store(&list)
	}
	return true
}

func (s *portSlot[S]) find4(dst uint32) *S {
	list := s.binds.Load()
	if list == nil {
		return nil
	}
	for i := range *list {
		b := &(*list)[i]
		if b.v4 && (b.a4 == 0 || b.a4 == dst) {
			return b.sink
		}
	}
	return nil
}

func (s *portSlot[S]) find6(dst netip.Addr) *S {
	list := s.binds.Load()
	if list == nil {
		return nil
	}
	for i := range *list {
		b := &(*list)[i]
		if b.v6 && (!b.addr.IsValid() || b.addr == dst) {
			return b.sink
		}
	}
	return nil
}

func (p *portMap[S]) addExact(port uint16, n int32) {
	p.mu.Lock()
	p.slotFor(port).exact.Add(n)
	p.mu.Unlock()
}

func (p *portMap[S]) inUse(port uint16) bool {
	s := p.slot(port)
	return s != nil && (s.binds.Load() != nil || s.exact.Load() != 0)
}
