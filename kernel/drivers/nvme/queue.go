package nvme

import (
	"encoding/binary"
	"fmt"
	"sync"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
)

// queue is a submission queue with its completion queue, Base 2.0 §2.1.1. It has
// one slot less than entries, so neither can overflow.
type queue struct {
	c      *Controller
	id     int
	vector int
	depth  int // entries
	sq     dma.Region
	cq     dma.Region
	lists  dma.Region // for each slot listBytes of PRP list, or the range of a discard

	sqTail mmio.Doorbell
	cqHead mmio.Doorbell

	mu      sync.Mutex // guards all below
	state   queueState
	tail    int    // next submission entry; driver writes, device reads after the doorbell
	head    int    // next completion entry
	phase   uint32 // of completions not yet seen, §3.3.3.2.2
	slots   []slot
	free    []uint16
	waiting blk.List // requests with parts not yet posted
	pieces  []blk.Seg
	watch   *blk.Watch
	busy    int   // slots in use
	good    bool  // something was completed since the last reset
	broken  error // the device broke the protocol
}

type queueState uint8

const (
	frozen queueState = iota // the device is not to be touched; requests wait
	live
	dead // requests are refused
)

// slot is one command under way; its number is part of the command identifier.
type slot struct {
	used    bool
	late    bool  // Abort was sent
	resets  uint8 // how often it was sent again
	gen     uint16
	cid     uint16
	began   uint32
	cmd     command // to send it again
	at      uint64  // sector
	count   uint64  // sectors
	req     *blk.Request
	replyTo chan completion // admin commands
}

// newQueue allocates a queue of depth entries. listBytes is the PRP list of each
// slot, 0 for the admin queue.
func newQueue(c *Controller, id, vector, depth, listBytes, maxSegs int) (*queue, error) {
	q := &queue{c: c, id: id, vector: vector, depth: depth}
	var err error
	alloc := func(n int) (r dma.Region) {
		if err == nil && n > 0 {
			r, err = c.mem.Alloc(n, max(c.page, 4096))
		}
		return r
	}
	q.sq, q.cq, q.lists = alloc(depth*sqeBytes), alloc(depth*cqeBytes), alloc((depth-1)*listBytes)
	if err != nil {
		q.release()
		return nil, fmt.Errorf("%s: queue %d: %w", driverName, id, err)
	}
	q.sqTail = c.regs.Doorbell(regDoorbells + mmio.Off(2*id)*c.cap.stride())
	q.cqHead = c.regs.Doorbell(regDoorbells + mmio.Off(2*id+1)*c.cap.stride())
	q.slots = make([]slot, depth-1)
	q.free = make([]uint16, 0, depth-1)
	q.pieces = make([]blk.Seg, 0, maxSegs)
	q.watch = blk.NewWatch(c.cfg.Timeout, q.lookAfter)
	q.rewind()
	return q, nil
}

func (q *queue) release() {
	for _, r := range []dma.Region{q.sq, q.cq, q.lists} {
		if r.Bytes != nil {
			q.c.mem.Free(r)
		}
	}
}

// rewind makes the rings as they are after a reset: empty, with slots kept. Caller
// must hold mu, or nobody else know q.
func (q *queue) rewind() {
	clear(q.sq.Bytes)
	clear(q.cq.Bytes)
	q.tail, q.head, q.phase = 0, 0, 1
	q.free = q.free[:0]
	for i := len(q.slots) - 1; i >= 0; i-- {
		if !q.slots[i].used {
			q.free = append(q.free, uint16(i))
		}
	}
}

// take gives a free slot a new identifier, nil where there is none. Caller must
// hold mu.
func (q *queue) take() (*slot, int) {
	if len(q.free) == 0 {
		return nil, 0
	}
	i := int(q.free[len(q.free)-1])
	q.free = q.free[:len(q.free)-1]
	s := &q.slots[i]
	gen := s.gen + 1
	*s = slot{used: true, gen: gen}
	s.cid = uint16(i) | gen*cidGeneration
	q.busy++
	return s, i
}

// put frees a slot. Caller must hold mu.
func (q *queue) put(i int) {
	q.slots[i].used, q.slots[i].req, q.slots[i].replyTo = false, nil, nil
	q.free = append(q.free, uint16(i))
	q.busy--
}

// send writes a slot's command into the ring; ring tells the device. Caller must
// hold mu.
func (q *queue) send(s *slot) {
	s.cmd.setCID(s.cid)
	s.cmd.store(q.sq.Bytes[q.tail*sqeBytes:])
	if q.tail++; q.tail == q.depth {
		q.tail = 0
	}
	s.began = q.watch.Begin()
}

func (q *queue) ring() { q.sqTail.Ring32(uint32(q.tail)) }

// submit queues r, which Begin has accepted.
func (q *queue) submit(r *blk.Request) {
	q.mu.Lock()
	if q.state == dead {
		q.mu.Unlock()
		r.Unit.(*Namespace).limits.Refuse(r, q.c.Err())
		return
	}
	q.waiting.Push(r)
	if q.state == live {
		q.post()
	}
	q.mu.Unlock()
}

// post sends parts of waiting requests, first come first served, until there is
// no slot. Caller must hold mu.
func (q *queue) post() {
	sent := false
	for r := q.waiting.Head(); r != nil; r = q.waiting.Head() {
		for r.More {
			s, i := q.take()
			if s == nil {
				if sent {
					q.ring()
				}
				return
			}
			q.build(s, i, r)
			q.send(s)
			sent = true
		}
		q.waiting.Pop()
	}
	if sent {
		q.ring()
	}
}

// build makes slot i the next part of r, as large as the device takes.
func (q *queue) build(s *slot, i int, r *blk.Request) {
	ns := r.Unit.(*Namespace)
	s.req, s.at = r, r.Cursor.Sector()
	shift := ns.shift
	switch r.Op {
	case blk.OpRead, blk.OpWrite:
		op := uint8(nvmRead)
		if r.Op == blk.OpWrite {
			op = nvmWrite
		}
		s.cmd = newCommand(op, ns.id)
		pieces, bytes := r.Cursor.Gather(q.pieces[:0], r.Mem, &ns.shape)
		s.count = uint64(bytes) / blk.SectorSize
		q.setPRPs(&s.cmd, i, pieces)
		s.cmd.setSLBA(s.at >> shift)
		s.cmd[12] = uint32(s.count>>shift - 1)
	case blk.OpFlush:
		s.cmd = newCommand(nvmFlush, ns.id)
	case blk.OpDiscard:
		s.cmd = newCommand(nvmDSM, ns.id)
		_, s.count = r.Range(ns.limits.MaxDiscard)
		list := q.list(i)
		binary.LittleEndian.PutUint32(list.Bytes, 0)
		binary.LittleEndian.PutUint32(list.Bytes[4:], uint32(s.count>>shift))
		binary.LittleEndian.PutUint64(list.Bytes[8:], s.at>>shift)
		s.cmd.setPRP(list.Bus, 0)
		s.cmd[10], s.cmd[11] = 0, dsmDeallocate // one range
	case blk.OpWriteZeroes:
		s.cmd = newCommand(nvmWriteZeroes, ns.id)
		_, s.count = r.Range(ns.limits.MaxWriteZeroes)
		s.cmd.setSLBA(s.at >> shift)
		s.cmd[12] = uint32(s.count>>shift-1) | ns.zeroFlags
	}
	r.More = r.Left() > 0
	r.Parts++
}

func (q *queue) list(i int) dma.Region { return q.lists.Slice(i*q.c.listBytes, q.c.listBytes) }

// setPRPs points cmd at pieces, §4.1.1: the first page by PRP1, which may begin
// inside of it; a second one by PRP2; more by a list at PRP2, which does not cross
// a page, since its size is a power of two of at most a page.
func (q *queue) setPRPs(cmd *command, slot int, pieces []blk.Seg) {
	list := q.list(slot)
	page := dma.Addr(q.c.page)
	var first, second dma.Addr
	n := 0
	for _, p := range pieces {
		end := p.Addr + dma.Addr(p.Len)
		for a := p.Addr; a < end; a = (a | (page - 1)) + 1 {
			switch n {
			case 0:
				first = a
			default:
				if n == 1 {
					second = a
				}
				binary.LittleEndian.PutUint64(list.Bytes[8*(n-1):], uint64(a))
			}
			n++
		}
	}
	if n > 2 {
		second = list.Bus
	}
	cmd.setPRP(first, second)
}

// interrupt is what an interrupt of q's line asks for. The caller does not hold
// the controller's mutex.
func (q *queue) interrupt() {
	if err := q.look(); err != nil {
		q.c.stop(err)
	}
}

// look takes all completions and posts what waited for room. The error is a broken
// protocol.
func (q *queue) look() error {
	var done blk.List
	q.mu.Lock()
	if q.state == live {
		q.reap(&done)
		if q.broken == nil {
			q.post()
		}
	}
	err := q.broken
	q.mu.Unlock()
	done.Finish()
	return err
}

// reap ends the commands that the device has completed. Caller must hold mu.
func (q *queue) reap(done *blk.List) {
	n := 0
	for q.broken == nil {
		e := q.cq.Bytes[q.head*cqeBytes : (q.head+1)*cqeBytes]
		dw3 := load32(e, 12)
		if dw3>>16&1 != q.phase {
			break
		}
		dw2 := binary.LittleEndian.Uint32(e[8:])
		cid := uint16(dw3)
		i := int(cid & cidSlot)
		if id := int(dw2 >> 16); id != q.id {
			q.broken = q.c.protocolf("queue %d: completion for queue %d", q.id, id)
			break
		}
		if i >= len(q.slots) || !q.slots[i].used || q.slots[i].cid != cid {
			q.broken = q.c.protocolf("queue %d: completion of command %#x, which is not under way", q.id, cid)
			break
		}
		q.complete(i, completion{result: binary.LittleEndian.Uint32(e), status: status(dw3 >> 17)}, done)
		n++
		if q.head++; q.head == q.depth {
			q.head, q.phase = 0, q.phase^1
		}
	}
	if n > 0 {
		q.good = true
		q.cqHead.Ring32(uint32(q.head))
	}
}

// complete ends slot i. Caller must hold mu.
func (q *queue) complete(i int, c completion, done *blk.List) {
	s := &q.slots[i]
	if s.replyTo != nil {
		s.replyTo <- c // has room
		q.put(i)
		return
	}
	r := s.req
	if c.err != nil || !c.status.ok() {
		q.fail(s, c)
		if r.More { // the rest of a request that failed is of no use
			r.More = false
			q.waiting.Remove(r)
		}
	}
	q.put(i)
	if r.Parts--; r.Parts == 0 && !r.More {
		done.Push(r)
	}
}

func (q *queue) fail(s *slot, c completion) {
	e := &blk.Error{Driver: driverName, Op: s.req.Op, Sector: s.at, Count: s.count, Why: c.err}
	if c.err == nil {
		e.Why, e.Detail = c.status.why(), c.status.String()
		if s.late && c.status&codeMask == statusAbortRequested {
			e.Why, e.Detail = blk.ErrTimeout, fmt.Sprintf("aborted after %v", q.c.cfg.Timeout)
		}
	}
	s.req.Fail(e)
}

// drop ends all that is under way or waits, after freeze and the device's reset.
func (q *queue) drop(reason error) {
	var done blk.List
	q.mu.Lock()
	q.state = dead
	for i := range q.slots {
		if q.slots[i].used {
			q.complete(i, completion{err: reason}, &done)
		}
	}
	q.waiting.Abort(driverName, reason, &done)
	q.mu.Unlock()
	q.watch.Stop()
	done.Finish()
}

func (q *queue) setState(s queueState) {
	q.mu.Lock()
	if q.state != dead {
		q.state = s
	}
	q.mu.Unlock()
}
