package proc

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
)

// putInterval writes a struct itimerval or itimerspec: the interval, then what is left.
func putInterval(t *task.Task, addr uint64, left, interval time.Duration, put func([]byte, time.Duration)) error {
	var b [2 * abi.TimespecSize]byte
	put(b[:], interval)
	put(b[abi.TimespecSize:], left)
	return t.Mem().CopyOut(addr, b[:])
}

// getInterval reads one.
func getInterval(t *task.Task, addr uint64, get func([]byte) (time.Duration, bool)) (value, interval time.Duration, err error) {
	var b [2 * abi.TimespecSize]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return 0, 0, err
	}
	interval, ok := get(b[:])
	value, ok2 := get(b[abi.TimespecSize:])
	if !ok || !ok2 {
		return 0, 0, syscall.EINVAL
	}
	return value, interval, nil
}

// putTimeval rounds up, so that a timer that runs is never told as stopped.
func putTimeval(b []byte, d time.Duration) {
	abi.PutTimeval(b, d+time.Microsecond-1)
}

func getitimer(t *task.Task, a *sys.Args) (uint64, error) {
	which := number(a[0])
	if which < 0 || which > abi.ITIMER_PROF {
		return 0, syscall.EINVAL
	}
	left, interval := t.Proc().ITimer(which)
	return 0, putInterval(t, a[1], left, interval, putTimeval)
}

func setitimer(t *task.Task, a *sys.Args) (uint64, error) {
	which := number(a[0])
	if which < 0 || which > abi.ITIMER_PROF {
		return 0, syscall.EINVAL
	}
	var value, interval time.Duration
	if a[1] != 0 {
		var err error
		if value, interval, err = getInterval(t, a[1], abi.Timeval); err != nil {
			return 0, err
		}
	}
	left, old := t.Proc().SetITimer(which, value, interval)
	if a[2] != 0 {
		return 0, putInterval(t, a[2], left, old, putTimeval)
	}
	return 0, nil
}

func alarm(t *task.Task, a *sys.Args) (uint64, error) {
	left, _ := t.Proc().SetITimer(abi.ITIMER_REAL, time.Duration(uint32(a[0]))*time.Second, 0)
	s := left / time.Second
	// Linux rounds to the nearest, but never down to 0.
	if r := left % time.Second; r >= time.Second/2 || s == 0 && r > 0 {
		s++
	}
	return uint64(s), nil
}

// sigeventSize is the size of struct sigevent in bytes.
const sigeventSize = 64

func timerCreate(t *task.Task, a *sys.Args) (uint64, error) {
	id := int32(a[0])
	if noTimers(id) {
		return 0, syscall.EOPNOTSUPP
	}
	c, err := clock(t, id)
	if err != nil {
		return 0, err
	}
	notify, sig, value, has := abi.SIGEV_SIGNAL, int(syscall.SIGALRM), uint64(0), false
	var to *task.Task
	if a[1] != 0 {
		var b [sigeventSize]byte
		if err := t.Mem().CopyIn(b[:], a[1]); err != nil {
			return 0, err
		}
		value, has = le.Uint64(b[0:]), true
		sig, notify = int(int32(le.Uint32(b[8:]))), int(int32(le.Uint32(b[12:])))
		switch notify {
		case abi.SIGEV_NONE:
		case abi.SIGEV_SIGNAL, abi.SIGEV_THREAD, abi.SIGEV_THREAD_ID:
			if sig <= 0 || sig > abi.NSIG {
				return 0, syscall.EINVAL
			}
		default:
			return 0, syscall.EINVAL
		}
		if notify == abi.SIGEV_THREAD_ID {
			if to, err = thread(t, t.Proc().PID(), int(int32(le.Uint32(b[16:])))); err != nil {
				return 0, syscall.EINVAL
			}
		}
	}
	n, err := t.NewTimer(c, notify, sig, value, has, to)
	if err != nil {
		return 0, err
	}
	var b [4]byte
	le.PutUint32(b[:], uint32(n))
	if err := t.Mem().CopyOut(a[2], b[:]); err != nil {
		return 0, firstErr(err, t.Proc().DeleteTimer(n))
	}
	return 0, nil
}

func firstErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func timerSettime(t *task.Task, a *sys.Args) (uint64, error) {
	if a[2] == 0 {
		return 0, syscall.EINVAL
	}
	value, interval, err := getInterval(t, a[2], abi.Timespec)
	if err != nil {
		return 0, err
	}
	left, old, err := t.Proc().SetTimer(int32(a[0]), value, interval, a[1]&abi.TIMER_ABSTIME != 0)
	if err != nil {
		return 0, err
	}
	if a[3] != 0 {
		return 0, putInterval(t, a[3], left, old, abi.PutTimespec)
	}
	return 0, nil
}

func timerGettime(t *task.Task, a *sys.Args) (uint64, error) {
	left, interval, err := t.Proc().Timer(int32(a[0]))
	if err != nil {
		return 0, err
	}
	return 0, putInterval(t, a[1], left, interval, abi.PutTimespec)
}

func timerGetoverrun(t *task.Task, a *sys.Args) (uint64, error) {
	n, err := t.Proc().Overrun(int32(a[0]))
	return uint64(n), err
}

func timerDelete(t *task.Task, a *sys.Args) (uint64, error) {
	return 0, t.Proc().DeleteTimer(int32(a[0]))
}
