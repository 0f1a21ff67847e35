package ext4

import (
	"io"
	"sync"
	"syscall"
	"weak"
)

// kind is what a metadata block holds, which says how it is checked.
type kind uint8

const (
	kindPlain       kind = iota // indirect blocks, orphan file: not checked, or by its reader
	kindSuper                   // the block with the superblock
	kindDesc                    // group descriptors, with a checksum each
	kindBlockBitmap             // checksum in the descriptor
	kindInodeBitmap
	kindInodes // part of an inode table, a checksum each
	kindDir    // a directory's block: entries, or a node of its index
	kindExtent // a node of an extent tree
	kindXAttr
)

// buf is one block of metadata in memory. While somebody holds a *buf there is no
// other of its number. data is guarded by who owns the block (an inode's mu, alloc.mu)
// and, where several do, by mu.
type buf struct {
	no   uint64
	data []byte
	kind kind
	seed uint32 // of the checksum: the inode's, for kindDir and kindExtent

	mu      sync.RWMutex
	loaded  bool
	checked bool // the checksum and what verify looks at are right

	tx *transaction // the running one, if it changes the block; guarded by journal.mu

	prev, next *buf // in buffers' list
	listed     bool
}

// buffers finds bufs. Those used last are kept; the others are there only as long as
// somebody holds them, a transaction for example.
type buffers struct {
	mu         sync.Mutex
	all        map[uint64]weak.Pointer[buf]
	head, tail *buf // used longest ago first
	n, max     int
	sweep      int // size of all at which numbers of those that are gone are taken out
}

func (s *buffers) init(max int) {
	s.all, s.max = map[uint64]weak.Pointer[buf]{}, max
}

func (s *buffers) unlist(b *buf) {
	if !b.listed {
		return
	}
	if b.prev != nil {
		b.prev.next = b.next
	} else {
		s.head = b.next
	}
	if b.next != nil {
		b.next.prev = b.prev
	} else {
		s.tail = b.prev
	}
	b.prev, b.next, b.listed = nil, nil, false
	s.n--
}

func (s *buffers) list(b *buf) {
	b.prev, b.listed = s.tail, true
	if s.tail != nil {
		s.tail.next = b
	} else {
		s.head = b
	}
	s.tail = b
	if s.n++; s.n > s.max {
		s.unlist(s.head)
	}
}

// get returns the buffer of a block, perhaps not loaded.
func (s *buffers) get(no uint64) *buf {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, ok := s.all[no]; ok {
		if b := w.Value(); b != nil {
			if s.tail != b {
				s.unlist(b)
				s.list(b)
			}
			return b
		}
	}
	if len(s.all) > max(s.sweep, 2*s.max+64) {
		for no, w := range s.all {
			if w.Value() == nil {
				delete(s.all, no)
			}
		}
		s.sweep = 2 * len(s.all)
	}
	b := &buf{no: no}
	s.all[no] = weak.Make(b)
	s.list(b)
	return b
}

// drop forgets a block that is metadata no longer.
func (s *buffers) drop(no uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, ok := s.all[no]; ok {
		if b := w.Value(); b != nil {
			s.unlist(b)
		}
		delete(s.all, no)
	}
}

// shrink lets go of n buffers and returns how many went.
func (s *buffers) shrink(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := 0
	for ; done < n && s.head != nil; done++ {
		s.unlist(s.head)
	}
	return done
}

// read returns a block's buffer, filled and checked.
func (fs *fileSystem) read(no uint64, k kind, seed uint32) (*buf, error) {
	if no >= fs.sb.blocks {
		return nil, fs.corrupt(0, no, "block beyond the end, %d", fs.sb.blocks)
	}
	b := fs.bufs.get(no)
	b.mu.RLock()
	ok := b.loaded && b.checked && b.kind == k && b.seed == seed
	b.mu.RUnlock()
	if ok {
		return b, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.loaded {
		data := make([]byte, fs.sb.blockSize)
		if err := fs.readBlock(data, no); err != nil {
			return nil, err
		}
		b.data, b.loaded, b.checked = data, true, false
		b.kind, b.seed = k, seed
	}
	if b.kind != k || b.seed != seed {
		if b.tx != nil || b.checked && k != kindPlain {
			return nil, fs.corrupt(0, no, "block is used for two things")
		}
		b.kind, b.seed, b.checked = k, seed, false
	}
	if !b.checked {
		if msg := fs.verify(b); msg != "" {
			return nil, fs.corrupt(0, no, "%s", msg)
		}
		b.checked = true
	}
	return b, nil
}

// fresh returns the buffer of a block that has just been allocated, zeroed.
func (fs *fileSystem) fresh(no uint64, k kind, seed uint32) *buf {
	fs.bufs.drop(no)
	b := fs.bufs.get(no)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = make([]byte, fs.sb.blockSize)
	b.kind, b.seed, b.loaded, b.checked = k, seed, true, true
	return b
}

// readBlock reads block no from the device, or from what was found in the journal of
// a device that cannot be written to.
func (fs *fileSystem) readBlock(p []byte, no uint64) error {
	if d, ok := fs.overlay[no]; ok {
		copy(p, d)
		return nil
	}
	if fs.journal.committed(p, no) {
		return nil
	}
	return fs.readAt(p, int64(no)<<fs.sb.blockShift)
}

func (fs *fileSystem) readAt(p []byte, off int64) error {
	n, err := fs.dev.ReadAt(p, off)
	if n == len(p) || err == nil {
		return nil
	}
	if err == io.EOF {
		clear(p[n:]) // beyond the device: Mount has checked the size
		return nil
	}
	fs.ioError("read", len(p), off, err)
	return syscall.EIO
}

func (fs *fileSystem) writeAt(p []byte, off int64) error {
	if _, err := fs.dev.WriteAt(p, off); err != nil {
		fs.ioError("write", len(p), off, err)
		return syscall.EIO
	}
	return nil
}

func (fs *fileSystem) flush() error {
	if err := fs.dev.Flush(); err != nil {
		fs.ioError("flush", 0, 0, err)
		return syscall.EIO
	}
	return nil
}

// verify says what is wrong with a block that was just read.
func (fs *fileSystem) verify(b *buf) string {
	switch b.kind {
	case kindDir:
		if !fs.sb.metaCsum() {
			return ""
		}
		at, want := fs.dirSum(b)
		if at < 0 {
			return "directory block has no place for a checksum"
		}
		if le.Uint32(b.data[at:]) != want {
			return "checksum of a directory block is wrong"
		}
	case kindExtent:
		if msg := checkExtentNode(b.data); msg != "" {
			return msg
		}
		if fs.sb.metaCsum() {
			if at, want := extentSum(b); at > len(b.data)-4 || le.Uint32(b.data[at:]) != want {
				return "checksum of an extent block is wrong"
			}
		}
	case kindXAttr:
		if le.Uint32(b.data) != xattrMagic || le.Uint32(b.data[8:]) != 1 {
			return "block of extended attributes has a wrong magic number or size"
		}
		if fs.sb.metaCsum() && le.Uint32(b.data[16:]) != fs.xattrSum(b) {
			return "checksum of a block of extended attributes is wrong"
		}
	}
	return ""
}

// seal puts the checksum into a block that is about to be committed.
func (fs *fileSystem) seal(b *buf) {
	switch {
	case b.kind == kindSuper:
		fs.sealSuper(b)
	case !fs.sb.metaCsum():
	case b.kind == kindDir:
		if at, sum := fs.dirSum(b); at >= 0 {
			le.PutUint32(b.data[at:], sum)
		}
	case b.kind == kindExtent:
		at, sum := extentSum(b)
		le.PutUint32(b.data[at:], sum)
	case b.kind == kindXAttr:
		le.PutUint32(b.data[16:], fs.xattrSum(b))
	}
}

// dirSum is where a directory block's checksum is, and what it should be: "Leaf
// nodes" and "Hash Tree Directories" have it in different places. -1: nowhere.
func (fs *fileSystem) dirSum(b *buf) (at int, sum uint32) {
	d, bs := b.data, len(b.data)
	if off := dxOffset(d); off > 0 {
		limit, count := int(le.Uint16(d[off:])), int(le.Uint16(d[off+2:]))
		tail := off + 8*limit
		if count > limit || tail+8 > bs {
			return -1, 0
		}
		sum = crc32c(b.seed, d[:off+8*count])
		sum = crc32c(sum, d[tail:tail+4])
		return tail + 4, crc32c(sum, zeros[:])
	}
	t := bs - dirTailSize
	if le.Uint32(d[t:]) != 0 || le.Uint16(d[t+4:]) != dirTailSize || d[t+7] != dirTailType {
		return -1, 0
	}
	return bs - 4, crc32c(b.seed, d[:t])
}

func (fs *fileSystem) xattrSum(b *buf) uint32 {
	c := crc32c64(fs.sb.csumSeed, b.no)
	c = crc32c(c, b.data[:16])
	c = crc32c(c, zeros[:])
	return crc32c(c, b.data[20:])
}
