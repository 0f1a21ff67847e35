package ahci

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
)

// port is one port of an HBA with the disk behind it: a blk.Disk.
type port struct {
	c      *Controller
	n      int
	base   mmio.Off
	name   string
	mem    dma.Region
	geo    geometry
	depth  int // slots in use
	limits blk.Limits
	shape  blk.Shape

	*blk.Blocking // ReadAt, WriteAt, Flush, Discard, WriteZeroes, BlockSize, ReadOnly

	work blk.Turn // held by who restarts the port; before mu

	mu      sync.Mutex // guards all below
	state   portState
	err     error  // why it is dead
	closed  bool   // by Close of this disk
	issued  uint32 // slots that the HBA has
	unsent  uint32 // slots that wait to be sent again
	queued  bool   // what is issued are queued commands
	slots   [32]slot
	free    uint32
	waiting blk.List
	pieces  []blk.Seg
	watch   *blk.Watch
}

type portState uint8

const (
	idle   portState = iota // not yet started
	live                    // at work
	frozen                  // being restarted; requests wait
	dead                    // requests are refused
)

// slot is one command under way.
type slot struct {
	req     *blk.Request
	write   bool
	queued  bool // may be sent as a queued command
	late    bool // not answered in time
	resends uint8
	prds    int
	bytes   int // of a transfer
	began   uint32
	at      uint64 // sector
	count   uint64 // sectors
}

func (p *port) load(o mmio.Off) uint32     { return p.c.regs.Load32(p.base + o) }
func (p *port) store(o mmio.Off, v uint32) { p.c.regs.Store32(p.base+o, v) }

func (p *port) table(i int) dma.Region  { return p.mem.Slice(memTables+i*tableBytes, tableBytes) }
func (p *port) header(i int) dma.Region { return p.mem.Slice(memList+i*headerBytes, headerBytes) }

func (p *port) release() {
	if p.mem.Bytes != nil {
		p.c.mem.Free(p.mem)
	}
}

// goLive lets requests through, after attach.
func (p *port) goLive() {
	p.mu.Lock()
	p.free = uint32(1<<p.depth - 1)
	p.mu.Unlock()
	p.resume()
}

// Submit is blk.Disk's.
func (p *port) Submit(r *blk.Request) {
	if err := p.Err(); err != nil {
		p.limits.Refuse(r, err)
		return
	}
	if !p.limits.Begin(r, p.geo.sectors<<(p.geo.shift-9)) {
		return
	}
	p.mu.Lock()
	if p.state == dead {
		err := p.err
		p.mu.Unlock()
		p.limits.Refuse(r, err)
		return
	}
	p.waiting.Push(r)
	if p.state == live {
		p.post()
	}
	p.mu.Unlock()
}

// mayIssue reports whether a command can go beside what is under way. One that is
// not queued goes alone, so that an error is its own: HBAs differ in what CI and
// CCS say after one. Caller must hold mu.
func (p *port) mayIssue(queued bool) bool { return p.issued == 0 || p.queued && queued }

// post sends what is to be sent again, then parts of waiting requests, first come
// first served, as far as there are slots. Caller must hold mu.
func (p *port) post() {
	for p.unsent != 0 {
		i := bits.TrailingZeros32(p.unsent)
		if !p.mayIssue(p.slots[i].queued) {
			return
		}
		p.unsent &^= 1 << i
		p.send(i)
	}
	for r := p.waiting.Head(); r != nil; r = p.waiting.Head() {
		queued := p.geo.depth > 0 && (r.Op == blk.OpRead || r.Op == blk.OpWrite)
		for r.More {
			if p.free == 0 || !p.mayIssue(queued) {
				return
			}
			i := bits.TrailingZeros32(p.free)
			p.free &^= 1 << i
			p.build(i, r, queued)
			p.send(i)
		}
		p.waiting.Pop()
	}
}

// build makes slot i the next part of r. Caller must hold mu.
func (p *port) build(i int, r *blk.Request, queued bool) {
	s := &p.slots[i]
	*s = slot{req: r, queued: queued, at: r.Cursor.Sector()}
	t := p.table(i)
	switch r.Op {
	case blk.OpRead, blk.OpWrite:
		var pieces []blk.Seg
		pieces, s.bytes = r.Cursor.Gather(p.pieces[:0], r.Mem, &p.shape)
		setPRDT(t.Bytes, pieces)
		s.prds, s.write = len(pieces), r.Op == blk.OpWrite
		s.count = uint64(s.bytes) / blk.SectorSize
	case blk.OpDiscard:
		_, s.count = r.Range(p.limits.MaxDiscard)
		shift := p.geo.shift - 9
		setTrim(t.Bytes[tableTrim:tableTrim+trimBytes], s.at>>shift, s.count>>shift)
		putPRD(t.Bytes[tablePRDT:], t.Bus+tableTrim, trimBytes)
		s.prds, s.write = 1, true
	}
	r.More = r.Left() > 0
	r.Parts++
}

// fisOf is the command of slot i.
func (p *port) fisOf(i int) fis {
	s := &p.slots[i]
	shift := p.geo.shift - 9
	switch s.req.Op {
	case blk.OpFlush:
		if p.geo.flushExt {
			return fis{command: ataFlushExt, device: deviceLBA}
		}
		return fis{command: ataFlush, device: deviceLBA}
	case blk.OpDiscard:
		return fis{command: ataDSM, features: dsmTrim, count: 1, device: deviceLBA}
	}
	tag := -1
	if s.queued {
		tag = i
	}
	return p.geo.transfer(s.write, s.at>>shift, uint32(s.count>>shift), tag)
}

// send issues slot i, §5.5.1: header and table, then SACT for a queued command,
// then CI. Caller must hold mu.
func (p *port) send(i int) {
	s := &p.slots[i]
	t := p.table(i)
	p.fisOf(i).store(t.Bytes)
	header(p.header(i).Bytes, s.write, s.prds, t.Bus)
	p.queued = s.queued
	p.issued |= 1 << i
	s.began = p.watch.Begin()
	if s.queued {
		p.store(portSACT, 1<<i)
	}
	p.store(portCI, 1<<i)
}

// service is what an interrupt of this port asks for: errors first, then what is
// done.
func (p *port) service() {
	var done blk.List
	p.mu.Lock()
	if p.state == live {
		is := p.load(portIS)
		p.store(portIS, is)
		if is&isErrors != 0 {
			p.trouble(is)
		} else if err := p.reap(&done); err == errTaskFile {
			p.trouble(isTFES)
		} else if err != nil {
			p.broken(err)
		} else {
			p.post()
		}
	}
	p.mu.Unlock()
	done.Finish()
}

// errTaskFile says that a command ended with an error after the interrupt status
// was read.
var errTaskFile = errors.New("task file error")

// reap ends what the HBA and the device are through with. An error that is not
// errTaskFile is a broken protocol. Caller must hold mu.
func (p *port) reap(done *blk.List) error {
	busy := p.load(portCI)
	if p.queued {
		busy |= p.load(portSACT)
	}
	if lie := busy &^ p.issued; lie != 0 {
		return errorf("port %d: %w: commands %#x are under way, of which %#x were issued", p.n, blk.ErrProtocol, busy, p.issued)
	}
	if !p.queued && p.issued&^busy != 0 && p.load(portTFD)&tfdERR != 0 {
		return errTaskFile
	}
	for ready := p.issued &^ busy; ready != 0; ready &= ready - 1 {
		i := bits.TrailingZeros32(ready)
		s := &p.slots[i]
		var err error
		if n := int(binary.LittleEndian.Uint32(p.header(i).Bytes[4:])); !s.queued && s.bytes > 0 && n < s.bytes {
			err = p.errorOf(s, blk.ErrProtocol, fmt.Sprintf("%d of %d bytes were moved", n, s.bytes))
		}
		p.end(i, err, done)
	}
	return nil
}

func (p *port) errorOf(s *slot, why error, detail string) error {
	return &blk.Error{Driver: driverName, Op: s.req.Op, Sector: s.at, Count: s.count, Why: why, Detail: detail}
}

// end ends slot i. Caller must hold mu.
func (p *port) end(i int, err error, done *blk.List) {
	r := p.slots[i].req
	p.slots[i].req = nil
	p.issued &^= 1 << i
	p.unsent &^= 1 << i
	p.free |= 1 << i
	if err != nil {
		r.Fail(err)
		if r.More { // the rest of a request that failed is of no use
			r.More = false
			p.waiting.Remove(r)
		}
	}
	if r.Parts--; r.Parts == 0 && !r.More {
		done.Push(r)
	}
}

// Name is blk.Disk's.
func (p *port) Name() string { return p.name }

// Size is blk.Disk's.
func (p *port) Size() int64 { return int64(p.geo.sectors << p.geo.shift) }

// ID is the disk's serial number.
func (p *port) ID() (string, error) { return p.geo.serial, nil }

// Model is what the disk calls itself.
func (p *port) Model() string { return p.geo.model }

// Depth is how many queued commands are under way at most; 0 without NCQ.
func (p *port) Depth() int {
	if p.geo.depth == 0 {
		return 0
	}
	return p.depth
}

// Reset resets the HBA, with all its disks, under load.
func (p *port) Reset() error { return p.c.Reset() }

// Err is blk.Disk's.
func (p *port) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && p.closed {
		return blk.ErrClosed
	}
	return p.err
}

// Close takes no more requests. With the last disk, the HBA is stopped and all that
// is under way ends.
func (p *port) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, o := range p.c.used {
		o.mu.Lock()
		open := !o.closed
		o.mu.Unlock()
		if open {
			return nil
		}
	}
	return p.c.Close()
}

var _ blk.Disk = (*port)(nil)
