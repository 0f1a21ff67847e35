// Package fakenvme plays an NVM Express controller for tests of drivers/nvme: the
// properties and doorbells of a register window, queues in the driver's own
// memory, and the commands that a disk needs.
//
// Spec: NVM Express Base 2.0, NVM Command Set 1.0. It is strict: what a driver may
// not do is noted in Violations, which a test wants empty. It can also lie, in each
// way that a field says.
//
// Who may use it: tests only. Commands run inside of the doorbell write, or, with
// Manual, when the test calls Step. Start reading at Device.
package fakenvme

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/ktest/fakedev"
)

// Space is a namespace.
type Space struct {
	Info [4096]byte // Identify Namespace data
	Disk []byte
}

// Cmd is a submission queue entry as the controller fetched it.
type Cmd struct {
	Queue  int
	Opcode uint8
	CID    uint16
	NSID   uint32
	PRP1   uint64
	PRP2   uint64
	DW     [16]uint32
}

func (c Cmd) String() string {
	return fmt.Sprintf("q%d %02x ns%d %x %x %x", c.Queue, c.Opcode, c.NSID, c.DW[10], c.DW[11], c.DW[12])
}

// Verdict is what becomes of a command.
type Verdict int

const (
	Do   Verdict = -1 // it is carried out
	Drop Verdict = -2 // it is never completed
)

// Device is the controller. Fields are set before the driver starts, or between
// its calls.
type Device struct {
	Mem    *fakedev.Mem
	Lines  []*fakedev.Line // vector i fires line i, or the only one
	CAP    uint64
	VS     uint32
	Ctrl   [4096]byte // Identify Controller data
	CSCtrl [4096]byte // of the NVM command set
	Spaces map[uint32]*Space
	List   []uint32 // the active namespaces where they are not those of Spaces
	Queues int      // pairs of I/O queues that it grants
	NoLog  bool     // commands are completed and not looked at: no allocation
	Manual bool     // I/O commands wait for Step
	// Judge says what becomes of a command: Do, Drop, or a status with which it
	// fails.
	Judge func(Cmd) Verdict
	Pick  func(n int) int // which of n waiting commands Step completes; nil: the first
	// How it misbehaves.
	NeverReady   bool // CSTS.RDY does not follow CC.EN going to 1
	NeverReset   bool // nor going to 0
	NoShutdown   bool
	Fatal        bool // CSTS.CFS, until the reset; with NeverReady for good
	Gone         bool // all reads give ones
	WrongPhase   bool // completions that no driver may see
	NoInterrupts bool
	NoAbort      bool // Abort is completed, and aborts nothing

	mu         sync.Mutex // guards all below
	cc, csts   uint32
	aqa        uint32
	asq, acq   uint64
	sqs        map[int]*sq
	cqs        map[int]*cq
	waiting    []Cmd // with Manual
	dropped    []Cmd
	log        []Cmd
	violations []string
	resets     int
}

type sq struct {
	base             dma.Addr
	size, head, tail int
	cq               int
	busy             map[uint16]bool
}

type cq struct {
	base             dma.Addr
	size, head, tail int
	phase            uint32
	vector           int
	used             int
}

const (
	stride  = 4
	window  = 0x2000
	ready   = 1
	fatal   = 2
	shst    = 3 << 2
	shstEnd = 2 << 2
)

// New is a controller with one namespace of n bytes in blocks of 1<<shift.
func New(mem *fakedev.Mem, lines int, n, shift int) *Device {
	d := &Device{Mem: mem, Queues: 8, VS: 2 << 16,
		CAP:    1023 | 1<<16 | 4<<24 | 1<<37 | 1<<43, // 1024 entries, contiguous, 2 s, NVM and selected command sets
		Spaces: map[uint32]*Space{}, sqs: map[int]*sq{}, cqs: map[int]*cq{}}
	for range lines {
		d.Lines = append(d.Lines, &fakedev.Line{})
	}
	copy(d.Ctrl[4:24], fmt.Sprintf("%-20s", "fake-serial"))
	copy(d.Ctrl[24:64], fmt.Sprintf("%-40s", "fake controller"))
	d.Ctrl[77] = 7 // MDTS: 512 KiB
	binary.LittleEndian.PutUint32(d.Ctrl[516:], 4)
	binary.LittleEndian.PutUint16(d.Ctrl[520:], 1<<2|1<<3)
	d.Ctrl[525] = 1
	d.AddSpace(1, n, shift)
	return d
}

// AddSpace adds a namespace.
func (d *Device) AddSpace(id uint32, n, shift int) *Space {
	s := &Space{Disk: make([]byte, n)}
	binary.LittleEndian.PutUint64(s.Info[0:], uint64(n>>shift))
	binary.LittleEndian.PutUint32(s.Info[128:], uint32(shift)<<16)
	d.Spaces[id] = s
	return s
}

func (d *Device) violate(format string, a ...any) {
	d.violations = append(d.violations, fmt.Sprintf(format, a...))
}

// Violations is what the driver did and may not.
func (d *Device) Violations() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.violations...)
}

// Log is all commands since the last call.
func (d *Device) Log() []Cmd {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.log
	d.log = nil
	return l
}

// Resets is how often CC.EN went to 0.
func (d *Device) Resets() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.resets
}

// CC is the configuration property.
func (d *Device) CC() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cc
}

// Enable pretends that firmware left the controller enabled.
func (d *Device) Enable() {
	d.cc, d.csts = 1|6<<16|4<<20, ready
}

// Set changes fields that the driver's goroutines look at.
func (d *Device) Set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// Load32 is mmio.Space's.
func (d *Device) Load32(o mmio.Off) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Gone {
		return 1<<32 - 1
	}
	switch o {
	case 0x00:
		return uint32(d.CAP)
	case 0x04:
		return uint32(d.CAP >> 32)
	case 0x08:
		return d.VS
	case 0x14:
		return d.cc
	case 0x1c:
		s := d.csts
		if d.Fatal {
			s |= fatal
		}
		return s
	case 0x24:
		return d.aqa
	}
	d.violate("read of %#x", uint32(o))
	return 0
}

// Store32 is mmio.Space's.
func (d *Device) Store32(o mmio.Off, v uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Gone {
		return
	}
	if o >= 0x24 && o < 0x38 && d.cc&1 != 0 {
		d.violate("admin queue changed while enabled")
	}
	switch {
	case o == 0x14:
		d.configure(v)
	case o == 0x24:
		d.aqa = v
	case o == 0x28:
		d.asq = d.asq>>32<<32 | uint64(v)
	case o == 0x2c:
		d.asq = d.asq&(1<<32-1) | uint64(v)<<32
	case o == 0x30:
		d.acq = d.acq>>32<<32 | uint64(v)
	case o == 0x34:
		d.acq = d.acq&(1<<32-1) | uint64(v)<<32
	case o >= 0x1000:
		d.doorbell(o, v)
	default:
		d.violate("write of %#x", uint32(o))
	}
}

func (d *Device) configure(v uint32) {
	was := d.cc
	d.cc = v
	switch {
	case was&1 == 0 && v&1 != 0:
		if d.csts&ready != 0 {
			d.violate("CC.EN set while CSTS.RDY is 1")
		}
		if v>>16&15 != 6 || v>>20&15 != 4 {
			d.violate("CC %#x: entry sizes", v)
		}
		if uint64(v>>7&15) < d.CAP>>48&15 || uint64(v>>7&15) > d.CAP>>52&15 {
			d.violate("CC %#x: page size", v)
		}
		if d.asq%d.page() != 0 || d.acq%d.page() != 0 || d.asq == 0 || d.acq == 0 {
			d.violate("admin queues at %#x and %#x", d.asq, d.acq)
		}
		d.sqs = map[int]*sq{0: {base: dma.Addr(d.asq), size: int(d.aqa&0xfff) + 1, busy: map[uint16]bool{}}}
		d.cqs = map[int]*cq{0: {base: dma.Addr(d.acq), size: int(d.aqa>>16&0xfff) + 1, phase: 1}}
		if !d.NeverReady {
			d.csts |= ready
		}
	case was&1 != 0 && v&1 == 0:
		d.resets++
		d.sqs, d.cqs, d.waiting, d.dropped = map[int]*sq{}, map[int]*cq{}, nil, nil
		if !d.NeverReset {
			d.csts, d.Fatal = 0, d.Fatal && d.NeverReady
		}
	}
	if was>>14&3 == 0 && v>>14&3 != 0 && !d.NoShutdown {
		if len(d.sqs) > 1 {
			d.violate("shutdown with %d I/O queues", len(d.sqs)-1)
		}
		d.csts = d.csts&^shst | shstEnd
	}
}

func (d *Device) page() uint64 { return 4096 << (d.cc >> 7 & 15) }

func (d *Device) Load8(o mmio.Off) uint8       { panic("fakenvme: byte access") }
func (d *Device) Load16(o mmio.Off) uint16     { panic("fakenvme: word access") }
func (d *Device) Store8(o mmio.Off, v uint8)   { panic("fakenvme: byte access") }
func (d *Device) Store16(o mmio.Off, v uint16) { panic("fakenvme: word access") }

// Len is mmio.Space's.
func (d *Device) Len() uint32 { return window }

// Doorbell is mmio.Space's.
func (d *Device) Doorbell(o mmio.Off) mmio.Doorbell {
	return mmio.Funcs(func(uint16) { panic("fakenvme: word access") }, func(v uint32) { d.Store32(o, v) })
}

func (d *Device) doorbell(o mmio.Off, v uint32) {
	i := int(o-0x1000) / (stride << (d.CAP >> 32 & 15))
	if d.csts&ready == 0 {
		d.violate("doorbell %d of a controller that is not ready", i)
		return
	}
	if i%2 == 1 {
		q := d.cqs[i/2]
		if q == nil || int(v) >= q.size {
			d.violate("completion doorbell %d: %d", i/2, v)
			return
		}
		n := (int(v) - q.head + q.size) % q.size
		if n > q.used {
			d.violate("completion queue %d: head moves by %d with %d entries", i/2, n, q.used)
		}
		q.used -= n
		q.head = int(v)
		return
	}
	q := d.sqs[i/2]
	if q == nil || int(v) >= q.size {
		d.violate("submission doorbell %d: %d", i/2, v)
		return
	}
	q.tail = int(v)
	for q.head != q.tail {
		c := d.fetch(i/2, q)
		q.head = (q.head + 1) % q.size
		if !d.NoLog {
			d.log = append(d.log, c)
		}
		if q.busy[c.CID] {
			d.violate("command %#x twice in queue %d", c.CID, i/2)
		}
		q.busy[c.CID] = true
		if d.Manual && i > 1 {
			d.waiting = append(d.waiting, c)
		} else {
			d.run(c)
		}
	}
}

func (d *Device) fetch(id int, q *sq) Cmd {
	b, ok := d.Mem.BytesAt(q.base+dma.Addr(q.head*64), 64)
	if !ok {
		d.violate("submission queue %d is not in memory", id)
		b = make([]byte, 64)
	}
	c := Cmd{Queue: id}
	for i := range c.DW {
		c.DW[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	c.Opcode, c.CID, c.NSID = uint8(c.DW[0]), uint16(c.DW[0]>>16), c.DW[1]
	c.PRP1, c.PRP2 = uint64(c.DW[6])|uint64(c.DW[7])<<32, uint64(c.DW[8])|uint64(c.DW[9])<<32
	return c
}

// Step completes one waiting command and reports whether there was one.
func (d *Device) Step() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 {
		return false
	}
	i := 0
	if d.Pick != nil {
		i = d.Pick(len(d.waiting))
	}
	c := d.waiting[i]
	d.waiting = append(d.waiting[:i], d.waiting[i+1:]...)
	d.run(c)
	return true
}

// Waiting is how many commands wait for Step.
func (d *Device) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting)
}

// Post puts a completion into queue id whether or not there is such a command;
// sqid is the queue it says it is of.
func (d *Device) Post(id, sqid int, cid, status uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.complete(id, sqid, cid, status, 0)
}

func (d *Device) complete(id, sqid int, cid, status uint16, result uint32) {
	q := d.cqs[id]
	if q == nil {
		return // deleted
	}
	if q.used == q.size-1 {
		d.violate("completion queue %d is full", id)
		return
	}
	b, ok := d.Mem.BytesAt(q.base+dma.Addr(q.tail*16), 16)
	if !ok {
		d.violate("completion queue %d is not in memory", id)
		return
	}
	head := 0
	if s := d.sqs[sqid]; s != nil {
		head = s.head
		delete(s.busy, cid)
	}
	phase := q.phase
	if d.WrongPhase && id > 0 {
		phase ^= 1
	}
	binary.LittleEndian.PutUint32(b, result)
	binary.LittleEndian.PutUint32(b[8:], uint32(head)|uint32(sqid)<<16)
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[12])), uint32(cid)|phase<<16|uint32(status)<<17)
	q.used++
	if q.tail++; q.tail == q.size {
		q.tail, q.phase = 0, q.phase^1
	}
	if !d.NoInterrupts && len(d.Lines) > 0 {
		d.Lines[min(q.vector, len(d.Lines)-1)].Fire()
	}
}
