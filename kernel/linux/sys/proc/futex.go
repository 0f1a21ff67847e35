package proc

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/futex"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
)

func futexCall(t *task.Task, a *sys.Args) (uint64, error) {
	op := int(int32(a[1]))
	cmd := op & abi.FUTEX_CMD_MASK
	shared := op&abi.FUTEX_PRIVATE_FLAG == 0
	addr, val, addr2, val3 := a[0], uint32(a[2]), a[4], uint32(a[5])
	f, m := t.Kernel().Futexes, t.Mem()
	if op&abi.FUTEX_CLOCK_REALTIME != 0 {
		switch cmd {
		case abi.FUTEX_WAIT_BITSET, abi.FUTEX_WAIT_REQUEUE_PI, abi.FUTEX_LOCK_PI2:
		default:
			return 0, syscall.ENOSYS
		}
	}
	switch cmd {
	case abi.FUTEX_WAIT:
		return futexWait(t, a, shared, abi.FUTEX_BITSET_MATCH_ANY, false)
	case abi.FUTEX_WAIT_BITSET:
		return futexWait(t, a, shared, val3, true)
	case abi.FUTEX_WAKE:
		n, err := f.Wake(m, addr, shared, wakes(val), abi.FUTEX_BITSET_MATCH_ANY)
		return uint64(n), err
	case abi.FUTEX_WAKE_BITSET:
		n, err := f.Wake(m, addr, shared, wakes(val), val3)
		return uint64(n), err
	case abi.FUTEX_REQUEUE, abi.FUTEX_CMP_REQUEUE:
		wake, move := int(int32(val)), int(int32(a[3]))
		if wake < 0 || move < 0 {
			return 0, syscall.EINVAL
		}
		woken, moved, err := f.Requeue(m, addr, addr2, shared, wake, move, cmd == abi.FUTEX_CMP_REQUEUE, val3)
		if cmd == abi.FUTEX_CMP_REQUEUE {
			woken += moved
		}
		return uint64(woken), err
	case abi.FUTEX_WAKE_OP:
		n, err := f.WakeOp(m, addr, addr2, shared, wakes(val), wakes(uint32(a[3])), val3)
		return uint64(n), err
	case abi.FUTEX_LOCK_PI, abi.FUTEX_LOCK_PI2, abi.FUTEX_TRYLOCK_PI:
		return futexLock(t, a, shared, cmd, op&abi.FUTEX_CLOCK_REALTIME != 0)
	case abi.FUTEX_UNLOCK_PI:
		return 0, f.UnlockPI(m, addr, shared, uint32(t.TID()))
	}
	return 0, syscall.ENOSYS
}

// wakes is how many a wake is for: at least one, as Linux has it.
func wakes(v uint32) int { return max(1, int(int32(v))) }

// futexWait is FUTEX_WAIT, whose timeout is relative, and FUTEX_WAIT_BITSET, whose is
// a point in time.
func futexWait(t *task.Task, a *sys.Args, shared bool, bitset uint32, abs bool) (uint64, error) {
	var deadline time.Time
	if a[3] != 0 {
		d, err := duration(t, a[3])
		if err != nil {
			return 0, err
		}
		switch {
		case !abs:
			deadline = task.After(d)
		case a[1]&abi.FUTEX_CLOCK_REALTIME != 0:
			deadline = task.AtRealtime(d)
		default:
			deadline = task.AtMonotonic(d)
		}
	}
	addr, val := a[0], uint32(a[2])
	err := t.Kernel().Futexes.Wait(t, &t.Futex, t.Mem(), addr, shared, val, bitset, deadline)
	if err == abi.ERESTARTSYS && a[3] != 0 {
		// A relative time must not begin anew.
		t.SetRestart(func(t *task.Task) (uint64, error) { return futexAgain(t, addr, shared, val, bitset, deadline) })
		err = abi.ERESTART_RESTARTBLOCK
	}
	return 0, err
}

func futexAgain(t *task.Task, addr uint64, shared bool, val, bitset uint32, deadline time.Time) (uint64, error) {
	err := t.Kernel().Futexes.Wait(t, &t.Futex, t.Mem(), addr, shared, val, bitset, deadline)
	if err == abi.ERESTARTSYS {
		t.SetRestart(func(t *task.Task) (uint64, error) { return futexAgain(t, addr, shared, val, bitset, deadline) })
		err = abi.ERESTART_RESTARTBLOCK
	}
	return 0, err
}

// futexLock is FUTEX_LOCK_PI, whose timeout is always on CLOCK_REALTIME, LOCK_PI2 and
// TRYLOCK_PI.
func futexLock(t *task.Task, a *sys.Args, shared bool, cmd int, realtime bool) (uint64, error) {
	var deadline time.Time
	if a[3] != 0 && cmd != abi.FUTEX_TRYLOCK_PI {
		d, err := duration(t, a[3])
		if err != nil {
			return 0, err
		}
		if cmd == abi.FUTEX_LOCK_PI || realtime {
			deadline = task.AtRealtime(d)
		} else {
			deadline = task.AtMonotonic(d)
		}
	}
	k, p := t.Kernel(), t.Proc()
	alive := func(tid uint32) bool {
		o := k.Task(int(tid))
		return o != nil && (o.Proc() == p || shared)
	}
	err := k.Futexes.LockPI(t, &t.Futex, t.Mem(), a[0], shared, uint32(t.TID()), cmd == abi.FUTEX_TRYLOCK_PI, alive, deadline)
	if err == abi.ERESTARTSYS {
		err = abi.ERESTARTNOINTR
	}
	return 0, err
}

func setRobustList(t *task.Task, a *sys.Args) (uint64, error) {
	if a[1] != futex.HeadSize {
		return 0, syscall.EINVAL
	}
	t.RobustList.Store(a[0])
	return 0, nil
}

func getRobustList(t *task.Task, a *sys.Args) (uint64, error) {
	o := t
	if tid := number(a[0]); tid != 0 && tid != t.TID() {
		var err error
		if o, err = thread(t, 0, tid); err != nil {
			return 0, err
		}
		if o.Proc() != t.Proc() {
			return 0, syscall.EPERM
		}
		// Another thread's may change while it is read, which is no harm: the word is one.
	}
	var b [8]byte
	le.PutUint64(b[:], futex.HeadSize)
	if err := t.Mem().CopyOut(a[2], b[:]); err != nil {
		return 0, err
	}
	le.PutUint64(b[:], o.RobustList.Load())
	return out(t, a[1], b[:])
}
