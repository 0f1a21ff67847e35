package ext4

// removal takes a range of blocks out of an extent tree, from its end to its start.
type removal struct {
	i        *inode
	h        *handle
	from, to uint64
	free     bool // the blocks are freed, and not only taken out
	rest     *extent
	stop     bool // the transaction is full: go on in the next one
}

// removeExtents takes the blocks [from, to) out. It returns false where the
// transaction is full; the caller begins another handle then and calls again. Caller
// holds i.mu.
func (i *inode) removeExtents(h *handle, from, to uint64, free bool) (bool, error) {
	r := removal{i: i, h: h, from: from, to: to, free: free}
	root := i.root()
	err := r.below(root)
	i.last.Store(nil)
	if err != nil {
		return false, err
	}
	if r.rest != nil {
		if err := i.insertExtent(h, *r.rest); err != nil {
			return false, err
		}
	}
	if root.count() == 0 && root.depth() > 0 {
		root.init(0)
	}
	return !r.stop, i.pullUp(h)
}

func (r *removal) below(n node) error {
	for k := n.count() - 1; k >= 0 && !r.stop; k-- {
		if uint64(n.first(k)) >= r.to {
			continue
		}
		if n.depth() == 0 {
			x := n.extent(k)
			if x.end() <= r.from {
				return nil
			}
			if err := r.cut(n, k, x); err != nil {
				return err
			}
			continue
		}
		if k+1 < n.count() && uint64(n.first(k+1)) <= r.from {
			return nil
		}
		kid, err := r.i.down(n, k)
		if err != nil {
			return err
		}
		if err := r.below(kid); err != nil {
			return err
		}
		switch {
		case kid.count() == 0:
			if err := r.i.changed(r.h, n); err != nil {
				return err
			}
			if err := r.i.freeNode(r.h, n.child(k)); err != nil {
				return err
			}
			n.remove(k)
		case kid.first(0) != n.first(k):
			if err := r.i.changed(r.h, n); err != nil {
				return err
			}
			n.setIndex(k, kid.first(0), n.child(k))
		}
	}
	return nil
}

// cut takes the range out of one extent.
func (r *removal) cut(n node, k int, x extent) error {
	if r.free && !r.h.room(creditsExtent) {
		r.stop = true
		return nil
	}
	lo, hi := max(uint64(x.first), r.from), min(x.end(), r.to)
	if err := r.i.changed(r.h, n); err != nil {
		return err
	}
	if r.free {
		if err := r.i.fs.freeBlocks(r.h, r.i.ino, run{start: x.start + lo - uint64(x.first), n: hi - lo}, r.i.typ == dirType); err != nil {
			return err
		}
		r.i.sectors -= int64(hi-lo) << (r.i.fs.sb.blockShift - 9)
		if err := r.h.inode(r.i, true); err != nil {
			return err
		}
	}
	left, right := x, x
	left.n = uint32(lo - uint64(x.first))
	right.first, right.n, right.start = uint32(hi), uint32(x.end()-hi), x.start+hi-uint64(x.first)
	switch {
	case left.n > 0 && right.n > 0:
		n.setExtent(k, left)
		r.rest = &right
	case left.n > 0:
		n.setExtent(k, left)
	case right.n > 0:
		n.setExtent(k, right)
	default:
		n.remove(k)
	}
	return nil
}

// freeNode frees a node's block.
func (i *inode) freeNode(h *handle, no uint64) error {
	if err := i.fs.freeBlocks(h, i.ino, run{start: no, n: 1}, true); err != nil {
		return err
	}
	i.sectors -= int64(i.fs.sb.blockSize / 512)
	return h.inode(i, true)
}

// pullUp moves a root's only child into the root, if it fits.
func (i *inode) pullUp(h *handle) error {
	r := i.root()
	for r.depth() > 0 && r.count() == 1 {
		no := r.child(0)
		kid, err := i.down(r, 0)
		if err != nil {
			return err
		}
		if kid.count() > r.max() {
			return nil
		}
		depth, n := kid.depth(), kid.count()
		area := append([]byte(nil), kid.b[extHeader:extHeader+extEntry*n]...)
		if err := i.freeNode(h, no); err != nil {
			return err
		}
		clear(r.b)
		r.init(depth)
		copy(r.b[extHeader:], area)
		r.setCount(n)
		i.last.Store(nil)
	}
	return nil
}

// convert makes the unwritten blocks [from, to), which are one run at start, written.
func (i *inode) convert(h *handle, from, to, start uint64) error {
	if _, err := i.removeExtents(h, from, to, false); err != nil {
		return err
	}
	return i.insertExtent(h, extent{first: uint32(from), n: uint32(to - from), start: start})
}
