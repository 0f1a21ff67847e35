package task

import (
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/mm"
	"osv/kernel/vfs/poll"
)

// Exit ends the thread, with the exit code that is its process's if it is the last:
// exit(2). It is done when the system call returns.
func (t *Task) Exit(code int) {
	t.exitCode = int32(code&0xff) << 8
	t.dead = true
}

// ExitGroup ends all threads of the process: exit_group(2).
func (t *Task) ExitGroup(code int) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exit(int32(code&0xff) << 8)
}

// exit ends all threads with a wait status; the first to ask counts. The caller holds
// mu.
func (p *Process) exit(status int32) {
	if p.exiting {
		return
	}
	p.exiting, p.status = true, status
	for _, t := range p.tasks {
		t.recalc()
		t.notify()
	}
}

// end is the thread's last act.
func (t *Task) end() {
	t.leaveMemory()
	if f := t.files.Swap(nil); f != nil {
		f.Release()
	}
	k, p := t.k, t.p
	t.idle()
	p.ends(t)
	k.mu.Lock()
	p.mu.Lock()
	t.gone = true
	p.tasks = remove(p.tasks, t)
	last := len(p.tasks) == 0
	if p.stop.sig != 0 && !t.stopped {
		p.stop.left--
	}
	stopped := 0
	if !last && p.stop.sig != 0 && p.stop.left == 0 {
		stopped = p.stop.sig
	}
	if last && !p.exiting {
		p.exiting, p.status = true, t.exitCode
	}
	p.retarget(p.pending.Pending())
	if p.execer != nil && len(p.tasks) == 1 {
		close(p.alone)
		p.execer = nil
	}
	p.mu.Unlock()
	if t != p.leader {
		k.forget(t)
	}
	session, group := p.session, p.pgid
	if last {
		k.endProcess(p)
	}
	if last && p == k.first {
		k.over, k.status = true, p.status
	}
	k.mu.Unlock()
	if last && session.ID == p.pid {
		k.endSession(session, group)
	}
	t.ctx.Close()
	t.cpu.Free()
	if stopped != 0 {
		p.reportChange(abi.CLD_STOPPED, stopped)
	}
	if p == k.first && last {
		close(k.done)
	}
	// The first program's last thread has ended before, or is this one.
	if k.live.Add(-1) == 0 {
		k.workers.end()
		close(k.gone)
	}
}

// leaveMemory does what the memory is still needed for: robust mutexes, the word that
// pthread_join waits for, the parent of a vfork.
func (t *Task) leaveMemory() {
	t.leaveWords()
	t.dropMem()
}

// leaveWords does what is promised of words in memory: mutexes that t holds, and the
// word at ClearChildTID.
func (t *Task) leaveWords() {
	t.exitRobust()
	if a := t.ClearChildTID; a != 0 {
		t.ClearChildTID = 0
		if putWord(t.mem, a, 0) == nil {
			// A thread that joins it waits without the private flag.
			_, _ = t.k.Futexes.Wake(t.mem, a, true, 1, abi.FUTEX_BITSET_MATCH_ANY)
		}
	}
}

// putWord writes a word in one step, as the processor does; others may look at it.
func putWord(m *mm.Space, addr uint64, v uint32) error {
	if addr%4 == 0 {
		return m.Store32(addr, v)
	}
	return m.CopyOut(addr, le.AppendUint32(nil, v))
}

// dropMem lets go of the address space: the last thread's is the process's.
func (t *Task) dropMem() {
	p := t.p
	p.mu.Lock()
	last := true
	for _, o := range p.tasks {
		if o != t && o.mem != nil {
			last = false
		}
	}
	s := t.mem
	t.mem = nil
	p.mu.Unlock()
	if last {
		p.mem.Store(nil)
		p.rememberMemory(s)
		s.Close()
	}
	if t.vforked != nil {
		close(t.vforked)
		t.vforked = nil
	}
}

// rememberMemory keeps what getrusage tells of an address space that is about to go.
func (p *Process) rememberMemory(s *mm.Space) {
	if s == nil {
		return
	}
	p.cpu.mu.Lock()
	defer p.cpu.mu.Unlock()
	p.cpu.used.memory(s)
}

func remove[T comparable](list []T, x T) []T {
	for i, v := range list {
		if v == x {
			copy(list[i:], list[i+1:])
			var zero T
			list[len(list)-1] = zero
			return list[:len(list)-1]
		}
	}
	return list
}

// forget takes a thread's number away. The caller holds mu.
func (k *Kernel) forget(t *Task) {
	tid := t.TID()
	if k.tasks[tid] == t {
		delete(k.tasks, tid)
		k.dropID(tid)
	}
}

// endProcess makes p a zombie, gives its children away and tells its parent. The
// caller holds mu.
func (k *Kernel) endProcess(p *Process) {
	p.timers.end()
	heir := k.heir(p)
	for _, c := range p.children {
		c.parent = heir
		c.exitSignal = int(sigchld)
		heir.children = append(heir.children, c)
		c.parentDied()
		if c.zombie {
			k.notifyParent(c)
		}
	}
	children := p.children
	p.children = nil
	k.hangUp(p, children)
	p.zombie = true
	close(p.ended)
	p.endedList.Notify(poll.In)
	k.notifyParent(p)
}

// heir is who adopts p's children: the nearest ancestor that has asked for it, or init.
func (k *Kernel) heir(p *Process) *Process {
	for q := p.parent; q != nil && q != k.init; q = q.parent {
		if q.Flag(Subreaper) && !q.zombie {
			return q
		}
	}
	return k.init
}

// parentDied sends the signals that prctl(PR_SET_PDEATHSIG) asked for.
func (p *Process) parentDied() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tasks {
		if s := t.PDeathSignal(); s != 0 {
			_ = p.post(abi.Siginfo{Signo: s, Code: abi.SI_USER}, t)
		}
	}
}

// hangUp is what the end of the last who could continue a stopped group does to it
// (POSIX, _exit): to its own group, and to those of its children. The caller holds mu,
// and has given the children away.
func (k *Kernel) hangUp(p *Process, children []*Process) {
	k.hangUpGroup(p, p.pgid)
	for n, c := range children {
		if c.pgid == p.pgid || c.session != p.session {
			continue
		}
		if n > 0 && children[n-1].pgid == c.pgid {
			continue
		}
		k.hangUpGroup(p, c.pgid)
	}
}

func (k *Kernel) hangUpGroup(p *Process, pgid int) {
	if !k.groupOrphaned(pgid, p) {
		return
	}
	for _, q := range k.procs {
		if q != p && q.pgid == pgid && q.isStopped() {
			k.signalGroup(pgid, abi.Siginfo{Signo: int32(syscall.SIGHUP), Code: abi.SI_KERNEL}, p)
			k.signalGroup(pgid, abi.Siginfo{Signo: int32(sigcont), Code: abi.SI_KERNEL}, p)
			return
		}
	}
}

// endSession hangs up the terminal of a session whose leader has ended.
func (k *Kernel) endSession(s *Session, group int) {
	tty := s.SetTTY(nil)
	if tty == nil {
		return
	}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, sigcont} {
		_ = k.SignalGroup(group, abi.Siginfo{Signo: int32(sig), Code: abi.SI_KERNEL}) // there may be nobody
	}
	tty.Leave(s.ID)
}

func (p *Process) isStopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stop.sig != 0
}

// notifyParent tells p's parent of its end. One that does not want to know, and init,
// reap at once. The caller holds mu.
func (k *Kernel) notifyParent(p *Process) {
	up := p.parent
	if up == k.init {
		k.reap(p)
		return
	}
	up.mu.Lock()
	a := &up.actions[sigchld]
	auto := p.exitSignal == int(sigchld) && (a.Handler == abi.SIG_IGN || a.Flags&abi.SA_NOCLDWAIT != 0)
	if s := p.exitSignal; s != 0 && !(auto && a.Handler == abi.SIG_IGN) {
		i := p.childInfo(s)
		_ = up.post(i, nil)
	}
	up.mu.Unlock()
	if auto {
		k.reap(p)
	}
	up.childEvent.Notify(poll.In)
}

// childInfo is the siginfo of p's end.
func (p *Process) childInfo(sig int) abi.Siginfo {
	code, status := exitInfo(p.status)
	u := p.ownUsage()
	return abi.Siginfo{
		Signo: int32(sig), Code: code, PID: int32(p.pid), UID: p.uid(), Status: status,
		Utime: ticks(u.User), Stime: ticks(u.Sys),
	}
}

// exitInfo is si_code and si_status of a wait status.
func exitInfo(status int32) (code, value int32) {
	if sig := status & 0x7f; sig != 0 {
		if status&0x80 != 0 {
			return abi.CLD_DUMPED, sig
		}
		return abi.CLD_KILLED, sig
	}
	return abi.CLD_EXITED, status >> 8 & 0xff
}

// uid is who p is to others.
func (p *Process) uid() uint32 {
	if p.leader == nil {
		return 0
	}
	return p.leader.Creds().UID
}

// reap takes a zombie out of the tree: its numbers are free again. The caller holds
// mu.
func (k *Kernel) reap(p *Process) {
	if p.reaped {
		return
	}
	p.reaped = true
	if up := p.parent; up != nil {
		up.children = remove(up.children, p)
		up.childUsed.add(p.ownUsage())
		up.childUsed.add(p.childUsed)
	}
	delete(k.procs, p.pid)
	k.forget(p.leader)
	k.dropID(p.pgid)
	k.dropID(p.session.ID)
}
