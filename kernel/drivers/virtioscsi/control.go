package virtioscsi

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
)

// Task management requests, §5.6.6.2: type and subtype (32 bits each), LUN,
// identifier (64 bits); the device answers with one byte.
const (
	controlBytes = 24
	controlResp  = 32
	controlSize  = 64

	typeTMF         = 0
	tmfAbortTask    = 0
	tmfResetLogical = 5
)

// control is the control queue, with one request under way at a time.
type control struct {
	d    *Device
	turn blk.Turn
	ctl  dma.Region

	mu     sync.Mutex // guards all below
	vq     *virtio.Queue
	reply  chan response // of the request under way, nil where there is none
	lost   bool          // one was never answered: its memory is the device's
	frozen bool
}

func newControl(d *Device) (*control, error) {
	c := &control{d: d, turn: blk.NewTurn()}
	var err error
	if c.vq, err = d.dev.Queue(0, virtio.QueueOptions{MaxSize: 8, MaxSegs: 2}); err != nil {
		return nil, err
	}
	if c.ctl, err = d.mem.Alloc(controlSize, controlSize); err != nil {
		return nil, fmt.Errorf("%s: control queue: %w", driverName, err)
	}
	return c, nil
}

// do sends a task management request and waits for the answer.
func (c *control) do(subtype uint32, a scsi.Address, id uint64) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	reply := make(chan response, 1)
	if err := c.send(subtype, a, id, reply); err != nil {
		return err
	}
	limit := time.NewTimer(c.d.cfg.ControlTimeout)
	defer limit.Stop()
	var r response
	select {
	case r = <-reply:
	case <-limit.C:
		c.interrupt() // it may be lost
		c.mu.Lock()
		c.lost = c.reply != nil
		lost := c.lost
		c.mu.Unlock()
		if lost {
			return c.d.dev.Errorf("task management request %d: %v within %v", subtype, blk.ErrTimeout, c.d.cfg.ControlTimeout)
		}
		r = <-reply
	}
	if r != responseOK && r != responseSucceeded {
		return c.d.dev.Errorf("task management request %d: %v", subtype, r)
	}
	return nil
}

func (c *control) send(subtype uint32, a scsi.Address, id uint64, reply chan response) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.frozen:
		return c.d.Err()
	case c.lost:
		return c.d.dev.Errorf("control queue: an earlier request was never answered")
	}
	b := c.ctl.Bytes
	binary.LittleEndian.PutUint32(b, typeTMF)
	binary.LittleEndian.PutUint32(b[4:], subtype)
	putLUN(b[8:], a)
	binary.LittleEndian.PutUint64(b[16:], id)
	b[controlResp] = byte(responsePending)
	segs := []virtio.Seg{{Addr: c.ctl.Bus, Len: controlBytes}, {Addr: c.ctl.Bus + controlResp, Len: 1}}
	if _, ok := c.vq.Post(segs, 1); !ok {
		return c.d.dev.Errorf("control queue is full")
	}
	c.reply = reply
	c.vq.Publish()
	return nil
}

func (c *control) interrupt() {
	c.mu.Lock()
	if !c.frozen {
		c.vq.Disarm()
		for {
			for {
				if _, _, ok := c.vq.Reap(); !ok {
					break
				}
				c.answer(response(c.ctl.Bytes[controlResp]))
				c.lost = false
			}
			if c.vq.Err() != nil || c.vq.Arm() {
				break
			}
		}
	}
	err := c.vq.Err()
	c.mu.Unlock()
	if err != nil {
		c.d.stop(err)
	}
}

// answer ends the request under way. Caller must hold mu.
func (c *control) answer(r response) {
	if c.reply != nil {
		c.reply <- r // has room
		c.reply = nil
	}
}

func (c *control) freeze() {
	c.mu.Lock()
	c.frozen = true
	c.mu.Unlock()
}

// drop ends the request under way, after freeze and the device's reset.
func (c *control) drop() {
	c.mu.Lock()
	c.answer(responseFailure)
	c.mu.Unlock()
}

// Abort is scsi.Transport's.
func (d *Device) Abort(c *scsi.Command) error {
	for _, q := range d.queues {
		id, under, waits := q.find(c)
		if waits {
			return scsi.ErrWaits
		}
		if under {
			return d.control.do(tmfAbortTask, c.To, id)
		}
	}
	return nil
}

// ResetUnit is scsi.Transport's.
func (d *Device) ResetUnit(a scsi.Address) error { return d.control.do(tmfResetLogical, a, 0) }

// Events, §5.6.6.3: event (32 bits), LUN, reason (32 bits).
const (
	eventBytes = 16

	eventNone           = 0
	eventTransportReset = 1
	eventAsyncNotify    = 2
	eventParamChange    = 3
	eventsMissed        = 1 << 31

	reasonHardReset = 0
	reasonRescan    = 1
	reasonRemoved   = 2
)

// events is the event queue, with its buffers always in the ring.
type events struct {
	d   *Device
	mem dma.Region

	mu     sync.Mutex // guards all below
	vq     *virtio.Queue
	byHead []uint16 // buffer by head
	frozen bool
}

const eventBuffers = 8

func newEvents(d *Device) (*events, error) {
	e := &events{d: d}
	var err error
	if e.vq, err = d.dev.Queue(1, virtio.QueueOptions{MaxSize: eventBuffers}); err != nil {
		return nil, err
	}
	e.byHead = make([]uint16, e.vq.Size())
	if e.mem, err = d.mem.Alloc(eventBuffers*int(d.conf.eventSize), 64); err != nil {
		return nil, fmt.Errorf("%s: event queue: %w", driverName, err)
	}
	return e, nil
}

// start gives all buffers to the device.
func (e *events) start() {
	e.mu.Lock()
	for i := range min(eventBuffers, e.vq.Size()) {
		e.give(uint16(i))
	}
	e.vq.Publish()
	e.mu.Unlock()
	e.interrupt() // arms
}

func (e *events) buffer(i uint16) dma.Region {
	n := int(e.d.conf.eventSize)
	return e.mem.Slice(int(i)*n, n)
}

// give posts buffer i. Caller must hold mu.
func (e *events) give(i uint16) {
	b := e.buffer(i)
	clear(b.Bytes)
	if head, ok := e.vq.PostWrite(b.Bus, uint32(len(b.Bytes))); ok {
		e.byHead[head] = i
	}
}

func (e *events) interrupt() {
	var got [][eventBytes]byte
	e.mu.Lock()
	if !e.frozen {
		e.vq.Disarm()
		for {
			for {
				head, _, ok := e.vq.Reap()
				if !ok {
					break
				}
				i := e.byHead[head]
				got = append(got, [eventBytes]byte(e.buffer(i).Bytes))
				e.give(i)
			}
			e.vq.Publish()
			if e.vq.Err() != nil || e.vq.Arm() {
				break
			}
		}
	}
	err := e.vq.Err()
	e.mu.Unlock()
	for _, b := range got {
		e.d.event(b)
	}
	if err != nil {
		e.d.stop(err)
	}
}

func (e *events) freeze() {
	e.mu.Lock()
	e.frozen = true
	e.mu.Unlock()
}

// event passes on what the device says. Before the units were looked for, nobody
// needs to know.
func (d *Device) event(b [eventBytes]byte) {
	h := d.host.Load()
	if h == nil {
		return
	}
	kind, reason := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[12:])
	at := addressOf(b[4:])
	if kind&eventsMissed != 0 {
		log.Warnf("events were missed")
		kind &^= eventsMissed
	}
	switch {
	case kind == eventNone:
	case kind == eventTransportReset && reason == reasonRescan:
		h.Added(at)
	case kind == eventTransportReset && reason == reasonRemoved:
		h.Removed(at)
	case kind == eventTransportReset && reason == reasonHardReset:
		log.Infof("unit %v was reset", at)
	case kind == eventParamChange:
		h.Changed(at, uint8(reason), uint8(reason>>8))
	case kind == eventAsyncNotify:
		log.Infof("unit %v: notification %#x", at, reason)
	default:
		log.Infof("unit %v: event %d, reason %d", at, kind, reason)
	}
}
