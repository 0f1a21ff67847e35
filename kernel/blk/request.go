package blk

import (
	"fmt"

	"osv/kernel/hw/dma"
)

// Request is one operation for Submit. The caller sets the exported fields up to
// Done; the rest is the driver's. It may be used again once Done was called.
type Request struct {
	Op      Op
	Sector  uint64       // first sector; not for flush
	Sectors uint64       // discard and write-zeroes only: how many
	Mem     []dma.Region // read and write only: each a multiple of the block size
	Done    func(*Request)
	Err     error // set when Done is called

	Flight
}

// Flight is a Request's state between Submit and Done, guarded by its driver's
// lock. Nobody else looks at it.
type Flight struct {
	Cursor          // where the next part starts
	Parts  int      // device commands under way
	More   bool     // not all parts are under way
	Unit   any      // the driver's: which of several units of one device it is for
	next   *Request // in a List
}

// Fail notes an error; the first stays.
func (r *Request) Fail(err error) {
	if r.Err == nil {
		r.Err = err
	}
}

// Reset makes r ready for its first part, which starts at sector at and has left
// sectors. Drivers call it for their own operations; Begin for all others.
func (r *Request) Reset(at, left uint64) {
	r.Err = nil
	r.Flight = Flight{Cursor: Cursor{at: at, left: left}, More: true}
}

// Limits are what a disk's requests are checked against.
type Limits struct {
	Driver         string   // for Error
	BlockSize      int      // bytes, a power of two of at least SectorSize
	MemAlign       int      // bus addresses of Mem are multiples of it, a power of two; 0: any
	MemBelow       dma.Addr // and Mem ends at or below it; 0: any
	ReadOnly       bool
	WriteCache     bool   // completed writes may be volatile: flush does something
	MaxDiscard     uint64 // sectors of one command; 0: no discard
	MaxWriteZeroes uint64 // sectors of one command; 0: no write-zeroes
}

// Begin makes r ready for its first part. Where the disk, which has the given
// number of sectors, cannot carry it out, or has nothing to do for it, Begin calls
// Done and reports false.
func (l *Limits) Begin(r *Request, sectors uint64) bool {
	err := l.check(r, sectors)
	if err == nil && (r.Op != OpFlush || l.WriteCache) {
		return true
	}
	r.Err = err
	r.Done(r)
	return false
}

func (l *Limits) check(r *Request, sectors uint64) error {
	r.Reset(r.Sector, 0)
	limit := uint64(1)
	switch r.Op {
	case OpRead, OpWrite:
		for _, m := range r.Mem {
			if len(m.Bytes) == 0 || len(m.Bytes)%l.BlockSize != 0 {
				return l.errorf(r, ErrAlign, "piece of %d bytes with blocks of %d", len(m.Bytes), l.BlockSize)
			}
			if l.MemAlign > 0 && m.Bus&dma.Addr(l.MemAlign-1) != 0 {
				return l.errorf(r, ErrAlign, "memory at %#x, wanted a multiple of %d", uint64(m.Bus), l.MemAlign)
			}
			if l.MemBelow > 0 && m.Bus+dma.Addr(len(m.Bytes)) > l.MemBelow {
				return l.errorf(r, ErrAlign, "memory at %#x, wanted below %#x", uint64(m.Bus), uint64(l.MemBelow))
			}
			r.left += uint64(len(m.Bytes)) / SectorSize
		}
	case OpDiscard:
		r.left, limit = r.Sectors, l.MaxDiscard
	case OpWriteZeroes:
		r.left, limit = r.Sectors, l.MaxWriteZeroes
	case OpFlush:
		r.at = 0
		return nil
	default:
		return l.errorf(r, ErrUnsupported, "")
	}
	perBlock := uint64(l.BlockSize / SectorSize)
	switch {
	case r.Op != OpRead && l.ReadOnly:
		return l.errorf(r, ErrReadOnly, "")
	case limit == 0:
		return l.errorf(r, ErrUnsupported, "")
	case r.left == 0:
		return l.errorf(r, ErrRange, "nothing to do")
	case r.at%perBlock != 0 || r.left%perBlock != 0:
		return l.errorf(r, ErrAlign, "blocks of %d bytes", l.BlockSize)
	case r.left > sectors || r.at > sectors-r.left:
		return l.errorf(r, ErrRange, "of %d sectors", sectors)
	}
	return nil
}

func (l *Limits) errorf(r *Request, why error, format string, a ...any) error {
	return &Error{l.Driver, r.Op, r.Sector, r.left, why, fmt.Sprintf(format, a...)}
}

// Refuse ends r, which was not begun, with an error.
func (l *Limits) Refuse(r *Request, why error) {
	r.Err = &Error{Driver: l.Driver, Op: r.Op, Sector: r.Sector, Why: why}
	r.Done(r)
}

// List is a queue of Requests; the zero value is empty. A Request is in one List
// at a time.
type List struct{ head, tail *Request }

// Head is the first Request, nil where there is none.
func (l *List) Head() *Request { return l.head }

// Push adds r at the end.
func (l *List) Push(r *Request) {
	r.next = nil
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
}

// Pop takes the first Request, nil where there is none.
func (l *List) Pop() *Request {
	r := l.head
	if r != nil {
		if l.head = r.next; l.head == nil {
			l.tail = nil
		}
		r.next = nil
	}
	return r
}

// Remove takes r out of l, wherever it is, and reports whether it was there.
func (l *List) Remove(r *Request) bool {
	var prev *Request
	for x := l.head; x != nil; prev, x = x, x.next {
		if x != r {
			continue
		}
		if prev == nil {
			l.head = x.next
		} else {
			prev.next = x.next
		}
		if l.tail == x {
			l.tail = prev
		}
		x.next = nil
		return true
	}
	return false
}

// Abort ends the requests of l, of which no part will be begun any more, with why;
// those of which no part is under way go to done.
func (l *List) Abort(driver string, why error, done *List) {
	for r := l.Pop(); r != nil; r = l.Pop() {
		r.More = false
		r.Fail(&Error{Driver: driver, Op: r.Op, Sector: r.Cursor.Sector(), Count: r.Left(), Why: why})
		if r.Parts == 0 {
			done.Push(r)
		}
	}
}

// Finish empties l and calls Done for each. The caller holds no lock.
func (l *List) Finish() {
	for r := l.Pop(); r != nil; r = l.Pop() {
		r.Done(r)
	}
}
