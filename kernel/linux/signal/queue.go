package signal

import (
	"encoding/binary"

	"osv/kernel/linux/abi"
)

var le = binary.LittleEndian

// Queue is pending signals, of a thread or a process. The zero value is empty. The
// caller locks.
type Queue struct {
	set  Set
	info []abi.Siginfo // in the order of arrival; of a signal below SIGRTMIN at most one
}

// Pending are the signals that are there.
func (q *Queue) Pending() Set { return q.set }

// Len is how many infos are queued.
func (q *Queue) Len() int { return len(q.info) }

// Add queues a signal and says whether it did: one below SIGRTMIN that is pending
// already stays as it is. Where room is false, no more infos are queued: those of
// sigqueue must then fail (the caller's matter, by a look at Room), others are
// pending without info.
func (q *Queue) Add(i abi.Siginfo, room bool) bool {
	sig := int(i.Signo)
	if sig < abi.SIGRTMIN && q.set.Has(sig) {
		return false
	}
	q.set |= Bit(sig)
	if room {
		q.info = append(q.info, i)
	}
	return true
}

// Remove drops all signals of a set.
func (q *Queue) Remove(s Set) {
	if q.set&s == 0 {
		return
	}
	q.set &^= s
	kept := q.info[:0]
	for _, i := range q.info {
		if !s.Has(int(i.Signo)) {
			kept = append(kept, i)
		}
	}
	clear(q.info[len(kept):])
	q.info = kept
}

// Next is the signal of allowed that comes next: synchronous ones first, then by
// number; 0 where there is none.
func (q *Queue) Next(allowed Set) int {
	s := q.set & allowed
	if sync := s & Sync; sync != 0 {
		s = sync
	}
	return s.First()
}

// Take takes the next signal of allowed off; ok is false where there is none.
func (q *Queue) Take(allowed Set) (i abi.Siginfo, ok bool) {
	sig := q.Next(allowed)
	if sig == 0 {
		return abi.Siginfo{}, false
	}
	// Without an info there was no room for one: it counts as sent by nobody.
	i = abi.Siginfo{Signo: int32(sig), Code: abi.SI_USER}
	at, more := -1, false
	for n := range q.info {
		if int(q.info[n].Signo) != sig {
			continue
		}
		if at >= 0 {
			more = true
			break
		}
		at = n
	}
	if at >= 0 {
		i = q.info[at]
		copy(q.info[at:], q.info[at+1:])
		q.info[len(q.info)-1] = abi.Siginfo{}
		q.info = q.info[:len(q.info)-1]
	}
	if !more {
		q.set &^= Bit(sig)
	}
	return i, true
}

// Find returns the queued info of sig for which f is true, nil where there is none:
// a timer that has expired again counts the overrun there.
func (q *Queue) Find(sig int, f func(*abi.Siginfo) bool) *abi.Siginfo {
	if !q.set.Has(sig) {
		return nil
	}
	for n := range q.info {
		if i := &q.info[n]; int(i.Signo) == sig && f(i) {
			return i
		}
	}
	return nil
}
