package task

import (
	"syscall"

	"osv/kernel/linux/abi"
)

// stopState is a stop of all threads, by SIGSTOP and its kin.
type stopState struct {
	sig  int // 0: not stopped
	left int // threads that have yet to take part
	cont chan struct{}
}

// stopAll stops the process, unless only job control asks for it and nobody could
// continue it. The caller holds p.mu, which is released meanwhile.
func (t *Task) stopAll(sig int) {
	p := t.p
	if syscall.Signal(sig) != syscall.SIGSTOP {
		p.mu.Unlock()
		orphaned := p.k.orphaned(p)
		p.mu.Lock()
		if orphaned {
			return
		}
	}
	if p.exiting || p.stop.sig != 0 {
		return
	}
	p.stop = stopState{sig: sig, left: len(p.tasks), cont: make(chan struct{})}
	for _, o := range p.tasks {
		o.stopped = false
		o.recalc()
		if o != t {
			o.notify()
		}
	}
}

// takePart stops the thread until the process goes on. The caller holds p.mu, which is
// released meanwhile.
func (t *Task) takePart() {
	p := t.p
	sig, cont := p.stop.sig, p.stop.cont
	t.stopped = true
	p.stop.left--
	last := p.stop.left == 0
	t.recalc()
	p.mu.Unlock()
	if last {
		p.reportChange(abi.CLD_STOPPED, sig)
	}
	// Only what kills comes through.
	_ = t.SleepKillable(cont)
	p.mu.Lock()
	t.stopped = false
	t.recalc()
}

// resume ends a stop; true: the parent is to be told. The caller holds mu.
func (p *Process) resume() bool {
	if p.stop.sig == 0 {
		return false
	}
	told := p.stop.left == 0
	close(p.stop.cont)
	p.stop = stopState{}
	for _, t := range p.tasks {
		t.recalc()
	}
	return told
}

// orphaned says whether p's group has nobody outside of it, but in its session, who
// could continue it (POSIX, §3.246).
func (k *Kernel) orphaned(p *Process) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.groupOrphaned(p.pgid, nil)
}

// groupOrphaned is that of a group, with except not counted. The caller holds mu.
func (k *Kernel) groupOrphaned(pgid int, except *Process) bool {
	for _, q := range k.procs {
		if q == except || q.pgid != pgid || q.zombie || q.parent == nil || q == k.init {
			continue
		}
		if up := q.parent; up != k.init && up.pgid != pgid && up.session == q.session {
			return false
		}
	}
	return true
}
