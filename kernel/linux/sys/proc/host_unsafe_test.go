package proc_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"osv/kernel/linux/abi"
)

// ptr marks an argument that is the address of zeroed memory, plus a small number.
const ptr = uint64(0xabc) << 48

// question is a system call that both kernels are asked: it changes nothing that
// matters to the caller, and its answer depends on nothing but its arguments.
type question struct {
	name string
	nr   uint64
	args []uint64
	// errorOnly compares no result of a call that succeeds.
	errorOnly bool
}

func questions() (list []question) {
	add := func(name string, nr uint64, args ...uint64) { list = append(list, question{name, nr, args, false}) }
	errs := func(name string, nr uint64, args ...uint64) { list = append(list, question{name, nr, args, true}) }
	const bad = 0x1000
	ids := []uint64{0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 100, none, none - 1, none - 2, ^uint64(5), ^uint64(1)}
	for _, id := range ids {
		if int64(id) < 0 || id < 12 {
			add("clock_getres", syscall.SYS_CLOCK_GETRES, id, 0)
		}
		errs("clock_gettime", syscall.SYS_CLOCK_GETTIME, id, ptr)
		if id != 3 {
			errs("clock_nanosleep", syscall.SYS_CLOCK_NANOSLEEP, id, 0, ptr, 0)
		}
		errs("clock_gettime", syscall.SYS_CLOCK_GETTIME, id, bad)
	}
	for _, v := range []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, none, 1 << 31} {
		if v != 7 { // SCHED_EXT, newer than Linux 6.1
			add("sched_get_priority_max", syscall.SYS_SCHED_GET_PRIORITY_MAX, v)
			add("sched_get_priority_min", syscall.SYS_SCHED_GET_PRIORITY_MIN, v)
		}
		errs("getpriority", syscall.SYS_GETPRIORITY, v, 0)
		errs("getrusage", syscall.SYS_GETRUSAGE, v, ptr)
		errs("getitimer", syscall.SYS_GETITIMER, v, ptr)
		errs("setitimer", syscall.SYS_SETITIMER, v, ptr, 0)
		errs("waitid", syscall.SYS_WAITID, v, 0, ptr, abi.WEXITED|abi.WNOHANG, 0)
		errs("wait4", syscall.SYS_WAIT4, 0x7ffffff0, 0, v, 0)
		errs("rt_sigaction", syscall.SYS_RT_SIGACTION, v, 0, ptr, 8)
		add("rt_sigaction", syscall.SYS_RT_SIGACTION, v, 0, ptr, 4)
		add("rt_sigprocmask", syscall.SYS_RT_SIGPROCMASK, v, 0, ptr, 8)
		add("rt_sigpending", syscall.SYS_RT_SIGPENDING, ptr, v)
		add("getgroups", syscall.SYS_GETGROUPS, none, ptr)
		add("sched_getaffinity", syscall.SYS_SCHED_GETAFFINITY, 0, v&7, ptr)
		add("getrandom", sysGetrandom, ptr, 8, v)
		errs("prlimit64", sysPrlimit64, 0, v, 0, ptr)
		errs("prlimit64", sysPrlimit64, 0, v+9, 0, bad)
		errs("unshare", syscall.SYS_UNSHARE, v&3)
		errs("futex", syscall.SYS_FUTEX, ptr, v|0x40, 1, 0, ptr, 0)
	}
	for op := uint64(0); op < 14; op++ {
		if op == 6 || op == 13 || op == 8 || op == 11 || op == 12 { // lock, or are not there
			continue
		}
		for _, flags := range []uint64{0, 128, 256, 384} {
			// With value 1 nobody waits.
			errs("futex", syscall.SYS_FUTEX, ptr, op|flags, 1, 0, ptr+4, 1)
			if op != 7 { // Linux looks at the word before it looks at its address
				errs("futex", syscall.SYS_FUTEX, ptr+1, op|flags, 1, 0, ptr+4, 1)
			}
			errs("futex", syscall.SYS_FUTEX, bad, op|flags, 1, 0, ptr+4, 1)
		}
	}
	for _, sig := range []uint64{0, 65, none, 1 << 31} {
		add("kill", syscall.SYS_KILL, 0x7ffffff0, sig)
		add("tkill", syscall.SYS_TKILL, 0x7ffffff0, sig)
		add("tgkill", syscall.SYS_TGKILL, 1, 0x7ffffff0, sig)
		add("tgkill", syscall.SYS_TGKILL, 0, 1, sig)
		add("tkill", syscall.SYS_TKILL, none, sig)
	}
	for _, pid := range []uint64{0x7ffffff0, none} {
		add("getpgid", syscall.SYS_GETPGID, pid)
		add("getsid", syscall.SYS_GETSID, pid)
		add("setpgid", syscall.SYS_SETPGID, pid, 0)
		add("sched_getscheduler", syscall.SYS_SCHED_GETSCHEDULER, pid)
		add("sched_getparam", syscall.SYS_SCHED_GETPARAM, pid, ptr)
		add("sched_setparam", syscall.SYS_SCHED_SETPARAM, pid, ptr)
		add("sched_rr_get_interval", syscall.SYS_SCHED_RR_GET_INTERVAL, pid, ptr)
		add("getpriority", syscall.SYS_GETPRIORITY, 0, pid)
		add("pidfd_open", sysPidOpen, pid, 0)
		add("prlimit64", sysPrlimit64, pid, 0, 0, ptr)
		add("get_robust_list", syscall.SYS_GET_ROBUST_LIST, pid, ptr, ptr)
	}
	for _, nr := range []uint64{syscall.SYS_UNAME, syscall.SYS_SYSINFO, syscall.SYS_TIMES, syscall.SYS_TIME, syscall.SYS_GETTIMEOFDAY} {
		errs("out", nr, bad)
	}
	add("set_robust_list", syscall.SYS_SET_ROBUST_LIST, 0, 23)
	add("sigaltstack", syscall.SYS_SIGALTSTACK, bad, 0)
	add("nanosleep", syscall.SYS_NANOSLEEP, bad, 0)
	add("nanosleep", syscall.SYS_NANOSLEEP, ptr, 0)
	add("timer_delete", syscall.SYS_TIMER_DELETE, 0x7ffffff0)
	add("timer_gettime", syscall.SYS_TIMER_GETTIME, 0x7ffffff0, ptr)
	add("timer_getoverrun", syscall.SYS_TIMER_GETOVERRUN, 0x7ffffff0)
	add("timer_settime", syscall.SYS_TIMER_SETTIME, 0x7ffffff0, 0, ptr, 0)
	add("timer_settime", syscall.SYS_TIMER_SETTIME, 0x7ffffff0, 0, 0, 0)
	add("execve", syscall.SYS_EXECVE, bad, 0, 0)
	add("execve", syscall.SYS_EXECVE, ptr, 0, 0) // the empty path
	add("execveat", sysExecveat, none-99, ptr, 0, 0, 1)
	add("execveat", sysExecveat, 0x7ffffff0, ptr, 0, 0, 0x1000)
	add("clone", syscall.SYS_CLONE, abi.CLONE_THREAD)
	add("clone", syscall.SYS_CLONE, abi.CLONE_SIGHAND)
	add("clone", syscall.SYS_CLONE, abi.CLONE_THREAD|abi.CLONE_SIGHAND)
	add("clone3", sysClone3, ptr, 8)
	add("clone3", sysClone3, ptr, 5000)
	add("clone3", sysClone3, bad, 88)
	add("waitid", syscall.SYS_WAITID, 0, 0, ptr, 0, 0)
	add("waitid", syscall.SYS_WAITID, 0, 0, ptr, 0x40, 0)
	add("waitid", syscall.SYS_WAITID, abi.P_PID, 0x7ffffff0, ptr, abi.WEXITED, 0)
	add("rt_sigtimedwait", syscall.SYS_RT_SIGTIMEDWAIT, ptr, 0, ptr, 8)
	add("rt_sigtimedwait", syscall.SYS_RT_SIGTIMEDWAIT, ptr, 0, ptr, 4)
	add("rt_sigsuspend", syscall.SYS_RT_SIGSUSPEND, ptr, 4)
	add("rt_sigqueueinfo", syscall.SYS_RT_SIGQUEUEINFO, 0x7ffffff0, 0, bad)
	add("prctl", syscall.SYS_PRCTL, 9999, 0, 0, 0, 0)
	add("prctl", syscall.SYS_PRCTL, abi.PR_SET_DUMPABLE, 7)
	add("prctl", syscall.SYS_PRCTL, abi.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)
	add("prctl", syscall.SYS_PRCTL, abi.PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0)
	add("prctl", syscall.SYS_PRCTL, abi.PR_CAPBSET_READ, 99)
	add("prctl", syscall.SYS_PRCTL, abi.PR_SET_PDEATHSIG, 99)
	add("prctl", syscall.SYS_PRCTL, abi.PR_SET_NAME, bad)
	add("prctl", syscall.SYS_PRCTL, abi.PR_GET_NAME, bad)
	add("prctl", syscall.SYS_PRCTL, abi.PR_GET_TIMERSLACK)
	add("arch_prctl", syscall.SYS_ARCH_PRCTL, 0x9999, 0)
	add("arch_prctl", syscall.SYS_ARCH_PRCTL, abi.ARCH_SET_GS, 1<<62)
	add("arch_prctl", syscall.SYS_ARCH_PRCTL, abi.ARCH_GET_FS, bad)
	add("capget", syscall.SYS_CAPGET, ptr, 0)
	add("capget", syscall.SYS_CAPGET, bad, 0)
	add("sched_setscheduler", syscall.SYS_SCHED_SETSCHEDULER, 0, 99, ptr)
	add("sched_setscheduler", syscall.SYS_SCHED_SETSCHEDULER, 0, 1, ptr) // priority 0
	add("sched_setscheduler", syscall.SYS_SCHED_SETSCHEDULER, 0, 0, 0)
	add("sched_setaffinity", syscall.SYS_SCHED_SETAFFINITY, 0, 8, ptr)
	add("sched_setaffinity", syscall.SYS_SCHED_SETAFFINITY, 0, 8, bad)
	add("sched_getattr", sysGetattr, 0, ptr, 8, 0)
	add("sched_getattr", sysGetattr, 0, ptr, 48, 1)
	add("sched_setattr", sysSetattr, 0, 0, 0)
	return list
}

// The host's Linux and ours give the same answers.
func TestLikeLinux(t *testing.T) {
	list := questions()
	var want []string
	mem := make([]byte, 8192)
	base := (uint64(uintptr(unsafe.Pointer(&mem[0]))) + 63) &^ 63
	func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for _, q := range list {
			clear(mem)
			a := fill(q.args, base)
			v, _, e := syscall.RawSyscall6(uintptr(q.nr), uintptr(a[0]), uintptr(a[1]), uintptr(a[2]), uintptr(a[3]), uintptr(a[4]), uintptr(a[5]))
			want = append(want, answer(q, uint64(v), e))
		}
	}()
	runtime.KeepAlive(mem)
	run(t, func(p prog) {
		area := p.must(syscall.SYS_MMAP, 0, 8192, 3, syscall.MAP_PRIVATE|syscall.MAP_ANON, none, 0)
		zero := make([]byte, 8192)
		for n, q := range list {
			p.Write(area, zero)
			a := fill(q.args, area)
			v := p.Sys(q.nr, a[:]...)
			e := syscall.Errno(0)
			if int64(v) < 0 && int64(v) > -4096 {
				e = syscall.Errno(-int64(v))
			}
			if got := answer(q, v, e); got != want[n] {
				t.Errorf("%s %#x: %s, Linux %s", q.name, q.args, got, want[n])
			}
		}
	})
	t.Logf("%d questions", len(list))
}

func fill(args []uint64, base uint64) (a [6]uint64) {
	copy(a[:], args)
	for n := range a {
		if a[n]>>48 == ptr>>48 {
			a[n] = base + a[n]&0xffff
		}
	}
	return a
}

func answer(q question, v uint64, e syscall.Errno) string {
	switch {
	case e != 0:
		return fmt.Sprintf("%d (%v)", int(e), e)
	case q.errorOnly:
		return "success"
	}
	return fmt.Sprint(v)
}
