package fd

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// words are the eight bytes that eventfd and timerfd pass through an interface.
var words = sync.Pool{New: func() any { return new([8]byte) }}

// A worder is user memory that takes and gives a word without a buffer: mm.User.
type worder interface {
	PutWord(v uint64) (int, error)
	TakeWord() (uint64, error)
}

func putWord(d vfs.Dst, v uint64) (int, error) {
	if w, ok := d.(worder); ok {
		return w.PutWord(v)
	}
	b := words.Get().(*[8]byte)
	defer words.Put(b)
	binary.LittleEndian.PutUint64(b[:], v)
	return d.Put(b[:])
}

// anon is what files that exist only as descriptors have in common.
type anon struct{}

func (anon) Node() vfs.Node  { return nil }
func (anon) Seekable() bool  { return false }
func (anon) Unmoving()       {} // Linux's noop_llseek
func (anon) Sync(bool) error { return syscall.EINVAL }

func (anon) Write(vfs.Src, int64, bool) (int, int64, error) { return 0, 0, syscall.EINVAL }

// eventFD is eventfd(2): a counter, without a lock.
type eventFD struct {
	anon
	n         atomic.Uint64
	semaphore bool
	list      poll.List
}

// Flags of eventfd2.
const EFDSemaphore = 1

// NewEventFD is eventfd2(2): flags may have EFD_SEMAPHORE and O_NONBLOCK. EINVAL for
// others.
func NewEventFD(initial uint32, flags int) (*Open, error) {
	if flags&^(EFDSemaphore|syscall.O_NONBLOCK|syscall.O_CLOEXEC) != 0 {
		return nil, syscall.EINVAL
	}
	e := &eventFD{semaphore: flags&EFDSemaphore != 0}
	e.n.Store(uint64(initial))
	return NewOpen(e, syscall.O_RDWR|flags&syscall.O_NONBLOCK), nil
}

// takeWord takes eight bytes, which are left, from s.
func takeWord(s vfs.Src) (uint64, error) {
	if w, ok := s.(worder); ok {
		return w.TakeWord()
	}
	b := words.Get().(*[8]byte)
	defer words.Put(b)
	_, err := s.Take(b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

func (e *eventFD) Read(d vfs.Dst, _ int64) (int, error) {
	if d.Room() < 8 {
		return 0, syscall.EINVAL
	}
	for {
		n := e.n.Load()
		if n == 0 {
			return 0, syscall.EAGAIN
		}
		take := n
		if e.semaphore {
			take = 1
		}
		if e.n.CompareAndSwap(n, n-take) {
			// A counter that was full had its writers wait; others need no word.
			e.list.Notify(poll.Out)
			return putWord(d, take)
		}
	}
}

// Write adds once, or is EAGAIN with the word taken from s: blocking writes go through
// writeWaiting.
func (e *eventFD) Write(s vfs.Src, off int64, _ bool) (int, int64, error) {
	n, err := e.writeWaiting(nil, s, true)
	return n, off, err
}

func (e *eventFD) writeWaiting(sl Sleeper, s vfs.Src, nonblock bool) (int, error) {
	if s.Left() < 8 {
		return 0, syscall.EINVAL
	}
	add, err := takeWord(s)
	if err != nil {
		return 0, err
	}
	if add == math.MaxUint64 {
		return 0, syscall.EINVAL
	}
	if !e.add(add) {
		if nonblock {
			return 0, syscall.EAGAIN
		}
		if err := e.addWaiting(sl, add); err != nil {
			return 0, err
		}
	}
	e.list.Notify(poll.In)
	return 8, nil
}

// addWaiting is add once it fits.
func (e *eventFD) addWaiting(sl Sleeper, v uint64) error {
	fits := func() bool { return math.MaxUint64-e.n.Load() > v }
	for !e.add(v) {
		if err := waitOn(sl, &e.list, fits); err != nil {
			return err
		}
	}
	return nil
}

func (e *eventFD) add(v uint64) bool {
	for {
		n := e.n.Load()
		if math.MaxUint64-n <= v {
			return false
		}
		if e.n.CompareAndSwap(n, n+v) {
			return true
		}
	}
}

func (e *eventFD) Ready() poll.Events {
	var r poll.Events
	n := e.n.Load()
	if n > 0 {
		r |= poll.In
	}
	if n == math.MaxUint64 {
		r |= poll.Err
	}
	if n < math.MaxUint64-1 {
		r |= poll.Out
	}
	return r
}

func (e *eventFD) Watch(w *poll.Waiter)   { e.list.Add(w) }
func (e *eventFD) Unwatch(w *poll.Waiter) { e.list.Remove(w) }
func (e *eventFD) Close() error           { return nil }
