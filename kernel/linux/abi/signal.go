package abi

import (
	"encoding/binary"
	"strconv"
	"syscall"
)

// Signals are numbered 1 to NSIG; from SIGRTMIN on they queue.
const (
	NSIG     = 64
	SIGRTMIN = 32
	SIGRTMAX = 64
)

// How rt_sigprocmask(2) changes the mask.
const (
	SIG_BLOCK   = 0
	SIG_UNBLOCK = 1
	SIG_SETMASK = 2
)

// Handlers that are no address.
const (
	SIG_DFL = 0
	SIG_IGN = 1
)

// Flags of sigaction(2).
const (
	SA_NOCLDSTOP   = 0x1
	SA_NOCLDWAIT   = 0x2
	SA_SIGINFO     = 0x4
	SA_UNSUPPORTED = 0x400
	SA_EXPOSE_TAGS = 0x800
	SA_RESTORER    = 0x04000000
	SA_ONSTACK     = 0x08000000
	SA_RESTART     = 0x10000000
	SA_NODEFER     = 0x40000000
	SA_RESETHAND   = 0x80000000

	// SA_KNOWN are those that the kernel keeps; the others read back as 0.
	SA_KNOWN = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_RESTART | SA_NODEFER | SA_RESETHAND | SA_EXPOSE_TAGS
)

// Flags of sigaltstack(2).
const (
	SS_ONSTACK    = 1
	SS_DISABLE    = 2
	SS_AUTODISARM = 1 << 31

	MINSIGSTKSZ = 2048
)

// si_code: why a signal was sent.
const (
	SI_USER    = 0
	SI_KERNEL  = 0x80
	SI_QUEUE   = -1
	SI_TIMER   = -2
	SI_MESGQ   = -3
	SI_ASYNCIO = -4
	SI_SIGIO   = -5
	SI_TKILL   = -6

	ILL_ILLOPC, ILL_ILLOPN, ILL_ILLADR, ILL_ILLTRP, ILL_PRVOPC = 1, 2, 3, 4, 5

	FPE_INTDIV, FPE_INTOVF, FPE_FLTDIV, FPE_FLTOVF            = 1, 2, 3, 4
	FPE_FLTUND, FPE_FLTRES, FPE_FLTINV, FPE_FLTSUB            = 5, 6, 7, 8
	SEGV_MAPERR, SEGV_ACCERR, SEGV_BNDERR, SEGV_PKUERR        = 1, 2, 3, 4
	BUS_ADRALN, BUS_ADRERR, BUS_OBJERR                        = 1, 2, 3
	TRAP_BRKPT, TRAP_TRACE, TRAP_BRANCH, TRAP_HWBKPT          = 1, 2, 3, 4
	CLD_EXITED, CLD_KILLED, CLD_DUMPED                        = 1, 2, 3
	CLD_TRAPPED, CLD_STOPPED, CLD_CONTINUED                   = 4, 5, 6
	POLL_IN, POLL_OUT, POLL_MSG, POLL_ERR, POLL_PRI, POLL_HUP = 1, 2, 3, 4, 5, 6
)

// sigev_notify of timer_create(2).
const (
	SIGEV_SIGNAL    = 0
	SIGEV_NONE      = 1
	SIGEV_THREAD    = 2
	SIGEV_THREAD_ID = 4
)

// SiginfoSize is the size of siginfo_t in bytes.
const SiginfoSize = 128

// Siginfo is siginfo_t: which fields count follows from Signo and Code.
type Siginfo struct {
	Signo, Errno, Code int32

	PID     int32 // kill, tgkill, sigqueue, SIGCHLD
	UID     uint32
	Value   uint64 // sigqueue, timers: sigval
	Status  int32  // SIGCHLD: exit status or signal
	Utime   int64  // SIGCHLD: clock ticks
	Stime   int64
	Addr    uint64 // SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP
	Timer   int32  // SI_TIMER: the timer's id
	Overrun int32
	Band    int64 // SIGIO
	FD      int32

	// Raw is what a program has queued itself (rt_sigqueueinfo): the bytes from 12 on,
	// passed on as they are. Nil for all others.
	Raw *[SiginfoSize - 12]byte
}

// kind is which part of siginfo_t's union counts.
type kind uint8

const (
	kindKill kind = iota
	kindRT
	kindTimer
	kindFault
	kindChild
	kindPoll
)

func (i *Siginfo) kind() kind {
	if i.Code > 0 && i.Code < SI_KERNEL {
		switch syscall.Signal(i.Signo) {
		case syscall.SIGILL, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGTRAP:
			return kindFault
		case syscall.SIGCHLD:
			return kindChild
		case syscall.SIGIO:
			return kindPoll
		}
	}
	switch i.Code {
	case SI_TIMER:
		return kindTimer
	case SI_QUEUE, SI_MESGQ, SI_ASYNCIO:
		return kindRT
	case SI_SIGIO:
		return kindPoll
	}
	return kindKill
}

// Encode writes i as siginfo_t.
func (i *Siginfo) Encode(b *[SiginfoSize]byte) {
	clear(b[:])
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(i.Signo))
	le.PutUint32(b[4:], uint32(i.Errno))
	le.PutUint32(b[8:], uint32(i.Code))
	if i.Raw != nil {
		copy(b[12:], i.Raw[:])
		return
	}
	switch i.kind() {
	case kindFault:
		le.PutUint64(b[16:], i.Addr)
	case kindChild:
		le.PutUint32(b[16:], uint32(i.PID))
		le.PutUint32(b[20:], i.UID)
		le.PutUint32(b[24:], uint32(i.Status))
		le.PutUint64(b[32:], uint64(i.Utime))
		le.PutUint64(b[40:], uint64(i.Stime))
	case kindPoll:
		le.PutUint64(b[16:], uint64(i.Band))
		le.PutUint32(b[24:], uint32(i.FD))
	case kindTimer:
		le.PutUint32(b[16:], uint32(i.Timer))
		le.PutUint32(b[20:], uint32(i.Overrun))
		le.PutUint64(b[24:], i.Value)
	default:
		le.PutUint32(b[16:], uint32(i.PID))
		le.PutUint32(b[20:], i.UID)
		le.PutUint64(b[24:], i.Value)
	}
}

// DecodeSiginfo reads a siginfo_t that a program queues itself.
func DecodeSiginfo(b *[SiginfoSize]byte) Siginfo {
	le := binary.LittleEndian
	i := Siginfo{
		Signo: int32(le.Uint32(b[0:])), Errno: int32(le.Uint32(b[4:])), Code: int32(le.Uint32(b[8:])),
		PID: int32(le.Uint32(b[16:])), UID: le.Uint32(b[20:]), Value: le.Uint64(b[24:]),
		Raw: new([SiginfoSize - 12]byte),
	}
	copy(i.Raw[:], b[12:])
	return i
}

var signalNames = [...]string{"", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
	"PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM",
	"PROF", "WINCH", "IO", "PWR", "SYS"}

// SignalName is a signal's name as strace prints it.
func SignalName(sig int) string {
	switch {
	case sig > 0 && sig < len(signalNames):
		return "SIG" + signalNames[sig]
	case sig == SIGRTMIN:
		return "SIGRTMIN"
	case sig > SIGRTMIN && sig <= SIGRTMAX:
		return "SIGRT_" + strconv.Itoa(sig-SIGRTMIN)
	}
	return strconv.Itoa(sig)
}
