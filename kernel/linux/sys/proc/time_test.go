package proc_test

import (
	"syscall"
	"testing"
	"time"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux/abi"
	"osv/kernel/linux/signal"
)

type ring3Prog = ring3.Prog

// handler installs f for sig.
func (p prog) handler(sig syscall.Signal, f func(h *ring3.Prog)) {
	p.t.Helper()
	a := signal.Action{Handler: p.Addr(f), Flags: abi.SA_RESTORER | abi.SA_SIGINFO, Restorer: ring3.Restorer}
	var b [signal.ActionSize]byte
	a.Encode(&b)
	p.Write(buf+0x300, b[:])
	p.must(syscall.SYS_RT_SIGACTION, uint64(sig), buf+0x300, 0, 8)
}

func TestClocks(t *testing.T) {
	run(t, func(p prog) {
		now := time.Now()
		p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_REALTIME, buf)
		if d := p.dur(buf) - time.Duration(now.UnixNano()); d < 0 || d > time.Minute {
			t.Errorf("off by %v", d)
		}
		last := time.Duration(0)
		for range 100 {
			p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_MONOTONIC, buf)
			if d := p.dur(buf); d < last {
				t.Error("time goes back")
			} else {
				last = d
			}
		}
		for _, id := range []int64{2, 3, 4, 5, 6, 7, 11, -6, -2, -5 &^ 7, ^2<<3 | 2, ^2<<3 | 6, ^2<<3 | 1, ^2<<3 | 5, ^2 << 3} {
			p.must(syscall.SYS_CLOCK_GETTIME, uint64(id), buf)
			p.must(syscall.SYS_CLOCK_GETRES, uint64(id), buf)
			if d := p.dur(buf); d != 1 && d != 4*time.Millisecond {
				t.Errorf("clock %d: resolution %v", id, d)
			}
		}
		p.must(syscall.SYS_CLOCK_GETRES, 0, 0)
		for _, id := range []int64{10, 12, 99, ^999<<3 | 2, ^999<<3 | 6, ^3<<3 | 3} {
			p.fails(syscall.EINVAL, syscall.SYS_CLOCK_GETTIME, uint64(id), buf)
			p.fails(syscall.EINVAL, syscall.SYS_CLOCK_GETRES, uint64(id), buf)
		}
		p.fails(syscall.EFAULT, syscall.SYS_CLOCK_GETTIME, 0, 0x1000)
		p.fails(syscall.EPERM, syscall.SYS_CLOCK_SETTIME, 0, p.spec(buf, time.Hour))
		p.fails(syscall.EINVAL, syscall.SYS_CLOCK_SETTIME, 1, buf)
		p.fails(syscall.EPERM, syscall.SYS_SETTIMEOFDAY, buf, 0)
		p.must(syscall.SYS_GETTIMEOFDAY, buf, buf+0x20)
		p.fails(syscall.EFAULT, syscall.SYS_GETTIMEOFDAY, 0x1000, 0)
		if s := p.must(syscall.SYS_TIME, buf+0x40); s < uint64(now.Unix()) || s != p.Get64(buf+0x40) {
			t.Errorf("time %d", s)
		}
		p.must(syscall.SYS_TIMES, buf)
		p.must(syscall.SYS_TIMES, 0)
		for _, who := range []uint64{0, none, 1} {
			p.must(syscall.SYS_GETRUSAGE, who, buf)
		}
		p.fails(syscall.EINVAL, syscall.SYS_GETRUSAGE, 2, buf)
	})
}

// Time that others use up is not a thread's own.
func TestCPUTime(t *testing.T) {
	run(t, func(p prog) {
		p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_THREAD_CPUTIME_ID, buf)
		before := p.dur(buf)
		p.must(syscall.SYS_NANOSLEEP, p.spec(buf, 200*time.Millisecond), 0)
		p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_THREAD_CPUTIME_ID, buf)
		if d := p.dur(buf) - before; d > 150*time.Millisecond {
			t.Errorf("sleeping counts: %v", d)
		}
		before = p.dur(buf)
		start := time.Now()
		for time.Since(start) < 50*time.Millisecond {
			p.must(syscall.SYS_GETPID)
		}
		p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_THREAD_CPUTIME_ID, buf)
		if d := p.dur(buf) - before; d < 40*time.Millisecond {
			t.Errorf("running does not count: %v", d)
		}
		p.must(syscall.SYS_GETRUSAGE, 0, buf)
		if p.Get64(buf)+p.Get64(buf+8)+p.Get64(buf+16)+p.Get64(buf+24) == 0 {
			t.Error("getrusage has none of it")
		}
	})
}

func TestSleeps(t *testing.T) {
	run(t, func(p prog) {
		start := time.Now()
		p.must(syscall.SYS_NANOSLEEP, p.spec(buf, 10*time.Millisecond), 0)
		p.must(syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_REALTIME, 0, p.spec(buf, 10*time.Millisecond), 0)
		p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_MONOTONIC, buf)
		p.must(syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_MONOTONIC, abi.TIMER_ABSTIME, p.spec(buf, p.dur(buf)+10*time.Millisecond), 0)
		p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_REALTIME, buf)
		p.must(syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_REALTIME, abi.TIMER_ABSTIME, p.spec(buf, p.dur(buf)+10*time.Millisecond), 0)
		if d := time.Since(start); d < 40*time.Millisecond {
			t.Errorf("all took %v", d)
		}
		// The past, and nothing.
		p.must(syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_MONOTONIC, abi.TIMER_ABSTIME, p.spec(buf, 1), 0)
		p.must(syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_MONOTONIC, abi.TIMER_ABSTIME, p.spec(buf, 0), 0)
		p.must(syscall.SYS_NANOSLEEP, p.spec(buf, 0), 0)
		p.must(syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_PROCESS_CPUTIME_ID, abi.TIMER_ABSTIME, p.spec(buf, 1), 0)
		p.must(syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_PROCESS_CPUTIME_ID, 0, p.spec(buf, 0), 0)
		p.fails(syscall.EINVAL, syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_THREAD_CPUTIME_ID, 0, buf, 0)
		p.fails(syscall.EOPNOTSUPP, syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_MONOTONIC_RAW, 0, buf, 0)
		p.fails(syscall.EINVAL, syscall.SYS_CLOCK_NANOSLEEP, 99, 0, buf, 0)
		p.fails(syscall.EFAULT, syscall.SYS_NANOSLEEP, 0x1000, 0)
		p.Put64(buf+8, 1e9)
		p.fails(syscall.EINVAL, syscall.SYS_NANOSLEEP, buf, 0)
		// A handler ends an absolute sleep with EINTR, without a rest.
		p.handler(syscall.SIGALRM, func(*ring3.Prog) {})
		timer := func(ms uint64) {
			for n := range uint64(4) {
				p.Put64(word+8*n, 0)
			}
			p.Put64(word+24, ms*1000)
			p.must(syscall.SYS_SETITIMER, abi.ITIMER_REAL, word, 0)
		}
		timer(5)
		p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_MONOTONIC, buf)
		p.fails(syscall.EINTR, syscall.SYS_CLOCK_NANOSLEEP, abi.CLOCK_MONOTONIC, abi.TIMER_ABSTIME, p.spec(buf, p.dur(buf)+time.Hour), 0)
		timer(5)
		p.fails(syscall.EINTR, syscall.SYS_NANOSLEEP, p.spec(buf, time.Hour), buf+0x20)
		if d := p.dur(buf + 0x20); d < 59*time.Minute || d > time.Hour {
			t.Errorf("the rest is %v", d)
		}
		timer(5)
		p.fails(syscall.EINTR, syscall.SYS_PAUSE)
		// A time too far to be told apart from none.
		timer(5)
		p.Put64(buf, 1<<62)
		p.Put64(buf+8, 0)
		p.fails(syscall.EINTR, syscall.SYS_NANOSLEEP, buf, 0)
	})
}

func TestItimers(t *testing.T) {
	run(t, func(p prog) {
		set := func(which int, value, interval time.Duration) {
			p.Put64(buf, uint64(interval/time.Second))
			p.Put64(buf+8, uint64(interval%time.Second/1000))
			p.Put64(buf+16, uint64(value/time.Second))
			p.Put64(buf+24, uint64(value%time.Second/1000))
			p.must(syscall.SYS_SETITIMER, uint64(which), buf, buf+0x40)
		}
		n := [3]int{}
		for which, sig := range []syscall.Signal{syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGPROF} {
			p.handler(sig, func(*ring3.Prog) { n[which]++ })
			set(which, time.Hour, 30*time.Second)
			p.must(syscall.SYS_GETITIMER, uint64(which), buf)
			if p.Get64(buf) != 30 || p.Get64(buf+16) < 3590 || p.Get64(buf+16) > 3600 {
				t.Errorf("timer %d: interval %d, left %d", which, p.Get64(buf), p.Get64(buf+16))
			}
			set(which, time.Millisecond, time.Millisecond)
			if p.Get64(buf+0x40+16) < 3590 {
				t.Errorf("timer %d: it was %d", which, p.Get64(buf+0x50))
			}
			for start := time.Now(); n[which] < 3; p.Sys(syscall.SYS_GETPID) {
				if time.Since(start) > 20*time.Second {
					t.Errorf("timer %d rings %d times", which, n[which])
					break
				}
			}
			p.must(syscall.SYS_SETITIMER, uint64(which), 0, 0)
			p.must(syscall.SYS_GETITIMER, uint64(which), buf)
			if p.Get64(buf)+p.Get64(buf+8)+p.Get64(buf+16)+p.Get64(buf+24) != 0 {
				t.Errorf("timer %d is not stopped", which)
			}
		}
		p.is(0, syscall.SYS_ALARM, 100)
		p.is(100, syscall.SYS_ALARM, 0)
		p.is(0, syscall.SYS_ALARM, 0)
		p.fails(syscall.EINVAL, syscall.SYS_GETITIMER, 3, buf)
		p.fails(syscall.EINVAL, syscall.SYS_SETITIMER, 3, buf, 0)
		p.fails(syscall.EFAULT, syscall.SYS_SETITIMER, 0, 0x1000, 0)
		p.Put64(buf+24, 1e6)
		p.fails(syscall.EINVAL, syscall.SYS_SETITIMER, 0, buf, 0)
	})
}

func TestPosixTimers(t *testing.T) {
	run(t, func(p prog) {
		event := func(value uint64, sig, notify, tid uint32) uint64 {
			p.Put64(buf, value)
			p.Put32(buf+8, sig)
			p.Put32(buf+12, notify)
			p.Put32(buf+16, tid)
			return buf
		}
		set := func(id uint32, flags uint64, value, interval time.Duration) {
			p.spec(buf+0x80, interval)
			p.spec(buf+0x90, value)
			p.must(syscall.SYS_TIMER_SETTIME, uint64(id), flags, buf+0x80, buf+0xa0)
		}
		create := func(clock uint64, ev uint64) uint32 {
			p.must(syscall.SYS_TIMER_CREATE, clock, ev, word)
			return p.Get32(word)
		}
		const rt = syscall.Signal(40)
		var infos [][]byte
		p.handler(rt, func(h *ring3.Prog) { infos = append(infos, h.Read(h.Regs().RSI, 32)) })
		a := create(abi.CLOCK_MONOTONIC, event(0x1234, uint32(rt), abi.SIGEV_SIGNAL, 0))
		b := create(abi.CLOCK_REALTIME, event(0x5678, uint32(rt), abi.SIGEV_THREAD_ID, 2))
		if a == b {
			t.Error("both have one number")
		}
		set(a, 0, time.Millisecond, 0)
		for len(infos) < 1 {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		if i := infos[0]; int32(le.Uint32(i[8:])) != abi.SI_TIMER || le.Uint32(i[16:]) != a || le.Uint64(i[24:]) != 0x1234 {
			t.Errorf("siginfo % x", i)
		}
		// Expirations while the signal is blocked are overruns of one signal.
		p.Put64(word+8, 1<<(rt-1))
		p.must(syscall.SYS_RT_SIGPROCMASK, abi.SIG_BLOCK, word+8, 0, 8)
		infos = nil
		set(b, 0, time.Millisecond, time.Millisecond)
		p.must(syscall.SYS_NANOSLEEP, p.spec(buf, 30*time.Millisecond), 0)
		p.must(syscall.SYS_TIMER_GETTIME, uint64(b), buf)
		if p.dur(buf) != time.Millisecond || p.dur(buf+16) > time.Millisecond {
			t.Errorf("interval %v, left %v", p.dur(buf), p.dur(buf+16))
		}
		set(b, 0, 0, 0)
		if p.dur(buf+0xa0) != time.Millisecond {
			t.Errorf("the interval was %v", p.dur(buf+0xa0))
		}
		p.must(syscall.SYS_RT_SIGPROCMASK, abi.SIG_UNBLOCK, word+8, 0, 8)
		if len(infos) != 1 {
			t.Errorf("%d signals", len(infos))
		}
		p.must(syscall.SYS_TIMER_GETOVERRUN, uint64(b))
		// In the past, by the clock itself.
		infos = nil
		set(a, abi.TIMER_ABSTIME, 1, 0)
		for len(infos) < 1 {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		// Processor time.
		c := create(abi.CLOCK_PROCESS_CPUTIME_ID, event(7, uint32(rt), abi.SIGEV_SIGNAL, 0))
		infos = nil
		set(c, 0, 5*time.Millisecond, 0)
		for len(infos) < 1 {
			p.Sys(syscall.SYS_GETPID)
		}
		// Nobody is told.
		d := create(abi.CLOCK_MONOTONIC, event(0, 0, abi.SIGEV_NONE, 0))
		set(d, 0, time.Millisecond, 0)
		for p.must(syscall.SYS_TIMER_GETTIME, uint64(d), buf); p.dur(buf+16) != 0; p.must(syscall.SYS_TIMER_GETTIME, uint64(d), buf) {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		create(abi.CLOCK_MONOTONIC, 0) // SIGALRM with its number
		for _, id := range []uint32{a, b, c, d} {
			p.must(syscall.SYS_TIMER_DELETE, uint64(id))
			p.fails(syscall.EINVAL, syscall.SYS_TIMER_DELETE, uint64(id))
		}
		p.fails(syscall.EINVAL, syscall.SYS_TIMER_GETTIME, 99, buf)
		p.fails(syscall.EINVAL, syscall.SYS_TIMER_GETOVERRUN, 99)
		p.fails(syscall.EINVAL, syscall.SYS_TIMER_SETTIME, 99, 0, buf+0x80, 0)
		p.fails(syscall.EINVAL, syscall.SYS_TIMER_SETTIME, 99, 0, 0, 0)
		p.fails(syscall.EFAULT, syscall.SYS_TIMER_SETTIME, 99, 0, 0x1000, 0)
		p.fails(syscall.EINVAL, syscall.SYS_TIMER_CREATE, 99, 0, word)
		p.fails(syscall.EOPNOTSUPP, syscall.SYS_TIMER_CREATE, abi.CLOCK_MONOTONIC_RAW, 0, word)
		p.fails(syscall.EINVAL, syscall.SYS_TIMER_CREATE, 1, event(0, 65, abi.SIGEV_SIGNAL, 0), word)
		p.fails(syscall.EINVAL, syscall.SYS_TIMER_CREATE, 1, event(0, 10, 9, 0), word)
		p.fails(syscall.EINVAL, syscall.SYS_TIMER_CREATE, 1, event(0, 10, abi.SIGEV_THREAD_ID, 1), word)
		p.fails(syscall.EFAULT, syscall.SYS_TIMER_CREATE, 1, 0x1000, word)
		p.fails(syscall.EFAULT, syscall.SYS_TIMER_CREATE, 1, 0, 0x1000)
	})
}

func TestFutex(t *testing.T) {
	run(t, func(p prog) {
		const private = abi.FUTEX_PRIVATE_FLAG
		thread := func(f func(q prog), sp, tid uint64) {
			p.Clone(func(q *ring3.Prog) { f(prog{q, t, p.k}); q.Sys(syscall.SYS_EXIT, 0) },
				abi.CLONE_VM|abi.CLONE_FS|abi.CLONE_FILES|abi.CLONE_SIGHAND|abi.CLONE_THREAD|abi.CLONE_SYSVSEM|abi.CLONE_PARENT_SETTID|abi.CLONE_CHILD_CLEARTID,
				sp, tid, tid, 0)
		}
		f, g := uint64(word), uint64(word+4)
		p.fails(syscall.EAGAIN, syscall.SYS_FUTEX, f, abi.FUTEX_WAIT|private, 1, 0)
		p.fails(syscall.ETIMEDOUT, syscall.SYS_FUTEX, f, abi.FUTEX_WAIT|private, 0, p.spec(buf, time.Millisecond))
		p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_MONOTONIC, buf)
		p.fails(syscall.ETIMEDOUT, syscall.SYS_FUTEX, f, abi.FUTEX_WAIT_BITSET|private, 0, p.spec(buf, p.dur(buf)+time.Millisecond), 0, 1)
		p.must(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_REALTIME, buf)
		p.fails(syscall.ETIMEDOUT, syscall.SYS_FUTEX, f, abi.FUTEX_WAIT_BITSET|abi.FUTEX_CLOCK_REALTIME, 0, p.spec(buf, p.dur(buf)+time.Millisecond), 0, 1)
		p.fails(syscall.EINVAL, syscall.SYS_FUTEX, f, abi.FUTEX_WAIT_BITSET, 0, 0, 0, 0)
		p.fails(syscall.EFAULT, syscall.SYS_FUTEX, f, abi.FUTEX_WAIT, 0, 0x1000)
		p.fails(syscall.ENOSYS, syscall.SYS_FUTEX, f, 99, 0, 0)
		p.fails(syscall.ENOSYS, syscall.SYS_FUTEX, f, abi.FUTEX_WAKE|abi.FUTEX_CLOCK_REALTIME, 0, 0)
		p.fails(syscall.EINVAL, syscall.SYS_FUTEX, f, abi.FUTEX_REQUEUE, none, 0, g, 0)
		p.is(0, syscall.SYS_FUTEX, f, abi.FUTEX_WAKE, 1)
		// Three wait; one is woken, two are moved, and woken there.
		for n := range uint64(3) {
			p.Put32(buf+0x10*n, 0)
			thread(func(q prog) { q.must(syscall.SYS_FUTEX, f, abi.FUTEX_WAIT|private, 0, 0) }, stack-0x200*n, buf+0x10*n)
		}
		moved := uint64(0)
		for moved < 2 {
			moved += p.must(syscall.SYS_FUTEX, f, abi.FUTEX_CMP_REQUEUE|private, 0, 2-moved, g, 0)
		}
		woken := uint64(0)
		for woken < 2 {
			woken += p.must(syscall.SYS_FUTEX, g, abi.FUTEX_WAKE_BITSET|private, 2, 0, 0, 0xff)
			woken += p.must(syscall.SYS_FUTEX, f, abi.FUTEX_WAKE|private, 1)
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		p.must(syscall.SYS_FUTEX, f, abi.FUTEX_WAKE_OP|private, 3, 3, g, 0)
		p.must(syscall.SYS_FUTEX, f, abi.FUTEX_REQUEUE|private, 9, 9, g, 0)
		for n := range uint64(3) {
			for tid := p.Get32(buf + 0x10*n); tid != 0; tid = p.Get32(buf + 0x10*n) {
				p.Sys(syscall.SYS_FUTEX, f, abi.FUTEX_WAKE, 9)
				p.Sys(syscall.SYS_SCHED_YIELD)
			}
		}
		// PI: a thread waits for the main thread's lock.
		p.Put32(f, 0)
		p.Put32(g, 0)
		p.must(syscall.SYS_FUTEX, f, abi.FUTEX_LOCK_PI|private, 0, 0)
		p.fails(syscall.EDEADLK, syscall.SYS_FUTEX, f, abi.FUTEX_TRYLOCK_PI|private, 0, 0)
		thread(func(q prog) {
			q.fails(syscall.EAGAIN, syscall.SYS_FUTEX, f, abi.FUTEX_TRYLOCK_PI|private, 0, 0)
			q.fails(syscall.ETIMEDOUT, syscall.SYS_FUTEX, f, abi.FUTEX_LOCK_PI|private, 0, q.spec(buf+0x100, time.Millisecond))
			q.fails(syscall.ETIMEDOUT, syscall.SYS_FUTEX, f, abi.FUTEX_LOCK_PI2|private, 0, q.spec(buf+0x100, time.Millisecond))
			q.must(syscall.SYS_FUTEX, f, abi.FUTEX_LOCK_PI|private, 0, 0)
			q.must(syscall.SYS_FUTEX, f, abi.FUTEX_UNLOCK_PI|private, 0, 0)
		}, stack, buf)
		for p.Get32(f)&abi.FUTEX_WAITERS == 0 {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		p.must(syscall.SYS_FUTEX, f, abi.FUTEX_UNLOCK_PI|private, 0, 0)
		for p.Get32(buf) != 0 {
			p.Sys(syscall.SYS_SCHED_YIELD)
		}
		p.fails(syscall.EPERM, syscall.SYS_FUTEX, f, abi.FUTEX_UNLOCK_PI|private, 0, 0)
		// Robust lists.
		p.fails(syscall.EINVAL, syscall.SYS_SET_ROBUST_LIST, buf, 8)
		p.must(syscall.SYS_SET_ROBUST_LIST, buf, 24)
		p.must(syscall.SYS_GET_ROBUST_LIST, 0, word+8, word+16)
		if p.Get64(word+8) != buf || p.Get64(word+16) != 24 {
			t.Error("the robust list is not kept")
		}
		p.fails(syscall.ESRCH, syscall.SYS_GET_ROBUST_LIST, 999, word, word)
		p.fails(syscall.EFAULT, syscall.SYS_GET_ROBUST_LIST, 0, 0x1000, word)
		p.must(syscall.SYS_SET_ROBUST_LIST, 0, 24)
		// A signal with a handler ends a wait, and one without a timeout begins again.
		p.handler(syscall.SIGALRM, func(*ring3.Prog) {})
		for n := range uint64(4) {
			p.Put64(buf+8*n, 0)
		}
		p.Put64(buf+24, 3000)
		p.must(syscall.SYS_SETITIMER, 0, buf, 0)
		p.Put32(f, 0)
		p.fails(syscall.EINTR, syscall.SYS_FUTEX, f, abi.FUTEX_WAIT, 0, p.spec(buf+0x40, time.Hour))
	})
}
