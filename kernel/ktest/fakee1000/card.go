// Package fakee1000 plays Intel's 82540EM and 82574L network cards on a plain
// host: registers, NVM and PHY, the two descriptor rings, and what the card does
// to frames on their way out: checksums and segmentation.
//
// Spec: the documents of drivers/e1000, read anew from the device's side; nothing
// is shared with the driver.
//
// The card moves frames only when the test calls Step, so that an interleaving is
// written down and not hoped for. It can misbehave: see the fields of Card. What
// a driver must not do is noted in Violations.
//
// Who may use it: tests only. Start reading at Card.
package fakee1000

import (
	"fmt"
	"sync"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/ktest/fakedev"
)

// Register offsets, in the order of the manual.
const (
	ctrl, status, eecd, eerd, ctrlExt, mdic = 0x00, 0x08, 0x10, 0x14, 0x18, 0x20
	icr, ics, ims, imc, eiac, iam, ivar     = 0xC0, 0xC8, 0xD0, 0xD8, 0xDC, 0xE0, 0xE4
	rctl, tctl                              = 0x100, 0x400
	rdbal, rdbah, rdlen, rdh, rdt           = 0x2800, 0x2804, 0x2808, 0x2810, 0x2818
	tdbal, tdbah, tdlen, tdh, tdt           = 0x3800, 0x3804, 0x3808, 0x3810, 0x3818
	rxcsum, rfctl, mta, ral, rah            = 0x5000, 0x5008, 0x5200, 0x5400, 0x5404

	windowLen = 0x20000
)

// Causes.
const (
	txdw, lsc, rxo, rxt0 = 1 << 0, 1 << 2, 1 << 6, 1 << 7
	rxq0, txq0, other    = 1 << 20, 1 << 22, 1 << 24
)

// MAC is the card's address.
var MAC = [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}

// Writeback is what the card is about to write into a receive descriptor.
type Writeback struct {
	Len    uint16
	Status uint8 // DD, EOP, IXSM, …
	Errors uint8
}

// Card is one network card. The fields above mu are the test's, set before use or
// between Steps.
type Card struct {
	Ext   bool            // 82574L, else 82540EM
	MSIX  bool            // with its messages on Lines
	Lines []*fakedev.Line // one, or with MSIX two: link, queue
	Live  bool            // a write of a tail moves frames at once, as in QEMU

	// Ways to misbehave.
	Gone         bool // reads all ones, takes no write
	ResetSticks  bool // CTRL.RST stays
	MasterSticks bool // GIO Master Enable stays
	AutoReadHang bool // EECD says that the NVM was not read
	NoNVM        bool // EERD is never done
	BadNVMSum    bool
	NVMMAC       [6]byte // zero: MAC
	NoRAL        bool    // receive address 0 is empty after reset
	PHYSilent    bool
	PHYError     bool
	PHYControl   uint16            // initial; 0: 0x1140
	HoldTx       bool              // sends nothing
	NoReport     bool              // sends, and does not say so
	OnWriteback  func(*Writeback)  // each receive descriptor
	BadSums      func([]byte) bool // the card finds a wrong checksum in this frame

	// Sent is what went out on the wire, segmented and with checksums.
	Sent [][]byte
	// Asked is how many frames the driver sent, before segmentation.
	Asked int
	// Violations is what real hardware would not have forgiven.
	Violations []string

	mu      sync.Mutex // guards all below, and Sent, Asked and Violations
	mem     *fakedev.Mem
	regs    map[mmio.Off]uint32
	phy     [32]uint16
	backlog [][]byte
	part    int // bytes of backlog[0] that are in the guest
	linkUp  bool
	ctx     [2]uint64
	frame   []byte // gathered so far
	cmd     uint64 // of the frame's first data descriptor
	dropped int
	resets  int
}

// New makes a card with a link, after power-on.
func New(mem *fakedev.Mem, ext bool) *Card {
	c := &Card{Ext: ext, mem: mem, linkUp: true}
	c.powerOn()
	return c
}

func (c *Card) powerOn() {
	old := c.regs
	c.regs = map[mmio.Off]uint32{ctrl: 0x48, eecd: 0x300}
	c.frame, c.part = nil, 0
	c.phy = [32]uint16{0: c.PHYControl, 1: 0x7969, 2: 0x0141, 3: 0x0CB0}
	if c.PHYControl == 0 {
		c.phy[0] = 0x1140
	}
	if old != nil { // the multicast table and receive addresses are not reset, but for the first
		for o, v := range old {
			if o >= mta && o < ral+8*16 {
				c.regs[o] = v
			}
		}
	}
	delete(c.regs, ral)
	delete(c.regs, rah)
	if !c.NoRAL {
		m := c.mac()
		c.regs[ral] = uint32(m[0]) | uint32(m[1])<<8 | uint32(m[2])<<16 | uint32(m[3])<<24
		c.regs[rah] = uint32(m[4]) | uint32(m[5])<<8 | 1<<31
	}
}

func (c *Card) mac() [6]byte {
	if c.NVMMAC != [6]byte{} {
		return c.NVMMAC
	}
	return MAC
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

// SetLink changes the carrier.
func (c *Card) SetLink(up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.linkUp = up
	c.raise(lsc)
}

// Resets is how often CTRL.RST was written.
func (c *Card) Resets() int { return locked(c, func() int { return c.resets }) }

// Dropped is how many delivered frames the filters or their size kept out.
func (c *Card) Dropped() int { return locked(c, func() int { return c.dropped }) }

// Backlog is how many frames are not yet, or not wholly, in the guest.
func (c *Card) Backlog() int { return locked(c, func() int { return len(c.backlog) }) }

// Reg is what register o holds.
func (c *Card) Reg(o mmio.Off) uint32 { return locked(c, func() uint32 { return c.regs[o] }) }

// TakeSent returns what was sent since the last call.
func (c *Card) TakeSent() [][]byte {
	return locked(c, func() [][]byte { s := c.Sent; c.Sent = nil; return s })
}

func locked[T any](c *Card, f func() T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f()
}

// Deliver queues a frame for the guest; Step moves it.
func (c *Card) Deliver(f []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backlog = append(c.backlog, f)
}

// Step does all that the card can do now, and returns how many frames it moved.
func (c *Card) Step() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Gone {
		return 0
	}
	return c.step()
}

func (c *Card) step() int {
	n := c.stepTx() + c.stepRx()
	c.interrupt()
	return n
}

func (c *Card) raise(cause uint32) {
	c.regs[icr] |= cause
	if c.MSIX && cause&(lsc|rxo) != 0 {
		c.regs[icr] |= other
	}
	c.interrupt()
}

// interrupt tells the lines what is pending and not masked. A pin stays up, so
// each look fires again.
func (c *Card) interrupt() {
	if len(c.Lines) == 0 {
		return
	}
	on := c.regs[icr] & c.regs[ims]
	if !c.MSIX {
		if on != 0 {
			c.regs[icr] |= 1 << 31
			c.Lines[0].Fire()
		}
		return
	}
	v := c.regs[ivar]
	for _, s := range []struct {
		cause uint32
		shift int
	}{{rxq0, 0}, {txq0, 8}, {other, 16}} {
		e := v >> s.shift & 15
		if on&s.cause == 0 || e&8 == 0 {
			continue
		}
		c.regs[icr] &^= c.regs[eiac] & s.cause
		if c.regs[ctrlExt]&(1<<24) != 0 {
			c.regs[ims] &^= c.regs[iam] & s.cause
		}
		if s.cause == other {
			c.regs[icr] &^= other // a message is sent once
		}
		c.Lines[e&7].Fire()
	}
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
