// Package gate is the kernel's side of the border to metal: the private calls
// that code above the Go runtime makes into code below it, as Go functions.
//
// Who may call it: kernel/platform, kernel/irq, kernel/trace. Drivers and the
// network take interfaces instead, so that they run hosted. It works only in a
// booted guest (Booted). Start reading at Booted.
//
// A call is a SYSCALL instruction with a number that Linux does not use; those
// that block go through syscall.Syscall, so the runtime hands the processor to
// other goroutines meanwhile.
package gate

import (
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"osv/kernel/metal/boot"
	"osv/kernel/metal/clock"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/shim"
)

// Booted says whether this program runs as the kernel of a guest. Everything
// else here needs it.
func Booted() bool { return boot.Booted() }

func call(nr, a, b, c uintptr) uintptr {
	r, _, _ := syscall.RawSyscall(nr, a, b, c)
	return r
}

// errno turns a raw result into an error where it is one.
func errno(r uintptr) error {
	if int(r) < 0 && int(r) > -4096 {
		return syscall.Errno(-int(r))
	}
	return nil
}

// Nop is a call that does nothing, to measure what a call costs.
func Nop() { call(shim.CallNop, 0, 0, 0) }

// SinceEntry is the time since the kernel was entered.
func SinceEntry() time.Duration { return time.Duration(clock.Now()) }

// ClockSource names what the TSC's rate was learnt from, Hz is the rate.
func ClockSource() (name string, hz uint64) { return clock.From().String(), clock.Hz() }

// CPUs is the number of processors that run; APICID the local APIC ID of one.
func CPUs() int            { return cpu.Count() }
func APICID(i int) uint32  { return cpu.All(i).APIC }
func RSDP() uint64         { return uint64(boot.RSDP()) }
func CPUStats(i int) Stats { return Stats(cpu.All(i).Stats) }

// IdleTime is how long processor i was idle since boot, up to now.
func IdleTime(i int) time.Duration { return time.Duration(clock.ToNS(sched.IdleTSC(i))) }

// Stats counts events of one processor since boot.
type Stats cpu.Stats

// MemoryInfo is the state of physical memory, in bytes.
type MemoryInfo struct {
	Total, Free, LeastFree uint64 // RAM that the kernel manages
	Committed              uint64 // what the Go heap region may grow into
}

// Memory returns the state of physical memory.
func Memory() MemoryInfo {
	var w [4]uintptr
	call(shim.CallCounts, uintptr(unsafe.Pointer(&w)), 0, 0)
	return MemoryInfo{uint64(w[0]) * phys.FrameSize, uint64(w[1]) * phys.FrameSize, uint64(w[2]) * phys.FrameSize, uint64(w[3])}
}

// Range is a range of physical addresses.
type Range struct{ Start, End uint64 }

// RAM lists the machine's memory as the loader described it.
func RAM() []Range {
	var out []Range
	for i := 0; ; i++ {
		lo, hi, ok := boot.RAM(i)
		if !ok {
			return out
		}
		out = append(out, Range{uint64(lo), uint64(hi)})
	}
}

// Frames returns the physical address of n bytes (rounded up to frames) of
// zeroed contiguous memory aligned to align bytes, and a view of it.
func Frames(n, align int) (pa uint64, b []byte, err error) { return frames(n, align, 0) }

// FramesRaw is Frames without the zeroing: at boot that is what a large buffer
// costs, since the host gives memory at its first touch.
func FramesRaw(n, align int) (pa uint64, b []byte, err error) { return frames(n, align, 1) }

func frames(n, align int, raw uintptr) (pa uint64, b []byte, err error) {
	count := (uintptr(n) + phys.FrameSize - 1) / phys.FrameSize
	al := max(1, (uintptr(align)+phys.FrameSize-1)/phys.FrameSize)
	r := call(shim.CallFrames, count, al, raw)
	if err := errno(r); err != nil {
		return 0, nil, fmt.Errorf("no %d contiguous bytes of memory aligned to %d: %w", n, align, err)
	}
	return uint64(r), unsafe.Slice((*byte)(unsafe.Pointer(r+phys.DirectBase)), n), nil
}

// FreeFrames gives back what Frames returned for n bytes.
func FreeFrames(pa uint64, n int) {
	call(shim.CallFreeFrames, uintptr(pa), (uintptr(n)+phys.FrameSize-1)/phys.FrameSize, 0)
}

// MapDevice maps n bytes of device memory, uncached.
func MapDevice(pa uint64, n int) (unsafe.Pointer, error) {
	r := call(shim.CallMapDevice, uintptr(pa), uintptr(n), 0)
	if err := errno(r); err != nil {
		return nil, fmt.Errorf("cannot map device memory %#x+%#x: %w", pa, n, err)
	}
	return unsafe.Pointer(r), nil
}

// Physical returns n bytes of memory that holds firmware tables, read-only.
func Physical(pa uint64, n int) ([]byte, error) {
	if n < 0 || pa+uint64(n) < pa {
		return nil, fmt.Errorf("physical range %#x+%#x is not memory", pa, n)
	}
	if err := errno(call(shim.CallMapRAM, uintptr(pa), uintptr(n), 0)); err != nil {
		return nil, fmt.Errorf("cannot map memory %#x+%#x: %w", pa, n, err)
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(uintptr(pa)+phys.DirectBase)), n), nil
}

// AllocVector reserves an interrupt vector on processor i.
func AllocVector(i int) (uint8, error) {
	r := call(shim.CallIRQAlloc, uintptr(i), 0, 0)
	if err := errno(r); err != nil {
		return 0, fmt.Errorf("no interrupt vector on cpu %d: %w", i, err)
	}
	return uint8(r), nil
}

// FreeVector gives a vector back.
func FreeVector(v uint8) { call(shim.CallIRQFree, uintptr(v), 0, 0) }

// LevelVector says that v comes from a level-triggered pin of the IOAPIC mapped at
// window. The pin is masked whenever it fires, until the next WaitVector.
func LevelVector(v uint8, window unsafe.Pointer, pin int) error {
	return errno(call(shim.CallIRQLevel, uintptr(v), uintptr(window), uintptr(pin)))
}

// IOAPICRead and IOAPICWrite reach a register of the IOAPIC mapped at window, in
// turn with the interrupt handlers that mask its pins.
func IOAPICRead(window unsafe.Pointer, reg uint8) uint32 {
	return uint32(call(shim.CallIOAPIC, uintptr(window), uintptr(reg), 0))
}

// IOAPICWrite writes a register; see IOAPICRead.
func IOAPICWrite(window unsafe.Pointer, reg uint8, v uint32) {
	syscall.RawSyscall6(shim.CallIOAPIC, uintptr(window), uintptr(reg), 1, uintptr(v), 0, 0)
}

// ErrBusy is returned by WaitVector where another goroutine waits already.
var ErrBusy = errors.New("another goroutine waits for this interrupt")

// WaitVector blocks until v has fired since the last WaitVector.
func WaitVector(v uint8) error {
	for {
		r, _, e := syscall.Syscall(shim.CallIRQWait, uintptr(v), 0, 0)
		switch {
		case e == 0 && r == 0:
			return nil
		case e == syscall.EINTR: // a signal wanted the thread
		case e == syscall.EBUSY:
			return ErrBusy
		default:
			return e
		}
	}
}

// RaiseVector makes v fire in software.
func RaiseVector(v uint8) { call(shim.CallIRQRaise, uintptr(v), 0, 0) }

// How the machine is switched off.
const (
	OffPort16 = 1 // 16-bit writes to ports addr and addr2 (PM1 control)
	OffPort8  = 2
	OffMemory = 3 // 8-bit write to a mapped address
)

// SetPowerOff tells metal how to switch the machine off.
func SetPowerOff(kind int, addr, value, addr2, value2 uintptr) {
	syscall.RawSyscall6(shim.CallPowerOff, uintptr(kind), addr, value, addr2, value2, 0)
}

// SetReset tells metal how to reset the machine.
func SetReset(kind int, addr, value uintptr) {
	call(shim.CallSetReset, uintptr(kind), addr, value)
}

// Exit switches the machine off with a status for the host.
func Exit(status int) { call(shim.CallExit, uintptr(status), 0, 0) }

// Reset restarts the machine.
func Reset() { call(shim.CallReset, 0, 0, 0) }

// Mix folds random bytes from a device into the kernel's generator.
func Mix(b []byte) {
	if len(b) > 0 {
		call(shim.CallMix, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0)
	}
}

// ReadLog copies console output from position pos on; it returns the number of
// bytes and the position to go on from.
func ReadLog(pos uint64, b []byte) (n int, next uint64) {
	if len(b) == 0 {
		return 0, pos
	}
	r := call(shim.CallLogRead, uintptr(unsafe.Pointer(&pos)), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(r), pos
}

// Console outputs, for SetConsole.
const (
	ConsoleSerial = 1
	ConsoleDebug  = 2
)

// SetConsole chooses where output goes; 0 silences it.
func SetConsole(targets int) { call(shim.CallConsole, uintptr(targets), 0, 0) }

// UnknownCalls is the number of system calls that nobody served.
func UnknownCalls() uint64 { return shim.Unknown }

// InterruptLatency measures the median time in ns from raising a vector in
// software to its waiting goroutine running, over n rounds.
func InterruptLatency(n int) float64 {
	v, err := AllocVector(0)
	if err != nil {
		return 0
	}
	defer FreeVector(v)
	return latency(v, n)
}

// MapAnonymous reserves n bytes of demand-zero memory outside the Go heap, mapped
// with 2 MiB pages where there is plenty. Unmap ends it; Discard gives its frames
// back and keeps the range.
func MapAnonymous(n int) ([]byte, error) {
	return syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
}

// Unmap ends a range that MapAnonymous returned.
func Unmap(b []byte) error { return syscall.Munmap(b) }

// Discard makes b, whole frames of such a range, read as zero and gives its
// frames back.
func Discard(b []byte) error { return syscall.Madvise(b, syscall.MADV_DONTNEED) }
