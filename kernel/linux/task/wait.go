package task

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/vfs/poll"
)

// childReport is a change of state that has not been waited for.
type childReport struct {
	code int32 // CLD_STOPPED, CLD_CONTINUED; 0: none
	sig  int32
}

// reportChange tells p's parent that it has stopped or goes on.
func (p *Process) reportChange(code int32, sig int) {
	k := p.k
	k.mu.Lock()
	defer k.mu.Unlock()
	up := p.parent
	if p.zombie || up == nil || up == k.init {
		return
	}
	p.report = childReport{code, int32(sig)}
	up.mu.Lock()
	if a := &up.actions[sigchld]; a.Flags&abi.SA_NOCLDSTOP == 0 {
		i := abi.Siginfo{Signo: int32(sigchld), Code: code, PID: int32(p.pid), UID: p.uid(), Status: int32(sig)}
		_ = up.post(i, nil)
	}
	up.mu.Unlock()
	up.childEvent.Notify(poll.In)
}

// WaitFor says which children a wait is for, and what of them.
type WaitFor struct {
	Kind    int // P_ALL, P_PID, P_PGID
	ID      int
	Options int // WNOHANG, WEXITED, WSTOPPED, WCONTINUED, WNOWAIT, WALL, WCLONE
}

// Waited is what a wait has found. PID is 0 where WNOHANG found nothing.
type Waited struct {
	PID    int
	UID    uint32
	Code   int32 // CLD_*
	Status int32 // exit code or signal
	Wait   int32 // as wait4(2) tells it
	Usage  Usage
}

// Wait waits for a child: ECHILD where there is none that fits.
func (t *Task) Wait(w WaitFor) (Waited, error) {
	k, p := t.k, t.p
	c := make(chan struct{}, 1)
	wt := waiter(c)
	p.childEvent.Add(wt)
	defer p.childEvent.Remove(wt)
	for {
		k.mu.Lock()
		r, any := k.look(p, w)
		k.mu.Unlock()
		switch {
		case r.PID != 0:
			return r, nil
		case !any:
			return r, syscall.ECHILD
		case w.Options&abi.WNOHANG != 0:
			return r, nil
		}
		if err := t.Sleep(c, time.Time{}); err != nil {
			return r, err
		}
	}
}

// look finds a child with news; any is false where there is none to wait for. The
// caller holds mu.
func (k *Kernel) look(p *Process, w WaitFor) (r Waited, any bool) {
	for _, c := range p.children {
		if !w.fits(c) {
			continue
		}
		any = true
		if c.zombie {
			if w.Options&abi.WEXITED == 0 {
				continue
			}
			r = c.waited()
			if w.Options&abi.WNOWAIT == 0 {
				k.reap(c)
			}
			return r, true
		}
		n := c.report
		if n.code == abi.CLD_STOPPED && w.Options&abi.WSTOPPED != 0 || n.code == abi.CLD_CONTINUED && w.Options&abi.WCONTINUED != 0 {
			r = Waited{PID: c.pid, UID: c.uid(), Code: n.code, Status: n.sig, Wait: n.sig<<8 | 0x7f}
			if n.code == abi.CLD_CONTINUED {
				r.Wait = 0xffff
			}
			if w.Options&abi.WNOWAIT == 0 {
				c.report = childReport{}
			}
			return r, true
		}
	}
	return r, any
}

// fits says whether the wait is for child c.
func (w *WaitFor) fits(c *Process) bool {
	switch w.Kind {
	case abi.P_PID:
		if c.pid != w.ID {
			return false
		}
	case abi.P_PGID:
		if c.pgid != w.ID {
			return false
		}
	}
	clone := c.exitSignal != int(sigchld)
	return w.Options&abi.WALL != 0 || clone == (w.Options&abi.WCLONE != 0)
}

func (p *Process) waited() Waited {
	code, value := exitInfo(p.status)
	u := p.ownUsage()
	u.add(p.childUsed)
	return Waited{PID: p.pid, UID: p.uid(), Code: code, Status: value, Wait: p.status, Usage: u}
}

// ticks is d in units of USER_HZ.
func ticks(d time.Duration) int64 { return int64(d / (time.Second / abi.USER_HZ)) }

// Ended is closed once the process has ended; EndedReady, WatchEnd and UnwatchEnd are
// the same for poll.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// EndedReady is In once the process has ended.
func (p *Process) EndedReady() poll.Events {
	select {
	case <-p.ended:
		return poll.In
	default:
		return 0
	}
}

// WatchEnd has w told of the end.
func (p *Process) WatchEnd(w *poll.Waiter) { p.endedList.Add(w) }

// UnwatchEnd ends that.
func (p *Process) UnwatchEnd(w *poll.Waiter) { p.endedList.Remove(w) }
