// Package task is Linux's processes and threads: a Task is a goroutine that runs a
// user program and serves its system calls, a Process what its tasks share, a Kernel
// all of them.
//
// Spec: Linux 6.1 (kernel/fork.c, exit.c, signal.c, fs/exec.c, posix-timers.c) as
// man-pages 6.03 describe it. Who may use it: kernel/linux/sys and what is below it,
// kernel/linux. It knows no system call by number but restart_syscall: a Kernel is
// given a function that dispatches them, and a maker of CPUs, so that tests run
// programs that are Go functions.
//
// Locks, outermost first: Kernel.mu (the tree of processes), Process.mu (its threads
// and their signals), then those of timers, poll lists and futexes. Nothing waits with
// one of them held.
//
// Start reading at Task.run, then Process.send and Task.deliver.
package task

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
)

// Sleeper is a thread that may wait; Task is one. Waiting is in one place so that
// signals, timeouts and exit end every wait.
type Sleeper interface {
	// Sleep returns nil once c has been signalled (a channel of capacity 1, or closed),
	// syscall.ETIMEDOUT at the deadline (the zero time is none), abi.ERESTARTSYS where
	// a signal is to be handled or the task is to die. What is ready already wins.
	Sleep(c <-chan struct{}, deadline time.Time) error
}

var _ Sleeper = (*Task)(nil)

// Sleep is of Sleeper. It allocates nothing.
func (t *Task) Sleep(c <-chan struct{}, deadline time.Time) error {
	select {
	case <-c:
		return nil
	default:
	}
	if t.work.Load() != 0 {
		return abi.ERESTARTSYS
	}
	var timeout <-chan time.Time
	if !deadline.IsZero() {
		d := time.Until(deadline)
		if d <= 0 {
			return syscall.ETIMEDOUT
		}
		t.timer.Reset(d)
		defer t.timer.Stop()
		timeout = t.timer.C
	}
	t.idle()
	defer t.busy()
	for {
		select {
		case <-c:
			return nil
		case <-timeout:
			return syscall.ETIMEDOUT
		case <-t.wake:
			if t.work.Load() == 0 {
				continue
			}
			// As in wait_event_interruptible, whose condition is looked at first.
			select {
			case <-c:
				return nil
			default:
				return abi.ERESTARTSYS
			}
		}
	}
}

// SleepKillable waits as Sleep without a deadline, but only the end of the task ends
// it early: with EINTR.
func (t *Task) SleepKillable(c <-chan struct{}) error {
	t.idle()
	defer t.busy()
	for {
		select {
		case <-c:
			return nil
		case <-t.wake:
			if t.dying() {
				return syscall.EINTR
			}
		}
	}
}

// Interrupted says whether a wait would end at once with ERESTARTSYS.
func (t *Task) Interrupted() bool { return t.work.Load() != 0 }

// dying says whether the task is to end, whatever its signals say.
func (t *Task) dying() bool {
	if t.killed.Load() {
		return true
	}
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	return t.p.exiting
}

// SleepUntil waits for a point in time; ETIMEDOUT is when it has come.
func (t *Task) SleepUntil(deadline time.Time) error { return t.Sleep(nil, deadline) }
