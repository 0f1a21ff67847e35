package proc

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// who is a thread by its number, 0 the caller: ESRCH.
func who(t *task.Task, tid int) (*task.Task, error) {
	switch {
	case tid < 0:
		return nil, syscall.EINVAL
	case tid == 0:
		return t, nil
	}
	return thread(t, 0, tid)
}

func schedYield(t *task.Task, _ *sys.Args) (uint64, error) {
	t.Yield()
	return 0, nil
}

func schedGetaffinity(t *task.Task, a *sys.Args) (uint64, error) {
	n := uint32(a[1])
	if n%8 != 0 || n < 8 {
		return 0, syscall.EINVAL
	}
	o, err := who(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	var b [8]byte
	le.PutUint64(b[:], o.Affinity())
	return 8, t.Mem().CopyOut(a[2], b[:])
}

func schedSetaffinity(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := who(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	var b [8]byte
	if err := t.Mem().CopyIn(b[:min(uint64(uint32(a[1])), 8)], a[2]); err != nil {
		return 0, err
	}
	if !o.SetAffinity(le.Uint64(b[:])) {
		return 0, syscall.EINVAL
	}
	return 0, nil
}

// realtime says whether a policy has priorities, known whether there is one.
func realtime(policy int32) bool { return policy == abi.SCHED_FIFO || policy == abi.SCHED_RR }

func known(policy int32) bool {
	switch policy {
	case abi.SCHED_OTHER, abi.SCHED_FIFO, abi.SCHED_RR, abi.SCHED_BATCH, abi.SCHED_IDLE:
		return true
	}
	return false
}

// capSysNice is CAP_SYS_NICE.
const capSysNice = vfs.Cap(23)

// setPolicy is what all the calls that set one check.
func setPolicy(t, o *task.Task, policy, priority int32, reset bool) error {
	switch {
	case !known(policy), realtime(policy) && (priority < 1 || priority > 99), !realtime(policy) && priority != 0:
		return syscall.EINVAL
	case realtime(policy) && !t.Creds().Has(capSysNice):
		return syscall.EPERM
	}
	o.SetPolicy(policy, priority, reset)
	return nil
}

func schedGetscheduler(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := who(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	policy, _, reset := o.Policy()
	if reset {
		policy |= abi.SCHED_RESET_ON_FORK
	}
	return uint64(policy), nil
}

func schedSetscheduler(t *task.Task, a *sys.Args) (uint64, error) {
	policy := int32(a[1])
	reset := policy >= 0 && policy&abi.SCHED_RESET_ON_FORK != 0
	if policy < 0 || a[2] == 0 {
		return 0, syscall.EINVAL
	}
	return setParam(t, number(a[0]), policy&^abi.SCHED_RESET_ON_FORK, reset, a[2])
}

// setParam sets a policy (-1: the one there is) with the priority at addr.
func setParam(t *task.Task, tid int, policy int32, reset bool, addr uint64) (uint64, error) {
	var b [4]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return 0, err
	}
	o, err := who(t, tid)
	if err != nil {
		return 0, err
	}
	if policy < 0 {
		policy, _, reset = o.Policy()
	}
	return 0, setPolicy(t, o, policy, int32(le.Uint32(b[:])), reset)
}

func schedSetparam(t *task.Task, a *sys.Args) (uint64, error) {
	if a[1] == 0 {
		return 0, syscall.EINVAL
	}
	return setParam(t, number(a[0]), -1, false, a[1])
}

func schedGetparam(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := who(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	if a[1] == 0 {
		return 0, syscall.EINVAL
	}
	_, priority, _ := o.Policy()
	var b [4]byte
	le.PutUint32(b[:], uint32(priority))
	return out(t, a[1], b[:])
}

// attrSize is the size of struct sched_attr in its first version.
const attrSize = 48

func schedGetattr(t *task.Task, a *sys.Args) (uint64, error) {
	size := uint32(a[2])
	if a[1] == 0 || size < attrSize || size > 4096 || a[3] != 0 {
		return 0, syscall.EINVAL
	}
	o, err := who(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	var b [attrSize]byte
	policy, priority, reset := o.Policy()
	le.PutUint32(b[0:], attrSize)
	le.PutUint32(b[4:], uint32(policy))
	if reset {
		b[8] = 1
	}
	le.PutUint32(b[16:], uint32(o.Nice()))
	le.PutUint32(b[20:], uint32(priority))
	return out(t, a[1], b[:])
}

func schedSetattr(t *task.Task, a *sys.Args) (uint64, error) {
	if a[1] == 0 || a[2] != 0 {
		return 0, syscall.EINVAL
	}
	var b [attrSize]byte
	if err := t.Mem().CopyIn(b[:], a[1]); err != nil {
		return 0, err
	}
	if size := le.Uint32(b[0:]); size != 0 && size < attrSize || size > 4096 {
		return 0, syscall.E2BIG
	}
	o, err := who(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	if err := setPolicy(t, o, int32(le.Uint32(b[4:])), int32(le.Uint32(b[20:])), le.Uint64(b[8:])&1 != 0); err != nil {
		return 0, err
	}
	if n := int32(le.Uint32(b[16:])); !realtime(int32(le.Uint32(b[4:]))) {
		return 0, renice(t, o, n)
	}
	return 0, nil
}

func schedPriorityMax(_ *task.Task, a *sys.Args) (uint64, error) {
	switch p := int32(a[0]); {
	case realtime(p):
		return 99, nil
	case known(p) || p == schedDeadline:
		return 0, nil
	}
	return 0, syscall.EINVAL
}

// schedDeadline is a policy that threads cannot have here.
const schedDeadline = 6

func schedPriorityMin(_ *task.Task, a *sys.Args) (uint64, error) {
	switch p := int32(a[0]); {
	case realtime(p):
		return 1, nil
	case known(p) || p == schedDeadline:
		return 0, nil
	}
	return 0, syscall.EINVAL
}

func schedRRInterval(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := who(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	d := time.Duration(0)
	if policy, _, _ := o.Policy(); policy == abi.SCHED_RR {
		d = 100 * time.Millisecond
	} else if policy != abi.SCHED_FIFO {
		d = coarse
	}
	return 0, putTimespec(t, a[1], d)
}

// renice sets a nice value, within the rules of setpriority(2): EACCES.
func renice(t, o *task.Task, n int32) error {
	n = min(max(n, -20), 19)
	if n < o.Nice() && !t.Creds().Has(capSysNice) && n < 20-int32(min(t.Proc().Limit(abi.RLIMIT_NICE).Cur, 40)) {
		return syscall.EACCES
	}
	o.SetNice(n)
	return nil
}

// Whom getpriority(2) is about.
const (
	prioProcess = 0
	prioPgrp    = 1
	prioUser    = 2
)

// those are the threads that getpriority or setpriority is about.
func those(t *task.Task, a *sys.Args) ([]*task.Task, error) {
	which, id := number(a[0]), number(a[1])
	var list []*task.Task
	switch which {
	case prioProcess:
		o, err := who(t, id)
		if err != nil {
			return nil, syscall.ESRCH
		}
		return []*task.Task{o}, nil
	case prioPgrp:
		if id == 0 {
			id = t.Proc().PGID()
		}
		for _, p := range t.Kernel().Members(id) {
			list = append(list, p.Threads()...)
		}
	case prioUser:
		uid := uint32(id)
		if id == 0 {
			uid = t.Creds().UID
		}
		for _, p := range t.Kernel().Processes() {
			if p.Creds().UID == uid {
				list = append(list, p.Threads()...)
			}
		}
	default:
		return nil, syscall.EINVAL
	}
	if len(list) == 0 {
		return nil, syscall.ESRCH
	}
	return list, nil
}

func getpriority(t *task.Task, a *sys.Args) (uint64, error) {
	list, err := those(t, a)
	if err != nil {
		return 0, err
	}
	best := int32(19)
	for _, o := range list {
		best = min(best, o.Nice())
	}
	return uint64(20 - best), nil
}

func setpriority(t *task.Task, a *sys.Args) (uint64, error) {
	list, err := those(t, a)
	if err != nil {
		return 0, err
	}
	for _, o := range list {
		err = firstErr(err, renice(t, o, int32(a[2])))
	}
	return 0, err
}

// ioprioDefault is IOPRIO_CLASS_NONE.
func ioprioGet(t *task.Task, a *sys.Args) (uint64, error) { return 0, nil }
func ioprioSet(t *task.Task, a *sys.Args) (uint64, error) { return 0, nil }

func getcpu(t *task.Task, a *sys.Args) (uint64, error) {
	var b [4]byte
	for _, addr := range a[:2] {
		if addr == 0 {
			continue
		}
		if err := t.Mem().CopyOut(addr, b[:]); err != nil {
			return 0, err
		}
	}
	return 0, nil
}
