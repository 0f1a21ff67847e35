package mm

// tree holds a space's mappings by address: an AVL tree whose nodes also know the
// largest gap of free addresses in their subtree, so that a place for a new mapping
// is found in O(log n), and a list in order. Mappings do not overlap.
type tree struct {
	root        *vma
	first, last *vma
	n           int
}

// find returns the mapping that holds a, or else the first one above it; nil where
// there is none. The caller looks whether a >= start.
func (t *tree) find(a uint64) *vma {
	var best *vma
	for v := t.root; v != nil; {
		switch {
		case a >= v.end:
			v = v.right
		case a >= v.start:
			return v
		default:
			best, v = v, v.left
		}
	}
	return best
}

// at returns the mapping that holds a, or nil.
func (t *tree) at(a uint64) *vma {
	if v := t.find(a); v != nil && v.start <= a {
		return v
	}
	return nil
}

// insert adds v, whose addresses are free.
func (t *tree) insert(v *vma) {
	v.left, v.right, v.height = nil, nil, 1
	v.next = t.find(v.start)
	if v.next != nil {
		v.prev = v.next.prev
		v.next.prev = v
	} else {
		v.prev = t.last
		t.last = v
	}
	if v.prev != nil {
		v.prev.next = v
	} else {
		t.first = v
	}
	t.root = insert(t.root, v)
	t.n++
	if v.next != nil {
		t.moved(v.next)
	}
}

// remove takes v out.
func (t *tree) remove(v *vma) {
	next := v.next
	if v.prev != nil {
		v.prev.next = v.next
	} else {
		t.first = v.next
	}
	if v.next != nil {
		v.next.prev = v.prev
	} else {
		t.last = v.prev
	}
	t.root = remove(t.root, v)
	t.n--
	if next != nil {
		t.moved(next)
	}
	v.left, v.right, v.prev, v.next = nil, nil, nil, nil
}

// resize gives v new bounds that keep its place in the order.
func (t *tree) resize(v *vma, start, end uint64) {
	low, high := start != v.start, end != v.end
	v.start, v.end = start, end
	if low {
		t.moved(v)
	}
	if high && v.next != nil {
		t.moved(v.next)
	}
}

// moved brings the gaps up to date after v's bounds, its flags or its predecessor's
// end changed.
func (t *tree) moved(v *vma) { refresh(t.root, v) }

func refresh(n, v *vma) {
	if n != v {
		if v.start < n.start {
			refresh(n.left, v)
		} else {
			refresh(n.right, v)
		}
	}
	n.update()
}

// update computes what n knows of its subtree from its children.
func (n *vma) update() {
	floor := uint64(0)
	if n.prev != nil {
		floor = n.prev.end
	}
	n.gap = 0
	if g := n.guarded(); g > floor {
		n.gap = g - floor
	}
	n.maxGap, n.height = n.gap, 1
	if c := n.left; c != nil {
		n.maxGap, n.height = max(n.maxGap, c.maxGap), max(n.height, c.height+1)
	}
	if c := n.right; c != nil {
		n.maxGap, n.height = max(n.maxGap, c.maxGap), max(n.height, c.height+1)
	}
}

func height(n *vma) int32 {
	if n == nil {
		return 0
	}
	return n.height
}

func insert(n, v *vma) *vma {
	if n == nil {
		v.update()
		return v
	}
	if v.start < n.start {
		n.left = insert(n.left, v)
	} else {
		n.right = insert(n.right, v)
	}
	return balance(n)
}

func remove(n, v *vma) *vma {
	switch {
	case n == v:
		if n.left == nil {
			return n.right
		}
		if n.right == nil {
			return n.left
		}
		// The successor takes its place.
		var s *vma
		right := takeFirst(n.right, &s)
		s.left, s.right = n.left, right
		return balance(s)
	case v.start < n.start:
		n.left = remove(n.left, v)
	default:
		n.right = remove(n.right, v)
	}
	return balance(n)
}

// takeFirst takes the lowest node out of n's subtree into first.
func takeFirst(n *vma, first **vma) *vma {
	if n.left == nil {
		*first = n
		return n.right
	}
	n.left = takeFirst(n.left, first)
	return balance(n)
}

func balance(n *vma) *vma {
	switch d := height(n.left) - height(n.right); {
	case d > 1:
		if height(n.left.left) < height(n.left.right) {
			n.left = rotateLeft(n.left)
		}
		return rotateRight(n)
	case d < -1:
		if height(n.right.right) < height(n.right.left) {
			n.right = rotateRight(n.right)
		}
		return rotateLeft(n)
	}
	n.update()
	return n
}

func rotateRight(n *vma) *vma {
	l := n.left
	n.left, l.right = l.right, n
	n.update()
	l.update()
	return l
}

func rotateLeft(n *vma) *vma {
	r := n.right
	n.right, r.left = r.left, n
	n.update()
	r.update()
	return r
}

// window are the addresses that a search for free space may use.
type window struct {
	low, high uint64
	size      uint64
	align     uint64 // a power of two, at least PageSize
}

// fits returns the highest (or lowest) place in the free range [low, high).
func (w *window) fits(low, high uint64, top bool) (uint64, bool) {
	low, high = max(low, w.low), min(high, w.high)
	if high < low || high-low < w.size {
		return 0, false
	}
	if top {
		a := (high - w.size) &^ (w.align - 1)
		return a, a >= low
	}
	a := (low + w.align - 1) &^ (w.align - 1)
	return a, a <= high-w.size
}

// gapTop finds the highest free place in w.
func (t *tree) gapTop(w window) (uint64, bool) {
	end := uint64(0)
	if t.last != nil {
		end = t.last.end
	}
	if a, ok := w.fits(end, w.high, true); ok {
		return a, true
	}
	return gapTop(t.root, &w)
}

func gapTop(n *vma, w *window) (uint64, bool) {
	if n == nil || n.maxGap < w.size {
		return 0, false
	}
	if n.end < w.high {
		if a, ok := gapTop(n.right, w); ok {
			return a, true
		}
	}
	g := n.guarded()
	if a, ok := w.fits(g-n.gap, g, true); ok {
		return a, true
	}
	if n.start <= w.low {
		return 0, false
	}
	return gapTop(n.left, w)
}

// gapBottom finds the lowest free place in w.
func (t *tree) gapBottom(w window) (uint64, bool) {
	if a, ok := gapBottom(t.root, &w); ok {
		return a, true
	}
	end := uint64(0)
	if t.last != nil {
		end = t.last.end
	}
	return w.fits(end, w.high, false)
}

func gapBottom(n *vma, w *window) (uint64, bool) {
	if n == nil || n.maxGap < w.size {
		return 0, false
	}
	g := n.guarded()
	if n.start > w.low {
		if a, ok := gapBottom(n.left, w); ok {
			return a, true
		}
	}
	if a, ok := w.fits(g-n.gap, g, false); ok {
		return a, true
	}
	if n.end >= w.high {
		return 0, false
	}
	return gapBottom(n.right, w)
}

// before is the last mapping that begins below end; nil where there is none.
func (t *tree) before(end uint64) *vma {
	v := t.find(end)
	switch {
	case v == nil:
		return t.last
	case v.start < end:
		return v
	}
	return v.prev
}
