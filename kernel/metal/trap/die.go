package trap

import (
	"sync/atomic"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/ksym"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/shim"
	"osv/kernel/metal/vm"
)

var dying uint32 // 1 from the first die on; other processors halt

const icrNMIAllButSelf = 3<<18 | 0x4400 // SDM vol. 3A §11.6.1

// exceptionName names the exceptions that end here.
func exceptionName(v uintptr) string {
	switch v {
	case vecDivide:
		return "divide error"
	case vecDebug:
		return "debug"
	case vecNMI:
		return "non-maskable interrupt"
	case vecBreakpoint:
		return "breakpoint"
	case vecInvalidOp:
		return "invalid opcode"
	case vecDouble:
		return "double fault"
	case vecStackSeg:
		return "stack-segment fault"
	case vecProtection:
		return "general protection"
	case vecPageFault:
		return "page fault"
	case vecMachine:
		return "machine check"
	}
	return "exception"
}

// die prints registers and a symbolised stack and ends the machine. It is for
// faults that no Go handler can take: in metal, or before the runtime is up.
func die(c *cpu.CPU, f *Frame, v, addr uintptr) {
	if !atomic.CompareAndSwapUint32(&dying, 0, 1) {
		shim.Exit(shim.StatusFatal) // a fault while printing
	}
	if cpu.Count() > 1 {
		cpu.SendICR(0, icrNMIAllButSelf)
	}
	where := "program"
	if fromUser(f) {
		where = "user mode"
	} else if c.InMetal(f.RSP) {
		where = "metal"
	}
	var l klog.Line
	l.Str("\nosv: fatal: ").Str(exceptionName(v)).Str(" (vector ").Dec(uint64(v)).Str(", error code ").
		Hex(uint64(f.Err)).Str(") in ").Str(where).Str(" on cpu ").Dec(uint64(c.ID))
	if t := sched.Current(c); t != nil {
		l.Str(", thread ").Dec(uint64(t.ID()))
	}
	if v == vecPageFault {
		l.Str(", address ").Hex(uint64(addr))
	}
	l.End()
	l.Str("  rax ").Hex(uint64(f.RAX)).Str(" rbx ").Hex(uint64(f.RBX)).Str(" rcx ").Hex(uint64(f.RCX)).Str(" rdx ").Hex(uint64(f.RDX)).End()
	l.Str("  rsi ").Hex(uint64(f.RSI)).Str(" rdi ").Hex(uint64(f.RDI)).Str(" rbp ").Hex(uint64(f.RBP)).Str(" rsp ").Hex(uint64(f.RSP)).End()
	l.Str("  r8  ").Hex(uint64(f.R8)).Str(" r9  ").Hex(uint64(f.R9)).Str(" r10 ").Hex(uint64(f.R10)).Str(" r11 ").Hex(uint64(f.R11)).End()
	l.Str("  r12 ").Hex(uint64(f.R12)).Str(" r13 ").Hex(uint64(f.R13)).Str(" r14 ").Hex(uint64(f.R14)).Str(" r15 ").Hex(uint64(f.R15)).End()
	l.Str("  rip ").Hex(uint64(f.RIP)).Str(" flags ").Hex(uint64(f.RFlags)).Str(" cs ").Hex(uint64(f.CS)).
		Str(" cr2 ").Hex(uint64(arch.ReadCR2())).Str(" cr3 ").Hex(uint64(arch.ReadCR3())).End()
	backtrace(f.RIP, f.RBP)
	shim.Exit(shim.StatusFatal)
}

// backtrace follows the frame pointers that the Go compiler keeps.
func backtrace(pc, bp uintptr) {
	printPC(pc)
	for n := 0; n < 32 && bp != 0 && bp&7 == 0 && vm.Mapped(bp) && vm.Mapped(bp+8); n++ {
		next := *arch.Ptr(bp)
		printPC(*arch.Ptr(bp + 8))
		if next <= bp {
			return
		}
		bp = next
	}
}

func printPC(pc uintptr) {
	var l klog.Line
	l.Str("  at ").Hex(uint64(pc))
	if p, n, off := ksym.Name(pc); n != 0 {
		l.Str(" ").Bytes(p, n).Str("+").Hex(uint64(off))
	}
	l.End()
}
