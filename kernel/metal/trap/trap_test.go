package trap

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/vm"
)

var apic []byte // the local APIC's registers

// boot makes a machine of one processor, for all tests; time stands still at 0.
var boot = sync.OnceValue(func() error {
	const ramBytes = 16 << 20
	b, err := syscall.Mmap(-1, 0, ramBytes+4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return err
	}
	at := uintptr(unsafe.Pointer(&b[0]))
	apic = b[ramBytes:]
	phys.SetBase(at)
	phys.Init(0, ramBytes)
	phys.AddRange(1<<20, ramBytes)
	vm.Init(vm.Image{}, false)
	cpu.SetAPIC(at+ramBytes, false, false)
	Init()
	sched.InitCPU(cpu.All(0), IdlePC())
	return nil
})

// start makes the calling goroutine the processor, running a new thread.
func start(t *testing.T) (c *cpu.CPU, th *sched.Thread) {
	t.Helper()
	c = cpu.All(0)
	c.Self, c.Online = uintptr(unsafe.Pointer(c)), 1
	hostcpu.Become(t, c.Self)
	if err := boot(); err != nil {
		t.Fatal(err)
	}
	if !sched.Spawn(0x1000, 0x2000) {
		t.Fatal("no room for a thread")
	}
	sched.Schedule(c)
	th = sched.Current(c)
	t.Cleanup(func() {
		if sched.Current(c) == th {
			sched.Exit(c)
			sched.Schedule(c)
		}
	})
	return c, th
}

// interrupted is what trapCommon saves when vector v interrupts a program.
func interrupted(v uintptr) (f *Frame, fx uintptr) {
	f = &frame
	*f = Frame{RAX: 1, RBX: 2, RCX: 3, RDX: 4, RSI: 5, RDI: 6, RBP: 7, R8: 8, R9: 9, R10: 10, R11: 11, R12: 12, R13: 13, R14: 14, R15: 15,
		FSBase: 16, GSBase: 20, RIP: 17, CS: 8, RFlags: 0x246, RSP: 19, SS: 0x10, Stub: stub0 + (v+1)*stubBytes}
	for i := range fxArea {
		fxArea[i] = byte(i)
	}
	return f, uintptr(unsafe.Pointer(&fxArea))
}

// mapped returns n bytes that a new address space maps, and more that it does not.
func mapped(t *testing.T, n, more int) (addr uintptr, b []byte) {
	t.Helper()
	addr, b = hostcpu.Arena(t, n+more)
	ok := vm.Init(vm.Image{}, false)
	for a := addr; a < addr+uintptr(n); a += phys.FrameSize {
		ok = ok && vm.Identity(a)
	}
	if !ok {
		t.Fatal("no memory for page tables")
	}
	return addr, b
}

// Not on a stack: handlers see their addresses as words.
var (
	frame  Frame
	fxArea [512]byte
)

// What entry_amd64.s knows of the structures.
func TestOffsetsInAssembly(t *testing.T) {
	var f sched.Frame
	for name, got := range map[string][2]uintptr{
		"RAX": {unsafe.Offsetof(f.RAX), 0}, "RBX": {unsafe.Offsetof(f.RBX), 8}, "RCX": {unsafe.Offsetof(f.RCX), 16}, "RDX": {unsafe.Offsetof(f.RDX), 24},
		"RSI": {unsafe.Offsetof(f.RSI), 32}, "RDI": {unsafe.Offsetof(f.RDI), 40}, "RBP": {unsafe.Offsetof(f.RBP), 48}, "R8": {unsafe.Offsetof(f.R8), 56},
		"R11": {unsafe.Offsetof(f.R11), 80}, "R15": {unsafe.Offsetof(f.R15), 112}, "RIP": {unsafe.Offsetof(f.RIP), 120}, "RFlags": {unsafe.Offsetof(f.RFlags), 128},
		"RSP": {unsafe.Offsetof(f.RSP), 136}, "FSBase": {unsafe.Offsetof(f.FSBase), 144}, "Full": {unsafe.Offsetof(f.Full), 152}, "FX": {unsafe.Offsetof(f.FX), 160},
		"User": {unsafe.Offsetof(f.User), 672},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is at %d, want %d", name, got[0], got[1])
		}
	}
	var th sched.Thread
	if unsafe.Offsetof(th.Frame) != 0 {
		t.Error("a thread does not start with its frame")
	}
	var k Frame
	if unsafe.Sizeof(k) != 24*8 || unsafe.Offsetof(k.Stub) != 17*8 || unsafe.Offsetof(k.RIP) != 19*8 || unsafe.Offsetof(k.CS) != 20*8 {
		t.Errorf("the interrupt frame is %d bytes", unsafe.Sizeof(k))
	}
}

// 64-bit interrupt gates (SDM vol. 3A figure 6-8), each on its interrupt stack.
func TestInitBuildsTheIDT(t *testing.T) {
	start(t)
	for v, g := range idt {
		pc := g[0]&0xffff | g[0]>>48<<16 | g[1]<<32
		if uintptr(pc) != stub0+uintptr(v)*stubBytes {
			t.Fatalf("vector %d leads to %#x, want %#x", v, pc, stub0+uintptr(v)*stubBytes)
		}
		ist := uint64(cpu.ISTIRQ)
		switch {
		case v == 2 || v == 8 || v == 18: // NMI, double fault, machine check
			ist = cpu.ISTFatal
		case v < 32:
			ist = cpu.ISTFault
		}
		kind := uint64(0x8e)
		if v == 3 || v == 4 { // INT 3 and INT 4 are for programs
			kind = 0xee
		}
		if g[0]>>16&0xffff != cpu.SelCode || g[0]>>32&0xff != ist || g[0]>>40&0xff != kind || g[1]>>32 != 0 {
			t.Errorf("vector %d: gate %#x %#x, want interrupt stack %d", v, g[1], g[0], ist)
		}
	}
	if n := binary.LittleEndian.Uint16(idtr[:]); n != 256*16-1 {
		t.Errorf("IDT limit %d", n)
	}
	if a := binary.LittleEndian.Uint64(idtr[2:]); a != uint64(uintptr(unsafe.Pointer(&idt))) {
		t.Errorf("IDT base %#x", a)
	}
}

// A stub pushes a zero, or does nothing of the same length where the processor
// pushes an error code (SDM vol. 3A table 6-1; 29 and 30 are AMD's, APM vol. 2
// §8.2), and calls trapCommon.
func TestStubs(t *testing.T) {
	start(t)
	withCode := map[int]bool{8: true, 10: true, 11: true, 12: true, 13: true, 14: true, 17: true, 21: true, 29: true, 30: true}
	for v := range 256 {
		p := stub0 + uintptr(v)*stubBytes
		want := [3]byte{0x6a, 0, 0xe8} // PUSH 0; CALL rel32
		if withCode[v] {
			want = [3]byte{0x66, 0x90, 0xe8} // two-byte NOP
		}
		if got := [3]byte{*arch.Byte(p), *arch.Byte(p + 1), *arch.Byte(p + 2)}; got != want {
			t.Errorf("vector %d: stub starts with % x, want % x", v, got, want)
		}
		to := p + stubBytes + uintptr(int64(int32(*arch.U32(p + 3))))
		if f := runtime.FuncForPC(to); f == nil || !strings.HasPrefix(f.Name(), "osv/kernel/metal/trap.trapCommon") || f.Entry() != to {
			t.Fatalf("vector %d: stub calls %#x", v, to)
		}
	}
	if n := runtime.FuncForPC(IdlePC()).Name(); !strings.HasPrefix(n, "osv/kernel/metal/trap.idleLoop") {
		t.Errorf("the idle loop is %s", n)
	}
}

func TestSystemCall(t *testing.T) {
	c, th := start(t)
	before := c.Stats.Syscalls
	th.RAX = 186 // gettid
	handleSyscall(c)
	if th.RAX != uintptr(th.ID()) || c.Stats.Syscalls != before+1 || sched.Current(c) != th {
		t.Errorf("gettid: %d, %d calls counted", th.RAX, c.Stats.Syscalls-before)
	}
	// One that blocks: another thread is current afterwards.
	th.RAX, th.RDI = 35, uintptr(unsafe.Pointer(&timespec)) // nanosleep
	handleSyscall(c)
	if sched.Current(c) == th {
		t.Error("a thread that sleeps goes on")
	}
	sched.Kill(c, th.ID(), 10)
	sched.Schedule(c)
}

var timespec = [2]int64{0, 1000}

// A device's interrupt on a busy processor returns to the program, on an idle one
// makes it look for work; either way it is ended.
func TestDeviceInterrupt(t *testing.T) {
	c, th := start(t)
	v := sched.AllocVector(0)
	defer sched.FreeVector(v)
	f, fx := interrupted(uintptr(v))
	saved := th.Frame
	apic[0xb0] = 0xff
	before := c.Stats.Interrupts
	if handleTrap(c, f, fx) {
		t.Error("an interrupt that wakes nobody switches threads")
	}
	if apic[0xb0] != 0 || c.Stats.Interrupts != before+1 || th.Frame != saved {
		t.Errorf("EOI register %#x, %d counted", apic[0xb0], c.Stats.Interrupts-before)
	}
	sched.IRQWait(c, v) // it has fired: no wait
	sched.IRQWait(c, v)
	sched.Schedule(c)
	if sched.Current(c) == th {
		t.Fatal("the thread does not wait")
	}
	if !handleTrap(c, f, fx) || sched.Current(c) != th {
		t.Error("the idle processor does not run the thread that was woken")
	}
}

// The timer interrupt is ended and counted; a spurious one is neither.
func TestTimerInterrupt(t *testing.T) {
	c, _ := start(t)
	f, fx := interrupted(cpu.VectorTimer)
	before := c.Stats.Timer
	if handleTrap(c, f, fx) || c.Stats.Timer != before+1 {
		t.Error("a timer interrupt without a slice that ends switches threads")
	}
	f, fx = interrupted(cpu.VectorSpurious)
	apic[0xb0] = 0xff
	if handleTrap(c, f, fx) || apic[0xb0] != 0xff { // SDM vol. 3A §11.9: no EOI
		t.Error("a spurious interrupt is ended")
	}
}

// A signal that came meanwhile is taken on the way back: the registers are saved
// in full, then point at the handler.
func TestInterruptDeliversSignal(t *testing.T) {
	c, th := start(t)
	stack, _ := mapped(t, 16<<10, 0)
	action = sched.Action{Handler: 0x4444}
	sched.SetAction(10, uintptr(unsafe.Pointer(&action)), 0)
	sched.Kill(c, th.ID(), 10)
	f, fx := interrupted(cpu.VectorIPI)
	f.RSP = stack + 16000
	if !handleTrap(c, f, fx) {
		t.Fatal("the signal is not delivered")
	}
	if th.RIP != 0x4444 || th.RDI != 10 || th.Full != 1 {
		t.Errorf("thread goes on at %#x with %d", th.RIP, th.RDI)
	}
	if th.RBX != 2 || th.R15 != 15 || th.FSBase != 16 || string(th.FX[:]) != string(fxArea[:]) {
		t.Error("registers were not saved")
	}
	th.RSP += 8
	sched.SigReturn(th)
	if th.RIP != 17 || th.RAX != 1 || th.RSP != stack+16000 || th.RFlags != 0x246 {
		t.Errorf("after the handler: RIP %#x, RAX %d, RSP %#x, flags %#x", th.RIP, th.RAX, th.RSP, th.RFlags)
	}
}

var action sched.Action

// Faults of the program become the signals that Linux makes of them.
func TestFaultsBecomeSignals(t *testing.T) {
	c, th := start(t)
	stack, _ := mapped(t, 64<<10, 0)
	action = sched.Action{Handler: 0x5555, Flags: 0x40000000}
	for _, test := range []struct {
		vector uintptr
		sig    int
	}{
		{vecProtection, sched.SIGSEGV}, {vecStackSeg, sched.SIGSEGV}, {vecDivide, sched.SIGFPE}, {vecX87, sched.SIGFPE}, {vecSIMD, sched.SIGFPE},
		{vecInvalidOp, sched.SIGILL}, {vecBreakpoint, sched.SIGTRAP}, {vecAlign, sched.SIGBUS},
	} {
		sched.SetAction(test.sig, uintptr(unsafe.Pointer(&action)), 0)
		f, fx := interrupted(test.vector)
		f.RSP = stack + 60000
		if !handleTrap(c, f, fx) || th.RIP != 0x5555 || th.RDI != uintptr(test.sig) {
			t.Errorf("vector %d: signal %d at %#x, want %d", test.vector, th.RDI, th.RIP, test.sig)
		}
	}
}

// An NMI asks for a dump: it only leaves a mark and an interrupt to itself, which
// then makes SIGQUIT of it.
func TestNMIAsksForADump(t *testing.T) {
	c, _ := start(t)
	f, fx := interrupted(vecNMI)
	clear(apic[0x300:0x318])
	if handleTrap(c, f, fx) || dumpWanted != 1 || binary.LittleEndian.Uint32(apic[0x300:])&0xff != cpu.VectorIPI {
		t.Errorf("dump wanted %d, interrupt command %#x", dumpWanted, binary.LittleEndian.Uint32(apic[0x300:]))
	}
	action = sched.Action{Handler: 1} // ignored: nothing may be delivered here
	sched.SetAction(sched.SIGQUIT, uintptr(unsafe.Pointer(&action)), 0)
	f, fx = interrupted(cpu.VectorIPI)
	handleTrap(c, f, fx)
	if dumpWanted != 0 {
		t.Error("the mark is not taken")
	}
}

func TestExceptionNames(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range []uintptr{vecDivide, vecDebug, vecNMI, vecBreakpoint, vecInvalidOp, vecDouble, vecStackSeg, vecProtection, vecPageFault, vecMachine, 30} {
		if n := exceptionName(v); n == "" || seen[n] {
			t.Errorf("vector %d is called %q", v, n)
		}
		seen[exceptionName(v)] = true
	}
}

// The backtrace follows frame pointers through mapped memory, upwards only.
func TestBacktrace(t *testing.T) {
	start(t)
	at, mem := mapped(t, 4096, 4096)
	pc := func(f any) uintptr { return **(**uintptr)(unsafe.Add(unsafe.Pointer(&f), 8)) }
	put := func(off int, next, ret uintptr) {
		binary.LittleEndian.PutUint64(mem[off:], uint64(next))
		binary.LittleEndian.PutUint64(mem[off+8:], uint64(ret))
	}
	name := runtime.FuncForPC(pc(strings.Contains)).Name()
	for what, test := range map[string]struct {
		set  func()
		want int // lines
	}{
		"three frames": {func() { put(0, at+64, 1); put(64, at+128, pc(strings.Contains)); put(128, 0, 3) }, 4},
		"a circle":     {func() { put(0, at+64, 1); put(64, at, 2) }, 3},
		"not mapped":   {func() { put(0, at+4096, 1) }, 2},
		"half mapped":  {func() { put(0, at+4096-8, 1); binary.LittleEndian.PutUint64(mem[4096-8:], 0) }, 2},
		"misaligned":   {func() { put(0, at+65, 1) }, 2},
	} {
		clear(mem)
		test.set()
		pos := consoleEnd()
		backtrace(pc(fmt.Sprint)+1, at)
		out := printedSince(pos)
		if strings.Count(out, "\n") != test.want || !strings.HasPrefix(out, fmt.Sprintf("  at %#x fmt.Sprint+0x1\n", pc(fmt.Sprint)+1)) {
			t.Errorf("%s: %d lines wanted:\n%s", what, test.want, out)
		}
		if what == "three frames" && !strings.Contains(out, " "+name+"+0x0\n") {
			t.Errorf("no %s in:\n%s", name, out)
		}
	}
}

var console [1 << 16]byte

func consoleEnd() (pos uint64) {
	for {
		n, next := klog.Read(pos, uintptr(unsafe.Pointer(&console[0])), uintptr(len(console)))
		if n == 0 {
			return next
		}
		pos = next
	}
}

func printedSince(pos uint64) string {
	n, _ := klog.Read(pos, uintptr(unsafe.Pointer(&console[0])), uintptr(len(console)))
	return string(console[:n])
}
