// Package virtioscsi drives a virtio SCSI host adapter (device ID 8).
//
// Spec: VIRTIO 1.2 (OASIS, 2022-07-01) §5.6, on the transports and queues of
// drivers/virtio; what travels on it is drivers/scsi. Covered: several request
// queues, task management (ABORT TASK, LOGICAL UNIT RESET), events of hot-plug
// and of changed parameters. Not covered: bidirectional commands, protection
// information, asynchronous notification, units that appear later (noted in the
// log), a reset of the device: one that does not answer even to task management
// is given up.
//
// QEMU: -device virtio-scsi-pci,id=s,num_queues=N -device scsi-hd,bus=s.0,drive=d0
//
// Each disk is a blk.Disk; see package blk for how it is used.
//
// Memory: rings, request headers and buffers come from the dma.Allocator. Where a
// device does not finish its reset, it keeps them.
//
// Concurrency: any goroutine may call anything. Each queue has a mutex. With MSI-X
// each request queue has a goroutine that takes its completions; control and event
// queue share one with the configuration interrupt.
//
// Start reading at New, then queue.go and control.go. Tests play the device with
// ktest/fakedev.SCSI.
package virtioscsi

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
	"osv/kernel/trace"
)

const driverName = "virtio-scsi"

var log = trace.For(driverName)

// Config shapes a Device; the zero value is sound.
type Config struct {
	SCSI           scsi.Config
	Queues         int           // request queues wanted; 0: one for each line after the first
	Ring           int           // descriptors of a request queue, a power of two; 0: 128
	MaxSegs        int           // pieces of memory in one command, at most; 0: 16
	ControlTimeout time.Duration // for the answer to a task management request; 0: 5 s
	NoEventIdx     bool          // plain interrupt suppression (for tests and comparison)
}

// Device is a virtio SCSI host adapter.
type Device struct {
	dev     *virtio.Device
	mem     dma.Allocator
	cfg     Config
	conf    scsiConf
	lines   []irq.Line
	control *control
	events  *events
	queues  []*queue
	next    atomic.Uint32 // queue of the next commands
	host    atomic.Pointer[scsi.Host]

	stopped atomic.Pointer[error] // why nothing goes on any more
	stopMu  sync.Mutex            // serialises stop; before the queues' mu
	closed  bool                  // guarded by stopMu, as the next
	stuck   error                 // the reset did not finish
	pumps   sync.WaitGroup
}

// New takes the device behind t, starts it and looks for disks. lines are its
// interrupts: with MSI-X, line 0 for all but the request queues, and line 1+i for
// request queue i; else, or with one vector for all, a single line. They are the
// Device's from here on, and Close closes them. An adapter without a disk is no
// error. On error nothing is kept.
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
	d.startLines()
	h, err := scsi.Open(d, mem, cfg.SCSI)
	d.host.Store(h)
	if err != nil {
		d.stop(err)
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (c *Config) check(t virtio.Transport, lines []irq.Line) error {
	if id := t.DeviceID(); id != virtio.IDSCSI {
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
	setDefault(&c.ControlTimeout, 5*time.Second)
	return nil
}

const maxSegs = 1 << 10

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// setup is steps 7 and 8 of §3.1.1.
func (d *Device) setup() error {
	if err := d.readConfig(); err != nil {
		return err
	}
	var err error
	if d.control, err = newControl(d); err != nil {
		return err
	}
	if d.events, err = newEvents(d); err != nil {
		return err
	}
	for i := range min(d.cfg.Queues, int(d.conf.numQueues)) {
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
	if len(d.lines) > 1 {
		if err := d.dev.Transport.SetConfigVector(0); err != nil {
			return d.dev.Errorf("%v", err)
		}
	}
	return d.dev.Start()
}

// startLines starts one goroutine for each line; they end when it is closed.
func (d *Device) startLines() {
	if len(d.lines) == 1 {
		d.pump(d.lines[0], d.sharedInterrupt)
	} else {
		d.pump(d.lines[0], d.otherInterrupt)
		for i, q := range d.queues {
			d.pump(d.lines[1+i], q.interrupt)
		}
	}
	d.control.interrupt() // arms, as the others do
	d.events.start()
	for _, q := range d.queues {
		q.interrupt()
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
		d.check()
	}
	if !queues {
		return
	}
	for _, q := range d.queues {
		q.interrupt()
	}
	d.control.interrupt()
	d.events.interrupt()
}

// otherInterrupt serves all but the request queues.
func (d *Device) otherInterrupt() {
	d.check()
	d.control.interrupt()
	d.events.interrupt()
}

// check looks whether the device is in trouble.
func (d *Device) check() {
	if err := d.dev.Check(); err != nil {
		d.stop(err)
	}
}

// stop ends the device for the first reason given: it resets it, so that no
// memory is its own any more, and ends all commands with the reason. Where the
// reset does not finish, their errors say so with virtio.ErrStuck.
func (d *Device) stop(reason error) {
	d.stopMu.Lock()
	defer d.stopMu.Unlock()
	if d.stopped.Load() != nil {
		return
	}
	d.stopped.Store(&reason) // from here on nothing is queued
	d.control.freeze()
	d.events.freeze()
	for _, q := range d.queues {
		q.freeze()
	}
	if err := d.dev.Transport.Reset(); err != nil {
		d.stuck = err
		reason = errors.Join(reason, err)
		d.stopped.Store(&reason)
	}
	d.control.drop()
	for _, q := range d.queues {
		q.drop()
	}
}

// Close resets the device; requests under way end with virtio.ErrClosed.
func (d *Device) Close() error {
	d.stop(virtio.ErrClosed)
	d.stopMu.Lock()
	if d.closed {
		d.stopMu.Unlock()
		return nil
	}
	d.closed = true
	d.stopMu.Unlock()
	var errs []error
	for _, l := range d.lines {
		errs = append(errs, l.Close())
	}
	d.pumps.Wait()                        // a goroutine among them may be in stop
	if err := d.dev.Close(); err != nil { // the rings, and with them all below, are lost
		d.host.Load().Free(true)
		return errors.Join(append(errs, err)...)
	}
	d.host.Load().Free(false)
	d.free()
	return errors.Join(errs...)
}

// free gives all memory back, once the device cannot reach it.
func (d *Device) free() {
	if d.control != nil {
		d.mem.Free(d.control.ctl)
	}
	if d.events != nil {
		d.mem.Free(d.events.mem)
	}
	for _, q := range d.queues {
		d.mem.Free(q.ctl)
	}
}

// Disks are the disks in order of target and unit.
func (d *Device) Disks() []blk.Disk { return d.host.Load().Disks() }

// Features are the feature bits in force.
func (d *Device) Features() virtio.Features { return d.dev.Features }

// Queues is the number of request queues in use.
func (d *Device) Queues() int { return len(d.queues) }

// The rest is scsi.Transport's.

// Limits is scsi.Transport's.
func (d *Device) Limits() scsi.Limits {
	return scsi.Limits{Driver: driverName, Targets: int(d.conf.maxTarget) + 1, MaxSegs: d.queues[0].maxSegs,
		MaxBytes: d.conf.maxBytes(), PerUnit: int(d.conf.cmdPerLUN), Queues: len(d.queues), Skip: -1}
}

// Err says why the device stopped, nil while it works.
func (d *Device) Err() error {
	if p := d.stopped.Load(); p != nil {
		return *p
	}
	return nil
}

// Queue is scsi.Transport's.
func (d *Device) Queue(l scsi.List) {
	if l.Head() == nil {
		return
	}
	q := d.queues[0]
	if n := len(d.queues); n > 1 {
		q = d.queues[int(d.next.Add(1))%n]
	}
	q.submit(l)
}

// refuse ends commands that cannot be queued any more.
func (d *Device) refuse(l scsi.List) {
	for l.Head() != nil {
		var done scsi.List
		for c := l.Pop(); c != nil; c = l.Pop() {
			c.Host, c.Err = scsi.HostGone, d.Err()
			done.Push(c)
		}
		l = scsi.Finish(done)
	}
}

// Poll is scsi.Transport's.
func (d *Device) Poll() {
	for _, q := range d.queues {
		q.interrupt()
	}
}

// Reset is scsi.Transport's: task management has failed, so the device is given
// up.
func (d *Device) Reset(why string) {
	d.stop(fmt.Errorf("%s: %s: %w", driverName, why, blk.ErrTimeout))
}

var _ scsi.Transport = (*Device)(nil)
