package proc_test

import (
	"strings"
	"syscall"
	"testing"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

const (
	sysPrlimit64 = 302
	sysGetcpu    = 309
	sysGetrandom = 318
	sysExecveat  = 322
	sysPidSignal = 424
	sysPidOpen   = 434
	sysClone3    = 435
	sysSetattr   = 314
	sysGetattr   = 315
)

func TestIdentity(t *testing.T) {
	run(t, func(p prog) {
		p.is(2, syscall.SYS_GETPID)
		p.is(1, syscall.SYS_GETPPID)
		p.is(2, syscall.SYS_GETTID)
		p.is(2, syscall.SYS_GETPGRP)
		p.is(2, syscall.SYS_GETPGID, 0)
		p.is(2, syscall.SYS_GETSID, 2)
		p.fails(syscall.ESRCH, syscall.SYS_GETPGID, 999)
		p.fails(syscall.ESRCH, syscall.SYS_GETSID, 999)
		p.fails(syscall.EPERM, syscall.SYS_SETSID)
		p.is(2, syscall.SYS_SET_TID_ADDRESS, word)
		for _, nr := range []uint64{syscall.SYS_GETUID, syscall.SYS_GETEUID, syscall.SYS_GETGID, syscall.SYS_GETEGID} {
			p.is(0, nr)
		}
	})
}

func TestGroups(t *testing.T) {
	run(t, func(p prog) {
		c := p.fork(func(q prog) {
			pid := q.must(syscall.SYS_GETPID)
			q.is(2, syscall.SYS_GETPGRP)
			q.must(syscall.SYS_SETPGID, 0, 0)
			q.is(pid, syscall.SYS_GETPGRP)
			q.fails(syscall.EPERM, syscall.SYS_SETSID)
			q.must(syscall.SYS_SETPGID, 0, 2)
			q.is(pid, syscall.SYS_SETSID)
			q.is(pid, syscall.SYS_GETSID, 0)
			q.fails(syscall.EPERM, syscall.SYS_SETPGID, 0, 0)
		})
		p.fails(syscall.ESRCH, syscall.SYS_SETPGID, 999, 0)
		p.fails(syscall.EINVAL, syscall.SYS_SETPGID, 0, none)
		p.join(c)
	})
}

func TestClone3(t *testing.T) {
	run(t, func(p prog) {
		args := func(w ...uint64) uint64 {
			for n := range 11 {
				p.Put64(buf+uint64(8*n), 0)
			}
			for n, v := range w {
				p.Put64(buf+uint64(8*n), v)
			}
			return buf
		}
		p.fails(syscall.EINVAL, sysClone3, args(), 32)
		p.fails(syscall.E2BIG, sysClone3, args(), 5000)
		p.fails(syscall.EFAULT, sysClone3, 0x1000, 88)
		p.fails(syscall.EINVAL, sysClone3, args(1<<40), 88)
		p.fails(syscall.EINVAL, sysClone3, args(17), 88)
		p.fails(syscall.EINVAL, sysClone3, args(abi.CLONE_THREAD|abi.CLONE_SIGHAND|abi.CLONE_VM, 0, 0, 0, 17), 88)
		p.fails(syscall.EINVAL, sysClone3, args(0, 0, 0, 0, 17, 0x1000), 88)
		p.fails(syscall.EINVAL, sysClone3, args(0, 0, 0, 0, 0x1100), 88)
		p.fails(syscall.EINVAL, sysClone3, args(0, 0, 0, 0, 17, 0, 0, 0, 1), 88)
		p.fails(syscall.EPERM, sysClone3, args(0, 0, 0, 0, 17, 0, 0, 0, 1, 1), 88)
		p.fails(syscall.EPERM, sysClone3, args(abi.CLONE_NEWNS, 0, 0, 0, 17), 88)
		p.Put64(buf+88, 1)
		p.fails(syscall.E2BIG, sysClone3, args(0, 0, 0, 0, 17), 96)
	})
}

func TestExecErrors(t *testing.T) {
	run(t, func(p prog) {
		path := p.String(word, "/next")
		p.fails(syscall.EFAULT, syscall.SYS_EXECVE, 0x1000, 0, 0)
		p.fails(syscall.EFAULT, syscall.SYS_EXECVE, path, 0x1000, 0)
		p.fails(syscall.EFAULT, syscall.SYS_EXECVE, path, 0, 0x1000)
		p.fails(syscall.EINVAL, sysExecveat, none, path, 0, 0, 0x4000)
		p.fails(syscall.EBADF, sysExecveat, 77, p.String(word+8, "next"), 0, 0, 0)
		p.fails(syscall.EBADF, sysExecveat, 77, p.String(word+16, ""), 0, 0, 0x1000)
		p.fails(syscall.ENOENT, syscall.SYS_EXECVE, p.String(word+24, ""), 0, 0)
		area := p.must(syscall.SYS_MMAP, 0, 1<<20, 3, syscall.MAP_PRIVATE|syscall.MAP_ANON, none, 0)
		p.Write(area, []byte(strings.Repeat("x", 150000)))
		p.Put64(buf, area)
		p.Put64(buf+8, 0)
		p.fails(syscall.E2BIG, syscall.SYS_EXECVE, path, buf, 0)
		c := p.fork(func(q prog) { q.Sys(sysExecveat, uint64(0xffffff9c), q.String(word, "next"), 0, 0, 0) })
		p.is(c, syscall.SYS_WAIT4, c, word, 0, 0)
		if s := p.Get32(word); s != 77<<8 {
			t.Errorf("execveat: child ended with %#x", s)
		}
	})
}

func TestWaitErrors(t *testing.T) {
	run(t, func(p prog) {
		p.fails(syscall.EINVAL, syscall.SYS_WAIT4, none, 0, 0x100, 0)
		p.fails(syscall.ECHILD, syscall.SYS_WAIT4, none, 0, 0, 0)
		p.fails(syscall.ESRCH, syscall.SYS_WAIT4, uint64(1<<31), 0, 0, 0)
		p.fails(syscall.EINVAL, syscall.SYS_WAITID, 0, 0, buf, 0, 0)
		p.fails(syscall.EINVAL, syscall.SYS_WAITID, 9, 0, buf, abi.WEXITED, 0)
		p.fails(syscall.EINVAL, syscall.SYS_WAITID, abi.P_PID, 0, buf, abi.WEXITED, 0)
		p.fails(syscall.EBADF, syscall.SYS_WAITID, abi.P_PIDFD, 9, buf, abi.WEXITED, 0)
		c := p.fork(func(q prog) {})
		p.is(c, syscall.SYS_WAIT4, 0, 0, 0, buf)
		c = p.fork(func(q prog) {})
		p.is(c, syscall.SYS_WAIT4, ^uint64(1), 0, 0, buf) // group 2
		c = p.fork(func(q prog) {})
		p.must(syscall.SYS_WAITID, abi.P_PGID, 0, buf, abi.WEXITED, buf+0x100)
		if p.Get32(buf+16) != uint32(c) {
			t.Errorf("waited for %d", p.Get32(buf+16))
		}
	})
}

func TestPidfd(t *testing.T) {
	run(t, func(p prog) {
		c := p.fork(func(q prog) {
			for {
				q.Sys(syscall.SYS_PAUSE)
			}
		})
		p.fails(syscall.EINVAL, sysPidOpen, 0, 0)
		p.fails(syscall.EINVAL, sysPidOpen, c, 1)
		p.fails(syscall.ESRCH, sysPidOpen, 999, 0)
		f := p.must(sysPidOpen, c, syscall.O_NONBLOCK)
		p.fails(syscall.EAGAIN, syscall.SYS_WAITID, abi.P_PIDFD, f, buf, abi.WEXITED, 0)
		p.fails(syscall.EINVAL, sysPidSignal, f, 15, 0, 1)
		p.fails(syscall.EBADF, sysPidSignal, 77, 15, 0, 0)
		p.must(sysPidSignal, f, 0, 0, 0)
		var b [abi.SiginfoSize]byte
		(&abi.Siginfo{Signo: 15, Code: abi.SI_USER}).Encode(&b)
		p.Write(buf, b[:])
		p.fails(syscall.EPERM, sysPidSignal, f, 15, buf, 0)
		p.fails(syscall.EINVAL, sysPidSignal, f, 14, buf, 0)
		p.must(sysPidSignal, f, 15, 0, 0)
		<-p.k.Process(int(c)).Ended()
		p.must(syscall.SYS_WAITID, abi.P_PIDFD, f, buf, abi.WEXITED, 0)
		if p.Get32(buf+16) != uint32(c) {
			t.Errorf("waited for %d", p.Get32(buf+16))
		}
		p.fails(syscall.ESRCH, sysPidSignal, f, 15, 0, 0)
		// With clone.
		n, err := p.Clone(func(q *ring3Prog) { q.Exit(0) }, uint64(syscall.SIGCHLD)|abi.CLONE_PIDFD, 0, word+8, 0, 0)
		if err != nil || p.Get32(word+8) == 0 {
			t.Errorf("CLONE_PIDFD: %v, descriptor %d", err, p.Get32(word+8))
		}
		p.is(uint64(n), syscall.SYS_WAIT4, uint64(n), 0, 0, 0)
	})
}

func TestArchPrctl(t *testing.T) {
	run(t, func(p prog) {
		for set, get := range map[uint64]uint64{abi.ARCH_SET_FS: abi.ARCH_GET_FS, abi.ARCH_SET_GS: abi.ARCH_GET_GS} {
			p.must(syscall.SYS_ARCH_PRCTL, set, 0x7000+set)
			p.must(syscall.SYS_ARCH_PRCTL, get, buf)
			if v := p.Get64(buf); v != 0x7000+set {
				t.Errorf("base %#x", v)
			}
			p.fails(syscall.EPERM, syscall.SYS_ARCH_PRCTL, set, 1<<47)
		}
		p.fails(syscall.EINVAL, syscall.SYS_ARCH_PRCTL, 0x9999, 0)
		p.fails(syscall.EFAULT, syscall.SYS_ARCH_PRCTL, abi.ARCH_GET_FS, 0x1000)
	})
}

func TestPrctl(t *testing.T) {
	run(t, func(p prog) {
		p.must(syscall.SYS_PRCTL, abi.PR_SET_NAME, p.String(buf, "a-name-that-is-too-long"))
		p.must(syscall.SYS_PRCTL, abi.PR_GET_NAME, buf+0x40)
		if got := string(p.Read(buf+0x40, 16)); got != "a-name-that-is-\x00" {
			t.Errorf("name %q", got)
		}
		p.fails(syscall.EFAULT, syscall.SYS_PRCTL, abi.PR_SET_NAME, 0x1000)
		for _, c := range [][3]uint64{ // set, get, value
			{abi.PR_SET_DUMPABLE, abi.PR_GET_DUMPABLE, 0}, {abi.PR_SET_DUMPABLE, abi.PR_GET_DUMPABLE, 1},
			{abi.PR_SET_KEEPCAPS, abi.PR_GET_KEEPCAPS, 1}, {abi.PR_SET_THP_DISABLE, abi.PR_GET_THP_DISABLE, 1},
			{abi.PR_SET_TIMERSLACK, abi.PR_GET_TIMERSLACK, 1234},
		} {
			p.must(syscall.SYS_PRCTL, c[0], c[2])
			p.is(c[2], syscall.SYS_PRCTL, c[1])
		}
		p.must(syscall.SYS_PRCTL, abi.PR_SET_TIMERSLACK, 0)
		p.is(task.DefaultSlack, syscall.SYS_PRCTL, abi.PR_GET_TIMERSLACK)
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, abi.PR_SET_DUMPABLE, 2)
		p.must(syscall.SYS_PRCTL, abi.PR_SET_PDEATHSIG, 10)
		p.must(syscall.SYS_PRCTL, abi.PR_GET_PDEATHSIG, buf)
		if p.Get32(buf) != 10 {
			t.Errorf("death signal %d", p.Get32(buf))
		}
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, abi.PR_SET_PDEATHSIG, 65)
		p.is(0, syscall.SYS_PRCTL, abi.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, abi.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, abi.PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0)
		p.must(syscall.SYS_PRCTL, abi.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		p.is(1, syscall.SYS_PRCTL, abi.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		p.must(syscall.SYS_PRCTL, abi.PR_SET_CHILD_SUBREAPER, 1)
		p.must(syscall.SYS_PRCTL, abi.PR_GET_CHILD_SUBREAPER, buf)
		if p.Get32(buf) != 1 {
			t.Error("no subreaper")
		}
		p.is(0, syscall.SYS_PRCTL, abi.PR_GET_SECCOMP)
		p.must(syscall.SYS_SET_TID_ADDRESS, 0x1234)
		p.must(syscall.SYS_PRCTL, abi.PR_GET_TID_ADDRESS, buf)
		if p.Get64(buf) != 0x1234 {
			t.Error("no tid address")
		}
		p.must(syscall.SYS_SET_TID_ADDRESS, 0)
		p.is(1, syscall.SYS_PRCTL, abi.PR_CAPBSET_READ, 21)
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, abi.PR_CAPBSET_READ, 99)
		p.must(syscall.SYS_PRCTL, abi.PR_CAPBSET_DROP, 21)
		p.is(0, syscall.SYS_PRCTL, abi.PR_CAPBSET_READ, 21)
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, abi.PR_CAPBSET_DROP, 99)
		const ambient = abi.PR_CAP_AMBIENT
		p.is(0, syscall.SYS_PRCTL, ambient, 1, 5)
		p.fails(syscall.EPERM, syscall.SYS_PRCTL, ambient, 2, 5)
		p.must(syscall.SYS_PRCTL, ambient, 3, 5)
		p.must(syscall.SYS_PRCTL, ambient, 4, 0)
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, ambient, 4, 1)
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, ambient, 9, 1)
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, ambient, 1, 99)
		p.fails(syscall.EINVAL, syscall.SYS_PRCTL, 12345)
	})
}

func TestCreds(t *testing.T) {
	run(t, func(p prog) {
		res := func(nr uint64) (v [3]uint32) {
			p.must(nr, buf, buf+4, buf+8)
			for n := range v {
				v[n] = p.Get32(buf + 4*uint64(n))
			}
			return v
		}
		p.must(syscall.SYS_SETGROUPS, 0, 0)
		p.Put32(buf, 30)
		p.Put32(buf+4, 20)
		p.must(syscall.SYS_SETGROUPS, 2, buf)
		p.is(2, syscall.SYS_GETGROUPS, 0, 0)
		p.is(2, syscall.SYS_GETGROUPS, 8, buf+0x40)
		if p.Get32(buf+0x40) != 20 || p.Get32(buf+0x44) != 30 {
			t.Error("groups")
		}
		p.fails(syscall.EINVAL, syscall.SYS_GETGROUPS, 1, buf)
		p.fails(syscall.EINVAL, syscall.SYS_GETGROUPS, none, buf)
		p.fails(syscall.EINVAL, syscall.SYS_SETGROUPS, 70000, buf)
		p.fails(syscall.EFAULT, syscall.SYS_SETGROUPS, 1, 0x1000)
		p.must(syscall.SYS_SETRESGID, 10, 11, 12)
		if got := res(syscall.SYS_GETRESGID); got != [3]uint32{10, 11, 12} {
			t.Errorf("gids %v", got)
		}
		p.must(syscall.SYS_SETREGID, none, 10)
		if got := res(syscall.SYS_GETRESGID); got != [3]uint32{10, 10, 12} {
			t.Errorf("gids %v", got)
		}
		p.must(syscall.SYS_SETREGID, 15, none)
		p.must(syscall.SYS_SETGID, 100)
		if got := res(syscall.SYS_GETRESGID); got != [3]uint32{100, 100, 100} {
			t.Errorf("gids %v", got)
		}
		p.is(100, syscall.SYS_SETFSGID, 7)
		p.is(7, syscall.SYS_SETFSGID, none)
		p.is(0, syscall.SYS_SETFSUID, 5)
		p.is(5, syscall.SYS_SETFSUID, 0)
		p.fails(syscall.EINVAL, syscall.SYS_SETUID, none)
		p.fails(syscall.EINVAL, syscall.SYS_SETGID, none)
		// Away from root and back by the saved ID.
		p.must(syscall.SYS_SETRESUID, none, 1000, 0)
		if got := res(syscall.SYS_GETRESUID); got != [3]uint32{0, 1000, 0} {
			t.Errorf("uids %v", got)
		}
		p.fails(syscall.EPERM, syscall.SYS_SETGROUPS, 0, 0)
		p.fails(syscall.EPERM, syscall.SYS_SETRESUID, 5, 5, 5)
		p.must(syscall.SYS_SETUID, 0)
		p.must(syscall.SYS_SETGROUPS, 0, 0)
		p.must(syscall.SYS_SETREUID, none, 1000)
		p.must(syscall.SYS_SETREUID, 1000, 0)
		// For good.
		p.must(syscall.SYS_SETUID, 1000)
		if got := res(syscall.SYS_GETRESUID); got != [3]uint32{1000, 1000, 1000} {
			t.Errorf("uids %v", got)
		}
		p.fails(syscall.EPERM, syscall.SYS_SETUID, 0)
		p.fails(syscall.EPERM, syscall.SYS_SETREUID, 0, none)
		p.fails(syscall.EPERM, syscall.SYS_SETREUID, none, 0)
		p.fails(syscall.EPERM, syscall.SYS_SETREGID, 0, none)
		p.fails(syscall.EPERM, syscall.SYS_SETREGID, none, 0)
		p.fails(syscall.EPERM, syscall.SYS_SETRESGID, 0, none, none)
		p.fails(syscall.EPERM, syscall.SYS_SETGID, 0)
		p.is(1000, syscall.SYS_SETFSUID, 0)
		p.is(1000, syscall.SYS_SETFSUID, none)
		p.fails(syscall.EPERM, syscall.SYS_SETHOSTNAME, buf, 1)
		p.fails(syscall.EPERM, syscall.SYS_PRCTL, abi.PR_CAPBSET_DROP, 1)
		p.fails(syscall.EPERM, syscall.SYS_REBOOT, 0xfee1dead, 672274793, 0x01234567)
		if c := p.k.Task(2).Creds(); c.Effective != 0 || c.Permitted != 0 {
			t.Errorf("capabilities %#x, %#x", c.Effective, c.Permitted)
		}
	})
}

func TestCapabilities(t *testing.T) {
	run(t, func(p prog) {
		head := func(version uint32, pid uint32) uint64 {
			p.Put32(buf, version)
			p.Put32(buf+4, pid)
			return buf
		}
		p.fails(syscall.EINVAL, syscall.SYS_CAPGET, head(1, 0), buf+8)
		if v := p.Get32(buf); v != abi.LINUX_CAPABILITY_VERSION_3 {
			t.Errorf("version %#x", v)
		}
		p.must(syscall.SYS_CAPGET, head(1, 0), 0)
		p.must(syscall.SYS_CAPGET, head(abi.LINUX_CAPABILITY_VERSION_3, 0), 0)
		p.fails(syscall.ESRCH, syscall.SYS_CAPGET, head(abi.LINUX_CAPABILITY_VERSION_3, 999), buf+8)
		p.must(syscall.SYS_CAPGET, head(abi.LINUX_CAPABILITY_VERSION_3, 0), buf+8)
		if p.Get32(buf+8) != ^uint32(0) || p.Get32(buf+20) != 0x1ff {
			t.Errorf("effective %#x, %#x", p.Get32(buf+8), p.Get32(buf+20))
		}
		p.must(syscall.SYS_CAPGET, head(abi.LINUX_CAPABILITY_VERSION_1, 0), buf+8)
		p.fails(syscall.EPERM, syscall.SYS_CAPSET, head(abi.LINUX_CAPABILITY_VERSION_3, 1), buf+8)
		p.fails(syscall.EINVAL, syscall.SYS_CAPSET, head(1, 0), buf+8)
		// Only what stays permitted can be effective.
		for n, v := range []uint32{1 << 5, 1 << 5, 0, 0, 0, 0} {
			p.Put32(buf+8+4*uint64(n), v)
		}
		p.must(syscall.SYS_CAPSET, head(abi.LINUX_CAPABILITY_VERSION_3, 0), buf+8)
		if c := p.k.Task(2).Creds(); c.Effective != 1<<5 || c.Permitted != 1<<5 {
			t.Errorf("%#x, %#x", c.Effective, c.Permitted)
		}
		p.Put32(buf+8, 3<<5)
		p.fails(syscall.EPERM, syscall.SYS_CAPSET, head(abi.LINUX_CAPABILITY_VERSION_3, 0), buf+8)
		p.Put32(buf+8, 0)
		p.Put32(buf+16, 1<<6)
		p.fails(syscall.EPERM, syscall.SYS_CAPSET, head(abi.LINUX_CAPABILITY_VERSION_3, 0), buf+8)
	})
}

func TestMachine(t *testing.T) {
	run(t, func(p prog) {
		p.must(syscall.SYS_UNAME, buf)
		for n, want := range []string{"Linux", "box", "6.1.0-osv", "#1 SMP", "x86_64", "(none)"} {
			if got := string(p.Read(buf+65*uint64(n), 65)); !strings.HasPrefix(got, want) {
				t.Errorf("uname %d: %q", n, got)
			}
		}
		p.must(syscall.SYS_SETHOSTNAME, p.String(word, "other"), 5)
		p.must(syscall.SYS_SETDOMAINNAME, word, 3)
		p.must(syscall.SYS_UNAME, buf)
		if got := string(p.Read(buf+65, 6)); got != "other\x00" {
			t.Errorf("name %q", got)
		}
		p.fails(syscall.EINVAL, syscall.SYS_SETHOSTNAME, word, 65)
		p.fails(syscall.EFAULT, syscall.SYS_SETHOSTNAME, 0x1000, 3)
		p.must(syscall.SYS_SYSINFO, buf)
		if total, free := p.Get64(buf+32), p.Get64(buf+40); total == 0 || free == 0 || free > total || p.Get32(buf+104) != 1 {
			t.Errorf("sysinfo: %d of %d bytes are free", free, total)
		}
		p.is(0, syscall.SYS_PERSONALITY, 0xffffffff)
		p.is(0, syscall.SYS_PERSONALITY, 0)
		p.fails(syscall.EINVAL, syscall.SYS_PERSONALITY, 0x0400000)
		p.Put64(buf, 0)
		p.is(600, sysGetrandom, buf, 600, 0)
		if p.Get64(buf) == 0 || p.Get64(buf+592) == 0 {
			t.Error("no random bytes")
		}
		p.fails(syscall.EINVAL, sysGetrandom, buf, 8, 8)
		p.fails(syscall.EINVAL, sysGetrandom, buf, 8, 6)
		p.fails(syscall.EFAULT, sysGetrandom, 0x1000, 8, 0)
		p.is(1<<17, syscall.SYS_SYSLOG, 10, 0, 0)
		p.is(0, syscall.SYS_SYSLOG, 3, buf, 8)
		p.fails(syscall.EINVAL, syscall.SYS_SYSLOG, 11, 0, 0)
		p.must(sysGetcpu, buf, buf+4, 0)
		p.fails(syscall.EFAULT, sysGetcpu, 0x1000, 0, 0)
		p.fails(syscall.EINVAL, syscall.SYS_REBOOT, 1, 672274793, 0)
		p.fails(syscall.EINVAL, syscall.SYS_REBOOT, 0xfee1dead, 1, 0)
		p.fails(syscall.EINVAL, syscall.SYS_REBOOT, 0xfee1dead, 672274793, 7)
		p.must(syscall.SYS_REBOOT, 0xfee1dead, 672274793, 0)
		p.must(syscall.SYS_UNSHARE, abi.CLONE_FS|abi.CLONE_FILES)
		p.fails(syscall.EPERM, syscall.SYS_UNSHARE, abi.CLONE_NEWNS)
		p.fails(syscall.EINVAL, syscall.SYS_UNSHARE, 1)
	})
}

func TestLimits(t *testing.T) {
	run(t, func(p prog) {
		p.must(syscall.SYS_GETRLIMIT, abi.RLIMIT_STACK, buf)
		if p.Get64(buf) != 8<<20 || p.Get64(buf+8) != none {
			t.Errorf("stack %d, %d", p.Get64(buf), p.Get64(buf+8))
		}
		p.Put64(buf, 10)
		p.Put64(buf+8, 20)
		p.must(syscall.SYS_SETRLIMIT, abi.RLIMIT_NOFILE, buf)
		p.must(sysPrlimit64, 2, abi.RLIMIT_NOFILE, 0, buf+0x20)
		if p.Get64(buf+0x20) != 10 || p.Get64(buf+0x28) != 20 {
			t.Error("the limit is not kept")
		}
		if n := p.k.Task(2).Files().Limit(); n != 10 {
			t.Errorf("descriptors up to %d", n)
		}
		p.Put64(buf, 30)
		p.fails(syscall.EINVAL, sysPrlimit64, 0, abi.RLIMIT_NOFILE, buf, 0)
		p.Put64(buf+8, 1<<30)
		p.fails(syscall.EPERM, sysPrlimit64, 0, abi.RLIMIT_NOFILE, buf, 0)
		p.fails(syscall.EINVAL, sysPrlimit64, 0, 16, 0, buf)
		p.fails(syscall.EINVAL, sysPrlimit64, 0, none, 0, buf)
		p.fails(syscall.ESRCH, sysPrlimit64, 999, 0, 0, buf)
		p.fails(syscall.EFAULT, sysPrlimit64, 0, 0, 0x1000, 0)
		p.fails(syscall.EFAULT, syscall.SYS_GETRLIMIT, 0, 0)
		p.fails(syscall.EFAULT, syscall.SYS_SETRLIMIT, 0, 0)
		p.Put64(buf, 4)
		p.Put64(buf+8, 4)
		p.must(syscall.SYS_SETRLIMIT, abi.RLIMIT_CORE, buf)
		c := p.fork(func(q prog) {
			q.must(syscall.SYS_SETUID, 1000)
			q.Put64(buf+8, 5)
			q.fails(syscall.EPERM, syscall.SYS_SETRLIMIT, abi.RLIMIT_CORE, buf)
			q.fails(syscall.EPERM, sysPrlimit64, 2, abi.RLIMIT_CORE, 0, buf)
		})
		p.join(c)
		// The number of threads and processes.
		p.Put64(buf, 1)
		p.Put64(buf+8, 100)
		p.must(syscall.SYS_SETRLIMIT, abi.RLIMIT_NPROC, buf)
		p.fails(syscall.EAGAIN, syscall.SYS_FORK)
	})
}

func TestKillRules(t *testing.T) {
	runAs(t, vfs.UserCreds(1000, 1000), func(p prog) {
		p.fails(syscall.EINVAL, syscall.SYS_KILL, 2, 65)
		p.fails(syscall.ESRCH, syscall.SYS_KILL, 999, 0)
		p.fails(syscall.ESRCH, syscall.SYS_KILL, uint64(1<<31), 0)
		p.fails(syscall.EPERM, syscall.SYS_KILL, 1, 0)
		p.fails(syscall.ESRCH, syscall.SYS_KILL, ^uint64(998), 0)
		p.must(syscall.SYS_KILL, 0, 0)
		p.fails(syscall.ESRCH, syscall.SYS_KILL, none, 0) // nobody else
		p.fails(syscall.EINVAL, syscall.SYS_TKILL, 0, 0)
		p.fails(syscall.ESRCH, syscall.SYS_TKILL, 999, 0)
		p.fails(syscall.EINVAL, syscall.SYS_TGKILL, 0, 2, 0)
		p.fails(syscall.ESRCH, syscall.SYS_TGKILL, 3, 2, 0)
		p.must(syscall.SYS_TGKILL, 2, 2, 0)
		p.must(syscall.SYS_TKILL, 2, 0)
		var b [abi.SiginfoSize]byte
		(&abi.Siginfo{Code: abi.SI_TKILL}).Encode(&b)
		p.Write(buf, b[:])
		p.fails(syscall.EPERM, syscall.SYS_RT_SIGQUEUEINFO, 1, 0, buf)
		p.fails(syscall.EPERM, syscall.SYS_RT_TGSIGQUEUEINFO, 1, 1, 0, buf)
		p.must(syscall.SYS_RT_SIGQUEUEINFO, 2, 0, buf)
		p.must(syscall.SYS_RT_TGSIGQUEUEINFO, 2, 2, 0, buf)
		p.fails(syscall.EINVAL, syscall.SYS_RT_TGSIGQUEUEINFO, 0, 2, 0, buf)
		p.fails(syscall.EFAULT, syscall.SYS_RT_TGSIGQUEUEINFO, 2, 2, 0, 0x1000)
		p.fails(syscall.EFAULT, syscall.SYS_RT_SIGQUEUEINFO, 2, 0, 0x1000)
		(&abi.Siginfo{Code: abi.SI_QUEUE}).Encode(&b)
		p.Write(buf, b[:])
		p.fails(syscall.ESRCH, syscall.SYS_RT_SIGQUEUEINFO, 999, 0, buf)
		p.fails(syscall.ESRCH, syscall.SYS_RT_TGSIGQUEUEINFO, 3, 2, 0, buf)
		p.fails(syscall.EINVAL, syscall.SYS_RT_SIGACTION, 65, 0, 0, 8)
		p.fails(syscall.EINVAL, syscall.SYS_RT_SIGACTION, 1, 0, 0, 4)
		p.fails(syscall.EINVAL, syscall.SYS_RT_SIGACTION, 9, buf, 0, 8)
		p.fails(syscall.EFAULT, syscall.SYS_RT_SIGACTION, 1, 0x1000, 0, 8)
		p.must(syscall.SYS_RT_SIGACTION, 1, 0, buf, 8)
		p.fails(syscall.EINVAL, syscall.SYS_RT_SIGPROCMASK, 7, buf, 0, 8)
		p.fails(syscall.EINVAL, syscall.SYS_RT_SIGPROCMASK, 0, buf, 0, 4)
		p.fails(syscall.EFAULT, syscall.SYS_RT_SIGPROCMASK, 0, 0x1000, 0, 8)
		p.fails(syscall.EFAULT, syscall.SYS_RT_SIGPROCMASK, 0, 0, 0x1000, 8)
		p.fails(syscall.EINVAL, syscall.SYS_RT_SIGPENDING, buf, 9)
		p.fails(syscall.EINVAL, syscall.SYS_RT_SIGSUSPEND, buf, 9)
		p.fails(syscall.EINVAL, syscall.SYS_RT_SIGTIMEDWAIT, buf, 0, 0, 9)
		p.fails(syscall.EFAULT, syscall.SYS_RT_SIGTIMEDWAIT, buf, 0, 0x1000, 8)
		p.fails(syscall.EFAULT, syscall.SYS_SIGALTSTACK, 0x1000, 0)
		p.Put64(buf, 0)
		p.Put32(buf+8, 77)
		p.fails(syscall.EINVAL, syscall.SYS_SIGALTSTACK, buf, 0)
		p.Put32(buf+8, abi.SS_DISABLE)
		p.must(syscall.SYS_SIGALTSTACK, buf, buf+0x40)
		p.fails(syscall.EINTR, syscall.SYS_RESTART_SYSCALL)
	})
}

func TestScheduling(t *testing.T) {
	run(t, func(p prog) {
		p.is(8, syscall.SYS_SCHED_GETAFFINITY, 0, 32, buf)
		if p.Get64(buf) != 3 {
			t.Errorf("affinity %#x", p.Get64(buf))
		}
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_GETAFFINITY, 0, 7, buf)
		p.fails(syscall.ESRCH, syscall.SYS_SCHED_GETAFFINITY, 999, 8, buf)
		p.Put64(buf, 2)
		p.must(syscall.SYS_SCHED_SETAFFINITY, 0, 8, buf)
		p.must(syscall.SYS_SCHED_GETAFFINITY, 2, 8, buf+8)
		if p.Get64(buf+8) != 2 {
			t.Error("affinity is not kept")
		}
		p.Put64(buf, 4)
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_SETAFFINITY, 0, 8, buf)
		p.fails(syscall.EFAULT, syscall.SYS_SCHED_SETAFFINITY, 0, 8, 0x1000)
		p.fails(syscall.ESRCH, syscall.SYS_SCHED_SETAFFINITY, 999, 8, buf)
		p.is(0, syscall.SYS_SCHED_YIELD)
		p.Put32(buf, 50)
		p.must(syscall.SYS_SCHED_SETSCHEDULER, 0, abi.SCHED_RR|abi.SCHED_RESET_ON_FORK, buf)
		p.is(abi.SCHED_RR|abi.SCHED_RESET_ON_FORK, syscall.SYS_SCHED_GETSCHEDULER, 0)
		p.must(syscall.SYS_SCHED_GETPARAM, 0, buf+4)
		if p.Get32(buf+4) != 50 {
			t.Errorf("priority %d", p.Get32(buf+4))
		}
		p.must(syscall.SYS_SCHED_RR_GET_INTERVAL, 0, buf)
		if p.dur(buf) == 0 {
			t.Error("no interval")
		}
		p.Put32(buf, 60)
		p.must(syscall.SYS_SCHED_SETPARAM, 0, buf)
		p.Put32(buf, 100)
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_SETPARAM, 0, buf)
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_SETPARAM, 0, 0)
		p.fails(syscall.EFAULT, syscall.SYS_SCHED_SETPARAM, 0, 0x1000)
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_GETPARAM, 0, 0)
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_SETSCHEDULER, 0, none, buf)
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_SETSCHEDULER, none, 0, buf)
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_SETSCHEDULER, 0, 7, buf)
		for nr, get := range map[uint64]int{syscall.SYS_SCHED_GETSCHEDULER: 0, syscall.SYS_SCHED_GETPARAM: 0, syscall.SYS_SCHED_RR_GET_INTERVAL: 0} {
			p.fails(syscall.ESRCH, nr, 999, buf)
			_ = get
		}
		c := p.fork(func(q prog) { q.is(abi.SCHED_OTHER, syscall.SYS_SCHED_GETSCHEDULER, 0) })
		p.join(c)
		p.must(sysGetattr, 0, buf, 48, 0)
		if p.Get32(buf) != 48 || p.Get32(buf+4) != abi.SCHED_RR || p.Get32(buf+20) != 60 {
			t.Errorf("attr % x", p.Read(buf, 48))
		}
		p.fails(syscall.EINVAL, sysGetattr, 0, buf, 8, 0)
		p.fails(syscall.ESRCH, sysGetattr, 999, buf, 48, 0)
		p.Put32(buf+4, abi.SCHED_BATCH)
		p.Put32(buf+16, 5)
		p.Put32(buf+20, 0)
		p.must(sysSetattr, 0, buf, 0)
		p.is(15, syscall.SYS_GETPRIORITY, 0, 0)
		p.fails(syscall.EINVAL, sysSetattr, 0, 0, 0)
		p.Put32(buf, 8)
		p.fails(syscall.E2BIG, sysSetattr, 0, buf, 0)
		for policy, want := range map[uint64]uint64{abi.SCHED_FIFO: 99, abi.SCHED_OTHER: 0} {
			p.is(want, syscall.SYS_SCHED_GET_PRIORITY_MAX, policy)
			p.is(min(want, 1), syscall.SYS_SCHED_GET_PRIORITY_MIN, policy)
		}
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_GET_PRIORITY_MAX, 4)
		p.fails(syscall.EINVAL, syscall.SYS_SCHED_GET_PRIORITY_MIN, 4)
		p.must(syscall.SYS_SETPRIORITY, 0, 0, 100)
		p.is(1, syscall.SYS_GETPRIORITY, 1, 0)
		p.must(syscall.SYS_SETPRIORITY, 2, 0, none-4)
		p.is(25, syscall.SYS_GETPRIORITY, 2, 0)
		p.fails(syscall.EINVAL, syscall.SYS_GETPRIORITY, 3, 0)
		p.fails(syscall.ESRCH, syscall.SYS_GETPRIORITY, 0, 999)
		p.fails(syscall.ESRCH, syscall.SYS_GETPRIORITY, 1, 999)
		p.fails(syscall.ESRCH, syscall.SYS_SETPRIORITY, 1, 999, 0)
		p.is(0, syscall.SYS_IOPRIO_GET, 1, 0)
		p.is(0, syscall.SYS_IOPRIO_SET, 1, 0, 0)
		c = p.fork(func(q prog) {
			q.must(syscall.SYS_SETUID, 1000)
			q.fails(syscall.EACCES, syscall.SYS_SETPRIORITY, 0, 0, none-9)
			q.Put32(buf, 10)
			q.fails(syscall.EPERM, syscall.SYS_SCHED_SETSCHEDULER, 0, abi.SCHED_FIFO, buf)
		})
		p.join(c)
	})
}
