package vhost

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// batch is the most frames of one Recv; frameMax the largest frame in bytes, both
// ways: no segmentation is offered, so a frame is at most a jumbo's small brother.
const (
	batch    = 64
	frameMax = 2048
)

// spinFor is how long Wait polls the ring before it sleeps on the doorbell.
const spinFor = 100 * time.Microsecond

// Header of a frame, VIRTIO 1.2 §5.1.6: flags, gso_type, hdr_len, gso_size,
// csum_start, csum_offset, num_buffers.
const (
	hdrNeedsCsum  = 1
	hdrDataValid  = 2
	hdrBytes      = 12 // with num_buffers: MRG_RXBUF or VERSION_1
	hdrBytesShort = 10
)

// Stats count what a port has moved.
type Stats struct {
	ToGuest, FromGuest uint64 // frames
	Full               uint64 // Send found the guest's ring without a buffer
	GuestErrors        uint64 // broken descriptors, frames that fit nowhere
	Interrupts         uint64 // sent to the guest
	Doorbells          uint64 // rung by the guest
}

// Port is one queue pair, seen from the wire: Send puts frames into the guest's
// receive queue, Recv takes them from its transmit queue. It belongs to one
// goroutine at a time; only Device.Close may be called beside.
type Port struct {
	gate gate
	wake int // eventfd that ends a sleep inside the gate

	// The rest is written by control with the gate shut, and read inside it.
	mem    *memory
	rx, tx *ring // guest's names; nil = not usable
	rxCall int
	txCall int
	txKick int
	hdr    int  // bytes of header
	mrg    bool // a frame may take several buffers
	valid  bool // we may vouch for checksums
	failed error

	buf   [batch][]byte
	stats Stats
}

func newPort() (*Port, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &Port{wake: fd, rxCall: -1, txCall: -1, txKick: -1}
	for i := range p.buf {
		p.buf[i] = make([]byte, frameMax)
	}
	return p, nil
}

// setRings is called by control with the gate shut.
func (p *Port) setRings(m *memory, rx, tx *vring, features uint64) {
	p.mem, p.rx, p.tx = m, nil, nil
	p.rxCall, p.txCall, p.txKick = rx.call, tx.call, tx.kick
	if rx.usable() {
		p.rx = rx.ring
	}
	if tx.usable() {
		p.tx = tx.ring
	}
	p.mrg = features&featMrgRxbuf != 0
	p.hdr = hdrBytesShort
	if p.mrg || features&featVersion1 != 0 {
		p.hdr = hdrBytes
	}
	p.valid = features&featGuestCsum != 0
}

// interrupt ends a sleep in Wait.
func (p *Port) interrupt() { signal(p.wake) }

// destroy is called by control once, with the gate open and the rings gone. The
// wake descriptor stays open while a sleeper may hold it.
func (p *Port) destroy() {
	p.gate.close(p.interrupt)
	closeFD(&p.wake)
	p.gate.open()
}

// Send puts frames, complete with checksums, into the guest's receive queue and
// returns how many it took: fewer than all where the guest has no buffers left or
// its driver is not up. The frames are copied.
func (p *Port) Send(frames [][]byte) (int, error) {
	if !p.gate.enter() {
		return 0, nil
	}
	n := 0
	if p.rx != nil {
		for n < len(frames) && p.put(frames[n]) {
			n++
		}
		if n < len(frames) {
			p.stats.Full++
		}
		p.stats.ToGuest += uint64(n)
		p.finish(p.rx, p.rxCall)
	}
	err := p.failed
	p.gate.leave()
	return n, err
}

// finish shows the guest what was done with a ring.
func (p *Port) finish(r *ring, call int) {
	r.publish()
	if r.wantsInterrupt() && call >= 0 {
		signal(call)
		p.stats.Interrupts++
	}
}

// put copies one frame into as many of the guest's buffers as it takes; false
// where there are too few. A frame that a broken guest cannot take is dropped.
func (p *Port) put(frame []byte) bool {
	r := p.rx
	avail, used := r.lastAvail, r.usedIdx
	have := r.pending()
	var count []byte // num_buffers, in the first buffer
	buffers := 0
	for rest := frame; buffers == 0 || len(rest) > 0; buffers++ {
		if have == 0 {
			r.lastAvail, r.usedIdx = avail, used
			return false
		}
		have--
		head := r.head()
		wrote := 0
		err := r.chain(p.mem, head, true, func(b []byte) bool {
			if buffers == 0 && wrote == 0 { // the header goes into the first piece
				if len(b) < p.hdr {
					return false
				}
				clear(b[:p.hdr])
				if p.valid {
					b[0] = hdrDataValid
				}
				if p.hdr == hdrBytes {
					count = b[10:12]
				}
				wrote, b = p.hdr, b[p.hdr:]
			}
			n := copy(b, rest)
			wrote, rest = wrote+n, rest[n:]
			return len(rest) > 0
		})
		if err != nil || wrote == 0 || len(rest) > 0 && !p.mrg || p.hdr == hdrBytes && count == nil {
			p.stats.GuestErrors++
			r.push(head, 0)
			return true
		}
		r.push(head, uint32(wrote))
	}
	if count != nil {
		binary.LittleEndian.PutUint16(count, uint16(buffers))
	}
	return true
}

// Recv sets each of frames to a frame that the guest has sent, at most 64, and
// returns how many. It does not block. The bytes are valid until the next Recv.
// Checksums that the guest left to its card are finished.
func (p *Port) Recv(frames [][]byte) (int, error) {
	if !p.gate.enter() {
		return 0, nil
	}
	n := 0
	if p.tx != nil {
		for have := min(p.tx.pending(), p.tx.num); have > 0 && n < min(len(frames), batch); have-- {
			head := p.tx.head()
			if f := p.take(head, p.buf[n]); f != nil {
				frames[n] = f
				n++
			} else {
				p.stats.GuestErrors++
			}
			p.tx.push(head, 0)
		}
		p.stats.FromGuest += uint64(n)
		p.finish(p.tx, p.txCall)
	}
	err := p.failed
	if n > 0 {
		err = nil
	}
	p.gate.leave()
	return n, err
}

// take copies the frame at head into buf; nil where the guest broke a rule.
func (p *Port) take(head uint16, buf []byte) []byte {
	var hdr [hdrBytes]byte
	h, n := 0, 0
	fits := true
	err := p.tx.chain(p.mem, head, false, func(b []byte) bool {
		if h < p.hdr {
			k := copy(hdr[h:p.hdr], b)
			h, b = h+k, b[k:]
		}
		if len(b) > len(buf)-n {
			fits = false
			return false
		}
		n += copy(buf[n:], b)
		return true
	})
	const ethernet = 14
	if err != nil || !fits || h < p.hdr || n < ethernet || hdr[1] != 0 { // hdr[1]: a segmentation that was not offered
		return nil
	}
	f := buf[:n]
	if hdr[0]&hdrNeedsCsum != 0 {
		start := int(binary.LittleEndian.Uint16(hdr[6:]))
		at := start + int(binary.LittleEndian.Uint16(hdr[8:]))
		if !finishCsum(f, start, at) {
			return nil
		}
	}
	return f
}

// finishCsum puts the Internet checksum (RFC 1071) of f[start:] at f[at:]. The
// field already holds the sum of the pseudo-header.
func finishCsum(f []byte, start, at int) bool {
	if start > len(f) || at+2 > len(f) || at < start {
		return false
	}
	var sum uint64
	b := f[start:]
	for len(b) >= 4 {
		sum += uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(b)) << 16
		b = b[2:]
		if len(b) == 1 {
			sum += uint64(b[0]) << 8
		}
	} else if len(b) == 1 {
		sum += uint64(b[0]) << 24
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	c := ^uint16(sum)
	if c == 0 {
		c = 0xffff // 0 would say "no checksum" in UDP and equals 0xffff elsewhere
	}
	binary.BigEndian.PutUint16(f[at:], c)
	return true
}

// Wait returns when a frame from the guest may be there, or after d. It polls for
// a tenth of a millisecond and then sleeps on the guest's doorbell. The error is
// that of a lost connection.
func (p *Port) Wait(d time.Duration) error {
	start := time.Now()
	for {
		if !p.gate.enter() {
			// Control is at work; it takes microseconds.
			time.Sleep(10 * time.Microsecond)
		} else {
			ready, err := p.waitInside(start, d)
			p.gate.leave()
			if ready || err != nil {
				return err
			}
		}
		if time.Since(start) >= d {
			return nil
		}
	}
}

// waitInside waits with the gate entered; it comes back early when control wants
// it out.
func (p *Port) waitInside(start time.Time, d time.Duration) (ready bool, err error) {
	if p.failed != nil {
		return false, p.failed
	}
	if p.tx != nil {
		for i := 0; ; i++ {
			if p.tx.pending() > 0 {
				return true, nil
			}
			if p.gate.shut.Load() {
				return false, nil
			}
			if i%64 == 0 {
				if gone := time.Since(start); gone >= d {
					return false, nil
				} else if gone >= spinFor {
					break
				}
			}
		}
		if p.tx.arm() {
			p.tx.quiet()
			return true, nil
		}
	}
	fds := [2]unix.PollFd{{Fd: int32(p.wake), Events: unix.POLLIN}, {Fd: int32(p.txKick), Events: unix.POLLIN}}
	left := unix.NsecToTimespec(max(int64(d-time.Since(start)), 0))
	_, err = unix.Ppoll(fds[:], &left, nil)
	if err != nil && err != unix.EINTR {
		return false, fmt.Errorf("vhost-user: poll: %w", err)
	}
	drain(p.wake)
	if p.tx == nil {
		return false, nil
	}
	p.tx.quiet()
	p.stats.Doorbells += drain(p.txKick)
	return p.tx.pending() > 0, nil
}

// Stats are the counts so far. Doorbells rung while the port polled are counted
// here and in Wait.
func (p *Port) Stats() Stats {
	if p.gate.enter() {
		p.stats.Doorbells += drain(p.txKick)
		p.gate.leave()
	}
	return p.stats
}

// Close does nothing: the device is closed as a whole.
func (p *Port) Close() error { return nil }

var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

func signal(fd int) {
	unix.Write(fd, one) //nolint:errcheck // full means that it is signalled already
}

// drain reads an eventfd without blocking and returns its count.
func drain(fd int) uint64 {
	if fd < 0 {
		return 0
	}
	var b [8]byte
	if n, err := unix.Read(fd, b[:]); err != nil || n != 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}
