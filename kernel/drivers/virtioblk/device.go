// Package virtioblk drives a virtio block device (device ID 2).
//
// Spec: VIRTIO 1.2 (OASIS, 2022-07-01) §5.2, on the transports and queues of
// drivers/virtio. Covered: multiqueue, flush, discard, write zeroes, block size
// and topology, segment limits, device ID, read-only devices, capacity changes.
// Not covered: write-back switching (CONFIG_WCE), secure erase, lifetime, zones.
//
// QEMU: -device virtio-blk-pci,drive=d0,num-queues=N
//
// It is a blk.Disk, used as package blk says.
//
// Memory: rings, request headers and bounce buffers come from the dma.Allocator.
// A Request and its memory are the driver's from Submit to Done.
//
// Concurrency: any goroutine may call anything. Each queue has a mutex, and one
// goroutine that takes its completions; it calls Done, which must not block.
//
// Start reading at New, then request.go and queue.go. Tests play the device with
// ktest/fakedev.Blk.
package virtioblk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"osv/kernel/blk"
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
)

// Config shapes a Device; the zero value is sound.
type Config struct {
	Name       string // for the caller; "vda" if empty
	Queues     int    // request queues wanted; 0: one for each line after the first
	Ring       int    // descriptors of a queue, a power of two; 0: 128
	MaxSegs    int    // pieces of memory in one device request, at most; 0: 16
	Bounces    int    // bounce buffers for the blocking calls; 0: 16
	BounceSize int    // bytes of each, a power of two; 0: 64 KiB
	NoEventIdx bool   // plain interrupt suppression (for tests and comparison)
}

const driverName = "virtio-blk"

// Device is a virtio block device.
type Device struct {
	dev    *virtio.Device
	mem    dma.Allocator
	cfg    Config
	conf   blkConf
	lines  []irq.Line
	queues []*queue
	next   atomic.Uint32 // queue of the next Submit

	capacity atomic.Uint64 // sectors
	limits   blk.Limits
	shape    blk.Shape

	*blk.Blocking // ReadAt, WriteAt, Flush, Discard, WriteZeroes, BlockSize, ReadOnly

	stopped atomic.Pointer[error] // why nothing goes on any more
	stopMu  sync.Mutex            // serialises stop; before queue.mu
	closed  bool                  // guarded by stopMu, as the next two
	freed   bool
	stuck   error // the reset did not finish
	pumps   sync.WaitGroup
}

// New takes the device behind t and starts it. lines are its interrupts: with
// MSI-X, line 0 for configuration changes and line 1+i for queue i; else, or with
// one vector for all, a single line. They are the Device's from here on, and Close
// closes them. On error nothing is kept.
func New(t virtio.Transport, mem dma.Allocator, lines []irq.Line, cfg Config) (*Device, error) {
	if err := cfg.check(t, lines); err != nil {
		return nil, err
	}
	dev, err := virtio.Open(t, mem, driverName, wanted(cfg), 0)
	if err != nil {
		return nil, err
	}
	d := &Device{dev: dev, mem: mem, cfg: cfg, lines: lines}
	if err := d.setup(); err != nil {
		if err = dev.Fail(err); !errors.Is(err, virtio.ErrStuck) {
			d.free()
		}
		return nil, err
	}
	return d, nil
}

func (c *Config) check(t virtio.Transport, lines []irq.Line) error {
	if id := t.DeviceID(); id != virtio.IDBlock {
		return fmt.Errorf("%s: device is of type %d", driverName, id)
	}
	if len(lines) == 0 {
		return fmt.Errorf("%s: no interrupt line", driverName)
	}
	if !t.MSIX() && len(lines) != 1 {
		return fmt.Errorf("%s: %d interrupt lines for a device with one interrupt", driverName, len(lines))
	}
	setDefault(&c.Queues, max(len(lines)-1, 1))
	if len(lines) > 1 {
		c.Queues = min(c.Queues, len(lines)-1)
	}
	setDefault(&c.Ring, 128)
	setDefault(&c.MaxSegs, 16)
	c.MaxSegs = min(c.MaxSegs, maxSegs)
	if c.Name == "" {
		c.Name = "vda"
	}
	b := blk.Bounces{N: c.Bounces, Size: c.BounceSize}
	if err := b.Check(); err != nil {
		return fmt.Errorf("%s: %v", driverName, err)
	}
	return nil
}

func setDefault(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}

// setup is steps 7 and 8 of §3.1.1.
func (d *Device) setup() error {
	if err := d.readConfig(); err != nil {
		return err
	}
	d.setLimits()
	n := 1
	if d.dev.Features.Has(featMQ) {
		n = min(d.cfg.Queues, int(d.conf.numQueues))
	}
	for i := range n {
		vector := uint16(0)
		if len(d.lines) > 1 {
			vector = uint16(1 + i)
		}
		q, err := newQueue(d, i, vector)
		if q != nil {
			d.queues = append(d.queues, q)
		}
		if err != nil {
			return err
		}
	}
	b, err := blk.NewBlocking(d, &d.limits, d.mem, blk.Bounces{N: d.cfg.Bounces, Size: d.cfg.BounceSize})
	if err != nil {
		return fmt.Errorf("%s: %w", driverName, err)
	}
	d.Blocking = b
	if len(d.lines) > 1 {
		if err := d.dev.Transport.SetConfigVector(0); err != nil {
			return d.dev.Errorf("%v", err)
		}
	}
	if err := d.dev.Start(); err != nil {
		return err
	}
	d.startLines()
	return nil
}

// startLines starts one goroutine for each line; they end when it is closed.
func (d *Device) startLines() {
	if len(d.lines) == 1 {
		d.pump(d.lines[0], d.sharedInterrupt)
	} else {
		d.pump(d.lines[0], d.configChanged)
		for i, q := range d.queues {
			d.pump(d.lines[1+i], q.interrupt)
		}
	}
	for _, q := range d.queues {
		q.interrupt() // arms
	}
}

func (d *Device) pump(l irq.Line, work func()) {
	d.pumps.Go(func() {
		irq.Serve(l, work, func() { d.stop(d.dev.Errorf("interrupt line was closed")) }) // nothing, after Close
	})
}

// sharedInterrupt serves a line that all share. On INTx and MMIO, reading the ISR
// also quiets the device, before the line is unmasked.
func (d *Device) sharedInterrupt() {
	config, queues := d.dev.Interrupt()
	if config {
		d.configChanged()
	}
	if !queues {
		return
	}
	for _, q := range d.queues {
		q.interrupt()
	}
}

// configChanged looks at what a configuration interrupt may mean: the device is
// in trouble, or its capacity is another (§5.2.5.2).
func (d *Device) configChanged() {
	if err := d.dev.Check(); err != nil {
		d.stop(err)
		return
	}
	c, err := d.loadConfig()
	if err == nil {
		err = d.setCapacity(c.capacity)
	}
	if err != nil {
		d.stop(err)
	}
}

// stop ends the device for the first reason given: it resets it, so that no
// memory is its own any more, and ends all requests with the reason. Where the
// reset does not finish, their errors say so with virtio.ErrStuck.
func (d *Device) stop(reason error) {
	d.stopMu.Lock()
	defer d.stopMu.Unlock()
	if d.stopped.Load() != nil {
		return
	}
	d.stopped.Store(&reason) // from here on nothing is submitted
	for _, q := range d.queues {
		q.freeze()
	}
	if err := d.dev.Transport.Reset(); err != nil {
		d.stuck = err
		reason = errors.Join(reason, err)
		d.stopped.Store(&reason)
	}
	for _, q := range d.queues {
		q.abort(reason)
	}
}

// Err says why the device stopped, nil while it works.
func (d *Device) Err() error {
	if p := d.stopped.Load(); p != nil {
		return *p
	}
	return nil
}

// Close resets the device; requests under way end with virtio.ErrClosed.
func (d *Device) Close() error {
	d.stop(virtio.ErrClosed)
	d.stopMu.Lock()
	defer d.stopMu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	var errs []error
	for _, l := range d.lines {
		errs = append(errs, l.Close())
	}
	d.stopMu.Unlock()
	d.pumps.Wait() // a goroutine among them may be in stop
	d.stopMu.Lock()
	if err := d.dev.Close(); err != nil { // the rings, and with them all below, are lost
		return errors.Join(append(errs, err)...)
	}
	d.free()
	return errors.Join(errs...)
}

// free gives all memory back, once the device cannot reach it.
func (d *Device) free() {
	for _, q := range d.queues {
		d.mem.Free(q.ctl)
	}
	d.Blocking.Free()
}

// Name is the name given in Config.
func (d *Device) Name() string { return d.cfg.Name }

// Size is the capacity in bytes.
func (d *Device) Size() int64 { return int64(d.capacity.Load() * SectorSize) }

// Features are the feature bits in force.
func (d *Device) Features() virtio.Features { return d.dev.Features }

// Queues is the number of request queues in use.
func (d *Device) Queues() int { return len(d.queues) }

// Topology is the device's advice on good transfers, in bytes; 0 for no advice.
func (d *Device) Topology() Topology { return d.conf.topology }
