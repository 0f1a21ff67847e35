package scsi

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
)

// Disk is a direct access block device. It is a blk.Disk.
type Disk struct {
	h      *Host
	at     Address
	name   string
	unit   unit
	serial string
	// rotation is in rotations per minute: 1 for none, 0 where the unit does not say.
	rotation int
	physical int  // bytes of a physical block
	shift    uint // log2 of sectors in a block
	limits   blk.Limits
	shape    blk.Shape

	unmapSame bool       // discards are WRITE SAME, not UNMAP
	zeroUnmap bool       // zeroes may be deallocated blocks
	own       dma.Region // a block of zeroes, then a parameter list of each task

	*blk.Blocking // ReadAt, WriteAt, Flush, Discard, WriteZeroes, BlockSize, ReadOnly

	sectors   atomic.Uint64
	gone      atomic.Pointer[error]
	rechecked atomic.Bool // a recheck is under way

	mu         sync.Mutex // guards all below
	tasks      []task
	free       []*task
	waiting    blk.List // requests with parts not yet sent
	paused     []*task  // to be sent again later
	pause      *time.Timer
	watch      *blk.Watch
	busy       int // tasks in use
	recovering bool
	ended      bool
}

// task is a part of a request: a Command under way, or paused.
type task struct {
	Command
	d     *Disk
	req   *blk.Request
	used  bool
	held  bool // in paused
	late  bool // not answered in time: it fails once it ends
	tries int
	waits int // pauses
	began uint32
	at    uint64 // sector
	count uint64
	list  dma.Region // UNMAP parameter list
	segs  []blk.Seg
}

// maxBlocks is what one command moves at most: the largest count of WRITE (10).
const maxBlocks = 1<<16 - 1

// newDisk asks the unit for all that a disk needs to know.
func (h *Host) newDisk(at Address, u unit) (*Disk, error) {
	d := &Disk{h: h, at: at, unit: u, name: at.String()}
	c, err := h.capacity(at, u)
	if err != nil {
		return nil, err
	}
	bs := int(c.blockSize)
	switch {
	case bs < blk.SectorSize || bs > 64<<10 || bs&(bs-1) != 0:
		return nil, fmt.Errorf("blocks of %d bytes: left alone", bs)
	case c.protected:
		return nil, errors.New("formatted with protection information: left alone")
	}
	for n := bs / blk.SectorSize; n > 1; n >>= 1 {
		d.shift++
	}
	if err := d.setCapacity(c); err != nil {
		return nil, err
	}
	d.physical = bs << c.physical
	d.limits = blk.Limits{Driver: h.limits.Driver, BlockSize: bs}
	d.limits.ReadOnly, d.limits.WriteCache = h.mode(at)
	bl, p := d.readPages()
	d.setLimits(c, bl, p)
	if err := d.shape.Check(h.limits.MaxSegs); err != nil {
		return nil, err
	}
	return d, d.allocate()
}

// capacity asks for it, by READ CAPACITY (16) where units know that for sure, or
// where there is no other way.
func (h *Host) capacity(at Address, u unit) (c capacity, err error) {
	b, err := h.exec(at, readCapacity10(), 8)
	if err == nil {
		c, err = parseCapacity10(b)
	}
	if err != nil {
		return c, err
	}
	const spc3 = 5
	if !c.beyond && u.version < spc3 {
		return c, nil
	}
	b, err = h.exec(at, readCapacity16(capacity16Bytes), capacity16Bytes)
	var e *commandError
	if err != nil && !c.beyond && errors.As(err, &e) && e.sense.key == keyIllegalRequest {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	return parseCapacity16(b)
}

// maxSectors keeps sizes in bytes in an int64.
const maxSectors = 1<<63/blk.SectorSize - 1

func (d *Disk) setCapacity(c capacity) error {
	n := c.blocks << d.shift
	if n>>d.shift != c.blocks || n > maxSectors {
		return fmt.Errorf("unit says that it has %d blocks of %d bytes", c.blocks, c.blockSize)
	}
	d.sectors.Store(n)
	return nil
}

// mode asks whether the unit is read-only and has a volatile cache.
func (h *Host) mode(at Address) (readOnly, cache bool) {
	const all = 0x3f
	for _, page := range []byte{pageCaching, all} {
		if b, err := h.exec(at, modeSense(page, vpdBytes), vpdBytes); err == nil {
			return parseModeSense(b)
		}
	}
	return false, true
}

// readPages reads the pages of vital product data that the unit has.
func (d *Disk) readPages() (l blockLimits, p provisioning) {
	const spc2 = 4 // older units may stumble over a page that they do not know
	if d.unit.version < spc2 {
		return l, p
	}
	page := func(n byte) []byte {
		b, err := d.h.exec(d.at, inquiry(true, n, vpdBytes), vpdBytes)
		if err == nil {
			b, err = parseVPD(b, n)
		}
		if err != nil {
			return nil
		}
		return b
	}
	for _, n := range page(vpdSupported) {
		switch n {
		case vpdSerial:
			if s := text(page(n)); s != "" {
				d.serial = s
			}
		case vpdIdentify:
			if s := parseDesignators(page(n)); d.serial == "" {
				d.serial = s
			}
		case vpdBlockLimits:
			l = parseBlockLimits(page(n))
		case vpdCharacter:
			d.rotation = parseCharacteristics(page(n))
		case vpdProvisioning:
			p = parseProvisioning(page(n))
		}
	}
	return l, p
}

// setLimits makes limits and shape of what unit and adapter say.
func (d *Disk) setLimits(c capacity, l blockLimits, p provisioning) {
	blocks := uint64(maxBlocks)
	if l.maxTransfer > 0 {
		blocks = min(blocks, uint64(l.maxTransfer))
	}
	bs := uint64(d.limits.BlockSize)
	if m := uint64(d.h.limits.MaxBytes); m > 0 {
		blocks = min(blocks, max(m/bs, 1))
	}
	d.shape = blk.Shape{BlockSize: int(bs), MaxBytes: int(blocks * bs)}
	same := min(l.maxWriteSame, 1<<32-1)
	switch {
	case d.limits.ReadOnly:
		return
	case same == 0 && p.writeSame: // no limit is reported
		same = 1<<32 - 1
	}
	d.limits.MaxWriteZeroes = same << d.shift
	d.zeroUnmap = p.writeSame && (p.readsZeroes || c.zeroes)
	unmap := uint64(0)
	switch {
	case p.unmap && l.maxUnmap > 0 && l.maxUnmapList > 0:
		unmap = uint64(l.maxUnmap)
	case p.writeSame:
		unmap, d.unmapSame = same, true
	}
	if g := uint64(l.unmapGranularity); g > 1 && unmap > g {
		unmap -= unmap % g // so that the parts after the first are aligned if it is
	}
	d.limits.MaxDiscard = unmap << d.shift
}

// allocate makes the tasks.
func (d *Disk) allocate() (err error) {
	depth := d.h.cfg.Depth
	if !d.unit.queuing {
		depth = 1
	}
	const listBytes = 32
	bs := d.limits.BlockSize
	if d.own, err = d.h.mem.Alloc(bs+depth*listBytes, bs); err != nil {
		return err
	}
	if d.Blocking, err = blk.NewBlocking(d, &d.limits, d.h.mem, d.h.cfg.Bounces); err != nil {
		d.h.mem.Free(d.own)
		return err
	}
	d.tasks = make([]task, depth)
	d.free = make([]*task, 0, depth)
	d.paused = make([]*task, 0, depth)
	segs := make([]blk.Seg, depth*d.h.limits.MaxSegs)
	for i := range d.tasks {
		t := &d.tasks[i]
		t.d, t.done, t.owner = d, taskDone, t
		t.list = d.own.Slice(bs+i*listBytes, listBytes)
		t.segs, segs = segs[:0:d.h.limits.MaxSegs], segs[d.h.limits.MaxSegs:]
		d.free = append(d.free, t)
	}
	d.watch = blk.NewWatch(d.h.cfg.Timeout, d.lookAfter)
	d.pause = time.AfterFunc(time.Hour, d.unpause)
	d.pause.Stop()
	return nil
}

// Submit is blk.Disk's.
func (d *Disk) Submit(r *blk.Request) {
	if err := d.Err(); err != nil {
		d.limits.Refuse(r, err)
		return
	}
	if !d.limits.Begin(r, d.sectors.Load()) {
		return
	}
	var out List
	d.mu.Lock()
	d.waiting.Push(r)
	d.post(&out)
	d.mu.Unlock()
	d.h.t.Queue(out)
}

// post makes tasks of waiting requests, first come first served, as long as there
// are any free. Caller must hold mu, and queues out after.
func (d *Disk) post(out *List) {
	for r := d.waiting.Head(); r != nil; r = d.waiting.Head() {
		for r.More {
			n := len(d.free)
			if n == 0 {
				return
			}
			t := d.free[n-1]
			d.free = d.free[:n-1]
			d.busy++
			t.used, t.late, t.tries, t.waits, t.req = true, false, 1, 0, r
			t.build(r)
			t.send(out)
		}
		d.waiting.Pop()
	}
}

// send puts t into out. Caller must hold the disk's mu.
func (t *task) send(out *List) {
	t.held, t.began = false, t.d.watch.Begin()
	t.clear()
	out.Push(&t.Command)
}

// build makes t the next part of r, as large as the unit takes.
func (t *task) build(r *blk.Request) {
	d := t.d
	t.To, t.at, t.count = d.at, r.Cursor.Sector(), 0
	t.Dir, t.Data, t.Len = NoData, t.segs[:0], 0
	switch r.Op {
	case blk.OpRead, blk.OpWrite:
		t.Data, t.Len = r.Cursor.Gather(t.segs[:0], r.Mem, &d.shape)
		t.count = uint64(t.Len) / blk.SectorSize
		t.setTransfer(r.Op == blk.OpWrite, t.at>>d.shift, t.count>>d.shift)
	case blk.OpFlush:
		t.setCDB10(opSyncCache10, 0, 0) // all blocks
	case blk.OpDiscard:
		_, t.count = r.Range(d.limits.MaxDiscard)
		if d.unmapSame {
			t.setSame(writeSameUnmap)
			break
		}
		t.setUnmap(t.list.Bytes, t.at>>d.shift, uint32(t.count>>d.shift))
		t.setMemory(blk.Seg{Addr: t.list.Bus, Len: unmapListBytes})
	case blk.OpWriteZeroes:
		_, t.count = r.Range(d.limits.MaxWriteZeroes)
		flags := byte(0)
		if d.zeroUnmap {
			flags = writeSameUnmap
		}
		t.setSame(flags)
	}
	r.More = r.Left() > 0
	r.Parts++
}

// setSame is WRITE SAME of zeroes.
func (t *task) setSame(flags byte) {
	d := t.d
	t.setCDB16(opWriteSame16, flags, t.at>>d.shift, uint32(t.count>>d.shift))
	t.Dir = ToUnit
	t.setMemory(blk.Seg{Addr: d.own.Bus, Len: uint32(d.limits.BlockSize)})
}

// Name is the name given by Config.
func (d *Disk) Name() string { return d.name }

// Size is the capacity in bytes.
func (d *Disk) Size() int64 { return int64(d.sectors.Load() * blk.SectorSize) }

// ID is the unit's serial number, or one of its designators; empty where it tells
// neither.
func (d *Disk) ID() (string, error) { return d.serial, d.Err() }

// Address is where the unit is.
func (d *Disk) Address() Address { return d.at }

// Queues is how many queues the adapter has for commands.
func (d *Disk) Queues() int { return d.h.limits.Queues }

// Model is what the unit calls itself.
func (d *Disk) Model() string { return d.unit.String() }

// Geometry is the size of a physical block in bytes, and the medium's rotations per
// minute: 1 for one that does not rotate, 0 where the unit does not say.
func (d *Disk) Geometry() (physicalBlock, rotation int) { return d.physical, d.rotation }

// Err is blk.Disk's.
func (d *Disk) Err() error {
	if p := d.gone.Load(); p != nil {
		return *p
	}
	return d.h.t.Err()
}

// Reset is a LOGICAL UNIT RESET under load: what is under way is sent again.
func (d *Disk) Reset() error { return d.h.t.ResetUnit(d.at) }

// Close is blk.Disk's: what the unit caches is written out, requests under way end,
// later ones fail with blk.ErrClosed. Adapter and memory are the adapter's, which
// has other disks.
func (d *Disk) Close() (err error) {
	if d.Err() == nil {
		err = d.Flush()
	}
	closed := error(blk.ErrClosed)
	d.gone.CompareAndSwap(nil, &closed)
	d.end()
	for {
		d.mu.Lock()
		busy := d.busy
		d.mu.Unlock()
		if busy == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// end sends what is paused, whose turn will not come, and stops the timers.
func (d *Disk) end() {
	d.mu.Lock()
	d.ended = true
	d.mu.Unlock()
	d.unpause()
	if d.h.t.Err() != nil {
		d.watch.Stop()
		d.pause.Stop()
	}
}

// release gives the memory back; requests have ended.
func (d *Disk) release() {
	d.Blocking.Free()
	d.h.mem.Free(d.own)
}

var _ blk.Disk = (*Disk)(nil)
