package task_test

import (
	"syscall"
	"testing"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux/abi"
)

const (
	data  = ring3.Data
	word  = data + 0x100
	word2 = data + 0x108
	buf   = data + 0x200
	stack = data + 0x1f00
)

func TestFirstProgram(t *testing.T) {
	w := newWorld(t)
	p := w.start(func(p *ring3.Prog) {
		sp := p.Regs().RSP
		if argc := p.Get64(sp); argc != 2 || sp%16 != 0 {
			t.Errorf("argc %d, sp %#x", argc, sp)
		}
		if pid := p.Sys(syscall.SYS_GETPID); pid != 2 {
			t.Errorf("pid %d", pid)
		}
		if ppid := p.Sys(syscall.SYS_GETPPID); ppid != 1 {
			t.Errorf("ppid %d", ppid)
		}
		if tid := p.Sys(syscall.SYS_GETTID); tid != 2 {
			t.Errorf("tid %d", tid)
		}
		p.Exit(42)
	}, "x")
	if s := w.wait(); s != 42<<8 {
		t.Errorf("wait status %#x", s)
	}
	if p.PID() != 2 || p.Image() == nil || p.Image().Path != "/init" {
		t.Errorf("process %d, %+v", p.PID(), p.Image())
	}
	w.leaks()
}

// thread makes a thread as glibc does and returns its tid.
func (w *world) thread(p *ring3.Prog, f ring3.Func, sp, ctid uint64) int {
	w.t.Helper()
	n, err := p.Clone(f, abi.CLONE_VM|abi.CLONE_FS|abi.CLONE_FILES|abi.CLONE_SIGHAND|abi.CLONE_THREAD|abi.CLONE_SYSVSEM|
		abi.CLONE_PARENT_SETTID|abi.CLONE_CHILD_CLEARTID, sp, ctid, ctid, 0)
	if err != nil {
		w.t.Errorf("clone: %v", err)
	}
	return n
}

// join waits for a thread as pthread_join does.
func join(p *ring3.Prog, ctid uint64) {
	for {
		tid := p.Get32(ctid)
		if tid == 0 {
			return
		}
		p.Sys(syscall.SYS_FUTEX, ctid, abi.FUTEX_WAIT_BITSET|abi.FUTEX_CLOCK_REALTIME, uint64(tid), 0, 0, abi.FUTEX_BITSET_MATCH_ANY)
	}
}

func TestThreads(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		tid := w.thread(p, func(q *ring3.Prog) {
			if got := q.Sys(syscall.SYS_GETPID); got != 2 {
				t.Errorf("pid of a thread: %d", got)
			}
			q.Put32(word2, uint32(q.Sys(syscall.SYS_GETTID)))
			q.Sys(syscall.SYS_EXIT, 3)
		}, stack, word)
		join(p, word)
		if got := p.Get32(word2); int(got) != tid || tid == 2 {
			t.Errorf("tid %d, the thread says %d", tid, got)
		}
		// The process ends with the code of the last thread.
		p.Sys(syscall.SYS_EXIT, 0)
	})
}

// A leader that exits first leaves its process to the others.
func TestLeaderExitsFirst(t *testing.T) {
	w := newWorld(t)
	w.start(func(p *ring3.Prog) {
		w.thread(p, func(q *ring3.Prog) {
			// Once the leader is gone, its number still is a process that signals can be
			// sent to.
			for w.k.Live() > 1 {
				q.Sys(syscall.SYS_SCHED_YIELD)
			}
			w.must(q.Call(syscall.SYS_KILL, 2, 0))
			q.Sys(syscall.SYS_EXIT, 9)
		}, stack, word)
		p.Sys(syscall.SYS_EXIT, 1)
	})
	if s := w.wait(); s != 9<<8 {
		t.Errorf("wait status %#x", s)
	}
	w.leaks()
}

func TestForkAndWait(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		p.Put32(word, 1)
		pid, err := p.Clone(func(q *ring3.Prog) {
			q.Put32(word, 2) // its own copy
			if got := q.Sys(syscall.SYS_GETPPID); got != 2 {
				t.Errorf("ppid %d", got)
			}
			q.Exit(5)
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		got := w.must(p.Call(syscall.SYS_WAIT4, ^uint64(0), word2, 0, buf))
		if int(got) != pid || p.Get32(word2) != 5<<8 {
			t.Errorf("waited for %d with status %#x, want %d", got, p.Get32(word2), pid)
		}
		if p.Get32(word) != 1 {
			t.Error("the child has written to the parent's memory")
		}
		v, err := p.Call(syscall.SYS_WAIT4, ^uint64(0), 0, 0, 0)
		w.fails(syscall.ECHILD, v, err)
		p.Exit(0)
	})
}

func TestWaitid(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		pid, err := p.Clone(func(q *ring3.Prog) {
			for {
				q.Sys(syscall.SYS_PAUSE)
			}
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		c := uint64(pid)
		if v, err := p.Call(syscall.SYS_WAITID, abi.P_PID, c, buf, abi.WEXITED|abi.WNOHANG, 0); v != 0 || err != nil || p.Get32(buf) != 0 {
			t.Errorf("WNOHANG of a child that runs: %d, %v, signo %d", v, err, p.Get32(buf))
		}
		check := func(what string, options uint64, code, status uint32) {
			w.must(p.Call(syscall.SYS_WAITID, abi.P_PID, c, buf, options, 0))
			if p.Get32(buf+8) != code || p.Get32(buf+24) != status || p.Get32(buf+16) != uint32(pid) {
				t.Errorf("%s: code %d, status %d", what, p.Get32(buf+8), p.Get32(buf+24))
			}
		}
		w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGSTOP)))
		check("stopped", abi.WSTOPPED, abi.CLD_STOPPED, uint32(syscall.SIGSTOP))
		w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGCONT)))
		check("continued", abi.WCONTINUED, abi.CLD_CONTINUED, uint32(syscall.SIGCONT))
		w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGTERM)))
		check("killed, left", abi.WEXITED|abi.WNOWAIT, abi.CLD_KILLED, uint32(syscall.SIGTERM))
		check("killed", abi.WEXITED, abi.CLD_KILLED, uint32(syscall.SIGTERM))
		v, err := p.Call(syscall.SYS_WAITID, abi.P_PID, c, buf, abi.WEXITED, 0)
		w.fails(syscall.ECHILD, v, err)
		p.Exit(0)
	})
}

func TestExec(t *testing.T) {
	w := newWorld(t)
	w.file("/next", w.ELF(func(q *ring3.Prog) {
		if pid := q.Sys(syscall.SYS_GETPID); pid != 2 {
			t.Errorf("pid after execve: %d", pid)
		}
		if tid := q.Sys(syscall.SYS_GETTID); tid != 2 {
			t.Errorf("tid after execve by a thread: %d", tid)
		}
		if argc := q.Get64(q.Regs().RSP); argc != 1 {
			t.Errorf("argc %d", argc)
		}
		q.Exit(0)
	}), 0o755)
	w.file("/script", []byte("#! /next -x\nrest"), 0o755)
	w.file("/text", []byte("no program"), 0o755)
	w.file("/locked", []byte("no program"), 0o644)
	w.run(func(p *ring3.Prog) {
		for _, c := range []struct {
			path string
			want syscall.Errno
		}{{"/none", syscall.ENOENT}, {"/text", syscall.ENOEXEC}, {"/locked", syscall.EACCES}, {"/", syscall.EACCES}} {
			v, err := p.Call(syscall.SYS_EXECVE, p.String(buf, c.path), 0, 0)
			w.fails(c.want, v, err)
		}
		// From a thread that is not the leader, while another spins and one waits.
		w.thread(p, func(q *ring3.Prog) {
			for {
				q.Spin()
			}
		}, stack, word)
		w.thread(p, func(q *ring3.Prog) {
			q.Put64(buf+0x100, q.String(buf, "/next"))
			q.Put64(buf+0x108, 0)
			q.Sys(syscall.SYS_EXECVE, buf, buf+0x100, 0)
			t.Error("execve returned")
		}, stack-0x400, word2)
		for {
			p.Sys(syscall.SYS_PAUSE)
		}
	})
}

func TestScript(t *testing.T) {
	w := newWorld(t)
	w.file("/next", w.ELF(func(q *ring3.Prog) {
		sp := q.Regs().RSP
		for n, want := range []string{"/next", "-x y", "/script", "b"} {
			a := q.Get64(sp + 8 + 8*uint64(n))
			if got := string(q.Read(a, len(want)+1)); got != want+"\x00" {
				t.Errorf("argument %d: %q, want %q", n, got, want)
			}
		}
		q.Exit(0)
	}), 0o755)
	w.file("/script", []byte("#! /next  -x y \nrest"), 0o755)
	w.run(func(p *ring3.Prog) {
		p.Put64(buf+0x100, p.String(buf, "/script"))
		p.Put64(buf+0x108, p.String(buf+0x40, "b"))
		p.Put64(buf+0x110, 0)
		p.Sys(syscall.SYS_EXECVE, buf, buf+0x100, 0)
		t.Error("execve returned")
	})
}

// posix_spawn: the parent waits until the child has another memory, or none.
func TestVfork(t *testing.T) {
	w := newWorld(t)
	w.file("/next", w.ELF(func(q *ring3.Prog) { q.Exit(7) }), 0o755)
	w.run(func(p *ring3.Prog) {
		pid, err := p.Clone(func(q *ring3.Prog) {
			q.Put32(word, 77) // in the parent's memory
			q.Sys(syscall.SYS_EXECVE, q.String(buf, "/next"), 0, 0)
		}, abi.CLONE_VM|abi.CLONE_VFORK|uint64(syscall.SIGCHLD), stack, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		if p.Get32(word) != 77 {
			t.Error("the parent went on before the child called execve")
		}
		if got := w.must(p.Call(syscall.SYS_WAIT4, uint64(pid), word2, 0, 0)); int(got) != pid || p.Get32(word2) != 7<<8 {
			t.Errorf("waited for %d, status %#x", got, p.Get32(word2))
		}
		p.Exit(0)
	})
}

func TestCloneRefuses(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		for _, c := range []struct {
			flags uint64
			want  syscall.Errno
		}{
			{abi.CLONE_THREAD, syscall.EINVAL},
			{abi.CLONE_SIGHAND, syscall.EINVAL},
			{abi.CLONE_THREAD | abi.CLONE_SIGHAND, syscall.EINVAL},
			{abi.CLONE_NEWPID, syscall.EPERM},
			{abi.CLONE_SETTLS, syscall.EPERM},
		} {
			v, err := p.Call(syscall.SYS_CLONE, c.flags, stack, 0, 0, 1<<62)
			w.fails(c.want, v, err)
		}
		p.Exit(0)
	})
}

// A child whose parent ends is reaped by nobody but the kernel.
func TestOrphans(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		pid, err := p.Clone(func(q *ring3.Prog) {
			_, err := q.Clone(func(r *ring3.Prog) {
				for r.Sys(syscall.SYS_GETPPID) != 1 {
					r.Sys(syscall.SYS_SCHED_YIELD)
				}
				r.Exit(0)
			}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
			if err != nil {
				t.Error(err)
			}
			q.Exit(0)
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		w.must(p.Call(syscall.SYS_WAIT4, uint64(pid), 0, 0, 0))
		for w.k.Live() > 1 {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		if n := len(w.k.Processes()); n != 2 {
			t.Errorf("%d processes are left", n)
		}
		p.Exit(0)
	})
}
