package cpu

import (
	"sync/atomic"

	"osv/kernel/metal/arch"
)

// tlbGen counts shootdowns. A processor whose tlbSeen equals it holds no
// translation older than the last one.
var tlbGen uint64

// FlushAll makes every processor drop all its translations, and returns when
// all have: frames that were unmapped before the call may be reused after it.
func FlushAll() {
	me := Current()
	gen := atomic.AddUint64(&tlbGen, 1)
	flushLocal(me, gen)
	n := Count()
	for i := 0; i < n; i++ {
		c := &all[i]
		if c != me && atomic.LoadUint32(&c.Online) != 0 && atomic.LoadUint64(&c.tlbSeen) < gen {
			me.Stats.Shootdowns++
			SendIPI(c, VectorIPI)
		}
	}
	for i := 0; i < n; i++ {
		c := &all[i]
		for c != me && atomic.LoadUint32(&c.Online) != 0 && atomic.LoadUint64(&c.tlbSeen) < gen {
			PollTLB()
			arch.Pause()
		}
	}
}

// PollTLB flushes if a shootdown asks this processor to, and serves other
// processors' requests (ask.go).
func PollTLB() {
	c := Current()
	serve(c)
	if gen := atomic.LoadUint64(&tlbGen); atomic.LoadUint64(&c.tlbSeen) != gen {
		flushLocal(c, gen)
	}
}

func flushLocal(c *CPU, gen uint64) {
	arch.WriteCR3(arch.ReadCR3())
	// Another request may have come after gen was read; it will find tlbSeen
	// behind and flush again, so never move it past what was flushed for.
	atomic.StoreUint64(&c.tlbSeen, gen)
}
