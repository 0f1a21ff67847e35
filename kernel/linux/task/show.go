package task

import (
	"syscall"

	"osv/kernel/linux/signal"
	"osv/kernel/vfs"
)

// What /proc shows of threads and processes. Any goroutine may ask.

// SignalState is what is pending for the thread and for its process, what it blocks,
// and how many signals are queued.
func (t *Task) SignalState() (own, shared, mask signal.Set, queued int) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	queued = p.pending.Len()
	for _, o := range p.tasks {
		queued += o.pending.Len()
	}
	return t.pending.Pending(), p.pending.Pending(), t.mask, queued
}

// Dirs are the thread's directories.
func (t *Task) Dirs() *vfs.Dirs { return t.dirs.Load() }

// Umask is its file mode creation mask.
func (t *Task) Umask() uint32 { return t.Dirs().Umask() }

// LastID is the number given last.
func (k *Kernel) LastID() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lastID
}

// OOMScoreAdj is of /proc/PID/oom_score_adj; it is told, and has no effect.
func (p *Process) OOMScoreAdj() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.oomAdj
}

// SetOOMScoreAdj sets it: EINVAL beyond 1000.
func (p *Process) SetOOMScoreAdj(n int) error {
	if n < -1000 || n > 1000 {
		return syscall.EINVAL
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oomAdj = n
	return nil
}
