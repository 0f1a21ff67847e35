package fd

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/linux/abi"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

func TestInotify(t *testing.T) {
	c := tree(t)
	in := NewInotify(syscall.O_NONBLOCK)
	root := c.Root().Node()
	wd, err := in.Inotify().Add(root, syscall.IN_ALL_EVENTS)
	if err != nil || wd != 1 {
		t.Fatal(wd, err)
	}
	if _, err := in.Inotify().Add(root, syscall.IN_CREATE|inMaskCreate); err != syscall.EEXIST {
		t.Fatal(err)
	}
	if wd, err := in.Inotify().Add(root, syscall.IN_OPEN|inMaskAdd); err != nil || wd != 1 {
		t.Fatal(wd, err)
	}
	th := newThread()
	got := make(chan string, 1)
	in.SetNonblock(false)
	go func() {
		b := vfs.Bytes{B: make([]byte, 4096)}
		n, err := in.Read(th, &b)
		got <- fmt.Sprint(n, err)
	}()
	<-th.asleep
	o := open(t, c, "/a", syscall.O_RDWR|syscall.O_CREAT)
	if g := <-got; g != "32 <nil>" && g != "64 <nil>" { // created, perhaps opened too
		t.Fatal(g)
	}
	mustWrite(t, o, "x")
	mustWrite(t, o, "y") // the same event again is not told twice
	_ = o.Release()
	if err := vfs.UnlinkAt(c, vfs.Path{}, "/a", false); err != nil {
		t.Fatal(err)
	}
	if in.Inotify().Unread() == 0 || in.Ready() != poll.In {
		t.Fatal("no events")
	}
	_, err = read(t, in, 20)
	wantErr(t, "room for no event", err, syscall.EINVAL)
	s, err := read(t, in, 4096)
	if err != nil {
		t.Fatal(err)
	}
	var masks []string
	for b := []byte(s); len(b) > 0; b = b[16+le.Uint32(b[12:]):] {
		masks = append(masks, fmt.Sprintf("%#x", le.Uint32(b[4:])))
	}
	if m := strings.TrimPrefix(strings.Join(masks, " "), "0x20 "); m != "0x2 0x8 0x200" {
		t.Fatal(m)
	}
	// A oneshot watch ends with its first event.
	f := open(t, c, "/b", syscall.O_RDWR|syscall.O_CREAT)
	_, _ = in.Inotify().Add(f.File().Node(), syscall.IN_MODIFY|inOneshot)
	_, _ = read(t, in, 4096)
	mustWrite(t, f, "1")
	mustWrite(t, f, "2")
	s, _ = read(t, in, 4096)
	if n := bytes.Count([]byte(s), []byte{0, 0x80, 0, 0}); n != 1 {
		t.Fatalf("%d IN_IGNORED in %x", n, s)
	}
	wantErr(t, "rm", in.Inotify().Remove(1), nil)
	wantErr(t, "rm again", in.Inotify().Remove(1), syscall.EINVAL)
	// The queue is bounded.
	_, _ = in.Inotify().Add(f.File().Node(), syscall.IN_ALL_EVENTS)
	for i := range inotifyEvents + 10 {
		TellEvent(nil, "", f.File().Node(), []uint32{syscall.IN_MODIFY, syscall.IN_ACCESS}[i%2], 0)
	}
	if n := len(in.Inotify().queue); n != inotifyEvents+1 {
		t.Fatalf("%d events are queued", n)
	}
	_ = in.Release()
	if eventsOn.Load() {
		t.Fatal("events are told to nobody")
	}
	_ = f.Release()
}

func TestLocksWait(t *testing.T) {
	c := tree(t)
	a, b := open(t, c, "/l", syscall.O_RDWR|syscall.O_CREAT), open(t, c, "/l", syscall.O_RDWR)
	p, q := NewTable(10), NewTable(10)
	n, _ := p.Install(a, 0, false)
	_, _ = q.Install(b, 0, false)
	lock := func(typ int16, start, length int64) Lock {
		l, err := NewLock(typ, start, length, 1)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	th := newThread()
	wantErr(t, "p locks", SetLock(th, p, a, lock(syscall.F_WRLCK, 0, 10), false, false), nil)
	wantErr(t, "q locks", SetLock(th, q, b, lock(syscall.F_WRLCK, 20, 10), false, false), nil)
	wantErr(t, "q tries", SetLock(th, q, b, lock(syscall.F_RDLCK, 5, 1), false, false), syscall.EAGAIN)
	done := make(chan error, 1)
	go func() { done <- SetLock(th, q, b, lock(syscall.F_RDLCK, 5, 1), false, true) }()
	<-th.asleep
	wantErr(t, "deadlock", SetLock(th, p, a, lock(syscall.F_RDLCK, 25, 1), false, true), syscall.EDEADLK)
	if err := p.Close(n); err != nil { // takes the process's locks away
		t.Fatal(err)
	}
	wantErr(t, "q gets it", <-done, nil)
	if len(Locks()) != 2 {
		t.Fatalf("%v", Locks())
	}
	d := open(t, c, "/l", syscall.O_RDWR)
	wantErr(t, "flock", Flock(th, d, syscall.F_WRLCK, true), nil)
	wantErr(t, "flock again", Flock(th, d, syscall.F_WRLCK, false), nil)
	wantErr(t, "flock other", Flock(th, b, syscall.F_RDLCK, false), syscall.EAGAIN)
	go func() { done <- Flock(th, b, syscall.F_RDLCK, true) }()
	<-th.asleep
	th.signal <- struct{}{}
	wantErr(t, "flock with a signal", <-done, abi.ERESTARTSYS)
	go func() { done <- Flock(th, b, syscall.F_RDLCK, true) }()
	<-th.asleep
	_ = d.Release()
	wantErr(t, "flock after the close", <-done, nil)
	wantErr(t, "unlock", Flock(th, b, syscall.F_UNLCK, true), nil)
	e := open(t, c, "/l", syscall.O_RDWR)
	wantErr(t, "OFD", SetLock(th, q, e, lock(syscall.F_WRLCK, 100, 0), true, false), nil)
	go func() { done <- SetLock(th, q, b, lock(syscall.F_WRLCK, 200, 1), false, true) }()
	<-th.asleep
	th.signal <- struct{}{}
	wantErr(t, "lock with a signal", <-done, abi.ERESTARTSYS)
	if l, found, err := TestLock(q, b, lock(syscall.F_RDLCK, 200, 1), false); !found || err != nil || l.Length() != 0 || l.PID != -1 {
		t.Fatal(l, found, err)
	}
	_ = e.Release()
	q.Release()
	if len(Locks()) != 0 || len(lockTable.files) != 0 || len(lockTable.waiting) != 0 {
		t.Fatalf("locks are left: %v", Locks())
	}
	ev, _ := NewEventFD(0, 0)
	wantErr(t, "lock of an eventfd", SetLock(th, p, ev, lock(syscall.F_RDLCK, 0, 1), false, false), nil)
	_ = ev.Release()
}

func TestMemfd(t *testing.T) {
	c := tree(t)
	n, err := c.Root().Node().(vfs.TmpFiler).TmpFile(vfs.NewNode{Type: vfs.TypeFile, Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	f, err := n.Open(syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := c.Tree.Anon(n, "/memfd:x")
	o := NewOpenPlace(NewMemfd(f, false), syscall.O_RDWR, at)
	m := o.Memfd()
	mustWrite(t, o, "0123456789")
	if g, err := m.PageAt(0, true); err != nil {
		t.Fatal(err)
	} else {
		g.Release()
	}
	wantErr(t, "map", m.HoldMap(), nil)
	m.HoldMapAgain()
	wantErr(t, "seal a mapped file", m.AddSeals(SealWrite), syscall.EBUSY)
	m.LetMap()
	wantErr(t, "seal a file mapped once", m.AddSeals(SealWrite|SealShrink), syscall.EBUSY)
	m.LetMap()
	wantErr(t, "seal", m.AddSeals(SealGrow|SealShrink), nil)
	wantErr(t, "unknown seal", m.AddSeals(64), syscall.EINVAL)
	wantErr(t, "shrink", m.Truncate(1), syscall.EPERM)
	wantErr(t, "grow", m.Truncate(100), syscall.EPERM)
	wantErr(t, "allocate", m.Allocate(0, 0, 100), syscall.EPERM)
	_, err = o.WriteAt(newThread(), &vfs.Bytes{B: []byte("xx")}, 9)
	wantErr(t, "write across the end", err, syscall.EPERM)
	if _, err := m.SeekData(0, true); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "seal write", m.AddSeals(SealWrite|SealSeal), nil)
	_, err = o.WriteAt(newThread(), &vfs.Bytes{B: []byte("x")}, 0)
	wantErr(t, "write", err, syscall.EPERM)
	wantErr(t, "punch", m.Allocate(3, 0, 1), syscall.EPERM)
	_, err = m.PageAt(0, true)
	wantErr(t, "page", err, syscall.EPERM)
	wantErr(t, "map", m.HoldMap(), syscall.EPERM)
	wantErr(t, "seal", m.AddSeals(SealGrow), syscall.EPERM)
	if m.Seals() != SealGrow|SealShrink|SealWrite|SealSeal || o.Where().IsZero() {
		t.Fatal(m.Seals())
	}
	_ = o.Release()
}

func TestPipeReopened(t *testing.T) {
	c := tree(t)
	r, w := NewPipe(0)
	at, err := c.Tree.Anon(r.File().Node(), r.Describe())
	if err != nil {
		t.Fatal(err)
	}
	v, err := vfs.Open(c, at, syscall.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	o := NewOpenAt(v)
	_ = w.Release()
	mustWrite(t, o, "again")
	_ = o.Release()
	mustRead(t, r, 10, "again")
	mustRead(t, r, 10, "")
	if r.Ready() != poll.Hup || !r.IsPipe() || !r.ReadPipe() || r.WritePipe() {
		t.Fatalf("ready %#x", r.Ready())
	}
	_ = r.Release()
	if _, err := openFIFO(&fifoNode{ino: 9}, syscall.O_ACCMODE); err != syscall.EINVAL {
		t.Fatal(err)
	}
	both, err := openFIFO(&fifoNode{ino: 9, typ: vfs.TypePipe}, syscall.O_RDWR)
	if err != nil || both.Ready() != poll.Out {
		t.Fatal(err, both.Ready())
	}
	b := NewOpen(both, syscall.O_RDWR)
	mustWrite(t, b, "self")
	mustRead(t, b, 4, "self")
	_ = b.Release()
}

func TestSplice(t *testing.T) {
	r, w := NewPipe(syscall.O_NONBLOCK)
	r2, w2 := NewPipe(syscall.O_NONBLOCK)
	_, err := PipeToPipe(r, w2, 10, false)
	wantErr(t, "empty", err, syscall.EAGAIN)
	mustWrite(t, w, "0123456789")
	if n, err := PipeToPipe(r, w2, 4, true); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	mustRead(t, r2, 10, "0123")
	if n, err := PipeToPipe(r, w2, 4, false); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	mustRead(t, r2, 10, "0123")
	var got []byte
	n, err := r.PipeTo(10, func(p []byte) (int, error) { got = append(got, p[:3]...); return 3, nil })
	if n != 3 || err != nil || string(got) != "456" {
		t.Fatal(n, err, string(got))
	}
	mustRead(t, r, 10, "789")
	k := 0
	n, err = w.ToPipe(6000, func(p []byte) (int, error) { k++; return len(p), nil })
	if n != 6000 || err != nil || k != 2 {
		t.Fatal(n, err, k)
	}
	_, err = PipeToPipe(r, w, 1, false)
	wantErr(t, "one pipe", err, syscall.EINVAL)
	_, err = w.PipeTo(1, nil)
	wantErr(t, "wrong end", err, syscall.EINVAL)
	_, err = r.ToPipe(1, nil)
	wantErr(t, "wrong end", err, syscall.EINVAL)
	_ = r.Release()
	_, err = w.ToPipe(1, nil)
	wantErr(t, "no reader", err, syscall.EPIPE)
	for _, o := range []*Open{w, r2, w2} {
		_ = o.Release()
	}
}

// screen is a Line.
type screen struct{ bytes.Buffer }

// userMemory is a Memory of a few bytes at address 0.
type userMemory struct{ b [64]byte }

func (m *userMemory) CopyIn(p []byte, addr uint64) error  { copy(p, m.b[addr:]); return nil }
func (m *userMemory) CopyOut(addr uint64, p []byte) error { copy(m.b[addr:], p); return nil }

func TestTTY(t *testing.T) {
	var s screen
	tty := NewTTY(&s)
	var sigs []string
	tty.Signal = func(pgrp int, sig syscall.Signal) { sigs = append(sigs, fmt.Sprint(pgrp, sig)) }
	if !tty.Take(5, 6) || tty.Take(7, 7) || tty.Session() != 5 || tty.Foreground() != 6 {
		t.Fatal("session")
	}
	o := tty.OpenFile(syscall.O_RDWR)
	if o.TTY() != tty || o.Describe() != "/dev/console" {
		t.Fatal("not a terminal")
	}
	mustWrite(t, o, "a\nb")
	if s.String() != "a\r\nb" {
		t.Fatalf("%q", s.String())
	}
	s.Reset()
	o.SetNonblock(true)
	tty.Input([]byte("helo\x7flo wrld\x17world"))
	_, err := read(t, o, 100)
	wantErr(t, "half a line", err, syscall.EAGAIN)
	tty.Input([]byte("\rnext\n\x04"))
	mustRead(t, o, 8, "hello wo")
	mustRead(t, o, 100, "rld\n")
	if o.Ready() != poll.In|poll.Out {
		t.Fatal("not ready")
	}
	mustRead(t, o, 100, "next\n")
	mustRead(t, o, 100, "") // ^D
	_, err = read(t, o, 100)
	wantErr(t, "nothing typed", err, syscall.EAGAIN)
	tty.Input([]byte("abc\x15def\x03"))
	if len(sigs) != 1 || sigs[0] != "6 interrupt" || !strings.HasSuffix(s.String(), "^C") {
		t.Fatalf("%q, %v", s.String(), sigs)
	}
	ctl := o.File().(vfs.Controller)
	m := &userMemory{}
	if _, err := ctl.Control(m, tcgets, 0); err != nil {
		t.Fatal(err)
	}
	m.b[12] &^= icanon | echo
	if _, err := ctl.Control(m, tcsets, 0); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	tty.Input([]byte("x\x7f"))
	mustRead(t, o, 10, "x\x7f")
	if s.Len() != 0 {
		t.Fatalf("%q", s.String())
	}
	tty.Input([]byte("xyz"))
	if _, err := ctl.Control(m, fionread, 40); err != nil || m.b[40] != 3 {
		t.Fatal(m.b[40], err)
	}
	if _, err := ctl.Control(m, tcflsh, 0); err != nil {
		t.Fatal(err)
	}
	_, err = read(t, o, 10)
	wantErr(t, "flushed", err, syscall.EAGAIN)
	copy(m.b[:], []byte{50, 0, 100, 0, 0, 0, 0, 0})
	if _, err := ctl.Control(m, tiocswinsz, 0); err != nil || len(sigs) != 2 {
		t.Fatal(err, sigs)
	}
	if _, err := ctl.Control(m, tiocgwinsz, 8); err != nil || m.b[8] != 50 || m.b[10] != 100 {
		t.Fatal(m.b[:16], err)
	}
	for _, req := range []uint32{tcsbrk, tiocgetd, tiocoutq, tcxonc} {
		if _, err := ctl.Control(m, req, 0); err != nil {
			t.Fatal(req, err)
		}
	}
	if _, err := ctl.Control(m, 1, 0); err != syscall.ENOTTY {
		t.Fatal(err)
	}
	tty.SetForeground(9)
	tty.Leave(5)
	if tty.Session() != 0 {
		t.Fatal("session")
	}
	_ = o.Release()
}
