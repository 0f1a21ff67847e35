package ext4

// Files with direct and indirect blocks, "Direct/Indirect Block Addressing": read and
// freed. New files have extents.

const directBlocks = 12

// findIndirect returns the run with block b: as many blocks as follow each other in
// one block of pointers.
func (i *inode) findIndirect(b uint64) (run, error) {
	per := uint64(i.fs.sb.blockSize / 4)
	area := i.raw[inBlock : inBlock+blockArea]
	if b < directBlocks {
		return pointerRun(area[:4*directBlocks], 0, b), nil
	}
	first, span := uint64(directBlocks), uint64(1) // of one pointer of the level
	for level := range 3 {
		size := span * per
		if b >= first+size {
			first += size
			span = size
			continue
		}
		at := uint64(le.Uint32(area[4*(directBlocks+level):]))
		for ; ; span /= per {
			if at == 0 {
				return run{first: first, n: size}, nil
			}
			buf, err := i.fs.read(at, kindPlain, 0)
			if err != nil {
				return run{}, err
			}
			if span == 1 {
				return pointerRun(buf.data, first, b), nil
			}
			k := (b - first) / span
			first += k * span
			size = span
			at = uint64(le.Uint32(buf.data[4*k:]))
		}
	}
	return run{first: first, n: endOfFile - first}, nil
}

// pointerRun returns the run with block b in a list of pointers whose first is file
// block first.
func pointerRun(p []byte, first, b uint64) run {
	at := func(k uint64) uint64 { return uint64(le.Uint32(p[4*k:])) }
	k := b - first
	r := run{first: b, n: 1, start: at(k)}
	if r.start != 0 {
		r.sort = written
	}
	for k++; k < uint64(len(p)/4); k++ {
		next := at(k)
		if r.sort == hole && next != 0 || r.sort == written && next != r.start+r.n {
			break
		}
		r.n++
	}
	return r
}

// freeIndirect frees the blocks of such a file from file block from on, as far as the
// transaction has room; false says that there is more.
func (i *inode) freeIndirect(h *handle, from uint64) (bool, error) {
	f := indirectFree{i, h, from}
	per := uint64(i.fs.sb.blockSize / 4)
	area := i.raw[inBlock : inBlock+blockArea]
	first, span := [4]uint64{0, directBlocks}, per
	for level := 2; level < 4; level++ {
		first[level] = first[level-1] + span
		span *= per
	}
	i.last.Store(nil)
	for level := 3; level >= 1; level-- {
		slot := area[4*(directBlocks+level-1):][:4]
		if more, err := f.free(slot, level, first[level]); more || err != nil {
			return false, err
		}
	}
	for k := directBlocks - 1; k >= 0; k-- {
		if more, err := f.free(area[4*k:][:4], 0, uint64(k)); more || err != nil {
			return false, err
		}
	}
	return true, h.inode(i, true)
}

type indirectFree struct {
	i    *inode
	h    *handle
	from uint64
}

// free frees what the pointer in slot refers to, a tree of some levels whose first
// file block is first.
func (f *indirectFree) free(slot []byte, level int, first uint64) (more bool, err error) {
	no := uint64(le.Uint32(slot))
	per := uint64(f.i.fs.sb.blockSize / 4)
	size := uint64(1)
	for range level {
		size *= per
	}
	if no == 0 || first+size <= f.from {
		return false, nil
	}
	if !f.h.room(creditsInode + 4) {
		return true, nil
	}
	if level > 0 {
		b, err := f.i.fs.read(no, kindPlain, 0)
		if err != nil {
			return false, err
		}
		f.h.change(b)
		for k := int(per) - 1; k >= 0; k-- {
			if more, err := f.free(b.data[4*k:][:4], level-1, first+uint64(k)*size/per); more || err != nil {
				return more, err
			}
		}
		if first < f.from {
			return false, nil
		}
	}
	if err := f.i.fs.freeBlocks(f.h, f.i.ino, run{start: no, n: 1}, level > 0 || f.i.typ == dirType); err != nil {
		return false, err
	}
	le.PutUint32(slot, 0)
	f.i.sectors -= int64(f.i.fs.sb.blockSize / 512)
	return false, f.h.inode(f.i, true)
}
