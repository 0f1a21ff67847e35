package proc

import (
	"bytes"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
)

// commSize is the size of a thread's name with its zero byte.
const commSize = 16

func prctl(t *task.Task, a *sys.Args) (uint64, error) {
	p := t.Proc()
	switch number(a[0]) {
	case abi.PR_SET_NAME:
		var b [commSize]byte
		// Up to the zero byte alone need be readable.
		for n := range commSize - 1 {
			if err := t.Mem().CopyIn(b[n:n+1], a[1]+uint64(n)); err != nil {
				return 0, err
			}
			if b[n] == 0 {
				break
			}
		}
		t.SetComm(string(b[:bytes.IndexByte(b[:], 0)]))
		return 0, nil
	case abi.PR_GET_NAME:
		var b [commSize]byte
		copy(b[:commSize-1], t.Comm())
		return out(t, a[1], b[:])
	case abi.PR_SET_PDEATHSIG:
		if a[1] > abi.NSIG {
			return 0, syscall.EINVAL
		}
		t.SetPDeathSignal(int32(a[1]))
		return 0, nil
	case abi.PR_GET_PDEATHSIG:
		return putInt(t, a[1], uint32(t.PDeathSignal()))
	case abi.PR_GET_DUMPABLE:
		return flag(p, task.Dumpable), nil
	case abi.PR_SET_DUMPABLE:
		return setFlag(p, task.Dumpable, a[1])
	case abi.PR_GET_KEEPCAPS:
		return flag(p, task.KeepCaps), nil
	case abi.PR_SET_KEEPCAPS:
		return setFlag(p, task.KeepCaps, a[1])
	case abi.PR_SET_NO_NEW_PRIVS:
		if a[1] != 1 || a[2] != 0 || a[3] != 0 || a[4] != 0 {
			return 0, syscall.EINVAL
		}
		return setFlag(p, task.NoNewPrivs, 1)
	case abi.PR_GET_NO_NEW_PRIVS:
		if a[1] != 0 || a[2] != 0 || a[3] != 0 || a[4] != 0 {
			return 0, syscall.EINVAL
		}
		return flag(p, task.NoNewPrivs), nil
	case abi.PR_SET_CHILD_SUBREAPER:
		p.SetFlag(task.Subreaper, a[1] != 0)
		return 0, nil
	case abi.PR_GET_CHILD_SUBREAPER:
		return putInt(t, a[1], uint32(flag(p, task.Subreaper)))
	case abi.PR_SET_THP_DISABLE:
		p.SetFlag(task.THPOff, a[1] != 0)
		return 0, nil
	case abi.PR_GET_THP_DISABLE:
		return flag(p, task.THPOff), nil
	case abi.PR_SET_TIMERSLACK:
		if t.TimerSlack = a[1]; int64(a[1]) <= 0 {
			t.TimerSlack = task.DefaultSlack
		}
		return 0, nil
	case abi.PR_GET_TIMERSLACK:
		return t.TimerSlack, nil
	case abi.PR_GET_TIMING, abi.PR_GET_SECUREBITS, abi.PR_GET_SECCOMP, abi.PR_MCE_KILL:
		return 0, nil
	case abi.PR_GET_TID_ADDRESS:
		var b [8]byte
		le.PutUint64(b[:], t.ClearChildTID)
		return out(t, a[1], b[:])
	case abi.PR_CAPBSET_READ:
		if a[1] > abi.CAP_LAST_CAP {
			return 0, syscall.EINVAL
		}
		return t.Creds().Bounding >> a[1] & 1, nil
	case abi.PR_CAPBSET_DROP:
		return capDrop(t, a[1])
	case abi.PR_CAP_AMBIENT:
		return ambient(t, a)
	}
	// PR_SET_VMA among them: names of anonymous memory are an option of Linux too.
	return 0, syscall.EINVAL
}

func putInt(t *task.Task, addr uint64, v uint32) (uint64, error) {
	var b [4]byte
	le.PutUint32(b[:], v)
	return out(t, addr, b[:])
}

func flag(p *task.Process, f task.Flag) uint64 {
	if p.Flag(f) {
		return 1
	}
	return 0
}

func setFlag(p *task.Process, f task.Flag, v uint64) (uint64, error) {
	if v > 1 {
		return 0, syscall.EINVAL
	}
	p.SetFlag(f, v == 1)
	return 0, nil
}

func capDrop(t *task.Task, n uint64) (uint64, error) {
	old := t.Creds()
	switch {
	case !old.Has(capSetPCap):
		return 0, syscall.EPERM
	case n > abi.CAP_LAST_CAP:
		return 0, syscall.EINVAL
	}
	c := old.Clone()
	c.Bounding &^= 1 << n
	t.SetCreds(c)
	return 0, nil
}

// What PR_CAP_AMBIENT does.
const (
	ambientIsSet = 1 + iota
	ambientRaise
	ambientLower
	ambientClear
)

func ambient(t *task.Task, a *sys.Args) (uint64, error) {
	old := t.Creds()
	c := old.Clone()
	if a[1] == ambientClear {
		if a[2] != 0 {
			return 0, syscall.EINVAL
		}
		c.Ambient = 0
		t.SetCreds(c)
		return 0, nil
	}
	if a[2] > abi.CAP_LAST_CAP {
		return 0, syscall.EINVAL
	}
	bit := uint64(1) << a[2]
	switch a[1] {
	case ambientIsSet:
		if old.Ambient&bit != 0 {
			return 1, nil
		}
		return 0, nil
	case ambientRaise:
		if old.Permitted&old.Inheritable&bit == 0 {
			return 0, syscall.EPERM
		}
		c.Ambient |= bit
	case ambientLower:
		c.Ambient &^= bit
	default:
		return 0, syscall.EINVAL
	}
	t.SetCreds(c)
	return 0, nil
}
