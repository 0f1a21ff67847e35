package ext4

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"weak"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

// An inode, "Index Nodes". Offsets of its fields.
const (
	inMode     = 0x00
	inUIDLo    = 0x02
	inSizeLo   = 0x04
	inAtime    = 0x08
	inCtime    = 0x0c
	inMtime    = 0x10
	inDtime    = 0x14
	inGIDLo    = 0x18
	inLinks    = 0x1a
	inBlocksLo = 0x1c
	inFlags    = 0x20
	inBlock    = 0x28
	inGen      = 0x64
	inACLLo    = 0x68
	inSizeHi   = 0x6c
	inBlocksHi = 0x74
	inACLHi    = 0x76
	inUIDHi    = 0x78
	inGIDHi    = 0x7a
	inCsumLo   = 0x7c
	inExtra    = 0x80 // i_extra_isize; what follows is there as far as that says
	inCsumHi   = 0x82
	inCtimeX   = 0x84
	inMtimeX   = 0x88
	inAtimeX   = 0x8c
	inBtime    = 0x90
	inBtimeX   = 0x94

	blockArea = 60 // bytes of i_block
)

// i_flags.
const (
	flImmutable = 0x10
	flAppend    = 0x20
	flIndex     = 0x1000
	flHugeFile  = 0x40000
	flExtents   = 0x80000
	flEAInode   = 0x200000
	flInline    = 0x10000000
	// What a new inode has of its directory's flags.
	flInherit = 0x1 | 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x8000 | 0x10000
)

// Inodes with a meaning.
const (
	inoRoot    = 2
	inoJournal = 8
)

// inode is one file in memory, and its vfs.Node. There is at most one of a number
// that is not dead.
type inode struct {
	fs   *fileSystem
	ino  uint32
	seed uint32 // of checksums
	typ  vfs.Type
	gen  uint32

	write sync.Mutex // one writer of the contents, or truncation, at a time

	mu       sync.RWMutex
	raw      []byte // as on the medium, but for the fields below
	mode     uint32 // 07777
	uid, gid uint32
	links    uint32
	flags    uint32
	size     int64 // as the medium has it, or will
	sectors  int64 // i_blocks, in units of 512 bytes
	acl      uint64
	btime    int64
	dtime    uint32 // of an orphan: the next one

	// Nanoseconds since 1970.
	atime, mtime, ctime atomic.Int64

	last atomic.Pointer[run] // the last one found; nil after each change of the tree

	held atomic.Int64 // blocks promised to pages

	pages *cache.File // of regular files and symbolic links

	// The transaction that holds its last change; and the last that matters to
	// fdatasync. Guarded by journal.mu.
	tid, dataTid uint32
	inTx         bool
	table        *buf // with its bytes, while it is in a transaction

	open   int  // open files; guarded by mu
	dying  bool // about to be deleted
	dead   bool // deleted; the number may be somebody else's
	orphan bool // on the orphan list; guarded by fs.orphans.mu
}

// inodes finds inodes. An inode lives as long as somebody, a dentry or a cached page,
// refers to it.
type inodes struct {
	mu  sync.Mutex
	all map[uint32]weak.Pointer[inode]
	// sweep is the size at which numbers of inodes that are gone are taken out.
	sweep int
}

// inodeAt says where inode ino is.
func (fs *fileSystem) inodeAt(ino uint32) (block uint64, off int) {
	s := &fs.sb
	n := ino - 1
	at := uint64(n%s.inodesPG) * uint64(s.inodeSize)
	return fs.groups[n/s.inodesPG].inodeTable + at>>s.blockShift, int(at) & (s.blockSize - 1)
}

// inode returns an inode that is in use. from names the directory in messages.
func (fs *fileSystem) inode(ino uint32, from uint32) (*inode, error) {
	if ino < fs.sb.firstIno && ino != inoRoot && ino != inoJournal {
		return nil, fs.corrupt(from, 0, "refers to inode %d of %d", ino, fs.sb.inodes)
	}
	return fs.anyInode(ino, from)
}

func (fs *fileSystem) anyInode(ino, from uint32) (*inode, error) {
	if ino == 0 || ino > fs.sb.inodes {
		return nil, fs.corrupt(from, 0, "refers to inode %d of %d", ino, fs.sb.inodes)
	}
	if i := fs.inodes.find(ino); i != nil {
		return i, nil
	}
	block, off := fs.inodeAt(ino)
	b, err := fs.read(block, kindInodes, 0)
	if err != nil {
		return nil, err
	}
	fs.inodes.mu.Lock()
	defer fs.inodes.mu.Unlock()
	if w, ok := fs.inodes.all[ino]; ok {
		if i := w.Value(); i != nil && !i.dead {
			return i, nil
		}
	}
	raw := make([]byte, fs.sb.inodeSize)
	b.mu.RLock()
	copy(raw, b.data[off:])
	b.mu.RUnlock()
	i := &inode{fs: fs, ino: ino, raw: raw}
	if err := i.decode(from, block); err != nil {
		return nil, err
	}
	fs.inodes.add(i)
	return i, nil
}

func (s *inodes) find(ino uint32) *inode {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, ok := s.all[ino]; ok {
		if i := w.Value(); i != nil && !i.dead {
			return i
		}
	}
	return nil
}

// add enters i. Caller holds s.mu.
func (s *inodes) add(i *inode) {
	s.all[i.ino] = weak.Make(i)
	if len(s.all) > max(s.sweep, 1024) {
		for ino, w := range s.all {
			if w.Value() == nil {
				delete(s.all, ino)
			}
		}
		s.sweep = 2 * len(s.all)
	}
}

// kill makes the number free for another inode.
func (s *inodes) kill(i *inode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i.dead = true
	delete(s.all, i.ino)
}

func (i *inode) u16(off int) uint16 { return le.Uint16(i.raw[off:]) }
func (i *inode) u32(off int) uint32 { return le.Uint32(i.raw[off:]) }

// extra is how far the fields behind the first 128 bytes go.
func (i *inode) extra() int {
	if len(i.raw) <= 128 {
		return 128
	}
	return 128 + int(i.u16(inExtra))
}

func (i *inode) has(off int) bool { return off+4 <= i.extra() }

// decode takes the fields out of raw.
func (i *inode) decode(from uint32, block uint64) error {
	s := &i.fs.sb
	i.gen = i.u32(inGen)
	i.seed = crc32c32(crc32c32(s.csumSeed, i.ino), i.gen)
	if i.extra() > len(i.raw) || i.extra()%4 != 0 {
		return i.fs.corrupt(i.ino, block, "i_extra_isize %d in inodes of %d bytes", i.u16(inExtra), len(i.raw))
	}
	if s.metaCsum() {
		if lo, hi := i.checksum(); lo != i.u16(inCsumLo) || i.has(inCsumHi-2) && hi != i.u16(inCsumHi) {
			return i.fs.corrupt(i.ino, block, "checksum of the inode is wrong")
		}
	}
	mode := uint32(i.u16(inMode))
	i.typ, i.mode = vfs.Type(mode)&vfs.TypeMask, mode&07777
	i.uid = uint32(i.u16(inUIDLo)) | uint32(i.u16(inUIDHi))<<16
	i.gid = uint32(i.u16(inGIDLo)) | uint32(i.u16(inGIDHi))<<16
	i.links, i.flags = uint32(i.u16(inLinks)), i.u32(inFlags)
	i.size = int64(uint64(i.u32(inSizeLo)))
	if i.typ == vfs.TypeFile || i.typ == vfs.TypeDir {
		i.size |= int64(i.u32(inSizeHi)) << 32
	}
	i.sectors = int64(i.u32(inBlocksLo))
	if s.roCompat&roHugeFile != 0 {
		i.sectors |= int64(i.u16(inBlocksHi)) << 32
		if i.flags&flHugeFile != 0 {
			i.sectors <<= s.blockShift - 9
		}
	}
	i.acl = uint64(i.u32(inACLLo)) | uint64(i.u16(inACLHi))<<32
	i.dtime = i.u32(inDtime)
	i.atime.Store(i.time(inAtime, inAtimeX))
	i.mtime.Store(i.time(inMtime, inMtimeX))
	i.ctime.Store(i.time(inCtime, inCtimeX))
	if i.has(inBtime) {
		i.btime = i.time(inBtime, inBtimeX)
	}
	switch i.typ {
	case vfs.TypeFile, vfs.TypeDir, vfs.TypeLink, vfs.TypePipe, vfs.TypeChar, vfs.TypeBlock, vfs.TypeSocket:
	default:
		if i.links == 0 {
			return syscall.ESTALE // not in use
		}
		return i.fs.corrupt(i.ino, block, "mode %#o", mode)
	}
	if i.size < 0 || i.size > maxFileSize(s.blockShift) {
		return i.fs.corrupt(i.ino, block, "size %d", i.size)
	}
	if i.flags&flInline != 0 && s.incompat&incompatInlineData == 0 {
		return i.fs.corrupt(i.ino, block, "inline data without the feature")
	}
	if i.flags&flExtents != 0 && i.flags&flInline == 0 && i.hasTree() {
		if msg := checkExtentNode(i.raw[inBlock : inBlock+blockArea]); msg != "" {
			return i.fs.corrupt(i.ino, block, "%s", msg)
		}
	}
	i.newPages()
	return nil
}

// newPages gives a file its place in the page cache.
func (i *inode) newPages() {
	if i.typ == vfs.TypeFile || i.typ == vfs.TypeLink {
		i.pages = i.fs.cache.NewFile((*backing)(i), i.fs.key<<32|uint64(i.ino), i.size)
	}
}

// hasTree says whether i_block refers to blocks, and is not a short symbolic link's
// target or a device's number.
func (i *inode) hasTree() bool {
	switch i.typ {
	case vfs.TypeFile, vfs.TypeDir:
		return i.flags&flInline == 0
	case vfs.TypeLink:
		return i.flags&flInline == 0 && !i.fastLink()
	}
	return false
}

// fastLink says whether a symbolic link's target is in i_block, "Symbolic Links".
func (i *inode) fastLink() bool { return i.size < blockArea && i.flags&flExtents == 0 }

// maxFileSize is the largest i_size: 2^32 blocks less one.
func maxFileSize(blockShift uint) int64 { return (1<<32 - 1) << blockShift }

// encode puts the fields into raw, and the checksum. Caller holds i.mu.
func (i *inode) encode() {
	s := &i.fs.sb
	p16 := func(off int, v uint32) { le.PutUint16(i.raw[off:], uint16(v)) }
	p32 := func(off int, v uint32) { le.PutUint32(i.raw[off:], v) }
	p16(inMode, uint32(i.typ)|i.mode)
	p16(inUIDLo, i.uid)
	p16(inUIDHi, i.uid>>16)
	p16(inGIDLo, i.gid)
	p16(inGIDHi, i.gid>>16)
	p16(inLinks, i.links)
	p32(inSizeLo, uint32(i.size))
	p32(inSizeHi, uint32(i.size>>32))
	n := i.sectors
	i.flags &^= flHugeFile
	if n >= 1<<48 {
		i.flags |= flHugeFile
		n >>= s.blockShift - 9
	}
	p32(inBlocksLo, uint32(n))
	if s.roCompat&roHugeFile != 0 {
		p16(inBlocksHi, uint32(n>>32))
	}
	p32(inFlags, i.flags)
	p32(inGen, i.gen)
	p32(inACLLo, uint32(i.acl))
	p16(inACLHi, uint32(i.acl>>32))
	p32(inDtime, i.dtime)
	i.putTime(inAtime, inAtimeX, i.atime.Load())
	i.putTime(inMtime, inMtimeX, i.mtime.Load())
	i.putTime(inCtime, inCtimeX, i.ctime.Load())
	if i.has(inBtime) {
		i.putTime(inBtime, inBtimeX, i.btime)
	}
	if s.metaCsum() {
		lo, hi := i.checksum()
		p16(inCsumLo, uint32(lo))
		if i.has(inCsumHi - 2) {
			p16(inCsumHi, uint32(hi))
		}
	}
}

// checksum is that of raw with the fields for it zero.
func (i *inode) checksum() (lo, hi uint16) {
	c := crc32c(i.seed, i.raw[:inCsumLo])
	c = crc32c(c, zeros[:2])
	c = crc32c(c, i.raw[inCsumLo+2:128])
	if len(i.raw) > 128 {
		c = crc32c(c, i.raw[128:inCsumHi])
		if i.has(inCsumHi - 2) {
			c = crc32c(c, zeros[:2])
		} else {
			c = crc32c(c, i.raw[inCsumHi:inCsumHi+2])
		}
		c = crc32c(c, i.raw[inCsumHi+2:])
	}
	return uint16(c), uint16(c >> 16)
}

// time is a time stamp of raw in nanoseconds, "Inode Timestamps": 34 bits of seconds,
// 30 of nanoseconds.
func (i *inode) time(off, extra int) int64 {
	sec, nsec := int64(int32(i.u32(off))), int64(0)
	if i.has(extra) {
		x := i.u32(extra)
		sec += int64(x&3) << 32
		nsec = int64(x >> 2)
		if nsec > 999999999 {
			nsec = 0
		}
	}
	const most = 9223372035 // year 2262; ext4 goes to 2446
	return min(sec, most)*1e9 + nsec
}

// putTime is its reverse. A time that is there already is left as it is, since not
// all of them fit into ours.
func (i *inode) putTime(off, extra int, ns int64) {
	if i.time(off, extra) == ns {
		return
	}
	t := time.Unix(0, ns)
	sec := t.Unix()
	if !i.has(extra) {
		sec = max(min(sec, 1<<31-1), -1<<31)
	}
	le.PutUint32(i.raw[off:], uint32(sec))
	if i.has(extra) {
		epoch := uint32((sec-int64(int32(sec)))>>32) & 3
		le.PutUint32(i.raw[extra:], epoch|uint32(t.Nanosecond())<<2)
	}
}

// now is the time that changes get, with the resolution of Linux's: a tick of 1 ms.
func (fs *fileSystem) now() int64 {
	n := fs.clock().UnixNano()
	return n - n%int64(time.Millisecond)
}
