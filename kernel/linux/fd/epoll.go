package fd

import (
	"sync"
	"syscall"
	"time"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Bits of epoll_event.events beyond the readiness bits.
const (
	EPOLLExclusive = 1 << 28
	EPOLLWakeup    = 1 << 29
	EPOLLOneshot   = 1 << 30
	EPOLLET        = 1 << 31

	epollPrivate = EPOLLExclusive | EPOLLWakeup | EPOLLOneshot | EPOLLET
)

// Operations of epoll_ctl.
const (
	EPOLLCtlAdd = 1
	EPOLLCtlDel = 2
	EPOLLCtlMod = 3
)

// epollNests is how deep epolls may watch each other (EP_MAX_NESTS).
const epollNests = 4

// Event is what epoll_wait tells of one file.
type Event struct {
	Events uint32
	Data   uint64
}

// Epoll is epoll(7): a set of files of interest, and the list of those that have had
// an event. A source's notification puts an item on the list and wakes one thread;
// that thread asks the file what is true (Ready) before it tells anything.
//
// ctl guards the set; scan is held by the one thread that walks the ready list, and by
// whoever takes an item away; mu guards the list, the items' interest and the
// sleepers, and is the only one taken in a notification. Order: ctl, scan, the source,
// mu. An outer epoll's scan comes before an inner one's; loops are refused.
type Epoll struct {
	anon
	self *Open

	ctl   sync.Mutex
	items map[itemKey]*item

	scan sync.Mutex

	mu         sync.Mutex
	head, tail *item // ready, first come first
	ready      int
	sleepers   *sleeper // waiting threads, longest first
	lastSleep  *sleeper

	pollers poll.List // who polls the epoll itself
}

type itemKey struct {
	fd   int
	open *Open
}

// item is one file of interest.
type item struct {
	ep     *Epoll
	key    itemKey
	w      poll.Waiter
	events uint32 // under ep.mu; no readiness bits: disabled (oneshot)
	data   uint64

	queued     bool // on the ready list, under ep.mu
	dead       bool // under ep.mu
	prev, next *item

	nextWatch, prevWatch *item // of Open.watches, under Open.watchMu
}

// sleeper is one thread in epoll_wait.
type sleeper struct {
	c          chan struct{}
	woken      bool // taken off the list by a notification, under ep.mu
	prev, next *sleeper
}

var sleepers = sync.Pool{New: func() any { return &sleeper{c: make(chan struct{}, 1)} }}

// epollTree is held while an epoll is added to another: the loop check.
var epollTree sync.Mutex

// NewEpoll is epoll_create1(2).
func NewEpoll() *Open {
	e := &Epoll{items: map[itemKey]*item{}}
	o := NewOpen(e, syscall.O_RDWR)
	e.self = o
	return o
}

// Epoll is the epoll that o is, nil if it is none.
func (o *Open) Epoll() *Epoll {
	e, _ := o.file.(*Epoll)
	return e
}

// notify is the Waiter's function: it puts the item on the ready list if the event is
// of interest.
func (i *item) notify(e poll.Events) bool {
	ep := i.ep
	if e&passOn != 0 {
		return false
	}
	ep.mu.Lock()
	if i.dead || i.key.open.expand(e)&i.events&^epollPrivate == 0 {
		ep.mu.Unlock()
		return false
	}
	ep.enqueue(i)
	took := ep.wakeOne()
	if i.events&EPOLLExclusive == 0 {
		took = true
	}
	ep.mu.Unlock()
	ep.pollers.Notify(poll.In)
	return took
}

// enqueue puts i at the end of the ready list, once. Caller must hold mu.
func (ep *Epoll) enqueue(i *item) {
	if i.queued {
		return
	}
	i.queued = true
	i.prev, i.next = ep.tail, nil
	if ep.tail != nil {
		ep.tail.next = i
	} else {
		ep.head = i
	}
	ep.tail = i
	ep.ready++
}

// enqueueFirst puts i, which is not on it, at the front. Caller must hold mu.
func (ep *Epoll) enqueueFirst(i *item) {
	i.queued = true
	i.prev, i.next = nil, ep.head
	if ep.head != nil {
		ep.head.prev = i
	} else {
		ep.tail = i
	}
	ep.head = i
	ep.ready++
}

// dequeue takes i off. Caller must hold mu.
func (ep *Epoll) dequeue(i *item) {
	if !i.queued {
		return
	}
	if i.prev != nil {
		i.prev.next = i.next
	} else {
		ep.head = i.next
	}
	if i.next != nil {
		i.next.prev = i.prev
	} else {
		ep.tail = i.prev
	}
	i.prev, i.next, i.queued = nil, nil, false
	ep.ready--
}

// wakeOne wakes the thread that has waited longest. Caller must hold mu.
func (ep *Epoll) wakeOne() bool {
	s := ep.sleepers
	if s == nil {
		return false
	}
	ep.unlink(s)
	s.woken = true
	s.c <- struct{}{} // it was empty: woken is told once
	return true
}

// Caller must hold mu.
func (ep *Epoll) unlink(s *sleeper) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		ep.sleepers = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		ep.lastSleep = s.prev
	}
	s.prev, s.next = nil, nil
}

// Wait is epoll_wait: it fills out with up to len(out) events and returns how many. It
// waits until there is one, or the deadline (the zero time is none); with poll set it
// does not wait. A signal is EINTR.
func (ep *Epoll) Wait(s Sleeper, out []Event, deadline time.Time, poll bool) (int, error) {
	if len(out) == 0 {
		return 0, syscall.EINVAL
	}
	var err error
	for {
		if n := ep.collect(out); n > 0 || poll {
			return n, nil
		}
		if err != nil {
			if err == syscall.ETIMEDOUT {
				return 0, nil
			}
			return 0, syscall.EINTR
		}
		err = ep.sleep(s, deadline)
	}
}

// sleep waits for the ready list to have something.
func (ep *Epoll) sleep(s Sleeper, deadline time.Time) error {
	w := sleepers.Get().(*sleeper)
	ep.mu.Lock()
	if ep.head != nil {
		ep.mu.Unlock()
		sleepers.Put(w)
		return nil
	}
	w.woken = false
	w.prev, w.next = ep.lastSleep, nil
	if ep.lastSleep != nil {
		ep.lastSleep.next = w
	} else {
		ep.sleepers = w
	}
	ep.lastSleep = w
	ep.mu.Unlock()

	err := s.Sleep(w.c, deadline)

	ep.mu.Lock()
	if !w.woken {
		ep.unlink(w)
	} else {
		select {
		case <-w.c: // woken and timed out at once
		default:
		}
	}
	ep.mu.Unlock()
	sleepers.Put(w)
	return err
}

// collect tells what is on the ready list and still true. Level-triggered items stay
// on the list, behind those that wait, until they are found not to be ready.
func (ep *Epoll) collect(out []Event) int {
	ep.mu.Lock()
	if ep.head == nil {
		ep.mu.Unlock()
		return 0
	}
	ep.mu.Unlock()
	ep.scan.Lock()
	ep.mu.Lock()
	n := 0
	for left := ep.ready; left > 0 && n < len(out) && ep.head != nil; left-- {
		i := ep.head
		ep.dequeue(i)
		events := i.events
		ep.mu.Unlock()
		is := i.key.open.expand(i.key.open.Ready()) & events &^ epollPrivate
		ep.mu.Lock()
		if is == 0 || i.dead {
			continue
		}
		out[n] = Event{is, i.data}
		n++
		if events&EPOLLOneshot != 0 {
			i.events &= epollPrivate
		} else if events&EPOLLET == 0 {
			ep.enqueue(i)
		}
	}
	// What is left is for the next thread that waits.
	if ep.head != nil {
		ep.wakeOne()
	}
	ep.mu.Unlock()
	ep.scan.Unlock()
	return n
}

// Ready is In if a file of the set is ready: it looks, since what is on the list need
// not be true any more.
func (ep *Epoll) Ready() poll.Events {
	ep.mu.Lock()
	empty := ep.head == nil
	ep.mu.Unlock()
	if empty {
		return 0
	}
	ep.scan.Lock()
	defer ep.scan.Unlock()
	ep.mu.Lock()
	defer ep.mu.Unlock()
	for left := ep.ready; left > 0 && ep.head != nil; left-- {
		i := ep.head
		ep.dequeue(i) // first: an event that comes while it is asked is kept
		interest := i.events &^ epollPrivate
		ep.mu.Unlock()
		is := i.key.open.expand(i.key.open.Ready()) & interest
		ep.mu.Lock()
		if is != 0 && !i.queued {
			ep.enqueueFirst(i)
		}
		if is != 0 {
			return poll.In
		}
	}
	return 0
}

// Watch has w told when the set has something ready.
func (ep *Epoll) Watch(w *poll.Waiter) { ep.pollers.Add(w) }

// Unwatch ends that.
func (ep *Epoll) Unwatch(w *poll.Waiter) { ep.pollers.Remove(w) }

// Read is EINVAL of an epoll.
func (ep *Epoll) Read(vfs.Dst, int64) (int, error) { return 0, syscall.EINVAL }

// Close takes all items off their sources.
func (ep *Epoll) Close() error {
	ep.ctl.Lock()
	defer ep.ctl.Unlock()
	for _, i := range ep.items {
		ep.remove(i)
	}
	clear(ep.items)
	return nil
}
