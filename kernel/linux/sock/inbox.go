package sock

import (
	"sync"
	"sync/atomic"

	"osv/kernel/vfs/poll"
)

// letter is what one send puts into an inbox: a datagram, or a stretch of a stream.
type letter struct {
	next   *letter
	data   []byte
	off    int // octets of a stream that were read
	from   *unix
	cred   Cred
	rights []Right
	class  int // of data's memory; -1 for one that is not pooled
}

// Sizes of the memory of letters, bytes.
var letterSizes = [...]int{512, 4096, 65536}

// letterCost is what a letter counts beside its octets, so that many small ones are
// as bounded as few large ones: about what Linux charges.
const letterCost = 576

var letters [len(letterSizes)]sync.Pool

// newLetter makes a letter for n octets.
func newLetter(n int) *letter {
	for i, size := range letterSizes {
		if n > size {
			continue
		}
		l, _ := letters[i].Get().(*letter)
		if l == nil {
			l = &letter{data: make([]byte, size), class: i}
		}
		l.data = l.data[:n]
		return l
	}
	return &letter{data: make([]byte, n), class: -1}
}

// free gives l back, and with it what it still carries.
func (l *letter) free() {
	for i, r := range l.rights {
		_ = r.Release()
		l.rights[i] = nil
	}
	class, data, rights := l.class, l.data, l.rights[:0]
	*l = letter{data: data, class: class, rights: rights}
	if class >= 0 {
		letters[class].Put(l)
	}
}

func (l *letter) cost() int64 { return int64(len(l.data) + letterCost) }

// inbox is what a socket has received and its user has not read.
type inbox struct {
	count atomic.Int32 // letters
	read  sync.Mutex   // held by the one who reads; outside mu

	mu         sync.Mutex // guards what follows
	head, tail *letter
	closed     bool
	waiting    []*unix // senders, or connecting sockets, that wait for room
}

// dgramQueue is net.unix.max_dgram_qlen: one more than that may wait.
const dgramQueue = 10

// full says that a sender who is not the peer must wait.
func (b *inbox) full() bool { return b.count.Load() > dgramQueue }

// put adds l, and reports false where nobody reads any more. The letter is the
// inbox's then, whatever comes of it.
func (b *inbox) put(l *letter) bool {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	if b.tail == nil {
		b.head = l
	} else {
		b.tail.next = l
	}
	b.tail = l
	b.count.Add(1)
	b.mu.Unlock()
	return true
}

// front is the letter that waits longest, nil without one. The caller holds read.
func (b *inbox) front() *letter {
	b.mu.Lock()
	l := b.head
	b.mu.Unlock()
	return l
}

// after is the letter behind l. The caller holds read.
func (b *inbox) after(l *letter) *letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return l.next
}

// pop takes l, the front, out, and tells who may send again. The caller holds read,
// and frees l.
func (b *inbox) pop(l *letter) {
	b.mu.Lock()
	if b.head != l { // the socket was closed meanwhile
		b.mu.Unlock()
		return
	}
	if b.head = l.next; b.head == nil {
		b.tail = nil
	}
	l.next = nil
	b.count.Add(-1)
	w := b.waiting
	b.waiting = nil
	b.mu.Unlock()
	for _, s := range w {
		s.list.Notify(poll.Out)
	}
	l.from.released(l.cost())
}

// released notes that n bytes of what s has sent are gone.
func (s *unix) released(n int64) {
	before := s.sent.Load()
	after := s.sent.Add(-n)
	if limit := int64(s.sndLimit()); after*4 <= limit && before*4 > limit {
		s.list.Notify(poll.Out)
	}
}

// waitFor has s told when there may be room.
func (b *inbox) waitFor(s *unix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.waiting {
		if o == s {
			return
		}
	}
	b.waiting = append(b.waiting, s)
}

// wake tells those who wait for room.
func (b *inbox) wake(e poll.Events) {
	b.mu.Lock()
	w := b.waiting
	b.waiting = nil
	b.mu.Unlock()
	for _, s := range w {
		s.list.Notify(e)
	}
}

// take empties the inbox.
func (b *inbox) take(end bool) *letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.head
	b.head, b.tail = nil, nil
	b.count.Store(0)
	b.closed = b.closed || end
	return l
}

// drop forgets what waits, and with end takes nothing any more. It reports whether
// there was anything. Closing what letters carry may come back to here.
func (b *inbox) drop(end bool) bool {
	b.read.Lock()
	l := b.take(end)
	b.read.Unlock()
	any := l != nil
	for l != nil {
		next := l.next
		l.from.released(l.cost())
		l.from.net.unix.land(l.rights)
		l.free()
		l = next
	}
	b.wake(poll.Out | poll.Err)
	return any
}

// readable is FIONREAD: the octets of a connection, or those of the next datagram.
func (b *inbox) readable(all bool) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for l := b.head; l != nil; l = l.next {
		n += len(l.data) - l.off
		if !all {
			break
		}
	}
	return n
}
