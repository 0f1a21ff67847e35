package fakedev

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"osv/kernel/hw/mmio"
)

// Device is a virtio device without a transport: fill in what it offers, call
// Init, and give the driver one of its fronts (PCI, LegacyPCI, MMIO).
type Device struct {
	ID      uint16
	Mem     *Mem
	Offered uint64 // feature bits
	Queues  []*Queue
	Conf    []byte // device-specific configuration
	MSIX    bool

	// Lines get the interrupts: with MSIX by vector, without all at Lines[0].
	Lines []interface{ Fire() }

	// Lies.
	RefuseFeatures bool // FEATURES_OK does not stick
	ResetReads     int  // that many status reads after a reset still show the old status; -1: all
	NoVectors      bool // MSI-X vectors read back as NoVector
	GarbleConfig   int  // that many configuration reads change the generation
	DropDriverOK   bool // the device forgets DRIVER_OK at once
	NotifyOff      uint16

	mu         sync.Mutex // registers; the driver's interrupt goroutines read some
	features   uint64
	status     atomic.Uint32
	isr        atomic.Uint32
	generation uint32
	resetting  int
	oldStatus  uint32
	devSel     uint32
	drvSel     uint32
	queueSel   uint16
	confVector int
	pageSize   int
	onReset    func()
	onNotify   func(queue int) // called with mu held
	onConfig   func(off int)
}

// Init makes n queues of at most max descriptors.
func (d *Device) Init(n, max int) {
	d.Queues = nil
	for i := range n {
		d.Queues = append(d.Queues, &Queue{Max: max, Index: i, dev: d, Vector: NoVector})
	}
	d.confVector = NoVector
}

// Features are those the driver accepted.
func (d *Device) Features() uint64 { return d.features }

// Status is the device status.
func (d *Device) Status() uint8 { return uint8(d.status.Load()) }

// Live reports whether the driver has set DRIVER_OK.
func (d *Device) Live() bool { return d.status.Load()&statusDriverOK != 0 }

// NeedsReset makes the device ask for a reset, §2.1.2.
func (d *Device) NeedsReset() {
	d.status.Or(statusNeedsReset)
	d.ConfigChanged()
}

// ForgetDriver makes the device fall back to its initial state by itself, as a
// device does that crashed and came up again.
func (d *Device) ForgetDriver() {
	d.status.Store(0)
	d.ConfigChanged()
}

// ConfigChanged tells the driver that Conf or the status changed.
func (d *Device) ConfigChanged() {
	d.mu.Lock()
	d.generation++
	v := d.confVector
	d.mu.Unlock()
	d.interrupt(v, isrConfig)
}

// SetConf changes configuration bytes; ConfigChanged tells the driver.
func (d *Device) SetConf(off int, b ...byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.Conf[off:], b)
}

func (d *Device) interrupt(vector int, isr uint32) {
	if d.MSIX {
		if vector != NoVector && vector < len(d.Lines) {
			d.Lines[vector].Fire()
		}
		return
	}
	d.isr.Or(isr)
	if len(d.Lines) > 0 {
		d.Lines[0].Fire()
	}
}

// ISR is the interrupt status as the driver has not yet read it.
func (d *Device) ISR() uint8 { return uint8(d.isr.Load()) }

func (d *Device) takeISR() uint32 { return d.isr.Swap(0) }

func (d *Device) loadStatus() uint32 {
	if d.resetting != 0 {
		if d.resetting > 0 {
			d.resetting--
		}
		return d.oldStatus
	}
	return d.status.Load()
}

func (d *Device) storeStatus(v uint32) {
	if v == 0 {
		d.reset()
		return
	}
	old := d.status.Load()
	if lost := old &^ (v | statusNeedsReset); lost != 0 {
		panic(fmt.Sprintf("fakedev: driver takes back status bits %#x", lost))
	}
	if d.RefuseFeatures || d.features&^d.Offered != 0 {
		v &^= statusFeaturesOK
	}
	if d.DropDriverOK {
		v &^= statusDriverOK
	}
	d.status.Store(v | old&statusNeedsReset)
}

func (d *Device) reset() {
	if d.ResetReads != 0 {
		d.oldStatus, d.resetting = max(d.status.Load(), 1), d.ResetReads
	}
	d.status.Store(0)
	d.isr.Store(0)
	d.features = 0
	d.confVector = NoVector
	for _, q := range d.Queues {
		q.reset()
	}
	if d.onReset != nil {
		d.onReset()
	}
}

func (d *Device) queue() *Queue {
	if int(d.queueSel) < len(d.Queues) {
		return d.Queues[d.queueSel]
	}
	return &Queue{dev: d}
}

func (d *Device) notify(i uint32) {
	if int(i) >= len(d.Queues) {
		panic(fmt.Sprintf("fakedev: doorbell for queue %d of %d", i, len(d.Queues)))
	}
	d.Queues[i].notified.Add(1)
	if d.onNotify != nil {
		d.onNotify(int(i))
	}
}

func (d *Device) setFeatures(sel, v uint32) {
	if d.status.Load()&statusFeaturesOK != 0 {
		panic("fakedev: driver changes features after FEATURES_OK")
	}
	switch sel {
	case 0:
		d.features = d.features&^0xffffffff | uint64(v)
	case 1:
		d.features = d.features&0xffffffff | uint64(v)<<32
	}
}

func (d *Device) offered(sel uint32) uint32 {
	if sel > 1 {
		return 0
	}
	return uint32(d.Offered >> (32 * sel))
}

func (d *Device) vector(v uint32) int {
	if d.NoVectors {
		return NoVector
	}
	return int(v)
}

func (d *Device) loadConf(o, width int) uint32 {
	if d.GarbleConfig > 0 {
		d.GarbleConfig--
		d.generation++
	}
	var b [4]byte
	copy(b[:width], d.Conf[o:])
	return binary.LittleEndian.Uint32(b[:])
}

func (d *Device) storeConf(o, width int, v uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	copy(d.Conf[o:], b[:width])
	if d.onConfig != nil {
		d.onConfig(o)
	}
}

// window is a register window over two functions, called with mu held.
type window struct {
	d     *Device
	size  uint32
	load  func(o, width int) uint32
	store func(o, width int, v uint32)
}

func (w *window) get(o mmio.Off, width int) uint32 {
	if uint64(o)+uint64(width) > uint64(w.size) {
		panic(fmt.Sprintf("fakedev: read of %d bytes at %#x of %#x", width, uint32(o), w.size))
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	return w.load(int(o), width)
}

func (w *window) put(o mmio.Off, width int, v uint32) {
	if uint64(o)+uint64(width) > uint64(w.size) {
		panic(fmt.Sprintf("fakedev: write of %d bytes at %#x of %#x", width, uint32(o), w.size))
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.store(int(o), width, v)
}

func (w *window) Load8(o mmio.Off) uint8       { return uint8(w.get(o, 1)) }
func (w *window) Load16(o mmio.Off) uint16     { return uint16(w.get(o, 2)) }
func (w *window) Load32(o mmio.Off) uint32     { return w.get(o, 4) }
func (w *window) Store8(o mmio.Off, v uint8)   { w.put(o, 1, uint32(v)) }
func (w *window) Store16(o mmio.Off, v uint16) { w.put(o, 2, uint32(v)) }
func (w *window) Store32(o mmio.Off, v uint32) { w.put(o, 4, v) }
func (w *window) Len() uint32                  { return w.size }

func (w *window) Doorbell(o mmio.Off) mmio.Doorbell {
	return mmio.Func(func(v uint32) { w.put(o, 2, v) })
}

// badAccess is how fronts answer an access that the spec does not know.
func badAccess(op string, o, width int) uint32 {
	panic(fmt.Sprintf("fakedev: %s of %d bytes at register %#x", op, width, o))
}
