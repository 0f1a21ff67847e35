package virtioblk

import (
	"errors"
	"fmt"

	"osv/kernel/hw/dma"
)

// Op is what a Request asks for. Its values are those of the spec, §5.2.6.
type Op uint32

const (
	OpRead        Op = 0
	OpWrite       Op = 1
	OpFlush       Op = 4
	opGetID       Op = 8
	OpDiscard     Op = 11
	OpWriteZeroes Op = 13
)

func (o Op) String() string {
	switch o {
	case OpRead:
		return "read"
	case OpWrite:
		return "write"
	case OpFlush:
		return "flush"
	case opGetID:
		return "get-id"
	case OpDiscard:
		return "discard"
	case OpWriteZeroes:
		return "write-zeroes"
	}
	return fmt.Sprintf("op %d", uint32(o))
}

// Why a request failed; errors.Is finds them in an Error.
var (
	ErrIO          = errors.New("device reports an I/O error")
	ErrUnsupported = errors.New("device does not support it")
	ErrProtocol    = errors.New("device breaks the protocol")
	ErrRange       = errors.New("beyond the end of the device")
	ErrAlign       = errors.New("not a multiple of the block size")
	ErrReadOnly    = errors.New("device is read-only")
)

// Error says which request failed: Count sectors from Sector. Of a request that
// the driver split up, it names the part that failed first.
type Error struct {
	Op     Op
	Sector uint64
	Count  uint64
	Why    error  // one of the above, or why the device stopped
	Detail string // more for a protocol error; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s of %d sectors at sector %d: %v", driverName, e.Op, e.Count, e.Sector, e.Why)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns Why.
func (e *Error) Unwrap() error { return e.Why }

// Request is one operation for Submit. The caller sets the exported fields; the
// rest is the driver's. It may be used again once Done was called.
type Request struct {
	Op      Op
	Sector  uint64       // first sector; not for flush
	Sectors uint64       // discard and write-zeroes only: how many
	Mem     []dma.Region // read and write only: each a multiple of the block size
	Done    func(*Request)
	Err     error // set when Done is called

	next *Request // in a queue's list of waiting or finished ones
	cursor
	parts int  // device requests under way
	more  bool // not all parts are posted
}

// cursor is where in a Request the next part starts.
type cursor struct {
	at     uint64 // sector
	left   uint64 // sectors
	region int    // index in Mem
	off    int    // bytes into that region
}

// check refuses a Request that the device cannot carry out, and sets its cursor.
func (r *Request) check(d *Device) error {
	r.Err, r.next, r.parts, r.more = nil, nil, 0, true
	r.cursor = cursor{at: r.Sector}
	f := d.dev.Features
	limit := uint32(1)
	switch r.Op {
	case OpRead, OpWrite:
		for _, m := range r.Mem {
			if len(m.Bytes) == 0 || len(m.Bytes)%int(d.conf.blockSize) != 0 {
				return r.errorf(ErrAlign, "piece of %d bytes with blocks of %d", len(m.Bytes), d.conf.blockSize)
			}
			r.left += uint64(len(m.Bytes)) / SectorSize
		}
	case OpDiscard, OpWriteZeroes:
		r.left = r.Sectors
		limit = d.conf.maxDiscard
		if r.Op == OpWriteZeroes {
			limit = d.conf.maxWriteZeroes
		}
	case OpFlush:
		r.at = 0
		return nil
	case opGetID:
		if r.at = 0; len(r.Mem) == 1 && len(r.Mem[0].Bytes) == idLen {
			return nil
		}
		return r.errorf(ErrUnsupported, "")
	default:
		return r.errorf(ErrUnsupported, "")
	}
	perBlock := uint64(d.conf.blockSize / SectorSize)
	switch {
	case r.Op != OpRead && f.Has(featRO):
		return r.errorf(ErrReadOnly, "")
	case limit == 0 || r.Op == OpDiscard && !f.Has(featDiscard) || r.Op == OpWriteZeroes && !f.Has(featWriteZeroes):
		return r.errorf(ErrUnsupported, "")
	case r.left == 0:
		return r.errorf(ErrRange, "nothing to do")
	case r.at%perBlock != 0 || r.left%perBlock != 0:
		return r.errorf(ErrAlign, "blocks of %d bytes", d.conf.blockSize)
	case r.left > d.capacity.Load() || r.at > d.capacity.Load()-r.left:
		return r.errorf(ErrRange, "of %d sectors", d.capacity.Load())
	}
	return nil
}

func (r *Request) errorf(why error, format string, a ...any) error {
	return &Error{r.Op, r.Sector, r.cursor.left, why, fmt.Sprintf(format, a...)}
}

// fail notes an error; the first stays.
func (r *Request) fail(err error) {
	if r.Err == nil {
		r.Err = err
	}
}

// list is a queue of Requests.
type list struct{ head, tail *Request }

func (l *list) push(r *Request) {
	r.next = nil
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
}

func (l *list) pop() *Request {
	r := l.head
	if r != nil {
		if l.head = r.next; l.head == nil {
			l.tail = nil
		}
		r.next = nil
	}
	return r
}

// finish calls Done for all of l.
func (l *list) finish() {
	for r := l.pop(); r != nil; r = l.pop() {
		r.Done(r)
	}
}
