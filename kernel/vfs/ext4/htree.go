package ext4

import (
	"errors"
	"slices"
	"sort"
	"syscall"
)

// The index of a directory, "Hash Tree Directories": block 0 is its root, behind the
// entries "." and "..", which make it look like a block of entries.
const (
	dxRootOffset = 32 // of limit and count, in block 0
	dxNodeOffset = 8  // and in other blocks of the index
	dxInfo       = 24 // dx_root_info
	dxMaxLevels  = 2  // of index blocks, without large_dir
)

// errBadIndex says that a directory's index is of no use: it is read as if it had
// none, which is what the format is made for.
var errBadIndex = errors.New("index of no use")

// dxOffset is where the entries of an index node begin, 0 where the block is not one.
func dxOffset(d []byte) int {
	switch rec := int(le.Uint16(d[4:])); {
	case rec == len(d) && le.Uint32(d) == 0:
		return dxNodeOffset
	case rec == 12 && int(le.Uint16(d[16:])) == len(d)-12 && le.Uint32(d[dxInfo:]) == 0 && d[dxInfo+5] == 8:
		return dxRootOffset
	}
	return 0
}

// dxNode is one block of an index and the place in it that a search took.
type dxNode struct {
	buf *buf
	off int
	at  int
}

func (x *dxNode) d() []byte          { return x.buf.data[x.off:] }
func (x *dxNode) limit() int         { return int(le.Uint16(x.d())) }
func (x *dxNode) count() int         { return int(le.Uint16(x.d()[2:])) }
func (x *dxNode) setCount(n int)     { le.PutUint16(x.d()[2:], uint16(n)) }
func (x *dxNode) hash(k int) uint32  { return le.Uint32(x.d()[8*k:]) }
func (x *dxNode) block(k int) uint64 { return uint64(le.Uint32(x.d()[8*k+4:]) & 0x0fffffff) }
func (x *dxNode) set(k int, hash uint32, block uint64) {
	if k > 0 {
		le.PutUint32(x.d()[8*k:], hash)
	}
	le.PutUint32(x.d()[8*k+4:], uint32(block))
}

// dxLimit is how many entries a node has room for.
func (i *inode) dxLimit(off int) int {
	n := i.fs.sb.blockSize - off
	if i.fs.sb.metaCsum() {
		n -= 8
	}
	return n / 8
}

// dxPath is the way from the root to a leaf.
type dxPath struct {
	version uint8
	nodes   []dxNode
	room    [dxMaxLevels]dxNode
}

// leaf is the block of entries that the path ends at.
func (p *dxPath) leaf() uint64 {
	n := &p.nodes[len(p.nodes)-1]
	return n.block(n.at)
}

// dxRoot reads the root of the index.
func (i *inode) dxRoot(p *dxPath) error {
	b, err := i.dirBlock(0)
	if err != nil {
		return err
	}
	d := b.data
	if dxOffset(d) != dxRootOffset || int(d[dxInfo+6]) >= dxMaxLevels {
		return errBadIndex
	}
	p.version = d[dxInfo+4]
	if p.version <= hashTEA && i.fs.sb.u32(sbFlags)&flagUnsignedHash != 0 {
		p.version += hashUnsigned
	}
	if p.version >= 2*hashUnsigned {
		return errBadIndex
	}
	p.nodes = append(p.room[:0], dxNode{buf: b, off: dxRootOffset})
	return i.checkDx(&p.nodes[0])
}

func (i *inode) checkDx(n *dxNode) error {
	if n.limit() != i.dxLimit(n.off) || n.count() == 0 || n.count() > n.limit() {
		return errBadIndex
	}
	return nil
}

// descend goes down from the root to the leaf for a hash.
func (i *inode) descend(p *dxPath, hash uint32) error {
	levels := int(p.nodes[0].buf.data[dxInfo+6])
	p.nodes = p.nodes[:1]
	for {
		n := &p.nodes[len(p.nodes)-1]
		n.at = sort.Search(n.count()-1, func(k int) bool { return n.hash(k+1) > hash })
		if len(p.nodes) > levels {
			return nil
		}
		if err := i.dxDown(p); err != nil {
			return err
		}
	}
}

// dxDown adds the node below the last one's place to the path.
func (i *inode) dxDown(p *dxPath) error {
	b, err := i.dirBlock(p.leaf())
	if err != nil {
		return err
	}
	if dxOffset(b.data) != dxNodeOffset {
		return errBadIndex
	}
	p.nodes = append(p.nodes, dxNode{buf: b, off: dxNodeOffset})
	return i.checkDx(&p.nodes[len(p.nodes)-1])
}

// next moves the path to the leaf after it, and returns that leaf's hash; false at
// the end.
func (i *inode) dxNext(p *dxPath) (hash uint32, ok bool, err error) {
	levels := len(p.nodes)
	k := levels - 1
	for ; ; k-- {
		if k < 0 {
			return 0, false, nil
		}
		if n := &p.nodes[k]; n.at+1 < n.count() {
			n.at++
			hash = n.hash(n.at)
			break
		}
	}
	p.nodes = p.nodes[:k+1]
	for len(p.nodes) < levels {
		if err := i.dxDown(p); err != nil {
			return 0, false, err
		}
	}
	return hash, true, nil
}

// lookupHash finds a name by the index.
func (i *inode) lookupHash(name string) (place, error) {
	var p dxPath
	if err := i.dxRoot(&p); err != nil {
		return place{}, err
	}
	var room [maxName]byte
	h, _ := hashName(p.version, &i.fs.sb.hashSeed, room[:copy(room[:], name)])
	if err := i.descend(&p, h.major); err != nil {
		return place{}, err
	}
	for {
		b, err := i.dirBlock(p.leaf())
		if err != nil {
			return place{}, err
		}
		e, ok, sound := findIn(b.data, name)
		if !sound {
			return place{}, i.badDir(b.no, e.off)
		}
		if ok {
			return place{e, b, b.data}, nil
		}
		// Names with one hash may go on in the next leaf, which then says so.
		hash, ok, err := i.dxNext(&p)
		if err != nil {
			return place{}, err
		}
		if !ok || hash&1 == 0 || hash&^1 != h.major {
			return place{}, syscall.ENOENT
		}
	}
}

// listTree appends the entries of one leaf, and of those that belong to it.
func (i *inode) listTree(l []listed, off int64) ([]listed, int64, error) {
	var p dxPath
	if err := i.dxRoot(&p); err != nil {
		return l, 0, err
	}
	if err := i.descend(&p, uint32(off>>32)<<1); err != nil {
		return l, 0, err
	}
	var leaves [][]byte
	for {
		b, err := i.dirBlock(p.leaf())
		if err != nil {
			return l, 0, err
		}
		if slices.ContainsFunc(leaves, func(d []byte) bool { return &d[0] == &b.data[0] }) {
			return l, 0, i.fs.corrupt(i.ino, b.no, "index refers to a block twice")
		}
		leaves = append(leaves, b.data)
		hash, ok, err := i.dxNext(&p)
		if err != nil {
			return l, 0, err
		}
		next := int64(hash>>1) << 32
		if ok && (hash&1 != 0 || next <= off) && len(leaves) < 1<<16 {
			continue // names with the same hash, or a hash out of order
		}
		l, _, err = i.listHashedAs(p.version, l, off, leaves...)
		if !ok {
			next = 0
		}
		return l, next, err
	}
}
