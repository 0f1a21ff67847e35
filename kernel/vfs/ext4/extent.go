package ext4

import "sort"

// Extent trees, "Extent Tree": a header of 12 bytes and entries of 12 bytes in i_block
// and in whole blocks, which then end with a checksum.
const (
	extMagic  = 0xf30a
	extHeader = 12
	extEntry  = 12
	maxDepth  = 5

	maxInit = 1 << 15 // ee_len of a longer one says that it is not initialized
)

// node is one node of an extent tree, or of i_block where it has no buffer.
type node struct {
	b   []byte
	buf *buf
}

func (n node) count() int     { return int(le.Uint16(n.b[2:])) }
func (n node) max() int       { return int(le.Uint16(n.b[4:])) }
func (n node) depth() int     { return int(le.Uint16(n.b[6:])) }
func (n node) setCount(c int) { le.PutUint16(n.b[2:], uint16(c)) }
func (n node) setDepth(d int) { le.PutUint16(n.b[6:], uint16(d)) }
func (n node) at(i int) []byte {
	return n.b[extHeader+extEntry*i:][:extEntry]
}

// first is the first file block of entry i, of a leaf and of an index alike.
func (n node) first(i int) uint32 { return le.Uint32(n.at(i)) }

// child is the block that index entry i points to.
func (n node) child(i int) uint64 {
	e := n.at(i)
	return uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32
}

func (n node) setIndex(i int, first uint32, child uint64) {
	e := n.at(i)
	le.PutUint32(e, first)
	le.PutUint32(e[4:], uint32(child))
	le.PutUint16(e[8:], uint16(child>>32))
	le.PutUint16(e[10:], 0)
}

// init makes an empty node.
func (n node) init(depth int) {
	clear(n.b[:extHeader])
	le.PutUint16(n.b, extMagic)
	le.PutUint16(n.b[4:], uint16((len(n.b)-extHeader)/extEntry))
	n.setDepth(depth)
}

// search is the last entry that begins at or before block, -1 if there is none.
func (n node) search(block uint32) int {
	return sort.Search(n.count(), func(i int) bool { return n.first(i) > block }) - 1
}

// extent is one leaf entry: n file blocks from first on are at start.
type extent struct {
	first     uint32
	n         uint32
	start     uint64
	unwritten bool // allocated, reads as zeros
}

func (e extent) end() uint64 { return uint64(e.first) + uint64(e.n) }

func (n node) extent(i int) extent {
	e := n.at(i)
	x := extent{first: le.Uint32(e), n: uint32(le.Uint16(e[4:]))}
	if x.n > maxInit {
		x.n -= maxInit
		x.unwritten = true
	}
	x.start = uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32
	return x
}

func (n node) setExtent(i int, x extent) {
	e := n.at(i)
	le.PutUint32(e, x.first)
	l := x.n
	if x.unwritten {
		l += maxInit
	}
	le.PutUint16(e[4:], uint16(l))
	le.PutUint16(e[6:], uint16(x.start>>32))
	le.PutUint32(e[8:], uint32(x.start))
}

// checkExtentNode says what is wrong with a node by itself.
func checkExtentNode(b []byte) string {
	n := node{b: b}
	switch {
	case le.Uint16(b) != extMagic:
		return "extent node has a wrong magic number"
	case n.max() > (len(b)-extHeader)/extEntry || n.count() > n.max() || n.max() == 0:
		return "extent node has more entries than there is room for"
	case n.depth() > maxDepth:
		return "extent tree is too deep"
	}
	end := uint64(0)
	for i := range n.count() {
		f := uint64(n.first(i))
		if i > 0 && f < end {
			return "entries of an extent node overlap"
		}
		end = f + 1
		if n.depth() == 0 {
			x := n.extent(i)
			if x.n == 0 {
				return "extent of no blocks"
			}
			if end = x.end(); end > 1<<32 {
				return "extent ends beyond the last possible block"
			}
		}
	}
	return ""
}

// extentSum is where an extent block's checksum is, and what it should be.
func extentSum(b *buf) (at int, sum uint32) {
	at = extHeader + extEntry*node{b: b.data}.max()
	return at, crc32c(b.seed, b.data[:min(at, len(b.data))])
}

// root is the node in i_block.
func (i *inode) root() node { return node{b: i.raw[inBlock : inBlock+blockArea]} }

// down reads the node that entry k of n points to.
func (i *inode) down(n node, k int) (node, error) {
	no := n.child(k)
	b, err := i.fs.read(no, kindExtent, i.seed)
	if err != nil {
		return node{}, err
	}
	kid := node{b.data, b}
	if kid.depth() != n.depth()-1 {
		return node{}, i.fs.corrupt(i.ino, no, "extent node of depth %d below one of depth %d", kid.depth(), n.depth())
	}
	if kid.count() == 0 || kid.first(0) < n.first(k) {
		return node{}, i.fs.corrupt(i.ino, no, "extent node does not begin where its parent says, block %d", n.first(k))
	}
	return kid, nil
}

// run is a piece of a file that is all of one sort.
type run struct {
	first uint64
	n     uint64
	start uint64 // where it is on the device
	sort  runSort
}

type runSort uint8

const (
	hole runSort = iota
	written
	unwritten
)

func (r *run) end() uint64 { return r.first + r.n }

// endOfFile is one beyond the last file block that can be.
const endOfFile = 1<<32 - 1

// find returns the run with file block b in it. Caller holds i.mu.
func (i *inode) find(b uint64) (run, error) {
	if r := i.last.Load(); r != nil && b >= r.first && b < r.end() {
		return *r, nil
	}
	if b >= endOfFile {
		return run{first: b, n: 1<<62 - b}, nil
	}
	var r run
	var err error
	if i.flags&flExtents != 0 {
		r, err = i.findExtent(uint32(b))
	} else {
		r, err = i.findIndirect(b)
	}
	if err != nil {
		return run{}, err
	}
	if r.sort != hole {
		if r.start <= i.fs.sb.firstData || r.start >= i.fs.sb.blocks || r.n > i.fs.sb.blocks-r.start {
			return run{}, i.fs.corrupt(i.ino, r.start, "%d blocks from there on, of %d", r.n, i.fs.sb.blocks)
		}
	}
	i.last.Store(&r)
	return r, nil
}

func (i *inode) findExtent(b uint32) (run, error) {
	n := i.root()
	next := uint64(endOfFile) // where the entry after those looked at begins
	before := uint64(0)
	for {
		k := n.search(b)
		if k+1 < n.count() {
			next = uint64(n.first(k + 1))
		}
		if k < 0 {
			return run{first: before, n: next - before}, nil
		}
		if n.depth() == 0 {
			x := n.extent(k)
			if uint64(b) < x.end() {
				s := written
				if x.unwritten {
					s = unwritten
				}
				return run{uint64(x.first), uint64(x.n), x.start, s}, nil
			}
			return run{first: x.end(), n: max(next, uint64(b)+1) - x.end()}, nil
		}
		// A hole at the start of the subtree begins somewhere in the one before.
		before = uint64(n.first(k))
		var err error
		if n, err = i.down(n, k); err != nil {
			return run{}, err
		}
	}
}
