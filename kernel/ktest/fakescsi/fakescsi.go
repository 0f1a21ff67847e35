// Package fakescsi plays SCSI targets for tests of drivers/scsi and of host
// adapters: logical units that answer command descriptor blocks.
//
// Spec: SAM-5, SPC-4, SBC-3, read from the target's side; nothing here is shared
// with the drivers. It is strict: what an initiator may not do is noted in
// Violations, which a test wants empty. It can lie, in each way that a field says.
//
// Who may use it: tests only. Start reading at Bus.
package fakescsi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
)

// Cmd is a command as a unit gets it.
type Cmd struct {
	Target int
	LUN    int
	CDB    []byte
	Out    []byte // data-out
	Room   int    // for data-in
}

func (c Cmd) String() string { return fmt.Sprintf("%d:%d %x", c.Target, c.LUN, c.CDB) }

// Op is the operation code.
func (c Cmd) Op() byte { return c.CDB[0] }

// Blocks is what a command on blocks is about; ok is false for others.
func (c Cmd) Blocks() (lba, n uint64, ok bool) {
	switch c.CDB[0] {
	case 0x28, 0x2a:
		return uint64(binary.BigEndian.Uint32(c.CDB[2:])), uint64(binary.BigEndian.Uint16(c.CDB[7:])), true
	case 0x88, 0x8a, 0x93:
		return binary.BigEndian.Uint64(c.CDB[2:]), uint64(binary.BigEndian.Uint32(c.CDB[10:])), true
	case 0x42:
		if len(c.Out) >= 24 {
			return binary.BigEndian.Uint64(c.Out[8:]), uint64(binary.BigEndian.Uint32(c.Out[16:])), true
		}
	}
	return 0, 0, false
}

// Reply is how a command ends.
type Reply struct {
	NoTarget, NoUnit bool
	Drop             bool // never
	Status           byte
	Sense            []byte
	In               []byte
}

// Unit is a logical unit; fields are set before the driver starts, or in Bus.Set.
type Unit struct {
	Inquiry  []byte
	VPD      map[byte][]byte // whole pages
	Mode     []byte          // what MODE SENSE (6) of page 8 gives
	Disk     []byte
	Block    int
	Short    bool     // it knows no command of 16 bytes but READ, WRITE and WRITE SAME
	Pending  [][]byte // sense data of unit attentions, one for each command
	ReadOnly bool
}

// Bus is the targets behind an adapter.
type Bus struct {
	mu         sync.Mutex
	units      map[[2]int]*Unit
	log        []Cmd
	violations []string
	NoLog      bool
	// Judge may answer instead of the unit: it reports false to let it.
	Judge func(Cmd) (Reply, bool)
	// RawLUNs is what REPORT LUNS answers, where it is not nil.
	RawLUNs []byte
}

// AddDisk adds a disk of n bytes in blocks of block, thin, with a write cache.
func (b *Bus) AddDisk(target, lun, n, block int) *Unit {
	u := &Unit{Disk: make([]byte, n), Block: block, VPD: map[byte][]byte{}}
	u.Inquiry = make([]byte, 36)
	u.Inquiry[2], u.Inquiry[3], u.Inquiry[4], u.Inquiry[7] = 6, 2, 31, 2
	copy(u.Inquiry[8:], "FAKE    fake disk       1.0 ")
	u.page(0x80, []byte("fake-serial"))
	u.page(0x83, append([]byte{1, 3, 0, 8}, 0x50, 1, 2, 3, 4, 5, 6, 7))
	limits := make([]byte, 60)
	binary.BigEndian.PutUint32(limits[4:], 256) // maximum transfer length, in blocks
	binary.BigEndian.PutUint32(limits[16:], 64) // maximum unmap LBA count
	binary.BigEndian.PutUint32(limits[20:], 1)
	binary.BigEndian.PutUint32(limits[24:], 8)
	binary.BigEndian.PutUint64(limits[32:], 128) // maximum write same length
	u.page(0xb0, limits)
	u.page(0xb1, append([]byte{0, 1}, make([]byte, 58)...))
	u.page(0xb2, []byte{0, 0xe4, 2, 0})
	u.Mode = append([]byte{23, 0, 0x10, 0, 8, 18, 4}, make([]byte, 17)...)
	b.Add(target, lun, u)
	return u
}

func (u *Unit) page(n byte, data []byte) {
	u.VPD[n] = append([]byte{0, n, byte(len(data) >> 8), byte(len(data))}, data...)
}

// Page sets a page of vital product data.
func (u *Unit) Page(n byte, data []byte) { u.page(n, data) }

// Add adds a unit.
func (b *Bus) Add(target, lun int, u *Unit) {
	if b.units == nil {
		b.units = map[[2]int]*Unit{}
	}
	b.units[[2]int{target, lun}] = u
}

// Set changes fields that the driver's goroutines look at.
func (b *Bus) Set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// Log is all commands since the last call.
func (b *Bus) Log() []Cmd {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.log
	b.log = nil
	return l
}

// Violations is what the driver did and may not.
func (b *Bus) Violations() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.violations...)
}

// Violate notes one, for adapters.
func (b *Bus) Violate(format string, a ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.violate(format, a...)
}

func (b *Bus) violate(format string, a ...any) {
	b.violations = append(b.violations, fmt.Sprintf(format, a...))
}

// Sense is fixed format sense data.
func Sense(key byte, code uint16) []byte {
	s := make([]byte, 18)
	s[0], s[2], s[7], s[12], s[13] = 0x70, key, 10, byte(code>>8), byte(code)
	return s
}

// Check is a CHECK CONDITION with fixed format sense data.
func Check(key byte, code uint16) Reply { return Reply{Status: 2, Sense: Sense(key, code)} }

// Do carries out a command. lun is the number of a single-level LUN, -1 for any
// other.
func (b *Bus) Do(c Cmd) Reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.NoLog {
		l := c
		l.CDB, l.Out = bytes.Clone(c.CDB), bytes.Clone(c.Out)
		b.log = append(b.log, l)
	}
	if want := cdbLen(c.CDB[0]); want != 0 && len(c.CDB) < want {
		b.violate("%v: CDB of %d bytes", c, len(c.CDB))
	}
	if b.Judge != nil {
		if r, mine := b.Judge(c); mine {
			return r
		}
	}
	target := false
	for at := range b.units {
		target = target || at[0] == c.Target
	}
	u := b.units[[2]int{c.Target, c.LUN}]
	switch {
	case !target:
		return Reply{NoTarget: true}
	case c.CDB[0] == 0xa0:
		return b.reportLUNs(c)
	case u == nil && c.CDB[0] == 0x12:
		return Reply{In: append([]byte{0x7f}, make([]byte, 35)...)}
	case u == nil:
		return Check(5, 0x2500)
	}
	if len(u.Pending) > 0 && c.CDB[0] != 0x12 {
		s := u.Pending[0]
		u.Pending = u.Pending[1:]
		return Reply{Status: 2, Sense: s}
	}
	return b.do(u, c)
}

func cdbLen(op byte) int { return [8]int{6, 10, 10, 0, 16, 12, 0, 0}[op>>5] }

func (b *Bus) reportLUNs(c Cmd) Reply {
	if b.RawLUNs != nil {
		return Reply{In: b.RawLUNs}
	}
	in := make([]byte, 8)
	for lun := range 1 << 14 {
		if b.units[[2]int{c.Target, lun}] != nil {
			e := []byte{0, byte(lun), 0, 0, 0, 0, 0, 0}
			if lun > 255 {
				e[0] = 0x40 | byte(lun>>8)
			}
			in = append(in, e...)
		}
	}
	binary.BigEndian.PutUint32(in, uint32(len(in)-8))
	if room := binary.BigEndian.Uint32(c.CDB[6:]); room < 16 {
		b.violate("%v: allocation length of %d", c, room)
	}
	return Reply{In: in}
}
