// Package proc is the system calls of processes, threads, signals, futexes, time,
// scheduling and credentials.
//
// Spec: Linux 6.1, man-pages 6.03 section 2. It decodes arguments, calls
// kernel/linux/task and futex, and encodes results; nothing else is here. Who may use
// it: kernel/linux. Start reading at Calls.
package proc

import (
	"encoding/binary"
	"syscall"

	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
)

var le = binary.LittleEndian

// Numbers that package syscall does not have.
const (
	sysPrlimit64       = 302
	sysSetns           = 308
	sysGetcpu          = 309
	sysSchedSetattr    = 314
	sysSchedGetattr    = 315
	sysGetrandom       = 318
	sysExecveat        = 322
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434
	sysClone3          = 435
)

// Calls are the entries of this topic.
var Calls = []sys.Entry{
	// Processes.
	{Nr: syscall.SYS_CLONE, Name: "clone", Level: sys.Partial, Note: "no namespaces (EPERM), no CLONE_SIGHAND without CLONE_THREAD", Fn: clone, Sig: "Cpppp"},
	{Nr: sysClone3, Name: "clone3", Level: sys.Partial, Note: "as clone; no set_tid, no cgroups", Fn: clone3, Sig: "pu"},
	{Nr: syscall.SYS_FORK, Name: "fork", Level: sys.Full, Fn: fork},
	{Nr: syscall.SYS_VFORK, Name: "vfork", Level: sys.Full, Fn: vfork},
	{Nr: syscall.SYS_EXECVE, Name: "execve", Level: sys.Full, Fn: execve, Sig: "spp"},
	{Nr: sysExecveat, Name: "execveat", Level: sys.Full, Fn: execveat, Sig: "asppt"},
	{Nr: syscall.SYS_EXIT, Name: "exit", Level: sys.Full, Fn: exit, Sig: "d"},
	{Nr: syscall.SYS_EXIT_GROUP, Name: "exit_group", Level: sys.Full, Fn: exitGroup, Sig: "d"},
	{Nr: syscall.SYS_WAIT4, Name: "wait4", Level: sys.Full, Fn: wait4, Sig: "dpxp"},
	{Nr: syscall.SYS_WAITID, Name: "waitid", Level: sys.Full, Fn: waitid, Sig: "ddpxp"},
	{Nr: syscall.SYS_GETPID, Name: "getpid", Level: sys.Full, Fn: getpid},
	{Nr: syscall.SYS_GETPPID, Name: "getppid", Level: sys.Full, Fn: getppid},
	{Nr: syscall.SYS_GETTID, Name: "gettid", Level: sys.Full, Fn: gettid},
	{Nr: syscall.SYS_SETPGID, Name: "setpgid", Level: sys.Full, Fn: setpgid, Sig: "dd"},
	{Nr: syscall.SYS_GETPGID, Name: "getpgid", Level: sys.Full, Fn: getpgid, Sig: "d"},
	{Nr: syscall.SYS_GETPGRP, Name: "getpgrp", Level: sys.Full, Fn: getpgrp},
	{Nr: syscall.SYS_SETSID, Name: "setsid", Level: sys.Full, Fn: setsid},
	{Nr: syscall.SYS_GETSID, Name: "getsid", Level: sys.Full, Fn: getsid, Sig: "d"},
	{Nr: syscall.SYS_UNSHARE, Name: "unshare", Level: sys.Partial, Note: "CLONE_FS and CLONE_FILES; no namespaces (EPERM)", Fn: unshare, Sig: "C"},
	{Nr: syscall.SYS_SET_TID_ADDRESS, Name: "set_tid_address", Level: sys.Full, Fn: setTidAddress, Sig: "p"},
	{Nr: syscall.SYS_ARCH_PRCTL, Name: "arch_prctl", Level: sys.Partial, Note: "the FS and GS bases; no CPUID faulting, no shadow stacks", Fn: archPrctl, Sig: "xp"},
	{Nr: syscall.SYS_PRCTL, Name: "prctl", Level: sys.Partial, Note: "names, death signal, dumpable, no_new_privs, subreaper, capabilities; no seccomp, no memory map", Fn: prctl, Sig: "dxxxx"},
	{Nr: sysPidfdOpen, Name: "pidfd_open", Level: sys.Full, Fn: pidfdOpen, Sig: "dx"},
	{Nr: sysPidfdSendSignal, Name: "pidfd_send_signal", Level: sys.Full, Fn: pidfdSendSignal, Sig: "fSpx"},

	// Signals.
	{Nr: syscall.SYS_RT_SIGACTION, Name: "rt_sigaction", Level: sys.Full, Fn: rtSigaction, Sig: "Sppu"},
	{Nr: syscall.SYS_RT_SIGPROCMASK, Name: "rt_sigprocmask", Level: sys.Full, Fn: rtSigprocmask, Sig: "hppu"},
	{Nr: syscall.SYS_RT_SIGRETURN, Name: "rt_sigreturn", Level: sys.Full, Fn: rtSigreturn},
	{Nr: syscall.SYS_RT_SIGPENDING, Name: "rt_sigpending", Level: sys.Full, Fn: rtSigpending, Sig: "pu"},
	{Nr: syscall.SYS_RT_SIGTIMEDWAIT, Name: "rt_sigtimedwait", Level: sys.Full, Fn: rtSigtimedwait, Sig: "pppu"},
	{Nr: syscall.SYS_RT_SIGSUSPEND, Name: "rt_sigsuspend", Level: sys.Full, Fn: rtSigsuspend, Sig: "pu"},
	{Nr: syscall.SYS_RT_SIGQUEUEINFO, Name: "rt_sigqueueinfo", Level: sys.Full, Fn: rtSigqueueinfo, Sig: "dSp"},
	{Nr: syscall.SYS_RT_TGSIGQUEUEINFO, Name: "rt_tgsigqueueinfo", Level: sys.Full, Fn: rtTgsigqueueinfo, Sig: "ddSp"},
	{Nr: syscall.SYS_SIGALTSTACK, Name: "sigaltstack", Level: sys.Full, Fn: sigaltstack, Sig: "pp"},
	{Nr: syscall.SYS_KILL, Name: "kill", Level: sys.Full, Fn: kill, Sig: "dS"},
	{Nr: syscall.SYS_TKILL, Name: "tkill", Level: sys.Full, Fn: tkill, Sig: "dS"},
	{Nr: syscall.SYS_TGKILL, Name: "tgkill", Level: sys.Full, Fn: tgkill, Sig: "ddS"},
	{Nr: syscall.SYS_PAUSE, Name: "pause", Level: sys.Full, Fn: pause},
	{Nr: syscall.SYS_RESTART_SYSCALL, Name: "restart_syscall", Level: sys.Full, Fn: restartSyscall},

	// Futexes.
	{Nr: syscall.SYS_FUTEX, Name: "futex", Level: sys.Partial, Note: "priorities are not inherited; no WAIT_REQUEUE_PI, CMP_REQUEUE_PI", Fn: futexCall, Sig: "pUuppu"},
	{Nr: syscall.SYS_SET_ROBUST_LIST, Name: "set_robust_list", Level: sys.Full, Fn: setRobustList, Sig: "pu"},
	{Nr: syscall.SYS_GET_ROBUST_LIST, Name: "get_robust_list", Level: sys.Full, Fn: getRobustList, Sig: "dpp"},

	// Time.
	{Nr: syscall.SYS_CLOCK_GETTIME, Name: "clock_gettime", Level: sys.Full, Fn: clockGettime, Sig: "kp"},
	{Nr: syscall.SYS_CLOCK_GETRES, Name: "clock_getres", Level: sys.Full, Fn: clockGetres, Sig: "kp"},
	{Nr: syscall.SYS_CLOCK_SETTIME, Name: "clock_settime", Level: sys.Partial, Note: "EPERM: the clock is the host's", Fn: clockSettime, Sig: "kp"},
	{Nr: syscall.SYS_CLOCK_NANOSLEEP, Name: "clock_nanosleep", Level: sys.Full, Fn: clockNanosleep, Sig: "kxpp"},
	{Nr: syscall.SYS_NANOSLEEP, Name: "nanosleep", Level: sys.Full, Fn: nanosleep, Sig: "pp"},
	{Nr: syscall.SYS_GETTIMEOFDAY, Name: "gettimeofday", Level: sys.Full, Fn: gettimeofday, Sig: "pp"},
	{Nr: syscall.SYS_SETTIMEOFDAY, Name: "settimeofday", Level: sys.Partial, Note: "EPERM: the clock is the host's", Fn: denied, Sig: "pp"},
	{Nr: syscall.SYS_ADJTIMEX, Name: "adjtimex", Level: sys.Partial, Note: "EPERM: the clock is the host's", Fn: denied, Sig: "p"},
	{Nr: syscall.SYS_TIME, Name: "time", Level: sys.Full, Fn: timeCall, Sig: "p"},
	{Nr: syscall.SYS_TIMES, Name: "times", Level: sys.Full, Fn: times, Sig: "p"},
	{Nr: syscall.SYS_GETRUSAGE, Name: "getrusage", Level: sys.Partial, Note: "no block operations, no messages counted", Fn: getrusage, Sig: "dp"},
	{Nr: syscall.SYS_GETITIMER, Name: "getitimer", Level: sys.Full, Fn: getitimer, Sig: "dp"},
	{Nr: syscall.SYS_SETITIMER, Name: "setitimer", Level: sys.Full, Fn: setitimer, Sig: "dpp"},
	{Nr: syscall.SYS_ALARM, Name: "alarm", Level: sys.Full, Fn: alarm, Sig: "u"},
	{Nr: syscall.SYS_TIMER_CREATE, Name: "timer_create", Level: sys.Full, Fn: timerCreate, Sig: "kpp"},
	{Nr: syscall.SYS_TIMER_SETTIME, Name: "timer_settime", Level: sys.Full, Fn: timerSettime, Sig: "dxpp"},
	{Nr: syscall.SYS_TIMER_GETTIME, Name: "timer_gettime", Level: sys.Full, Fn: timerGettime, Sig: "dp"},
	{Nr: syscall.SYS_TIMER_GETOVERRUN, Name: "timer_getoverrun", Level: sys.Full, Fn: timerGetoverrun, Sig: "d"},
	{Nr: syscall.SYS_TIMER_DELETE, Name: "timer_delete", Level: sys.Full, Fn: timerDelete, Sig: "d"},

	// Scheduling. What is set is kept and told; all threads are treated alike.
	{Nr: syscall.SYS_SCHED_YIELD, Name: "sched_yield", Level: sys.Full, Fn: schedYield},
	{Nr: syscall.SYS_SCHED_GETAFFINITY, Name: "sched_getaffinity", Level: sys.Full, Fn: schedGetaffinity, Sig: "dup"},
	{Nr: syscall.SYS_SCHED_SETAFFINITY, Name: "sched_setaffinity", Level: sys.Partial, Note: alike, Fn: schedSetaffinity, Sig: "dup"},
	{Nr: syscall.SYS_SCHED_GETSCHEDULER, Name: "sched_getscheduler", Level: sys.Full, Fn: schedGetscheduler, Sig: "d"},
	{Nr: syscall.SYS_SCHED_SETSCHEDULER, Name: "sched_setscheduler", Level: sys.Partial, Note: alike, Fn: schedSetscheduler, Sig: "ddp"},
	{Nr: syscall.SYS_SCHED_GETPARAM, Name: "sched_getparam", Level: sys.Full, Fn: schedGetparam, Sig: "dp"},
	{Nr: syscall.SYS_SCHED_SETPARAM, Name: "sched_setparam", Level: sys.Partial, Note: alike, Fn: schedSetparam, Sig: "dp"},
	{Nr: sysSchedGetattr, Name: "sched_getattr", Level: sys.Full, Fn: schedGetattr, Sig: "dpux"},
	{Nr: sysSchedSetattr, Name: "sched_setattr", Level: sys.Partial, Note: alike, Fn: schedSetattr, Sig: "dpx"},
	{Nr: syscall.SYS_SCHED_GET_PRIORITY_MAX, Name: "sched_get_priority_max", Level: sys.Full, Fn: schedPriorityMax, Sig: "d"},
	{Nr: syscall.SYS_SCHED_GET_PRIORITY_MIN, Name: "sched_get_priority_min", Level: sys.Full, Fn: schedPriorityMin, Sig: "d"},
	{Nr: syscall.SYS_SCHED_RR_GET_INTERVAL, Name: "sched_rr_get_interval", Level: sys.Full, Fn: schedRRInterval, Sig: "dp"},
	{Nr: syscall.SYS_GETPRIORITY, Name: "getpriority", Level: sys.Full, Fn: getpriority, Sig: "dd"},
	{Nr: syscall.SYS_SETPRIORITY, Name: "setpriority", Level: sys.Partial, Note: alike, Fn: setpriority, Sig: "ddd"},
	{Nr: syscall.SYS_IOPRIO_GET, Name: "ioprio_get", Level: sys.Partial, Note: "always the default class", Fn: ioprioGet, Sig: "dd"},
	{Nr: syscall.SYS_IOPRIO_SET, Name: "ioprio_set", Level: sys.Partial, Note: "accepted; requests have no priority", Fn: ioprioSet, Sig: "ddd"},
	{Nr: sysGetcpu, Name: "getcpu", Level: sys.Partial, Note: "0 on every call: threads are not bound to processors", Fn: getcpu, Sig: "ppp"},

	// Limits, credentials.
	{Nr: sysPrlimit64, Name: "prlimit64", Level: sys.Partial, Note: "kept and told; NOFILE, AS, DATA, STACK, MEMLOCK, NPROC, SIGPENDING are enforced", Fn: prlimit64, Sig: "ddpp"},
	{Nr: syscall.SYS_GETRLIMIT, Name: "getrlimit", Level: sys.Full, Fn: getrlimit, Sig: "dp"},
	{Nr: syscall.SYS_SETRLIMIT, Name: "setrlimit", Level: sys.Partial, Note: "as prlimit64", Fn: setrlimit, Sig: "dp"},
	{Nr: syscall.SYS_GETUID, Name: "getuid", Level: sys.Full, Fn: getuid},
	{Nr: syscall.SYS_GETEUID, Name: "geteuid", Level: sys.Full, Fn: geteuid},
	{Nr: syscall.SYS_GETGID, Name: "getgid", Level: sys.Full, Fn: getgid},
	{Nr: syscall.SYS_GETEGID, Name: "getegid", Level: sys.Full, Fn: getegid},
	{Nr: syscall.SYS_SETUID, Name: "setuid", Level: sys.Full, Fn: setuid, Sig: "u"},
	{Nr: syscall.SYS_SETGID, Name: "setgid", Level: sys.Full, Fn: setgid, Sig: "u"},
	{Nr: syscall.SYS_SETREUID, Name: "setreuid", Level: sys.Full, Fn: setreuid, Sig: "dd"},
	{Nr: syscall.SYS_SETREGID, Name: "setregid", Level: sys.Full, Fn: setregid, Sig: "dd"},
	{Nr: syscall.SYS_SETRESUID, Name: "setresuid", Level: sys.Full, Fn: setresuid, Sig: "ddd"},
	{Nr: syscall.SYS_SETRESGID, Name: "setresgid", Level: sys.Full, Fn: setresgid, Sig: "ddd"},
	{Nr: syscall.SYS_GETRESUID, Name: "getresuid", Level: sys.Full, Fn: getresuid, Sig: "ppp"},
	{Nr: syscall.SYS_GETRESGID, Name: "getresgid", Level: sys.Full, Fn: getresgid, Sig: "ppp"},
	{Nr: syscall.SYS_SETFSUID, Name: "setfsuid", Level: sys.Full, Fn: setfsuid, Sig: "u"},
	{Nr: syscall.SYS_SETFSGID, Name: "setfsgid", Level: sys.Full, Fn: setfsgid, Sig: "u"},
	{Nr: syscall.SYS_GETGROUPS, Name: "getgroups", Level: sys.Full, Fn: getgroups, Sig: "dp"},
	{Nr: syscall.SYS_SETGROUPS, Name: "setgroups", Level: sys.Full, Fn: setgroups, Sig: "dp"},
	{Nr: syscall.SYS_CAPGET, Name: "capget", Level: sys.Full, Fn: capget, Sig: "pp"},
	{Nr: syscall.SYS_CAPSET, Name: "capset", Level: sys.Full, Fn: capset, Sig: "pp"},

	// The machine.
	{Nr: syscall.SYS_UNAME, Name: "uname", Level: sys.Full, Fn: uname, Sig: "p"},
	{Nr: syscall.SYS_SYSINFO, Name: "sysinfo", Level: sys.Partial, Note: "shared and buffer memory read 0", Fn: sysinfo, Sig: "p"},
	{Nr: syscall.SYS_PERSONALITY, Name: "personality", Level: sys.Partial, Note: "Linux alone; flags are refused", Fn: personality, Sig: "x"},
	{Nr: sysGetrandom, Name: "getrandom", Level: sys.Full, Fn: getrandom, Sig: "pux"},
	{Nr: syscall.SYS_SYSLOG, Name: "syslog", Level: sys.Partial, Note: "the buffer is empty", Fn: syslog, Sig: "dpu"},
	{Nr: syscall.SYS_REBOOT, Name: "reboot", Level: sys.Full, Fn: reboot, Sig: "xxxp"},
	{Nr: syscall.SYS_SETHOSTNAME, Name: "sethostname", Level: sys.Full, Fn: sethostname, Sig: "pu"},
	{Nr: syscall.SYS_SETDOMAINNAME, Name: "setdomainname", Level: sys.Full, Fn: setdomainname, Sig: "pu"},
}

const alike = "kept and told; all threads are scheduled alike"

func denied(*task.Task, *sys.Args) (uint64, error) { return 0, syscall.EPERM }

// out writes p to user memory and is the result of a call that returns 0.
func out(t *task.Task, addr uint64, p []byte) (uint64, error) { return 0, t.Mem().CopyOut(addr, p) }

// number is an argument that is an int.
func number(a uint64) int { return int(int32(a)) }
