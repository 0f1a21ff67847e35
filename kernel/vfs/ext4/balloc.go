package ext4

import (
	"slices"
	"sync"
	"syscall"
)

// Blocks. One that is free becomes a file's in two steps: choose takes it out of what
// others can have, in memory; after the data is on it, use marks it in the bitmap, in
// the transaction that enters it into the file. One that is freed is marked free at
// once, and can be had again when that transaction is committed: until then a crash
// would bring its old owner back.

// allocator counts blocks and inodes. mu also guards the groups.
type allocator struct {
	mu       sync.Mutex
	free     int64 // blocks, as the bitmaps have it
	locked   int64 // of these, freed and not committed
	reserved int64 // promised to pages that are not written back yet
	chosen   int64
	slack    int64 // kept for extent trees of what is reserved
}

// mergeRuns sorts runs of blocks and joins neighbours.
func mergeRuns(all []run) []run {
	slices.SortFunc(all, func(a, b run) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	out := all[:0]
	for _, r := range all {
		if k := len(out) - 1; k >= 0 && r.start <= out[k].start+out[k].n {
			out[k].n = max(out[k].n, r.start+r.n-out[k].start)
			continue
		}
		out = append(out, r)
	}
	return out
}

// isSystem says whether one of n blocks holds the file system itself.
func (fs *fileSystem) isSystem(start, n uint64) bool {
	k, _ := slices.BinarySearchFunc(fs.system, start, func(r run, b uint64) int {
		if r.start+r.n <= b {
			return -1
		}
		return 1
	})
	return k < len(fs.system) && fs.system[k].start < start+n
}

// groupOf is the group of a block and its number there.
func (fs *fileSystem) groupOf(block uint64) (g uint32, k int) {
	b := block - fs.sb.firstData
	return uint32(b / fs.sb.blocksPG), int(b % fs.sb.blocksPG)
}

// loadBlocks reads a group's block bitmap. Caller holds alloc.mu.
func (fs *fileSystem) loadBlocks(n uint32) (*group, error) {
	g := &fs.groups[n]
	if g.blocks != nil {
		return g, nil
	}
	s := &fs.sb
	var b *buf
	if g.flags&bgBlockUninit != 0 {
		b = fs.fresh(g.blockBitmap, kindBlockBitmap, 0)
		m := bitmap(b.data)
		start, size := s.groupStart(n), s.groupBlocks(n)
		for _, r := range fs.system {
			lo, hi := max(r.start, start), min(r.start+r.n, start+size)
			if lo < hi {
				m.fill(int(lo-start), int(hi-lo))
			}
		}
		m.fill(int(size), 8*s.blockSize-int(size))
	} else {
		var err error
		if b, err = fs.read(g.blockBitmap, kindBlockBitmap, 0); err != nil {
			return nil, err
		}
		if s.metaCsum() && !g.sumIs(s, g.bbCsum, fs.blockBitmapSum(b.data)) {
			return nil, fs.corrupt(0, b.no, "checksum of the block bitmap of group %d is wrong", n)
		}
	}
	if free := bitmap(b.data).count(int(s.groupBlocks(n))); free != int(g.freeBlocks) {
		return nil, fs.corrupt(0, b.no, "block bitmap of group %d has %d free blocks, its descriptor says %d", n, free, g.freeBlocks)
	}
	g.blocks, g.busy = b, append(bitmap(nil), b.data...)
	return g, nil
}

func (fs *fileSystem) blockBitmapSum(d []byte) uint32 {
	return crc32c(fs.sb.csumSeed, d[:fs.sb.blocksPG/8])
}

func (fs *fileSystem) inodeBitmapSum(d []byte) uint32 {
	return crc32c(fs.sb.csumSeed, d[:fs.sb.inodesPG/8])
}

// sumIs compares a bitmap's checksum, of which small descriptors have half.
func (g *group) sumIs(s *super, have, want uint32) bool {
	if s.descSize < 64 {
		return have&0xffff == want&0xffff
	}
	return have == want
}

// available is what is left for new data. Caller holds mu.
func (a *allocator) available() int64 {
	return a.free - a.locked - a.reserved - a.chosen - a.slack
}

// reserve promises n blocks.
func (fs *fileSystem) reserve(n int64) error {
	a := &fs.alloc
	for try := 0; ; try++ {
		a.mu.Lock()
		if a.available() >= n {
			a.reserved += n
			a.mu.Unlock()
			return nil
		}
		locked := a.locked
		a.mu.Unlock()
		if locked == 0 || try > 2 {
			return syscall.ENOSPC
		}
		// A commit lets go of what was freed.
		if err := fs.journal.sync(); err != nil {
			return err
		}
	}
}

func (fs *fileSystem) unreserve(n int64) {
	fs.alloc.mu.Lock()
	fs.alloc.reserved -= n
	fs.alloc.mu.Unlock()
}

// choose takes up to n blocks that follow each other, near goal, out of what others
// can have. kept says that reserved blocks, or the slack, may be used.
func (fs *fileSystem) choose(goal, n uint64, kept bool) (run, error) {
	a := &fs.alloc
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.free - a.locked - a.chosen
	if !kept {
		left = a.available()
	}
	if left <= 0 {
		return run{}, syscall.ENOSPC
	}
	n = min(n, uint64(left))
	if goal <= fs.sb.firstData || goal >= fs.sb.blocks {
		goal = fs.sb.firstData
	}
	first, at := fs.groupOf(goal)
	var best run
	for k := range fs.sb.groups {
		no := (first + k) % fs.sb.groups
		if fs.groups[no].freeBlocks == 0 {
			at = 0
			continue
		}
		g, err := fs.loadBlocks(no)
		if err != nil {
			return run{}, err
		}
		size := int(fs.sb.groupBlocks(no))
		start := fs.sb.groupStart(no)
		if r := g.runNear(at, size, int(n)); r.n > best.n {
			best = run{start: start + r.start, n: r.n}
		}
		if best.n == n || best.n >= 256 {
			break
		}
		at = 0
	}
	if best.n == 0 {
		return run{}, syscall.ENOSPC
	}
	no, k := fs.groupOf(best.start)
	fs.groups[no].busy.fill(k, int(best.n))
	a.chosen += int64(best.n)
	return best, nil
}

// runNear is a run of up to n free blocks of the group: that at at, if there is one
// of some length, else the first long enough, else the longest.
func (g *group) runNear(at, size, n int) run {
	if at < size && !g.busy.get(at) {
		if e := g.busy.used(at, min(size, at+n)); e-at == n || e-at >= 16 {
			return run{start: uint64(at), n: uint64(e - at)}
		}
	}
	best, length := 0, 0
	for _, part := range [2][2]int{{at, size}, {0, at}} {
		for k := part[0]; k < part[1]; {
			k = g.busy.free(k, part[1])
			e := g.busy.used(k, min(part[1], k+n))
			if e-k > length {
				if best, length = k, e-k; length == n {
					return run{start: uint64(k), n: uint64(n)}
				}
			}
			k = max(e, k+1)
		}
	}
	return run{start: uint64(best), n: uint64(length)}
}

// unchoose gives chosen blocks back that were not used.
func (fs *fileSystem) unchoose(r run) {
	fs.alloc.mu.Lock()
	defer fs.alloc.mu.Unlock()
	n, k := fs.groupOf(r.start)
	fs.groups[n].busy.wipe(k, int(r.n))
	fs.alloc.chosen -= int64(r.n)
}

// use marks chosen blocks, which are in one group, as used.
func (fs *fileSystem) use(h *handle, r run) error {
	a := &fs.alloc
	a.mu.Lock()
	defer a.mu.Unlock()
	n, k := fs.groupOf(r.start)
	g, err := fs.loadBlocks(n)
	if err != nil {
		return err
	}
	m := bitmap(g.blocks.data)
	if m.used(k, k+int(r.n)) != k+int(r.n) {
		return fs.corrupt(0, r.start, "one of %d blocks is used already", r.n)
	}
	h.change(g.blocks)
	m.fill(k, int(r.n))
	g.flags &^= bgBlockUninit
	g.freeBlocks -= uint32(r.n)
	g.dirty = true
	a.free -= int64(r.n)
	a.chosen -= int64(r.n)
	h.superChanged()
	return nil
}

// newBlock allocates one block for metadata, near goal. kept is choose's.
func (fs *fileSystem) newBlock(h *handle, goal uint64, kept bool) (uint64, error) {
	r, err := fs.choose(goal, 1, kept)
	if err != nil {
		return 0, err
	}
	if err := fs.use(h, r); err != nil {
		return 0, err
	}
	return r.start, nil
}

// freeBlocks frees a file's blocks; meta says that they held metadata, of which the
// log may have versions.
func (fs *fileSystem) freeBlocks(h *handle, ino uint32, r run, meta bool) error {
	if r.start <= fs.sb.firstData || r.start >= fs.sb.blocks || r.n > fs.sb.blocks-r.start || fs.isSystem(r.start, r.n) {
		return fs.corrupt(ino, r.start, "%d blocks are to be freed, which are not a file's", r.n)
	}
	if meta {
		for k := range r.n {
			h.forget(r.start + k)
		}
	}
	a := &fs.alloc
	a.mu.Lock()
	defer a.mu.Unlock()
	for r.n > 0 {
		n, k := fs.groupOf(r.start)
		g, err := fs.loadBlocks(n)
		if err != nil {
			return err
		}
		part := run{start: r.start, n: min(r.n, fs.sb.groupBlocks(n)-uint64(k))}
		m := bitmap(g.blocks.data)
		if at := m.free(k, k+int(part.n)); at != k+int(part.n) {
			return fs.corrupt(ino, fs.sb.groupStart(n)+uint64(at), "block is freed and not in use")
		}
		h.change(g.blocks)
		m.wipe(k, int(part.n))
		g.freeBlocks += uint32(part.n)
		g.dirty = true
		a.free += int64(part.n)
		a.locked += int64(part.n)
		h.j.mu.Lock()
		h.tx.freed = append(h.tx.freed, part)
		h.tx.super = true
		h.j.mu.Unlock()
		r.start += part.n
		r.n -= part.n
	}
	return nil
}

// release makes freed blocks available, when their transaction is committed.
func (fs *fileSystem) release(freed []run) {
	a := &fs.alloc
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range freed {
		n, k := fs.groupOf(r.start)
		fs.groups[n].busy.wipe(k, int(r.n))
		a.locked -= int64(r.n)
	}
}

// putGroups writes the descriptors of groups that changed into their buffers, at a
// commit.
func (fs *fileSystem) putGroups(h *handle) error {
	a := &fs.alloc
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &fs.sb
	perBlock := uint32(s.blockSize / s.descSize)
	for n := range fs.groups {
		g := &fs.groups[n]
		if !g.dirty {
			continue
		}
		g.dirty = false
		if s.metaCsum() {
			if g.blocks != nil {
				g.bbCsum = fs.blockBitmapSum(g.blocks.data)
			}
			if g.inodes != nil {
				g.ibCsum = fs.inodeBitmapSum(g.inodes.data)
			}
		}
		b := fs.descs[uint32(n)/perBlock]
		h.change(b)
		g.encode(s, uint32(n), b.data[int(uint32(n)%perBlock)*s.descSize:][:s.descSize])
	}
	return nil
}

// putCounts brings the superblock's counts up to date, at a commit.
func (fs *fileSystem) putCounts() {
	a := &fs.alloc
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &fs.sb
	inodes := uint32(0)
	for n := range fs.groups {
		inodes += fs.groups[n].freeInodes
	}
	fs.superMu.Lock()
	defer fs.superMu.Unlock()
	le.PutUint32(s.raw[sbFreeBlocksLo:], uint32(a.free))
	if s.incompat&incompat64bit != 0 {
		le.PutUint32(s.raw[sbFreeBlocksHi:], uint32(a.free>>32))
	}
	le.PutUint32(s.raw[sbFreeInodes:], inodes)
}
