package ahci

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"osv/kernel/blk"
)

const (
	maxResends  = 3 // of one command
	stopTimeout = 500 * time.Millisecond
)

// start makes the port ready for commands, §10.3.1: memory, FIS receive, a COMRESET
// where the device is not ready by itself, then ST.
func (p *port) start() error {
	if !p.halt() {
		return errorf("port %d: does not stop", p.n)
	}
	clear(p.mem.Bytes[memList : memFIS+256])
	list, fis := p.mem.Bus+memList, p.mem.Bus+memFIS
	p.store(portCLB, uint32(list))
	p.store(portCLB+4, uint32(uint64(list)>>32))
	p.store(portFB, uint32(fis))
	p.store(portFB+4, uint32(uint64(fis)>>32))
	p.store(portSCTL, sctlNoSleep)
	p.store(portSERR, allOnes)
	p.store(portCMD, p.load(portCMD)&^cmdICCMask|cmdSUD|cmdPOD|cmdICCActive|cmdFRE)
	if p.waitReady(p.c.cfg.ReadyTimeout) {
		return p.engage()
	}
	return p.comreset()
}

// waitReady waits for a link and a device that is not busy. An empty port is found
// out at once.
func (p *port) waitReady(limit time.Duration) bool {
	if !waitFor(presence, func() bool { return p.load(portSSTS)&sstsDETMask != 0 }) {
		return false
	}
	return waitFor(limit, func() bool {
		return p.load(portSSTS)&sstsDETMask == sstsDETPresent && p.load(portTFD)&(tfdBSY|tfdDRQ) == 0
	})
}

// engage sets ST, with all old interrupts forgotten.
func (p *port) engage() error {
	p.store(portSERR, allOnes)
	p.store(portIS, allOnes)
	p.store(portCMD, p.load(portCMD)|cmdST)
	return nil
}

// disengage clears ST and waits until the HBA has stopped, §10.3.2. CI and SACT
// are 0 after it.
func (p *port) disengage() bool {
	p.store(portIE, 0)
	p.store(portCMD, p.load(portCMD)&^cmdST)
	return waitFor(stopTimeout, func() bool { return p.load(portCMD)&cmdCR == 0 })
}

// halt stops commands and FIS receive: the port reaches no memory any more.
func (p *port) halt() bool {
	switch cmd := p.load(portCMD); {
	case cmd == allOnes:
		return true // nothing there
	case cmd&(cmdST|cmdCR|cmdFRE|cmdFR) == 0:
		p.store(portIE, 0)
		return true
	}
	if !p.disengage() {
		return false
	}
	p.store(portCMD, p.load(portCMD)&^cmdFRE)
	return waitFor(stopTimeout, func() bool { return p.load(portCMD)&cmdFR == 0 })
}

// comreset resets the device by the link, §10.4.2, and sets ST.
func (p *port) comreset() error {
	if !p.disengage() {
		return errorf("port %d: does not stop for a COMRESET", p.n)
	}
	p.store(portSCTL, sctlNoSleep|sctlDETInit)
	time.Sleep(time.Millisecond)
	p.store(portSCTL, sctlNoSleep)
	p.store(portCMD, p.load(portCMD)|cmdFRE)
	if !p.waitReady(p.c.cfg.ReadyTimeout) {
		if p.load(portSSTS)&sstsDETMask == 0 {
			return errorf("port %d: %w", p.n, blk.ErrGone)
		}
		return errorf("port %d: %w within %v after COMRESET (SSTS %#x, TFD %#x)", p.n, blk.ErrTimeout, p.c.cfg.ReadyTimeout,
			p.load(portSSTS), p.load(portTFD))
	}
	return p.engage()
}

// exec runs a command that reads n bytes, which are good until the next. It polls:
// nothing else is under way, and the port's interrupts are off.
func (p *port) exec(f fis, n int) ([]byte, error) {
	t := p.table(p.c.slots) // beyond those of slots
	f.store(t.Bytes)
	clear(t.Bytes[tableTrim : tableTrim+trimBytes])
	prds := 0
	if n > 0 {
		prds = 1
		putPRD(t.Bytes[tablePRDT:], t.Bus+tableTrim, n)
	}
	header(p.header(0).Bytes, false, prds, t.Bus)
	p.store(portCI, 1)
	failed := false
	done := waitFor(p.c.cfg.ReadyTimeout, func() bool {
		failed = p.load(portIS)&(isTFES|isFatal) != 0
		return failed || p.load(portCI)&1 == 0
	})
	tfd := p.load(portTFD)
	switch {
	case !done:
		return nil, errorf("port %d: command %#02x: %w within %v", p.n, f.command, blk.ErrTimeout, p.c.cfg.ReadyTimeout)
	case failed || tfd&tfdERR != 0:
		return nil, errorf("port %d: command %#02x: %w: %s", p.n, f.command, blk.ErrIO, taskFile(tfd))
	}
	return t.Bytes[tableTrim : tableTrim+trimBytes], nil
}

func taskFile(tfd uint32) string {
	return fmt.Sprintf("status %02xh, error %02xh", tfd&0xff, tfd>>8&0xff)
}

func (p *port) identify() (geometry, error) {
	b, err := p.exec(fis{command: ataIdentify}, identifyBytes)
	if err != nil {
		return geometry{}, err
	}
	return parseIdentify(b)
}

// trouble takes the port out of service and has it restarted. Caller must hold mu.
func (p *port) trouble(is uint32) {
	if p.state != live {
		return
	}
	p.state = frozen
	p.store(portIE, 0) // or a pin would stay up until the restart
	p.c.work.Go(func() { p.restart(is) })
}

// broken takes the port out of service for good. Caller must hold mu.
func (p *port) broken(err error) {
	p.state = frozen
	p.store(portIE, 0)
	p.c.work.Go(func() {
		p.work.Lock()
		defer p.work.Unlock()
		p.stop(err)
	})
}

// lookAfter is called from time to time while commands are under way: it takes
// completions whose interrupt was lost, and restarts the port for late commands.
func (p *port) lookAfter() {
	p.service()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch.Tick(p.issued != 0)
	if p.state != live {
		return
	}
	late := false
	for m := p.issued; m != 0; m &= m - 1 {
		s := &p.slots[bits.TrailingZeros32(m)]
		if p.watch.Late(s.began) {
			s.late, late = true, true
		}
	}
	if late {
		log.Warnf("port %d: a command is not answered within %v", p.n, p.c.cfg.Timeout)
		p.trouble(0)
	}
}

// restart is the error recovery of §6.2.2: is is the interrupt status that asked
// for it, 0 for a command that is late. Where the port does not come back, the HBA
// is reset.
func (p *port) restart(is uint32) {
	p.work.Lock()
	if !p.isFrozen() { // an HBA reset or Close came first
		p.work.Unlock()
		return
	}
	err := p.recover(is)
	if err == nil {
		err = p.comeBack()
	}
	if errors.Is(err, blk.ErrGone) { // which no reset of the HBA mends
		p.stop(err)
		err = nil
	}
	p.work.Unlock()
	if err != nil {
		log.Warnf("%v", err)
		p.c.hotReset(p)
	}
}

func (p *port) isFrozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == frozen
}

// recover ends what was done and what failed, makes all else unsent, and starts
// the port again.
func (p *port) recover(is uint32) error {
	tfd := p.load(portTFD)
	hard := is&(isFatal|isLink) != 0 || is&isTFES == 0
	p.mu.Lock()
	failed, queued := p.issued, p.queued
	p.mu.Unlock()
	if !hard && !queued && failed != 0 {
		p.fail(bits.TrailingZeros32(failed), blk.ErrIO, taskFile(tfd)) // it was alone
	}
	p.collect()
	p.mu.Lock()
	failed = p.unsent
	p.mu.Unlock()
	if is&(isFatal|isLink) != 0 {
		p.countResends()
	}
	if hard || !p.disengage() || p.load(portTFD)&(tfdBSY|tfdDRQ) != 0 {
		if is != 0 {
			log.Warnf("port %d: interrupt status %#x, %s: COMRESET", p.n, is, taskFile(tfd))
		}
		return p.comreset()
	}
	if err := p.engage(); err != nil {
		return err
	}
	if !queued || failed == 0 {
		return nil
	}
	b, err := p.exec(fis{command: ataReadLog, lba: logNCQError, count: 1, device: deviceLBA}, 512)
	if err == nil {
		if e, ok := parseNCQError(b); ok && failed>>e.tag&1 != 0 {
			p.fail(e.tag, blk.ErrIO, taskFile(uint32(e.error)<<8|uint32(e.status)))
			return nil
		}
	}
	// The device does not tell which it was. It may still be at the others, which
	// the reset ends.
	p.mu.Lock()
	for m := p.unsent; m != 0; m &= m - 1 {
		p.slots[bits.TrailingZeros32(m)].queued = false
	}
	p.mu.Unlock()
	return p.comreset()
}

// comeBack makes sure that the disk is the one that it was, and goes on.
func (p *port) comeBack() error {
	g, err := p.identify()
	if err != nil {
		return err
	}
	if g.serial != p.geo.serial || g.sectors != p.geo.sectors || g.shift != p.geo.shift {
		err := errorf("port %d: disk %q is now %q with %d sectors: %w", p.n, p.geo.serial, g.serial, g.sectors, blk.ErrGone)
		p.stop(err)
		return err
	}
	p.resume()
	return nil
}

// freeze keeps everybody from the port, as trouble does.
func (p *port) freeze() {
	p.mu.Lock()
	if p.state == live {
		p.state = frozen
	}
	p.mu.Unlock()
}

// collect ends what the port has done, and makes what it has not unsent; late
// commands fail. The port is frozen and its ST still set.
func (p *port) collect() {
	var done blk.List
	p.mu.Lock()
	if p.issued != 0 {
		if err := p.reap(&done); err != nil {
			log.Warnf("%v", err) // CI and SACT mean nothing: all is sent again
		}
	}
	p.unsent |= p.issued
	p.issued = 0
	for m := p.unsent; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m)
		s := &p.slots[i]
		if s.late {
			p.end(i, p.errorOf(s, blk.ErrTimeout, fmt.Sprintf("not within %v", p.c.cfg.Timeout)), &done)
		}
	}
	p.mu.Unlock()
	done.Finish()
}

// countResends fails unsent commands that were sent too often. It is called where a
// restart ended no command by itself: else each restart is progress, and those that
// were merely beside it are not to pay for it.
func (p *port) countResends() {
	var done blk.List
	p.mu.Lock()
	for m := p.unsent; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m)
		s := &p.slots[i]
		if s.resends++; s.resends > maxResends {
			p.end(i, p.errorOf(s, blk.ErrIO, "sent again and again, and never done"), &done)
		}
	}
	p.mu.Unlock()
	done.Finish()
}

// fail ends an unsent slot.
func (p *port) fail(i int, why error, detail string) {
	var done blk.List
	p.mu.Lock()
	p.end(i, p.errorOf(&p.slots[i], why, detail), &done)
	p.mu.Unlock()
	done.Finish()
}

// resume goes on after a start.
func (p *port) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == dead {
		return
	}
	p.store(portIS, p.load(portIS))
	p.store(portIE, isWanted)
	p.state = live
	p.post()
}

// stop ends the port for the first reason given. Caller must hold work.
func (p *port) stop(reason error) {
	p.mu.Lock()
	if p.state == dead {
		p.mu.Unlock()
		return
	}
	p.state, p.err = dead, reason
	p.mu.Unlock()
	if !p.halt() { // Close resets the HBA for it
		reason = errors.Join(reason, errorf("port %d: does not stop", p.n))
	}
	p.drop(reason)
}

// drop ends all requests of a dead port.
func (p *port) drop(reason error) {
	var done blk.List
	p.mu.Lock()
	for m := p.issued | p.unsent; m != 0; m &= m - 1 {
		i := bits.TrailingZeros32(m)
		p.end(i, p.errorOf(&p.slots[i], reason, ""), &done)
	}
	p.waiting.Abort(driverName, reason, &done)
	p.mu.Unlock()
	p.watch.Stop()
	done.Finish()
}

// shutdown flushes the disk's cache, as far as it goes, and stops the port. Caller
// must hold work.
func (p *port) shutdown() {
	p.freeze()
	if p.isFrozen() && p.geo.cache && p.disengage() {
		if err := p.engage(); err == nil {
			f := fis{command: ataFlush, device: deviceLBA}
			if p.geo.flushExt {
				f.command = ataFlushExt
			}
			if _, err := p.exec(f, 0); err != nil {
				log.Warnf("%v", err)
			}
		}
	}
	p.stop(blk.ErrClosed)
}
