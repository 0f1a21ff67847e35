package netchan

// Sleeping and waking. The consumer arms the channel, looks once more, and
// sleeps; the producer publishes and then looks whether the channel is armed.
// Both do store-then-load of each other's word with sequentially consistent
// atomics, so at least one of them sees the other: no wake-up is lost. The
// producer that clears the bit is the only one to wake, so a batch wakes once.

// Wake wakes the consumer if it sleeps and there is something for it. The
// producer calls it once after a batch of pushes.
func (c *Chan) Wake() {
	if c.every || c.armed.Load() && c.armed.CompareAndSwap(true, false) {
		c.fire()
	}
}

func (c *Chan) fire() {
	if f := c.notify.Load(); f != nil {
		(*f)()
		return
	}
	select {
	case c.sema <- struct{}{}:
	default: // a token is there already
	}
}

// SetNotify makes wake-ups call f instead of releasing Wait: this is how a
// channel takes part in poll, epoll or a loop over many flows. f runs in the
// receive loop: it must not block, allocate or read the channel. nil undoes it.
// A call to the old function may still be under way when SetNotify returns.
func (c *Chan) SetNotify(f func()) {
	if f == nil {
		c.notify.Store(nil)
		return
	}
	c.notify.Store(&f)
}

// Arm asks for one wake-up at the next packet or Close. It reports false, and
// asks for nothing, where there is something already. Only the consumer may
// call it.
func (c *Chan) Arm() bool {
	c.armed.Store(true)
	t := c.tail.Load()
	if t>>tailShift == c.head.Load() && t&tailClosed == 0 {
		return true
	}
	c.armed.Store(false)
	return false
}

// Disarm takes an Arm back. A wake-up under way may still come.
func (c *Chan) Disarm() { c.armed.Store(false) }

// Kick wakes the consumer as a packet would, whether or not there is one: for
// deadlines and state changes. Anyone may call it, also when nobody sleeps: the
// next Wait then returns at once.
func (c *Chan) Kick() {
	c.armed.Store(false)
	c.fire()
}

// Wait sleeps until there is a packet, Kick or Close. It may also return for no
// reason: the caller looks again. It must not be used together with SetNotify.
func (c *Chan) Wait() {
	if c.Arm() {
		<-c.sema
		return
	}
}
