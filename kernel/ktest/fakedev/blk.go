package fakedev

import (
	"encoding/binary"
	"fmt"
)

// Feature bits of the block device, §5.2.3.
const (
	BlkSizeMax     uint64 = 1 << 1
	BlkSegMax      uint64 = 1 << 2
	BlkRO          uint64 = 1 << 5
	BlkBlkSize     uint64 = 1 << 6
	BlkFlush       uint64 = 1 << 9
	BlkTopology    uint64 = 1 << 10
	BlkMQ          uint64 = 1 << 12
	BlkDiscard     uint64 = 1 << 13
	BlkWriteZeroes uint64 = 1 << 14
)

// BlkAll is what a capable disk offers: QEMU's virtio-blk-pci.
const BlkAll = BlkSegMax | BlkBlkSize | BlkFlush | BlkTopology | BlkMQ | BlkDiscard | BlkWriteZeroes |
	FeatureIndirectDesc | FeatureEventIdx | FeatureVersion1

// Block request types and status values, §5.2.6.
const (
	BlkIn       = 0
	BlkOut      = 1
	BlkFlushReq = 4
	BlkGetID    = 8
	BlkDiscReq  = 11
	BlkZeroReq  = 13

	BlkOK     = 0
	BlkIOErr  = 1
	BlkUnsupp = 2
)

// Blk plays a disk.
type Blk struct {
	Device
	Disk   []byte
	Serial string
	Log    []BlkRequest // all requests carried out, in order

	// Fail returns the status of a request that is not to be carried out; nil, or
	// BlkOK from it, lets all pass.
	Fail func(BlkRequest) uint8
	// Pick chooses which of n requests at hand is next, to reorder them.
	Pick func(n int) int

	// Lies. Each is used up by one request.
	NoStatus  bool  // the status byte is not written
	BadStatus uint8 // this one is
	ShortRead bool  // fewer bytes than asked for
	LongLen   bool  // a used length beyond the buffers
	Swallow   int   // that many requests are never answered

	hand []heldRequest
}

// BlkRequest is a request as the device sees it.
type BlkRequest struct {
	Type    uint32
	Sector  uint64
	Sectors uint64
	Segs    int // data segments
	Queue   int
}

type heldRequest struct {
	q    *Queue
	head uint16
	segs []Seg
}

// NewBlk makes a disk of that many sectors with that many queues.
func NewBlk(mem *Mem, features uint64, sectors, queues, max int) *Blk {
	b := &Blk{Disk: make([]byte, sectors*512), Serial: "fake-serial"}
	b.ID, b.Mem, b.Offered = 2, mem, features
	b.Init(queues, max)
	b.Conf = make([]byte, 60)
	binary.LittleEndian.PutUint64(b.Conf[0:], uint64(sectors))
	binary.LittleEndian.PutUint32(b.Conf[8:], 1<<16) // size_max
	binary.LittleEndian.PutUint32(b.Conf[12:], 126)  // seg_max
	binary.LittleEndian.PutUint32(b.Conf[20:], 512)  // blk_size
	b.Conf[24] = 3                                   // physical_block_exp
	binary.LittleEndian.PutUint16(b.Conf[26:], 1)    // min_io_size
	binary.LittleEndian.PutUint16(b.Conf[34:], uint16(queues))
	binary.LittleEndian.PutUint32(b.Conf[36:], 64) // max_discard_sectors
	binary.LittleEndian.PutUint32(b.Conf[40:], 1)
	binary.LittleEndian.PutUint32(b.Conf[44:], 8)
	binary.LittleEndian.PutUint32(b.Conf[48:], 32) // max_write_zeroes_sectors
	binary.LittleEndian.PutUint32(b.Conf[52:], 1)
	b.Conf[56] = 1
	b.onReset = func() { b.hand = nil }
	return b
}

// Step takes all requests offered and carries them out. It returns how many.
func (b *Blk) Step() int {
	b.take()
	n := 0
	for len(b.hand) > 0 {
		b.one()
		n++
	}
	for _, q := range b.Queues {
		if q.Live() {
			q.Flush()
		}
	}
	return n
}

// StepOne takes all requests offered and carries out one. It reports false where
// there is none.
func (b *Blk) StepOne() bool {
	b.take()
	if len(b.hand) == 0 {
		return false
	}
	q := b.one()
	q.Flush()
	return true
}

func (b *Blk) take() {
	for _, q := range b.Queues {
		for {
			c, ok := q.Pop()
			if !ok {
				break
			}
			b.hand = append(b.hand, heldRequest{q, c.Head, append([]Seg(nil), c.Segs...)})
		}
	}
}

func (b *Blk) one() *Queue {
	i := 0
	if b.Pick != nil {
		i = b.Pick(len(b.hand))
	}
	h := b.hand[i]
	b.hand = append(b.hand[:i], b.hand[i+1:]...)
	if b.Swallow > 0 {
		b.Swallow--
		return h.q
	}
	b.do(h)
	return h.q
}

func (b *Blk) do(h heldRequest) {
	c := Chain{h.head, h.segs}
	first, last := c.Segs[0], c.Segs[len(c.Segs)-1]
	// §5.2.6.1 and, without ANY_LAYOUT, §5.2.6.5: header and status stand alone.
	if len(c.Segs) < 2 || first.Write || len(first.Bytes) != 16 || !last.Write || len(last.Bytes) != 1 {
		panic(fmt.Sprintf("fakedev: block request of %d segments is not in the layout", len(c.Segs)))
	}
	req := BlkRequest{
		Type:   binary.LittleEndian.Uint32(first.Bytes),
		Sector: binary.LittleEndian.Uint64(first.Bytes[8:]),
		Segs:   len(c.Segs) - 2,
		Queue:  h.q.Index,
	}
	data := Chain{h.head, c.Segs[1 : len(c.Segs)-1]}
	status, written := b.carryOut(&req, data)
	b.Log = append(b.Log, req)
	if status == BlkOK && b.ShortRead && req.Type == BlkIn {
		b.ShortRead = false
		written /= 2
	}
	switch {
	case b.NoStatus:
		b.NoStatus = false
	case b.BadStatus != 0:
		last.Bytes[0], b.BadStatus = b.BadStatus, 0
	default:
		last.Bytes[0] = status
		written++
	}
	if b.LongLen {
		b.LongLen, written = false, c.Writable()+1
	}
	h.q.Push(h.head, written)
}

func (b *Blk) carryOut(req *BlkRequest, data Chain) (status uint8, written int) {
	n := data.Readable() + data.Writable()
	switch req.Type {
	case BlkIn, BlkOut:
		req.Sectors = uint64(n / 512)
		b.checkLimits(req, data)
	case BlkDiscReq, BlkZeroReq:
		var r [16]byte
		if data.Read(0, r[:]) != 16 || n != 16 {
			panic(fmt.Sprintf("fakedev: range of %d bytes", n))
		}
		req.Sector = binary.LittleEndian.Uint64(r[:])
		req.Sectors = uint64(binary.LittleEndian.Uint32(r[8:]))
	}
	if b.Fail != nil {
		if s := b.Fail(*req); s != BlkOK {
			return s, 0
		}
	}
	end := (req.Sector + req.Sectors) * 512
	if end > uint64(len(b.Disk)) {
		return BlkIOErr, 0
	}
	area := b.Disk[req.Sector*512 : end]
	switch req.Type {
	case BlkIn:
		return BlkOK, data.Write(0, area)
	case BlkOut:
		if b.features&BlkRO != 0 {
			return BlkIOErr, 0
		}
		data.Read(0, area)
	case BlkGetID:
		return BlkOK, data.Write(0, append([]byte(b.Serial), make([]byte, 20)...)[:20])
	case BlkDiscReq:
		for i := range area {
			area[i] = 0xdd
		}
	case BlkZeroReq:
		clear(area)
	case BlkFlushReq:
	default:
		return BlkUnsupp, 0
	}
	return BlkOK, 0
}

// checkLimits panics where a request breaks size_max or seg_max.
func (b *Blk) checkLimits(req *BlkRequest, data Chain) {
	if b.features&BlkSegMax != 0 {
		if m := binary.LittleEndian.Uint32(b.Conf[12:]); req.Segs > int(m) {
			panic(fmt.Sprintf("fakedev: %d segments, seg_max is %d", req.Segs, m))
		}
	}
	if b.features&BlkSizeMax != 0 {
		m := binary.LittleEndian.Uint32(b.Conf[8:])
		for _, s := range data.Segs {
			if len(s.Bytes) > int(m) {
				panic(fmt.Sprintf("fakedev: segment of %d bytes, size_max is %d", len(s.Bytes), m))
			}
		}
	}
	bs := uint64(512)
	if b.features&BlkBlkSize != 0 {
		bs = uint64(binary.LittleEndian.Uint32(b.Conf[20:]))
	}
	if req.Sector*512%bs != 0 || req.Sectors*512%bs != 0 || req.Sectors == 0 {
		panic(fmt.Sprintf("fakedev: %d sectors at %d, blocks of %d", req.Sectors, req.Sector, bs))
	}
}
