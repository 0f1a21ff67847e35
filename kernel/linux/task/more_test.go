package task_test

import (
	"encoding/binary"
	"errors"
	"syscall"
	"testing"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/signal"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// elfWithInterp is a program that names an interpreter.
func elfWithInterp(w *world, f ring3.Func, interp string) []byte {
	b := w.ELF(f)
	le := binary.LittleEndian
	le.PutUint16(b[56:], 3)
	copy(b[300:], interp+"\x00")
	p := b[64+56*2:]
	le.PutUint32(p, 3)
	le.PutUint64(p[8:], 300)
	le.PutUint64(p[32:], uint64(len(interp)+1))
	return b
}

func TestInterpreter(t *testing.T) {
	w := newWorld(t)
	ran := false
	// The interpreter's entry is what begins; it may be anywhere.
	ld := w.ELF(func(q *ring3.Prog) {
		ran = true
		sp := q.Regs().RSP + 16 // argc, argv[0] = ""
		aux := map[uint64]uint64{}
		for sp += 16; ; sp += 16 {
			k := q.Get64(sp)
			if k == 0 {
				break
			}
			aux[k] = q.Get64(sp + 8)
		}
		if aux[abi.AT_BASE] == 0 || aux[abi.AT_ENTRY] == 0 || aux[abi.AT_PHNUM] != 3 || aux[abi.AT_PHDR] == 0 || aux[abi.AT_MINSIGSTKSZ] == 0 {
			t.Errorf("auxv %v", aux)
		}
		q.Exit(0)
	})
	binary.LittleEndian.PutUint16(ld[16:], 3) // ET_DYN: its entry is relative
	for n := range 2 {
		p := ld[64+56*n:]
		binary.LittleEndian.PutUint64(p[16:], binary.LittleEndian.Uint64(p[16:])-0x400000)
	}
	w.file("/bad", []byte("not a library"), 0o755)
	w.file("/ld", ld, 0o755)
	w.file("/p1", elfWithInterp(w, nil, "/none"), 0o755)
	w.file("/p2", elfWithInterp(w, nil, "/bad"), 0o755)
	w.run(func(p *ring3.Prog) {
		for path, want := range map[string]syscall.Errno{"/p1": syscall.ENOENT, "/p2": syscall.ELIBBAD} {
			v, err := p.Call(syscall.SYS_EXECVE, p.String(buf, path), 0, 0)
			w.fails(want, v, err)
		}
		p.Exit(0)
	})
	_ = ran
}

func TestScriptLoop(t *testing.T) {
	w := newWorld(t)
	w.file("/s", []byte("#!/s\n"), 0o755)
	w.file("/e", []byte("#!\n"), 0o755)
	w.file("/m", []byte("#!/missing\n"), 0o755)
	w.run(func(p *ring3.Prog) {
		for path, want := range map[string]syscall.Errno{"/s": syscall.ELOOP, "/e": syscall.ENOEXEC, "/m": syscall.ENOENT} {
			v, err := p.Call(syscall.SYS_EXECVE, p.String(buf, path), 0, 0)
			w.fails(want, v, err)
		}
		p.Exit(0)
	})
}

// The set-ID bits of a file, and what stays after them.
func TestSetUID(t *testing.T) {
	w := newWorld(t)
	w.file("/su", w.ELF(func(q *ring3.Prog) {
		if u, e, g := q.Sys(syscall.SYS_GETUID), q.Sys(syscall.SYS_GETEUID), q.Sys(syscall.SYS_GETEGID); u != 1000 || e != 0 || g != 50 {
			t.Errorf("uid %d, euid %d, egid %d", u, e, g)
		}
		if c := w.k.Task(int(q.Sys(syscall.SYS_GETTID))).Creds(); c.Effective != vfs.AllCaps {
			t.Errorf("capabilities %#x", c.Effective)
		}
		q.Exit(0)
	}), 0o755)
	ctx := vfs.NewContext(w.tree, vfs.RootCreds())
	p, err := vfs.Walk(ctx, vfs.Path{}, "/su", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(vfs.Chown(ctx, p, 0, 50), vfs.Chmod(ctx, p, 0o6755)); err != nil {
		t.Fatal(err)
	}
	w.run(func(p *ring3.Prog) {
		pid, err := p.Clone(func(q *ring3.Prog) {
			w.must(q.Call(syscall.SYS_SETUID, 1000))
			q.Sys(syscall.SYS_EXECVE, q.String(buf, "/su"), 0, 0)
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		w.must(p.Call(syscall.SYS_WAIT4, uint64(pid), word, 0, 0))
		if p.Get32(word) != 0 {
			t.Errorf("status %#x", p.Get32(word))
		}
		p.Exit(0)
	})
}

// tty is a terminal that counts.
type tty struct{ left chan int }

func (y *tty) Leave(session int) { y.left <- session }

// The end of a session's leader hangs up its terminal, and that of the last who could
// continue a stopped group hangs up the group.
func TestHangUp(t *testing.T) {
	w := newWorld(t)
	y := &tty{left: make(chan int, 1)}
	w.run(func(p *ring3.Prog) {
		leader, err := p.Clone(func(q *ring3.Prog) {
			sid := w.must(q.Call(syscall.SYS_SETSID))
			w.k.Process(int(sid)).Session().SetTTY(y)
			// A child in a group of its own that is stopped: it gets SIGHUP and goes on.
			c, err := q.Clone(func(r *ring3.Prog) {
				w.must(r.Call(syscall.SYS_SETPGID, 0, 0))
				for {
					r.Sys(syscall.SYS_KILL, r.Sys(syscall.SYS_GETPID), uint64(syscall.SIGSTOP))
				}
			}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
			if err != nil {
				t.Error(err)
			}
			w.must(q.Call(syscall.SYS_WAITID, abi.P_PID, uint64(c), buf, abi.WSTOPPED, 0))
			q.Exit(0)
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		w.must(p.Call(syscall.SYS_WAIT4, uint64(leader), 0, 0, 0))
		if got := <-y.left; got != leader {
			t.Errorf("session %d, leader %d", got, leader)
		}
		for len(w.k.Processes()) > 2 {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		p.Exit(0)
	})
}

// Job control does not stop a group that nobody could continue.
func TestOrphanedGroup(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		if !w.k.Process(2).GroupOrphaned() {
			t.Error("the first group is not orphaned")
		}
		w.must(p.Call(syscall.SYS_KILL, 2, uint64(syscall.SIGTSTP)))
		p.Exit(0)
	})
}

func TestSubreaperAndDeathSignal(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		w.must(p.Call(syscall.SYS_PRCTL, abi.PR_SET_CHILD_SUBREAPER, 1))
		mid, err := p.Clone(func(q *ring3.Prog) {
			ready := make(chan struct{})
			_, err := q.Clone(func(r *ring3.Prog) {
				w.must(r.Call(syscall.SYS_PRCTL, abi.PR_SET_PDEATHSIG, uint64(syscall.SIGTERM)))
				close(ready)
				for {
					r.Sys(syscall.SYS_PAUSE)
				}
			}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
			if err != nil {
				t.Error(err)
			}
			<-ready
			q.Exit(0)
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		w.must(p.Call(syscall.SYS_WAIT4, uint64(mid), 0, 0, 0))
		w.must(p.Call(syscall.SYS_WAIT4, ^uint64(0), word, 0, 0))
		if p.Get32(word) != uint32(syscall.SIGTERM) {
			t.Errorf("the grandchild ended with %#x", p.Get32(word))
		}
		p.Exit(0)
	})
}

// A thread that ends with a robust mutex locked.
func TestRobustExit(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		const list, entry = buf, buf + 0x40
		w.thread(p, func(q *ring3.Prog) {
			q.Put64(list, entry)
			q.Put64(list+8, 16)
			q.Put64(list+16, 0)
			q.Put64(entry, list)
			q.Put32(entry+16, uint32(q.Sys(syscall.SYS_GETTID)))
			w.must(q.Call(syscall.SYS_SET_ROBUST_LIST, list, 24))
			q.Sys(syscall.SYS_EXIT, 0)
		}, stack, word)
		join(p, word)
		if v := p.Get32(entry + 16); v != abi.FUTEX_OWNER_DIED {
			t.Errorf("word %#x", v)
		}
		p.Exit(0)
	})
}

func TestUnshare(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		x := w.k.Task(2)
		w.thread(p, func(q *ring3.Prog) {
			me := w.k.Task(int(q.Sys(syscall.SYS_GETTID)))
			if me.Files() != x.Files() || me.Dirs() != x.Dirs() {
				t.Error("threads share nothing")
			}
			v, err := q.Call(syscall.SYS_UNSHARE, abi.CLONE_THREAD)
			w.fails(syscall.EINVAL, v, err)
			w.must(q.Call(syscall.SYS_UNSHARE, abi.CLONE_FS|abi.CLONE_FILES))
			if me.Files() == x.Files() || me.Dirs() == x.Dirs() {
				t.Error("unshare does nothing")
			}
			q.Sys(syscall.SYS_EXIT, 0)
		}, stack, word)
		join(p, word)
		p.Exit(0)
	})
}

// What /proc shows and the calls of kernel/linux/sys set.
func TestAccessors(t *testing.T) {
	w := newWorld(t)
	w.start(func(p *ring3.Prog) {
		k, x := w.k, w.k.Task(2)
		q := x.Proc()
		if k.CPUs() != 2 || k.Machine() == nil || k.Uptime() <= 0 || k.Started().IsZero() || k.TotalMemory() == 0 || k.Forks() != 1 || k.LastID() != 2 {
			t.Error("the kernel's figures are wrong")
		}
		k.SetHostname("h")
		k.SetDomain("d")
		if k.Hostname() != "h" || k.Domain() != "d" {
			t.Error("names")
		}
		if l := k.Load(); l[0] < 0 || k.Running() < 1 {
			t.Errorf("load %v", l)
		}
		if q.Kernel() != k || q.PGID() != 2 || q.SID() != 2 || q.PPID() != 1 || k.Process(1).PPID() != 0 || q.Started() <= 0 || q.Age() <= 0 {
			t.Error("the process's figures are wrong")
		}
		if q.Session().TTY() != nil || q.Files() != x.Files() || q.Creds().UID != 0 || k.Process(1).Creds().UID != 0 || k.Process(1).Files() != nil {
			t.Error("what the process has is wrong")
		}
		if s := q.ShareMem(); s == nil {
			t.Error("no memory")
		} else {
			s.Close()
		}
		if k.Process(1).State() != 'S' || q.State() != 'R' || len(q.TIDs()) != 1 || len(q.Threads()) != 1 || q.Leader() != x || !x.Leader() {
			t.Error("states")
		}
		q.SetLimit(abi.RLIMIT_NOFILE, abi.Rlimit{Cur: 7, Max: 9})
		if q.Limit(abi.RLIMIT_NOFILE).Cur != 7 || x.Files().Limit() != 7 {
			t.Error("limits")
		}
		q.SetFlag(task.NoNewPrivs, true)
		if !q.Flag(task.NoNewPrivs) || q.Flag(task.THPOff) {
			t.Error("flags")
		}
		if err := q.SetOOMScoreAdj(1001); err != syscall.EINVAL {
			t.Error(err)
		}
		if err := q.SetOOMScoreAdj(5); err != nil || q.OOMScoreAdj() != 5 {
			t.Error(err)
		}
		x.SetPolicy(abi.SCHED_RR, 3, true)
		x.SetNice(-4)
		if policy, prio, reset := x.Policy(); policy != abi.SCHED_RR || prio != 3 || !reset || x.Nice() != -4 {
			t.Error("schedule")
		}
		if x.Affinity() != 3 || x.SetAffinity(8) || !x.SetAffinity(9) || x.Affinity() != 1 {
			t.Error("affinity")
		}
		if x.Umask() != 0o22 || x.Dirs() == nil || x.Comm() != "init" || x.Nr() != syscall.SYS_SCHED_YIELD && x.Nr() > 500 {
			t.Error("thread")
		}
		own, shared, mask, queued := x.SignalState()
		if own|shared|mask != 0 || queued != 0 || x.Pending() != 0 || x.Interrupted() {
			t.Error("signals")
		}
		if u := q.Usage(); u.MinorFaults+u.MajorFaults == 0 || u.MaxRSS == 0 || u.Sum() < 0 {
			t.Errorf("usage %+v", u)
		}
		if q.CPUTime() <= 0 || q.UserTime() < 0 || q.ChildUsage().Sum() != 0 {
			t.Error("times")
		}
		// A mask for one call, put back at once.
		x.SetSavedMask(signal.Of(syscall.SIGINT))
		if x.Mask() != signal.Of(syscall.SIGINT) {
			t.Error("mask")
		}
		x.RestoreMask()
		if x.Mask() != 0 {
			t.Error("mask")
		}
		told := 0
		wt := &poll.Waiter{Notify: func(poll.Events) bool { told++; return true }}
		q.WatchSignals(wt)
		if err := k.SignalGroup(2, abi.Siginfo{Signo: int32(syscall.SIGCHLD)}); err != nil {
			t.Error(err)
		}
		x.SetMask(signal.Of(syscall.SIGHUP))
		if err := k.SignalGroup(2, abi.Siginfo{Signo: int32(syscall.SIGHUP)}); err != nil {
			t.Error(err)
		}
		if err := k.SignalGroup(99, abi.Siginfo{Signo: 1}); err != syscall.ESRCH {
			t.Error(err)
		}
		q.UnwatchSignals(wt)
		if i, ok := x.TakeSignal(^signal.Set(0)); !ok || i.Signo != int32(syscall.SIGHUP) || told != 1 {
			t.Errorf("%+v, %v, told %d times", i, ok, told)
		}
		x.SetMask(0)
		k.PowerOff(false) // nobody powers off: the program is killed
		p.Sys(syscall.SYS_PAUSE)
	}, "x")
	if s := w.wait(); s != int32(syscall.SIGKILL) {
		t.Errorf("wait status %#x", s)
	}
	w.leaks()
}

// RLIMIT_SIGPENDING bounds what is queued.
func TestSignalLimit(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		x := w.k.Task(2)
		x.Proc().SetLimit(abi.RLIMIT_SIGPENDING, abi.Rlimit{Cur: 2, Max: 2})
		x.SetMask(^signal.Set(0))
		i := abi.Siginfo{Signo: 40, Code: abi.SI_QUEUE}
		for n, want := range []error{nil, nil, syscall.EAGAIN} {
			if err := x.Proc().Send(i); err != want {
				t.Errorf("%d: %v", n, err)
			}
		}
		x.TakeSignal(^signal.Set(0))
		x.TakeSignal(^signal.Set(0))
		x.SetMask(0)
		p.Exit(0)
	})
}

// A machine that runs out of memory while a program is loaded or forked says so.
func TestNoMemory(t *testing.T) {
	w := newWorld(t)
	w.file("/next", w.ELF(func(q *ring3.Prog) { q.Exit(0) }), 0o755)
	w.run(func(p *ring3.Prog) {
		path := p.String(buf, "/next")
		for n := range 12 {
			w.Machine.FailAfter(n)
			pid, err := p.Clone(func(q *ring3.Prog) { q.Exit(0) }, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
			w.Machine.FailAfter(-1)
			if err == nil {
				w.must(p.Call(syscall.SYS_WAIT4, uint64(pid), 0, 0, 0))
			} else if err != syscall.ENOMEM {
				t.Errorf("fork with %d frames: %v", n, err)
			}
		}
		for n := range 3 {
			w.Machine.FailAfter(n)
			v, err := p.Call(syscall.SYS_EXECVE, path, 0, 0)
			w.Machine.FailAfter(-1)
			if err != syscall.ENOMEM && err != syscall.EFAULT && err != syscall.E2BIG {
				t.Errorf("execve with %d frames: %d, %v", n, v, err)
			}
		}
		p.Exit(0)
	})
}

func TestConfig(t *testing.T) {
	if _, err := task.New(task.Config{}); err == nil {
		t.Error("a kernel without anything")
	}
	w := newWorld(t)
	w.file("/text", []byte("x"), 0o755)
	if _, err := w.k.Start(task.Program{Path: "/text", FS: vfs.NewContext(w.tree, vfs.RootCreds()), Files: fd.NewTable(8)}); err != syscall.ENOEXEC {
		t.Error(err)
	}
}

// Threads, futexes, mappings and signals at once: nothing hangs, nothing is lost.
func TestStorm(t *testing.T) {
	const threads = 12
	rounds := uint64(150)
	if testing.Short() {
		rounds = 20
	}
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		const sum = buf + 0x100
		w.act(p, syscall.SIGUSR1, func(*ring3.Prog) {}, abi.SA_RESTART, 0)
		area := w.must(p.Call(syscall.SYS_MMAP, 0, 1<<16, 3, syscall.MAP_PRIVATE|syscall.MAP_ANON, ^uint64(0), 0))
		stacks := w.must(p.Call(syscall.SYS_MMAP, 0, threads<<14, 3, syscall.MAP_PRIVATE|syscall.MAP_ANON, ^uint64(0), 0))
		x := w.k.Task(2)
		mem := x.Mem()
		for n := range uint64(threads) {
			w.thread(p, func(q *ring3.Prog) {
				for r := range rounds {
					// A lock of a futex.
					for {
						if ok, err := mem.CompareAndSwap32(area, 0, 1); err != nil {
							t.Error(err)
						} else if ok {
							break
						}
						q.Sys(syscall.SYS_FUTEX, area, abi.FUTEX_WAIT|abi.FUTEX_PRIVATE_FLAG, 1, 0)
					}
					q.Put32(sum, q.Get32(sum)+1)
					if err := mem.Store32(area, 0); err != nil {
						t.Error(err)
					}
					q.Sys(syscall.SYS_FUTEX, area, abi.FUTEX_WAKE|abi.FUTEX_PRIVATE_FLAG, 1)
					m := w.must(q.Call(syscall.SYS_MMAP, 0, mm.PageSize, 3, syscall.MAP_PRIVATE|syscall.MAP_ANON, ^uint64(0), 0))
					q.Put64(m, r)
					w.must(q.Call(syscall.SYS_MUNMAP, m, mm.PageSize))
					q.Sys(syscall.SYS_KILL, 2, uint64(syscall.SIGUSR1))
				}
				q.Sys(syscall.SYS_EXIT, 0)
			}, stacks+n<<14+1<<14, area+0x100+8*n)
		}
		for n := range uint64(threads) {
			join(p, area+0x100+8*n)
		}
		if got := uint64(p.Get32(sum)); got != threads*rounds {
			t.Errorf("%d rounds, want %d", got, threads*rounds)
		}
		p.Exit(0)
	})
}

// When the first program ends, the others have too before Wait returns.
func TestEndOfAll(t *testing.T) {
	w := newWorld(t)
	w.start(func(p *ring3.Prog) {
		for range 3 {
			if _, err := p.Clone(func(q *ring3.Prog) {
				w.thread(q, func(r *ring3.Prog) {
					for {
						r.Spin()
					}
				}, stack, word)
				for {
					q.Sys(syscall.SYS_PAUSE)
				}
			}, uint64(syscall.SIGCHLD), 0, 0, 0, 0); err != nil {
				t.Error(err)
			}
		}
		p.Exit(0)
	})
	if s := w.wait(); s != 0 || w.k.Live() != 0 {
		t.Errorf("status %#x, %d threads live", s, w.k.Live())
	}
	w.leaks()
}
