// Package fakepvscsi plays a VMware paravirtual SCSI adapter for tests of
// drivers/pvscsi: the registers of BAR 0 and the rings in the driver's own memory;
// the units behind it are those of a fakescsi.Bus.
//
// Spec: facts of the public headers, read from the device's side; nothing here is
// shared with the driver. It is strict: what a driver may not do is noted in the
// Bus's Violations, which a test wants empty. It can also lie, in each way that a
// field says.
//
// Who may use it: tests only. Commands run inside of the kick, or, with Manual,
// when the test calls Step. Start reading at Device.
package fakepvscsi

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"unsafe"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakescsi"
)

// Device is the adapter. Fields are set before the driver starts, or in Set.
type Device struct {
	Mem    *fakedev.Mem
	Line   *fakedev.Line
	Bus    fakescsi.Bus
	Manual bool            // commands wait for Step
	Pick   func(n int) int // which of n waiting commands Step completes; nil: the first
	Phys   uint32          // targets told by the configuration page; 0: it has none
	Small  bool            // no message ring: an adapter of the first revision
	NoLog  bool            // no allocation: for benchmarks

	// How it misbehaves.
	Gone         bool // all reads give ones
	NoRings      bool // SETUP_RINGS does nothing
	NoInterrupts bool
	DeafAbort    bool   // ABORT_CMD does nothing
	DeafReset    bool   // RESET_DEVICE does nothing
	RefuseReset  bool   // RESET_DEVICE fails
	HostStatus   uint16 // of all commands, where it is not 0
	DataLen      uint64 // of all completions, where it is not 0
	Exact        bool   // moved bytes are told; else 0, as QEMU does

	mu         sync.Mutex // guards all below
	cmd        uint32
	words      []uint32
	status     uint32
	intr, mask uint32
	state      []byte
	req, cmp   [][]byte // pages
	msg        []byte
	reqCons    uint32
	cmpProd    uint32
	msgProd    uint32
	hand       []request
	dropped    []request
	commands   []uint32 // written to the command register
	resets     int
	kicks      [2]int
	cdb        [16]byte // of the request being carried out, as the next
	pieces     [][]byte
	lied       bool // indices mean nothing any more
}

// request is a request descriptor.
type request struct {
	context, dataAddr, dataLen, senseAddr uint64
	senseLen, flags                       uint32
	cdb                                   [16]byte
	cdbLen                                byte
	lun                                   [8]byte
	target                                int
}

// New is an adapter without units.
func New(mem *fakedev.Mem) *Device { return &Device{Mem: mem, Line: &fakedev.Line{}} }

const (
	intrDone    = 1
	intrMessage = 4
	failed      = 1<<32 - 1
	notEnough   = 1<<32 - 2
)

// Set changes fields that the driver's goroutines look at.
func (d *Device) Set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// Commands are those written to the command register so far.
func (d *Device) Commands() []uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]uint32(nil), d.commands...)
}

// Kicks are how often each kick register was written: reads and writes, others.
func (d *Device) Kicks() (rw, other int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kicks[0], d.kicks[1]
}

// Load32 is mmio.Space's.
func (d *Device) Load32(o mmio.Off) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Gone {
		return 1<<32 - 1
	}
	switch o {
	case 0x8:
		return d.status
	case 0x100c:
		return d.intr
	case 0x2010:
		return d.mask
	}
	d.Bus.Violate("read of %#x", uint32(o))
	return 0
}

// Store32 is mmio.Space's.
func (d *Device) Store32(o mmio.Off, v uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Gone {
		return
	}
	switch o {
	case 0x0:
		d.cmd, d.words, d.status = v, nil, notEnough
		if n := len(d.commands); n == 0 || d.commands[n-1] != v || v != 8 {
			d.commands = append(d.commands, v)
		}
		d.tryCommand()
	case 0x4:
		d.words = append(d.words, v)
		d.tryCommand()
	case 0x100c:
		d.intr &^= v
	case 0x2010:
		d.mask = v
		d.raise(0)
	case 0x3014, 0x4018:
		d.kicks[(0x4018-int(o))/0x1004]++
		d.fetch(o == 0x4018)
	default:
		d.Bus.Violate("write of %#x", uint32(o))
	}
}

func (d *Device) raise(bit uint32) {
	d.intr |= bit
	if d.intr&d.mask != 0 && !d.NoInterrupts {
		d.Line.Fire()
	}
}

// tryCommand carries out the command once its descriptor is complete.
func (d *Device) tryCommand() {
	need := map[uint32]int{1: 0, 3: 4 + 128, 5: 3, 6: 4, 7: 6, 8: 34}
	n, known := need[d.cmd]
	if d.Small && d.cmd == 8 || !known {
		d.status = failed
		return
	}
	if len(d.words) < n {
		return
	}
	if len(d.words) > n {
		d.Bus.Violate("command %d: %d words", d.cmd, len(d.words))
		return
	}
	d.status = 0
	w := d.words
	switch d.cmd {
	case 1:
		d.reset()
	case 3:
		d.setupRings(w)
	case 5:
		d.resetDevice(w)
	case 6:
		context := uint64(w[0]) | uint64(w[1])<<32
		if !d.DeafAbort {
			d.cancel(0x26, func(r request) bool { return r.context == context && r.target == int(w[2]) })
		}
	case 7:
		d.config(w)
	case 8:
		if w[0] != 1 || d.state == nil {
			d.Bus.Violate("message ring of %d pages", w[0])
			return
		}
		d.msg = d.page(w[2:])
		d.store(136, 5)
		d.status = 34
	}
}

// page is the page whose number is in w.
func (d *Device) page(w []uint32) []byte {
	b, ok := d.Mem.BytesAt(dma.Addr(uint64(w[0])|uint64(w[1])<<32)*4096, 4096)
	if !ok {
		d.Bus.Violate("page %#x %#x is not the driver's", w[1], w[0])
		return make([]byte, 4096)
	}
	return b
}

func (d *Device) reset() {
	d.resets++
	d.cancel(0x25, func(request) bool { return true })
	d.intr, d.state, d.req, d.cmp, d.msg = 0, nil, nil, nil, nil
	d.reqCons, d.cmpProd, d.msgProd = 0, 0, 0
}

func (d *Device) setupRings(w []uint32) {
	if d.NoRings {
		return
	}
	for i := range 2 {
		if n := w[i]; n == 0 || n > 32 || n&(n-1) != 0 {
			d.Bus.Violate("ring of %d pages", n)
			return
		}
	}
	d.state, d.req, d.cmp = d.page(w[2:]), nil, nil
	for i := range int(w[0]) {
		d.req = append(d.req, d.page(w[4+2*i:]))
	}
	for i := range int(w[1]) {
		d.cmp = append(d.cmp, d.page(w[68+2*i:]))
	}
	for _, off := range []int{0, 4, 12, 16} {
		if d.load(off) != 0 {
			d.Bus.Violate("index at %d of new rings is %d", off, d.load(off))
		}
	}
	log := func(n int) (l uint32) {
		for ; n > 1; n >>= 1 {
			l++
		}
		return l
	}
	d.store(8, log(len(d.req)*32))
	d.store(20, log(len(d.cmp)*128))
}

func (d *Device) resetDevice(w []uint32) {
	if d.RefuseReset {
		d.status = failed
		return
	}
	if !d.DeafReset {
		d.cancel(0x25, func(r request) bool {
			return r.target == int(w[0]) && binary.LittleEndian.Uint32(r.lun[:]) == w[1] && binary.LittleEndian.Uint32(r.lun[4:]) == w[2]
		})
	}
}

func (d *Device) config(w []uint32) {
	if d.Phys == 0 {
		d.status = failed
		return
	}
	b, ok := d.Mem.BytesAt(dma.Addr(uint64(w[0])|uint64(w[1])<<32), 480)
	if !ok || w[2] != 0 || w[3] != 0x2120 || w[4] != 0x1958 {
		d.Bus.Violate("configuration page %x", w)
		return
	}
	binary.LittleEndian.PutUint32(b[6:], 0)
	binary.LittleEndian.PutUint16(b[8:], 0)
	binary.LittleEndian.PutUint32(b[472:], d.Phys)
}

func (d *Device) load(off int) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&d.state[off])))
}

func (d *Device) store(off int, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&d.state[off])), v)
}

func (d *Device) Load8(mmio.Off) uint8     { panic("fakepvscsi: byte access") }
func (d *Device) Load16(mmio.Off) uint16   { panic("fakepvscsi: word access") }
func (d *Device) Store8(mmio.Off, uint8)   { panic("fakepvscsi: byte access") }
func (d *Device) Store16(mmio.Off, uint16) { panic("fakepvscsi: word access") }

// Len is mmio.Space's.
func (d *Device) Len() uint32 { return 0x8000 }

// Doorbell is mmio.Space's.
func (d *Device) Doorbell(o mmio.Off) mmio.Doorbell {
	return mmio.Funcs(func(uint16) { panic("fakepvscsi: word access") }, func(v uint32) { d.Store32(o, v) })
}
