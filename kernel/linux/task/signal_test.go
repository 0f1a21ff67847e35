package task_test

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux/abi"
	"osv/kernel/linux/signal"
)

var le = binary.LittleEndian

// act installs a handler.
func (w *world) act(p *ring3.Prog, sig syscall.Signal, f ring3.Func, flags uint64, mask signal.Set) {
	w.t.Helper()
	w.action(p, sig, p.Addr(f), flags|abi.SA_RESTORER, mask)
}

func (w *world) action(p *ring3.Prog, sig syscall.Signal, handler, flags uint64, mask signal.Set) {
	w.t.Helper()
	a := signal.Action{Handler: handler, Flags: flags, Restorer: ring3.Restorer, Mask: mask}
	var b [signal.ActionSize]byte
	a.Encode(&b)
	p.Write(buf+0x300, b[:])
	w.must(p.Call(syscall.SYS_RT_SIGACTION, uint64(sig), buf+0x300, 0, 8))
}

// mask sets the signal mask and returns the old one.
func (w *world) mask(p *ring3.Prog, how int, s signal.Set) signal.Set {
	w.t.Helper()
	p.Put64(buf+0x340, uint64(s))
	w.must(p.Call(syscall.SYS_RT_SIGPROCMASK, uint64(how), buf+0x340, buf+0x348, 8))
	return signal.Set(p.Get64(buf + 0x348))
}

func (w *world) raise(p *ring3.Prog, sig syscall.Signal) {
	w.t.Helper()
	w.must(p.Call(syscall.SYS_TGKILL, 2, p.Sys(syscall.SYS_GETTID), uint64(sig)))
}

func TestHandler(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		sp := p.Regs().RSP
		calls := 0
		w.act(p, syscall.SIGUSR1, func(h *ring3.Prog) {
			calls++
			r := h.Regs()
			if r.RDI != uint64(syscall.SIGUSR1) || r.RSP%16 != 8 || r.RSP > sp-128 {
				t.Errorf("rdi %d, rsp %#x of %#x", r.RDI, r.RSP, sp)
			}
			info, uc := r.RSI, r.RDX
			if h.Get32(info) != uint32(syscall.SIGUSR1) || int32(h.Get32(info+8)) != abi.SI_TKILL || h.Get32(info+16) != 2 {
				t.Errorf("siginfo % x", h.Read(info, 32))
			}
			// The registers of the interrupted system call: its result, and where it goes on.
			if got := h.Get64(uc + 40 + 8*13); got != 0 {
				t.Errorf("rax %#x in the frame", got)
			}
			if h.Get16(uc+40+144) != abi.UserCS {
				t.Error("no cs in the frame")
			}
			fp := h.Get64(uc + 40 + 184)
			if h.Get32(fp+464) != 0x46505853 || h.Get32(fp+480) != ring3.XStateSize || h.Get32(fp+ring3.XStateSize) != 0x46505845 || fp%64 != 0 {
				t.Errorf("XSAVE area at %#x: % x", fp, h.Read(fp+464, 32))
			}
			if h.Get64(uc+296) != 0 {
				t.Errorf("mask in the frame: %#x", h.Get64(uc+296))
			}
			// Blocked meanwhile: the signal itself and what the action says.
			if m := w.mask(h, abi.SIG_BLOCK, 0); m != signal.Of(syscall.SIGUSR1, syscall.SIGUSR2) {
				t.Errorf("mask in the handler %#x", m)
			}
			h.Put64(uc+40+8*11, 0xbeef) // rbx, by way of the frame
		}, abi.SA_SIGINFO, signal.Of(syscall.SIGUSR2))
		p.Regs().R15 = 77
		w.raise(p, syscall.SIGUSR1)
		if calls != 1 || p.Regs().R15 != 77 || p.Regs().RBX != 0xbeef || p.Regs().RSP != sp {
			t.Errorf("calls %d, registers %+v", calls, p.Regs())
		}
		if m := w.mask(p, abi.SIG_BLOCK, 0); m != 0 {
			t.Errorf("mask after the handler %#x", m)
		}
		p.Exit(0)
	})
}

// Vector registers survive a handler that uses them, and can be changed by way of the
// frame.
func TestVectorState(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		x := p.XState()
		le.PutUint64(x[512:], 7)
		for i := 576; i < len(x); i++ {
			x[i] = byte(i)
		}
		w.act(p, syscall.SIGUSR1, func(h *ring3.Prog) {
			if le.Uint64(h.XState()[512:]) != 0 {
				t.Error("the handler begins with old vector registers")
			}
			clear(h.XState()[576:])
			fp := h.Get64(h.Regs().RDX + 40 + 184)
			h.Write(fp+576, []byte{99})
		}, abi.SA_SIGINFO, 0)
		w.raise(p, syscall.SIGUSR1)
		if x[576] != 99 || x[577] != byte(577&0xff) || x[831] != byte(831&0xff) || le.Uint64(x[512:]) != 7 {
			t.Errorf("after the handler: % x", x[512:600])
		}
		p.Exit(0)
	})
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		vector, err uint32
		addr        uint64
		sig         syscall.Signal
		code        int32
		trap        uint64
	}{
		{abi.VectorPF, 6, 0, syscall.SIGSEGV, abi.SEGV_MAPERR, 14},
		{abi.VectorPF, 7, 0x400000, syscall.SIGSEGV, abi.SEGV_ACCERR, 14},
		{abi.VectorDE, 0, 0, syscall.SIGFPE, abi.FPE_INTDIV, 0},
		{abi.VectorUD, 0, 0, syscall.SIGILL, abi.ILL_ILLOPN, 6},
		{abi.VectorBP, 0, 0, syscall.SIGTRAP, abi.SI_KERNEL, 3},
		{abi.VectorDB, 0, 0, syscall.SIGTRAP, abi.TRAP_TRACE, 1},
		{abi.VectorGP, 0, 0, syscall.SIGSEGV, abi.SI_KERNEL, 13},
		{abi.VectorSS, 0, 0, syscall.SIGBUS, abi.SI_KERNEL, 12},
		{abi.VectorAC, 0, 0, syscall.SIGBUS, abi.BUS_ADRALN, 17},
	} {
		w := newWorld(t)
		w.run(func(p *ring3.Prog) {
			called := false
			w.act(p, c.sig, func(h *ring3.Prog) {
				called = true
				info, uc := h.Regs().RSI, h.Regs().RDX
				if code := int32(h.Get32(info + 8)); code != c.code {
					t.Errorf("vector %d: si_code %d, want %d", c.vector, code, c.code)
				}
				if got := h.Get64(uc + 40 + 160); got != c.trap {
					t.Errorf("vector %d: trapno %d", c.vector, got)
				}
				if c.vector == abi.VectorPF && (h.Get64(uc+40+176) != c.addr || h.Get64(info+16) != c.addr || uint32(h.Get64(uc+40+152)) != c.err) {
					t.Errorf("cr2 %#x, si_addr %#x, err %d", h.Get64(uc+40+176), h.Get64(info+16), h.Get64(uc+40+152))
				}
				// Go on elsewhere, as the JVM does: after the instruction.
				h.Put64(uc+40+8*16, h.Get64(uc+40+8*16)+2)
			}, abi.SA_SIGINFO, 0)
			p.Fault(c.vector, c.err, c.addr)
			if !called {
				t.Errorf("vector %d: no handler was called", c.vector)
			}
			p.Exit(0)
		})
	}
}

// A program without a handler dies, and the console says where.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	w.start(func(p *ring3.Prog) {
		p.Fault(abi.VectorPF, 4, 0x10)
		t.Error("it lives on")
	})
	if s := w.wait(); s != int32(syscall.SIGSEGV) {
		t.Errorf("wait status %#x", s)
	}
	w.said("init[2/2] dies of SIGSEGV, code 1, address 0x10")
	w.leaks()
}

// A fault whose signal is blocked or ignored kills all the same.
func TestFaultCannotBeIgnored(t *testing.T) {
	for _, how := range []string{"blocked", "ignored"} {
		w := newWorld(t)
		w.start(func(p *ring3.Prog) {
			if how == "blocked" {
				w.mask(p, abi.SIG_BLOCK, signal.Of(syscall.SIGFPE))
				w.act(p, syscall.SIGFPE, func(*ring3.Prog) { t.Error("the handler is called") }, 0, 0)
			} else {
				w.action(p, syscall.SIGFPE, abi.SIG_IGN, 0, 0)
			}
			p.Fault(abi.VectorDE, 0, 0)
		})
		if s := w.wait(); s != int32(syscall.SIGFPE) {
			t.Errorf("%s: wait status %#x", how, s)
		}
	}
}

func TestMaskAndQueue(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		const rt = syscall.Signal(40)
		var got []uint32
		h := func(h *ring3.Prog) {
			info := h.Regs().RSI
			got = append(got, h.Get32(info)<<16|h.Get32(info+24))
		}
		w.act(p, rt, h, abi.SA_SIGINFO, 0)
		w.act(p, syscall.SIGUSR1, h, abi.SA_SIGINFO, 0)
		w.mask(p, abi.SIG_SETMASK, signal.Of(rt, syscall.SIGUSR1, syscall.SIGKILL))
		if m := w.mask(p, abi.SIG_BLOCK, 0); m.Has(int(syscall.SIGKILL)) {
			t.Error("SIGKILL is blocked")
		}
		var b [abi.SiginfoSize]byte
		for v := range uint64(3) {
			(&abi.Siginfo{Code: abi.SI_QUEUE, PID: 2, Value: v}).Encode(&b)
			p.Write(buf, b[:])
			w.must(p.Call(syscall.SYS_RT_SIGQUEUEINFO, 2, uint64(rt), buf))
			w.must(p.Call(syscall.SYS_KILL, 2, uint64(syscall.SIGUSR1))) // counts once
		}
		w.must(p.Call(syscall.SYS_RT_SIGPENDING, buf, 8))
		if s := signal.Set(p.Get64(buf)); s != signal.Of(rt, syscall.SIGUSR1) {
			t.Errorf("pending %#x", s)
		}
		if len(got) != 0 {
			t.Errorf("delivered while blocked: %v", got)
		}
		w.mask(p, abi.SIG_SETMASK, 0)
		// Frames stack: the last one set up runs first.
		want := map[uint32]bool{uint32(rt) << 16: true, uint32(rt)<<16 | 1: true, uint32(rt)<<16 | 2: true, uint32(syscall.SIGUSR1) << 16: true}
		if len(got) != len(want) {
			t.Errorf("delivered %x", got)
		}
		for _, g := range got {
			if !want[g] {
				t.Errorf("delivered %#x", g)
			}
		}
		p.Exit(0)
	})
}

// A system call that a signal interrupts fails or is begun again, by SA_RESTART.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		var calls atomic.Int32
		h := func(*ring3.Prog) { calls.Add(1) }
		p.Put32(word, 1)
		child, err := p.Clone(func(q *ring3.Prog) {
			for {
				q.Sys(syscall.SYS_PAUSE)
			}
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		// A thread sends signals, once there is a handler, until two have been handled:
		// slowly, so that at least the last finds the caller waiting.
		var ready atomic.Bool
		w.thread(p, func(q *ring3.Prog) {
			for !ready.Load() {
				q.Sys(syscall.SYS_SCHED_YIELD)
			}
			for n := int32(1); n <= 2; n++ {
				for calls.Load() < n {
					time.Sleep(5 * time.Millisecond)
					q.Sys(syscall.SYS_KILL, 2, uint64(syscall.SIGUSR1))
				}
			}
			q.Sys(syscall.SYS_KILL, uint64(child), uint64(syscall.SIGKILL))
			q.Put32(word2, 1)
			q.Sys(syscall.SYS_EXIT, 0)
		}, stack, word)
		w.act(p, syscall.SIGUSR1, h, 0, 0)
		ready.Store(true)
		v, err := p.Call(syscall.SYS_WAIT4, uint64(child), 0, 0, 0)
		w.fails(syscall.EINTR, v, err)
		w.act(p, syscall.SIGUSR1, h, abi.SA_RESTART, 0)
		if got := w.must(p.Call(syscall.SYS_WAIT4, uint64(child), 0, 0, 0)); int(got) != child {
			t.Errorf("waited for %d", got)
		}
		p.Exit(0)
	})
}

func TestNanosleepRest(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		// An ignored signal, a stop and SIGCONT do not end it; a handler does, with the rest.
		var ready atomic.Bool
		child, err := p.Clone(func(q *ring3.Prog) {
			w.act(q, syscall.SIGUSR1, func(*ring3.Prog) {}, abi.SA_RESTART, 0)
			ready.Store(true)
			q.Put64(buf, 1000)
			q.Put64(buf+8, 0)
			v, err := q.Call(syscall.SYS_NANOSLEEP, buf, buf+16)
			w.fails(syscall.EINTR, v, err)
			if s := q.Get64(buf + 16); s < 900 || s > 1000 {
				t.Errorf("%d s are left", s)
			}
			q.Exit(0)
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		c := uint64(child)
		for !ready.Load() || !sleeps(w, child) {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGSTOP)))
		w.must(p.Call(syscall.SYS_WAITID, abi.P_PID, c, buf, abi.WSTOPPED, 0))
		w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGCONT)))
		w.must(p.Call(syscall.SYS_WAITID, abi.P_PID, c, buf, abi.WCONTINUED, 0))
		for !sleeps(w, child) {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGUSR1)))
		w.must(p.Call(syscall.SYS_WAIT4, c, word, 0, 0))
		if p.Get32(word) != 0 {
			t.Errorf("wait status %#x", p.Get32(word))
		}
		p.Exit(0)
	})
}

// sleeps says whether a process waits in a system call.
func sleeps(w *world, pid int) bool {
	p := w.k.Process(pid)
	return p != nil && p.State() == 'S'
}

func TestAltStack(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		ss := func(sp, size uint64, flags uint32) {
			p.Put64(buf, sp)
			p.Put32(buf+8, flags)
			p.Put64(buf+16, size)
		}
		ss(0x1000, 100, 0)
		v, err := p.Call(syscall.SYS_SIGALTSTACK, buf, 0)
		w.fails(syscall.ENOMEM, v, err)
		area := w.must(p.Call(syscall.SYS_MMAP, 0, 1<<16, 3, syscall.MAP_PRIVATE|syscall.MAP_ANON, ^uint64(0), 0))
		ss(area, 1<<16, 0)
		w.must(p.Call(syscall.SYS_SIGALTSTACK, buf, 0))
		on := 0
		w.act(p, syscall.SIGUSR1, func(h *ring3.Prog) {
			if sp := h.Regs().RSP; sp > area && sp < area+1<<16 {
				on++
			}
			w.must(h.Call(syscall.SYS_SIGALTSTACK, 0, buf+0x80))
			if f := h.Get32(buf + 0x88); f != abi.SS_ONSTACK {
				t.Errorf("flags %#x on the stack", f)
			}
			v, err := h.Call(syscall.SYS_SIGALTSTACK, buf, 0)
			w.fails(syscall.EPERM, v, err)
		}, abi.SA_ONSTACK|abi.SA_SIGINFO, 0)
		w.raise(p, syscall.SIGUSR1)
		w.raise(p, syscall.SIGUSR1)
		if on != 2 {
			t.Errorf("%d handlers ran on the alternate stack", on)
		}
		p.Exit(0)
	})
}

// Without a stack a handler cannot be called: SIGSEGV, which kills.
func TestNoStackForHandler(t *testing.T) {
	w := newWorld(t)
	w.start(func(p *ring3.Prog) {
		w.act(p, syscall.SIGUSR1, func(*ring3.Prog) { t.Error("called") }, 0, 0)
		p.Regs().RSP = 0x5000
		p.Sys(syscall.SYS_TKILL, 2, uint64(syscall.SIGUSR1))
		t.Error("it lives on")
	})
	if s := w.wait(); s != int32(syscall.SIGSEGV) {
		t.Errorf("wait status %#x", s)
	}
}

// What sigreturn is given is not believed: a bad XSAVE header or mask of SIGKILL.
func TestSigreturnChecks(t *testing.T) {
	w := newWorld(t)
	w.start(func(p *ring3.Prog) {
		w.act(p, syscall.SIGUSR1, func(h *ring3.Prog) {
			uc := h.Regs().RDX
			h.Put64(uc+296, ^uint64(0))         // the mask: all
			h.Put64(uc+40+8*17, 0xffffffffffff) // flags: all, IOPL too
		}, abi.SA_SIGINFO, 0)
		w.raise(p, syscall.SIGUSR1)
		if f := p.Regs().RFlags; f&^(abi.FlagsUser|abi.FlagIF|2) != 0 {
			t.Errorf("flags %#x", f)
		}
		if m := w.mask(p, abi.SIG_SETMASK, 0); m&signal.Unblockable != 0 {
			t.Errorf("mask %#x", m)
		}
		w.act(p, syscall.SIGUSR2, func(h *ring3.Prog) {
			fp := h.Get64(h.Regs().RDX + 40 + 184)
			h.Put64(fp+520, 1<<63) // a compacted image
		}, abi.SA_SIGINFO, 0)
		w.raise(p, syscall.SIGUSR2)
		t.Error("it lives on")
	})
	if s := w.wait(); s != int32(syscall.SIGSEGV) {
		t.Errorf("wait status %#x", s)
	}
	w.said("bad frame at rt_sigreturn")
}

func TestSuspendAndTimedwait(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		calls := 0
		w.act(p, syscall.SIGUSR1, func(h *ring3.Prog) { calls++ }, 0, 0)
		w.mask(p, abi.SIG_SETMASK, signal.Of(syscall.SIGUSR1, syscall.SIGUSR2))
		w.raise(p, syscall.SIGUSR1)
		p.Put64(buf, 0)
		v, err := p.Call(syscall.SYS_RT_SIGSUSPEND, buf, 8)
		w.fails(syscall.EINTR, v, err)
		if m := w.mask(p, abi.SIG_BLOCK, 0); calls != 1 || m != signal.Of(syscall.SIGUSR1, syscall.SIGUSR2) {
			t.Errorf("calls %d, mask %#x", calls, m)
		}
		// sigtimedwait takes a signal without its handler.
		p.Put64(buf, uint64(signal.Of(syscall.SIGUSR1, syscall.SIGUSR2)))
		w.raise(p, syscall.SIGUSR2)
		if sig := w.must(p.Call(syscall.SYS_RT_SIGTIMEDWAIT, buf, buf+0x80, 0, 8)); sig != uint64(syscall.SIGUSR2) || p.Get32(buf+0x80) != uint32(sig) {
			t.Errorf("sigtimedwait: %d", sig)
		}
		p.Put64(buf+8, 0)
		p.Put64(buf+16, 1000)
		v, err = p.Call(syscall.SYS_RT_SIGTIMEDWAIT, buf, 0, buf+8, 8)
		w.fails(syscall.EAGAIN, v, err)
		// One that comes while it waits.
		w.thread(p, func(q *ring3.Prog) {
			for !sleepsThread(w, 2) {
				q.Sys(syscall.SYS_SCHED_YIELD)
			}
			q.Sys(syscall.SYS_KILL, 2, uint64(syscall.SIGUSR1))
			q.Sys(syscall.SYS_EXIT, 0)
		}, stack, word)
		if sig := w.must(p.Call(syscall.SYS_RT_SIGTIMEDWAIT, buf, 0, 0, 8)); sig != uint64(syscall.SIGUSR1) || calls != 1 {
			t.Errorf("sigtimedwait: %d, calls %d", sig, calls)
		}
		p.Exit(0)
	})
}

func sleepsThread(w *world, tid int) bool {
	x := w.k.Task(tid)
	return x != nil && x.Sleeping()
}

// SIGCHLD, and children that nobody wants to wait for.
func TestChildSignal(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		child := func() uint64 {
			n, err := p.Clone(func(q *ring3.Prog) { q.Exit(3) }, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
			if err != nil {
				t.Error(err)
			}
			return uint64(n)
		}
		var info []byte
		w.act(p, syscall.SIGCHLD, func(h *ring3.Prog) { info = h.Read(h.Regs().RSI, 32) }, abi.SA_SIGINFO|abi.SA_RESTART, 0)
		c := child()
		for info == nil {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		if le.Uint32(info[8:]) != abi.CLD_EXITED || le.Uint32(info[16:]) != uint32(c) || le.Uint32(info[24:]) != 3 {
			t.Errorf("SIGCHLD % x", info)
		}
		w.must(p.Call(syscall.SYS_WAIT4, c, 0, 0, 0))
		w.action(p, syscall.SIGCHLD, abi.SIG_IGN, 0, 0)
		c = child()
		v, err := p.Call(syscall.SYS_WAIT4, c, 0, 0, 0)
		w.fails(syscall.ECHILD, v, err)
		if w.k.Process(int(c)) != nil {
			t.Error("a child that nobody waits for is a zombie")
		}
		p.Exit(0)
	})
}

func TestResetHandAndNodefer(t *testing.T) {
	w := newWorld(t)
	w.start(func(p *ring3.Prog) {
		depth := 0
		var h ring3.Func
		h = func(h *ring3.Prog) {
			if depth++; depth < 3 {
				w.raise(h, syscall.SIGUSR1)
			}
		}
		w.act(p, syscall.SIGUSR1, h, abi.SA_NODEFER, 0)
		w.raise(p, syscall.SIGUSR1)
		if depth != 3 {
			t.Errorf("depth %d", depth)
		}
		w.act(p, syscall.SIGUSR2, func(*ring3.Prog) {}, abi.SA_RESETHAND, 0)
		w.raise(p, syscall.SIGUSR2)
		w.raise(p, syscall.SIGUSR2)
		t.Error("it lives on")
	})
	if s := w.wait(); s != int32(syscall.SIGUSR2) {
		t.Errorf("wait status %#x", s)
	}
}

func TestStopAllThreads(t *testing.T) {
	w := newWorld(t)
	w.run(func(p *ring3.Prog) {
		child, err := p.Clone(func(q *ring3.Prog) {
			w.thread(q, func(r *ring3.Prog) {
				for {
					r.Spin()
				}
			}, stack, word)
			for {
				q.Sys(syscall.SYS_PAUSE)
			}
		}, uint64(syscall.SIGCHLD), 0, 0, 0, 0)
		if err != nil {
			t.Error(err)
		}
		c := uint64(child)
		for range 20 {
			w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGSTOP)))
			w.must(p.Call(syscall.SYS_WAITID, abi.P_PID, c, buf, abi.WSTOPPED, 0))
			if s := w.k.Process(child).State(); s != 'T' {
				t.Errorf("state %c", s)
			}
			w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGCONT)))
		}
		w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGSTOP)))
		w.must(p.Call(syscall.SYS_KILL, c, uint64(syscall.SIGKILL)))
		w.must(p.Call(syscall.SYS_WAIT4, c, word, 0, 0))
		if p.Get32(word) != uint32(syscall.SIGKILL) {
			t.Errorf("wait status %#x", p.Get32(word))
		}
		p.Exit(0)
	})
}
