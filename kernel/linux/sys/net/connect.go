package net

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs/poll"
)

func connect(t *task.Task, a *sys.Args) (uint64, error) {
	o, s, err := open(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	to, err := address(t, a[1], a[2])
	if err != nil {
		return 0, err
	}
	err = s.Connect(caller{t}, &to)
	if err == nil || o.Nonblock() {
		return 0, err
	}
	_, w := s.Timeouts()
	deadline := after(w)
	switch err {
	case syscall.EINPROGRESS, syscall.EALREADY: // on its way, perhaps since an earlier call
		was := err
		err = fd.Retry(t, s, poll.Out, deadline, s.Connected)
		if err == syscall.EAGAIN { // the time is over, and it goes on
			err = was
		}
	case syscall.EAGAIN: // no room in an AF_UNIX listener's queue
		err = fd.Retry(t, s, poll.Out, deadline, func() error { return s.Connect(caller{t}, &to) })
	}
	return 0, restart(err, deadline)
}

// restart is what a connect returns that a signal has interrupted.
func restart(err error, deadline time.Time) error {
	if err == abi.ERESTARTSYS && !deadline.IsZero() {
		return syscall.EINTR
	}
	return err
}
