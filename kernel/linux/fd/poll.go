package fd

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/vfs/poll"
)

// Bits of poll(2) that sources do not report themselves.
const (
	pollRdNorm = 0x040
	pollRdBand = 0x080
	pollWrNorm = 0x100
	pollWrBand = 0x200
	PollNval   = 0x020

	alwaysBits = uint32(always)
)

// expand adds the bits that go with what a source reports: normal data with In, room
// for it with Out. Counters (eventfd and its kin) have no normal data.
func (o *Open) expand(e poll.Events) uint32 {
	b := uint32(e) &^ uint32(passOn)
	if o.counter {
		return b
	}
	if e&poll.In != 0 {
		b |= pollRdNorm
	}
	if e&poll.Out != 0 {
		b |= pollWrNorm
	}
	return b
}

// sourceBits are the bits to wait for where a caller asks for want.
func sourceBits(want uint32) poll.Events {
	e := poll.Events(want) & poll.Any
	if want&pollRdNorm != 0 {
		e |= poll.In
	}
	if want&(pollWrNorm|pollWrBand) != 0 {
		e |= poll.Out
	}
	return e | always
}

// PollSet is the files of one poll(2) or select(2) call. Sets are pooled with their
// closures: GetPollSet, Add for each file, Wait, then the entries' Got, then Put.
type PollSet struct {
	c       chan struct{}
	Entries []*PollEntry
	n       int
	watched int
}

// PollEntry is one file of a set.
type PollEntry struct {
	set  *PollSet
	open *Open // nil: not looked at, Got stays
	want uint32
	live atomic.Uint32 // bits that wake the caller
	w    poll.Waiter

	Got uint32 // what is true of what was asked for
}

var pollSets = sync.Pool{New: func() any { return &PollSet{c: make(chan struct{}, 1)} }}

// GetPollSet is an empty set.
func GetPollSet() *PollSet {
	p := pollSets.Get().(*PollSet)
	select {
	case <-p.c:
	default:
	}
	return p
}

// Len is how many files were added, At the i-th.
func (p *PollSet) Len() int { return p.n }

// At is the i-th entry.
func (p *PollSet) At(i int) *PollEntry { return p.Entries[i] }

// Add adds a file with what is asked of it, and takes over the caller's reference. A
// nil file tells got and nothing else.
func (p *PollSet) Add(o *Open, want, got uint32) *PollEntry {
	if p.n == len(p.Entries) {
		e := &PollEntry{set: p}
		e.w.Notify = e.notify
		p.Entries = append(p.Entries, e)
	}
	e := p.Entries[p.n]
	p.n++
	e.open, e.want, e.Got = o, want|alwaysBits, got
	e.live.Store(uint32(sourceBits(want)))
	return e
}

func (e *PollEntry) notify(ev poll.Events) bool {
	if ev&passOn != 0 || uint32(ev)&e.live.Load() == 0 {
		return false
	}
	select {
	case e.set.c <- struct{}{}:
		return true
	default:
		return false
	}
}

// Put gives the set back, with all references.
func (p *PollSet) Put() {
	for _, e := range p.Entries[:p.watched] {
		if e.open != nil {
			e.open.Unwatch(&e.w)
		}
	}
	for _, e := range p.Entries[:p.n] {
		if e.open != nil {
			_ = e.open.Release()
			e.open = nil
		}
	}
	p.n, p.watched = 0, 0
	const keep = 256
	if len(p.Entries) <= keep {
		pollSets.Put(p)
	}
}

// look asks all files; with watch set it puts the caller on their lists until the
// first that is ready.
func (p *PollSet) look(watch bool) int {
	ready := 0
	for i, e := range p.Entries[:p.n] {
		if e.open == nil {
			if e.Got != 0 {
				ready++
			}
			continue
		}
		if watch && ready == 0 {
			e.open.Watch(&e.w)
			p.watched = i + 1
		}
		if e.Got = e.open.expand(e.open.Ready()) & e.want; e.Got != 0 {
			ready++
		}
	}
	return ready
}

// Wait returns how many entries have something in Got: at once if there is one, or
// with now set; else when there is one or the deadline has come (0). It returns
// abi.ERESTARTNOHAND for a signal.
func (p *PollSet) Wait(s Sleeper, deadline time.Time, now bool) (int, error) {
	// Most calls find something, and need not go on any list.
	if n := p.look(false); n > 0 || now {
		return n, nil
	}
	n := p.look(true)
	var err error
	for n == 0 && err == nil {
		err = s.Sleep(p.c, deadline)
		n = p.look(false)
	}
	if n > 0 || err == syscall.ETIMEDOUT {
		return n, nil
	}
	if err == abi.ERESTARTSYS {
		err = abi.ERESTARTNOHAND
	}
	return 0, err
}

// Exact has the entry answer only the bits of want, without errors and hangups unless
// they are among them: select.
func (e *PollEntry) Exact(want uint32) { e.want = want }
