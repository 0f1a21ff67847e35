package main

import (
	"fmt"
	"time"

	"osv/kernel/hw/gate"
)

// roundTrip measures the way into ring 3 and back by a system call.
func roundTrip() {
	s := newSpace(code{}.movEAX(39).syscall().jmp(0), 0)
	u := thread()
	const n = 100000
	best := time.Duration(1 << 62)
	for range 3 {
		t0 := time.Now()
		for range n {
			if r := enter(u, s); r.Kind != gate.UserSyscall {
				fail("%+v at %#x", r, u.Regs().RIP)
			}
		}
		best = min(best, time.Since(t0))
	}
	want("RAX", u.Regs().RAX, 39)
	fmt.Printf("user: %d ns for a round trip\n", best.Nanoseconds()/n)
	u.Free()
	s.free()
}

// faults are the exceptions of ring 3. What TCG does not do is not here: unmasked
// SSE exceptions, and alignment checks.
func faults() {
	const kernel = 0xffffffff80400000
	for _, t := range []struct {
		name        string
		c           code
		vector, err uint32
		addr        uint64
		rip         int // offset of the address it is left with
	}{
		{"divide by zero", code{}.raw(0x31, 0xc9, 0xf7, 0xf1), 0, 0, 0, 2},
		{"INT3", code{}.raw(0xcc), 3, 0, 0, 1},
		{"INT 4", code{}.raw(0xcd, 4), 4, 0, 0, 2},
		{"UD2", code{}.raw(0x0f, 0x0b), 6, 0, 0, 0},
		{"INT 0x80", code{}.raw(0xcd, 0x80), 13, 0x80<<3 | 2, 0, 0},
		{"INT 14", code{}.raw(0xcd, 14), 13, 14<<3 | 2, 0, 0},
		{"INT of the timer", code{}.raw(0xcd, 0xf0), 13, 0xf0<<3 | 2, 0, 0},
		{"HLT", code{}.raw(0xf4), 13, 0, 0, 0},
		{"CLI", code{}.raw(0xfa), 13, 0, 0, 0},
		{"IN AL, DX", code{}.raw(0xec), 13, 0, 0, 0},
		{"WRMSR", code{}.raw(0x0f, 0x30), 13, 0, 0, 0},
		{"SWAPGS", code{}.raw(0x0f, 0x01, 0xf8), 13, 0, 0, 0},
		{"SYSRET", code{}.raw(0x48, 0x0f, 0x07), 13, 0, 0, 0},
		{"MOV CR3, RAX", code{}.raw(0x0f, 0x22, 0xd8), 13, 0, 0, 0},
		{"INVLPG", code{}.raw(0x0f, 0x01, 0x38), 13, 0, 0, 0},
		{"MOV SS, kernel's", code{}.movEAX(0x10).raw(0x8e, 0xd0), 13, 0x10, 0, 5},
		{"a read of nothing", code{}.movRBX(0).loadRBX(), 14, 4, 0, 10},
		{"a write to nothing", code{}.movRBX(0x1234567).storeRBX(), 14, 6, 0x1234567, 10},
		{"a write to code", code{}.movRBX(codeAt).storeRBX(), 14, 7, codeAt, 10},
		{"a jump to data", code{}.movRBX(dataAt + 8).jmpRBX(), 14, 0x15, dataAt + 8, -1},
		{"a jump to nothing", code{}.movRBX(8).jmpRBX(), 14, 0x14, 8, -1},
		{"a read of the kernel", code{}.movRBX(kernel).loadRBX(), 14, 5, kernel, 10},
		{"a write to the kernel", code{}.movRBX(kernel).storeRBX(), 14, 7, kernel, 10},
		{"a read of the direct map", code{}.movRBX(gate.DirectMap + 1<<20).loadRBX(), 14, 5, gate.DirectMap + 1<<20, 10},
		{"a jump to the kernel", code{}.movRBX(kernel).jmpRBX(), 14, 0x15, kernel, -1},
		{"a read of no address", code{}.movRBX(1 << 62).loadRBX(), 13, 0, 0, 10},
		{"x87, 1/0 unmasked", code{}.raw(0x68).u32(0x340).raw(0xd9, 0x2c, 0x24, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b), 16, 0, 0, 14},
	} {
		s := newSpace(t.c.spin(), 1)
		u := thread()
		r := enter(u, s)
		if t.c[0] == 0xcd && r.Err == uint32(t.c[1])<<4|2 {
			r.Err = uint32(t.c[1])<<3 | 2 // QEMU 7.2's TCG counts IDT entries in halves
		}
		if r != (gate.UserReason{Kind: gate.UserFault, Vector: t.vector, Err: t.err, Addr: t.addr}) {
			fail("%s: %+v at %#x", t.name, r, u.Regs().RIP)
		}
		switch {
		case t.rip >= 0:
			want(t.name+": RIP", u.Regs().RIP, uint64(codeAt+t.rip))
		default:
			want(t.name+": RIP", u.Regs().RIP, t.addr)
		}
		u.Free()
		s.free()
	}
}

// garbage in the registers ends in a fault of the program.
func garbage() {
	s := newSpace(code{}.syscall().jmp(0), 1)
	const kernel = 0xffff800000100000
	for _, t := range []struct {
		name string
		set  func(r *gate.UserRegs)
		want gate.UserReason
	}{
		{"RIP no address", func(r *gate.UserRegs) { r.RIP = 1 << 47 }, gate.UserReason{Kind: gate.UserFault, Vector: 13}},
		{"RIP no address, as after SYSCALL", func(r *gate.UserRegs) { r.RIP, r.RCX, r.R11 = 1<<62, 1<<62, r.RFlags }, gate.UserReason{Kind: gate.UserFault, Vector: 13}},
		{"RIP in the kernel", func(r *gate.UserRegs) { r.RIP, r.RCX, r.R11 = kernel, kernel, r.RFlags }, gate.UserReason{Kind: gate.UserFault, Vector: 14, Err: 0x15, Addr: kernel}},
		{"FS base no address", func(r *gate.UserRegs) { r.FSBase = 1 << 48 }, gate.UserReason{Kind: gate.UserFault, Vector: 13}},
		{"GS base no address", func(r *gate.UserRegs) { r.GSBase = 1 << 63 }, gate.UserReason{Kind: gate.UserFault, Vector: 13}},
		{"RSP no address", func(r *gate.UserRegs) { r.RSP = 1<<47 + 3 }, gate.UserReason{}},
		{"RSP in the kernel", func(r *gate.UserRegs) { r.RSP = kernel }, gate.UserReason{}},
		{"FS and GS base in the kernel", func(r *gate.UserRegs) { r.FSBase, r.GSBase = kernel, kernel+8 }, gate.UserReason{}},
		{"all flags", func(r *gate.UserRegs) { r.RFlags = ^uint64(0) &^ (1 << 8) }, gate.UserReason{}},
	} {
		u := thread()
		t.set(u.Regs())
		before := *u.Regs()
		if r := enter(u, s); r != t.want {
			fail("%s: %+v", t.name, r)
		}
		after := *u.Regs()
		if t.want.Kind == gate.UserSyscall {
			want(t.name+": RCX", after.RCX, codeAt+2)
			before.RIP, before.RCX, before.R11, before.RFlags = after.RIP, after.RCX, after.R11, after.RFlags
		}
		want(t.name+": registers", after, before)
		u.Free()
	}
	s.free()
	// A stack that is none, used.
	s = newSpace(code{}.raw(0x50).spin(), 0) // PUSH RAX
	u := thread()
	u.Regs().RSP = kernel + 8
	want("PUSH to the kernel", enter(u, s), gate.UserReason{Kind: gate.UserFault, Vector: 14, Err: 7, Addr: kernel})
	u.Free()
	s.free()
}

// flags are cut to what a program may set, single steps work on both ways back.
func flags() {
	s := newSpace(code{}.syscall().raw(0x90, 0x90).jmp(0), 0)
	u := thread()
	u.Regs().RFlags = ^uint64(0) &^ (1 << 8)
	want("all flags", enter(u, s), gate.UserReason{})
	// CF PF AF ZF SF IF DF OF, AC, ID; bit 1 is always set. RF is cleared by SYSCALL.
	want("RFLAGS", u.Regs().RFlags&^(1<<16), uint64(0x240ed7))
	u.Regs().RFlags = 0 // interrupts stay on, as kicks below show
	want("no flags", enter(u, s), gate.UserReason{})
	want("RFLAGS", u.Regs().RFlags, uint64(0x202))
	u.Regs().RFlags |= 1 << 8
	u.Regs().R11 = u.Regs().RFlags
	rip := u.Regs().RIP
	want("single step", enter(u, s), gate.UserReason{Kind: gate.UserFault, Vector: 1})
	want("RIP", u.Regs().RIP, rip+1)
	want("single step", enter(u, s), gate.UserReason{Kind: gate.UserFault, Vector: 1})
	want("RIP", u.Regs().RIP, rip+2)
	u.Free()
	s.free()
}
