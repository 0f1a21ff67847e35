package file

import (
	"math/bits"
	"sync"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/signal"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
)

// withMask runs a call with the signal mask at addr in place of the thread's (0: its
// own): ppoll, pselect6, epoll_pwait. Where a signal ends the call, the mask stays until
// its handler has been called.
func withMask(t *task.Task, addr, size uint64, f func() (uint64, error)) (uint64, error) {
	if addr == 0 {
		return f()
	}
	if size != 8 {
		return 0, syscall.EINVAL
	}
	var b [8]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return 0, err
	}
	t.SetSavedMask(signal.Set(le.Uint64(b[:])))
	r, err := f()
	switch err {
	case syscall.EINTR, abi.ERESTARTNOHAND, abi.ERESTARTSYS, abi.ERESTART_RESTARTBLOCK:
	default:
		t.RestoreMask()
	}
	return r, err
}

func epollCreate(t *task.Task, a *sys.Args) (uint64, error) {
	if int32(a[0]) <= 0 {
		return 0, syscall.EINVAL
	}
	return install(t, fd.NewEpoll(), false)
}

func epollCreate1(t *task.Task, a *sys.Args) (uint64, error) {
	if a[0]&^syscall.O_CLOEXEC != 0 {
		return 0, syscall.EINVAL
	}
	return install(t, fd.NewEpoll(), a[0] != 0)
}

// eventSize is that of struct epoll_event, which is packed.
const eventSize = 12

func epollCtl(t *task.Task, a *sys.Args) (uint64, error) {
	op := int(int32(a[1]))
	var events uint32
	var data uint64
	if op != fd.EPOLLCtlDel {
		var b [eventSize]byte
		if err := t.Mem().CopyIn(b[:], a[3]); err != nil {
			return 0, err
		}
		events, data = le.Uint32(b[:]), le.Uint64(b[4:])
	}
	files := t.Files()
	eo, err := files.Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer eo.Release()
	o, err := files.Get(int(int32(a[2])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	ep := eo.Epoll()
	switch {
	case !fd.CanPoll(o):
		return 0, syscall.EPERM
	case ep == nil:
		return 0, syscall.EINVAL
	}
	return no(ep.Control(op, int(int32(a[2])), o, events, data))
}

// eventBuf is room for the events of one epoll_wait.
type eventBuf struct {
	events [epollBatch]fd.Event
	raw    [epollBatch * eventSize]byte
}

// epollBatch is how many events one call returns at most, whatever it asks for: the
// rest comes with the next.
const epollBatch = 512

var eventBufs = sync.Pool{New: func() any { return new(eventBuf) }}

// waitEpoll is epoll_wait; now says that it does not wait.
func waitEpoll(t *task.Task, epfd, addr, most uint64, deadline time.Time, now bool) (uint64, error) {
	n := int(int32(most))
	if n <= 0 || n > (1<<31-1)/eventSize {
		return 0, syscall.EINVAL
	}
	if !inUser(addr, uint64(n)*eventSize) {
		return 0, syscall.EFAULT
	}
	o, err := t.Files().Get(int(int32(epfd)))
	if err != nil {
		return 0, err
	}
	ep := o.Epoll()
	if ep == nil {
		_ = o.Release()
		return 0, syscall.EINVAL
	}
	if n <= few {
		k, err := waitFew(t, ep, addr, n, deadline, now)
		_ = o.Release()
		return num(k, err)
	}
	b := eventBufs.Get().(*eventBuf)
	k, err := ep.Wait(t, b.events[:min(n, epollBatch)], deadline, now)
	if k > 0 {
		for i := range k {
			e := &b.events[i]
			le.PutUint32(b.raw[i*eventSize:], e.Events)
			le.PutUint64(b.raw[i*eventSize+4:], e.Data)
		}
		err = t.Mem().CopyOut(addr, b.raw[:k*eventSize])
	}
	eventBufs.Put(b)
	_ = o.Release()
	return num(k, err)
}

// few is how many events are told without a buffer.
const few = 8

func waitFew(t *task.Task, ep *fd.Epoll, addr uint64, n int, deadline time.Time, now bool) (int, error) {
	var events [few]fd.Event
	var raw [few * eventSize]byte
	k, err := ep.Wait(t, events[:n], deadline, now)
	if k <= 0 {
		return k, err
	}
	for i, e := range events[:k] {
		le.PutUint32(raw[i*eventSize:], e.Events)
		le.PutUint64(raw[i*eventSize+4:], e.Data)
	}
	return k, t.Mem().CopyOut(addr, raw[:k*eventSize])
}

// millis is when a timeout in milliseconds ends: now for 0, never below.
func millis(ms uint64) (until time.Time, now bool) {
	switch n := int32(ms); {
	case n == 0:
		return time.Time{}, true
	case n < 0:
		return time.Time{}, false
	default:
		return deadline(time.Duration(n) * time.Millisecond), false
	}
}

func epollWait(t *task.Task, a *sys.Args) (uint64, error) {
	until, now := millis(a[3])
	return waitEpoll(t, a[0], a[1], a[2], until, now)
}

func epollPwait(t *task.Task, a *sys.Args) (uint64, error) {
	until, now := millis(a[3])
	if a[4] == 0 {
		return waitEpoll(t, a[0], a[1], a[2], until, now)
	}
	return withMask(t, a[4], a[5], func() (uint64, error) { return waitEpoll(t, a[0], a[1], a[2], until, now) })
}

func epollPwait2(t *task.Task, a *sys.Args) (uint64, error) {
	until, now, err := timeout(t, a[3])
	if err != nil {
		return 0, err
	}
	return withMask(t, a[4], a[5], func() (uint64, error) { return waitEpoll(t, a[0], a[1], a[2], until, now) })
}

// timeout reads a struct timespec that says how long to wait: none at 0.
func timeout(t *task.Task, addr uint64) (until time.Time, now bool, err error) {
	if addr == 0 {
		return time.Time{}, false, nil
	}
	d, err := readTime(t, addr)
	if err != nil {
		return time.Time{}, false, err
	}
	if d == 0 {
		return time.Time{}, true, nil
	}
	return deadline(d), false, nil
}

// putLeft writes what is left of a timeout, as Linux does; that it cannot be written is
// no error.
func putLeft(t *task.Task, addr uint64, until time.Time, unit time.Duration) {
	if addr == 0 {
		return
	}
	d := time.Duration(0)
	if !until.IsZero() {
		d = max(time.Until(until), 0)
	}
	var b [16]byte
	le.PutUint64(b[:], uint64(d/time.Second))
	le.PutUint64(b[8:], uint64(d%time.Second/unit))
	_ = t.Mem().CopyOut(addr, b[:])
}

const pollfdSize = 8

// pollFiles is poll(2).
func pollFiles(t *task.Task, addr, count uint64, until time.Time, now bool) (uint64, error) {
	n := uint64(uint32(count))
	files := t.Files()
	if n > files.Limit() {
		return 0, syscall.EINVAL
	}
	raw := pollBytes(int(n) * pollfdSize)
	defer putPollBytes(raw)
	b := raw.b[:n*pollfdSize]
	if err := t.Mem().CopyIn(b, addr); err != nil {
		return 0, err
	}
	set := fd.GetPollSet()
	defer set.Put()
	for i := range int(n) {
		f, want := int(int32(le.Uint32(b[i*pollfdSize:]))), uint32(le.Uint16(b[i*pollfdSize+4:]))
		if f < 0 {
			set.Add(nil, 0, 0)
			continue
		}
		o, err := files.Get(f)
		if err != nil {
			set.Add(nil, 0, fd.PollNval)
			continue
		}
		set.Add(o, want, 0)
	}
	k, err := set.Wait(t, until, now)
	if err != nil {
		return 0, err
	}
	for i := range int(n) {
		le.PutUint16(b[i*pollfdSize+6:], uint16(set.At(i).Got))
	}
	if err := t.Mem().CopyOut(addr, b); err != nil {
		return 0, err
	}
	return uint64(k), nil
}

type pollBuf struct{ b []byte }

var pollBufs = sync.Pool{New: func() any { return &pollBuf{make([]byte, 64*pollfdSize)} }}

func pollBytes(n int) *pollBuf {
	p := pollBufs.Get().(*pollBuf)
	if len(p.b) < n {
		p.b = make([]byte, n)
	}
	return p
}

func putPollBytes(p *pollBuf) {
	if len(p.b) <= 1<<16 {
		pollBufs.Put(p)
	}
}

func pollCall(t *task.Task, a *sys.Args) (uint64, error) {
	until, now := millis(a[2])
	return pollUntil(t, a[0], a[1], until, now)
}

// pollUntil is poll, which goes on with the time that is left after a signal without a
// handler.
func pollUntil(t *task.Task, addr, n uint64, until time.Time, now bool) (uint64, error) {
	r, err := pollFiles(t, addr, n, until, now)
	if err == abi.ERESTARTNOHAND {
		t.SetRestart(func(t *task.Task) (uint64, error) { return pollUntil(t, addr, n, until, now) })
		err = abi.ERESTART_RESTARTBLOCK
	}
	return r, err
}

func ppoll(t *task.Task, a *sys.Args) (uint64, error) {
	until, now, err := timeout(t, a[2])
	if err != nil {
		return 0, err
	}
	r, err := withMask(t, a[3], a[4], func() (uint64, error) { return pollFiles(t, a[0], a[1], until, now) })
	putLeft(t, a[2], until, 1)
	return r, err
}

// Bits of poll that select's three sets stand for.
const (
	selectIn  = 0x40 | 0x80 | 0x1 | 0x10 | 0x8
	selectOut = 0x200 | 0x100 | 0x4 | 0x8
	selectEx  = 0x2
)

// sets are the words of select's sets: three asked for, three answered.
type sets struct {
	words [6][]uint64
	raw   []byte
	store []uint64
}

var setPool = sync.Pool{New: func() any { return &sets{store: make([]uint64, 6*16), raw: make([]byte, 16*8)} }}

// below has the lowest n bits of a word set, n > 0.
func below(n int) uint64 { return ^uint64(0) >> (64 - min(n, 64)) }

// selectFiles is select(2).
func selectFiles(t *task.Task, count uint64, addr [3]uint64, until time.Time, now bool) (uint64, error) {
	n := int(int32(count))
	if n < 0 {
		return 0, syscall.EINVAL
	}
	files := t.Files()
	n = min(n, files.Len())
	words := (n + 63) / 64
	s := setPool.Get().(*sets)
	defer setPool.Put(s)
	if len(s.store) < 6*words {
		s.store, s.raw = make([]uint64, 6*words), make([]byte, words*8)
	}
	for i := range s.words {
		s.words[i] = s.store[i*words : (i+1)*words]
		clear(s.words[i])
	}
	for i, p := range addr {
		if p == 0 {
			continue
		}
		if err := t.Mem().CopyIn(s.raw[:words*8], p); err != nil {
			return 0, err
		}
		for w := range words {
			s.words[i][w] = le.Uint64(s.raw[w*8:])
		}
	}
	set := fd.GetPollSet()
	defer set.Put()
	for w := range words {
		in, out, ex := s.words[0][w], s.words[1][w], s.words[2][w]
		for left := (in | out | ex) & below(n-64*w); left != 0; left &= left - 1 {
			f := bits.TrailingZeros64(left)
			want := uint32(in>>f&1)*selectIn | uint32(out>>f&1)*selectOut | uint32(ex>>f&1)*selectEx
			o, err := files.Get(64*w + f)
			if err != nil {
				return 0, err
			}
			// Hangups and errors count only where a set that they belong to was asked
			// for.
			set.Add(o, want, 0).Exact(want)
		}
	}
	if _, err := set.Wait(t, until, now); err != nil {
		return 0, err
	}
	total, k := 0, 0
	for w := range words {
		left := (s.words[0][w] | s.words[1][w] | s.words[2][w]) & below(n-64*w)
		for ; left != 0; left &= left - 1 {
			got, bit := set.At(k).Got, left&-left
			k++
			for i, of := range [...]uint32{selectIn, selectOut, selectEx} {
				if s.words[i][w]&bit != 0 && got&of != 0 {
					s.words[3+i][w] |= bit
					total++
				}
			}
		}
	}
	for i, p := range addr {
		if p == 0 {
			continue
		}
		for w := range words {
			le.PutUint64(s.raw[w*8:], s.words[3+i][w])
		}
		if err := t.Mem().CopyOut(p, s.raw[:words*8]); err != nil {
			return 0, err
		}
	}
	return uint64(total), nil
}

func selectOld(t *task.Task, a *sys.Args) (uint64, error) {
	var until time.Time
	now := false
	if a[4] != 0 {
		var b [16]byte
		if err := t.Mem().CopyIn(b[:], a[4]); err != nil {
			return 0, err
		}
		sec, usec := int64(le.Uint64(b[:])), int64(le.Uint64(b[8:]))
		// Microseconds beyond a second are carried.
		if sec < 0 || usec < 0 {
			return 0, syscall.EINVAL
		}
		d := duration(sec+usec/1e6, usec%1e6*1000)
		if now = d == 0; !now {
			until = deadline(d)
		}
	}
	r, err := selectFiles(t, a[0], [3]uint64{a[1], a[2], a[3]}, until, now)
	putLeft(t, a[4], until, time.Microsecond)
	return r, err
}

func pselect6(t *task.Task, a *sys.Args) (uint64, error) {
	var mask, size uint64
	if a[5] != 0 {
		var b [16]byte
		if err := t.Mem().CopyIn(b[:], a[5]); err != nil {
			return 0, err
		}
		mask, size = le.Uint64(b[:]), le.Uint64(b[8:])
	}
	until, now, err := timeout(t, a[4])
	if err != nil {
		return 0, err
	}
	addr := [3]uint64{a[1], a[2], a[3]}
	var r uint64
	if mask == 0 {
		r, err = selectFiles(t, a[0], addr, until, now)
	} else {
		r, err = withMask(t, mask, size, func() (uint64, error) { return selectFiles(t, a[0], addr, until, now) })
	}
	putLeft(t, a[4], until, 1)
	return r, err
}
