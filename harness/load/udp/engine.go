package udp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/load"
)

// fullWait is the pause before a port that took nothing is tried again.
const fullWait = 50 * time.Microsecond

// quietTimeouts is how many timeouts without any reply end a finite job.
const quietTimeouts = 4

// headerBytes is the frame header of memcached's UDP protocol.
const headerBytes = 8

// slot is one request id. Ids are handed out in order, so the slots in flight
// are the ring head..tail, and the oldest expires first.
type slot struct {
	intended, sent int64
	q              load.Req
	live           bool
	asm            int16 // index into the reassembly pool, -1 without
}

// engine is one run.
type engine struct {
	*load.Engine
	port     Port
	slots    []slot // by request id
	head     uint32 // oldest id that may be live
	tail     uint32 // next id
	inflight int
	asm      []assembly
	tx       [][]byte
	txBuf    [][]byte
	rx       [][]byte
	pend     int // datagrams in tx that the port has not taken yet
	pendAt   int // first of them
	refused  int
	heard    int64 // time of the last reply
}

// Run sends load through port until the window, or the codec, ends and the last
// replies are in. probes are read at the window's edges.
func Run(ctx context.Context, spec load.Spec, codec load.Codec, port Port, probes load.Probes) (*load.Engine, error) {
	base, err := load.NewEngine(spec, codec, false)
	if err != nil {
		return nil, err
	}
	base.Probe = probes
	return base, runOn(ctx, base, port)
}

// RunJob runs a finite codec to its end, closed loop.
func RunJob(ctx context.Context, spec load.Spec, codec load.Codec, port Port) error {
	base, err := load.NewEngine(spec, codec, true)
	if err != nil {
		return err
	}
	return runOn(ctx, base, port)
}

func runOn(ctx context.Context, base *load.Engine, port Port) error {
	e, err := newEngine(base, port)
	if err != nil {
		return err
	}
	if port.Polls() {
		base.SetPolling()
	}
	defer base.Begin(ctx)()
	for {
		more, err := e.turn()
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	return ctx.Err()
}

func newEngine(base *load.Engine, port Port) (*engine, error) {
	if n := base.Codec.MaxRequest() + headerBytes; n > MaxDatagram {
		return nil, fmt.Errorf("udp: requests of up to %d bytes do not fit a datagram of %d; use smaller values", n, MaxDatagram)
	}
	e := &engine{Engine: base, port: port, slots: make([]slot, 1<<16)}
	for range batch {
		e.txBuf = append(e.txBuf, make([]byte, 0, MaxDatagram))
	}
	e.tx, e.rx = make([][]byte, batch), make([][]byte, batch)
	if n := base.Codec.MaxReply() + headerBytes; n > 1400 {
		e.asm = newAssemblies(n)
	}
	return e, nil
}

// turn is one pass: receive, expire, send, or else wait. It reports whether
// there is more to do.
func (e *engine) turn() (bool, error) {
	now := e.Now()
	if err := e.Edge(now); err != nil {
		return false, err
	}
	worked := false

	// 1. Replies.
	n, err := e.port.Recv(e.rx)
	if err != nil {
		if err := e.portError(err); err != nil {
			return false, err
		}
	}
	if n > 0 {
		worked = true
		came := e.Now()
		e.heard = came
		for _, d := range e.rx[:n] {
			e.reply(d, came)
		}
	}

	// 2. Requests whose time is up.
	now = e.Now()
	expiry := e.expire(now)

	// 3. Requests that are due.
	if e.pend == 0 {
		e.fill(now)
	}
	if e.pend > 0 {
		took, err := e.port.Send(e.tx[e.pendAt : e.pendAt+e.pend])
		if err != nil {
			if err := e.portError(err); err != nil {
				return false, err
			}
		}
		if took > 0 {
			worked = true
			e.sent(took)
		}
	}
	if worked {
		e.Worked(e.Now() - now)
		return true, nil
	}

	if quiet := now - e.heard; e.Finite() && e.inflight > 0 && quiet > quietTimeouts*int64(e.Spec.Timeout) {
		return false, fmt.Errorf("udp: no reply for %.1f s", float64(quiet)/1e9)
	}

	// 4. Nothing to do: done, or wait.
	if !e.Issuing(now) && e.inflight == 0 && e.pend == 0 {
		return false, e.Edge(e.Now())
	}
	if e.Stopped() {
		return false, nil
	}
	wait := e.WaitTime(now, expiry, e.room())
	if e.pend > 0 {
		wait = min(wait, fullWait) // the port is full: nothing will wake us
	}
	return true, e.port.Wait(wait)
}

// portError turns errors that a lost guest gives into losses, up to a point.
func (e *engine) portError(err error) error {
	if errors.Is(err, unix.ECONNREFUSED) {
		e.refused++
		if e.refused < 100 {
			return nil // an ICMP message of a server that is not up yet
		}
		return fmt.Errorf("udp: nobody listens: %w", err)
	}
	return fmt.Errorf("udp: %w", err)
}

func (e *engine) room() bool {
	return e.inflight < e.Spec.Outstanding && e.tail-e.head < uint32(len(e.slots))-1
}

// fill builds the datagrams that are due at now.
func (e *engine) fill(now int64) {
	e.pendAt = 0
	for e.pend < batch && e.room() && e.Issuing(now) {
		intended, q, ok := e.Due(now)
		if !ok {
			return
		}
		id := uint16(e.tail)
		s := &e.slots[id]
		*s = slot{intended: intended, sent: now, q: q, live: true, asm: -1}
		e.tail++
		e.inflight++
		b := e.txBuf[e.pend][:headerBytes]
		binary.BigEndian.PutUint16(b[0:], id)
		binary.BigEndian.PutUint16(b[2:], 0)
		binary.BigEndian.PutUint16(b[4:], 1)
		binary.BigEndian.PutUint16(b[6:], 0)
		e.tx[e.pend] = e.Codec.Append(b, q)
		e.pend++
	}
}

// sent stamps the first n pending datagrams. In the closed loop the intended
// time is the time of sending.
func (e *engine) sent(n int) {
	now := e.Now()
	first := e.tail - uint32(e.pend)
	for i := range uint32(n) {
		s := &e.slots[uint16(first+i)]
		s.sent = now
		if !e.OpenLoop() {
			s.intended = now
		}
		e.Rec.Sent(s.intended, now)
	}
	e.pendAt += n
	e.pend -= n
}

// expire drops requests older than the timeout and returns when the oldest one
// left will be, 0 if none is in flight.
func (e *engine) expire(now int64) int64 {
	unsent := e.tail - uint32(e.pend)
	for e.head != unsent {
		s := &e.slots[uint16(e.head)]
		if s.live {
			if at := s.sent + int64(e.Spec.Timeout); at > now {
				return at
			}
			e.Rec.Drop(s.intended)
			e.free(s)
		}
		e.head++
	}
	return 0
}

func (e *engine) free(s *slot) {
	s.live = false
	e.inflight--
	if s.asm >= 0 {
		e.asm[s.asm].id = -1
		s.asm = -1
	}
}

// reply matches a datagram with its request and checks it.
func (e *engine) reply(d []byte, now int64) {
	if len(d) < headerBytes {
		e.Rec.Fault(&e.Rec.Wrong, "datagram of %d bytes", len(d))
		return
	}
	id := binary.BigEndian.Uint16(d)
	seq, total := binary.BigEndian.Uint16(d[2:]), binary.BigEndian.Uint16(d[4:])
	s := &e.slots[id]
	if !s.live || uint32(id-uint16(e.head)) >= e.tail-e.head {
		e.Rec.Late++
		return
	}
	body := d[headerBytes:]
	if total != 1 {
		var ok bool
		if body, ok = e.assemble(s, id, seq, total, body); !ok {
			return
		}
	} else if seq != 0 {
		e.wrong(s, d)
		return
	}
	n, v := e.Codec.Check(body, s.q)
	if n != len(body) && v != load.Wrong {
		v = load.Wrong // cut short, or followed by bytes that nobody asked for
	}
	switch v {
	case load.Hit, load.Done:
		e.Rec.Done(s.intended, s.sent, now, v == load.Hit)
	case load.Miss:
		e.Rec.Missed(s.intended)
		e.Rec.Done(s.intended, s.sent, now, false)
	default:
		e.wrong(s, body)
		return
	}
	e.free(s)
}

func (e *engine) wrong(s *slot, b []byte) {
	e.Rec.Fault(&e.Rec.Wrong, "op %d of key %d: reply %.60q (%d bytes)", s.q.Op, s.q.Key, b, len(b))
	e.free(s)
}
