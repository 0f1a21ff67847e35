package pvscsi

import (
	"encoding/binary"

	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/hw/dma"
)

// command writes a command and its descriptor. Caller must hold turn.
func (a *Adapter) command(op uint32, words ...uint32) {
	a.regs.Store32(regCommand, op)
	for _, w := range words {
		a.regs.Store32(regCommandData, w)
	}
}

func (a *Adapter) commandStatus() uint32 { return a.regs.Load32(regCommandStatus) }

// start resets the adapter and sets it up. Caller must hold turn.
func (a *Adapter) start() error {
	if a.regs.Load32(regIntrStatus) == allOnes {
		return errorf("no adapter answers: %w", blk.ErrGone)
	}
	a.command(cmdAdapterReset)
	return a.setup()
}

// setup gives an adapter that was reset empty rings; then interrupts are enabled,
// and commands are sent. Caller must hold turn.
func (a *Adapter) setup() error {
	for _, r := range []dma.Region{a.state, a.req, a.cmp, a.msg} {
		clear(r.Bytes)
	}
	a.mu.Lock()
	a.reqProd, a.cmpCons, a.msgCons = 0, 0, 0
	a.mu.Unlock()
	a.setupRings()
	if req, cmp := load32(a.state.Bytes, stateReqLog2), load32(a.state.Bytes, stateCmpLog2); req != log2(a.pages*reqPerPage) || cmp != log2(a.pages*page/cmpBytes) {
		return errorf("adapter did not take rings of %d pages: it has 2^%d requests and 2^%d completions", a.pages, req, cmp)
	}
	a.messages = a.setupMessages()
	if a.targets == 0 {
		a.targets = a.countTargets()
	}
	mask := uint32(intrCompletion)
	if a.messages {
		mask |= intrMessage
	}
	a.regs.Store32(regIntrStatus, intrAll)
	a.regs.Store32(regIntrMask, mask)
	a.mu.Lock()
	a.live = true
	a.post()
	a.mu.Unlock()
	return nil
}

func log2(n int) (l uint32) {
	for ; n > 1; n >>= 1 {
		l++
	}
	return l
}

// putPages appends the page numbers of r, of which there is room for n.
func putPages(words []uint32, r dma.Region, n int) []uint32 {
	for i := range n {
		p := uint64(0)
		if i*page < len(r.Bytes) {
			p = uint64(r.Bus)/page + uint64(i)
		}
		words = append(words, uint32(p), uint32(p>>32))
	}
	return words
}

func (a *Adapter) setupRings() {
	words := []uint32{uint32(a.pages), uint32(a.pages)}
	words = putPages(words, a.state, 1)
	words = putPages(words, a.req, maxRingPages)
	words = putPages(words, a.cmp, maxRingPages)
	a.command(cmdSetupRings, words...)
}

// setupMessages reports false where the adapter has no message ring: its first
// revisions do not know the command, and say so before they have its descriptor.
func (a *Adapter) setupMessages() bool {
	const maxPages = 16
	a.command(cmdSetupMsgRing)
	if a.commandStatus() == commandFailed {
		return false
	}
	a.command(cmdSetupMsgRing, putPages([]uint32{1, 0}, a.msg, maxPages)...)
	return a.commandStatus() != commandFailed && load32(a.state.Bytes, stateMsgLog2) == log2(page/msgBytes)
}

// countTargets asks the controller's configuration page; an adapter that does not
// have it has 16 targets.
func (a *Adapter) countTargets() int {
	const (
		pageController  = 0x1958
		addrController  = 0x2120
		pageHostStatus  = 6 // 16 bits
		pageSCSIStatus  = 8 // 16 bits
		pagePhys        = 472
		most            = 256
		statusUntouched = 0xffff
	)
	b := a.sense.Bytes[:min(512, len(a.sense.Bytes))] // nobody has it yet
	if len(b) < 512 {
		return defaultTarget
	}
	binary.LittleEndian.PutUint16(b[pageHostStatus:], statusUntouched)
	binary.LittleEndian.PutUint16(b[pageSCSIStatus:], statusUntouched)
	at := uint64(a.sense.Bus)
	a.command(cmdConfig, uint32(at), uint32(at>>32), 0, addrController, pageController, 0)
	host, status := binary.LittleEndian.Uint16(b[pageHostStatus:]), binary.LittleEndian.Uint16(b[pageSCSIStatus:])
	n := binary.LittleEndian.Uint32(b[pagePhys:])
	clear(b)
	if hostStatus(host) != btSuccess || status != 0 || n == 0 {
		return defaultTarget
	}
	return int(min(n, most))
}

// Abort is scsi.Transport's.
func (a *Adapter) Abort(c *scsi.Command) error {
	a.turn.Lock()
	defer a.turn.Unlock()
	a.mu.Lock()
	context, waits := uint64(0), a.waiting.Has(c)
	for n := range a.slots {
		if a.slots[n].cmd == c {
			context = a.context(n)
		}
	}
	a.mu.Unlock()
	switch {
	case waits:
		return scsi.ErrWaits
	case context == 0:
		return nil
	}
	a.command(cmdAbort, uint32(context), uint32(context>>32), uint32(c.To.Target), 0)
	return nil
}

// ResetUnit is scsi.Transport's.
func (a *Adapter) ResetUnit(at scsi.Address) error {
	a.turn.Lock()
	defer a.turn.Unlock()
	if err := a.Err(); err != nil {
		return err
	}
	l := at.LUN[:]
	a.command(cmdResetDevice, uint32(at.Target), binary.LittleEndian.Uint32(l), binary.LittleEndian.Uint32(l[4:]))
	if s := a.commandStatus(); s == commandFailed {
		return errorf("unit %v: the adapter refuses a reset", at)
	}
	return nil
}

const maxResets = 5 // in a row, with nothing completed in between

// Reset is scsi.Transport's.
func (a *Adapter) Reset(why string) {
	a.turn.Lock()
	defer a.turn.Unlock()
	if a.Err() != nil {
		return
	}
	log.Warnf("%s: adapter reset", why)
	a.mu.Lock()
	a.live = false
	if a.resets++; a.good {
		a.resets = 1
	}
	a.good = false
	a.mu.Unlock()
	if a.resets > maxResets {
		a.stopLocked(errorf("nothing was completed between %d resets: %w", maxResets, blk.ErrTimeout))
		return
	}
	a.regs.Store32(regIntrMask, 0)
	a.command(cmdAdapterReset)
	var done, ended scsi.List
	a.mu.Lock()
	a.reap(&done) // what was completed before
	a.takeAll(&ended)
	broken := a.broken
	a.mu.Unlock()
	for c := ended.Pop(); c != nil; c = ended.Pop() {
		c.Host = scsi.HostReset
		done.Push(c)
	}
	err := broken
	if err == nil {
		err = a.setup()
	}
	if err != nil {
		a.stopLocked(err)
	}
	a.Queue(scsi.Finish(done))
}
