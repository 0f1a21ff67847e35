package task

import (
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/futex"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/signal"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Task is one thread of a user program: a goroutine that runs it and serves its
// system calls. Methods without a note are for that goroutine alone.
type Task struct {
	k    *Kernel
	p    *Process
	tid  atomic.Int32 // changes where a thread that is not the leader calls execve
	cpu  CPU
	regs *abi.Regs

	mem   *mm.Space
	files atomic.Pointer[fd.Table] // changed by the task alone, read by procfs
	ctx   *vfs.Context
	creds atomic.Pointer[vfs.Creds]
	dirs  atomic.Pointer[vfs.Dirs] // ctx.Dirs, for others
	comm  atomic.Pointer[string]

	// work is not 0 where there is something to be done before user mode is entered
	// again: a signal, a stop, the end. Written with p.mu held.
	work atomic.Uint32
	wake chan struct{} // capacity 1: work has become true
	turn chan struct{} // capacity 1: a slot for ring 3

	timer *time.Timer // of Sleep
	Futex futex.Waiter

	// Guarded by p.mu.
	pending  signal.Queue
	mask     signal.Set
	waitSet  signal.Set // that rt_sigtimedwait waits for
	stopped  bool       // it has taken part in the group's stop
	gone     bool       // it is no longer a thread of p
	sends    bool       // its own goroutine is sending: it need not be woken
	alt      signal.Stack
	saved    signal.Set // to be restored once no handler is called
	hasSaved bool

	// The task's goroutine alone.
	nr        uint64 // of the system call under way
	inCall    bool   // a system call has just returned, and may be restarted
	restart   syscall.Errno
	restartFn func(t *Task) (uint64, error) // of restart_syscall
	fault     faultState
	frame     [signal.FrameSize]byte
	sigframe  signal.Frame
	args      [6]uint64
	calls     uint64
	yields    uint32  // while alone
	io        mm.User // IO's
	ioBusy    bool
	exitCode  int32
	dead      bool          // exit was called
	vforked   chan struct{} // of the parent that waits for this child

	ClearChildTID uint64 // address of set_tid_address(2)
	// RobustList is the head of set_robust_list(2), for others to read.
	RobustList atomic.Uint64

	killed atomic.Bool // it is to die, not its whole process (execve of another)

	acct  account
	sched schedule

	pdeath atomic.Int32
	// TimerSlack is of prctl(2), ns; it is told, and has no effect.
	TimerSlack uint64

	// Sockets is what the socket calls keep from one to the next: nothing of task's.
	Sockets any
}

// Call serves a system call: its value, or an error that is a syscall.Errno or one of
// abi's restart codes.
type Call func(t *Task, a *[6]uint64) (uint64, error)

// DefaultSlack is what TimerSlack is at first.
const DefaultSlack = 50000

// faultState is what the last fault told the signal frame.
type faultState struct{ err, trap, cr2 uint64 }

func newTask(p *Process, cpu CPU) *Task {
	t := &Task{
		k: p.k, p: p, cpu: cpu, regs: cpu.Regs(),
		wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		timer: time.NewTimer(time.Hour), TimerSlack: DefaultSlack,
	}
	t.timer.Stop()
	t.acct.since.Store(max(1, int64(mono())))
	t.Futex.Init()
	t.alt.Flags = abi.SS_DISABLE
	t.sched.init(p.k.cfg.CPUs)
	return t
}

// Kernel, Proc, Mem, Files, FS and Creds are what the thread runs on. FS's Creds are
// the same as Creds.
func (t *Task) Kernel() *Kernel { return t.k }

// Proc is the thread's process; any goroutine may ask.
func (t *Task) Proc() *Process { return t.p }

// Mem is its address space.
func (t *Task) Mem() *mm.Space { return t.mem }

// Files is its descriptor table; any goroutine may ask, nil once it has ended.
func (t *Task) Files() *fd.Table { return t.files.Load() }

// FS is its root, working directory and umask, with the credentials for path walks.
func (t *Task) FS() *vfs.Context { return t.ctx }

// Creds is who it is; any goroutine may ask. SetCreds replaces them.
func (t *Task) Creds() *vfs.Creds { return t.creds.Load() }

// SetCreds gives the thread other credentials; c is not changed any more.
func (t *Task) SetCreds(c *vfs.Creds) {
	t.creds.Store(c)
	t.ctx.Creds = c
}

// SetFiles gives the thread another descriptor table (unshare(2)); it releases the one
// before.
func (t *Task) SetFiles(n *fd.Table) {
	if old := t.files.Swap(n); old != nil {
		old.Release()
	}
}

// TID is its number; any goroutine may ask.
func (t *Task) TID() int { return int(t.tid.Load()) }

// Leader says whether it is its process's first thread.
func (t *Task) Leader() bool { return t.TID() == t.p.pid }

// Regs are its registers, as user mode goes on with them.
func (t *Task) Regs() *abi.Regs { return t.regs }

// XState is its XSAVE image.
func (t *Task) XState() []byte { return t.cpu.XState() }

// Comm is its name, at most 15 bytes; any goroutine may ask, and set it.
func (t *Task) Comm() string {
	if s := t.comm.Load(); s != nil {
		return *s
	}
	return ""
}

// SetComm names it.
func (t *Task) SetComm(s string) {
	if len(s) > 15 {
		s = s[:15]
	}
	t.comm.Store(&s)
}

// PDeathSignal is the signal that the thread gets when the parent ends, 0 for none;
// any goroutine may ask.
func (t *Task) PDeathSignal() int32 { return t.pdeath.Load() }

// SetPDeathSignal sets it.
func (t *Task) SetPDeathSignal(sig int32) { t.pdeath.Store(sig) }

// Nr is the number of the system call under way.
func (t *Task) Nr() uint64 { return t.nr }

// named tells the path walk who t is.
func (t *Task) named() {
	t.ctx.PID, t.ctx.TID = t.p.pid, t.TID()
	t.dirs.Store(t.ctx.Dirs)
}

// IO is n bytes of the program's memory at addr as what a file reads into or writes
// from, until EndIO: the thread's own, so that nothing is allocated; nil where it is
// in use already.
func (t *Task) IO(addr uint64, n int) *mm.User {
	if t.ioBusy {
		return nil
	}
	t.ioBusy = true
	t.io = t.mem.Dst(addr, n)
	return &t.io
}

// EndIO ends the use of what IO gave; anything else is let alone.
func (t *Task) EndIO(u *mm.User) {
	if u == &t.io {
		t.ioBusy = false
	}
}

// Yield lets others run: sched_yield(2).
// Where no other thread wants to run, the kernel's own goroutines are let in each fourth
// time: they are not what a program yields to, but may be what it polls for.
func (t *Task) Yield() {
	if t.k.load.busy.Load() <= 1 {
		if t.yields++; t.yields&3 != 0 {
			return
		}
	}
	t.k.cfg.Yield()
}

// Sleeping says for /proc whether the thread waits; any goroutine may ask.
func (t *Task) Sleeping() bool { return t.acct.since.Load() == 0 }

// TIDs are the numbers of p's threads.
func (p *Process) TIDs() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]int, 0, len(p.tasks))
	for _, t := range p.tasks {
		out = append(out, t.TID())
	}
	return out
}

// Threads are p's living threads.
func (p *Process) Threads() []*Task {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Task(nil), p.tasks...)
}

// waiter makes a poll.Waiter that signals c.
func waiter(c chan struct{}) *poll.Waiter {
	return &poll.Waiter{Notify: func(poll.Events) bool {
		select {
		case c <- struct{}{}:
		default:
		}
		return true
	}}
}
