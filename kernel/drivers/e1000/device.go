// Package e1000 drives Intel's gigabit network cards that hypervisors play, as a
// pkt.Link: 82540EM and 82545EM (e1000, PCI), 82574L (e1000e, PCI Express).
//
// Spec: "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's
// Manual", 317453 rev. 4.0 (SDM): §3.2 receive, §3.3 transmit, §3.5 segmentation,
// §13 registers, §14 initialisation. "Intel 82574 GbE Controller Family
// Datasheet", 317694 rev. 3.4 (82574): §4.6 initialisation, §7 functions, §10
// registers. Covered: reset, NVM, PHY and link changes, legacy and extended
// receive descriptors, context descriptors, checksums both ways, TCP segmentation,
// frames of several descriptors up to 9 KiB, address filters, interrupt
// moderation, hang detection. Not covered: VLAN offload, the second queue pair and
// RSS of the 82574, wake-up, management, fibre, packet split, errata of 8254x
// silicon (what hypervisors play has none of them).
//
// QEMU: -device e1000,netdev=n0    -device e1000e,netdev=n0
//
// Memory: rings come from the dma.Allocator, buffers from the pkt.Pools, both
// given to New. The driver owns a receive buffer from post to RxBatch, and a
// frame from TxBatch until the device has sent it; it rewrites the headers of
// frames that the device is to segment.
//
// Concurrency: the receive side belongs to one goroutine and passes a gate; the
// transmit side has a mutex, taken once for a batch. Reset and Close take both.
//
// Interrupts: with MSI-X, line 0 is the link's and line 1 the queue's, whose
// message also masks it. With one line (INTx or MSI) a goroutine reads ICR and
// wakes the receiver. Receive interrupts are on only while RxWait sleeps, transmit
// interrupts only while a sender waits for room.
//
// Start reading at New, then init.go (in the order of SDM §14), rx.go and tx.go.
// Tests play the device with ktest/fakee1000.
package e1000

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/drivers/nic"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
	"osv/kernel/pkt"
)

// Config shapes a Device. The zero value of each field is a sound choice but for
// Model and RxPool, which must be given.
type Config struct {
	Name  string // link name; "eth0" if empty
	Model Model

	// RxPool is where the receive ring takes buffers from, TxPool serves TxBuf;
	// RxPool if nil. Their owner closes them after Close and after all frames
	// came back.
	RxPool, TxPool *pkt.Pool

	MSIX      bool // the lines are MSI-X vectors 0 and 1 (82574 only)
	MTU       int  // largest IP packet; 0: 1500, at most MaxMTU
	RxRing    int  // receive descriptors, a multiple of 8; 0: 256
	TxRing    int  // transmit descriptors, a multiple of 8; 0: 256
	IntRate   int  // bound of interrupts a second; 0: 20,000, below 0: none
	NoOffload bool // no checksum offload and no segmentation, either way

	// Hang is how long a transmit descriptor may take; 0: 2 s, below 0: for ever.
	Hang time.Duration
	// Pause waits for hardware; nil: time.Sleep.
	Pause func(time.Duration)
}

const (
	etherLen = 14
	minMTU   = 68 // RFC 791 §3.2

	// MaxMTU is the largest IP packet of a jumbo frame, 82574 §7.1.
	MaxMTU = 9000

	defaultMTU  = 1500
	defaultRing = 256
	maxRing     = 4096 // SDM §13.4.27: of the larger members; enough for all
	defaultRate = 20_000
	defaultHang = 2 * time.Second
)

// Device is a network card; it is a pkt.Link.
type Device struct {
	regs  mmio.Space
	cfg   Config
	model *model
	mem   dma.Allocator
	caps  pkt.Caps
	lines []irq.Line

	rx   rxQueue
	tx   txQueue
	wait nic.Waiter

	mu      sync.Mutex // guards the registers of control, and all below to the blank line
	filter  filter
	link    bool
	speed   int // Mbit/s, 0 without a link
	closing bool

	linkUp pkt.Carrier
	closed atomic.Bool
	health nic.Health
	resets atomic.Uint64
	pumps  sync.WaitGroup

	closeMu  sync.Mutex
	closeErr error // guarded by closeMu
}

var (
	_ pkt.Link            = (*Device)(nil)
	_ pkt.CarrierNotifier = (*Device)(nil)
)

// ErrClosed is returned where the link was closed.
var ErrClosed = errors.New("e1000: device closed")

// errStuck says that the device may still write to memory that was its.
var errStuck = errors.New("the device does not stop")

// New takes the device whose BAR 0 is regs and starts it. lines are its
// interrupts, as the package comment says; they are the Device's from here on,
// and Close closes them. On error nothing is kept, unless the device does not
// stop: its memory is then left to it.
func New(regs mmio.Space, mem dma.Allocator, lines []irq.Line, cfg Config) (*Device, error) {
	d := &Device{regs: regs, cfg: cfg, mem: mem, lines: lines}
	if err := d.cfg.check(regs, lines); err != nil {
		return nil, err
	}
	d.model = models[cfg.Model]
	d.filter.init()
	if err := d.start(); err != nil {
		if err2 := d.halt(); err2 != nil {
			return nil, errors.Join(err, err2)
		}
		d.release()
		return nil, err
	}
	d.startLines()
	return d, nil
}

func (c *Config) check(regs mmio.Space, lines []irq.Line) error {
	m := models[c.Model]
	if m == nil {
		return fmt.Errorf("e1000: no model %d", c.Model)
	}
	fail := func(format string, a ...any) error {
		return fmt.Errorf("e1000: %v: %s", c.Model, fmt.Sprintf(format, a...))
	}
	if n := regs.Len(); n < windowBytes {
		return fail("%#x bytes of registers, want %#x", n, windowBytes)
	}
	want := 1
	if c.MSIX {
		want = 2
		if !m.ext {
			return fail("it has no MSI-X")
		}
	}
	if len(lines) != want {
		return fail("%d interrupt lines, want %d", len(lines), want)
	}
	if c.RxPool == nil {
		return fail("no buffer pool")
	}
	if c.TxPool == nil {
		c.TxPool = c.RxPool
	}
	if c.Name == "" {
		c.Name = "eth0"
	}
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	if c.MTU < minMTU || c.MTU > MaxMTU {
		return fail("an MTU of %d, want %d to %d", c.MTU, minMTU, MaxMTU)
	}
	for _, r := range []*int{&c.RxRing, &c.TxRing} {
		if *r == 0 {
			*r = defaultRing
		}
		if *r < 16 || *r > maxRing || *r%8 != 0 {
			return fail("a ring of %d descriptors, want a multiple of 8 from 16 to %d", *r, maxRing)
		}
	}
	if c.IntRate == 0 {
		c.IntRate = defaultRate
	}
	if c.Hang == 0 {
		c.Hang = defaultHang
	}
	if c.Pause == nil {
		c.Pause = time.Sleep
	}
	return nil
}

func (d *Device) errorf(format string, a ...any) error {
	return fmt.Errorf("e1000: %s: "+format, append([]any{d.cfg.Name}, a...)...)
}

// Name is the link's name.
func (d *Device) Name() string { return d.cfg.Name }

// Caps is what the device and Config allow.
func (d *Device) Caps() pkt.Caps { return d.caps }

// Speed is that of the link in Mbit/s, 0 without one.
func (d *Device) Speed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.speed
}

// Resets is how often the device was reset since New.
func (d *Device) Resets() uint64 { return d.resets.Load() }

// Err says why the device stopped, nil while it works.
func (d *Device) Err() error { return d.health.Err() }

// Fault is the latest wrong that the device did and that its use survived: a
// frame that cannot be, a hang. Nil where there was none.
func (d *Device) Fault() error { return d.health.Fault() }

// faultf notes what the device did wrong.
func (d *Device) faultf(format string, a ...any) { d.health.Note(d.errorf(format, a...)) }

// fail stops the device's use for good, for the first reason given, and wakes
// the receiver so that it sees it.
func (d *Device) fail(err error) {
	if d.health.Fail(err) {
		d.linkUp.Store(false)
		d.wait.Wake()
	}
}

// stopped returns why nothing goes on any more, nil if it does.
func (d *Device) stopped() error {
	if d.closed.Load() {
		return ErrClosed
	}
	return d.Err()
}

// OnCarrier makes f be called when the carrier changes; see pkt.CarrierNotifier.
func (d *Device) OnCarrier(f func(up bool)) { d.linkUp.OnCarrier(f) }

// LinkUp reports the carrier; a failed or closed device has none.
func (d *Device) LinkUp() bool { return d.stopped() == nil && d.linkUp.Load() }

// Stats is the counters.
func (d *Device) Stats() pkt.LinkStats {
	r, t := &d.rx, &d.tx
	s := pkt.LinkStats{
		RxFrames: r.frames.Load(), RxBytes: r.bytes.Load(), RxNoBuf: r.noBuf.Load(),
		RxErrors: r.errors.Load(), RxIRQs: r.irqs.Load(), Doorbells: r.doorbells.Load(),
	}
	t.mu.Lock()
	s.TxFrames, s.TxBytes, s.TxFull, s.TxErrors = t.frames, t.bytes, t.full, t.errors
	s.Doorbells += t.doorbells
	t.mu.Unlock()
	return s
}

// Close stops the device, wakes the waiter, and gives all buffers in the rings
// back to their pools.
func (d *Device) Close() error {
	d.closeMu.Lock()
	defer d.closeMu.Unlock()
	if d.closed.Swap(true) {
		return d.closeErr
	}
	d.mu.Lock()
	d.closing = true
	d.mu.Unlock()
	var errs []error
	for _, l := range d.lines {
		errs = append(errs, l.Close())
	}
	d.wait.Wake()
	d.pumps.Wait()
	d.rx.gate.Shut()
	d.tx.shut()
	d.mu.Lock()
	err := d.halt()
	d.mu.Unlock()
	if errs = append(errs, err); err == nil { // else the device may still write to the buffers
		d.release()
	}
	d.closeErr = errors.Join(errs...)
	return d.closeErr
}

// release gives back what the rings hold, and the rings, after the device stopped.
func (d *Device) release() {
	d.rx.release()
	d.tx.release()
}
