package pkt

import "sync/atomic"

// CarrierNotifier is a Link that tells of changes of its carrier. A link need
// not be one: then nobody learns that the cable was moved to another network.
type CarrierNotifier interface {
	// OnCarrier makes f be called after LinkUp has changed, with what it is now.
	// f runs in the driver's interrupt goroutine or in LinkUp's caller, maybe under
	// the driver's locks: it may neither block nor call the link. A second OnCarrier replaces the first's f;
	// nil ends the calls.
	OnCarrier(f func(up bool))
}

// Carrier is the state of a link's carrier, a field of its driver's
// device. The zero value has no carrier.
type Carrier struct {
	up atomic.Bool
	f  atomic.Pointer[func(up bool)]
}

// Load reports whether there is a carrier.
func (c *Carrier) Load() bool { return c.up.Load() }

// Store sets the state and tells of it where it is another.
func (c *Carrier) Store(up bool) {
	if c.up.Swap(up) == up {
		return
	}
	if f := c.f.Load(); f != nil {
		(*f)(up)
	}
}

// OnCarrier is CarrierNotifier's.
func (c *Carrier) OnCarrier(f func(up bool)) {
	if f == nil {
		c.f.Store(nil)
		return
	}
	c.f.Store(&f)
}
