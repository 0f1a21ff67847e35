// Package fakevmxnet3 plays VMware's VMXNET3 network device on a plain host:
// registers, commands, the driver shared area, rings, and what the device does to
// frames on their way out.
//
// Spec: the header named in drivers/vmxnet3, read anew from the device's side;
// nothing is shared with the driver.
//
// The device moves frames only when the test calls Step (or, with Live, when the
// driver rings), so that an interleaving is written down and not hoped for. It can
// misbehave: see the fields of Card. What a driver must not do is noted in
// Violations.
//
// Who may use it: tests only. Start reading at Card.
package fakevmxnet3

import (
	"encoding/binary"
	"fmt"
	"sync"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// MAC is the device's address.
var MAC = [6]byte{0x00, 0x0C, 0x29, 0x12, 0x34, 0x56}

// Card is one network device. The fields above mu are the test's, set before use
// or within Do.
type Card struct {
	MSIX  bool            // with its messages on Lines
	Lines []*fakedev.Line // by interrupt index; one for all without MSIX
	Live  bool            // a write of a producer index moves frames at once

	// What it is.
	Revisions    uint32 // VRRS; 0: 1
	UPTVersions  uint32 // UVRS; 0: 1
	MaxQueues    int    // 0: 8
	ActiveMask   bool   // GET_CONF_INTR says that the driver masks
	UpdateRxProd bool   // it wants to know of new receive buffers
	Addr         [6]byte

	// Ways to misbehave.
	Gone         bool   // reads all ones, takes no write
	ActivateFail uint32 // answer of ACTIVATE_DEV
	HoldTx       bool   // sends nothing
	NoReport     bool   // sends, and does not say so
	OnRx         func(c *[4]uint32)
	OnTx         func(c *[4]uint32)
	SkipBuf      bool // passes over a head buffer, once
	BadSums      func([]byte) bool

	// Merged says of what a frame was merged: segments, and bytes of each. Revision 2
	// tells the driver.
	Merged func([]byte) (segs, mss int)

	// Sent is what went out on the wire, segmented and with checksums, by queue.
	Sent [8][][]byte
	// Commands is what the driver asked for.
	Commands []uint32
	// Violations is what a real device would not have forgiven.
	Violations []string

	mu      sync.Mutex // guards all below, and all above once in use
	mem     *fakedev.Mem
	vd      [8]uint32 // BAR 1 by offset / 8: DSAL at 2, …
	answer  uint32
	shared  []byte // nil: not active
	queues  []byte
	ntx     int
	nrx     int
	masked  [25]bool
	pending [25]bool
	linkUp  bool
	pinUp   bool
	tx      [8]txState
	rx      [8]rxState
	backlog [8][][]byte
	dropped int
	// oversize frames are longer than a driver may be given.
	oversize int
	resets   int
}

type txState struct {
	next, comp uint32
	gen, cgen  uint32
}

type rxState struct {
	next [2]uint32
	gen  [2]uint32
	comp uint32
	cgen uint32
}

// New makes a device with a link, not active.
func New(mem *fakedev.Mem) *Card {
	return &Card{mem: mem, linkUp: true, Addr: MAC}
}

func (c *Card) violate(format string, a ...any) {
	c.Violations = append(c.Violations, fmt.Sprintf(format, a...))
}

// Do runs f while no register is accessed.
func (c *Card) Do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func locked[T any](c *Card, f func() T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f()
}

// Resets is how often RESET_DEV was given.
func (c *Card) Resets() int { return locked(c, func() int { return c.resets }) }

// Oversize is how many delivered frames were longer than the driver takes.
func (c *Card) Oversize() int { return locked(c, func() int { return c.oversize }) }

// Dropped is how many delivered frames the filter kept out.
func (c *Card) Dropped() int { return locked(c, func() int { return c.dropped }) }

// TakeSent returns what was sent on queue q since the last call.
func (c *Card) TakeSent(q int) [][]byte {
	return locked(c, func() [][]byte { s := c.Sent[q]; c.Sent[q] = nil; return s })
}

// Deliver queues a frame for receive queue q; Step moves it.
func (c *Card) Deliver(q int, f []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backlog[q] = append(c.backlog[q], f)
}

// Step does all that the device can do now, and returns how many frames it moved.
func (c *Card) Step() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.step()
}

func (c *Card) step() (n int) {
	if c.Gone || c.shared == nil {
		return 0
	}
	for q := range c.ntx {
		n += c.stepTx(q)
	}
	for q := range c.nrx {
		n += c.stepRx(q)
	}
	return n
}

// SetLink changes the carrier and tells the driver.
func (c *Card) SetLink(up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.linkUp = up
	c.event(4)
}

// StopQueue stops a queue for the reason code, and tells the driver.
func (c *Card) StopQueue(rx bool, q int, code uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bit := uint32(2)
	if rx {
		q, bit = q+c.ntx, 1
	}
	d := c.queues[q*256:]
	d[80] = 1
	le.PutUint32(d[84:], code)
	c.event(bit)
}

func (c *Card) event(bits uint32) {
	if c.shared == nil {
		return
	}
	store32(c.shared[696:], load32(c.shared[696:])|bits)
	c.interrupt(int(c.shared[82]))
}

// interrupt raises interrupt i, or remembers it while it is masked.
func (c *Card) interrupt(i int) {
	if c.masked[i] {
		c.pending[i] = true
		return
	}
	c.pending[i] = false
	if c.shared[80] != 0 { // automatic
		c.masked[i] = true
	}
	if c.MSIX {
		c.Lines[i].Fire()
		return
	}
	if i != 0 {
		c.violate("interrupt %d without MSI-X", i)
	}
	c.pinUp = true
	c.Lines[0].Fire()
}

// bytes is guest memory at a; a bad address is the driver's fault.
func (c *Card) bytes(a uint64, n int) []byte {
	b, ok := c.mem.BytesAt(dma.Addr(a), n)
	if !ok {
		c.violate("%d bytes at bus address %#x are nobody's memory", n, a)
		return make([]byte, n)
	}
	return b
}
