package task

import (
	"syscall"

	"osv/kernel/linux/abi"
)

// signalGroup sends a signal to a process group. The caller holds mu.
func (k *Kernel) signalGroup(pgid int, i abi.Siginfo, except *Process) (n int) {
	for _, q := range k.procs {
		if q.pgid != pgid || q == except || q == k.init || q.zombie {
			continue
		}
		q.mu.Lock()
		resumed := q.prepare(int(i.Signo))
		_ = q.post(i, nil)
		q.mu.Unlock()
		_ = resumed // the parent is the one that hangs up, or sees it by waiting
		n++
	}
	return n
}

// Members are the processes of a group, those that have ended left out.
func (k *Kernel) Members(pgid int) []*Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []*Process
	for _, q := range k.procs {
		if q.pgid == pgid && q != k.init && !q.zombie {
			out = append(out, q)
		}
	}
	return out
}

// SignalGroup sends a signal to all processes of a group, from the kernel (a
// terminal's keys). ESRCH where there is none.
func (k *Kernel) SignalGroup(pgid int, i abi.Siginfo) error {
	m := k.Members(pgid)
	if len(m) == 0 {
		return syscall.ESRCH
	}
	for _, q := range m {
		_ = q.Send(i)
	}
	return nil
}

// GroupOrphaned says whether p's process group is orphaned, so that job control must
// not stop it.
func (p *Process) GroupOrphaned() bool { return p.k.orphaned(p) }

// SetSID makes p the leader of a new session and group without a terminal: EPERM where
// it leads a group already.
func (p *Process) SetSID() (int, error) {
	k := p.k
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, q := range k.procs {
		if q.pgid == p.pid {
			return 0, syscall.EPERM
		}
	}
	k.dropID(p.pgid)
	k.dropID(p.session.ID)
	p.pgid, p.session = p.pid, &Session{ID: p.pid}
	k.useID(p.pid)
	k.useID(p.pid)
	return p.pid, nil
}

// SetPGID moves a process into a group of the caller's session: setpgid(2). pid and
// pgid 0 are the caller's.
func (p *Process) SetPGID(pid, pgid int) error {
	k := p.k
	if pid == 0 {
		pid = p.pid
	}
	if pgid == 0 {
		pgid = pid
	}
	if pgid < 0 {
		return syscall.EINVAL
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	q := k.procs[pid]
	switch {
	case q == nil || q != p && q.parent != p:
		return syscall.ESRCH
	case q != p && q.session != p.session:
		return syscall.EPERM
	case q != p && q.execed:
		return syscall.EACCES
	case q.session.ID == q.pid:
		return syscall.EPERM
	}
	if pgid != pid {
		found := false
		for _, o := range k.procs {
			if o.pgid == pgid && o.session == p.session {
				found = true
				break
			}
		}
		if !found {
			return syscall.EPERM
		}
	}
	k.dropID(q.pgid)
	q.pgid = pgid
	k.useID(pgid)
	return nil
}
