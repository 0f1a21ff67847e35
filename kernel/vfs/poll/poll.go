// Package poll is readiness: how something that may have to be waited for says
// that it need not be, and how a thread waits for any number of such things.
//
// Spec: the semantics of poll(2) and epoll(7) of Linux; the bits are Linux's.
// Nothing that is polled ever blocks: a read or write that cannot go on returns
// EAGAIN, and the one loop in kernel/linux/fd waits. Who may use it: vfs, linux.
// It knows neither files nor sockets. Start reading at Pollable.
package poll

import (
	"sync"
	"sync/atomic"
)

// Events are readiness bits, those of poll(2) and epoll_ctl(2).
type Events uint32

// The bits that sources report.
const (
	In    Events = 0x001
	Pri   Events = 0x002
	Out   Events = 0x004
	Err   Events = 0x008 // always reported
	Hup   Events = 0x010 // always reported
	RdHup Events = 0x2000
	Any          = In | Pri | Out | Err | Hup | RdHup
)

// Pollable is anything with readiness: a pipe's end, a socket, an eventfd.
type Pollable interface {
	// Ready is what can be done now without waiting.
	Ready() Events
	// Watch has w told of changes from now on; what was ready before is not told,
	// so that a caller looks at Ready after Watch.
	Watch(w *Waiter)
	// Unwatch ends that. A call of w.Notify under way may still run.
	Unwatch(w *Waiter)
}

// Waiter is one party's place on one source's list. Whoever has it sets Notify and
// leaves the rest alone; it may be on one list at a time.
type Waiter struct {
	// Notify is called at each change, with the bits that became true, by whoever
	// made the change, perhaps with locks of the source held: it must neither block
	// nor call the source. It returns true where it has taken the event for itself
	// alone; an exclusive waiter that does so ends the round of exclusive waiters.
	Notify func(e Events) bool
	// Exclusive is EPOLLEXCLUSIVE, and one accepting thread of many: of these the
	// list tells one after the other until one takes the event.
	Exclusive bool

	prev, next *Waiter
	list       *List
}

// List is what a source keeps: those to be told. The zero value is empty and
// ready. It may be used with the source's locks held; it takes none but its own.
type List struct {
	// n is how many wait: without anybody a notification is one load. Who waits is
	// counted before he looks at Ready, so that none is missed.
	n          atomic.Int32
	mu         sync.Mutex
	head, tail *Waiter
}

// Add puts w in front, or where it is exclusive at the end, as Linux's wait queues do:
// those that are always told are told first, the latest before the others. It does
// nothing where w is on l already, and panics for a waiter that is on another list.
func (l *List) Add(w *Waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.list == l {
		return
	}
	if w.list != nil {
		panic("poll: waiter is on another list")
	}
	l.n.Add(1)
	if !w.Exclusive {
		w.list, w.prev, w.next = l, nil, l.head
		if l.head != nil {
			l.head.prev = w
		} else {
			l.tail = w
		}
		l.head = w
		return
	}
	w.list, w.prev, w.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = w
	} else {
		l.head = w
	}
	l.tail = w
}

// Remove takes w off; one that is not on l is left alone.
func (l *List) Remove(w *Waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.list != l {
		return
	}
	l.n.Add(-1)
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.tail = w.prev
	}
	w.list, w.prev, w.next = nil, nil, nil
}

// Empty says whether nobody is to be told.
func (l *List) Empty() bool { return l.n.Load() == 0 }

// Notify tells all waiters e; of the exclusive ones, until one takes it. Notify
// functions run with the list locked: they may not add to it or remove from it.
func (l *List) Notify(e Events) {
	if l.n.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := false
	for w := l.head; w != nil; w = w.next {
		if w.Exclusive && taken {
			continue
		}
		if w.Notify(e) && w.Exclusive {
			taken = true
		}
	}
}
