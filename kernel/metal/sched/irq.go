package sched

import (
	"sync/atomic"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
)

// line is one interrupt vector: how often it fired and who waits for it.
type line struct {
	fired  uint32 // atomic; firings since the last Wait returned
	waiter uint32 // thread, guarded by sleep
	used   uint32
	cpu    int32 // where it is delivered

	// A level-triggered source keeps asserting until its device is quieted, which
	// a thread does later: so the handler masks it here, and the next wait unmasks.
	ioapic uintptr // virtual address of the IOAPIC window, 0 = edge
	pin    uint32
	masked uint32
}

var lines [256]line

// IOAPIC registers (Intel 82093AA data sheet, §3.1).
const (
	ioRegSel   = 0x00
	ioWin      = 0x10
	ioRedirect = 0x10 // register number of entry 0, low half
	ioMasked   = 1 << 16
)

// AllocVector reserves a vector delivered to processor target; 0 if all are used.
func AllocVector(target int) (vector uint32) {
	sleep.Lock()
	for v := uint32(cpu.VectorFirstDevice); v <= cpu.VectorLastDevice; v++ {
		if lines[v].used == 0 {
			lines[v] = line{used: 1, cpu: int32(target)}
			vector = v
			break
		}
	}
	sleep.Unlock()
	return vector
}

// FreeVector gives a vector back. Nobody waits for it any more.
func FreeVector(v uint32) {
	sleep.Lock()
	lines[v].used = 0
	sleep.Unlock()
}

// SetLevel makes v a level-triggered line behind an IOAPIC pin, which is masked
// now; the first IRQWait unmasks it.
func SetLevel(v uint32, ioapic uintptr, pin uint32) {
	sleep.Lock()
	lines[v].ioapic, lines[v].pin, lines[v].masked = ioapic, pin, 1
	sleep.Unlock()
}

// IOAPIC reads (write false) or writes a register of an IOAPIC. All accesses to
// its index register are made under one lock, since handlers mask pins.
func IOAPIC(ioapic uintptr, reg uint32, write bool, v uint32) uint32 {
	sleep.Lock()
	atomic.StoreUint32(arch.U32(ioapic+ioRegSel), reg)
	w := arch.U32(ioapic + ioWin)
	if write {
		atomic.StoreUint32(w, v)
	} else {
		v = atomic.LoadUint32(w)
	}
	sleep.Unlock()
	return v
}

func setMask(l *line, mask bool) {
	atomic.StoreUint32(arch.U32(l.ioapic+ioRegSel), ioRedirect+2*l.pin)
	w := arch.U32(l.ioapic + ioWin)
	v := atomic.LoadUint32(w)
	if mask {
		v |= ioMasked
	} else {
		v &^= ioMasked
	}
	atomic.StoreUint32(w, v)
}

// Interrupt serves a device vector: it counts and wakes the waiter. It reports
// whether the processor was idle and should look at its queue.
func Interrupt(c *cpu.CPU, v uint32) (resched bool) {
	l := &lines[v]
	sleep.Lock()
	if l.ioapic != 0 {
		setMask(l, true)
		l.masked = 1
	}
	l.fired++
	if l.waiter != none {
		l.fired = 0
		wakeUp(byID(l.waiter), 0)
	}
	sleep.Unlock()
	return Current(c).idle
}

// IRQWait blocks the current thread until v has fired since the last IRQWait. A
// level-triggered line is unmasked first.
func IRQWait(c *cpu.CPU, v uint32) {
	t := Current(c)
	l := &lines[v]
	sleep.Lock()
	if l.masked != 0 {
		l.masked = 0
		setMask(l, false)
	}
	switch {
	case l.fired != 0:
		l.fired, t.RAX = 0, 0
	case interrupted(t):
		t.RAX = eINTR
	case l.waiter != none:
		t.RAX = ^uintptr(16 - 1) // EBUSY: a line has one waiter
	default:
		l.waiter, t.vector = t.id, v
		block(c, t, WaitIRQ, 0, 0)
	}
	sleep.Unlock()
}

// IRQRaise makes v fire in software: to wake its waiter for another reason.
func IRQRaise(v uint32) {
	l := &lines[v]
	sleep.Lock()
	l.fired++
	if l.waiter != none {
		l.fired = 0
		wakeUp(byID(l.waiter), 0)
	}
	sleep.Unlock()
}
