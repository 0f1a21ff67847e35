package shim

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/phys"
)

// Exit statuses of the guest. A program's own status is passed on; QEMU's
// isa-debug-exit device can carry 0 to 127.
const (
	StatusUsage  = 64  // bad command line (EX_USAGE)
	StatusFatal  = 101 // a fault that no handler could take
	StatusMemory = 102 // out of memory
	StatusBoot   = 103 // the machine lacks what the kernel needs
	statusSignal = 100 // + signal number: ended by a signal's default action, from 116 on clamped
	statusMax    = 127

	debugExitPort = 0xf4 // isa-debug-exit, iobase=0xf4
	kbdCommand    = 0x64 // 8042: pulse the reset line
	kbdReset      = 0xfe
)

// How to switch this machine off, told by kernel/platform once it has read ACPI.
// kind: 0 unknown, 1 16-bit port write (PM1a control), 2 8-bit port, 3 8-bit memory.
var (
	offKind  uintptr
	offAddr  uintptr
	offValue uintptr
	offAddr2 uintptr // PM1b control, 0 = none
	offVal2  uintptr
)

// SetPowerOff says how Exit switches the machine off.
func SetPowerOff(kind, addr, value, addr2, value2 uintptr) {
	offKind, offAddr, offValue, offAddr2, offVal2 = kind, addr, value, addr2, value2
}

// ExitProgram ends the machine with the program's status.
func ExitProgram(status int) {
	if status != 0 {
		var l klog.Line
		l.Str("osv: the program ended with status ").Dec(uint64(uint32(status))).End()
	}
	if status < 0 || status > statusMax {
		status = statusMax
	}
	Exit(status)
}

// ExitBySignal ends the machine because of a signal that the program left alone.
func ExitBySignal(sig int) {
	var l klog.Line
	l.Str("osv: the program was ended by signal ").Dec(uint64(sig)).End()
	Exit(min(statusSignal+sig, statusMax))
}

// OutOfMemory ends the machine: a demand-zero page at va cannot be had.
func OutOfMemory(va uintptr) {
	all, now, _ := phys.Counts()
	var l klog.Line
	l.Str("\nosv: out of memory: ").Dec(uint64(all-now) * 4).Str(" of ").Dec(uint64(all) * 4).
		Str(" KiB in use, none left for the page at ").Hex(uint64(va)).
		Str("; give the guest more memory or lower GOMEMLIMIT").End()
	Exit(StatusMemory)
}

// Exit switches the machine off, by the first way that works: QEMU's debug-exit
// device (which carries the status), ACPI S5, the keyboard controller's reset.
func Exit(status int) {
	arch.Out8(debugExitPort, uint8(status))
	powerOff()
	Reset()
}

func powerOff() {
	poke(offKind, offAddr, offValue)
	if offAddr2 != 0 {
		poke(offKind, offAddr2, offVal2)
	}
}

func poke(kind, addr, value uintptr) {
	switch kind {
	case 1:
		arch.Out16(uint16(addr), uint16(value))
	case 2:
		arch.Out8(uint16(addr), uint8(value))
	case 3:
		*arch.Byte(addr) = uint8(value)
	}
}

// How to reset this machine, as offKind.
var resetKind, resetAddr, resetValue uintptr

// SetReset says how Reset restarts the machine.
func SetReset(kind, addr, value uintptr) { resetKind, resetAddr, resetValue = kind, addr, value }

// Reset restarts the machine, by the first way that works: the register that
// ACPI names, the keyboard controller, a triple fault.
func Reset() {
	poke(resetKind, resetAddr, resetValue)
	arch.Out8(kbdCommand, kbdReset)
	arch.TripleFault()
}
