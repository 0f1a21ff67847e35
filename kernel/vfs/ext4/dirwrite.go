package ext4

import (
	"slices"
	"syscall"

	"osv/kernel/vfs"
)

const dirType = vfs.TypeDir

// dirArea is the part of a block that records fill.
func (fs *fileSystem) dirArea(d []byte) []byte {
	if fs.sb.metaCsum() {
		return d[:len(d)-dirTailSize]
	}
	return d
}

// emptyDirBlock makes a block one free record.
func (fs *fileSystem) emptyDirBlock(d []byte) {
	clear(d)
	a := fs.dirArea(d)
	putDirent(d, 0, len(a), 0, 0, "")
	if len(a) < len(d) {
		t := d[len(a):]
		le.PutUint16(t[4:], dirTailSize)
		t[7] = dirTailType
	}
}

// appendDirBlock gives a directory another block. Caller holds i.mu.
func (i *inode) appendDirBlock(h *handle) (*buf, uint64, error) {
	n := i.dirBlocks()
	no, err := i.fs.newBlock(h, i.goal(n), false)
	if err != nil {
		return nil, 0, err
	}
	if err := i.insertExtent(h, extent{first: uint32(n), n: 1, start: no}); err != nil {
		i.fs.freeBlocks(h, i.ino, run{start: no, n: 1}, false)
		return nil, 0, err
	}
	b := i.fs.fresh(no, kindDir, i.seed)
	h.change(b)
	i.size += int64(i.fs.sb.blockSize)
	i.sectors += int64(i.fs.sb.blockSize / 512)
	return b, n, h.inode(i, true)
}

// putIn puts an entry into a block, if it has room.
func (i *inode) putIn(h *handle, b *buf, name string, ino uint32, ft uint8) (bool, error) {
	d := i.fs.dirArea(b.data)
	need := recLen(len(name))
	var e dirent
	for off := 0; off < len(d); off += e.rec {
		var ok bool
		if e, ok = direntAt(d, off); !ok {
			return false, i.badDir(b.no, off)
		}
		used := 0
		if e.ino != 0 {
			used = recLen(len(e.name))
		}
		if e.rec-used < need {
			continue
		}
		h.change(b)
		if used > 0 {
			le.PutUint16(d[off+4:], uint16(used))
		}
		putDirent(d, off+used, e.rec-used, ino, ft, name)
		return true, nil
	}
	return false, nil
}

// enter adds a name to a directory that does not have it. Caller holds i.mu.
func (i *inode) enter(h *handle, name string, ino uint32, t vfs.Type) error {
	ft := ftype(t)
	if i.flags&flInline != 0 {
		if err := i.dirToBlock(h); err != nil {
			return err
		}
	}
	if i.flags&flExtents == 0 {
		return syscall.EOPNOTSUPP
	}
	if i.flags&flIndex != 0 {
		err := i.enterHashed(h, name, ino, ft)
		if err != errBadIndex {
			return err
		}
		i.flags &^= flIndex
		if err := h.inode(i, true); err != nil {
			return err
		}
	}
	blocks := i.dirBlocks()
	for n := range blocks {
		b, err := i.dirBlock(n)
		if err != nil {
			return err
		}
		if ok, err := i.putIn(h, b, name, ino, ft); ok || err != nil {
			return err
		}
	}
	if blocks == 1 && i.fs.sb.compat&compatDirIndex != 0 {
		if ok, err := i.makeIndex(h); err != nil {
			return err
		} else if ok {
			return i.enterHashed(h, name, ino, ft)
		}
	}
	b, _, err := i.appendDirBlock(h)
	if err != nil {
		return err
	}
	i.fs.emptyDirBlock(b.data)
	_, err = i.putIn(h, b, name, ino, ft)
	return err
}

// leave takes the entry at p out.
func (i *inode) leave(h *handle, p place, name string) error {
	if p.buf == nil {
		if err := i.dirToBlock(h); err != nil {
			return err
		}
		var err error
		if p, err = i.lookup(name); err != nil {
			return err
		}
	}
	h.change(p.buf)
	d := p.data
	last := -1
	var e dirent
	for off := 0; off < p.off; off += e.rec {
		var ok bool
		if e, ok = direntAt(d, off); !ok {
			return i.badDir(p.buf.no, off)
		}
		last = off
	}
	if last >= 0 {
		le.PutUint16(d[last+4:], uint16(e.rec+p.rec))
		clear(d[p.off : p.off+recLen(len(p.name))])
		return nil
	}
	le.PutUint32(d[p.off:], 0)
	return nil
}

// point makes the entry at p refer to another inode.
func (i *inode) point(h *handle, p place, name string, ino uint32, t vfs.Type) error {
	if p.buf == nil {
		if err := i.dirToBlock(h); err != nil {
			return err
		}
		var err error
		if p, err = i.lookup(name); err != nil {
			return err
		}
	}
	h.change(p.buf)
	le.PutUint32(p.data[p.off:], ino)
	p.data[p.off+7] = ftype(t)
	return nil
}

// dirToBlock moves a directory with inline data into a block.
func (i *inode) dirToBlock(h *handle) error {
	parent := le.Uint32(i.raw[inBlock:])
	type item struct {
		ino  uint32
		ft   uint8
		name string
	}
	var items []item
	for _, d := range i.inlineDirParts() {
		var e dirent
		for off := 0; off < len(d); off += e.rec {
			var ok bool
			if e, ok = direntAt(d, off); !ok {
				return i.badDir(0, off)
			}
			if e.ino != 0 {
				items = append(items, item{e.ino, e.typ, string(e.name)})
			}
		}
	}
	if err := i.dropInline(h); err != nil {
		return err
	}
	b, err := i.initDir(h, parent)
	if err != nil {
		return err
	}
	for _, it := range items {
		if ok, err := i.putIn(h, b, it.name, it.ino, it.ft); err != nil {
			return err
		} else if !ok {
			return i.fs.corrupt(i.ino, 0, "inline directory does not fit into a block")
		}
	}
	return nil
}

// initDir gives a new directory its first block.
func (i *inode) initDir(h *handle, parent uint32) (*buf, error) {
	b, _, err := i.appendDirBlock(h)
	if err != nil {
		return nil, err
	}
	i.fs.emptyDirBlock(b.data)
	d := i.fs.dirArea(b.data)
	putDirent(d, 0, 12, i.ino, ftype(dirType), ".")
	putDirent(d, 12, len(d)-12, parent, ftype(dirType), "..")
	return b, nil
}

// isEmpty says whether a directory has no names.
func (i *inode) isEmpty() (bool, error) {
	check := func(d []byte, block uint64) (bool, error) {
		var e dirent
		for off := 0; off < len(d); off += e.rec {
			var ok bool
			if e, ok = direntAt(d, off); !ok {
				return false, i.badDir(block, off)
			}
			if e.isName() {
				return false, nil
			}
		}
		return true, nil
	}
	if i.flags&flInline != 0 {
		for _, d := range i.inlineDirParts() {
			if ok, err := check(d, 0); !ok {
				return false, err
			}
		}
		return true, nil
	}
	for n := range i.dirBlocks() {
		b, err := i.dirBlock(n)
		if err != nil {
			return false, err
		}
		if ok, err := check(b.data, b.no); !ok {
			return false, err
		}
	}
	return true, nil
}

// makeIndex turns a directory of one block into one with an index: its entries move
// to a second block. false: the block's start is not as it should be.
func (i *inode) makeIndex(h *handle) (bool, error) {
	b, err := i.dirBlock(0)
	if err != nil {
		return false, err
	}
	d := b.data
	dot, ok := direntAt(d, 0)
	if !ok || string(dot.name) != "." || dot.rec != 12 {
		return false, nil
	}
	up, ok := direntAt(d, 12)
	if !ok || string(up.name) != ".." {
		return false, nil
	}
	m, no, err := i.appendDirBlock(h)
	if err != nil {
		return false, err
	}
	i.fs.emptyDirBlock(m.data)
	var list []moved
	if list, err = i.gather(list, b, 12+up.rec, i.hashVersion()); err != nil {
		return false, err
	}
	i.fs.pack(m.data, list)
	h.change(b)
	clear(d[12+recLen(2):])
	le.PutUint16(d[16:], uint16(len(d)-12))
	d[dxInfo+4] = i.fs.sb.hashVersion
	d[dxInfo+5] = 8
	x := dxNode{buf: b, off: dxRootOffset}
	le.PutUint16(x.d(), uint16(i.dxLimit(dxRootOffset)))
	x.setCount(1)
	x.set(0, 0, no)
	i.flags |= flIndex
	return true, h.inode(i, true)
}

// moved is an entry on its way to another block.
type moved struct {
	dirHash
	ino  uint32
	ft   uint8
	name string
}

func (m *moved) size() int { return recLen(len(m.name)) }

// gather appends the entries of a block from byte off on.
func (i *inode) gather(list []moved, b *buf, off int, version uint8) ([]moved, error) {
	var e dirent
	for d := i.fs.dirArea(b.data); off < len(d); off += e.rec {
		var ok bool
		if e, ok = direntAt(d, off); !ok {
			return nil, i.badDir(b.no, off)
		}
		if e.ino != 0 {
			h, _ := hashName(version, &i.fs.sb.hashSeed, e.name)
			list = append(list, moved{h, e.ino, e.typ, string(e.name)})
		}
	}
	return list, nil
}

// pack fills a block with entries, which fit.
func (fs *fileSystem) pack(d []byte, list []moved) {
	fs.emptyDirBlock(d)
	a := fs.dirArea(d)
	off := 0
	for k := range list {
		rec := list[k].size()
		if k == len(list)-1 {
			rec = len(a) - off
		}
		putDirent(a, off, rec, list[k].ino, list[k].ft, list[k].name)
		off += rec
	}
}

// enterHashed adds a name to a directory with an index.
func (i *inode) enterHashed(h *handle, name string, ino uint32, ft uint8) error {
	for range 4 {
		var p dxPath
		if err := i.dxRoot(&p); err != nil {
			return err
		}
		hash, _ := hashName(p.version, &i.fs.sb.hashSeed, []byte(name))
		if err := i.descend(&p, hash.major); err != nil {
			return err
		}
		b, err := i.dirBlock(p.leaf())
		if err != nil {
			return err
		}
		if ok, err := i.putIn(h, b, name, ino, ft); ok || err != nil {
			return err
		}
		if again, err := i.makeRoom(h, &p); err != nil {
			return err
		} else if again {
			continue
		}
		if err := i.splitLeaf(h, &p, b); err != nil {
			return err
		}
	}
	return syscall.ENOSPC // names with one hash fill a block
}

// makeRoom makes room for one entry in the last node of the path. It returns true
// where the path is another one now.
func (i *inode) makeRoom(h *handle, p *dxPath) (bool, error) {
	n := &p.nodes[len(p.nodes)-1]
	if n.count() < n.limit() {
		return false, nil
	}
	root := &p.nodes[0]
	if len(p.nodes) > 1 && root.count() == root.limit() {
		return false, syscall.ENOSPC // the index is full, without large_dir
	}
	b, no, err := i.appendDirBlock(h)
	if err != nil {
		return false, err
	}
	clear(b.data)
	le.PutUint16(b.data[4:], uint16(len(b.data)))
	m := dxNode{buf: b, off: dxNodeOffset}
	le.PutUint16(m.d(), uint16(i.dxLimit(dxNodeOffset)))
	h.change(root.buf)
	if len(p.nodes) == 1 {
		// Another level: the root's entries move down.
		c := root.count()
		for k := range c {
			m.set(k, root.hash(k), root.block(k))
		}
		m.setCount(c)
		root.setCount(1)
		root.set(0, 0, no)
		root.buf.data[dxInfo+6] = 1
		return true, nil
	}
	h.change(n.buf)
	c, half := n.count(), n.count()/2
	for k := half; k < c; k++ {
		m.set(k-half, n.hash(k), n.block(k))
	}
	m.setCount(c - half)
	first := n.hash(half)
	n.setCount(half)
	root.insert(root.at+1, first, no)
	return true, nil
}

// insert puts an entry at place k of an index node with room.
func (x *dxNode) insert(k int, hash uint32, block uint64) {
	d, c := x.d(), x.count()
	copy(d[8*(k+1):8*(c+1)], d[8*k:8*c])
	x.set(k, hash, block)
	x.setCount(c + 1)
}

// splitLeaf moves the upper half of a leaf's entries into a new block.
func (i *inode) splitLeaf(h *handle, p *dxPath, b *buf) error {
	list, err := i.gather(nil, b, 0, p.version)
	if err != nil {
		return err
	}
	if len(list) < 2 {
		return errBadIndex
	}
	slices.SortFunc(list, func(a, b moved) int {
		switch {
		case a.major < b.major:
			return -1
		case a.major > b.major:
			return 1
		}
		return int(int64(a.minor) - int64(b.minor))
	})
	size, k := 0, len(list)
	for k > 1 && size+list[k-1].size() <= len(b.data)/2 {
		k--
		size += list[k].size()
	}
	if k == len(list) {
		k--
	}
	m, no, err := i.appendDirBlock(h)
	if err != nil {
		return err
	}
	h.change(b)
	first := list[k].major
	if list[k-1].major == first {
		first |= 1 // names with this hash are in the block before, too
	}
	i.fs.pack(m.data, list[k:])
	i.fs.pack(b.data, list[:k])
	n := &p.nodes[len(p.nodes)-1]
	h.change(n.buf)
	n.insert(n.at+1, first, no)
	return nil
}
