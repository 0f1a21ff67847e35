package sched

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"osv/kernel/metal/arch"
)

const handler, restorer = 0x4000, 0x5000

// Not on a stack: their addresses go through words, which checkptr forbids there.
var newAction, oldAction Action

func catch(t testing.TB, sig int, flags, mask uintptr) {
	t.Helper()
	newAction = Action{handler, flags, restorer, mask}
	if !SetAction(sig, uintptr(unsafe.Pointer(&newAction)), 0) {
		t.Fatalf("signal %d cannot be caught", sig)
	}
}

func TestSetAction(t *testing.T) {
	fresh(t)
	for _, sig := range []int{0, -1, 65} {
		if SetAction(sig, 0, 0) {
			t.Errorf("signal %d exists", sig)
		}
	}
	if HasHandler(SIGSEGV) {
		t.Error("SIGSEGV is caught")
	}
	catch(t, SIGSEGV, 7, 8)
	if !SetAction(SIGSEGV, 0, uintptr(unsafe.Pointer(&oldAction))) || oldAction != (Action{handler, 7, restorer, 8}) || !HasHandler(SIGSEGV) {
		t.Errorf("action is %+v", oldAction)
	}
	newAction, oldAction = Action{Handler: saIgnore}, Action{}
	SetAction(SIGSEGV, uintptr(unsafe.Pointer(&newAction)), uintptr(unsafe.Pointer(&oldAction)))
	if oldAction.Handler != handler || HasHandler(SIGSEGV) {
		t.Error("ignored is caught")
	}
}

// A signal wakes a thread that waits, whatever it waits for, with EINTR; and
// keeps it from blocking.
func TestKillInterruptsWaiting(t *testing.T) {
	word := uint32(0)
	for name, wait := range map[string]func(m *machine){
		"futex": func(m *machine) { FutexWait(m.c[0], uintptr(unsafe.Pointer(&word)), &word, 0, 1000) },
		"sleep": func(m *machine) { Sleep(m.c[0], 1000) },
		"poll":  func(m *machine) { PollWait(m.c[0], 0, 1000) },
		"irq":   func(m *machine) { IRQWait(m.c[0], 0x40) },
	} {
		m := fresh(t)
		catch(t, SIGURG, 0, 0)
		th := m.spawn(0)
		wait(m)
		Schedule(m.c[0])
		m.wantRunning(0, nil)
		if !Kill(m.c[0], th.id, SIGURG) {
			t.Fatalf("%s: no such thread", name)
		}
		m.wantState(th, Ready)
		if th.RAX != eINTR || th.wait != WaitNone || firstWake[0] != 0 || th.timerCPU != -1 {
			t.Errorf("%s: result %d, waits for %d, deadline %d", name, int(th.RAX), th.wait, firstWake[0])
		}
		if buckets[bucket(uintptr(unsafe.Pointer(&word)))] != none || poller != none || lines[0x40].waiter != none {
			t.Errorf("%s: the thread is still on a list", name)
		}
		Schedule(m.c[0])
		th.RAX = 0
		if !SignalPending(m.c[0]) {
			t.Errorf("%s: the signal is not pending", name)
		}
		wait(m)
		if m.c[0].Gone != 0 || th.RAX != eINTR {
			t.Errorf("%s: a thread with a signal waits: gone %d, result %d", name, m.c[0].Gone, int(th.RAX))
		}
	}
}

func TestKill(t *testing.T) {
	m := fresh(t)
	th := m.spawn(1)
	m.on(0)
	m.ipi()
	for _, id := range []uint32{0, 3, 99} {
		if Kill(m.c[0], id, SIGURG) {
			t.Errorf("thread %d exists", id)
		}
	}
	// The default action of SIGURG is to ignore it.
	if !Kill(m.c[0], th.id, SIGURG) || th.pending != 0 {
		t.Error("SIGURG without a handler is pending")
	}
	catch(t, SIGURG, 0, 0)
	th.mask = 1 << (SIGURG - 1)
	Kill(m.c[0], th.id, SIGURG)
	if m.ipi() != 0 || th.pending != 1<<(SIGURG-1) {
		t.Errorf("a blocked signal: pending %#x", th.pending)
	}
	th.mask = 0
	Kill(m.c[0], th.id, SIGURG)
	if m.ipi() != 11 {
		t.Error("a thread that runs elsewhere is not interrupted")
	}
	Kill(m.c[1], th.id, SIGURG)
	if m.ipi() != 0 {
		t.Error("a thread that signals itself is interrupted")
	}
}

func TestDeliverDefaultAndIgnore(t *testing.T) {
	m := fresh(t)
	if Deliver(m.c[0]) != 0 || SignalPending(m.c[0]) {
		t.Error("the idle thread takes signals")
	}
	th := m.spawn(0)
	th.pending = 1<<(SIGSEGV-1) | 1<<(15-1)
	newAction = Action{Handler: saIgnore}
	SetAction(SIGSEGV, uintptr(unsafe.Pointer(&newAction)), 0)
	if sig := Deliver(m.c[0]); sig != 15 || th.pending != 0 {
		t.Errorf("ended by signal %d, pending %#x; want 15", sig, th.pending)
	}
	if sig := Deliver(m.c[0]); sig != 0 {
		t.Errorf("ended by signal %d", sig)
	}
}

// The frame is that of Linux: struct rt_sigframe, ucontext and siginfo
// (arch/x86/include/uapi/asm/{sigcontext,ucontext}.h, asm-generic/siginfo.h).
func TestSignalFrame(t *testing.T) {
	m := fresh(t)
	sp, _ := m.stack(64 << 10)
	th := m.spawn(0)
	th.Frame = Frame{RAX: 1, RBX: 2, RCX: 3, RDX: 4, RSI: 5, RDI: 6, RBP: 7, R8: 8, R9: 9, R10: 10, R11: 11, R12: 12, R13: 13, R14: 14, R15: 15,
		RIP: 16, RFlags: 0x246, RSP: sp + 60000, FSBase: 19, Full: 1}
	for i := range th.FX {
		th.FX[i] = byte(i * 3)
	}
	before := th.Frame
	th.mask = 0x100
	catch(t, SIGURG, 0, 0x8000)
	th.pending = 1 << (SIGURG - 1)
	m.on(0)
	if sig := Deliver(m.c[0]); sig != 0 {
		t.Fatalf("ended by signal %d", sig)
	}
	fr := th.RSP
	if th.RIP != handler || fr%16 != 8 || fr >= before.RSP-128 || fr < before.RSP-2048 {
		t.Errorf("handler at %#x with SP %#x below %#x", th.RIP, fr, before.RSP)
	}
	if th.RDI != SIGURG || th.RFlags != 0x202 || th.Full != 1 || th.FSBase != before.FSBase {
		t.Errorf("handler gets signal %d, flags %#x", th.RDI, th.RFlags)
	}
	if th.mask != 0x100|0x8000|1<<(SIGURG-1) {
		t.Errorf("mask in the handler is %#x", th.mask)
	}
	si, uc := th.RSI, th.RDX
	if word(fr) != restorer || *arch.U32(si) != SIGURG || int32(*arch.U32(si + 8)) != -6 { // SI_TKILL
		t.Errorf("returns to %#x, si_signo %d, si_code %d", word(fr), *arch.U32(si), int32(*arch.U32(si + 8)))
	}
	// uc_mcontext.gregs: r8…r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, segments.
	want := []uintptr{8, 9, 10, 11, 12, 13, 14, 15, 6, 5, 7, 2, 4, 1, 3, before.RSP, 16, 0x246, 0x33}
	for i, w := range want {
		if got := word(uc + 40 + uintptr(i)*8); got != w {
			t.Errorf("register %d is %#x, want %#x", i, got, w)
		}
	}
	if word(uc+296) != 0x100 { // uc_sigmask
		t.Errorf("saved mask is %#x", word(uc+296))
	}
	fx := word(uc + 224)                                  // uc_mcontext.fpstate
	if fx%64 != 0 || fx < uc || fx+512 > before.RSP-128 { // the red zone
		t.Errorf("FPU state at %#x", fx)
	}
	for i := range uintptr(512) {
		if *arch.Byte(fx + i) != before.FX[i] {
			t.Fatalf("byte %d of the FPU state is %#x", i, *arch.Byte(fx + i))
		}
	}

	// The handler changes registers, as the runtime does to inject a call, tries to
	// turn interrupts off, and returns by way of the restorer.
	*arch.Ptr(uc + 40 + 16*8) = 0x777              // RIP
	*arch.Ptr(uc + 40 + 17*8) = 0x3000 | 1 | 0x400 // IOPL 3, carry, direction; IF clear
	*arch.Byte(fx + 100) = 0xaa
	th.RSP += 8
	th.FX = [512]byte{}
	SigReturn(th)
	after := before
	after.RIP, after.RFlags = 0x777, 1|0x400|arch.FlagIF|2
	after.FX[100] = 0xaa
	if th.Frame != after || th.mask != 0x100 {
		t.Errorf("after the handler: %+v, mask %#x\nwant %+v", th.Frame, th.mask, after)
	}
}

// A thread that made a system call has its RIP and flags in RCX and R11, where
// SYSCALL put them, and a clean FPU state.
func TestSignalFrameOfASystemCall(t *testing.T) {
	m := fresh(t)
	sp, _ := m.stack(16 << 10)
	th := m.spawn(0)
	th.Frame = Frame{RCX: 3, R11: 11, RIP: 0x1000, RFlags: 0x202, RSP: sp + 16000, Full: 0}
	th.FX[24] = 0xee // left by someone
	catch(t, SIGURG, 0, 0)
	th.pending = 1 << (SIGURG - 1)
	Deliver(m.c[0])
	uc := th.RDX
	if word(uc+40+14*8) != 0x1000 || word(uc+40+3*8) != 0x202 {
		t.Errorf("RCX is %#x, R11 %#x", word(uc+40+14*8), word(uc+40+3*8))
	}
	fx := word(uc + 224)
	if *arch.U32(fx) != 0x37f || *arch.U32(fx + 24) != 0x1f80 {
		t.Errorf("FPU control word %#x, MXCSR %#x", *arch.U32(fx), *arch.U32(fx + 24))
	}
}

func TestSignalOnAlternateStack(t *testing.T) {
	m := fresh(t)
	sp, mem := m.stack(64 << 10)
	alt, size := sp+32<<10, uintptr(16<<10)
	th := m.spawn(0)
	th.SetAltStack(alt, size)
	if a, n := th.AltStack(); a != alt || n != size {
		t.Errorf("alternate stack %#x+%#x", a, n)
	}
	catch(t, SIGSEGV, saOnStack|saNoDefer, 0)
	th.RSP = sp + 8000
	if !RaiseFault(m.c[0], SIGSEGV, 0xdead) {
		t.Fatal("no handler")
	}
	if th.RSP < alt || th.RSP > alt+size-1000 || th.mask != 0 {
		t.Errorf("handler runs with SP %#x, mask %#x", th.RSP, th.mask)
	}
	uc, si := th.RDX, th.RSI
	if word(uc+16) != alt || word(uc+32) != size {
		t.Errorf("uc_stack is %#x+%#x", word(uc+16), word(uc+32))
	}
	if *arch.U32(si) != SIGSEGV || *arch.U32(si + 8) != 1 || word(si+16) != 0xdead || word(uc+40+22*8) != 0xdead {
		t.Errorf("si_signo %d, si_code %d, si_addr %#x, CR2 %#x", *arch.U32(si), *arch.U32(si + 8), word(si+16), word(uc+40+22*8))
	}
	if i := binary.LittleEndian.Uint64(mem[8000-8:]); i != 0 {
		t.Error("the interrupted stack was written to")
	}
	// A fault in the handler itself stays on the stack that it is on.
	inside := th.RSP
	if !RaiseFault(m.c[0], SIGSEGV, 0xbeef) || th.RSP >= inside || th.RSP < alt {
		t.Errorf("nested handler runs with SP %#x, the first ran with %#x", th.RSP, inside)
	}
	// No room: the page below the stack is not mapped.
	th.RSP = sp + 300
	th.SetAltStack(0, 0)
	if RaiseFault(m.c[0], SIGSEGV, 0) {
		t.Error("a frame was built where nothing is mapped")
	}
	th.pending = 1 << (SIGSEGV - 1)
	if sig := Deliver(m.c[0]); sig != SIGSEGV {
		t.Errorf("a signal without room for its frame: %d, want the end of the program", sig)
	}
	if RaiseFault(m.c[0], SIGFPE, 0) {
		t.Error("a fault without handler became a signal")
	}
}

func TestMask(t *testing.T) {
	m := fresh(t)
	th := m.spawn(0)
	th.SetMask(5)
	if th.Mask() != 5 {
		t.Errorf("mask %d", th.Mask())
	}
}
