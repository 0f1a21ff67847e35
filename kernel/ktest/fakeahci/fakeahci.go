// Package fakeahci plays an AHCI host bus adapter with SATA disks for tests of
// drivers/ahci: registers, command lists and tables in the driver's own memory, and
// the ATA commands that a disk needs.
//
// Spec: AHCI 1.3.1, ACS-3. It is strict: what a driver may not do is noted in
// Violations, which a test wants empty. It can also lie, in each way that a field
// says.
//
// Who may use it: tests only. Commands run inside of the write of PxCI, or, with
// Manual, when the test calls Step. Start reading at HBA.
package fakeahci

import (
	"encoding/binary"
	"fmt"
	"sync"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/ktest/fakedev"
)

// Cmd is a command as the device got it.
type Cmd struct {
	Port, Slot int
	Command    uint8
	Features   uint16
	LBA        uint64
	Count      uint16
	Device     uint8
}

// Queued reports a command of native command queuing.
func (c Cmd) Queued() bool { return c.Command == 0x60 || c.Command == 0x61 }

// Sectors is how many logical sectors a transfer has.
func (c Cmd) Sectors() int {
	n := int(c.Count)
	switch c.Command {
	case 0x60, 0x61:
		n = int(c.Features)
	case 0xc8, 0xca:
		if n &= 0xff; n == 0 {
			return 256
		}
	}
	if n == 0 {
		n = 65536
	}
	return n
}

func (c Cmd) String() string {
	return fmt.Sprintf("port %d slot %d: %02x lba %d features %#x count %#x", c.Port, c.Slot, c.Command, c.LBA, c.Features, c.Count)
}

// Verdict is what becomes of a command.
type Verdict int

const (
	Do   Verdict = iota
	Drop         // it is never answered
	Fail         // the device reports an error: UNC
	CRC          // the link garbles it: an interface fatal error
)

// Port is one port; Disk is nil where there is no device.
type Port struct {
	Disk     []byte
	Identify [512]byte
	Sig      uint32
	NoLog    bool // READ LOG EXT is not known
	BadLog   bool // it answers with a wrong checksum
	// How it misbehaves.
	Busy       bool // BSY for good
	NoLink     bool // the device goes away with the next COMRESET
	StuckCR    bool // PxCMD.CR stays until the HBA reset
	ExtraSACT  uint32
	ShortReads bool // PRDBC is less than was asked for
	EarlyCI    bool // a command with an error leaves CI, as QEMU 7.2 has it

	n                  int
	clb, fb            uint64
	is, ie, cmd        uint32
	tfd, sctl, serr    uint32
	sact, ci           uint32
	det                uint32
	waiting            []Cmd
	ncqTag             int // that failed, for the log; -1: none
	halted             bool
	comresets, running int
}

// HBA is the host bus adapter. Fields are set before the driver starts, or in Set.
type HBA struct {
	Mem    *fakedev.Mem
	Line   *fakedev.Line
	CAP    uint32
	CAP2   uint32
	BOHC   uint32 // bit 0 goes away when software asks, unless FirmwareStays
	Ports  [4]*Port
	Manual bool
	NoLog  bool // commands are completed and not looked at: no allocation
	Judge  func(Cmd) Verdict
	Pick   func(n int) int // which of n waiting queued commands Step completes; nil: the first

	FirmwareStays bool
	StuckReset    bool
	Gone          bool
	NoInterrupts  bool
	PIMask        uint32 // ports that are there; 0: all of Ports

	mu         sync.Mutex // guards all below
	ghc        uint32
	is         uint32
	log        []Cmd
	violations []string
	resets     int
}

const (
	portBase  = 0x100
	portBytes = 0x80
)

// New is an HBA with a disk of n bytes, in logical sectors of 1<<shift, at port 0.
func New(mem *fakedev.Mem, n, shift int) *HBA {
	h := &HBA{Mem: mem, Line: &fakedev.Line{}, CAP: 1<<31 | 1<<30 | 31<<8 | 3}
	for i := range h.Ports {
		h.Ports[i] = &Port{n: i, ncqTag: -1}
	}
	h.AddDisk(0, n, shift)
	return h
}

// AddDisk puts a disk at a port.
func (h *HBA) AddDisk(port, n, shift int) *Port {
	p := h.Ports[port]
	p.Disk, p.Sig, p.det, p.tfd = make([]byte, n), 0x101, 3, 0x50
	p.SetWord(49, 3<<8)
	sectors := uint64(n >> shift)
	p.SetWord(60, uint16(sectors))
	p.SetWord(61, uint16(sectors>>16))
	p.SetWord(75, 31)
	p.SetWord(76, 1<<8)
	p.SetWord(83, 1<<14|1<<13|1<<10)
	p.SetWord(85, 1<<5)
	binary.LittleEndian.PutUint64(p.Identify[200:], sectors)
	p.SetWord(169, 1)
	if shift != 9 {
		p.SetWord(106, 1<<14|1<<12)
		p.SetWord(117, uint16(1<<shift/2))
	}
	p.SetString(10, 20, fmt.Sprintf("fake-serial-%d", port))
	p.SetString(27, 40, "fake disk")
	p.Seal()
	return p
}

// SetWord sets a word of the IDENTIFY data.
func (p *Port) SetWord(i int, v uint16) { binary.LittleEndian.PutUint16(p.Identify[2*i:], v) }

// SetString sets n bytes from word i on.
func (p *Port) SetString(i, n int, s string) {
	s = fmt.Sprintf("%-*s", n, s)
	for k := range n {
		p.Identify[2*i+k] = s[k^1]
	}
}

// Seal makes signature and checksum right.
func (p *Port) Seal() {
	p.Identify[510], p.Identify[511] = 0xa5, 0
	var sum uint8
	for _, b := range p.Identify {
		sum += b
	}
	p.Identify[511] = -sum
}

// Set changes fields that the driver's goroutines look at.
func (h *HBA) Set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// Violations is what the driver did and may not.
func (h *HBA) Violations() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.violations...)
}

// Log is all commands since the last call.
func (h *HBA) Log() []Cmd {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.log
	h.log = nil
	return l
}

// Resets is how often the HBA was reset, and port 0 by COMRESET.
func (h *HBA) Resets() (hba, comresets int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.resets, h.Ports[0].comresets
}

func (h *HBA) violate(format string, a ...any) {
	h.violations = append(h.violations, fmt.Sprintf(format, a...))
}

func (h *HBA) port(o mmio.Off) (*Port, mmio.Off) {
	i := int(o-portBase) / portBytes
	if o < portBase || i >= len(h.Ports) {
		h.violate("access at %#x", uint32(o))
		return nil, 0
	}
	return h.Ports[i], (o - portBase) % portBytes
}

// Load32 is mmio.Space's.
func (h *HBA) Load32(o mmio.Off) uint32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.Gone {
		return 1<<32 - 1
	}
	switch o {
	case 0x00:
		return h.CAP
	case 0x04:
		return h.ghc | 1<<31
	case 0x08:
		return h.is
	case 0x0c:
		if h.PIMask != 0 {
			return h.PIMask
		}
		return 1<<len(h.Ports) - 1
	case 0x24:
		return h.CAP2
	case 0x28:
		return h.BOHC
	}
	p, r := h.port(o)
	if p == nil {
		return 0
	}
	switch r {
	case 0x10:
		return p.is
	case 0x14:
		return p.ie
	case 0x18:
		return p.cmd
	case 0x20:
		if p.Busy {
			return 0x80
		}
		return p.tfd
	case 0x24:
		return p.Sig
	case 0x28:
		if p.det == 3 {
			return 0x123
		}
		return p.det
	case 0x2c:
		return p.sctl
	case 0x30:
		return p.serr
	case 0x34:
		return p.sact | p.ExtraSACT
	case 0x38:
		return p.ci
	}
	h.violate("read of port register %#x", uint32(r))
	return 0
}

// Store32 is mmio.Space's.
func (h *HBA) Store32(o mmio.Off, v uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.Gone {
		return
	}
	switch o {
	case 0x04:
		if v&1 != 0 {
			h.reset()
		}
		h.ghc = v & 2
		if h.StuckReset {
			h.ghc |= v & 1
		}
		h.fire()
		return
	case 0x08:
		h.is &^= v
		for _, p := range h.Ports { // what a port still wants
			if p.is&p.ie != 0 {
				h.is |= 1 << p.n
			}
		}
		h.fire()
		return
	case 0x28:
		h.BOHC = v
		if v&2 != 0 && !h.FirmwareStays {
			h.BOHC &^= 1
		}
		return
	}
	if p, r := h.port(o); p != nil {
		h.storePort(p, r, v)
	}
}

func (h *HBA) storePort(p *Port, r mmio.Off, v uint32) {
	set := func(x *uint64, shift uint) {
		if p.cmd&(1|1<<14|1<<15) != 0 {
			h.violate("port %d: memory changed while it runs", p.n)
		}
		*x = *x&^(uint64(1<<32-1)<<shift) | uint64(v)<<shift
	}
	switch r {
	case 0x00:
		set(&p.clb, 0)
	case 0x04:
		set(&p.clb, 32)
	case 0x08:
		set(&p.fb, 0)
	case 0x0c:
		set(&p.fb, 32)
	case 0x10:
		p.is &^= v
	case 0x14:
		p.ie = v
		h.raise(p, 0)
	case 0x18:
		h.command(p, v)
	case 0x2c:
		if p.sctl&15 == 1 && v&15 == 0 {
			h.comreset(p)
		}
		p.sctl = v
	case 0x30:
		p.serr &^= v
	case 0x34:
		if p.cmd&1 == 0 {
			h.violate("port %d: SACT written without ST", p.n)
		}
		p.sact |= v
	case 0x38:
		if p.cmd&1 == 0 {
			h.violate("port %d: CI written without ST", p.n)
			return
		}
		h.issue(p, v)
	default:
		h.violate("write of port register %#x", uint32(r))
	}
}

func (h *HBA) command(p *Port, v uint32) {
	was := p.cmd
	p.cmd = v&^(1<<14|1<<15) | was&(1<<15)
	if v&(1<<4) != 0 {
		p.cmd |= 1 << 14 // FR
	}
	if was&1 == 0 && v&1 != 0 {
		switch {
		case v&(1<<4) == 0:
			h.violate("port %d: ST without FRE", p.n)
		case p.tfd&0x88 != 0 || p.det != 3:
			h.violate("port %d: ST with TFD %#x and DET %d", p.n, p.tfd, p.det)
		case p.clb%1024 != 0 || p.fb%256 != 0 || p.clb == 0:
			h.violate("port %d: memory at %#x and %#x", p.n, p.clb, p.fb)
		}
		p.cmd |= 1 << 15
		p.halted = false
	}
	if was&1 != 0 && v&1 == 0 {
		p.sact, p.ci, p.waiting, p.running = 0, 0, nil, 0
		if !p.StuckCR {
			p.cmd &^= 1 << 15
		}
	}
	if v&(1<<4) == 0 && was&(1<<4) != 0 && p.cmd&(1<<15) != 0 {
		h.violate("port %d: FRE cleared while it runs", p.n)
	}
}

func (h *HBA) comreset(p *Port) {
	p.comresets++
	if p.cmd&1 != 0 {
		h.violate("port %d: COMRESET with ST", p.n)
	}
	if p.NoLink {
		p.det = 0
	}
	p.sact, p.ci, p.waiting, p.ncqTag, p.halted = 0, 0, nil, -1, false
	if p.det == 3 {
		p.tfd = 0x50
		p.is |= 1
	}
}

func (h *HBA) reset() {
	h.resets++
	h.is = 0
	for _, p := range h.Ports {
		if h.StuckReset {
			continue
		}
		p.StuckCR = false
		if p.NoLink {
			p.det = 0
		}
		p.is, p.ie, p.cmd, p.sctl, p.serr, p.sact, p.ci, p.waiting, p.ncqTag, p.halted = 0, 0, 0, 0, 0, 0, 0, nil, -1, false
		if p.det == 3 {
			p.tfd = 0x50
		}
	}
}

// raise sets bits of a port's interrupt status.
func (h *HBA) raise(p *Port, bits uint32) {
	p.is |= bits
	if p.is&p.ie != 0 && h.is>>p.n&1 == 0 {
		h.is |= 1 << p.n
		h.fire()
	}
}

func (h *HBA) fire() {
	if h.is != 0 && h.ghc&2 != 0 && !h.NoInterrupts {
		h.Line.Fire()
	}
}

// Unplug takes a disk away.
func (h *HBA) Unplug(port int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.Ports[port]
	p.det, p.NoLink, p.waiting = 0, true, nil
	h.raise(p, 1<<22|1<<6)
}

// Raise sets bits of a port's interrupt status.
func (h *HBA) Raise(port int, bits uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.raise(h.Ports[port], bits)
}

func (h *HBA) Load8(mmio.Off) uint8                 { panic("fakeahci: byte access") }
func (h *HBA) Load16(mmio.Off) uint16               { panic("fakeahci: word access") }
func (h *HBA) Store8(mmio.Off, uint8)               { panic("fakeahci: byte access") }
func (h *HBA) Store16(mmio.Off, uint16)             { panic("fakeahci: word access") }
func (h *HBA) Doorbell(o mmio.Off) mmio.Doorbell    { panic("fakeahci: no doorbell here") }
func (h *HBA) bytes(a uint64, n int) ([]byte, bool) { return h.Mem.BytesAt(dma.Addr(a), n) }

// Len is mmio.Space's.
func (h *HBA) Len() uint32 { return portBase + uint32(len(h.Ports))*portBytes }
