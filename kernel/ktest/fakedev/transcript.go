package fakedev

import (
	"fmt"
	"strings"
	"sync"

	"osv/kernel/hw/mmio"
)

// Transcript is a register window that writes down each access as a line
//
//	W 070 00000001
//
// with R or W, the offset, and the value in as many digits as the access is
// wide. Reads are answered by Behind where it is set, else from Regs, in which
// writes are stored. Long transcripts belong into a golden file.
type Transcript struct {
	Regs   map[mmio.Off]uint32
	Behind mmio.Space
	Size   uint32 // window size where Behind is nil; 0 means 4096
	Prefix string // in front of each line, to tell windows apart
	Into   *Transcript

	mu  sync.Mutex
	log strings.Builder // guarded by mu
}

// String is the log so far.
func (t *Transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.String()
}

// Reset forgets the log.
func (t *Transcript) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log.Reset()
}

func (t *Transcript) note(prefix string, op byte, o mmio.Off, width int, v uint32) {
	if t.Into != nil {
		t.Into.note(t.Prefix, op, o, width, v)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(&t.log, "%s%c %03x %0*x\n", prefix, op, uint32(o), 2*width, v)
}

func (t *Transcript) load(o mmio.Off, width int) (v uint32) {
	switch {
	case t.Behind == nil:
		v = t.Regs[o]
	case width == 1:
		v = uint32(t.Behind.Load8(o))
	case width == 2:
		v = uint32(t.Behind.Load16(o))
	default:
		v = t.Behind.Load32(o)
	}
	t.note(t.Prefix, 'R', o, width, v)
	return v
}

func (t *Transcript) store(o mmio.Off, width int, v uint32) {
	t.note(t.Prefix, 'W', o, width, v)
	switch {
	case t.Behind == nil:
		if t.Regs == nil {
			t.Regs = map[mmio.Off]uint32{}
		}
		t.Regs[o] = v
	case width == 1:
		t.Behind.Store8(o, uint8(v))
	case width == 2:
		t.Behind.Store16(o, uint16(v))
	default:
		t.Behind.Store32(o, v)
	}
}

func (t *Transcript) Load8(o mmio.Off) uint8       { return uint8(t.load(o, 1)) }
func (t *Transcript) Load16(o mmio.Off) uint16     { return uint16(t.load(o, 2)) }
func (t *Transcript) Load32(o mmio.Off) uint32     { return t.load(o, 4) }
func (t *Transcript) Store8(o mmio.Off, v uint8)   { t.store(o, 1, uint32(v)) }
func (t *Transcript) Store16(o mmio.Off, v uint16) { t.store(o, 2, uint32(v)) }
func (t *Transcript) Store32(o mmio.Off, v uint32) { t.store(o, 4, v) }

// Len is the size of the window in bytes.
func (t *Transcript) Len() uint32 {
	switch {
	case t.Behind != nil:
		return t.Behind.Len()
	case t.Size != 0:
		return t.Size
	}
	return 4096
}

// Doorbell returns the register at o; a write to it is logged as 32 bits wide.
func (t *Transcript) Doorbell(o mmio.Off) mmio.Doorbell {
	var behind mmio.Doorbell
	if t.Behind != nil {
		behind = t.Behind.Doorbell(o)
	}
	return mmio.Func(func(v uint32) {
		t.note(t.Prefix, 'W', o, 4, v)
		if t.Behind != nil {
			behind.Ring32(v)
		}
	})
}
