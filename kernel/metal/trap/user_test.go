package trap

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/sched"
)

// inRing3 makes th a thread that runs a program, and returns what trapCommon saves
// when vector v interrupts it.
func inRing3(t *testing.T, th *sched.Thread, v uintptr) (u *cpu.User, f *Frame, fx uintptr) {
	t.Helper()
	at, _ := hostcpu.Arena(t, 4096)
	u = (*cpu.User)(unsafe.Pointer(at))
	cpu.InitUser(u)
	u.CPU = 0
	th.User = at
	th.Frame.RIP, th.Frame.RSP, th.Full = 0x7777, 0x8888, sched.FrameCall
	f, fx = interrupted(v)
	f.CS, f.SS = cpu.SelUserCode, cpu.SelUserData
	binary.LittleEndian.PutUint32(fxArea[fxMXCSR:], 0x9f80)
	return u, f, fx
}

func wantSaved(t *testing.T, u *cpu.User) {
	t.Helper()
	if u.RAX != 1 || u.RBX != 2 || u.RBP != 7 || u.R8 != 8 || u.R15 != 15 || u.FSBase != 16 || u.GSBase != 20 || u.RIP != 17 || u.RFlags != 0x246 || u.RSP != 19 {
		t.Errorf("registers %+v", u)
	}
	if u.MXCSR != 0x9f80 || string(u.X[fxXMM:fxXMM+xmmBytes]) != string(fxArea[fxXMM:fxXMM+xmmBytes]) {
		t.Error("XMM or MXCSR were not saved")
	}
	if u.CPU != -1 {
		t.Errorf("still on processor %d", u.CPU)
	}
}

// An interrupt that changes nothing goes back to the program.
func TestInterruptInRing3(t *testing.T) {
	c, th := start(t)
	u, f, fx := inRing3(t, th, cpu.VectorTimer)
	before := *u
	if handleTrap(c, f, fx) || *u != before {
		t.Error("an interrupt that changes nothing ends the stay in ring 3")
	}
}

// A kick ends it, once.
func TestKickInRing3(t *testing.T) {
	c, th := start(t)
	u, f, fx := inRing3(t, th, cpu.VectorIPI)
	u.Kick = 1
	if !handleTrap(c, f, fx) {
		t.Fatal("the program goes on")
	}
	wantSaved(t, u)
	if u.Kind != cpu.UserKick || u.Kick != 0 || th.Full != sched.FrameCall || th.RIP != 0x7777 || th.RSP != 0x8888 {
		t.Errorf("kind %d, kick %d, frame %d at %#x", u.Kind, u.Kick, th.Full, th.RIP)
	}
}

// A signal of the runtime is delivered where Enter returns to, not on the program's
// stack.
func TestSignalInRing3(t *testing.T) {
	c, th := start(t)
	stack, _ := mapped(t, 16<<10, 0)
	u, f, fx := inRing3(t, th, cpu.VectorIPI)
	th.RSP = stack + 16000
	action = sched.Action{Handler: 0x4444}
	sched.SetAction(sched.SIGURG, uintptr(unsafe.Pointer(&action)), 0)
	sched.Kill(c, th.ID(), sched.SIGURG)
	if !handleTrap(c, f, fx) {
		t.Fatal("the program goes on")
	}
	wantSaved(t, u)
	if u.Kind != cpu.UserKick || th.RIP != 0x4444 || th.RSP < stack || th.RSP >= stack+16000 {
		t.Errorf("kind %d, thread at %#x on %#x", u.Kind, th.RIP, th.RSP)
	}
	th.RSP += 8
	sched.SigReturn(th)
	if th.RIP != 0x7777 || th.RSP != stack+16000 {
		t.Errorf("after the handler: %#x on %#x", th.RIP, th.RSP)
	}
}

// A time slice that ends puts the thread aside with its program; when its turn comes
// it goes on there, or leaves if it was kicked meanwhile.
func TestPreemptionInRing3(t *testing.T) {
	t.Run("goes on", func(t *testing.T) { preempted(t, false) })
	t.Run("kicked", func(t *testing.T) { preempted(t, true) })
}

func preempted(t *testing.T, kicked bool) {
	c, th := start(t)
	u, f, fx := inRing3(t, th, cpu.VectorTimer)
	if !sched.Spawn(0x3000, 0x4000) {
		t.Fatal("no room for a thread")
	}
	save(c, f, fx)
	sched.Schedule(c)
	other := sched.Current(c)
	if other == th {
		t.Fatal("the thread was not preempted")
	}
	wantSaved(t, u)
	if kicked {
		u.Kick = 1
	}
	sched.Exit(c)
	sched.Schedule(c)
	deliver(c)
	if sched.Current(c) != th {
		t.Fatal("the thread does not go on")
	}
	if kicked && (th.Full != sched.FrameCall || u.Kind != cpu.UserKick) {
		t.Errorf("kicked: frame %d, kind %d", th.Full, u.Kind)
	}
	if !kicked && th.Full != sched.FrameUser {
		t.Errorf("frame %d", th.Full)
	}
}

// Exceptions of a program are its own, whatever its stack pointer says.
func TestFaultInRing3(t *testing.T) {
	c, th := start(t)
	for _, v := range []uintptr{vecDivide, vecDebug, vecBreakpoint, vecOverflow, vecInvalidOp, vecStackSeg, vecProtection, vecX87, vecAlign, vecSIMD} {
		u, f, fx := inRing3(t, th, v)
		f.Err = 0x123
		if !handleTrap(c, f, fx) {
			t.Fatalf("vector %d: the program goes on", v)
		}
		wantSaved(t, u)
		if u.Kind != cpu.UserFault || u.Vector != uint32(v) || u.Err != 0x123 || u.Addr != 0 || th.Full != sched.FrameCall {
			t.Errorf("vector %d: kind %d, vector %d, error %#x, address %#x, frame %d", v, u.Kind, u.Vector, u.Err, u.Addr, th.Full)
		}
	}
}

// An NMI does not end it.
func TestNMIInRing3(t *testing.T) {
	c, th := start(t)
	u, f, fx := inRing3(t, th, vecNMI)
	before := *u
	if handleTrap(c, f, fx) || *u != before || dumpWanted != 1 {
		t.Errorf("dump wanted %d", dumpWanted)
	}
	dumpWanted = 0
}

// TCG's virtual-8086 mode is a program's, too.
func TestVirtual8086IsRing3(t *testing.T) {
	c, th := start(t)
	u, f, fx := inRing3(t, th, vecDebug)
	f.CS, f.SS, f.RFlags = 0x11d8, 0x1000, 0x1e7602
	if !handleTrap(c, f, fx) || u.Kind != cpu.UserFault || u.RFlags != 0x202 {
		t.Errorf("kind %d, flags %#x", u.Kind, u.RFlags)
	}
	u, f, fx = inRing3(t, th, cpu.VectorTimer)
	f.CS, f.RFlags = 8, 0x20202
	if handleTrap(c, f, fx) || f.CS != cpu.SelUserCode || f.SS != cpu.SelUserData || f.RFlags != 0x202 {
		t.Errorf("goes on with CS %#x, flags %#x", f.CS, f.RFlags)
	}
}

// What the entry code knows of numbers.
func TestRing3Constants(t *testing.T) {
	if cpu.UserSyscall != 0 || cpu.UserFault != 1 || cpu.UserKick != 2 || cpu.SelUserCode != 0x2b || cpu.SelUserData != 0x23 || sched.FrameUser != 2 {
		t.Error("user_amd64.s knows other numbers")
	}
	if arch.FlagRF|arch.FlagTF != 0x10100 {
		t.Error("user_amd64.s knows other flags")
	}
}
