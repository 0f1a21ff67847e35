package task

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/signal"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

const (
	sigchld = syscall.SIGCHLD
	sigkill = syscall.SIGKILL
	sigcont = syscall.SIGCONT
)

// Process is what the threads of one program share: a thread group.
type Process struct {
	k       *Kernel
	pid     int
	started time.Duration // mono
	mem     atomic.Pointer[mm.Space]
	exe     atomic.Pointer[Image]

	mu      sync.Mutex
	tasks   []*Task // living threads, in the order of their making
	leader  *Task   // the first thread; it may have ended before the others
	pending signal.Queue
	actions *[abi.NSIG + 1]signal.Action
	exiting bool  // all threads are to end
	status  int32 // wait status, once exiting
	execer  *Task // the thread that waits for the others to end
	alone   chan struct{}
	stop    stopState
	limits  [abi.RLIM_NLIMITS]abi.Rlimit
	timers  timers
	sigList poll.List // told of each signal that becomes pending: signalfd

	cpu cpuTime

	dumpable  bool
	noNewPriv bool
	subreaper bool
	keepCaps  bool
	thpOff    bool
	oomAdj    int

	// Guarded by k.mu.
	parent     *Process
	children   []*Process
	pgid       int
	session    *Session
	exitSignal int  // to the parent, 0: none
	zombie     bool // has ended and waits to be waited for
	reaped     bool
	execed     bool // setpgid by the parent is refused
	childUsed  Usage
	report     childReport
	childEvent poll.List // told when a child's state changes

	ended     chan struct{} // closed when it has become a zombie
	endedList poll.List     // told then: pidfd
}

// cpuTime is whose processor time counts as the process's. Its lock is the innermost.
type cpuTime struct {
	mu    sync.Mutex
	tasks []*Task
	used  Usage // of threads that have ended
}

// Image is what a process runs.
type Image struct {
	Path string // as the kernel resolved it; what /proc/self/exe points to
	File vfs.Path
	// ArgStart and so on are where arguments and environment are in memory.
	ArgStart, ArgEnd, EnvStart, EnvEnd uint64
	StackTop                           uint64
	Auxv                               []byte
}

// Session is a session of process groups.
type Session struct {
	ID int

	mu  sync.Mutex
	tty Terminal
}

// Terminal is a session's controlling terminal, kernel/linux/fd's TTY.
type Terminal interface {
	// Leave ends that it is the session's.
	Leave(session int)
}

// TTY is the controlling terminal, nil where there is none.
func (s *Session) TTY() Terminal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tty
}

// SetTTY makes tty the controlling terminal and returns the one before.
func (s *Session) SetTTY(tty Terminal) Terminal {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.tty
	s.tty = tty
	return old
}

func newActions() *[abi.NSIG + 1]signal.Action { return new([abi.NSIG + 1]signal.Action) }

// defaultLimits are those of a process that nobody has limited.
func defaultLimits() (l [abi.RLIM_NLIMITS]abi.Rlimit) {
	const inf = abi.RLIM_INFINITY
	for i := range l {
		l[i] = abi.Rlimit{Cur: inf, Max: inf}
	}
	l[abi.RLIMIT_STACK] = abi.Rlimit{Cur: 8 << 20, Max: inf}
	l[abi.RLIMIT_CORE] = abi.Rlimit{Cur: 0, Max: inf}
	l[abi.RLIMIT_NOFILE] = abi.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	l[abi.RLIMIT_NPROC] = abi.Rlimit{Cur: maxTasks, Max: maxTasks}
	l[abi.RLIMIT_SIGPENDING] = abi.Rlimit{Cur: maxTasks, Max: maxTasks}
	l[abi.RLIMIT_MSGQUEUE] = abi.Rlimit{Cur: 819200, Max: 819200}
	l[abi.RLIMIT_NICE] = abi.Rlimit{}
	l[abi.RLIMIT_RTPRIO] = abi.Rlimit{}
	return l
}

func newProcess(k *Kernel) *Process {
	p := &Process{
		k: k, started: mono(), actions: newActions(), limits: defaultLimits(), exitSignal: int(sigchld),
		dumpable: true, ended: make(chan struct{}),
	}
	p.timers.p = p
	return p
}

// PID is its number.
func (p *Process) PID() int { return p.pid }

// Kernel is what it runs on.
func (p *Process) Kernel() *Kernel { return p.k }

// PPID is its parent's number.
func (p *Process) PPID() int {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	if p.parent == nil {
		return 0
	}
	return p.parent.pid
}

// PGID and SID are the numbers of its group and session.
func (p *Process) PGID() int {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	return p.pgid
}

// SID is the number of its session.
func (p *Process) SID() int { return p.Session().ID }

// Session is its session.
func (p *Process) Session() *Session {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	return p.session
}

// Started is when it was made, on CLOCK_MONOTONIC.
func (p *Process) Started() time.Duration { return p.started }

// Image is what it runs, nil before the first execve and for init.
func (p *Process) Image() *Image { return p.exe.Load() }

// Leader is its first thread, which may have ended; nil for init.
func (p *Process) Leader() *Task {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader
}

// any is a living thread, or nil.
func (p *Process) any() *Task {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tasks) == 0 {
		return nil
	}
	return p.tasks[0]
}

// Files is the descriptor table of a living thread, nil where there is none.
func (p *Process) Files() *fd.Table {
	if t := p.any(); t != nil {
		return t.Files()
	}
	return nil
}

// Creds is who its leader is; root for init.
func (p *Process) Creds() *vfs.Creds {
	if t := p.Leader(); t != nil {
		return t.Creds()
	}
	return vfs.RootCreds()
}

// ShareMem is its address space with one more user, who closes it; nil where it has
// none any more.
func (p *Process) ShareMem() *mm.Space {
	if s := p.mem.Load(); s != nil {
		return s.Share()
	}
	return nil
}

// State is the letter of /proc/PID/stat.
func (p *Process) State() byte {
	p.k.mu.Lock()
	zombie := p.zombie
	p.k.mu.Unlock()
	if zombie {
		return 'Z'
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stop.sig != 0:
		return 'T'
	case len(p.tasks) == 0:
		return 'S'
	}
	for _, t := range p.tasks {
		if !t.Sleeping() {
			return 'R'
		}
	}
	return 'S'
}

// Limit is a resource's limits.
func (p *Process) Limit(resource int) abi.Rlimit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits[resource]
}

// SetLimit changes a resource's limits; who may do so is the caller's to check.
func (p *Process) SetLimit(resource int, l abi.Rlimit) {
	p.mu.Lock()
	p.limits[resource] = l
	p.mu.Unlock()
	p.applyLimits()
}

// applyLimits hands limits on to those who keep them.
func (p *Process) applyLimits() {
	p.mu.Lock()
	l := p.limits
	p.mu.Unlock()
	if f := p.Files(); f != nil {
		f.SetLimit(l[abi.RLIMIT_NOFILE].Cur)
	}
	if s := p.ShareMem(); s != nil {
		s.SetLimits(memLimits(&l))
		s.Close()
	}
}

func memLimits(l *[abi.RLIM_NLIMITS]abi.Rlimit) mm.Limits {
	return mm.Limits{
		AS: l[abi.RLIMIT_AS].Cur, Data: l[abi.RLIMIT_DATA].Cur,
		Stack: l[abi.RLIMIT_STACK].Cur, Memlock: l[abi.RLIMIT_MEMLOCK].Cur,
	}
}

// Flag is one of the switches of prctl(2).
type Flag uint8

const (
	Dumpable Flag = iota
	NoNewPrivs
	Subreaper
	KeepCaps
	THPOff
)

func (p *Process) flag(f Flag) *bool {
	return [...]*bool{&p.dumpable, &p.noNewPriv, &p.subreaper, &p.keepCaps, &p.thpOff}[f]
}

// Flag tells a switch.
func (p *Process) Flag(f Flag) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.flag(f)
}

// SetFlag sets one.
func (p *Process) SetFlag(f Flag, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*p.flag(f) = on
}
