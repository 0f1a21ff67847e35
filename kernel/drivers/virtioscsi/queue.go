package virtioscsi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"osv/kernel/drivers/scsi"
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
)

// Each command under way has a slot with a control block in device memory,
// §5.6.6.1: what the device reads, then, in a cache line of its own, what it
// writes.
const (
	reqLUN  = 0
	reqID   = 8  // 64 bits
	reqAttr = 16 // simple task
	reqPrio = 17
	reqCRN  = 18
	reqCDB  = 19 // cdb_size bytes

	respSenseLen = 0  // 32 bits
	respResidual = 4  // 32 bits
	respStatus   = 10 // unit's status
	respResponse = 11 // the device's
	respSense    = 12 // sense_size bytes
)

// response is the device's own status of a command or of a task management
// request, §5.6.6.1 and §5.6.6.2.
type response uint8

const (
	responseOK               response = 0
	responseOverrun          response = 1
	responseAborted          response = 2
	responseBadTarget        response = 3
	responseReset            response = 4
	responseBusy             response = 5
	responseTransportFailure response = 6
	responseTargetFailure    response = 7
	responseNexusFailure     response = 8
	responseFailure          response = 9
	responseSucceeded        response = 10
	responseRejected         response = 11
	responseIncorrectLUN     response = 12
	responsePending          response = 0xff // ours: the device has not written it
)

var responseNames = [...]string{"ok", "overrun", "aborted", "bad target", "reset", "busy", "transport failure", "target failure",
	"nexus failure", "failure", "function succeeded", "function rejected", "incorrect LUN"}

func (r response) String() string {
	if int(r) < len(responseNames) {
		return responseNames[r]
	}
	return fmt.Sprintf("response %#x", uint8(r))
}

// hostStatuses are those of a command whose unit has nothing to say.
var hostStatuses = map[response]scsi.HostStatus{
	responseOverrun:      scsi.HostOverrun,
	responseAborted:      scsi.HostAborted,
	responseBadTarget:    scsi.HostNoTarget,
	responseReset:        scsi.HostReset,
	responseBusy:         scsi.HostBusy,
	responseIncorrectLUN: scsi.HostNoUnit,
}

// firstRequest is the index of the first request queue, §5.6.2.
const firstRequest = 2

// queue is one request queue.
type queue struct {
	d     *Device
	index int
	mu    sync.Mutex // guards all below

	vq       *virtio.Queue
	ctl      dma.Region
	ctlBytes int
	respAt   int
	slots    []slot
	free     []uint16 // free slot numbers
	byHead   []uint16 // slot number by chain head
	waiting  scsi.List
	maxSegs  int // data segments of a command
	segs     []virtio.Seg
	frozen   bool
}

// slot is one command under way.
type slot struct {
	cmd *scsi.Command
	gen uint32
}

func newQueue(d *Device, i int, vector uint16) (*queue, error) {
	q := &queue{d: d, index: i}
	segs := min(d.cfg.MaxSegs, int(min(d.conf.segMax, maxSegs)))
	var err error
	q.vq, err = d.dev.Queue(firstRequest+i, virtio.QueueOptions{MaxSize: d.cfg.Ring, MaxSegs: segs + 2, Vector: vector,
		CutLen: true}) // QEMU counts what a command reads, too
	if err != nil {
		return nil, err
	}
	n := q.vq.Size()
	q.maxSegs = min(segs, n-2)
	if q.maxSegs < 1 {
		return nil, d.dev.Errorf("queue %d: %d descriptors hold no command", firstRequest+i, n)
	}
	q.respAt = roundUp(reqCDB+int(d.conf.cdbSize), 64)
	q.ctlBytes = q.respAt + roundUp(respSense+int(d.conf.senseSize), 64)
	if q.ctl, err = d.mem.Alloc(n*q.ctlBytes, 64); err != nil {
		return nil, fmt.Errorf("%s: queue %d: %w", driverName, firstRequest+i, err)
	}
	q.slots = make([]slot, n)
	q.byHead = make([]uint16, n)
	q.free = make([]uint16, n)
	for j := range q.free {
		q.free[j] = uint16(n - 1 - j)
	}
	q.segs = make([]virtio.Seg, 0, q.maxSegs+2)
	return q, nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// submit queues commands.
func (q *queue) submit(l scsi.List) {
	q.mu.Lock()
	if q.frozen {
		q.mu.Unlock()
		q.d.refuse(l)
		return
	}
	q.waiting.Append(&l)
	q.post()
	q.mu.Unlock()
}

// post posts waiting commands until the ring is full. Caller must hold mu.
func (q *queue) post() {
	for c := q.waiting.Head(); c != nil && q.postOne(c); c = q.waiting.Head() {
		q.waiting.Pop()
	}
	q.vq.Publish()
}

// postOne posts c. It reports false where the ring has no room. Caller must hold
// mu.
func (q *queue) postOne(c *scsi.Command) bool {
	if len(q.free) == 0 {
		return false
	}
	n := q.free[len(q.free)-1]
	ctl := q.ctl.Slice(int(n)*q.ctlBytes, q.ctlBytes)
	segs := append(q.segs[:0], virtio.Seg{Addr: ctl.Bus, Len: reqCDB + q.d.conf.cdbSize})
	resp := virtio.Seg{Addr: ctl.Bus + dma.Addr(q.respAt), Len: respSense + q.d.conf.senseSize}
	if c.Dir != scsi.ToUnit {
		segs = append(segs, resp)
	}
	for _, p := range c.Data {
		segs = append(segs, virtio.Seg{Addr: p.Addr, Len: p.Len})
	}
	out := 1
	if c.Dir == scsi.ToUnit {
		out = len(segs)
		segs = append(segs, resp)
	}
	head, ok := q.vq.Post(segs, out)
	if !ok {
		return false
	}
	// The device looks only after Publish.
	s := &q.slots[n]
	s.cmd = c
	s.gen++
	b := ctl.Bytes
	putLUN(b[reqLUN:], c.To)
	binary.LittleEndian.PutUint64(b[reqID:], q.id(n))
	b[reqAttr], b[reqPrio], b[reqCRN] = 0, 0, 0
	copy(b[reqCDB:], c.CDB[:])
	b[q.respAt+respResponse] = byte(responsePending)
	q.free = q.free[:len(q.free)-1]
	q.byHead[head] = n
	return true
}

// id names the command in slot n for task management. Caller must hold mu.
func (q *queue) id(n uint16) uint64 {
	return uint64(q.slots[n].gen)<<32 | uint64(q.index)<<16 | uint64(n)
}

// interrupt takes all completions and asks for the next interrupt.
func (q *queue) interrupt() {
	var done scsi.List
	q.mu.Lock()
	if !q.frozen {
		q.vq.Disarm()
		for {
			q.reap(&done)
			if q.vq.Err() != nil {
				break
			}
			q.post()
			if q.vq.Arm() {
				break
			}
		}
	}
	err := q.vq.Err()
	q.mu.Unlock()
	if more := scsi.Finish(done); more.Head() != nil {
		q.submit(more)
	}
	if err != nil {
		q.d.stop(err)
	}
}

// reap ends the commands that the device has used. Caller must hold mu.
func (q *queue) reap(done *scsi.List) {
	for {
		head, n, ok := q.vq.Reap()
		if !ok {
			return
		}
		i := q.byHead[head]
		c := q.slots[i].cmd
		q.judge(c, q.ctl.Bytes[int(i)*q.ctlBytes+q.respAt:(int(i)+1)*q.ctlBytes], n)
		q.slots[i].cmd = nil
		q.free = append(q.free, i)
		done.Push(c)
	}
}

// judge makes the result of c from the response r, of which the device says it
// wrote n bytes, data included.
func (q *queue) judge(c *scsi.Command, r []byte, n uint32) {
	code := response(r[respResponse])
	if code == responsePending || n < respSense && !q.d.dev.Transport.Legacy() { // legacy lengths mean little, §2.7.8.1
		c.Host, c.Err = scsi.HostFailed, errNoResponse
		return
	}
	if code != responseOK {
		if h, ok := hostStatuses[code]; ok {
			c.Host = h
		} else {
			c.Host, c.Err = scsi.HostFailed, errors.New(code.String())
		}
		return
	}
	c.Status = scsi.Status(r[respStatus])
	if residual := binary.LittleEndian.Uint32(r[respResidual:]); uint64(residual) <= uint64(c.Len) {
		c.Residual = int(residual)
	} else {
		c.Residual = -1
	}
	if c.Status != scsi.Good {
		length := min(binary.LittleEndian.Uint32(r[respSenseLen:]), q.d.conf.senseSize)
		c.SenseLen = copy(c.Sense[:], r[respSense:respSense+length])
	}
}

var errNoResponse = errors.New("the response was not written")

// find looks for c: its identifier where it is under way.
func (q *queue) find(c *scsi.Command) (id uint64, under, waits bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := range q.slots {
		if q.slots[n].cmd == c {
			return q.id(uint16(n)), true, false
		}
	}
	return 0, false, q.waiting.Has(c)
}

// freeze keeps everybody from the ring.
func (q *queue) freeze() {
	q.mu.Lock()
	q.frozen = true
	q.mu.Unlock()
}

// drop ends all commands, after freeze and the device's reset.
func (q *queue) drop() {
	q.mu.Lock()
	l := q.waiting
	q.waiting = scsi.List{}
	for i := range q.slots {
		if c := q.slots[i].cmd; c != nil {
			q.slots[i].cmd = nil
			l.Push(c)
		}
	}
	q.mu.Unlock()
	q.d.refuse(l)
}
