package cache

import "sync/atomic"

// tree finds a file's pages by index: a radix tree of 64-fold nodes. Lookups take no
// lock, since a node once reachable stays valid; changes are made under File.mu.
// Nodes are not taken out while the file lives: an emptied leaf costs 600 bytes for
// 256 KiB of file, and goes with the tree's last page (File.forget).
type tree struct {
	root atomic.Pointer[node]
	n    int // pages
}

const (
	nodeShift = 6
	fanout    = 1 << nodeShift
)

// node covers fanout<<shift pages; shift 0 is a leaf.
type node struct {
	shift uint
	first int64 // index of the first page that it covers
	kids  []atomic.Pointer[node]
	pages []atomic.Pointer[Page]
	dirty uint64 // leaf: which pages are dirty
}

func newNode(shift uint, index int64) *node {
	n := &node{shift: shift, first: index &^ (1<<(shift+nodeShift) - 1)}
	if shift == 0 {
		n.pages = make([]atomic.Pointer[Page], fanout)
	} else {
		n.kids = make([]atomic.Pointer[node], fanout)
	}
	return n
}

func (n *node) covers(index int64) bool {
	return index >= n.first && index>>(n.shift+nodeShift) == n.first>>(n.shift+nodeShift)
}

func (n *node) slot(index int64) int { return int(index>>n.shift) & (fanout - 1) }

// get returns the page at index without a reference, or nil.
func (t *tree) get(index int64) *Page {
	if n := t.leaf(index); n != nil {
		return n.pages[n.slot(index)].Load()
	}
	return nil
}

// leaf returns the leaf that covers index, or nil.
func (t *tree) leaf(index int64) *node {
	n := t.root.Load()
	if n == nil || !n.covers(index) {
		return nil
	}
	for n != nil && n.shift > 0 {
		n = n.kids[n.slot(index)].Load()
	}
	return n
}

// grow returns the leaf that covers index, made if need be.
func (t *tree) grow(index int64) *node {
	n := t.root.Load()
	if n == nil {
		n = newNode(0, index)
		t.root.Store(n)
	}
	for !n.covers(index) {
		up := newNode(n.shift+nodeShift, n.first)
		up.kids[up.slot(n.first)].Store(n)
		t.root.Store(up)
		n = up
	}
	for n.shift > 0 {
		kid := &n.kids[n.slot(index)]
		next := kid.Load()
		if next == nil {
			next = newNode(n.shift-nodeShift, index)
			kid.Store(next)
		}
		n = next
	}
	return n
}

// leaves calls f for each leaf that has pages in [first, end), in order, until it
// returns false.
func (t *tree) leaves(first, end int64, f func(*node) bool) {
	if n := t.root.Load(); n != nil {
		n.leaves(first, end, f)
	}
}

func (n *node) leaves(first, end int64, f func(*node) bool) bool {
	last := n.first + fanout<<n.shift // one beyond
	if first >= last || end <= n.first {
		return true
	}
	if n.shift == 0 {
		return f(n)
	}
	i := 0
	if first > n.first {
		i = n.slot(first)
	}
	for ; i < fanout; i++ {
		if n.first+int64(i)<<n.shift >= end {
			break
		}
		if kid := n.kids[i].Load(); kid != nil && !kid.leaves(first, end, f) {
			return false
		}
	}
	return true
}
