package fakedev

import (
	"encoding/binary"
	"fmt"

	"osv/kernel/ktest/fakescsi"
)

// Feature bits of the SCSI host adapter, §5.6.3, and all that QEMU's offers.
const (
	SCSIHotplug uint64 = 1 << 1
	SCSIChange  uint64 = 1 << 2

	SCSIAll = SCSIHotplug | SCSIChange | FeatureIndirectDesc | FeatureEventIdx | FeatureVersion1
)

// SCSI plays a SCSI host adapter, §5.6, whose units are those of a fakescsi.Bus.
// Unlike the others it moves by itself, in a goroutine, but for request queues
// while Manual is set. Close ends it.
type SCSI struct {
	Device
	Bus fakescsi.Bus

	// All below are changed in Set only, once the driver runs.
	Manual bool            // commands wait for StepOne
	Pick   func(n int) int // which of n commands at hand is next
	Fast   bool            // writes end well and are not looked at: no allocation
	// Lies.
	NoResponse  int   // that many commands are used without a response
	Response    uint8 // of all commands, where it is not 0
	LongLen     bool  // used lengths are beyond the buffers
	Residual    uint32
	NoTMF       bool   // task management is never answered
	RejectTMF   bool   // it is rejected
	DeafTMF     bool   // it is answered, and does nothing
	NoInterrupt bool   // used chains are not flushed: as if the interrupt were lost
	TMFs        []byte // subtypes of task management requests

	hand    []heldSCSI
	dropped []heldSCSI
	events  []Chain
	kick    chan struct{}
	ended   chan struct{}
}

type heldSCSI struct {
	heldRequest
	id uint64
}

// NewSCSI makes an adapter with that many request queues of at most max
// descriptors.
func NewSCSI(mem *Mem, features uint64, queues, max int) *SCSI {
	s := &SCSI{kick: make(chan struct{}, 1), ended: make(chan struct{})}
	s.ID, s.Mem, s.Offered = 8, mem, features
	s.Init(2+queues, max)
	s.Conf = make([]byte, 36)
	for i, v := range []uint32{uint32(queues), 126, 256, 32, 16, 96, 32, 7 << 16, 16383} { // max_target 7
		binary.LittleEndian.PutUint32(s.Conf[4*i:], v)
	}
	s.onReset = func() { s.hand, s.dropped, s.events = nil, nil, nil }
	s.onNotify = func(int) { s.wake() }
	for _, q := range s.Queues[2:] {
		q.Answer = func(_, response []byte) { clear(response[:12]) }
	}
	go func() {
		defer close(s.ended)
		for range s.kick {
			s.step()
		}
	}()
	return s
}

// Close ends the goroutine, after the driver.
func (s *SCSI) Close() {
	close(s.kick)
	<-s.ended
}

// Set changes fields that the adapter's goroutine looks at.
func (s *SCSI) Set(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	s.wake()
}

func (s *SCSI) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// step does all there is to do.
func (s *SCSI) step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Fast {
		for again := true; again; {
			again = false
			for _, q := range s.Queues[2:] {
				again = q.Complete(q.Size, 108) > 0 || again
			}
		}
		return
	}
	for s.take(); !s.Manual && len(s.hand) > 0; s.take() {
		s.one()
	}
	s.flush()
}

// StepOne carries out one command, with Manual. It reports false where there is
// none.
func (s *SCSI) StepOne() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take()
	if len(s.hand) == 0 {
		return false
	}
	s.one()
	s.flush()
	return true
}

func (s *SCSI) flush() {
	for i, q := range s.Queues {
		if q.Live() && !(s.NoInterrupt && i >= 2) {
			q.Flush()
		}
	}
}

// Held is how many commands are at hand or dropped.
func (s *SCSI) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.hand) + len(s.dropped)
}

func (s *SCSI) take() {
	for i, q := range s.Queues {
		for {
			c, ok := q.Pop()
			if !ok {
				break
			}
			c.Segs = append([]Seg(nil), c.Segs...)
			switch i {
			case 0:
				s.control(q, c)
			case 1:
				if c.Readable() != 0 || c.Writable() != int(binary.LittleEndian.Uint32(s.Conf[16:])) {
					panic(fmt.Sprintf("fakedev: event buffer of %d bytes", c.Writable()))
				}
				s.events = append(s.events, c)
			default:
				var id [8]byte
				c.Read(8, id[:])
				s.hand = append(s.hand, heldSCSI{heldRequest{q, c.Head, c.Segs}, binary.LittleEndian.Uint64(id[:])})
			}
		}
	}
}

// Event sends one: kind, LUN bytes and reason. It reports false where the driver
// left no buffer.
func (s *SCSI) Event(kind uint32, lun [8]byte, reason uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take()
	if len(s.events) == 0 {
		return false
	}
	c := s.events[0]
	s.events = s.events[1:]
	var b [16]byte
	binary.LittleEndian.PutUint32(b[:], kind)
	copy(b[4:], lun[:])
	binary.LittleEndian.PutUint32(b[12:], reason)
	s.Queues[1].Push(c.Head, c.Write(0, b[:]))
	s.Queues[1].Flush()
	return true
}

// lun is the address in 8 bytes, §5.6.6.1.
func (s *SCSI) lun(b []byte) (target, lun int) {
	if b[0] != 1 || b[2]&0xc0 != 0x40 || b[4] != 0 || b[5] != 0 || b[6] != 0 || b[7] != 0 {
		s.Bus.Violate("LUN bytes %x", b[:8])
	}
	return int(b[1]), int(b[2]&0x3f)<<8 | int(b[3])
}

func (s *SCSI) control(q *Queue, c Chain) {
	var b [24]byte
	if c.Read(0, b[:]) != 24 || c.Readable() != 24 || c.Writable() != 1 || binary.LittleEndian.Uint32(b[:]) != 0 {
		panic(fmt.Sprintf("fakedev: control request %x of %d and %d bytes", b, c.Readable(), c.Writable()))
	}
	sub := b[4]
	s.TMFs = append(s.TMFs, sub)
	target, lun := s.lun(b[8:])
	if s.NoTMF {
		return
	}
	response := byte(0)
	switch {
	case s.RejectTMF:
		response = 11
	case s.DeafTMF:
	case sub == 0:
		id := binary.LittleEndian.Uint64(b[16:])
		response = s.cancel(2, func(h heldSCSI) bool { return h.id == id })
	case sub == 5:
		s.cancel(4, func(h heldSCSI) bool {
			t, l := s.lun(h.segs[0].Bytes)
			return t == target && l == lun
		})
		response = 10
	default:
		response = 11
	}
	c.Write(0, []byte{response})
	n := 1
	if s.LongLen {
		n++
	}
	q.Push(c.Head, n)
}

// cancel ends commands with a response.
func (s *SCSI) cancel(response byte, which func(heldSCSI) bool) byte {
	for _, list := range []*[]heldSCSI{&s.hand, &s.dropped} {
		var rest []heldSCSI
		for _, h := range *list {
			if which(h) {
				s.finish(h, fakescsi.Reply{}, response, 0)
			} else {
				rest = append(rest, h)
			}
		}
		*list = rest
	}
	return 0
}

func (s *SCSI) one() {
	i := 0
	if s.Pick != nil {
		i = s.Pick(len(s.hand))
	}
	h := s.hand[i]
	s.hand = append(s.hand[:i], s.hand[i+1:]...)
	header, response := 19+int(binary.LittleEndian.Uint32(s.Conf[24:])), 12+int(binary.LittleEndian.Uint32(s.Conf[20:]))
	// §5.6.6.4: on legacy interfaces both stand alone; the driver keeps to it always.
	first := h.segs[0]
	if first.Write || len(first.Bytes) != header || (Chain{Segs: h.segs}).Writable() < response {
		panic(fmt.Sprintf("fakedev: command header of %d bytes, room for %d", len(first.Bytes), (Chain{Segs: h.segs}).Writable()))
	}
	c := fakescsi.Cmd{}
	c.Target, c.LUN = s.lun(first.Bytes)
	c.CDB = first.Bytes[19:35]
	c.CDB = c.CDB[:[8]int{6, 10, 10, 16, 16, 12, 16, 16}[c.CDB[0]>>5]]
	chain := Chain{h.head, h.segs}
	c.Room = chain.Writable() - response
	if n := chain.Readable() - header; n > 0 {
		c.Out = make([]byte, n)
		chain.Read(header, c.Out)
	}
	r := s.Bus.Do(c)
	if r.Drop {
		s.dropped = append(s.dropped, h)
		return
	}
	code := byte(0)
	switch {
	case r.NoTarget:
		code = 3
	case r.NoUnit:
		code = 12
	case len(r.In) > c.Room && c.CDB[0] != 0x12 && c.CDB[0] != 0xa0 && c.CDB[0] != 0x1a:
		code = 1
	}
	residual := 0
	if r.Status == 0 && c.Room > 0 {
		residual = c.Room - min(len(r.In), c.Room)
	}
	s.finish(h, r, code, uint32(residual))
}

func (s *SCSI) finish(h heldSCSI, r fakescsi.Reply, code byte, residual uint32) {
	if s.NoResponse > 0 {
		s.NoResponse--
		h.q.Push(h.head, 0)
		return
	}
	if s.Response != 0 {
		code = s.Response
	}
	senseSize := int(binary.LittleEndian.Uint32(s.Conf[20:]))
	b := make([]byte, 12+senseSize)
	binary.LittleEndian.PutUint32(b, uint32(copy(b[12:], r.Sense)))
	binary.LittleEndian.PutUint32(b[4:], residual+s.Residual)
	b[10], b[11] = r.Status, code
	chain := Chain{h.head, h.segs}
	n := chain.Write(0, b)
	if r.Status == 0 && code == 0 {
		n += chain.Write(len(b), r.In)
	}
	if s.LongLen {
		n = chain.Writable() + 1
	}
	h.q.Push(h.head, n)
}
