package futex

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/abi"
	"osv/kernel/linux/mm"
)

const any = abi.FUTEX_BITSET_MATCH_ANY

// space is memory with two pages that can be written to, from addr on.
func space(t testing.TB) (*mm.Space, uint64) {
	t.Helper()
	s, err := mm.New(fakemm.New(256), mm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := s.Mmap(mm.MapRequest{Length: 8192, Prot: mm.ProtRead | mm.ProtWrite, Flags: syscall.MAP_PRIVATE | syscall.MAP_ANON})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, addr
}

// thread is a Sleeper that a signal can interrupt.
type thread struct {
	Waiter
	signal chan struct{}
}

func newThread() *thread {
	th := &thread{signal: make(chan struct{}, 1)}
	th.Init()
	return th
}

func (th *thread) Sleep(c <-chan struct{}, deadline time.Time) error {
	var timeout <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-c:
		return nil
	default:
	}
	select {
	case <-c:
		return nil
	case <-th.signal:
		return abi.ERESTARTSYS
	case <-timeout:
		return syscall.ETIMEDOUT
	}
}

// wait has a thread wait and tells how it ended.
func wait(tb *Table, m Memory, th *thread, addr uint64, val, bitset uint32, deadline time.Time) <-chan error {
	c := make(chan error, 1)
	go func() { c <- tb.Wait(th, &th.Waiter, m, addr, false, val, bitset, deadline) }()
	return c
}

func TestWaitChecks(t *testing.T) {
	m, a := space(t)
	tb, th := NewTable(1), newThread()
	for _, c := range []struct {
		addr   uint64
		bitset uint32
		want   error
	}{
		{a, 0, syscall.EINVAL}, {a + 1, any, syscall.EINVAL}, {a, any, syscall.EAGAIN}, {0x1000, any, syscall.EFAULT}, {1 << 50, any, syscall.EFAULT},
	} {
		if err := tb.Wait(th, &th.Waiter, m, c.addr, false, 7, c.bitset, time.Time{}); err != c.want {
			t.Errorf("%#x, bits %x: %v, want %v", c.addr, c.bitset, err, c.want)
		}
	}
	if _, err := tb.Wake(m, a, false, 1, 0); err != syscall.EINVAL {
		t.Error(err)
	}
	if n, err := tb.Wake(m, a, false, 1, any); n != 0 || err != nil {
		t.Error(n, err)
	}
}

func TestTimeoutAndSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a := space(t)
		tb, th := NewTable(1), newThread()
		start := time.Now()
		if err := tb.Wait(th, &th.Waiter, m, a, false, 0, any, start.Add(3*time.Second)); err != syscall.ETIMEDOUT {
			t.Error(err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("after %v", d)
		}
		c := wait(tb, m, th, a, 0, any, time.Time{})
		synctest.Wait()
		th.signal <- struct{}{}
		if err := <-c; err != abi.ERESTARTSYS {
			t.Error(err)
		}
		// Neither is left in the table.
		if n, _ := tb.Wake(m, a, false, 10, any); n != 0 {
			t.Errorf("%d waiters are left", n)
		}
	})
}

func TestWakesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a := space(t)
		tb := NewTable(1)
		var order []int
		var mu sync.Mutex
		for i := range 5 {
			th := newThread()
			go func() {
				if err := tb.Wait(th, &th.Waiter, m, a, false, 0, 1<<i, time.Time{}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		for _, step := range []struct {
			n      int
			bitset uint32
			want   []int
		}{{1, any, []int{0}}, {1, 8, []int{0, 3}}, {1, any, []int{0, 3, 1}}, {9, 4, []int{0, 3, 1, 2}}, {9, any, []int{0, 3, 1, 2, 4}}} {
			if _, err := tb.Wake(m, a, false, step.n, step.bitset); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if !slices.Equal(order, step.want) {
				t.Errorf("woken %v, want %v", order, step.want)
			}
		}
	})
}

func TestRequeue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a := space(t)
		tb := NewTable(1)
		b := a + 4096
		var done atomic.Int32
		for range 6 {
			th := newThread()
			go func() {
				if err := tb.Wait(th, &th.Waiter, m, a, false, 0, any, time.Time{}); err != nil {
					t.Error(err)
				}
				done.Add(1)
			}()
			synctest.Wait()
		}
		if _, _, err := tb.Requeue(m, a, b, false, 1, 1, true, 5); err != syscall.EAGAIN {
			t.Error(err)
		}
		woken, moved, err := tb.Requeue(m, a, b, false, 2, 3, true, 0)
		if woken != 2 || moved != 3 || err != nil {
			t.Errorf("woken %d, moved %d, %v", woken, moved, err)
		}
		synctest.Wait()
		if done.Load() != 2 {
			t.Errorf("%d go on", done.Load())
		}
		if n, _ := tb.Wake(m, a, false, 9, any); n != 1 {
			t.Errorf("%d waited at the first", n)
		}
		// Onto itself, nothing moves.
		if _, moved, _ := tb.Requeue(m, b, b, false, 0, 9, false, 0); moved != 3 {
			t.Errorf("%d were moved onto itself", moved)
		}
		if n, _ := tb.Wake(m, b, false, 9, any); n != 3 {
			t.Errorf("%d waited at the second", n)
		}
		for _, bad := range []uint64{0x1000, a + 2} {
			if _, _, err := tb.Requeue(m, bad, b, true, 1, 1, true, 0); err == nil {
				t.Error("no error")
			}
			if _, _, err := tb.Requeue(m, a, bad, true, 1, 1, true, 0); err == nil {
				t.Error("no error")
			}
		}
		synctest.Wait()
	})
}

func op(kind, cmp uint32, arg, cmpArg int32) uint32 {
	return kind<<28 | cmp<<24 | uint32(arg)&0xfff<<12 | uint32(cmpArg)&0xfff
}

func TestWakeOp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a := space(t)
		tb := NewTable(1)
		b := a + 4
		for _, c := range []struct {
			old  uint32
			op   uint32
			want uint32
			hit  bool
			err  error
		}{
			{5, op(0, 0, 9, 5), 9, true, nil},
			{5, op(1, 1, -2, 5), 3, false, nil},
			{5, op(2, 2, 2, 6), 7, true, nil},
			{5, op(3, 3, 1, 5), 4, true, nil},
			{5, op(4, 4, 4, 4), 1, true, nil},
			{5, op(8, 5, 3, 6), 8, false, nil},
			{5, op(5, 0, 0, 0), 5, false, syscall.ENOSYS},
			{5, op(0, 6, 1, 0), 1, false, syscall.ENOSYS},
		} {
			var done atomic.Int32
			for _, at := range []uint64{a, b} {
				th := newThread()
				if err := m.Store32(b, 0); err != nil {
					t.Fatal(err)
				}
				go func() {
					if err := tb.Wait(th, &th.Waiter, m, at, false, 0, any, time.Time{}); err != nil {
						t.Error(err)
					}
					done.Add(1)
				}()
				synctest.Wait()
			}
			if err := m.Store32(b, c.old); err != nil {
				t.Fatal(err)
			}
			n, err := tb.WakeOp(m, a, b, false, 1, 1, c.op)
			want := 1
			if c.hit {
				want = 2
			}
			if c.err != nil {
				want = 0
			}
			if n != want || err != c.err {
				t.Errorf("op %#x: woke %d, %v", c.op, n, err)
			}
			if got, _ := m.Load32(b); got != c.want {
				t.Errorf("op %#x: word %d, want %d", c.op, got, c.want)
			}
			for _, at := range []uint64{a, b} {
				if _, err := tb.Wake(m, at, false, 9, any); err != nil {
					t.Error(err)
				}
			}
			synctest.Wait()
			if done.Load() != 2 {
				t.Errorf("%d went on", done.Load())
			}
		}
		if _, err := tb.WakeOp(m, a, 0x1000, false, 1, 1, 0); err != syscall.EFAULT {
			t.Error(err)
		}
		if _, err := tb.WakeOp(m, a+1, a, false, 1, 1, 0); err != syscall.EINVAL {
			t.Error(err)
		}
	})
}

func TestPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a := space(t)
		tb := NewTable(1)
		alive := func(tid uint32) bool { return tid != 99 }
		lock := func(tid uint32, try bool) error {
			th := newThread()
			return tb.LockPI(th, &th.Waiter, m, a, false, tid, try, alive, time.Time{})
		}
		if err := lock(1, false); err != nil {
			t.Error(err)
		}
		if err := lock(1, false); err != syscall.EDEADLK {
			t.Error(err)
		}
		if err := lock(2, true); err != syscall.EAGAIN {
			t.Error(err)
		}
		if err := tb.UnlockPI(m, a, false, 2); err != syscall.EPERM {
			t.Error(err)
		}
		var got []uint32
		var mu sync.Mutex
		for tid := uint32(2); tid < 5; tid++ {
			go func() {
				if err := lock(tid, false); err != nil {
					t.Error(err)
				}
				mu.Lock()
				got = append(got, tid)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		if w, _ := m.Load32(a); w != 1|abi.FUTEX_WAITERS {
			t.Errorf("word %#x", w)
		}
		// An ordinary wake does not touch it.
		if _, err := tb.Wake(m, a, false, 1, any); err != syscall.EINVAL {
			t.Error(err)
		}
		if _, _, err := tb.Requeue(m, a, a+4, false, 1, 1, false, 0); err != syscall.EINVAL {
			t.Error(err)
		}
		if _, err := tb.WakeOp(m, a, a+4, false, 1, 1, 0); err != syscall.EINVAL {
			t.Error(err)
		}
		for tid := uint32(1); tid < 5; tid++ {
			if err := tb.UnlockPI(m, a, false, tid); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		if !slices.Equal(got, []uint32{2, 3, 4}) {
			t.Errorf("order %v", got)
		}
		if w, _ := m.Load32(a); w != 0 {
			t.Errorf("word %#x", w)
		}
		if err := m.Store32(a, 99); err != nil {
			t.Fatal(err)
		}
		if err := lock(1, false); err != syscall.ESRCH {
			t.Error(err)
		}
		th := newThread()
		if err := tb.LockPI(th, &th.Waiter, m, 0x1000, false, 1, false, alive, time.Time{}); err != syscall.EFAULT {
			t.Error(err)
		}
		if err := tb.UnlockPI(m, 0x1000, false, 1); err != syscall.EFAULT {
			t.Error(err)
		}
	})
}

// put writes words of 64 bits.
func put(t *testing.T, m *mm.Space, addr uint64, words ...uint64) {
	t.Helper()
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	if err := m.CopyOut(addr, b); err != nil {
		t.Fatal(err)
	}
}

func TestRobust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a := space(t)
		tb := NewTable(1)
		const tid, off = 7, 16
		head, e1, e2, e3, pend := a, a+0x100, a+0x200, a+0x300, a+0x400
		put(t, m, head, e1, off, pend)
		put(t, m, e1, e2, 0, tid|abi.FUTEX_WAITERS)
		put(t, m, e2, e3|1, 0, 8) // somebody else's
		put(t, m, e3, head, 0, tid)
		put(t, m, pend, 0, 0, 0) // unlocked already, its waiter not yet woken
		var woken atomic.Int32
		for _, at := range []uint64{e1 + off, e1 + off, pend + off} {
			th := newThread()
			v, _ := m.Load32(at)
			go func() {
				if err := tb.Wait(th, &th.Waiter, m, at, true, v, any, time.Time{}); err != nil {
					t.Error(err)
				}
				woken.Add(1)
			}()
			synctest.Wait()
		}
		tb.ExitRobust(m, head, tid)
		synctest.Wait()
		for i, c := range []struct {
			addr uint64
			want uint32
		}{{e1, abi.FUTEX_WAITERS | abi.FUTEX_OWNER_DIED}, {e2, 8}, {e3, abi.FUTEX_OWNER_DIED}, {pend, 0}} {
			if v, _ := m.Load32(c.addr + off); v != c.want {
				t.Errorf("mutex %d: %#x, want %#x", i, v, c.want)
			}
		}
		if woken.Load() != 2 {
			t.Errorf("%d were woken", woken.Load())
		}
		if n, _ := tb.Wake(m, e1+off, true, 9, any); n != 1 {
			t.Errorf("%d waited on", n)
		}
		// A PI mutex goes to who waits.
		if err := m.Store32(e3+off, tid); err != nil {
			t.Fatal(err)
		}
		put(t, m, head, e3|1, off, 0)
		th := newThread()
		c := make(chan error, 1)
		go func() {
			c <- tb.LockPI(th, &th.Waiter, m, e3+off, true, 12, false, func(uint32) bool { return true }, time.Time{})
		}()
		synctest.Wait()
		tb.ExitRobust(m, head, tid)
		if err := <-c; err != nil {
			t.Error(err)
		}
		if v, _ := m.Load32(e3 + off); v != 12|abi.FUTEX_OWNER_DIED {
			t.Errorf("PI mutex: %#x", v)
		}
		// Garbage ends the walk: cycles, bad addresses, no list.
		put(t, m, e1, e1, 0, 0)
		put(t, m, head, e1, off, 0x1000)
		tb.ExitRobust(m, head, tid)
		put(t, m, head, 0xdead0000, off, 0)
		tb.ExitRobust(m, head, tid)
		put(t, m, head, e1+1, 3, 0)
		tb.ExitRobust(m, head, tid)
		tb.ExitRobust(m, 0x1000, tid)
		tb.ExitRobust(m, 0, tid)
		synctest.Wait()
	})
}

// Any sequence of waits, wakes and requeues does what lists of waiters per word do.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, a := space(t)
		tb := NewTable(1)
		type sleeper struct {
			bits uint32
			w    *Waiter
		}
		words := [3]uint64{a, a + 4, a + 4096}
		var model [3][]sleeper
		pushed := func(i int, bits uint32) {
			w := &Waiter{}
			w.Init()
			k, err := m.FutexKey(words[i], false)
			if err != nil {
				rt.Fatal(err)
			}
			w.key, w.bitset = k, bits
			b := tb.bucket(&k)
			b.mu.Lock()
			b.push(w)
			b.mu.Unlock()
			model[i] = append(model[i], sleeper{bits, w})
		}
		woken := func(s sleeper, want bool) {
			select {
			case <-s.w.c:
				if !want {
					rt.Fatal("one too many was woken")
				}
			default:
				if want {
					rt.Fatal("one that was to be woken was not")
				}
			}
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			i, j := rapid.IntRange(0, 2).Draw(rt, "i"), rapid.IntRange(0, 2).Draw(rt, "j")
			n, mv := rapid.IntRange(1, 3).Draw(rt, "n"), rapid.IntRange(0, 3).Draw(rt, "move")
			bits := uint32(rapid.IntRange(1, 7).Draw(rt, "bits"))
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0, 1:
				pushed(i, bits)
			case 2:
				got, err := tb.Wake(m, words[i], false, n, bits)
				if err != nil {
					rt.Fatal(err)
				}
				var left []sleeper
				count := 0
				for _, s := range model[i] {
					if count < n && s.bits&bits != 0 {
						count++
						woken(s, true)
					} else {
						left = append(left, s)
					}
				}
				if model[i] = left; got != count {
					rt.Fatalf("woke %d, want %d", got, count)
				}
			case 3:
				wk, moved, err := tb.Requeue(m, words[i], words[j], false, n, mv, false, 0)
				if err != nil {
					rt.Fatal(err)
				}
				list := model[i]
				w := min(n, len(list))
				for _, s := range list[:w] {
					woken(s, true)
				}
				list = list[w:]
				v := min(mv, len(list))
				if wk != w || moved != v {
					rt.Fatalf("requeue: %d, %d, want %d, %d", wk, moved, w, v)
				}
				if model[i] = list; i != j {
					model[j] = append(model[j], list[:v]...)
					model[i] = list[v:]
				}
			}
		}
		for i := range model {
			for _, s := range model[i] {
				woken(s, false)
			}
			if got, _ := tb.Wake(m, words[i], false, 1000, any); got != len(model[i]) {
				rt.Fatalf("word %d: %d wait, want %d", i, got, len(model[i]))
			}
		}
	})
}
