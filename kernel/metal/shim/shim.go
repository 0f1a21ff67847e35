// Package shim serves the Linux system calls that the Go runtime itself makes,
// and the private calls of the kernel above (kernel/hw/gate).
//
// Contract: the Linux x86-64 system call ABI as Go 1.26's runtime, os and
// syscall packages use it during start-up and scheduling. It is not the Linux
// ABI for programs (kernel/linux). An unknown call returns ENOSYS, is counted,
// and is named once on the console. Who may call it: kernel/metal/trap.
// Start reading at Call; a new Go release is checked against its switch.
package shim

import (
	"unsafe"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/clock"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/rand"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/vm"
)

// System call numbers (Linux, arch/x86 syscall_64.tbl).
const (
	sysRead          = 0
	sysWrite         = 1
	sysClose         = 3
	sysMmap          = 9
	sysMunmap        = 11
	sysRtSigaction   = 13
	sysRtSigprocmask = 14
	sysRtSigreturn   = 15
	sysSchedYield    = 24
	sysMincore       = 27
	sysMadvise       = 28
	sysNanosleep     = 35
	sysGetpid        = 39
	sysClone         = 56
	sysExit          = 60
	sysKill          = 62
	sysFcntl         = 72
	sysGetrusage     = 98
	sysSigaltstack   = 131
	sysPrctl         = 157
	sysArchPrctl     = 158
	sysGettid        = 186
	sysFutex         = 202
	sysSchedAffinity = 204
	sysClockGettime  = 228
	sysExitGroup     = 231
	sysEpollWait     = 232
	sysEpollCtl      = 233
	sysTgkill        = 234
	sysOpenat        = 257
	sysEpollPwait    = 281
	sysEventfd2      = 290
	sysEpollCreate1  = 291
	sysPrlimit64     = 302
	sysGetrandom     = 318
	archSetFS        = 0x1002
	cloneSetTLS      = 0x80000
	mapFixed         = 0x10
	protWrite        = 2
	adviceDontNeed   = 4
	adviceFree       = 8
	adviceHugePage   = 14
	adviceNoHugePage = 15
	futexOpMask      = 0x7f
	futexWait        = 0
	futexWake        = 1
	fcntlGetFL       = 3
	openReadWrite    = 2
	sigBlock         = 0
	sigUnblock       = 1
	sigSetMask       = 2
	altStackDisable  = 2
)

// Error numbers, as system call results.
const (
	eNOENT = ^uintptr(2 - 1)
	eSRCH  = ^uintptr(3 - 1)
	eBADF  = ^uintptr(9 - 1)
	eAGAIN = ^uintptr(11 - 1)
	eNOMEM = ^uintptr(12 - 1)
	eFAULT = ^uintptr(14 - 1)
	eINVAL = ^uintptr(22 - 1)
	eNOSYS = ^uintptr(38 - 1)
)

const nsPerSec = 1000000000

// Call serves the system call in the current thread's registers and puts its
// result into RAX. Calls that may block set c.Gone.
func Call(c *cpu.CPU) {
	t := sched.Current(c)
	f := &t.Frame
	nr := f.RAX
	if nr >= callBase {
		private(c, t, nr)
		return
	}
	switch nr {
	// Waiting and scheduling; these set RAX themselves.
	case sysFutex:
		futex(c, t)
		return
	case sysNanosleep:
		f.RAX = 0
		sched.Sleep(c, timespec(f.RDI))
		return
	case sysEpollPwait, sysEpollWait:
		sched.PollWait(c, f.RSI, int32(f.R10))
		return
	case sysSchedYield:
		f.RAX = 0
		sched.Yield(c)
		return
	case sysExit:
		sched.Exit(c)
		return
	case sysRtSigreturn:
		sched.SigReturn(t)
		return
	case sysExitGroup:
		if diverted(f) {
			return
		}
		ExitProgram(int(int32(f.RDI)))
	}
	f.RAX = simple(c, t, nr)
}

// simple serves the calls that return at once.
func simple(c *cpu.CPU, t *sched.Thread, nr uintptr) uintptr {
	f := &t.Frame
	switch nr {
	case sysRead:
		return read(f.RDI, f.RSI, f.RDX)
	case sysWrite:
		return write(f.RDI, f.RSI, f.RDX)
	case sysMmap:
		return mmap(f.RDI, f.RSI, f.RDX, f.R10)
	case sysMunmap:
		return result(vm.Unmap(f.RDI, f.RSI))
	case sysMadvise:
		switch f.RDX {
		case adviceDontNeed, adviceFree:
			return result(vm.Discard(f.RDI, f.RSI))
		case adviceHugePage, adviceNoHugePage:
			return 0
		}
		return eINVAL
	case sysRtSigaction:
		if !sched.SetAction(int(f.RDI), f.RSI, f.RDX) {
			return eINVAL
		}
		return 0
	case sysRtSigprocmask:
		return sigprocmask(t)
	case sysSigaltstack:
		return sigaltstack(t)
	case sysGetpid:
		return 1
	case sysGettid:
		return uintptr(t.ID())
	case sysClone:
		id, ok := sched.Clone(t, f.RSI, f.R8, f.RDI&cloneSetTLS != 0)
		if !ok {
			return eAGAIN
		}
		return uintptr(id)
	case sysKill:
		return kill(c, 1, f.RSI)
	case sysTgkill:
		return kill(c, f.RSI, f.RDX)
	case sysArchPrctl:
		if f.RDI != archSetFS {
			return eINVAL
		}
		t.FSBase = f.RSI
		return 0
	case sysSchedAffinity:
		return affinity(f.RSI, f.RDX)
	case sysClockGettime:
		ns := clock.Now()
		if f.RDI == 0 || f.RDI == 5 {
			ns = clock.Wall()
		}
		*arch.I64(f.RSI), *arch.I64(f.RSI + 8) = ns/nsPerSec, ns%nsPerSec
		return 0
	case sysGetrusage:
		return getrusage(f.RSI)
	case sysGetrandom:
		rand.Fill(f.RDI, f.RSI)
		return f.RSI
	case sysEventfd2:
		return sched.EventFD
	case sysEpollCreate1:
		return sched.PollFD
	case sysEpollCtl:
		if f.R10 != 0 && f.RDX == sched.EventFD {
			sched.PollRegister(uint64(*arch.U32(f.R10 + 4)) | uint64(*arch.U32(f.R10 + 8))<<32)
			return 0
		}
		return eBADF
	case sysFcntl:
		if f.RDI > 2 {
			return eBADF
		}
		if f.RSI == fcntlGetFL {
			return openReadWrite
		}
		return 0
	case sysClose:
		return 0
	case sysOpenat:
		return eNOENT
	case sysPrctl, sysPrlimit64, sysMincore:
		return eNOSYS // the runtime asks and does without
	}
	unknown(nr, f.RIP)
	return eNOSYS
}

func result(r vm.Result) uintptr {
	switch r {
	case vm.OK:
		return 0
	case vm.NoMemory:
		return eNOMEM
	}
	return eINVAL
}

func mmap(addr, n, prot, flags uintptr) uintptr {
	rw := prot&protWrite != 0
	if flags&mapFixed != 0 {
		if r := vm.SetProt(addr, n, rw); r != vm.OK {
			return result(r)
		}
		return addr
	}
	va, r := vm.Reserve(n, rw)
	if r != vm.OK {
		return result(r)
	}
	return va
}

// timespec reads a struct timespec as nanoseconds, 0 if negative.
func timespec(p uintptr) int64 {
	s, ns := *arch.I64(p), *arch.I64(p + 8)
	if s < 0 || ns < 0 {
		return 0
	}
	return min(s, 1<<62/nsPerSec)*nsPerSec + ns
}

func futex(c *cpu.CPU, t *sched.Thread) {
	f := &t.Frame
	switch f.RSI & futexOpMask {
	case futexWait:
		ns := int64(-1)
		if f.R10 != 0 {
			ns = timespec(f.R10)
		}
		sched.FutexWait(c, f.RDI, (*uint32)(unsafe.Pointer(f.RDI)), uint32(f.RDX), ns)
	case futexWake:
		f.RAX = sched.FutexWake(f.RDI, f.RDX)
	default:
		f.RAX = eNOSYS
	}
}

func read(fd, p, n uintptr) uintptr {
	switch {
	case fd == sched.EventFD:
		if n < 8 {
			return eINVAL
		}
		if !sched.EventRead() {
			return eAGAIN
		}
		*arch.U64(p) = 1
		return 8
	case fd == 0:
		return 0 // end of file: the console has no input
	}
	return eBADF
}

func write(fd, p, n uintptr) uintptr {
	switch fd {
	case 1, 2:
		klog.Write(p, n)
		return n
	case sched.EventFD:
		sched.EventWrite()
		return n
	}
	return eBADF
}

func sigprocmask(t *sched.Thread) uintptr {
	f := &t.Frame
	if f.RDX != 0 {
		*arch.U64(f.RDX) = t.Mask()
	}
	if f.RSI == 0 {
		return 0
	}
	m := *arch.U64(f.RSI)
	switch f.RDI {
	case sigBlock:
		t.SetMask(t.Mask() | m)
	case sigUnblock:
		t.SetMask(t.Mask() &^ m)
	case sigSetMask:
		t.SetMask(m)
	default:
		return eINVAL
	}
	return 0
}

// sigaltstack's argument is struct sigaltstack: pointer, flags, size.
func sigaltstack(t *sched.Thread) uintptr {
	f := &t.Frame
	if f.RSI != 0 {
		sp, size := t.AltStack()
		*arch.Ptr(f.RSI), *arch.Ptr(f.RSI + 8), *arch.Ptr(f.RSI + 16) = sp, 0, size
		if size == 0 {
			*arch.Ptr(f.RSI + 8) = altStackDisable
		}
	}
	if f.RDI != 0 {
		if *arch.U32(f.RDI + 8)&altStackDisable != 0 {
			t.SetAltStack(0, 0)
		} else {
			t.SetAltStack(*arch.Ptr(f.RDI), *arch.Ptr(f.RDI + 16))
		}
	}
	return 0
}

func kill(c *cpu.CPU, id, sig uintptr) uintptr {
	if sig < 1 || sig > 64 {
		return eINVAL
	}
	if !sched.Kill(c, uint32(id), int(sig)) {
		return eSRCH
	}
	return 0
}

// affinity fills the processor mask from which the runtime takes GOMAXPROCS.
func affinity(n, p uintptr) uintptr {
	if n < 8 {
		return eINVAL
	}
	mask := ^uintptr(0)
	if k := cpu.Count(); k < 64 {
		mask = 1<<k - 1
	}
	*arch.Ptr(p) = mask
	return 8
}

var told [512 / 64]uint64 // unknown calls that were named; racing is harmless

// Unknown counts calls that nobody serves.
var Unknown uint64

func unknown(nr, pc uintptr) {
	Unknown++
	if nr >= 512 || told[nr/64]>>(nr%64)&1 != 0 {
		return
	}
	told[nr/64] |= 1 << (nr % 64)
	var l klog.Line
	l.Str("osv: system call ").Dec(uint64(nr)).Str(" is not served below the runtime (ENOSYS), called from ").Hex(uint64(pc)).End()
}

// getrusage fills struct rusage: the time that processors were busy counts as
// user time, since there is no other kind here.
func getrusage(p uintptr) uintptr {
	const bytes = 144
	arch.Zero(p, bytes)
	ns := sched.BusyNS()
	*arch.I64(p), *arch.I64(p + 8) = ns/nsPerSec, ns%nsPerSec/1000
	return 0
}
