// Package nvme drives NVM Express controllers on PCI Express.
//
// Spec: NVM Express Base 2.0 (2021-05-13), NVM Command Set 1.0, PCIe Transport
// 1.0; works with controllers of 1.0 and later. Covered: reset and enable (Base
// §3.5.1), admin queue, Identify, one pair of I/O queues for each interrupt line,
// PRP lists, MDTS, doorbell stride, several namespaces of the NVM command set,
// flush, deallocate, write zeroes, Abort and controller reset for commands that
// are not answered, normal shutdown (§3.6.1). Not covered: SGLs, metadata and
// protection information (such namespaces are skipped), asynchronous events,
// namespace management, zones, controller memory buffer, power states, fabrics.
//
// QEMU: -device nvme,drive=d0,serial=s
//
// Each namespace is a blk.Disk; see package blk for how it is used.
//
// Memory: rings, PRP lists and bounce buffers come from the dma.Allocator. Where
// a controller does not finish its reset, it keeps them.
//
// Concurrency: any goroutine may call anything. Each queue has a mutex, and one
// goroutine that takes its completions. Lock order: Controller.mu, then queue.mu.
//
// A command that is not answered in time is aborted; where that does not help,
// the controller is reset, the command fails with blk.ErrTimeout, and the others
// are sent again. A controller that completes what it was not sent, or does not
// come back from a reset, is given up.
//
// Start reading at New, then init.go, queue.go and recover.go. Tests play the
// device with ktest/fakenvme.
package nvme

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

const driverName = "nvme"

var log = trace.For(driverName)

// Config shapes a Controller; the zero value is sound.
type Config struct {
	Name         func(i int) string // of the i-th namespace, from 0; nil: nvme0n1, nvme0n2, …
	Queues       int                // I/O queues wanted; 0: one for each line after the first
	Depth        int                // entries of an I/O queue, at most 1024; 0: 128
	MaxTransfer  int                // bytes of one command, a power of two of up to 1 MiB; 0: 256 KiB
	Bounces      blk.Bounces        // of each namespace
	Timeout      time.Duration      // for an I/O command; 0: 30 s
	AdminTimeout time.Duration      // for an admin command and the shutdown; 0: 10 s
}

func (c *Config) check() error {
	setDefault(&c.Depth, 128)
	setDefault(&c.MaxTransfer, 256<<10)
	setDefault(&c.Timeout, 30*time.Second)
	setDefault(&c.AdminTimeout, 10*time.Second)
	if c.Name == nil {
		c.Name = func(i int) string { return fmt.Sprintf("nvme0n%d", i+1) }
	}
	if c.Depth < 2 || c.Depth > maxDepth {
		return fmt.Errorf("%s: queues of %d entries: need 2 to %d", driverName, c.Depth, maxDepth)
	}
	if m := c.MaxTransfer; m < 4096 || m > 1<<20 || m&(m-1) != 0 {
		return fmt.Errorf("%s: transfers of %d bytes: need a power of two from 4096 to 1 MiB", driverName, m)
	}
	return c.Bounces.Check()
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Controller is an NVMe controller with its namespaces.
type Controller struct {
	regs  mmio.Space
	mem   dma.Allocator
	cfg   Config
	lines []irq.Line

	cap       capReg
	version   uint32
	page      int // bytes: CC.MPS
	listBytes int
	info      info
	buffer    dma.Region // of one page, for Identify

	admin  *queue
	queues []*queue                 // I/O
	shared atomic.Pointer[[]*queue] // queues, for the goroutine of a line that all share
	spaces []*Namespace
	next   atomic.Uint32 // queue of the next request

	epoch   atomic.Uint32         // counts begins and ends of resets
	stopped atomic.Pointer[error] // why nothing goes on any more
	mu      blk.Turn              // serialises start, reset and stop; guards all below
	resets  int                   // in a row, with nothing completed in between
	stuck   error                 // the reset did not finish
	closed  bool
	pumps   sync.WaitGroup
}

// New takes the controller behind regs, which is BAR 0, and starts it. lines are
// its interrupts: with MSI-X, line 0 for vector 0, which the admin queue has, and
// line i for the I/O queue i; else a single one. They are the Controller's from
// here on, and Close closes them. On error nothing is kept.
func New(regs mmio.Space, mem dma.Allocator, lines []irq.Line, cfg Config) (*Controller, error) {
	c := &Controller{regs: regs, mem: mem, cfg: cfg, lines: lines, mu: blk.NewTurn()}
	if err := c.check(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	err := c.bringUp()
	c.mu.Unlock()
	if err != nil {
		c.stop(err)
		if err2 := c.finish(); err2 != nil {
			err = errors.Join(err, err2)
		}
		return nil, err
	}
	return c, nil
}

func (c *Controller) check() error {
	if err := c.cfg.check(); err != nil {
		return err
	}
	if len(c.lines) == 0 {
		return errorf("no interrupt line")
	}
	if n := c.regs.Len(); n < uint32(regDoorbells)+8 {
		return errorf("register window of %#x bytes", n)
	}
	setDefault(&c.cfg.Queues, max(len(c.lines)-1, 1))
	if len(c.lines) > 1 {
		c.cfg.Queues = min(c.cfg.Queues, len(c.lines)-1)
	}
	return nil
}

func errorf(format string, a ...any) error { return fmt.Errorf(driverName+": "+format, a...) }

func (c *Controller) protocolf(format string, a ...any) error {
	return fmt.Errorf("%s: %w: %s", driverName, blk.ErrProtocol, fmt.Sprintf(format, a...))
}

// startLines starts one goroutine for each line in use; they end when it is
// closed.
func (c *Controller) startLines() {
	if len(c.lines) == 1 {
		c.pump(c.lines[0], func() {
			c.admin.interrupt()
			if p := c.shared.Load(); p != nil {
				for _, q := range *p {
					q.interrupt()
				}
			}
		})
		return
	}
	c.pump(c.lines[0], c.admin.interrupt)
}

func (c *Controller) pump(l irq.Line, work func()) {
	c.pumps.Go(func() {
		irq.Serve(l, work, func() { c.stop(errorf("interrupt line was closed")) }) // nothing, after Close
	})
}

// stop ends the controller for the first reason given: it disables it, so that no
// memory is its own any more, and ends all requests with the reason.
func (c *Controller) stop(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopLocked(reason)
}

// stopLocked is stop. Caller must hold mu.
func (c *Controller) stopLocked(reason error) {
	if c.stopped.Load() != nil {
		return
	}
	c.stopped.Store(&reason) // from here on nothing is submitted
	for _, q := range c.all() {
		q.setState(frozen)
	}
	if err := c.disable(); err != nil {
		c.stuck = err
		reason = errors.Join(reason, err)
		c.stopped.Store(&reason)
	}
	for _, q := range c.all() {
		q.drop(reason)
	}
}

func (c *Controller) all() []*queue {
	if c.admin == nil {
		return nil
	}
	return append([]*queue{c.admin}, c.queues...)
}

// Err says why the controller stopped, nil while it works.
func (c *Controller) Err() error {
	if p := c.stopped.Load(); p != nil {
		return *p
	}
	return nil
}

// Close shuts the controller down; requests under way end with blk.ErrClosed.
func (c *Controller) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	var err error
	if c.stopped.Load() == nil {
		err = c.shutdown()
		c.stopLocked(blk.ErrClosed)
	}
	c.mu.Unlock()
	return errors.Join(err, c.finish())
}

// finish closes the lines and gives all memory back, after stop. Where the
// controller may still write to it, the memory is lost.
func (c *Controller) finish() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	var errs []error
	for _, l := range c.lines {
		errs = append(errs, l.Close())
	}
	c.pumps.Wait()
	if c.stuck != nil {
		return errors.Join(append(errs, c.stuck)...)
	}
	for _, n := range c.spaces {
		n.Blocking.Free()
	}
	for _, q := range c.all() {
		q.release()
	}
	if c.buffer.Bytes != nil {
		c.mem.Free(c.buffer)
	}
	return errors.Join(errs...)
}

// Disks are the namespaces in order of their identifiers.
func (c *Controller) Disks() []blk.Disk {
	var out []blk.Disk
	for _, n := range c.spaces {
		out = append(out, n)
	}
	return out
}

// Queues is the number of I/O queues in use.
func (c *Controller) Queues() int { return len(c.queues) }

// Model is what the controller calls itself.
func (c *Controller) Model() string { return c.info.model }
