package ext4

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

// delayed is how many blocks are promised to pages of the file.
func (k *backing) delayed() int64 { return k.held.Load() }

// Reserve is cache.Backing's: it promises blocks for what of the page has none.
func (k *backing) Reserve(p *cache.Page) error {
	i := (*inode)(k)
	if err := i.fs.writable(); err != nil {
		return err
	}
	i.mu.RLock()
	inline := i.flags&flInline != 0
	i.mu.RUnlock()
	if inline {
		if err := i.fileToBlock(); err != nil {
			return err
		}
	}
	if p.Held().Load() != 0 {
		return nil
	}
	i.mu.RLock()
	need, err := i.unmapped(p.Index())
	extents := i.flags&flExtents != 0
	i.mu.RUnlock()
	if err != nil || need == 0 {
		return err
	}
	if !extents {
		return syscall.EOPNOTSUPP // no blocks are added to files with indirect ones
	}
	if err := i.fs.reserve(need); err != nil {
		return err
	}
	if !p.Held().CompareAndSwap(0, int32(need)) {
		i.fs.unreserve(need)
		return nil
	}
	i.held.Add(need)
	return nil
}

// unmapped is how many blocks of a page are holes. Caller holds i.mu.
func (i *inode) unmapped(page int64) (int64, error) {
	shift := cache.PageShift - i.fs.sb.blockShift
	b, end := uint64(page)<<shift, uint64(page+1)<<shift
	n := int64(0)
	for b < end {
		r, err := i.find(b)
		if err != nil {
			return 0, err
		}
		e := min(r.end(), end)
		if r.sort == hole {
			n += int64(e - b)
		}
		b = e
	}
	return n, nil
}

// Dropped is cache.Backing's.
func (k *backing) Dropped(p *cache.Page) { (*inode)(k).letGo(p) }

// letGo takes back what was promised to a page.
func (i *inode) letGo(p *cache.Page) {
	if n := int64(p.Held().Swap(0)); n != 0 {
		i.held.Add(-n)
		i.fs.unreserve(n)
	}
}

// Clean is cache.Backing's. Blocks that the file has are written in place. For others
// the data is written first, to blocks that nobody has yet, and then the blocks are
// entered into the file, with the size that belongs to them.
func (k *backing) Clean(first int64, pages []*cache.Page) error {
	i := (*inode)(k)
	fs := i.fs
	defer func() {
		for _, p := range pages {
			i.letGo(p)
		}
	}()
	if err := fs.writable(); err != nil {
		return syscall.EIO
	}
	shift := fs.sb.blockShift
	size := i.pages.Size()
	b := uint64(first) << (cache.PageShift - shift)
	end := b + uint64(len(pages))<<(cache.PageShift-shift)
	end = min(end, uint64(size+int64(fs.sb.blockSize)-1)>>shift)
	var room [64]Mem
	for b < end {
		i.mu.RLock()
		r, err := i.find(b)
		goal := i.goal(b)
		i.mu.RUnlock()
		if err != nil {
			return err
		}
		n := min(r.end(), end) - b
		at := r.start + b - r.first
		var got run
		if r.sort == hole {
			if got, err = fs.choose(goal, n, true); err != nil {
				return err
			}
			n, at = got.n, got.start
		}
		v := vec{mem: room[:0]}
		for k := uint64(0); k < n; {
			p, off := fs.blockAt(b+k, first, pages)
			blocks := min(uint64(cache.PageSize-off)>>shift, n-k)
			v.add(p, off, int(blocks<<shift))
			k += blocks
		}
		if err = fs.writePages(&v, at); err == nil {
			err = i.entered(b, n, at, r.sort, &got, size)
		}
		if got.n > 0 {
			fs.unchoose(got)
		}
		if err != nil {
			return err
		}
		b += n
	}
	return nil
}

// entered notes in the metadata that n blocks from file block b on were written at
// device block at, in a file of size bytes.
func (i *inode) entered(b, n, at uint64, was runSort, got *run, size int64) error {
	upTo := min(size, int64((b+n)<<i.fs.sb.blockShift))
	i.mu.RLock()
	done := was == written && i.size >= upTo
	i.mu.RUnlock()
	if done {
		return nil
	}
	h, err := i.fs.begin(2 * creditsExtent)
	if err != nil {
		return err
	}
	defer h.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	switch was {
	case hole:
		if err := i.fs.use(h, *got); err != nil {
			return err
		}
		got.n = 0 // it is the file's
		if err := i.addBlocks(h, b, n, at, false); err != nil {
			return err
		}
	case unwritten:
		if err := i.convert(h, b, b+n, at); err != nil {
			return err
		}
	}
	return i.sizeAtLeast(h, upTo)
}

// sizeAtLeast lets the size on the medium grow. The first file of 2 GiB and more has
// the superblock say that there is one. Caller holds i.mu.
func (i *inode) sizeAtLeast(h *handle, n int64) error {
	i.size = max(i.size, n)
	if s := &i.fs.sb; i.size > 1<<31-1 {
		i.fs.superMu.Lock()
		if s.roCompat&roLargeFile == 0 {
			s.roCompat |= roLargeFile
			le.PutUint32(s.raw[sbROCompat:], s.roCompat)
			h.superChanged()
		}
		i.fs.superMu.Unlock()
	}
	return h.inode(i, true)
}

// addBlocks enters n blocks at device block at as file blocks b and on.
//
// Where that fails, what was not entered is free again.
func (i *inode) addBlocks(h *handle, b, n, at uint64, asUnwritten bool) error {
	most := uint64(maxInit)
	if asUnwritten {
		most--
	}
	for n > 0 {
		k := min(n, most)
		if err := i.insertExtent(h, extent{first: uint32(b), n: uint32(k), start: at, unwritten: asUnwritten}); err != nil {
			i.fs.freeBlocks(h, i.ino, run{start: at, n: n}, false)
			return err
		}
		i.sectors += int64(k) << (i.fs.sb.blockShift - 9)
		b, at, n = b+k, at+k, n-k
	}
	return nil
}

// writeNew writes data to new blocks, as many as follow each other near goal: one
// block, where p is not longer. They are chosen and nobody's yet.
func (fs *fileSystem) writeNew(p []byte, goal uint64) (run, error) {
	r, err := fs.choose(goal, 1, false)
	if err != nil {
		return run{}, err
	}
	d := make([]byte, fs.sb.blockSize)
	copy(d, p)
	if err := fs.writeAt(d, int64(r.start)<<fs.sb.blockShift); err != nil {
		fs.unchoose(r)
		return run{}, err
	}
	return r, nil
}

// fileToBlock moves the inline data of a file into a block.
func (i *inode) fileToBlock() error {
	i.pages.HoldWriteBack()
	defer i.pages.LetWriteBack()
	i.mu.RLock()
	inline := i.flags&flInline != 0
	d := []byte(nil)
	if inline {
		d = i.inlineData()
	}
	i.mu.RUnlock()
	if !inline {
		return nil
	}
	var r run
	if len(d) > 0 {
		var err error
		if r, err = i.fs.writeNew(d, i.fs.sb.groupStart((i.ino-1)/i.fs.sb.inodesPG)); err != nil {
			return err
		}
		defer func() {
			if r.n > 0 {
				i.fs.unchoose(r)
			}
		}()
	}
	h, err := i.fs.begin(2*creditsExtent + creditsXAttr)
	if err != nil {
		return err
	}
	defer h.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.dropInline(h); err != nil {
		return err
	}
	if i.size = int64(len(d)); i.size == 0 {
		return nil
	}
	if err := i.fs.use(h, r); err != nil {
		return err
	}
	at := r.start
	r.n = 0
	return i.addBlocks(h, 0, 1, at, false)
}

// dropInline takes inline data out of an inode, which has no blocks then. Caller
// holds i.mu.
func (i *inode) dropInline(h *handle) error {
	list, err := i.inodeAttrs()
	if err != nil {
		return err
	}
	keep := list[:0]
	for _, e := range list {
		if e.index != xattrSystem || e.name != "data" {
			keep = append(keep, e)
		}
	}
	if area := i.xattrArea(); area != nil {
		putEntries(area, 0, 0, keep)
	}
	i.flags = i.flags&^flInline | flExtents
	clear(i.raw[inBlock : inBlock+blockArea])
	i.root().init(0)
	i.last.Store(nil)
	i.size = 0
	return h.inode(i, true)
}

// zeroTail makes what is behind the old end, in its page, zero on the medium too,
// before the file grows to size bytes beyond it: a mapping may have written there.
func (i *inode) zeroTail(old, size int64) error {
	if old&(cache.PageSize-1) == 0 {
		return nil
	}
	i.mu.RLock()
	r := run{sort: written}
	var err error
	if i.flags&flInline == 0 {
		r, err = i.find(uint64(old) >> i.fs.sb.blockShift)
	}
	i.mu.RUnlock()
	_, dirty := i.pages.Dirty(old>>cache.PageShift, old>>cache.PageShift+1)
	if err != nil || r.sort != written && !dirty {
		return err
	}
	return i.pages.Zero(old, min(size, (old|(cache.PageSize-1))+1)-old)
}

var _ vfs.Node = (*inode)(nil)
