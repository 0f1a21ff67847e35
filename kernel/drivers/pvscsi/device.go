// Package pvscsi drives VMware's paravirtual SCSI adapter (PCI 15ad:07c0).
//
// Spec: there is none in public; layout and rules are facts of the public headers
// of Linux's and QEMU's drivers/scsi/vmw_pvscsi.h and hw/scsi/vmw_pvscsi.h. What
// travels on it is drivers/scsi. Covered: request, completion and message ring,
// lists of pieces, abort, device and adapter reset, the pin, MSI or MSI-X with one
// vector, the number of targets from the controller's configuration page. Not
// covered: chained lists, request call thresholds, the second completion and
// message interrupt, units that appear later (noted in the log).
//
// QEMU: -device pvscsi,id=s -device scsi-hd,bus=s.0,drive=d0
//
// Each disk is a blk.Disk; see package blk for how it is used.
//
// Memory: rings, lists, sense data and bounce buffers come from the dma.Allocator.
// An adapter touches none of it once a reset was written.
//
// Concurrency: any goroutine may call anything. One mutex guards the rings, one
// goroutine takes the completions. Lock order: Adapter.turn, then Adapter.mu.
//
// Start reading at New, then rings.go and recover.go. Tests play the device with
// ktest/fakepvscsi.
package pvscsi

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
	"osv/kernel/trace"
)

const driverName = "pvscsi"

var log = trace.For(driverName)

// Config shapes an Adapter; the zero value is sound.
type Config struct {
	SCSI    scsi.Config
	Depth   int // commands under way, at most 1024; 0: 128
	MaxSegs int // pieces of memory in one command, at most 128; 0: 32
}

func (c *Config) check() error {
	setDefault(&c.Depth, 128)
	setDefault(&c.MaxSegs, 32)
	if c.Depth > maxRingPages*reqPerPage {
		return errorf("%d commands under way: at most %d", c.Depth, maxRingPages*reqPerPage)
	}
	if c.MaxSegs > maxSegs {
		return errorf("%d pieces in a command: at most %d", c.MaxSegs, maxSegs)
	}
	return nil
}

func setDefault(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}

func errorf(format string, a ...any) error { return fmt.Errorf(driverName+": "+format, a...) }

func protocolf(format string, a ...any) error {
	return fmt.Errorf("%s: %w: %s", driverName, blk.ErrProtocol, fmt.Sprintf(format, a...))
}

// Adapter is a PVSCSI adapter.
type Adapter struct {
	regs mmio.Space
	mem  dma.Allocator
	cfg  Config
	line irq.Line
	host atomic.Pointer[scsi.Host]

	pages    int // of request and completion ring each
	targets  int
	messages bool
	state    dma.Region
	req      dma.Region
	cmp      dma.Region
	msg      dma.Region
	lists    dma.Region // listBytes for each slot
	sense    dma.Region // senseBytes for each slot
	kickRW   mmio.Doorbell
	kickAny  mmio.Doorbell

	stopped atomic.Pointer[error] // why nothing goes on any more
	turn    blk.Turn              // serialises commands of the command register; guards the next two
	resets  int                   // in a row, with nothing completed in between
	closed  bool
	pumps   sync.WaitGroup

	mu      sync.Mutex // guards all below
	live    bool
	slots   []slot
	free    []uint16
	waiting scsi.List
	reqProd uint32
	cmpCons uint32
	msgCons uint32
	busy    int
	good    bool  // something was completed since the last reset
	broken  error // the adapter broke the protocol
}

// slot is one command under way; its number and generation are the context.
type slot struct {
	cmd *scsi.Command
	gen uint32
}

// New takes the adapter behind regs, which is BAR 0, starts it and looks for
// disks. line is its interrupt, pin or message; it is the Adapter's from here on,
// and Close closes it. An adapter without a disk is no error. On error nothing is
// kept.
func New(regs mmio.Space, mem dma.Allocator, line irq.Line, cfg Config) (*Adapter, error) {
	a := &Adapter{regs: regs, mem: mem, cfg: cfg, line: line, turn: blk.NewTurn()}
	if err := a.cfg.check(); err != nil {
		return nil, err
	}
	if n := regs.Len(); n < regBytes {
		return nil, errorf("register window of %#x bytes", n)
	}
	if err := a.allocate(); err != nil {
		a.release()
		return nil, err
	}
	a.turn.Lock()
	err := a.start()
	a.turn.Unlock()
	if err != nil {
		a.stop(err)
		return nil, errors.Join(err, a.Close())
	}
	a.pumps.Go(func() {
		irq.Serve(a.line, a.interrupt, func() { a.stop(errorf("interrupt line was closed")) }) // nothing, after Close
	})
	h, err := scsi.Open(a, mem, cfg.SCSI)
	a.host.Store(h)
	if err != nil {
		a.stop(err)
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Adapter) allocate() (err error) {
	alloc := func(n int) (r dma.Region) {
		if err == nil {
			if r, err = a.mem.Alloc(n, page); err != nil {
				err = errorf("%w", err)
			}
		}
		return r
	}
	for a.pages = 1; a.pages*reqPerPage < a.cfg.Depth; {
		a.pages *= 2
	}
	a.state, a.req, a.cmp, a.msg = alloc(page), alloc(a.pages*page), alloc(a.pages*page), alloc(page)
	a.lists, a.sense = alloc(a.cfg.Depth*a.listBytes()), alloc(a.cfg.Depth*senseBytes)
	if err != nil {
		return err
	}
	a.slots = make([]slot, a.cfg.Depth)
	a.free = make([]uint16, 0, a.cfg.Depth)
	for i := range a.slots {
		a.free = append(a.free, uint16(len(a.slots)-1-i))
	}
	a.kickRW, a.kickAny = a.regs.Doorbell(regKickRW), a.regs.Doorbell(regKickNonRW)
	return nil
}

// listBytes is a power of two of at most half a page, so that no list crosses one.
func (a *Adapter) listBytes() int {
	n := sgBytes
	for n < a.cfg.MaxSegs*sgBytes {
		n *= 2
	}
	return n
}

func (a *Adapter) release() {
	for _, r := range []dma.Region{a.state, a.req, a.cmp, a.msg, a.lists, a.sense} {
		if r.Bytes != nil {
			a.mem.Free(r)
		}
	}
}

// interrupt is what an interrupt asks for. The status is cleared before the rings
// are looked at, which also lowers the pin.
func (a *Adapter) interrupt() {
	s := a.regs.Load32(regIntrStatus)
	if s == allOnes {
		a.stop(errorf("%w", blk.ErrGone))
		return
	}
	if s&intrAll != 0 {
		a.regs.Store32(regIntrStatus, s&intrAll)
	}
	a.service()
}

// stop ends the adapter for the first reason given: it resets it, so that no memory
// is its own any more, and ends all commands with the reason.
func (a *Adapter) stop(reason error) {
	a.turn.Lock()
	defer a.turn.Unlock()
	a.stopLocked(reason)
}

// stopLocked is stop. Caller must hold turn.
func (a *Adapter) stopLocked(reason error) {
	if !a.stopped.CompareAndSwap(nil, &reason) {
		return
	}
	a.mu.Lock()
	a.live = false
	a.mu.Unlock()
	a.regs.Store32(regIntrMask, 0)
	a.command(cmdAdapterReset)
	a.mu.Lock()
	l := a.waiting
	a.waiting = scsi.List{}
	a.takeAll(&l)
	a.mu.Unlock()
	a.refuse(l)
}

// Close stops the adapter; requests under way end with blk.ErrClosed.
func (a *Adapter) Close() error {
	a.turn.Lock()
	if a.closed {
		a.turn.Unlock()
		return nil
	}
	a.closed = true
	a.stopLocked(blk.ErrClosed)
	a.turn.Unlock()
	err := a.line.Close()
	a.pumps.Wait()
	a.host.Load().Free(false)
	a.release()
	return err
}

// Disks are the disks in order of target and unit.
func (a *Adapter) Disks() []blk.Disk { return a.host.Load().Disks() }

// The rest is scsi.Transport's.

// Limits is scsi.Transport's.
func (a *Adapter) Limits() scsi.Limits {
	return scsi.Limits{Driver: driverName, Targets: a.targets, MaxSegs: a.cfg.MaxSegs, PerUnit: a.cfg.Depth, Queues: 1, Skip: -1}
}

// Err says why the adapter stopped, nil while it works.
func (a *Adapter) Err() error {
	if p := a.stopped.Load(); p != nil {
		return *p
	}
	return nil
}

// Poll is scsi.Transport's.
func (a *Adapter) Poll() { a.service() }

var _ scsi.Transport = (*Adapter)(nil)
