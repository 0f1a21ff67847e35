package ahci

import (
	"fmt"
	"math/bits"
	"time"

	"osv/kernel/blk"
	"osv/kernel/hw/mmio"
)

// bringUp is §10.1.2, with the handoff before and a reset in front. Caller must
// hold mu.
func (c *Controller) bringUp() error {
	caps, ports := c.regs.Load32(regCAP), c.regs.Load32(regPI)
	if caps == allOnes {
		return errorf("no HBA answers: %w", blk.ErrGone)
	}
	c.cap = caps
	c.slots = min(int(caps>>capNCSShift&31)+1, c.cfg.Depth)
	c.regs.Store32(regGHC, ghcAE)
	for n := range maxPorts {
		base := regPorts + mmio.Off(n)*portBytes
		if ports>>n&1 != 0 && uint32(base+portBytes) <= c.regs.Len() {
			c.all = append(c.all, &port{c: c, n: n, base: base, work: blk.NewTurn()})
		}
	}
	if len(c.all) < bits.OnesCount32(ports) {
		log.Warnf("%d of %d ports are outside of the register window", bits.OnesCount32(ports)-len(c.all), bits.OnesCount32(ports))
	}
	if !c.anythingThere() {
		return nil // and no time is spent on it
	}
	if err := c.handoff(); err != nil {
		return err
	}
	if err := c.resetHBA(); err != nil {
		c.stuck = err
		return err
	}
	c.waitLinks()
	for _, p := range c.all {
		if err := p.attach(); err != nil {
			return err
		}
	}
	c.regs.Store32(regGHC, ghcAE|ghcIE)
	return nil
}

// anythingThere reports whether some port has a link, or may get one once it is
// told to spin up.
func (c *Controller) anythingThere() bool {
	if c.cap&capStagger != 0 {
		return true
	}
	for _, p := range c.all {
		if p.load(portSSTS)&sstsDETMask != 0 {
			return true
		}
	}
	return false
}

// handoff takes the HBA from firmware that drives it, §10.6.3.
func (c *Controller) handoff() error {
	if c.regs.Load32(regCAP2)&cap2BOH == 0 {
		return nil
	}
	v := c.regs.Load32(regBOHC)
	if v&bohcBOS == 0 {
		return nil
	}
	c.regs.Store32(regBOHC, v|bohcOOS)
	released := func() bool { return c.regs.Load32(regBOHC)&bohcBOS == 0 }
	if waitFor(25*time.Millisecond, released) {
		return nil
	}
	if c.regs.Load32(regBOHC)&bohcBB != 0 && waitFor(2*time.Second, released) {
		return nil
	}
	log.Warnf("firmware does not hand the HBA over; taken")
	return nil
}

// resetHBA is §10.4.3. No port may be in use.
func (c *Controller) resetHBA() error {
	c.regs.Store32(regGHC, c.regs.Load32(regGHC)|ghcHR)
	if !waitFor(time.Second, func() bool { return c.regs.Load32(regGHC)&ghcHR == 0 }) {
		return errorf("HBA reset: %w within 1 s", blk.ErrTimeout)
	}
	c.regs.Store32(regGHC, ghcAE)
	for _, p := range c.all { // with SSS nothing spins up by itself
		p.store(portCMD, p.load(portCMD)|cmdSUD|cmdPOD)
	}
	return nil
}

// presence is how long after a COMRESET a device shows, SATA 3.x §8.4.2 with ample
// room; an empty port costs it once.
const presence = 20 * time.Millisecond

// waitLinks gives all ports time to find out whether there is a device.
func (c *Controller) waitLinks() {
	waitFor(presence, func() bool {
		for _, p := range c.all {
			if p.load(portSSTS)&sstsDETMask == 0 {
				return false
			}
		}
		return true
	})
}

// waitFor asks done until it is true, at most for limit.
func waitFor(limit time.Duration, done func() bool) bool {
	start, pause := time.Now(), 20*time.Microsecond
	for !done() {
		if time.Since(start) > limit {
			return false
		}
		time.Sleep(pause)
		pause = min(2*pause, 5*time.Millisecond)
	}
	return true
}

// attach makes a disk of a port where one is. Only lack of memory is an error;
// a device that cannot be used is left alone with a message.
func (p *port) attach() error {
	if p.load(portSSTS)&sstsDETMask == 0 {
		return nil
	}
	p.depth = p.c.slots
	if err := p.allocate(); err != nil {
		return errorf("port %d: %w", p.n, err)
	}
	if err := p.probe(); err != nil {
		log.Warnf("port %d: %v", p.n, err)
		p.halt()
		return nil
	}
	p.shapeUp()
	k, err := blk.NewBlocking(p, &p.limits, p.c.mem, p.c.cfg.Bounces)
	if err != nil {
		return errorf("port %d: %w", p.n, err)
	}
	p.Blocking = k
	p.name = p.c.cfg.Name(len(p.c.used))
	p.c.used = append(p.c.used, p)
	p.goLive()
	return nil
}

// allocate gets the port's memory: list, FISes, tables.
func (p *port) allocate() error {
	m, err := p.c.mem.Alloc(memTables+(p.depth+1)*tableBytes, 4096)
	if err != nil {
		return err
	}
	p.mem = m
	if end := uint64(m.Bus) + uint64(len(m.Bytes)); p.c.cap&cap64 == 0 && end > 1<<32 {
		return fmt.Errorf("memory at %#x, and the HBA has 32-bit addresses", uint64(m.Bus))
	}
	p.watch = blk.NewWatch(p.c.cfg.Timeout, p.lookAfter)
	return nil
}

// probe starts the port and asks the device what it is.
func (p *port) probe() error {
	if err := p.start(); err != nil {
		return err
	}
	switch sig := p.load(portSIG); sig {
	case sigATA:
	case sigATAPI:
		return fmt.Errorf("ATAPI devices are not supported")
	case sigPMP:
		return fmt.Errorf("port multipliers are not supported")
	default:
		return fmt.Errorf("device with signature %#08x is not supported", sig)
	}
	g, err := p.identify()
	p.geo = g
	return err
}

// shapeUp derives limits from what the device said.
func (p *port) shapeUp() {
	g := &p.geo
	if p.c.cap&capNCQ == 0 || p.c.cfg.NoNCQ {
		g.depth = 0
	}
	if g.depth > 0 {
		p.depth = min(p.depth, g.depth)
	}
	bs := 1 << g.shift
	most := min(p.c.cfg.MaxTransfer, 65536*bs)
	if !g.lba48 {
		most = min(most, 256*bs)
	}
	p.shape = blk.Shape{BlockSize: bs, MaxBytes: most, MaxSegBytes: maxPRDLen}
	p.limits = blk.Limits{Driver: driverName, BlockSize: bs, MemAlign: 2, WriteCache: g.cache}
	if p.c.cap&cap64 == 0 {
		p.limits.MemBelow = 1 << 32
	}
	if g.trim {
		p.limits.MaxDiscard = maxTrim << (g.shift - 9)
	}
	p.pieces = make([]blk.Seg, 0, maxPRDs)
}
