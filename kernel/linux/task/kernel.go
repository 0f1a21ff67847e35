package task

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/futex"
	"osv/kernel/linux/mm"
	"osv/kernel/vfs"
)

// Config is what programs run on.
type Config struct {
	Machine mm.Machine
	Memory  mm.Options
	// NewCPU makes the user-mode state of one thread.
	NewCPU func() (CPU, error)
	// Dispatch serves a system call: the table of kernel/linux/sys.
	Dispatch func(t *Task, nr uint64, a *[6]uint64) (uint64, error)
	// Calls are functions by number that are called without Dispatch; it serves what is
	// nil or not there.
	Calls []Call
	// MapVDSO maps the vDSO into a new program's space and returns where its ELF header
	// is; nil or 0 where there is none.
	MapVDSO func(s *mm.Space) (uint64, error)
	// Console gets what the kernel says of programs, a line at a time.
	Console io.Writer
	// CPUs is how many processors there are; 0: as many as the Go runtime sees.
	CPUs int
	// Memory that a machine has in all, in bytes, for sysinfo.
	TotalMemory uint64
	// PowerOff ends the machine (reboot(2)); nil: the first program is killed.
	PowerOff func(restart bool)
	// Hostname is the node's name at first.
	Hostname string
	// HWCap and HWCap2 are AT_HWCAP and AT_HWCAP2.
	HWCap, HWCap2 uint64
	// Features is XCR0: what the processor saves of a thread's vector state.
	Features uint64
	// Yield hands the processor to other goroutines; nil: runtime.Gosched.
	Yield func()
}

// Kernel is all processes and what they share. Tree order: mu, then one process's mu;
// of two processes' locks never both, but a child's with mu held.
type Kernel struct {
	cfg     Config
	Futexes *futex.Table
	start   time.Time // when it began, for sysinfo and start times

	mu       sync.Mutex // the tree of processes
	procs    map[int]*Process
	tasks    map[int]*Task
	ids      map[int]int // how often a number is used as a pid, tid, group or session
	lastID   int
	init     *Process // without threads: adopts and reaps orphans
	first    *Process
	hostname string
	domain   string

	live  atomic.Int32 // threads
	forks atomic.Uint64

	slots   slots
	load    loadAverage
	workers workers

	over     bool          // the first program has ended: no more are made
	done     chan struct{} // closed then
	gone     chan struct{} // closed once the last thread has ended after that
	status   int32         // its wait status
	timerIDs atomic.Int32
}

// maxTasks bounds threads and processes, as kernel.pid_max does by default.
const maxTasks = 32768

// New makes a Kernel without programs.
func New(cfg Config) (*Kernel, error) {
	if cfg.Machine == nil || cfg.NewCPU == nil || cfg.Dispatch == nil {
		return nil, fmt.Errorf("task: a kernel needs a Machine, NewCPU and Dispatch")
	}
	if cfg.CPUs <= 0 {
		cfg.CPUs = runtime.NumCPU()
	}
	if cfg.Console == nil {
		cfg.Console = io.Discard
	}
	if cfg.Hostname == "" {
		cfg.Hostname = "osv"
	}
	if cfg.Yield == nil {
		cfg.Yield = runtime.Gosched
	}
	k := &Kernel{
		cfg: cfg, Futexes: futex.NewTable(cfg.CPUs), start: time.Now(),
		procs: map[int]*Process{}, tasks: map[int]*Task{}, ids: map[int]int{},
		hostname: cfg.Hostname, domain: "(none)", done: make(chan struct{}), gone: make(chan struct{}),
	}
	k.slots.init(2 * cfg.CPUs)
	k.init = &Process{k: k, pid: 1, session: &Session{ID: 1}, pgid: 1, actions: newActions(), limits: defaultLimits()}
	k.procs[1], k.lastID = k.init, 1
	k.ids[1] = 3
	return k, nil
}

// CPUs is how many processors programs are told of.
func (k *Kernel) CPUs() int { return k.cfg.CPUs }

// Machine is what address spaces are made of.
func (k *Kernel) Machine() mm.Machine { return k.cfg.Machine }

// Uptime is the time since the kernel began.
func (k *Kernel) Uptime() time.Duration { return time.Since(k.start) }

// Started is when it began.
func (k *Kernel) Started() time.Time { return k.start }

// TotalMemory is what the machine has in bytes.
func (k *Kernel) TotalMemory() uint64 { return max(k.cfg.TotalMemory, k.cfg.Machine.FreeBytes()) }

// Forks is how many threads and processes were made.
func (k *Kernel) Forks() uint64 { return k.forks.Load() }

// Live is how many threads there are.
func (k *Kernel) Live() int { return int(k.live.Load()) }

// Hostname and Domain are what uname tells; SetHostname and SetDomain change them.
func (k *Kernel) Hostname() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hostname
}

// Domain is the NIS domain name.
func (k *Kernel) Domain() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.domain
}

// SetHostname sets the node's name.
func (k *Kernel) SetHostname(s string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hostname = s
}

// SetDomain sets the NIS domain name.
func (k *Kernel) SetDomain(s string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.domain = s
}

// Printf says something of a program on the console.
func (k *Kernel) Printf(format string, args ...any) {
	fmt.Fprintf(k.cfg.Console, format+"\n", args...)
}

// Process finds a process by its pid, a zombie too; nil where there is none.
func (k *Kernel) Process(pid int) *Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.procs[pid]
}

// Task finds a thread by its tid, nil where there is none.
func (k *Kernel) Task(tid int) *Task {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tasks[tid]
}

// Processes are all of them, init and zombies too, in no order.
func (k *Kernel) Processes() []*Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]*Process, 0, len(k.procs))
	for _, p := range k.procs {
		out = append(out, p)
	}
	return out
}

// newID finds a number that is not in use. The caller holds mu.
func (k *Kernel) newID() (int, bool) {
	if len(k.tasks) >= maxTasks-2 {
		return 0, false
	}
	for range maxTasks {
		if k.lastID++; k.lastID >= maxTasks {
			k.lastID = 2
		}
		if k.ids[k.lastID] == 0 {
			return k.lastID, true
		}
	}
	return 0, false
}

func (k *Kernel) useID(n int) { k.ids[n]++ }

func (k *Kernel) dropID(n int) {
	if k.ids[n]--; k.ids[n] <= 0 {
		delete(k.ids, n)
	}
}

// Program is the first program.
type Program struct {
	Path  string // looked up from Context
	Argv  []string
	Env   []string
	FS    *vfs.Context
	Files *fd.Table
	// Before, if not nil, is called with the process before it runs.
	Before func(*Process)
}

// Start runs the first program, as process 2 in a session of its own; its parent is
// process 1, which is the kernel: it reaps orphans and cannot be signalled.
func (k *Kernel) Start(pr Program) (*Process, error) {
	// A thread in ring 3 keeps its P. There are more than processors, so that those of
	// the kernel's goroutines that become runnable find one at once.
	if n := 3*k.cfg.CPUs + 1; runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
	cpu, err := k.cfg.NewCPU()
	if err != nil {
		return nil, err
	}
	p := newProcess(k)
	t := newTask(p, cpu)
	t.ctx = pr.FS
	t.creds.Store(pr.FS.Creds)
	t.files.Store(pr.Files)
	x, err := t.prepare(pr.Path, pr.Argv, pr.Env)
	if err != nil {
		cpu.Free()
		return nil, err
	}
	k.mu.Lock()
	id, _ := k.newID()
	p.pid, p.pgid, p.session = id, id, &Session{ID: id}
	p.parent, p.exitSignal = k.init, int(sigchld)
	k.init.children = append(k.init.children, p)
	k.ids[id] += 3
	k.procs[id], k.tasks[id] = p, t
	k.first = p
	t.tid.Store(int32(id))
	p.tasks, p.leader = []*Task{t}, t
	t.named()
	p.begins(t)
	k.mu.Unlock()
	t.install(x)
	k.live.Add(1)
	k.forks.Add(1)
	if pr.Before != nil {
		pr.Before(p)
	}
	k.workers.spawn(t)
	return p, nil
}

// endPatience is how long Wait waits for the other programs: one that waits for a disk
// that does not answer is left behind.
const endPatience = 5 * time.Second

// Wait waits until the first program has ended and returns its wait status
// (WIFEXITED and so on). Whatever other process there is gets SIGKILL, and has ended
// too when Wait returns.
func (k *Kernel) Wait() int32 {
	<-k.done
	k.KillAll()
	select {
	case <-k.gone:
	case <-time.After(endPatience):
		k.Printf("linux: %d threads do not end", k.Live())
	}
	return k.status
}

// KillAll sends SIGKILL to all processes.
func (k *Kernel) KillAll() {
	for _, p := range k.Processes() {
		if p != k.init {
			p.Send(abi.Siginfo{Signo: int32(sigkill), Code: abi.SI_KERNEL})
		}
	}
}

// PowerOff ends the machine, as reboot(2) asks; it may not return.
func (k *Kernel) PowerOff(restart bool) {
	if k.cfg.PowerOff != nil {
		k.cfg.PowerOff(restart)
	}
	k.KillAll()
}
