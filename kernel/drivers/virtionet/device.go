// Package virtionet drives a virtio network device (device ID 1) as a pkt.Link.
//
// Spec: VIRTIO 1.2 (OASIS, 2022-07-01) §5.1, on the transports and queues of
// drivers/virtio. Covered: multiqueue with the control queue, mergeable receive
// buffers, checksum offload and TCP segmentation both ways, MTU, link status, MAC,
// receive mode and receive offload commands, the legacy header and layout rules. Not covered:
// RSS and hash reports, VLAN filtering, UDP segmentation, guest announcements,
// packed rings.
//
// QEMU: -device virtio-net-pci,netdev=n0,mq=on,vectors=N
//
// Memory: rings come from the dma.Allocator, buffers from the pkt.Pools, both
// given to New. The driver owns a receive buffer from post to RxBatch, and a
// frame from TxBatch until the device has used it.
//
// Concurrency: the receive side of a queue belongs to one goroutine and does not
// lock; it passes a gate (one uncontended exchange for a batch) that Close shuts.
// The transmit side of a queue has a mutex, taken once for a batch.
//
// Interrupts: with MSI-X, line 0 is the configuration's and line 1+i that of pair
// i. With a single line (INTx, MMIO, or one vector) a goroutine waits on it, asks
// the device what happened, and wakes the pairs concerned. Transmit completions
// do not interrupt: sent buffers come back in TxBatch and in RxWait. Only where
// the ring was full, so that a sender is waiting, does the driver ask for one
// interrupt, at three quarters drained, and RxWait returns for it; with
// Config.TxInterrupt also whenever RxWait goes to sleep with frames outstanding.
//
// Start reading at New (in the order of §3.1.1 and §5.1.5), then rx.go and tx.go.
// Tests play the device with ktest/fakedev.NIC.
package virtionet

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"osv/kernel/drivers/nic"
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
	"osv/kernel/pkt"
)

// Config shapes a Device. The zero value of each field is a sound choice but for
// RxPools, which must be given.
type Config struct {
	Name string // link name; "eth0" if empty

	// RxPools are where receive rings take buffers from, one for each pair or one
	// for all; TxPools serve TxBuf likewise, RxPools if empty. Their owner closes
	// them after Close and after all frames came back.
	RxPools, TxPools []*pkt.Pool

	Pairs       int  // queue pairs wanted; 0: one for each line after the first
	RxRing      int  // descriptors of a receive ring, a power of two; 0: 256
	TxRing      int  // descriptors of a transmit ring, a power of two; 0: 256
	LRO         bool // let the device hand up merged TCP segments (GUEST_TSO), where it has mergeable buffers and the ring holds 64 KiB
	NoOffload   bool // no checksum offload and no segmentation, either way
	NoEventIdx  bool // plain interrupt suppression (for tests and comparison)
	TxInterrupt bool // see the package comment
}

const (
	driverName  = "virtio-net"
	defaultRing = 256
	maxPairs    = 0x8000 // VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX, §5.1.6.5.5
)

// Device is a virtio network device; it is a pkt.Link.
type Device struct {
	dev   *virtio.Device
	cfg   Config
	caps  pkt.Caps
	lines []irq.Line

	rx   []rxQueue
	tx   []txQueue
	wait []nic.Waiter
	ctrl *ctrlQueue // nil where the device has none

	linkUp   pkt.Carrier
	closed   atomic.Bool
	health   nic.Health
	pumps    sync.WaitGroup
	closeMu  sync.Mutex
	closeErr error // guarded by closeMu
}

var (
	_ pkt.Link            = (*Device)(nil)
	_ pkt.CarrierNotifier = (*Device)(nil)
)

// New takes the device behind t and starts it. lines are its interrupts, as the
// package comment says; they are the Device's from here on, and Close closes
// them. On error nothing is kept.
func New(t virtio.Transport, mem dma.Allocator, lines []irq.Line, cfg Config) (*Device, error) {
	if err := cfg.check(t, lines); err != nil {
		return nil, err
	}
	pairs, err := choosePairs(t, len(lines), cfg.Pairs)
	if err != nil {
		return nil, err
	}
	dev, err := virtio.Open(t, mem, driverName, wanted(t.DeviceFeatures(), cfg, pairs, cfg.LRO && lroFits(t, cfg)), 0)
	if err != nil {
		return nil, err
	}
	d := &Device{dev: dev, cfg: cfg, lines: lines}
	if err := d.setup(mem, pairs); err != nil {
		if err = dev.Fail(err); !errors.Is(err, virtio.ErrStuck) {
			d.release()
		}
		return nil, err
	}
	return d, nil
}

func (c *Config) check(t virtio.Transport, lines []irq.Line) error {
	if id := t.DeviceID(); id != virtio.IDNet {
		return fmt.Errorf("%s: device is of type %d", driverName, id)
	}
	if len(lines) == 0 {
		return fmt.Errorf("%s: no interrupt line", driverName)
	}
	if !t.MSIX() && len(lines) != 1 {
		return fmt.Errorf("%s: %d interrupt lines for a device with one interrupt", driverName, len(lines))
	}
	if len(c.RxPools) == 0 {
		return fmt.Errorf("%s: no buffer pool", driverName)
	}
	if len(c.TxPools) == 0 {
		c.TxPools = c.RxPools
	}
	if c.Name == "" {
		c.Name = "eth0"
	}
	if c.RxRing == 0 {
		c.RxRing = defaultRing
	}
	if c.TxRing == 0 {
		c.TxRing = defaultRing
	}
	return nil
}

// choosePairs reads how many queue pairs the device has, which §3.1.1 step 4
// allows before features are agreed on, and how many of them to use.
func choosePairs(t virtio.Transport, lines, want int) (int, error) {
	if want <= 0 {
		want = max(lines-1, 1)
	}
	if lines > 1 {
		want = min(want, lines-1)
	}
	f := t.DeviceFeatures()
	if want == 1 || !f.Has(featMQ|featCtrlVQ) {
		return 1, nil
	}
	c := t.Config()
	if c == nil || c.Len() < uint32(cfgMaxPairs)+2 {
		return 0, fmt.Errorf("%s: device offers multiqueue without the number of queues", driverName)
	}
	n := int(c.Load16(cfgMaxPairs))
	if n < 1 || n > maxPairs {
		return 0, fmt.Errorf("%s: device says it has %d queue pairs", driverName, n)
	}
	return min(want, n), nil
}

// setup is step 7 and 8 of §3.1.1, with the order of §5.1.5.
func (d *Device) setup(mem dma.Allocator, pairs int) error {
	conf, err := d.readConfig()
	if err != nil {
		return err
	}
	vector := func(pair int) uint16 { // the table index of a pair's line
		if len(d.lines) == 1 {
			return 0
		}
		return uint16(1 + pair)
	}
	d.rx = make([]rxQueue, pairs)
	d.tx = make([]txQueue, pairs)
	d.wait = make([]nic.Waiter, pairs)
	for i := range pairs {
		if err := d.rx[i].init(d, i, vector(i)); err != nil {
			return err
		}
		if err := d.tx[i].init(d, i, vector(i)); err != nil {
			return err
		}
	}
	if d.dev.Features.Has(featCtrlVQ) {
		index := 2
		if d.dev.Features.Has(featMQ) {
			index = 2 * int(conf.maxPairs)
		}
		if d.ctrl, err = newCtrlQueue(d.dev, mem, index); err != nil {
			return err
		}
	}
	if len(d.lines) > 1 { // with one vector for all, LinkUp asks the device
		if err := d.dev.Transport.SetConfigVector(0); err != nil {
			return d.dev.Errorf("%v", err)
		}
	}
	d.setCaps(conf)
	d.linkUp.Store(conf.linkUp)
	if err := d.dev.Start(); err != nil {
		return err
	}
	for i := range d.rx {
		d.rx[i].refill()
		if d.rx[i].vq.InFlight() == 0 {
			return d.dev.Errorf("queue %d: the pool has no buffer to start with", 2*i)
		}
	}
	if pairs > 1 {
		if err := d.ctrl.setPairs(pairs); err != nil {
			return err
		}
	}
	d.startLines()
	return nil
}

func (d *Device) setCaps(conf netConf) {
	f := d.dev.Features
	c := pkt.Caps{
		MAC: conf.mac, MTU: 1500,
		RxQueues: len(d.rx), TxQueues: len(d.tx),
		TxCsum: f.Has(featCsum), RxCsum: f.Has(featGuestCsum),
		TSO4: f.Has(featHostTSO4), TSO6: f.Has(featHostTSO6),
		LRO:       f&(featGuestTSO4|featGuestTSO6) != 0,
		TxScatter: min(maxScatter, d.tx[0].vq.Size()/2),
	}
	if f.Has(featMTU) {
		c.MTU = int(conf.mtu)
	}
	if !f.Has(featMrgRxbuf) { // a frame must fit one buffer
		c.MTU = min(c.MTU, d.rx[0].bufLen-d.rx[0].hdrLen-etherLen)
	}
	if c.TSO4 || c.TSO6 {
		c.GSOMax = etherLen + 65535
	}
	d.caps = c
}

// Name is the link's name.
func (d *Device) Name() string { return d.cfg.Name }

// Caps is what the device and Config allow.
func (d *Device) Caps() pkt.Caps { return d.caps }

// Features are the feature bits in force.
func (d *Device) Features() virtio.Features { return d.dev.Features }

// Err says why the device stopped, nil while it works.
func (d *Device) Err() error { return d.health.Err() }

// fail stops the device's use for good, for the first reason given, and wakes
// all waiters so that they see it.
func (d *Device) fail(err error) {
	if d.health.Fail(err) {
		d.linkUp.Store(false)
		for i := range d.wait {
			d.wait[i].Wake()
		}
	}
}

// stopped returns why nothing goes on any more, nil if it does.
func (d *Device) stopped() error {
	if d.closed.Load() {
		return virtio.ErrClosed
	}
	return d.Err()
}

// OnCarrier makes f be called when the carrier changes; see pkt.CarrierNotifier.
func (d *Device) OnCarrier(f func(up bool)) { d.linkUp.OnCarrier(f) }

// LinkUp reports the carrier; a failed or closed device has none.
func (d *Device) LinkUp() bool {
	if d.stopped() != nil {
		return false
	}
	if len(d.lines) == 1 && d.dev.Transport.MSIX() { // no interrupt tells
		d.configChanged()
	}
	return d.linkUp.Load()
}

// Stats sums the counters of all queues.
func (d *Device) Stats() pkt.LinkStats {
	var s pkt.LinkStats
	for i := range d.rx {
		r, t := &d.rx[i], &d.tx[i]
		s.RxFrames += r.frames.Load()
		s.RxBytes += r.bytes.Load()
		s.RxNoBuf += r.noBuf.Load()
		s.RxErrors += r.errors.Load()
		s.RxIRQs += r.irqs.Load()
		t.mu.Lock()
		s.TxFrames += t.frames
		s.TxBytes += t.bytes
		s.TxFull += t.full
		s.TxErrors += t.errors
		t.mu.Unlock()
		s.Doorbells += r.vq.Doorbells() + t.vq.Doorbells()
	}
	return s
}

// Close resets the device, wakes all waiters, and gives all buffers in the rings
// back to their pools.
func (d *Device) Close() error {
	d.closeMu.Lock()
	defer d.closeMu.Unlock()
	if d.closed.Swap(true) {
		return d.closeErr
	}
	errs := []error{}
	for _, l := range d.lines {
		errs = append(errs, l.Close())
	}
	for i := range d.wait {
		d.wait[i].Wake()
	}
	d.pumps.Wait()
	for i := range d.rx {
		d.rx[i].gate.Shut()
		d.tx[i].shut()
	}
	if d.ctrl != nil {
		d.ctrl.shut()
	}
	err := d.dev.Close()
	errs = append(errs, err)
	if err == nil { // else the device may still write to the buffers
		d.release()
	}
	d.closeErr = errors.Join(errs...)
	return d.closeErr
}

// release gives back what the rings hold, after the device was reset.
func (d *Device) release() {
	for i := range d.rx {
		d.rx[i].release()
	}
	for i := range d.tx {
		d.tx[i].release()
	}
	if d.ctrl != nil {
		d.ctrl.release()
	}
}
