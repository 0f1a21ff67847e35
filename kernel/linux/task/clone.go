package task

import (
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/signal"
)

// CloneArgs are those of clone(2) and clone3(2).
type CloneArgs struct {
	Flags      uint64
	ExitSignal int
	ParentTID  uint64 // address
	ChildTID   uint64 // address
	PIDFD      func(p *Process) error
	Stack      uint64 // stack pointer of the child, 0: the parent's
	TLS        uint64
	SetTID     []int32
}

// namespaces are what a child could have of its own, if there were several.
const namespaces = abi.CLONE_NEWNS | abi.CLONE_NEWCGROUP | abi.CLONE_NEWUTS | abi.CLONE_NEWIPC | abi.CLONE_NEWUSER |
	abi.CLONE_NEWPID | abi.CLONE_NEWNET | abi.CLONE_INTO_CGROUP

// check is EINVAL for flags that make no sense together (copy_process), and for what
// there is not: handlers shared between processes, namespaces (EPERM, as for a user
// who may not make them).
func (a *CloneArgs) check() error {
	f := a.Flags
	has := func(b uint64) bool { return f&b != 0 }
	switch {
	case has(abi.CLONE_FS) && has(abi.CLONE_NEWNS|abi.CLONE_NEWUSER):
		return syscall.EINVAL
	case has(namespaces):
		return syscall.EPERM
	case has(abi.CLONE_THREAD) && !has(abi.CLONE_SIGHAND), has(abi.CLONE_SIGHAND) && !has(abi.CLONE_VM):
		return syscall.EINVAL
	case has(abi.CLONE_SIGHAND) && !has(abi.CLONE_THREAD):
		return syscall.EINVAL
	case has(abi.CLONE_CLEAR_SIGHAND) && has(abi.CLONE_SIGHAND):
		return syscall.EINVAL
	case has(abi.CLONE_PIDFD) && has(abi.CLONE_THREAD|abi.CLONE_DETACHED):
		return syscall.EINVAL
	case len(a.SetTID) != 0:
		return syscall.EPERM
	case a.ExitSignal < 0 || a.ExitSignal > abi.NSIG:
		return syscall.EINVAL
	case has(abi.CLONE_SETTLS) && a.TLS >= maxUser:
		return syscall.EPERM
	}
	return nil
}

// Clone makes a thread or a process that goes on where t does, with 0 in RAX, and
// returns its number. With CLONE_VFORK it returns when the child no longer needs the
// memory.
func (t *Task) Clone(a CloneArgs) (int, error) {
	if err := a.check(); err != nil {
		return 0, err
	}
	// A signal that is to be handled first may stop or end the process.
	if t.work.Load() != 0 {
		return 0, abi.ERESTARTNOINTR
	}
	k, p := t.k, t.p
	cpu, err := k.cfg.NewCPU()
	if err != nil {
		return 0, syscall.ENOMEM
	}
	cpu.CopyFrom(t.cpu)
	q := p
	thread := a.Flags&abi.CLONE_THREAD != 0
	if !thread {
		q = p.child(&a)
	}
	c := newTask(q, cpu)
	if err := c.inherit(t, &a); err != nil {
		cpu.Free()
		return 0, err
	}
	tid, err := k.enter(t, c, &a)
	if err != nil {
		c.abandon(!thread)
		return 0, err
	}
	var vfork chan struct{}
	if a.Flags&abi.CLONE_VFORK != 0 {
		vfork = make(chan struct{})
		c.vforked = vfork
	}
	if a.Flags&abi.CLONE_PIDFD != 0 && a.PIDFD != nil {
		if err := a.PIDFD(q); err != nil {
			// The child never runs.
			q.Send(abi.Siginfo{Signo: int32(sigkill), Code: abi.SI_KERNEL})
		}
	}
	t.announce(c, tid, &a)
	k.forks.Add(1)
	k.workers.spawn(c)
	if vfork != nil {
		// A parent that is killed meanwhile does not wait: the child has a share of
		// the memory.
		_ = t.SleepKillable(vfork)
	}
	return tid, nil
}

// child is a new process like p.
func (p *Process) child(a *CloneArgs) *Process {
	q := newProcess(p.k)
	q.exitSignal = a.ExitSignal
	q.exe.Store(p.exe.Load())
	p.mu.Lock()
	defer p.mu.Unlock()
	q.limits = p.limits
	*q.actions = *p.actions
	q.oomAdj = p.oomAdj
	q.dumpable, q.noNewPriv, q.keepCaps, q.thpOff = p.dumpable, p.noNewPriv, p.keepCaps, p.thpOff
	if a.Flags&abi.CLONE_CLEAR_SIGHAND != 0 {
		for i := range q.actions {
			if q.actions[i].Handler != abi.SIG_IGN {
				q.actions[i] = signal.Action{}
			}
		}
	}
	return q
}

// inherit gives c what it has from its maker.
func (c *Task) inherit(t *Task, a *CloneArgs) error {
	thread := a.Flags&abi.CLONE_THREAD != 0
	var err error
	switch {
	case thread:
		c.mem = t.mem
	case a.Flags&abi.CLONE_VM != 0:
		c.mem = t.mem.Share()
	default:
		if c.mem, err = t.mem.Fork(); err != nil {
			return syscall.ENOMEM
		}
		c.mem.SetOOM(c.p.outOfMemory)
	}
	if !thread {
		c.p.mem.Store(c.mem)
	}
	files := t.Files()
	if a.Flags&abi.CLONE_FILES != 0 {
		files = files.Share()
	} else {
		files = files.Clone()
	}
	c.files.Store(files)
	c.ctx = t.ctx.Fork(a.Flags&abi.CLONE_FS != 0)
	c.creds.Store(t.Creds())
	c.SetComm(t.Comm())
	c.TimerSlack = t.TimerSlack
	c.sched.inherit(&t.sched)
	t.p.mu.Lock()
	c.mask = t.mask
	if t.hasSaved {
		c.mask = t.saved
	}
	t.p.mu.Unlock()
	// An alternate stack goes to a child with memory of its own, and to vfork's.
	if a.Flags&(abi.CLONE_VM|abi.CLONE_VFORK) != abi.CLONE_VM {
		c.alt = t.alt
	}
	r := c.regs
	r.RAX = 0
	if a.Stack != 0 {
		r.RSP = a.Stack
	}
	if a.Flags&abi.CLONE_SETTLS != 0 {
		r.FSBase = a.TLS
	}
	if a.Flags&abi.CLONE_CHILD_CLEARTID != 0 {
		c.ClearChildTID = a.ChildTID
	}
	return nil
}

// enter puts the new thread into the tree.
func (k *Kernel) enter(t, c *Task, a *CloneArgs) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, q := t.p, c.p
	if k.over { // the end of the caller is on its way
		return 0, abi.ERESTARTNOINTR
	}
	id, ok := k.newID()
	if !ok {
		return 0, syscall.EAGAIN
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exiting || t.killed.Load() {
		return 0, abi.ERESTARTNOINTR
	}
	if n := p.limits[abi.RLIMIT_NPROC].Cur; uint64(len(k.tasks)) >= n {
		return 0, syscall.EAGAIN
	}
	c.tid.Store(int32(id))
	if q == p {
		p.tasks = append(p.tasks, c)
		// What is pending for the process may be for the new thread.
		c.recalc()
		k.useID(id)
	} else {
		q.pid, q.pgid, q.session = id, p.pgid, p.session
		q.parent = p
		if a.Flags&abi.CLONE_PARENT != 0 {
			q.parent, q.exitSignal = p.parent, p.exitSignal
		}
		q.parent.children = append(q.parent.children, q)
		q.tasks, q.leader = []*Task{c}, c
		k.procs[id] = q
		k.useID(id)
		k.useID(q.pgid)
		k.useID(q.session.ID)
	}
	k.tasks[id] = c
	k.live.Add(1)
	q.begins(c)
	c.named()
	return id, nil
}

// announce writes the new thread's number where the flags ask for it. Addresses that
// cannot be written to are the program's own fault, as on Linux.
func (t *Task) announce(c *Task, tid int, a *CloneArgs) {
	if a.Flags&abi.CLONE_PARENT_SETTID != 0 {
		_ = putWord(t.mem, a.ParentTID, uint32(tid))
	}
	if a.Flags&abi.CLONE_CHILD_SETTID != 0 {
		_ = putWord(c.mem, a.ChildTID, uint32(tid))
	}
}

// abandon gives back what a thread has that will never run.
func (c *Task) abandon(process bool) {
	if f := c.files.Swap(nil); f != nil {
		f.Release()
	}
	if process {
		c.p.mem.Store(nil)
		c.mem.Close()
	}
	c.ctx.Close()
	c.cpu.Free()
}

// Unshare is unshare(2): descriptors and directories of its own.
func (t *Task) Unshare(flags uint64) error {
	if flags&namespaces != 0 {
		return syscall.EPERM
	}
	const known = abi.CLONE_FS | abi.CLONE_FILES | abi.CLONE_SYSVSEM | abi.CLONE_THREAD | abi.CLONE_SIGHAND | abi.CLONE_VM
	if flags&^known != 0 {
		return syscall.EINVAL
	}
	if flags&(abi.CLONE_THREAD|abi.CLONE_SIGHAND|abi.CLONE_VM) != 0 && len(t.p.TIDs()) > 1 {
		return syscall.EINVAL
	}
	if flags&abi.CLONE_FS != 0 {
		t.ctx.Unshare()
		t.dirs.Store(t.ctx.Dirs)
	}
	if flags&abi.CLONE_FILES != 0 {
		t.unshareFiles()
	}
	return nil
}

func (t *Task) unshareFiles() {
	if f := t.Files(); !f.Unshared() {
		t.SetFiles(f.Clone())
	}
}
