package sys

import (
	"strconv"
	"syscall"

	"osv/kernel/linux/abi"
)

// flagSet is how a letter of Entry.Sig prints a number: values of the field under
// mask by name, then bits.
type flagSet struct {
	mask   uint64 // of the enumerated field, 0 for bits alone
	values map[uint64]string
	bits   []flagBit
	zero   string // what 0 is called where there are bits alone
}

type flagBit struct {
	bit  uint64
	name string
}

// append prints v: names joined by |, what has no name in hex.
func (f *flagSet) append(b []byte, v uint64) []byte {
	v &= 0xffffffff
	n := len(b)
	if f.mask != 0 {
		if name, ok := f.values[v&f.mask]; ok {
			b = append(b, name...)
			v &^= f.mask
		}
	} else if v == 0 {
		if f.zero == "" {
			return append(b, '0')
		}
		return append(b, f.zero...)
	}
	for _, k := range f.bits {
		if v&k.bit != k.bit || v == 0 {
			continue
		}
		if len(b) > n {
			b = append(b, '|')
		}
		b = append(b, k.name...)
		v &^= k.bit
	}
	if v != 0 || len(b) == n {
		if len(b) > n {
			b = append(b, '|')
		}
		b = appendHex(b, v)
	}
	return b
}

// flagSets are the letters that stand for sets of flags and enumerations:
// o open, P mmap's rights, M mmap's flags, S signal, U futex operation, C clone,
// A address family, T socket type, e epoll_ctl operation, w whence, c fcntl command,
// i ioctl request, h sigprocmask's how, k clock, t *at flags, v madvise.
var flagSets = [256]*flagSet{
	'o': {mask: 3, values: map[uint64]string{0: "O_RDONLY", 1: "O_WRONLY", 2: "O_RDWR"}, bits: []flagBit{
		{0x410000, "O_TMPFILE"}, {syscall.O_CREAT, "O_CREAT"}, {syscall.O_EXCL, "O_EXCL"}, {syscall.O_NOCTTY, "O_NOCTTY"},
		{syscall.O_TRUNC, "O_TRUNC"}, {syscall.O_APPEND, "O_APPEND"}, {syscall.O_NONBLOCK, "O_NONBLOCK"},
		{syscall.O_SYNC, "O_SYNC"}, {syscall.O_DSYNC, "O_DSYNC"}, {syscall.O_DIRECT, "O_DIRECT"},
		{syscall.O_DIRECTORY, "O_DIRECTORY"}, {syscall.O_NOFOLLOW, "O_NOFOLLOW"}, {syscall.O_NOATIME, "O_NOATIME"},
		{syscall.O_CLOEXEC, "O_CLOEXEC"}, {0x200000, "O_PATH"}, {0x8000, "O_LARGEFILE"}}},
	'P': {zero: "PROT_NONE", bits: []flagBit{{1, "PROT_READ"}, {2, "PROT_WRITE"}, {4, "PROT_EXEC"}, {0x1000000, "PROT_GROWSDOWN"}}},
	'M': {mask: 3, values: map[uint64]string{1: "MAP_SHARED", 2: "MAP_PRIVATE", 3: "MAP_SHARED_VALIDATE"}, bits: []flagBit{
		{0x10, "MAP_FIXED"}, {0x20, "MAP_ANONYMOUS"}, {0x100, "MAP_GROWSDOWN"}, {0x800, "MAP_DENYWRITE"}, {0x2000, "MAP_LOCKED"},
		{0x4000, "MAP_NORESERVE"}, {0x8000, "MAP_POPULATE"}, {0x10000, "MAP_NONBLOCK"}, {0x20000, "MAP_STACK"},
		{0x40000, "MAP_HUGETLB"}, {0x100000, "MAP_FIXED_NOREPLACE"}}},
	'S': {mask: 0xffffffff, values: signalNames()},
	'U': {mask: 0x7f, values: map[uint64]string{0: "FUTEX_WAIT", 1: "FUTEX_WAKE", 3: "FUTEX_REQUEUE", 4: "FUTEX_CMP_REQUEUE",
		5: "FUTEX_WAKE_OP", 6: "FUTEX_LOCK_PI", 7: "FUTEX_UNLOCK_PI", 8: "FUTEX_TRYLOCK_PI", 9: "FUTEX_WAIT_BITSET", 10: "FUTEX_WAKE_BITSET"},
		bits: []flagBit{{abi.FUTEX_PRIVATE_FLAG, "FUTEX_PRIVATE_FLAG"}, {abi.FUTEX_CLOCK_REALTIME, "FUTEX_CLOCK_REALTIME"}}},
	'C': {bits: []flagBit{{abi.CLONE_VM, "CLONE_VM"}, {abi.CLONE_FS, "CLONE_FS"}, {abi.CLONE_FILES, "CLONE_FILES"},
		{abi.CLONE_SIGHAND, "CLONE_SIGHAND"}, {abi.CLONE_VFORK, "CLONE_VFORK"}, {abi.CLONE_PARENT, "CLONE_PARENT"},
		{abi.CLONE_THREAD, "CLONE_THREAD"}, {abi.CLONE_SYSVSEM, "CLONE_SYSVSEM"}, {abi.CLONE_SETTLS, "CLONE_SETTLS"},
		{abi.CLONE_PARENT_SETTID, "CLONE_PARENT_SETTID"}, {abi.CLONE_CHILD_CLEARTID, "CLONE_CHILD_CLEARTID"},
		{abi.CLONE_CHILD_SETTID, "CLONE_CHILD_SETTID"}, {abi.CLONE_DETACHED, "CLONE_DETACHED"}, {uint64(syscall.SIGCHLD), "SIGCHLD"}}},
	'A': {mask: 0xffffffff, values: map[uint64]string{0: "AF_UNSPEC", 1: "AF_UNIX", 2: "AF_INET", 10: "AF_INET6", 16: "AF_NETLINK", 17: "AF_PACKET"}},
	'T': {mask: 0xf, values: map[uint64]string{1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 5: "SOCK_SEQPACKET"},
		bits: []flagBit{{syscall.O_NONBLOCK, "SOCK_NONBLOCK"}, {syscall.O_CLOEXEC, "SOCK_CLOEXEC"}}},
	'e': {mask: 0xffffffff, values: map[uint64]string{1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"}},
	'w': {mask: 0xffffffff, values: map[uint64]string{0: "SEEK_SET", 1: "SEEK_CUR", 2: "SEEK_END", 3: "SEEK_DATA", 4: "SEEK_HOLE"}},
	'c': {mask: 0xffffffff, values: map[uint64]string{0: "F_DUPFD", 1: "F_GETFD", 2: "F_SETFD", 3: "F_GETFL", 4: "F_SETFL", 5: "F_GETLK",
		6: "F_SETLK", 7: "F_SETLKW", 8: "F_SETOWN", 9: "F_GETOWN", 10: "F_SETSIG", 11: "F_GETSIG", 15: "F_SETOWN_EX", 16: "F_GETOWN_EX",
		36: "F_OFD_GETLK", 37: "F_OFD_SETLK", 38: "F_OFD_SETLKW", 1024: "F_SETLEASE", 1025: "F_GETLEASE", 1030: "F_DUPFD_CLOEXEC",
		1031: "F_SETPIPE_SZ", 1032: "F_GETPIPE_SZ", 1033: "F_ADD_SEALS", 1034: "F_GET_SEALS"}},
	'i': {mask: 0xffffffff, values: map[uint64]string{0x5401: "TCGETS", 0x5402: "TCSETS", 0x5403: "TCSETSW", 0x5404: "TCSETSF", 0x540f: "TIOCGPGRP",
		0x5410: "TIOCSPGRP", 0x5413: "TIOCGWINSZ", 0x5414: "TIOCSWINSZ", 0x541b: "FIONREAD", 0x5421: "FIONBIO", 0x5450: "FIONCLEX", 0x5451: "FIOCLEX",
		0x8912: "SIOCGIFCONF", 0x8913: "SIOCGIFFLAGS", 0x8915: "SIOCGIFADDR", 0x8919: "SIOCGIFBRDADDR", 0x891b: "SIOCGIFNETMASK", 0x8921: "SIOCGIFMTU",
		0x8927: "SIOCGIFHWADDR", 0x8933: "SIOCGIFINDEX"}},
	'h': {mask: 0xffffffff, values: map[uint64]string{0: "SIG_BLOCK", 1: "SIG_UNBLOCK", 2: "SIG_SETMASK"}},
	'k': {mask: 0xffffffff, values: map[uint64]string{0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 2: "CLOCK_PROCESS_CPUTIME_ID", 3: "CLOCK_THREAD_CPUTIME_ID",
		4: "CLOCK_MONOTONIC_RAW", 5: "CLOCK_REALTIME_COARSE", 6: "CLOCK_MONOTONIC_COARSE", 7: "CLOCK_BOOTTIME"}},
	't': {bits: []flagBit{{0x100, "AT_SYMLINK_NOFOLLOW"}, {0x200, "AT_REMOVEDIR"}, {0x400, "AT_SYMLINK_FOLLOW"}, {0x800, "AT_NO_AUTOMOUNT"}, {0x1000, "AT_EMPTY_PATH"}}},
	'v': {mask: 0xffffffff, values: map[uint64]string{0: "MADV_NORMAL", 1: "MADV_RANDOM", 2: "MADV_SEQUENTIAL", 3: "MADV_WILLNEED", 4: "MADV_DONTNEED",
		8: "MADV_FREE", 12: "MADV_MERGEABLE", 14: "MADV_HUGEPAGE", 15: "MADV_NOHUGEPAGE", 16: "MADV_DONTDUMP", 17: "MADV_DODUMP", 20: "MADV_COLD", 21: "MADV_PAGEOUT"}},
}

func signalNames() map[uint64]string {
	m := map[uint64]string{}
	for n, s := range map[syscall.Signal]string{
		syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGILL: "SIGILL", syscall.SIGTRAP: "SIGTRAP",
		syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE", syscall.SIGKILL: "SIGKILL", syscall.SIGUSR1: "SIGUSR1",
		syscall.SIGSEGV: "SIGSEGV", syscall.SIGUSR2: "SIGUSR2", syscall.SIGPIPE: "SIGPIPE", syscall.SIGALRM: "SIGALRM", syscall.SIGTERM: "SIGTERM",
		syscall.SIGSTKFLT: "SIGSTKFLT", syscall.SIGCHLD: "SIGCHLD", syscall.SIGCONT: "SIGCONT", syscall.SIGSTOP: "SIGSTOP", syscall.SIGTSTP: "SIGTSTP",
		syscall.SIGTTIN: "SIGTTIN", syscall.SIGTTOU: "SIGTTOU", syscall.SIGURG: "SIGURG", syscall.SIGXCPU: "SIGXCPU", syscall.SIGXFSZ: "SIGXFSZ",
		syscall.SIGVTALRM: "SIGVTALRM", syscall.SIGPROF: "SIGPROF", syscall.SIGWINCH: "SIGWINCH", syscall.SIGIO: "SIGIO", syscall.SIGPWR: "SIGPWR", syscall.SIGSYS: "SIGSYS",
	} {
		m[uint64(n)] = s
	}
	m[0] = "0"
	for n := uint64(abi.SIGRTMIN); n <= abi.SIGRTMAX; n++ {
		m[n] = "SIGRT_" + strconv.FormatUint(n-abi.SIGRTMIN, 10)
	}
	return m
}

// errnoResult is how strace prints a failure.
func errnoResult(e syscall.Errno) string {
	switch e {
	case abi.ERESTARTSYS:
		return "? ERESTARTSYS (To be restarted if SA_RESTART is set)"
	case abi.ERESTARTNOINTR:
		return "? ERESTARTNOINTR (To be restarted)"
	case abi.ERESTARTNOHAND:
		return "? ERESTARTNOHAND (To be restarted if no handler)"
	case abi.ERESTART_RESTARTBLOCK:
		return "? ERESTART_RESTARTBLOCK (Interrupted by signal)"
	}
	name := errnoNames[e]
	if name == "" {
		name = strconv.Itoa(int(e))
	}
	return "-1 " + name + " (" + e.Error() + ")"
}
