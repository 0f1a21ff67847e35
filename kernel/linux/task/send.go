package task

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/signal"
	"osv/kernel/vfs/poll"
)

// Send sends a signal to the process: one of its threads gets it. EAGAIN where a
// queued signal finds no room. Signal 0 does nothing.
func (p *Process) Send(i abi.Siginfo) error { return p.send(i, nil, nil) }

// Send sends a signal to the thread. Any goroutine may call it.
func (t *Task) Send(i abi.Siginfo) error { return t.p.send(i, t, nil) }

// SendTo is p.Send, or to.Send where to is not nil, by t's goroutine: where t sends to
// itself nobody has to be woken.
func (t *Task) SendTo(p *Process, to *Task, i abi.Siginfo) error {
	if p != t.p {
		return p.send(i, to, nil)
	}
	return p.send(i, to, t)
}

// send is Send, to t alone where that is not nil. by is the thread of p whose goroutine
// calls, or nil.
func (p *Process) send(i abi.Siginfo, t, by *Task) error {
	sig := int(i.Signo)
	if sig == 0 || p == p.k.init {
		return nil
	}
	p.mu.Lock()
	if by != nil {
		by.sends = true
	}
	resumed := p.prepare(sig)
	err := p.post(i, t)
	if by != nil {
		by.sends = false
	}
	p.mu.Unlock()
	if resumed {
		p.reportChange(abi.CLD_CONTINUED, int(sigcont))
	}
	return err
}

// prepare is what stop signals and SIGCONT do when they are sent, whoever blocks or
// ignores them: each takes the others away, and SIGCONT goes on with a stopped
// process. True: the parent is to be told of that. The caller holds mu.
func (p *Process) prepare(sig int) bool {
	switch {
	case signal.Stop.Has(sig):
		p.flush(signal.Cont)
	case syscall.Signal(sig) == sigcont:
		p.flush(signal.Stop)
		return p.resume()
	}
	return false
}

// flush takes pending signals away. The caller holds mu.
func (p *Process) flush(s signal.Set) {
	p.pending.Remove(s)
	for _, t := range p.tasks {
		t.pending.Remove(s)
		t.recalc()
	}
}

// post makes a signal pending and tells who is to take it. The caller holds mu.
func (p *Process) post(i abi.Siginfo, t *Task) error {
	sig := int(i.Signo)
	if len(p.tasks) == 0 || p.exiting || t != nil && t.gone {
		return nil
	}
	if syscall.Signal(sig) == sigkill {
		p.exit(int32(sigkill))
		return nil
	}
	target := t
	if target == nil {
		target = p.taker(sig)
	}
	if p.ignored(sig, target) {
		return nil
	}
	q := &p.pending
	if t != nil {
		q = &t.pending
	}
	room := uint64(q.Len()) < p.limits[abi.RLIMIT_SIGPENDING].Cur
	if !room && sig >= abi.SIGRTMIN && i.Code != abi.SI_USER && i.Code < 0 {
		return syscall.EAGAIN
	}
	if !q.Add(i, room || sig < abi.SIGRTMIN) {
		return nil
	}
	p.sigList.Notify(poll.In)
	if target.blocks(sig) {
		return nil
	}
	target.recalc()
	target.notify()
	return nil
}

// ignored says whether a signal has no effect: one that is blocked always may have,
// later. The caller holds mu.
func (p *Process) ignored(sig int, t *Task) bool {
	return !t.mask.Has(sig) && p.actions[sig].Ignores(sig)
}

// taker is the thread that gets a signal of the process: the first where it does not
// block it, else any that does not, else the first. The caller holds mu.
func (p *Process) taker(sig int) *Task {
	for _, t := range p.tasks {
		if !t.blocks(sig) {
			return t
		}
	}
	return p.tasks[0]
}

// blocks says whether the thread would not notice sig now. The caller holds p.mu.
func (t *Task) blocks(sig int) bool { return t.mask.Has(sig) && !t.waitSet.Has(sig) }

// recalc works out whether there is something to do before user mode. The caller
// holds p.mu.
func (t *Task) recalc() {
	p := t.p
	due := (t.pending.Pending() | p.pending.Pending()) &^ (t.mask &^ t.waitSet)
	if due != 0 || p.exiting || t.killed.Load() || p.stop.sig != 0 && !t.stopped {
		t.work.Store(1)
	} else {
		t.work.Store(0)
	}
}

// notify makes the thread look at its work, wherever it is. The caller holds p.mu.
func (t *Task) notify() {
	if t.sends {
		return // it looks at work before user mode
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
	t.cpu.Kick()
}

// Force sends the thread a signal that it cannot escape, for what it has just done
// itself: where it is blocked or ignored, it kills.
func (t *Task) Force(i abi.Siginfo) {
	p := t.p
	sig := int(i.Signo)
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &p.actions[sig]
	if t.mask.Has(sig) || a.Handler == abi.SIG_IGN {
		*a = signal.Action{}
		t.mask &^= signal.Bit(sig)
	}
	t.pending.Add(i, true)
	t.recalc()
}

// Mask is the thread's signal mask.
func (t *Task) Mask() signal.Set { return t.mask }

// SetMask sets it; SIGKILL and SIGSTOP are never blocked.
func (t *Task) SetMask(m signal.Set) {
	if m&^signal.Unblockable == t.mask {
		return
	}
	p := t.p
	p.mu.Lock()
	t.setMask(m)
	p.mu.Unlock()
}

func (t *Task) setMask(m signal.Set) {
	m &^= signal.Unblockable
	newly := m &^ t.mask
	t.mask = m
	t.recalc()
	if retarget := t.p.pending.Pending() & newly; retarget != 0 {
		t.p.retarget(retarget)
	}
}

// retarget wakes threads for signals of the process that the one that was to take
// them no longer will. The caller holds mu.
func (p *Process) retarget(s signal.Set) {
	for s != 0 {
		sig := s.First()
		s &^= signal.Bit(sig)
		for _, t := range p.tasks {
			if !t.blocks(sig) && !t.gone {
				t.recalc()
				t.notify()
				break
			}
		}
	}
}

// SetSavedMask sets a mask for the system call under way, as ppoll, pselect,
// epoll_pwait and rt_sigsuspend do. The one before comes back when the call returns,
// after the handler of a signal that ended it.
func (t *Task) SetSavedMask(m signal.Set) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if !t.hasSaved {
		t.saved, t.hasSaved = t.mask, true
	}
	t.setMask(m)
}

// RestoreMask undoes SetSavedMask where no signal ended the call: at once.
func (t *Task) RestoreMask() {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.hasSaved {
		t.hasSaved = false
		t.setMask(t.saved)
	}
}

// Pending are the signals that wait for the thread to unblock them.
func (t *Task) Pending() signal.Set {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	return t.pending.Pending() | t.p.pending.Pending()
}

// Action is a signal's disposition.
func (p *Process) Action(sig int) signal.Action {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.actions[sig]
}

// SetAction sets it and returns the one before. A signal that is now ignored is no
// longer pending.
func (p *Process) SetAction(sig int, a signal.Action) signal.Action {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.actions[sig]
	a.Mask &^= signal.Unblockable
	p.actions[sig] = a
	if a.Ignores(sig) {
		p.flush(signal.Bit(sig))
	}
	return old
}

// TakeSignal takes a pending signal of s, for signalfd and rt_sigtimedwait; ok is
// false where there is none.
func (t *Task) TakeSignal(s signal.Set) (i abi.Siginfo, ok bool) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, ok = t.pending.Take(s); !ok {
		i, ok = p.pending.Take(s)
	}
	t.recalc()
	if ok {
		p.timers.taken(&i)
	}
	return i, ok
}

// WatchSignals and UnwatchSignals are for signalfd: w is told when a signal becomes
// pending for the process or one of its threads.
func (p *Process) WatchSignals(w *poll.Waiter) { p.sigList.Add(w) }

// UnwatchSignals ends that.
func (p *Process) UnwatchSignals(w *poll.Waiter) { p.sigList.Remove(w) }

// AltStack is the thread's alternate signal stack.
func (t *Task) AltStack() signal.Stack { return t.alt }

// SetAltStack sets it.
func (t *Task) SetAltStack(s signal.Stack) { t.alt = s }

// AwaitSignal is rt_sigtimedwait(2): it takes a pending signal of s, or waits for one
// without its handler being called. EAGAIN at the deadline, EINTR for another signal.
func (t *Task) AwaitSignal(s signal.Set, deadline time.Time) (abi.Siginfo, error) {
	if i, ok := t.TakeSignal(s); ok {
		return i, nil
	}
	p := t.p
	p.mu.Lock()
	t.waitSet = s
	t.recalc()
	p.mu.Unlock()
	err := t.Sleep(nil, deadline)
	p.mu.Lock()
	t.waitSet = 0
	t.recalc()
	p.mu.Unlock()
	if i, ok := t.TakeSignal(s); ok {
		return i, nil
	}
	if err == syscall.ETIMEDOUT {
		return abi.Siginfo{}, syscall.EAGAIN
	}
	return abi.Siginfo{}, syscall.EINTR
}
