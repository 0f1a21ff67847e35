// Package sched runs threads below the Go runtime: run queues, sleeping,
// futexes, timers, signals for preemption, and threads that wait for interrupts.
// The runtime's Ms are these threads.
//
// Contract: futex(2), nanosleep(2), clone(2), sigaction(2) as far as the Go 1.26
// runtime relies on them. Who may call it: kernel/metal/trap and shim, with
// interrupts off, on a trap stack. A thread's registers are saved before any of
// this runs, so there is no context switch here: handlers choose who is current
// (cpu.CPU.Cur), and trap resumes that.
//
// Locks: sleep guards all waiting (states, futex buckets, timers, interrupt
// waiters); each run queue has its own, taken inside sleep or alone. Start
// reading at Thread, then runq.go.
package sched

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
)

// Frame is a thread's saved registers. kernel/metal/trap knows the offsets.
type Frame struct {
	RAX, RBX, RCX, RDX, RSI, RDI, RBP    uintptr // 0…48
	R8, R9, R10, R11, R12, R13, R14, R15 uintptr // 56…112
	RIP, RFlags, RSP, FSBase             uintptr // 120…144
	Full                                 uintptr // 152: FrameCall, FrameFull or FrameUser
	FX                                   [512]byte
	User                                 uintptr // 672: *cpu.User that it entered last
}

// How a frame is restored.
const (
	FrameCall = 0 // as after SYSCALL: XMM, RCX and R11 are free
	FrameFull = 1 // all of it; of FX, XMM: Go uses no x87, whose registers are a User's
	FrameUser = 2 // it was preempted in ring 3: User has the registers, Frame where Enter returns to
)

// State of a thread. Ready → Running by pick; Running → Blocked by block;
// Blocked → Ready by wake; Running → Ready by preemption; any → Dead by exit.
type State uint32

const (
	Dead State = iota
	Ready
	Running
	Blocked
)

// What a blocked thread waits for.
const (
	WaitNone = iota
	WaitFutex
	WaitSleep
	WaitPoll // epoll: the runtime's network poller
	WaitIRQ
)

const (
	maxThreads = 4096
	slotBytes  = 1024
	none       = 0 // no thread: IDs start at 1
)

// Thread is one thread. It lives in a frame of its own making, never in the Go
// heap; lists link threads by ID.
type Thread struct {
	Frame
	id    uint32
	state uint32 // State; written under sleep or by the owner CPU
	cpu   int32  // where it runs or last ran
	idle  bool

	next uint32 // run queue, or free list

	// Waiting; guarded by sleep.
	wait       uint32
	futex      uintptr
	waitNext   uint32 // futex bucket
	waitPrev   uint32
	wake       int64 // deadline, ns on clock.Now; 0 = none
	timerNext  uint32
	timerPrev  uint32
	timerCPU   int32 // whose list, -1 = none
	pollEvents uintptr
	vector     uint32

	// Signals. pending is set by anyone, the rest by the thread itself.
	pending        uint64
	mask           uint64
	altSP, altSize uintptr

	account
}

var (
	table   [maxThreads]uintptr // address of Thread id
	nthread uint32              // highest ID in use
	freeIDs uint32              // dead threads, linked by next; guarded by sleep
	live    int32

	sleep cpu.SpinLock
)

func byID(id uint32) *Thread { return (*Thread)(unsafe.Pointer(table[id])) }

// Current returns the thread that this processor runs.
func Current(c *cpu.CPU) *Thread { return (*Thread)(unsafe.Pointer(c.Cur)) }

// ID is the thread's number, what gettid returns.
func (t *Thread) ID() uint32 { return t.id }

// newThread returns a zeroed thread, nil where there is no room. Caller holds
// sleep.
func newThread() *Thread {
	if freeIDs == none {
		if nthread+4 >= maxThreads {
			return nil
		}
		p := phys.AllocZero(0)
		if p == phys.None {
			return nil
		}
		// The lowest ID comes first: kill(2) of the process, and an NMI, mean thread 1.
		for i := uint32(phys.FrameSize / slotBytes); i > 0; i-- {
			id := nthread + i
			table[id] = phys.ToVirt(p) + uintptr(i-1)*slotBytes
			t := byID(id)
			t.id = id
			t.next = freeIDs
			freeIDs = id
		}
		nthread += phys.FrameSize / slotBytes
	}
	t := byID(freeIDs)
	freeIDs = t.next
	id := t.id
	*t = Thread{}
	t.id, t.timerCPU = id, -1
	initFX(t)
	atomic.AddInt32(&live, 1)
	return t
}

// initFX sets the FPU state of a new program: SDM vol. 1 §10.5.1, x87 control
// word 0x37f, MXCSR 0x1f80, all else zero.
func initFX(t *Thread) {
	p := uintptr(unsafe.Pointer(&t.FX))
	*arch.U32(p) = 0x37f
	*arch.U32(p + 24) = 0x1f80
}

// Spawn makes the first thread of the system, ready to run at rip.
func Spawn(rip, rsp uintptr) bool {
	sleep.Lock()
	t := newThread()
	if t != nil {
		t.RIP, t.RSP, t.RFlags, t.Full = rip, rsp, arch.FlagIF|2, 1
		makeReady(t)
	}
	sleep.Unlock()
	return t != nil
}

// Clone is clone(2) as the runtime calls it: a thread that shares everything,
// continues after the system call with result 0 on its own stack.
func Clone(parent *Thread, sp, tls uintptr, setTLS bool) (id uint32, ok bool) {
	sleep.Lock()
	t := newThread()
	if t == nil {
		sleep.Unlock()
		return 0, false
	}
	t.Frame.RAX = 0
	f := &parent.Frame
	t.RBX, t.RCX, t.RDX, t.RSI, t.RDI, t.RBP = f.RBX, f.RCX, f.RDX, f.RSI, f.RDI, f.RBP
	t.R8, t.R9, t.R10, t.R11, t.R12, t.R13, t.R14, t.R15 = f.R8, f.R9, f.R10, f.R11, f.R12, f.R13, f.R14, f.R15
	t.RIP, t.RFlags, t.RSP, t.FSBase = f.RIP, f.RFlags, sp, f.FSBase
	if setTLS {
		t.FSBase = tls
	}
	t.mask = parent.mask
	t.cpu = parent.cpu
	id = t.id
	makeReady(t)
	sleep.Unlock()
	return id, true
}

// Exit ends the current thread of c; the caller schedules next.
func Exit(c *cpu.CPU) {
	t := Current(c)
	sleep.Lock()
	t.leave(c)
	c.Gone = 1
	t.state = uint32(Dead)
	t.next = freeIDs
	freeIDs = t.id
	atomic.AddInt32(&live, -1)
	sleep.Unlock()
}

// Live is the number of threads that exist.
func Live() int { return int(atomic.LoadInt32(&live)) }
