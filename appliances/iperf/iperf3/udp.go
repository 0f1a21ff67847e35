package iperf3

import (
	"encoding/binary"
	"math"
	"time"

	"osv/appliances/iperf/host"
)

// A datagram of a test starts with the time at which it was sent (seconds,
// microseconds) and its number, from 1: 32 bits each, or 64 for the number.
const (
	headerLen   = 12
	headerLen64 = 16
)

// A UDP stream is opened by a hello of the client and the server's answer: 32
// bits each, as a little-endian machine sends 0x36373839 and 0x39383736.
var (
	udpHello  = [4]byte{'9', '8', '7', '6'}
	udpAnswer = [4]byte{'6', '7', '8', '9'}
)

// Older versions say these instead: 123456789 and 987654321.
var (
	oldHello  = [4]byte{0x15, 0xcd, 0x5b, 0x07}
	oldAnswer = [4]byte{0xb1, 0x68, 0xde, 0x3a}
)

// answerTo is what a server says to a client's first datagram; false where it is
// no hello.
func answerTo(d []byte) ([4]byte, bool) {
	if len(d) != 4 {
		return [4]byte{}, false
	}
	switch [4]byte(d) {
	case udpHello:
		return udpAnswer, true
	case oldHello:
		return oldAnswer, true
	}
	return [4]byte{}, false
}

func putHeader(b []byte, now time.Time, n uint64, wide bool) {
	binary.BigEndian.PutUint32(b, uint32(now.Unix()))
	binary.BigEndian.PutUint32(b[4:], uint32(now.Nanosecond()/1000))
	if wide {
		binary.BigEndian.PutUint64(b[8:], n)
	} else {
		binary.BigEndian.PutUint32(b[8:], uint32(n))
	}
}

// batchBytes bounds the memory of a stream's batch, maxBatch its datagrams.
const (
	batchBytes = 48 << 10
	maxBatch   = 32
)

// noRoomWait is how long a sender waits when the host takes no more.
const noRoomWait = 100 * time.Microsecond

// sendUDP sends datagrams at the test's rate, as many at once as are due.
func (s *stream) sendUDP() error {
	t := s.t
	n := min(max(batchBytes/t.p.Block, 1), maxBatch)
	bufs := make([][]byte, n)
	batch := make([][]byte, 0, n)
	for i := range bufs {
		bufs[i] = append([]byte(nil), t.block[:t.p.Block]...)
	}
	pacing := t.pacing()
	number := uint64(0)
	for {
		if t.claim(t.p.Block) == 0 {
			return nil
		}
		if !pacing.wait(t.p.Block) {
			return nil
		}
		now := time.Now()
		batch = batch[:0]
		for {
			number++
			b := bufs[len(batch)]
			putHeader(b, now, number, t.p.UDP64)
			batch = append(batch, b)
			if len(batch) == n || pacing.p.Due(t.p.Block, now) > 0 {
				break
			}
			if t.claim(t.p.Block) == 0 {
				break
			}
		}
		for rest := batch; len(rest) > 0; {
			k, err := s.udp.WriteBatch(rest)
			s.bytes.Add(uint64(k * t.p.Block))
			s.packets.Add(int64(k))
			if err != nil {
				return err
			}
			if rest = rest[k:]; k == 0 && !pacing.sleep(noRoomWait) {
				return nil
			}
		}
		if t.stopped() {
			return nil
		}
	}
}

// receiver keeps account of the datagrams of a stream (iperf3's way, after RFC
// 3550 §6.4.1 and A.8).
type receiver struct {
	wide          bool
	started       bool
	highest       int64
	lost, late    int64
	jitter, prev  float64 // seconds
	bytes, ignore uint64
}

// take counts a datagram of n octets that begins with b and came at ns. It
// reports false for one that is none of the test's.
func (r *receiver) take(b []byte, n int, ns int64) bool {
	if len(b) < headerLen || r.wide && len(b) < headerLen64 {
		r.ignore++
		return false
	}
	number := int64(binary.BigEndian.Uint32(b[8:]))
	if r.wide {
		number = int64(binary.BigEndian.Uint64(b[8:]) &^ (1 << 63))
	}
	switch {
	case number > r.highest:
		r.lost += number - r.highest - 1
		r.highest = number
	default: // late, or twice: a gap was counted for it
		r.late++
		if r.lost > 0 {
			r.lost--
		}
	}
	r.bytes += uint64(n)
	sent := float64(binary.BigEndian.Uint32(b)) + float64(binary.BigEndian.Uint32(b[4:]))/1e6
	transit := float64(ns)/1e9 - sent
	if !r.started {
		r.started, r.prev = true, transit
	}
	d := math.Abs(transit - r.prev)
	r.prev = transit
	r.jitter += (d - r.jitter) / 16
	return true
}

// receiveUDP counts datagrams until the read deadline.
func (s *stream) receiveUDP() error {
	r := receiver{wide: s.t.p.UDP64}
	return s.udp.Receive(func(d *host.Datagram) error {
		if r.take(d.Data, d.Len, d.Time) {
			s.publish(&r)
		} else if answer, ok := answerTo(d.Data); ok && !r.started && !s.t.client {
			s.udp.Write(answer[:]) // the first answer was lost
		}
		return nil
	})
}

// publish makes r's counts visible to the test. A store of the same value is not
// repeated: each is a locked instruction.
func (s *stream) publish(r *receiver) {
	s.bytes.Store(r.bytes)
	s.packets.Store(r.highest)
	s.jitter.Store(math.Float64bits(r.jitter))
	if r.lost != s.lost.Load() {
		s.lost.Store(r.lost)
	}
	if r.late != s.outOfOrder.Load() {
		s.outOfOrder.Store(r.late)
	}
}
