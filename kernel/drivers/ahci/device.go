// Package ahci drives AHCI host bus adapters with SATA disks.
//
// Spec: Serial ATA AHCI 1.3.1; ATA/ATAPI Command Set 3 (ACS-3). Covered: handoff
// from firmware (§10.6.3), HBA reset, several ports, COMRESET, LBA28 and LBA48,
// native command queuing, FLUSH CACHE, TRIM, logical sectors of up to 64 KiB, error
// recovery of §6.2.2 with the log of NCQ errors, HBA reset under load, a disk that
// goes away, the pin or one message for all ports. Not covered: ATAPI devices
// (skipped), port multipliers, enclosures, hot-plugged new disks, staggered
// spin-up beyond SUD, power states, one message for each port, FUA.
//
// QEMU: -device ich9-ahci,id=ahci -device ide-hd,bus=ahci.0,drive=d0
//
// Each disk is a blk.Disk; see package blk for how it is used.
//
// Memory: command lists, FISes, tables and bounce buffers come from the
// dma.Allocator. Where an HBA does not finish its reset, it keeps them.
//
// Concurrency: any goroutine may call anything. Each port has a mutex; one
// goroutine takes the completions of all. Lock order: Controller.mu, port.work,
// port.mu.
//
// Queued and other commands are not under way at the same time (ACS-3 §4.15): a
// flush waits for what is queued before it, and what follows waits for it.
//
// After an error, the port is restarted: the command that failed fails, the others
// are sent again. Where the device does not tell which it was, they are sent again
// one by one as commands that are not queued. A command that is not answered in
// time fails with blk.ErrTimeout after a COMRESET.
//
// Start reading at New, then init.go, port.go and recover.go. Tests play the
// device with ktest/fakeahci.
package ahci

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
	"osv/kernel/trace"
)

const driverName = "ahci"

var log = trace.For(driverName)

// Config shapes a Controller; the zero value is sound.
type Config struct {
	Name         func(i int) string // of the i-th disk, from 0; nil: sda, sdb, …
	Depth        int                // commands of a port under way; 0: 32
	MaxTransfer  int                // bytes of one command, at most 32 MiB; 0: 1 MiB
	NoNCQ        bool               // no queued commands (for tests and comparison)
	Bounces      blk.Bounces        // of each disk
	Timeout      time.Duration      // for a command; 0: 30 s
	ReadyTimeout time.Duration      // for a device to be ready after COMRESET; 0: 10 s
}

func (c *Config) check() error {
	setDefault(&c.Depth, 32)
	c.Depth = min(c.Depth, 32)
	setDefault(&c.MaxTransfer, 1<<20)
	setDefault(&c.Timeout, 30*time.Second)
	setDefault(&c.ReadyTimeout, 10*time.Second)
	if c.Name == nil {
		c.Name = func(i int) string { return "sd" + string(rune('a'+i)) }
	}
	if m := c.MaxTransfer; m < 64<<10 || m > 32<<20 || m&(m-1) != 0 {
		return errorf("transfers of %d bytes: need a power of two from 64 KiB to 32 MiB", m)
	}
	return c.Bounces.Check()
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

func errorf(format string, a ...any) error { return fmt.Errorf(driverName+": "+format, a...) }

// Controller is a host bus adapter with its disks.
type Controller struct {
	regs  mmio.Space
	mem   dma.Allocator
	cfg   Config
	line  irq.Line
	cap   uint32
	slots int // of each port
	all   []*port
	used  []*port // those with a disk

	mu     blk.Turn // serialises resets and Close; guards all below
	closed bool
	stuck  error // the reset did not finish
	ended  atomic.Bool
	gone   atomic.Bool
	work   sync.WaitGroup // goroutines that recover ports, and the one of the line
}

// New takes the HBA behind regs, which is BAR 5, and starts the disks of its
// ports. line is its interrupt, pin or message; it is the Controller's from here
// on, and Close closes it. An HBA without a disk is no error: Disks is empty. On
// error nothing is kept.
func New(regs mmio.Space, mem dma.Allocator, line irq.Line, cfg Config) (*Controller, error) {
	c := &Controller{regs: regs, mem: mem, cfg: cfg, line: line, mu: blk.NewTurn()}
	if err := c.cfg.check(); err != nil {
		return nil, err
	}
	if n := regs.Len(); n < uint32(regPorts+portBytes) {
		return nil, errorf("register window of %#x bytes", n)
	}
	c.mu.Lock()
	err := c.bringUp()
	c.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.work.Go(func() {
		for c.line.Wait() == nil {
			c.interrupt()
		}
		if !c.ended.Load() {
			c.stopAll(errorf("interrupt line was closed"))
		}
	})
	return c, nil
}

// interrupt serves all ports that want it, §5.6.3 and §10.7.2.1: a port is quieted
// before its bit of IS. It looks again after that, since a message is sent only for
// what comes while IS is 0.
func (c *Controller) interrupt() {
	for range 8 {
		is := c.regs.Load32(regIS)
		if is == 0 {
			return
		}
		if is == allOnes && c.regs.Load32(regCAP) == allOnes {
			c.gone.Store(true)
			c.stopAll(errorf("%w", blk.ErrGone))
			return
		}
		for _, p := range c.used {
			if is>>p.n&1 != 0 {
				p.service()
			}
		}
		c.regs.Store32(regIS, is)
	}
}

// stopAll ends all ports for a reason.
func (c *Controller) stopAll(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.used {
		p.work.Lock()
		p.stop(reason)
		p.work.Unlock()
	}
}

// Close flushes and stops the disks; requests under way end with blk.ErrClosed.
func (c *Controller) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.ended.Store(true)
	for _, p := range c.used {
		p.work.Lock()
		p.shutdown()
		p.work.Unlock()
	}
	c.quiet()
	c.mu.Unlock()
	err := c.line.Close()
	c.work.Wait()
	if c.stuck != nil {
		return errors.Join(err, c.stuck)
	}
	for _, p := range c.used {
		p.Blocking.Free()
	}
	for _, p := range c.all {
		p.release()
	}
	return err
}

// quiet makes sure that no port reaches memory any more; where one does not stop,
// the HBA is reset. Caller must hold mu.
func (c *Controller) quiet() {
	if c.gone.Load() || c.cap == 0 {
		return
	}
	idle := true
	for _, p := range c.all {
		idle = p.halt() && idle
	}
	c.regs.Store32(regGHC, c.regs.Load32(regGHC)&^ghcIE)
	if !idle {
		c.stuck = c.resetHBA()
	}
}

// Reset is an HBA reset, §10.4.3, under load: what is under way is sent again.
func (c *Controller) Reset() error { return c.hotReset(nil) }

// hotReset resets the HBA and takes all its disks along. Where p is given and came
// back in the meantime, nothing is done.
func (c *Controller) hotReset(p *port) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return blk.ErrClosed
	}
	if p != nil && !p.isFrozen() {
		return nil
	}
	for _, p := range c.used {
		p.work.Lock()
		defer p.work.Unlock()
		p.freeze()
		if p.isFrozen() {
			p.collect()
		}
	}
	log.Warnf("HBA reset")
	if err := c.resetHBA(); err != nil {
		c.stuck = err
		for _, p := range c.used {
			p.stop(err)
		}
		return err
	}
	var errs []error
	for _, p := range c.used {
		if !p.isFrozen() {
			continue
		}
		err := p.start()
		if err == nil {
			err = p.comeBack()
		}
		if err != nil {
			p.stop(err)
			errs = append(errs, err)
		}
	}
	c.regs.Store32(regGHC, ghcAE|ghcIE)
	return errors.Join(errs...)
}

// Disks are the disks by their ports' numbers.
func (c *Controller) Disks() []blk.Disk {
	var out []blk.Disk
	for _, p := range c.used {
		out = append(out, p)
	}
	return out
}
