package fd

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
	"osv/kernel/vfs/tmpfs"
)

var le = binary.LittleEndian

// tree is a tmpfs with a context of root.
func tree(t *testing.T) *vfs.Context {
	t.Helper()
	tr := vfs.NewTree(tmpfs.New(tmpfs.Options{}))
	tr.SetOpener(vfs.TypePipe, 0, OpenFIFO)
	tr.SetHook(TellEvent)
	return vfs.NewContext(tr, vfs.RootCreds())
}

func open(t *testing.T, c *vfs.Context, name string, flags int) *Open {
	t.Helper()
	v, err := vfs.OpenAt(c, vfs.Path{}, name, flags, 0o644, 0)
	if err != nil {
		t.Fatal(err)
	}
	return NewOpenAt(v)
}

// lseek of what has no position but Linux's noop_llseek, and of what has none at all.
func TestSeekOfCounters(t *testing.T) {
	ev, _ := NewEventFD(1, 0)
	p, q := NewPipe(0)
	for o, want := range map[*Open]error{ev: nil, NewEpoll(): nil, p: syscall.ESPIPE, q: syscall.ESPIPE} {
		n, err := o.Seek(5, 0)
		if n != 0 || err != want {
			t.Errorf("%T: %d, %v, want %v", o.File(), n, err, want)
		}
		_, err = o.Seek(0, 9)
		wantErr(t, "whence", err, syscall.EINVAL)
		_ = o.Release()
	}
}

func TestOpenPosition(t *testing.T) {
	c := tree(t)
	o := open(t, c, "/a", syscall.O_RDWR|syscall.O_CREAT)
	mustWrite(t, o, "hello world")
	for _, k := range []struct {
		off    int64
		whence int
		want   int64
		err    error
	}{{2, 0, 2, nil}, {2, 1, 4, nil}, {-1, 2, 10, nil}, {-20, 1, 0, syscall.EINVAL}, {1<<63 - 1, 1, 0, syscall.EOVERFLOW}, {0, 5, 0, syscall.EINVAL}, {0, SeekData, 0, nil}, {3, SeekHole, 11, nil}, {30, SeekData, 0, syscall.ENXIO}} {
		n, err := o.Seek(k.off, k.whence)
		if err != k.err || err == nil && n != k.want {
			t.Errorf("seek %d %d: %d, %v", k.off, k.whence, n, err)
		}
	}
	th := newThread()
	if n, err := o.WriteAt(th, &vfs.Bytes{B: []byte("W")}, 6); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b := vfs.Bytes{B: make([]byte, 5)}
	if n, err := o.ReadAt(th, &b, 6); n != 5 || err != nil || string(b.B) != "World" {
		t.Fatal(n, err, string(b.B))
	}
	_, err := o.ReadAt(th, &b, -1)
	wantErr(t, "pread before the file", err, syscall.EINVAL)
	_, err = o.WriteAt(th, &b, -1)
	wantErr(t, "pwrite before the file", err, syscall.EINVAL)
	if n, err := o.Seek(0, 0); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := o.ReadNow(th, &vfs.Bytes{B: make([]byte, 3)}); n != 3 || err != nil || o.Pos() != 3 {
		t.Fatal(n, err, o.Pos())
	}
	if n, err := o.WriteNow(th, &vfs.Bytes{B: []byte("xy")}); n != 2 || err != nil || o.Pos() != 5 {
		t.Fatal(n, err, o.Pos())
	}
	if err := o.WithPos(func(pos int64) (int64, error) { return pos + 1, nil }); err != nil || o.Pos() != 6 {
		t.Fatal(err, o.Pos())
	}
	o.SetFlags(syscall.O_APPEND | syscall.O_RDWR | syscall.O_CREAT)
	if o.Flags() != syscall.O_RDWR|syscall.O_APPEND {
		t.Fatalf("flags %#x", o.Flags())
	}
	mustWrite(t, o, "!")
	if o.Pos() != 12 {
		t.Fatalf("position %d after an append", o.Pos())
	}
	if a, err := o.Attr(); err != nil || a.Size != 12 || o.Describe() != "" || o.Where().IsZero() {
		t.Fatal(a, err)
	}
	o.Owner().Store(3)
	o.Signal().Store(4)
	o.Hint().Store(5)
	_ = o.Release()
	p := open(t, c, "/a", oPath)
	if !p.IsPath() || p.CanRead() || p.CanWrite() {
		t.Fatal("O_PATH")
	}
	_, err = read(t, p, 1)
	wantErr(t, "read", err, syscall.EBADF)
	_, err = write(p, "x")
	wantErr(t, "write", err, syscall.EBADF)
	_, err = p.Seek(0, 0)
	wantErr(t, "seek", err, syscall.EBADF)
	_, err = p.ReadAt(th, &b, 0)
	wantErr(t, "pread", err, syscall.EBADF)
	_, err = p.WriteAt(th, &b, 0)
	wantErr(t, "pwrite", err, syscall.EBADF)
	_ = p.Release()
}

func TestWaitFor(t *testing.T) {
	e, _ := NewEventFD(0, 0)
	th := newThread()
	done := make(chan error, 1)
	go func() { done <- WaitFor(th, e, poll.In, time.Time{}) }()
	<-th.asleep
	mustWrite(t, e, "\x01\x00\x00\x00\x00\x00\x00\x00")
	wantErr(t, "wait", <-done, nil)
	mustRead(t, e, 8, "\x01\x00\x00\x00\x00\x00\x00\x00")
	go func() { done <- WaitFor(th, e, poll.In, time.Now().Add(time.Hour)) }()
	<-th.asleep
	th.timeout <- struct{}{}
	wantErr(t, "deadline", <-done, syscall.ETIMEDOUT)
	// Retry: a deadline is EAGAIN, a signal with a deadline EINTR.
	again := func() error { return syscall.EAGAIN }
	go func() { done <- Retry(th, e, poll.In, time.Now().Add(time.Hour), again) }()
	<-th.asleep
	th.timeout <- struct{}{}
	wantErr(t, "deadline", <-done, syscall.EAGAIN)
	for deadline, want := range map[time.Time]error{{}: abi.ERESTARTSYS, time.Now().Add(time.Hour): syscall.EINTR} {
		go func() { done <- Retry(th, e, poll.In, deadline, again) }()
		<-th.asleep
		th.signal <- struct{}{}
		wantErr(t, "signal", <-done, want)
	}
	_ = e.Release()
}

// Of several threads in epoll_wait one is woken for one event, and who leaves with a
// signal does not take an event away from the others.
func TestEpollWakesOne(t *testing.T) {
	e, _ := NewEventFD(0, syscall.O_NONBLOCK)
	ep := NewEpoll()
	if err := ep.Epoll().Control(EPOLLCtlAdd, 3, e, uint32(poll.In)|EPOLLET, 7); err != nil {
		t.Fatal(err)
	}
	const n = 5
	th := newThread()
	woken := make(chan error, n)
	wait := func(th *thread) {
		out := make([]Event, 4)
		k, err := ep.Epoll().Wait(th, out, time.Time{}, false)
		if err == nil && (k != 1 || out[0].Data != 7) {
			err = fmt.Errorf("%d events, %v", k, out[0])
		}
		woken <- err
	}
	for range n {
		go wait(th)
		<-th.asleep
	}
	for range n {
		mustWrite(t, e, "\x01\x00\x00\x00\x00\x00\x00\x00")
		wantErr(t, "epoll_wait", <-woken, nil)
		if len(th.asleep) != 0 {
			t.Fatal("a thread was woken for nothing")
		}
	}
	first := newThread()
	go wait(first)
	<-first.asleep
	first.signal <- struct{}{}
	wantErr(t, "epoll_wait with a signal", <-woken, syscall.EINTR)
	go func() {
		k, err := ep.Epoll().Wait(first, make([]Event, 1), time.Now().Add(time.Hour), false)
		if k != 0 {
			err = fmt.Errorf("%d events", k)
		}
		woken <- err
	}()
	<-first.asleep
	first.timeout <- struct{}{}
	wantErr(t, "epoll_wait at its deadline", <-woken, nil)
	_ = e.Release()
	if _, err := ep.Epoll().Wait(th, nil, time.Time{}, true); err != syscall.EINVAL {
		t.Fatal(err)
	}
	if len(ep.Epoll().items) != 0 {
		t.Fatal("a closed file is still in the set")
	}
	_ = ep.Release()
}

// Exclusive items: of two epolls that watch one file, each with a waiting thread, one
// is told.
func TestEpollExclusive(t *testing.T) {
	e, _ := NewEventFD(0, syscall.O_NONBLOCK)
	th := newThread()
	got := make(chan int, 2)
	for range 2 {
		ep := NewEpoll()
		if err := ep.Epoll().Control(EPOLLCtlAdd, 3, e, uint32(poll.In)|EPOLLExclusive, 0); err != nil {
			t.Fatal(err)
		}
		go func() {
			k, _ := ep.Epoll().Wait(th, make([]Event, 1), time.Time{}, false)
			got <- k
			_ = ep.Release()
		}()
		<-th.asleep
	}
	mustWrite(t, e, "\x01\x00\x00\x00\x00\x00\x00\x00")
	if k := <-got; k != 1 {
		t.Fatalf("%d events", k)
	}
	if len(got) != 0 {
		t.Fatal("both were told")
	}
	mustWrite(t, e, "\x01\x00\x00\x00\x00\x00\x00\x00")
	<-got
	_ = e.Release()
}

func TestEpollLoops(t *testing.T) {
	var eps []*Open
	for range 7 {
		eps = append(eps, NewEpoll())
	}
	add := func(a, b int) error { return eps[a].Epoll().Control(EPOLLCtlAdd, b, eps[b], 1, 0) }
	wantErr(t, "itself", add(0, 0), syscall.EINVAL)
	for i := range 4 {
		wantErr(t, fmt.Sprint("chain ", i), add(i, i+1), nil)
	}
	wantErr(t, "circle", add(4, 0), syscall.ELOOP)
	wantErr(t, "circle of two", add(1, 0), syscall.ELOOP)
	wantErr(t, "too deep", add(4, 5), syscall.ELOOP)
	wantErr(t, "too deep on top", add(6, 0), syscall.ELOOP)
	e, _ := NewEventFD(1, 0)
	wantErr(t, "add", eps[4].Epoll().Control(EPOLLCtlAdd, 9, e, 1, 0), nil)
	if eps[0].Ready() != poll.In {
		t.Fatal("readiness does not reach the top")
	}
	if !strings.Contains(eps[4].Describe(), "eventpoll") || !strings.Contains(eps[4].Info(), "tfd: 9") {
		t.Fatal(eps[4].Info())
	}
	for _, o := range eps {
		_ = o.Release()
	}
	_ = e.Release()
}

// Threads add, change, close, write and wait all at once: no race, no deadlock, no
// event for nothing.
func TestEpollStorm(t *testing.T) {
	tab := NewTable(256)
	ep := NewEpoll()
	outer := NewEpoll()
	if err := outer.Epoll().Control(EPOLLCtlAdd, 200, ep, 1|EPOLLET, 0); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(uint64(i), 2))
			for range 400 {
				e, _ := NewEventFD(0, syscall.O_NONBLOCK)
				n, err := tab.Install(e.Retain(), 0, false)
				if err != nil {
					t.Error(err)
					return
				}
				_ = ep.Epoll().Control(EPOLLCtlAdd, n, e, []uint32{1, 5, 1 | EPOLLET, 1 | EPOLLOneshot}[rnd.IntN(4)], uint64(n))
				_, _ = write(e, "\x01\x00\x00\x00\x00\x00\x00\x00")
				_ = ep.Epoll().Control(EPOLLCtlMod, n, e, 1, uint64(n))
				if rnd.IntN(2) == 0 {
					_ = ep.Epoll().Control(EPOLLCtlDel, n, e, 0, 0)
				}
				_ = tab.Close(n)
				_ = e.Release()
			}
		}()
	}
	var waiters sync.WaitGroup
	for range 2 {
		waiters.Add(1)
		go func() {
			defer waiters.Done()
			out := make([]Event, 8)
			th := newThread()
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, err := ep.Epoll().Wait(th, out, time.Time{}, true)
				if err != nil {
					t.Error(err)
				}
				for _, e := range out[:n] {
					if e.Events == 0 {
						t.Error("an event for nothing")
					}
				}
				_, _ = outer.Epoll().Wait(th, out, time.Time{}, true)
			}
		}()
	}
	wg.Wait()
	close(stop)
	waiters.Wait()
	if n := len(ep.Epoll().items); n != 0 {
		t.Fatalf("%d closed files are in the set", n)
	}
	_ = ep.Release()
	_ = outer.Release()
	tab.Release()
}

func TestPollSetWaits(t *testing.T) {
	r, w := NewPipe(0)
	th := newThread()
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	start := func(deadline time.Time) {
		go func() {
			set := GetPollSet()
			defer set.Put()
			set.Add(nil, 0, 0)
			set.Add(r.Retain(), uint32(poll.In), 0)
			n, err := set.Wait(th, deadline, false)
			done <- result{n, err}
		}()
		<-th.asleep
	}
	start(time.Time{})
	mustWrite(t, w, "x")
	if x := <-done; x.n != 1 || x.err != nil {
		t.Fatal(x)
	}
	mustRead(t, r, 1, "x")
	start(time.Time{})
	th.signal <- struct{}{}
	if x := <-done; x.err != abi.ERESTARTNOHAND {
		t.Fatal(x)
	}
	start(time.Now().Add(time.Hour))
	th.timeout <- struct{}{}
	if x := <-done; x.n != 0 || x.err != nil {
		t.Fatal(x)
	}
	set := GetPollSet()
	set.Add(nil, 0, PollNval)
	if n, err := set.Wait(th, time.Time{}, false); n != 1 || err != nil || set.At(0).Got != PollNval || set.Len() != 1 {
		t.Fatal(n, err)
	}
	set.Put()
	_ = r.Release()
	_ = w.Release()
}

func TestTimerFD(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, err := NewTimerFD(ClockMonotonic, syscall.O_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewTimerFD(33, 0)
		wantErr(t, "clock", err, syscall.EINVAL)
		tf := o.Timer()
		told := 0
		w := poll.Waiter{Notify: func(poll.Events) bool { told++; return true }}
		o.Watch(&w)
		tf.Set(time.Now().Add(2*time.Second), time.Second)
		if left, interval := tf.Left(); left != 2*time.Second || interval != time.Second {
			t.Fatal(left, interval)
		}
		if o.Ready() != 0 {
			t.Fatal("ready before its time")
		}
		time.Sleep(4500 * time.Millisecond)
		synctest.Wait()
		if o.Ready() != poll.In || told != 3 {
			t.Fatalf("ready %#x, told %d times", o.Ready(), told)
		}
		mustRead(t, o, 8, "\x03\x00\x00\x00\x00\x00\x00\x00")
		if left, _ := tf.Left(); left != 500*time.Millisecond {
			t.Fatal(left)
		}
		time.Sleep(time.Second)
		left, interval := tf.Set(time.Now().Add(time.Second), 0)
		if left != 500*time.Millisecond || interval != time.Second {
			t.Fatal(left, interval)
		}
		_, err = read(t, o, 8)
		wantErr(t, "read of a timer set anew", err, syscall.EAGAIN)
		_, err = read(t, o, 4)
		wantErr(t, "short read", err, syscall.EINVAL)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		mustRead(t, o, 8, "\x01\x00\x00\x00\x00\x00\x00\x00")
		if left, _ := tf.Left(); left != 0 || tf.Clock() != ClockMonotonic {
			t.Fatal(left)
		}
		tf.Set(time.Time{}, 0)
		o.Unwatch(&w)
		if !strings.Contains(o.Describe(), "timerfd") {
			t.Fatal(o.Describe())
		}
		_ = o.Release()
	})
}

// signals is a Signals that a test fills.
type signals struct {
	pending []abi.Siginfo
	list    poll.List
}

func (s *signals) Take(set uint64) (abi.Siginfo, bool) {
	for i, p := range s.pending {
		if set>>(p.Signo-1)&1 != 0 {
			s.pending = append(s.pending[:i], s.pending[i+1:]...)
			return p, true
		}
	}
	return abi.Siginfo{}, false
}

func (s *signals) Pending(set uint64) (m uint64) {
	for _, p := range s.pending {
		m |= 1 << (p.Signo - 1) & set
	}
	return m
}

func (s *signals) WatchSignals(w *poll.Waiter)   { s.list.Add(w) }
func (s *signals) UnwatchSignals(w *poll.Waiter) { s.list.Remove(w) }

func TestSignalFD(t *testing.T) {
	mine, other := &signals{}, &signals{}
	o := NewSignalFD(1<<9|1<<8, syscall.O_NONBLOCK, mine, func(Sleeper) Signals { return other })
	if o.SignalFD() == nil || !strings.Contains(o.Describe(), "signalfd") {
		t.Fatal("not a signalfd")
	}
	w := poll.Waiter{Notify: func(poll.Events) bool { return true }}
	o.Watch(&w)
	defer o.Unwatch(&w)
	_, err := read(t, o, 128)
	wantErr(t, "nothing pending", err, syscall.EAGAIN)
	_, err = read(t, o, 127)
	wantErr(t, "short", err, syscall.EINVAL)
	other.pending = []abi.Siginfo{{Signo: 12}, {Signo: 10, Code: abi.SI_QUEUE, PID: 5, UID: 6, Value: 7}}
	s, err := read(t, o, 300)
	b := []byte(s)
	if err != nil || len(b) != 128 || le.Uint32(b) != 10 || int32(le.Uint32(b[8:])) != abi.SI_QUEUE || le.Uint32(b[12:]) != 5 || le.Uint64(b[48:]) != 7 {
		t.Fatalf("%x, %v", b, err)
	}
	if o.Ready() != 0 {
		t.Fatal("ready without a signal of its own")
	}
	mine.pending = []abi.Siginfo{{Signo: 10}}
	if o.Ready() != poll.In {
		t.Fatal("not ready")
	}
	mine.pending = []abi.Siginfo{{Signo: 9}}
	o.SignalFD().SetMask(^uint64(0)) // SIGKILL is never read
	if o.Ready() != 0 {
		t.Fatal("ready for SIGKILL")
	}
	_ = o.Release()
}
