// Package vmxnet3 drives VMware's VMXNET3 network device (PCI 15ad:07b0) as a
// pkt.Link.
//
// Spec: the device has no public manual; registers, shared memory and commands are
// those of VMware's own header as Linux carries it (drivers/net/vmxnet3/
// vmxnet3_defs.h and upt1_defs.h), at revision 1, which every later device offers
// too, and 2 where segments are to be merged. Covered: driver shared area, queue descriptors, receive rings of both buffer
// types, completion rings, events, checksums both ways, TCP segmentation, frames of
// several buffers, merged receive segments (LRO), receive modes, multicast filter, queues with RSS, quiesce and
// reset; INTx, MSI and MSI-X with automatic and active masking. Not covered:
// VLAN offload, data rings, wake-up, coalescing schemes of revision 3.
//
// QEMU: -device vmxnet3,netdev=n0
//
// Memory: shared area and rings come from the dma.Allocator, buffers from the
// pkt.Pools, both given to New. The driver owns a receive buffer from post to
// RxBatch, and a frame from TxBatch until the device has sent it; it rewrites the
// headers of frames that the device is to segment.
//
// Concurrency: the receive side of a queue belongs to one goroutine and passes a
// gate; the transmit side of a queue has a mutex, taken once for a batch. Reset and
// Close take all.
//
// Interrupts: with MSI-X, line 0 is that of events, line 1+i that of receive queue
// i, and the last one that of all transmit queues, which is masked but while a
// sender waits for room. With a single line a goroutine wakes the receivers, and link
// changes are seen while one of them waits, as they always come back to.
//
// Start reading at New, then init.go, rx.go and tx.go. Tests play the device with
// ktest/fakevmxnet3.
package vmxnet3

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

// VendorID and DeviceID are the PCI function's.
const (
	VendorID = 0x15AD
	DeviceID = 0x07B0
)

// Config shapes a Device. The zero value of each field is a sound choice but for
// RxPools, which must be given.
type Config struct {
	Name string // link name; "eth0" if empty

	// RxPools are where receive rings take buffers from, one for each queue or
	// one for all; TxPools serve TxBuf likewise, RxPools if empty. Their owner
	// closes them after Close and after all frames came back.
	RxPools, TxPools []*pkt.Pool

	MSIX      bool // lines are vectors 0, 1, … of MSI-X: at least three
	MTU       int  // largest IP packet; 0: 1500, at most MaxMTU
	RxRing    int  // head buffers of a queue, a multiple of 32; 0: 256
	TxRing    int  // transmit descriptors of a queue, a multiple of 32; 0: 256
	NoOffload bool // no checksum offload and no segmentation, either way
	// LRO has the device merge received TCP segments into frames of up to 64 KiB, where
	// buffers and rings hold them. At revision 1 the size of the segments is a guess: a
	// packet each.
	LRO bool

	// Hang is how long a transmit descriptor may take; 0: 2 s, below 0: for ever.
	Hang time.Duration
}

const (
	etherLen = 14
	minMTU   = 68

	// MaxMTU is the largest IP packet that the device takes.
	MaxMTU = 9000

	defaultRing = 256
	ringUnit    = 32
	maxRing     = 4096
	defaultHang = 2 * time.Second
)

// Device is a network card; it is a pkt.Link.
type Device struct {
	pt, vd mmio.Space // BARs 0 and 1
	cfg    Config
	mem    dma.Allocator
	caps   pkt.Caps
	lines  []irq.Line

	shared dma.Region // driver shared area, RSS configuration, multicast table
	queues dma.Region // queue descriptors
	active bool       // the driver masks interrupts itself
	rx     []rxQueue
	tx     []txQueue

	mu      sync.Mutex // guards commands, the shared area, and all below to the blank line
	mode    uint32
	groups  [][6]byte
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
var ErrClosed = errors.New("vmxnet3: device closed")

// New takes the device whose BARs 0 and 1 are pt and vd and starts it. lines are
// its interrupts, as the package comment says; they are the Device's from here on,
// and Close closes them. On error nothing is kept.
func New(pt, vd mmio.Space, mem dma.Allocator, lines []irq.Line, cfg Config) (*Device, error) {
	d := &Device{pt: pt, vd: vd, cfg: cfg, mem: mem, lines: lines}
	if err := d.cfg.check(pt, vd, lines); err != nil {
		return nil, err
	}
	if err := d.start(); err != nil {
		d.command(cmdReset)
		d.release()
		return nil, err
	}
	d.startLines()
	return d, nil
}

func (c *Config) check(pt, vd mmio.Space, lines []irq.Line) error {
	fail := func(format string, a ...any) error {
		return fmt.Errorf("vmxnet3: %s", fmt.Sprintf(format, a...))
	}
	if pt.Len() < ptBytes || vd.Len() < vdBytes {
		return fail("%#x and %#x bytes of registers, want %#x each", pt.Len(), vd.Len(), ptBytes)
	}
	switch n := len(lines); {
	case c.MSIX && (n < 3 || n > maxIntrs):
		return fail("%d lines of MSI-X, want 3 to %d", n, maxIntrs)
	case !c.MSIX && n != 1:
		return fail("%d interrupt lines, want 1", n)
	}
	if len(c.RxPools) == 0 {
		return fail("no buffer pool")
	}
	if len(c.TxPools) == 0 {
		c.TxPools = c.RxPools
	}
	if c.Name == "" {
		c.Name = "eth0"
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.MTU < minMTU || c.MTU > MaxMTU {
		return fail("an MTU of %d, want %d to %d", c.MTU, minMTU, MaxMTU)
	}
	for _, r := range []*int{&c.RxRing, &c.TxRing} {
		if *r == 0 {
			*r = defaultRing
		}
		if *r < ringUnit || *r > maxRing || *r%ringUnit != 0 {
			return fail("a ring of %d descriptors, want a multiple of %d up to %d", *r, ringUnit, maxRing)
		}
	}
	if c.Hang == 0 {
		c.Hang = defaultHang
	}
	return nil
}

func (d *Device) errorf(format string, a ...any) error {
	return fmt.Errorf("vmxnet3: %s: "+format, append([]any{d.cfg.Name}, a...)...)
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
// frame that cannot be, a queue that stopped, a hang. Nil where there was none.
func (d *Device) Fault() error { return d.health.Fault() }

// faultf notes what the device did wrong.
func (d *Device) faultf(format string, a ...any) { d.health.Note(d.errorf(format, a...)) }

// fail stops the device's use for good, for the first reason given, and wakes
// the receivers so that they see it.
func (d *Device) fail(err error) {
	if d.health.Fail(err) {
		d.linkUp.Store(false)
		d.wakeAll()
	}
}

func (d *Device) wakeAll() {
	for i := range d.rx {
		d.rx[i].wait.Wake()
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

// Stats sums the counters of all queues.
func (d *Device) Stats() (s pkt.LinkStats) {
	for i := range d.rx {
		r := &d.rx[i]
		s.RxFrames += r.frames.Load()
		s.RxBytes += r.bytes.Load()
		s.RxNoBuf += r.noBuf.Load()
		s.RxErrors += r.errors.Load()
		s.RxIRQs += r.irqs.Load()
		s.Doorbells += r.doorbells.Load()
	}
	for i := range d.tx {
		t := &d.tx[i]
		t.mu.Lock()
		s.TxFrames += t.frames
		s.TxBytes += t.bytes
		s.TxFull += t.full
		s.TxErrors += t.errors
		s.Doorbells += t.doorbells
		t.mu.Unlock()
	}
	return s
}

// Close stops the device, wakes all waiters, and gives all buffers in the rings
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
	d.wakeAll()
	d.pumps.Wait()
	for i := range d.rx {
		d.rx[i].gate.Shut()
		d.tx[i].shut()
	}
	d.mu.Lock()
	d.halt()
	d.mu.Unlock()
	d.release()
	d.closeErr = errors.Join(errs...)
	return d.closeErr
}

// release gives back what the rings hold, and all shared memory, after the device
// was reset.
func (d *Device) release() {
	for i := range d.rx {
		d.rx[i].release()
		d.tx[i].release()
	}
	for _, r := range []*dma.Region{&d.shared, &d.queues} {
		if r.Bytes != nil {
			d.mem.Free(*r)
			*r = dma.Region{}
		}
	}
}
