package ext4

import "syscall"

// upEntry is an index entry that a split hands to the node above.
type upEntry struct {
	first uint32
	child uint64
}

// changed enters a node into the transaction.
func (i *inode) changed(h *handle, n node) error {
	i.last.Store(nil)
	if n.buf != nil {
		h.change(n.buf)
		return nil
	}
	return h.inode(i, true)
}

// insertExtent adds x, which overlaps no extent that there is. Caller holds i.mu.
func (i *inode) insertExtent(h *handle, x extent) error {
	_, err := i.insertInto(h, i.root(), x)
	i.last.Store(nil)
	return err
}

// insertInto adds x below n, and returns the entry for the node above where n was
// split. The root is not split, but moved down into a node of its own.
func (i *inode) insertInto(h *handle, n node, x extent) (*upEntry, error) {
	k := n.search(x.first)
	if n.depth() == 0 {
		return i.insertLeaf(h, n, k, x)
	}
	k = max(k, 0)
	kid, err := i.down(n, k)
	if err != nil {
		return nil, err
	}
	up, err := i.insertInto(h, kid, x)
	if err != nil {
		return nil, err
	}
	if kid.first(0) != n.first(k) {
		if err := i.changed(h, n); err != nil {
			return nil, err
		}
		n.setIndex(k, kid.first(0), n.child(k))
	}
	if up == nil {
		return nil, nil
	}
	var e [extEntry]byte
	t := node{b: append(make([]byte, extHeader), e[:]...)}
	t.setIndex(0, up.first, up.child)
	return i.insertEntry(h, n, k+1, t.at(0))
}

// insertLeaf adds x behind entry k of a leaf, joined with its neighbours if it can be.
func (i *inode) insertLeaf(h *handle, n node, k int, x extent) (*upEntry, error) {
	joins := func(a, b extent) bool {
		most := uint32(maxInit)
		if a.unwritten {
			most--
		}
		return a.unwritten == b.unwritten && a.end() == uint64(b.first) && a.start+uint64(a.n) == b.start && a.n+b.n <= most
	}
	if k >= 0 {
		if l := n.extent(k); l.end() > uint64(x.first) {
			return nil, i.fs.corrupt(i.ino, 0, "extent for block %d is there already", x.first)
		} else if joins(l, x) {
			if err := i.changed(h, n); err != nil {
				return nil, err
			}
			l.n += x.n
			n.setExtent(k, l)
			if k+1 < n.count() {
				if r := n.extent(k + 1); joins(l, r) {
					l.n += r.n
					n.setExtent(k, l)
					n.remove(k + 1)
				}
			}
			return nil, nil
		}
	}
	if k+1 < n.count() {
		if r := n.extent(k + 1); joins(x, r) {
			if err := i.changed(h, n); err != nil {
				return nil, err
			}
			x.n += r.n
			n.setExtent(k+1, x)
			return nil, nil
		}
	}
	t := node{b: make([]byte, extHeader+extEntry)}
	t.setExtent(0, x)
	return i.insertEntry(h, n, k+1, t.at(0))
}

// remove takes entry k out.
func (n node) remove(k int) {
	c := n.count()
	copy(n.b[extHeader+extEntry*k:], n.b[extHeader+extEntry*(k+1):extHeader+extEntry*c])
	clear(n.at(c - 1))
	n.setCount(c - 1)
}

// insert puts entry e at place k of a node with room.
func (n node) insert(k int, e []byte) {
	c := n.count()
	copy(n.b[extHeader+extEntry*(k+1):], n.b[extHeader+extEntry*k:extHeader+extEntry*c])
	copy(n.at(k), e)
	n.setCount(c + 1)
}

// insertEntry puts entry e at place k of n, which is split or moved down where it is
// full.
func (i *inode) insertEntry(h *handle, n node, k int, e []byte) (*upEntry, error) {
	if n.count() == n.max() && n.buf == nil {
		var err error
		if n, err = i.grow(h); err != nil {
			return nil, err
		}
		defer func() {
			r := i.root()
			r.setIndex(0, n.first(0), r.child(0))
		}()
	}
	if n.count() < n.max() {
		if err := i.changed(h, n); err != nil {
			return nil, err
		}
		n.insert(k, e)
		return nil, nil
	}
	m, no, err := i.newNode(h, n.depth())
	if err != nil {
		return nil, err
	}
	h.change(n.buf)
	// A file that grows at its end leaves full nodes behind; else both get half.
	half := n.count()
	if k < half {
		half /= 2
	}
	for c := n.count(); c > half; c-- {
		m.insert(0, n.at(c-1))
		n.remove(c - 1)
	}
	if k > half || k == half && m.count() == 0 {
		m.insert(k-half, e)
	} else {
		n.insert(k, e)
	}
	return &upEntry{m.first(0), no}, nil
}

// newNode allocates a block for a node.
func (i *inode) newNode(h *handle, depth int) (node, uint64, error) {
	no, err := i.fs.newBlock(h, i.goal(0), true)
	if err != nil {
		return node{}, 0, err
	}
	b := i.fs.fresh(no, kindExtent, i.seed)
	h.change(b)
	i.sectors += int64(i.fs.sb.blockSize / 512)
	m := node{b.data, b}
	m.init(depth)
	return m, no, h.inode(i, true)
}

// grow moves the root's entries into a node of their own, which it returns.
func (i *inode) grow(h *handle) (node, error) {
	r := i.root()
	if r.depth() >= maxDepth {
		return node{}, syscall.EFBIG
	}
	m, no, err := i.newNode(h, r.depth())
	if err != nil {
		return node{}, err
	}
	n := r.count()
	copy(m.b[extHeader:], r.b[extHeader:extHeader+extEntry*n])
	m.setCount(n)
	depth := r.depth()
	first := r.first(0)
	clear(r.b)
	r.init(depth + 1)
	r.setCount(1)
	r.setIndex(0, first, no)
	return m, nil
}

// goal is where file block b should go: behind the block before it, else into the
// inode's group.
func (i *inode) goal(b uint64) uint64 {
	if b > 0 {
		if r, err := i.find(b - 1); err == nil && r.sort != hole {
			return r.start + b - r.first
		}
	}
	return i.fs.sb.groupStart((i.ino - 1) / i.fs.sb.inodesPG)
}
