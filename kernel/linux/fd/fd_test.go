package fd

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// thread is a Sleeper: a task without a task. A value on signal interrupts its waits,
// one on timeout ends those that have a deadline; asleep gets one for each wait.
type thread struct{ signal, timeout, asleep chan struct{} }

func newThread() *thread {
	return &thread{make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1000)}
}

func (t *thread) Sleep(c <-chan struct{}, deadline time.Time) error {
	select {
	case <-c:
		return nil
	default:
	}
	var timeout <-chan struct{}
	if !deadline.IsZero() {
		timeout = t.timeout
	}
	t.asleep <- struct{}{}
	select {
	case <-c:
		return nil
	case <-timeout:
		return syscall.ETIMEDOUT
	case <-t.signal:
		return abi.ERESTARTSYS
	}
}

// read and write are the calls on plain memory.
func read(t *testing.T, o *Open, n int) (string, error) {
	t.Helper()
	b := vfs.Bytes{B: make([]byte, n)}
	k, err := o.Read(newThread(), &b)
	return string(b.B[:k]), err
}

func write(o *Open, s string) (int, error) {
	return o.Write(newThread(), &vfs.Bytes{B: []byte(s)})
}

func mustRead(t *testing.T, o *Open, n int, want string) {
	t.Helper()
	if got, err := read(t, o, n); err != nil || got != want {
		t.Fatalf("read %d: %q, %v; want %q", n, got, err, want)
	}
}

func mustWrite(t *testing.T, o *Open, s string) {
	t.Helper()
	if n, err := write(o, s); err != nil || n != len(s) {
		t.Fatalf("write of %d: %d, %v", len(s), n, err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func TestTableLowestNumber(t *testing.T) {
	tab := NewTable(200)
	for want := range 130 {
		o, _ := NewEventFD(0, 0)
		if n, err := tab.Install(o, 0, false); err != nil || n != want {
			t.Fatalf("install: %d, %v, want %d", n, err, want)
		}
	}
	for _, n := range []int{3, 64, 127} {
		if err := tab.Close(n); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "close again", tab.Close(n), syscall.EBADF)
	}
	for _, c := range []struct{ min, want int }{{4, 64}, {0, 3}, {100, 127}, {100, 130}, {150, 150}, {150, 151}} {
		if n, err := tab.Dup(0, c.min, true); err != nil || n != c.want {
			t.Fatalf("dup from %d: %d, %v, want %d", c.min, n, err, c.want)
		}
	}
	for {
		if _, err := tab.Dup(0, 0, false); err != nil {
			wantErr(t, "dup at the limit", err, syscall.EMFILE)
			break
		}
	}
	_, err := tab.Dup(0, 200, false)
	wantErr(t, "F_DUPFD beyond the limit", err, syscall.EINVAL)
	_, err = tab.DupTo(0, 200, false)
	wantErr(t, "dup2 beyond the limit", err, syscall.EBADF)
	_, err = tab.DupTo(0, 0, false)
	wantErr(t, "dup3 to itself", err, syscall.EINVAL)
	tab.Release()
}

// closer counts closes.
type closer struct {
	anon
	poll.List
	closed int
}

func (c *closer) Ready() poll.Events               { return 0 }
func (c *closer) Watch(w *poll.Waiter)             { c.Add(w) }
func (c *closer) Unwatch(w *poll.Waiter)           { c.Remove(w) }
func (c *closer) Read(vfs.Dst, int64) (int, error) { return 0, syscall.EAGAIN }
func (c *closer) Close() error                     { c.closed++; return syscall.EIO }

func TestTableCloneAndExec(t *testing.T) {
	tab := NewTable(64)
	f := &closer{}
	a, _ := tab.Install(NewOpen(f, syscall.O_RDWR), 0, true)
	b, _ := tab.Dup(a, 0, false)
	r, _ := tab.Reserve(0, false)
	child := tab.Clone()
	child.CloseOnExec()
	if _, err := child.Get(a); err != syscall.EBADF {
		t.Fatalf("close-on-exec descriptor after exec: %v", err)
	}
	if n, _ := child.Reserve(0, false); n != a {
		t.Fatalf("lowest free is %d", n)
	}
	o, err := child.Get(b)
	if err != nil {
		t.Fatal(err)
	}
	child.Release()
	if err := tab.CloseRange(0, 1000); err != nil {
		t.Fatal(err)
	}
	if f.closed != 0 {
		t.Fatal("closed with a reference left")
	}
	if err := o.Release(); err != syscall.EIO || f.closed != 1 {
		t.Fatalf("last release: %v, closed %d times", err, f.closed)
	}
	if _, err := tab.DupTo(a, r, false); err != syscall.EBADF {
		t.Fatalf("dup of a closed one: %v", err)
	}
	e, _ := NewEventFD(0, 0)
	n, _ := tab.Install(e, 0, false)
	if _, err := tab.DupTo(n, r, false); err != syscall.EBUSY {
		t.Fatalf("dup2 over a reserved number: %v", err)
	}
	tab.Unreserve(r)
	if _, err := tab.DupTo(n, r, true); err != nil {
		t.Fatal(err)
	}
	if on, err := tab.Cloexec(r); !on || err != nil {
		t.Fatal("dup3 with O_CLOEXEC")
	}
	if err := tab.SetCloexec(r, false); err != nil {
		t.Fatal(err)
	}
	_ = tab.SetCloexecRange(0, 10)
	if on, _ := tab.Cloexec(n); !on {
		t.Fatal("CLOSE_RANGE_CLOEXEC")
	}
	tab.Release()
}

func TestTableRace(t *testing.T) {
	tab := NewTable(1 << 16)
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 300 {
				e, _ := NewEventFD(1, 0)
				n, err := tab.Install(e, 0, false)
				if err != nil {
					t.Error(err)
					return
				}
				if o, err := tab.Get(n); err == nil {
					_ = o.Ready()
					_ = o.Release()
				}
				m, _ := tab.Dup(n, 0, true)
				_, _ = tab.DupTo(n, 200, false)
				_ = tab.Close(n)
				_ = tab.Close(m)
			}
		}()
	}
	wg.Wait()
	left := 0
	tab.Each(func(int, *Open) bool { left++; return true })
	if left > 1 {
		t.Fatalf("%d descriptors left", left)
	}
}

// hostPipe is a pipe of the host's Linux.
func hostPipe(t *testing.T, flags int) (r, w int) {
	t.Helper()
	var p [2]int
	if err := syscall.Pipe2(p[:], flags); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(p[0]); _ = syscall.Close(p[1]) })
	return p[0], p[1]
}

func TestPipeBlockingWriteIsWhole(t *testing.T) {
	r, w := NewPipe(0)
	want := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	done := make(chan error, 1)
	go func() {
		n, err := w.Write(newThread(), &vfs.Bytes{B: want})
		if err == nil && n != len(want) {
			err = io.ErrShortWrite
		}
		done <- err
		_ = w.Release()
	}()
	var got []byte
	for {
		s, err := read(t, r, 10000)
		if err != nil {
			t.Fatal(err)
		}
		if s == "" {
			break
		}
		got = append(got, s...)
	}
	if err := <-done; err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%v, got %d of %d bytes", err, len(got), len(want))
	}
	_ = r.Release()
}

func TestPipeSignals(t *testing.T) {
	r, w := NewPipe(0)
	th := newThread()
	done := make(chan error, 1)
	go func() {
		_, err := r.Read(th, &vfs.Bytes{B: make([]byte, 1)})
		done <- err
	}()
	<-th.asleep
	th.signal <- struct{}{}
	wantErr(t, "read with a signal", <-done, abi.ERESTARTSYS)
	// A write that has written a part returns it.
	n := make(chan int, 1)
	go func() {
		k, err := w.Write(th, &vfs.Bytes{B: make([]byte, 100000)})
		n <- k
		done <- err
	}()
	<-th.asleep
	th.signal <- struct{}{}
	if k := <-n; k != 65536 || <-done != nil {
		t.Fatalf("partial write: %d", k)
	}
	_ = r.Release()
	_, err := write(w, "x")
	wantErr(t, "write without a reader", err, syscall.EPIPE)
	_ = w.Release()
}

// Every reader of a pipe gets woken for one write, not all of them.
func TestPipeWakesOneReader(t *testing.T) {
	r, w := NewPipe(0)
	got := make(chan string, 10)
	th := newThread()
	for range 10 {
		go func() {
			b := vfs.Bytes{B: make([]byte, 1)}
			_, _ = r.Read(th, &b)
			got <- string(b.B)
		}()
		<-th.asleep
	}
	mustWrite(t, w, "abc")
	for range 3 {
		<-got
	}
	if len(th.asleep) != 0 {
		t.Fatalf("%d threads were woken for nothing", len(th.asleep))
	}
	for range 7 {
		mustWrite(t, w, "x")
		<-got
	}
	_ = r.Release()
	_ = w.Release()
}

// sleepFunc is a Sleeper that does this.
type sleepFunc func(c <-chan struct{}, deadline time.Time) error

func (f sleepFunc) Sleep(c <-chan struct{}, deadline time.Time) error { return f(c, deadline) }

// A signal that comes after the other end was opened does not end the open: a writer
// that writes, closes and exits at once sends SIGCHLD before the reader runs.
func TestFIFOMetAndSignalled(t *testing.T) {
	node := vfs.Node(&fifoNode{ino: 8})
	f, err := openFIFO(node, syscall.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	signalled := func(<-chan struct{}, time.Time) error { return syscall.Errno(512) } // ERESTARTSYS
	if err := MeetFIFO(sleepFunc(signalled), f, 0); err != syscall.Errno(512) {
		t.Fatalf("nobody there and a signal: %v", err)
	}
	if err := MeetFIFO(sleepFunc(func(c <-chan struct{}, d time.Time) error {
		g, err := openFIFO(node, syscall.O_WRONLY)
		if err != nil {
			t.Fatal(err)
		}
		_ = g.Close()
		return signalled(c, d)
	}), f, 0); err != nil {
		t.Fatalf("met, then a signal: %v", err)
	}
}

func TestFIFO(t *testing.T) {
	node := &fifoNode{ino: 7}
	at := vfs.Node(node)
	if _, err := openFIFO(at, syscall.O_WRONLY|syscall.O_NONBLOCK); err != syscall.ENXIO {
		t.Fatalf("writer without a reader: %v", err)
	}
	f, err := openFIFO(at, syscall.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	met := make(chan error, 1)
	th := newThread()
	go func() { met <- MeetFIFO(th, f, 0) }()
	<-th.asleep
	if len(met) != 0 || f.Ready() != 0 {
		t.Fatal("reader did not wait for a writer")
	}
	g, err := openFIFO(at, syscall.O_WRONLY)
	if err != nil || <-met != nil {
		t.Fatal(err)
	}
	if err := MeetFIFO(newThread(), g, 0); err != nil {
		t.Fatal(err)
	}
	w := NewOpen(g, syscall.O_WRONLY)
	r := NewOpen(f, syscall.O_RDONLY)
	mustWrite(t, w, "hello")
	_ = w.Release()
	if r.Ready() != poll.In|poll.Hup {
		t.Fatalf("ready %#x", r.Ready())
	}
	mustRead(t, r, 10, "hello")
	mustRead(t, r, 10, "")
	_ = r.Release()
	if len(fifos.open) != 0 {
		t.Fatal("FIFO left in the table")
	}
}

// fifoNode is a node that only tells its attributes.
type fifoNode struct {
	vfs.Node
	ino uint64
	typ vfs.Type
}

func (n *fifoNode) Attr() (vfs.Attr, error) { return vfs.Attr{Dev: 1, Ino: n.ino, Type: n.typ}, nil }

func TestEventFD(t *testing.T) {
	e, err := NewEventFD(3, EFDSemaphore|syscall.O_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		mustRead(t, e, 8, "\x01\x00\x00\x00\x00\x00\x00\x00")
	}
	_, err = read(t, e, 8)
	wantErr(t, "empty", err, syscall.EAGAIN)
	_, err = read(t, e, 7)
	wantErr(t, "short", err, syscall.EINVAL)
	_, err = write(e, "\xff\xff\xff\xff\xff\xff\xff\xff")
	wantErr(t, "all ones", err, syscall.EINVAL)
	mustWrite(t, e, "\xfe\xff\xff\xff\xff\xff\xff\xff")
	_, err = write(e, "\x01\x00\x00\x00\x00\x00\x00\x00")
	wantErr(t, "full", err, syscall.EAGAIN)
	if e.Ready() != poll.In {
		t.Fatalf("ready %#x", e.Ready())
	}
	e.SetNonblock(false)
	done := make(chan error, 1)
	th := newThread()
	go func() {
		_, err := e.Write(th, &vfs.Bytes{B: []byte("\x01\x00\x00\x00\x00\x00\x00\x00")})
		done <- err
	}()
	<-th.asleep
	mustRead(t, e, 8, "\x01\x00\x00\x00\x00\x00\x00\x00")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	_, err = NewEventFD(0, 1<<5)
	wantErr(t, "flag", err, syscall.EINVAL)
	_ = e.Release()
}

func TestNoAllocations(t *testing.T) {
	r, w := NewPipe(syscall.O_NONBLOCK)
	e, _ := NewEventFD(0, syscall.O_NONBLOCK)
	ep := NewEpoll()
	tab := NewTable(64)
	n, _ := tab.Install(e, 0, false)
	for _, o := range []*Open{r, e} {
		if err := ep.Epoll().Control(EPOLLCtlAdd, n, o, 1, 0); err != nil {
			t.Fatal(err)
		}
	}
	th := newThread()
	var buf [512]byte
	b := &vfs.Bytes{}
	out := make([]Event, 32)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"pipe", func() {
			*b = vfs.Bytes{B: buf[:]}
			_, _ = w.Write(th, b)
			*b = vfs.Bytes{B: buf[:]}
			_, _ = r.Read(th, b)
		}},
		{"eventfd", func() {
			*b = vfs.Bytes{B: buf[:8]}
			buf = [512]byte{1}
			_, _ = e.Write(th, b)
			*b = vfs.Bytes{B: buf[:8]}
			_, _ = e.Read(th, b)
		}},
		{"table", func() {
			o, _ := tab.Get(n)
			_ = o.Release()
		}},
		{"epoll_wait", func() {
			*b = vfs.Bytes{B: buf[:8]}
			buf = [512]byte{1}
			_, _ = e.Write(th, b)
			if k, _ := ep.Epoll().Wait(th, out, time.Time{}, false); k != 1 {
				t.Fatalf("%d events", k)
			}
			*b = vfs.Bytes{B: buf[:8]}
			_, _ = e.Read(th, b)
			if k, _ := ep.Epoll().Wait(th, out, time.Time{}, true); k != 0 {
				t.Fatalf("%d events", k)
			}
		}},
		{"poll", func() {
			set := GetPollSet()
			set.Add(e.Retain(), 1, 0)
			set.Add(w.Retain(), 4, 0)
			if k, _ := set.Wait(th, time.Time{}, false); k != 1 {
				t.Fatalf("%d files ready", k)
			}
			set.Put()
		}},
	} {
		if a := testing.AllocsPerRun(200, c.f); a != 0 && !raceEnabled {
			t.Errorf("%s allocates %v times", c.name, a)
		}
	}
}
