package vhost

import (
	"encoding/binary"
	"errors"
)

// Split virtqueue layout, VIRTIO 1.2 §2.7.
const (
	descBytes = 16 // le64 addr, le32 len, le16 flags, le16 next

	descNext     = 1
	descWrite    = 2
	descIndirect = 4

	availNoInterrupt = 1 // driver: do not send interrupts
	usedNoNotify     = 1 // device: do not send notifications

	maxRing = 32768
)

// ring is the device's side of one split virtqueue.
type ring struct {
	num       int    // size, a power of two
	desc      []byte // device reads
	avail     []byte // driver writes {flags, idx, ring[num], used_event}; device reads
	used      []byte // device writes {flags, idx, ring[num] of {id, len}, avail_event}
	lastAvail uint16 // next entry of avail to take
	usedIdx   uint16 // next entry of used to write; published by publish
	published uint16 // what the driver was told
	signalled uint16 // usedIdx at the last look at whether to interrupt
	eventIdx  bool
	word      uint32 // for fence
}

// errGuest: the guest broke the rules of the ring; the entry is given back unused.
var errGuest = errors.New("guest broke the ring")

// newRing checks that the three areas are in guest memory and aligned.
func newRing(m *memory, num int, a vringAddr, base uint16, eventIdx bool) (*ring, error) {
	if num < 1 || num > maxRing || num&(num-1) != 0 {
		return nil, errRing
	}
	n := uint64(num)
	r := &ring{num: num, lastAvail: base, eventIdx: eventIdx}
	var ok [3]bool
	r.desc, ok[0] = m.user(a.desc, descBytes*n)
	r.avail, ok[1] = m.user(a.avail, 4+2*n+2)
	r.used, ok[2] = m.user(a.used, 4+8*n+2)
	if ok != [3]bool{true, true, true} || !aligned(r.desc, 16) || !aligned(r.avail, 2) || !aligned(r.used, 4) {
		return nil, errRing
	}
	r.usedIdx = binary.LittleEndian.Uint16(r.used[2:])
	r.published, r.signalled = r.usedIdx, r.usedIdx
	r.quiet()
	return r, nil
}

// pending is how many entries the driver has made available. A driver that claims
// more than the ring holds is believed for a ring's worth.
func (r *ring) pending() int {
	return min(int(load16(r.avail, 2)-r.lastAvail), r.num)
}

// head takes the next available chain's first descriptor; pending must be > 0.
func (r *ring) head() uint16 {
	i := int(r.lastAvail) & (r.num - 1)
	r.lastAvail++
	return binary.LittleEndian.Uint16(r.avail[4+2*i:])
}

// putBack undoes the last head.
func (r *ring) putBack() { r.lastAvail-- }

// chain calls f with each buffer of the chain at head, in order, until f says
// stop. write tells which buffers are wanted: those the device may write, or those
// it may read; others end the walk with an error.
func (r *ring) chain(m *memory, head uint16, write bool, f func(b []byte) bool) error {
	table, n := r.desc, r.num
	i := int(head)
	want := uint16(0)
	if write {
		want = descWrite
	}
	indirect := false
	for range maxRing {
		if i >= n {
			return errGuest
		}
		d := table[descBytes*i : descBytes*i+descBytes : descBytes*i+descBytes]
		addr, size := binary.LittleEndian.Uint64(d), uint64(binary.LittleEndian.Uint32(d[8:]))
		flags := binary.LittleEndian.Uint16(d[12:])
		if flags&descIndirect != 0 {
			// §2.7.5.3: a table of its own, not nested, not chained on.
			t, ok := m.guest(addr, size)
			if indirect || flags&descNext != 0 || !ok || size == 0 || size%descBytes != 0 || size/descBytes > maxRing {
				return errGuest
			}
			table, n, i, indirect = t, int(size/descBytes), 0, true
			continue
		}
		if flags&descWrite != want {
			return errGuest
		}
		b, ok := m.guest(addr, size)
		if !ok {
			return errGuest
		}
		if !f(b) || flags&descNext == 0 {
			return nil
		}
		i = int(binary.LittleEndian.Uint16(d[14:]))
	}
	return errGuest // a loop
}

// push gives the chain at head back, with n bytes written into it. The driver
// sees it after publish.
func (r *ring) push(head uint16, n uint32) {
	i := int(r.usedIdx) & (r.num - 1)
	binary.LittleEndian.PutUint32(r.used[4+8*i:], uint32(head))
	binary.LittleEndian.PutUint32(r.used[8+8*i:], n)
	r.usedIdx++
}

// publish makes all pushed chains visible to the driver. It pairs with the
// driver's load of the used index.
func (r *ring) publish() {
	if r.usedIdx == r.published {
		return
	}
	flags := uint32(binary.LittleEndian.Uint16(r.used))
	store32(r.used, 0, flags|uint32(r.usedIdx)<<16)
	r.published = r.usedIdx
}

// wantsInterrupt reports whether the driver asked to be told of what was published
// since the last call, VIRTIO 1.2 §2.7.7.
func (r *ring) wantsInterrupt() bool {
	old, now := r.signalled, r.published
	if old == now {
		return false
	}
	r.signalled = now
	if !r.eventIdx {
		return load16(r.avail, 0)&availNoInterrupt == 0
	}
	return needEvent(load16(r.avail, 4+2*r.num), now, old)
}

// needEvent: event lies in [old, now).
func needEvent(event, now, old uint16) bool { return now-event-1 < now-old }

// arm asks the driver for a notification at its next entry and reports whether one
// is there already.
func (r *ring) arm() (ready bool) {
	if r.eventIdx {
		binary.LittleEndian.PutUint16(r.used[4+8*r.num:], r.lastAvail)
	} else {
		store32(r.used, 0, uint32(r.published)<<16)
	}
	fence(&r.word) // the driver's store of its index against our reading of it
	return r.pending() > 0
}

// quiet asks for no notifications. With EVENT_IDX there is nothing to write: a
// stale event index is passed at most once in 65,536 entries.
func (r *ring) quiet() {
	if !r.eventIdx {
		store32(r.used, 0, usedNoNotify|uint32(r.published)<<16)
	}
}
