package ext4

import (
	"fmt"
	"syscall"
)

// A group descriptor, "Block Group Descriptors".
const (
	bgBlockBitmapLo = 0x00
	bgInodeBitmapLo = 0x04
	bgInodeTableLo  = 0x08
	bgFreeBlocksLo  = 0x0c
	bgFreeInodesLo  = 0x0e
	bgUsedDirsLo    = 0x10
	bgFlags         = 0x12
	bgBBCsumLo      = 0x18
	bgIBCsumLo      = 0x1a
	bgUnusedLo      = 0x1c
	bgChecksum      = 0x1e
	bgHi            = 0x20 // what follows is there with 64bit only
	bgBlockBitmapHi = 0x20
	bgInodeBitmapHi = 0x24
	bgInodeTableHi  = 0x28
	bgFreeBlocksHi  = 0x2c
	bgFreeInodesHi  = 0x2e
	bgUsedDirsHi    = 0x30
	bgUnusedHi      = 0x32
	bgBBCsumHi      = 0x38
	bgIBCsumHi      = 0x3a

	bgInodeUninit = 1 // bg_flags: the bitmap on the medium says nothing
	bgBlockUninit = 2
	bgInodeZeroed = 4
)

// group is one block group. All but the first three fields are guarded by alloc.mu.
type group struct {
	blockBitmap, inodeBitmap, inodeTable uint64

	freeBlocks, freeInodes, usedDirs, unused uint32
	flags                                    uint16
	bbCsum, ibCsum                           uint32
	checksum                                 uint16

	dirty bool   // to be written by the next commit
	busy  bitmap // blocks not to be had: used, chosen, or freed and not committed. nil: not loaded
	// The bitmaps' buffers, once loaded.
	blocks, inodes *buf
}

func (g *group) decode(d []byte) {
	u16 := func(lo, hi int) uint32 {
		v := uint32(le.Uint16(d[lo:]))
		if len(d) >= hi+2 {
			v |= uint32(le.Uint16(d[hi:])) << 16
		}
		return v
	}
	u32 := func(lo, hi int) uint64 {
		v := uint64(le.Uint32(d[lo:]))
		if len(d) >= hi+4 {
			v |= uint64(le.Uint32(d[hi:])) << 32
		}
		return v
	}
	g.blockBitmap, g.inodeBitmap, g.inodeTable = u32(bgBlockBitmapLo, bgBlockBitmapHi), u32(bgInodeBitmapLo, bgInodeBitmapHi), u32(bgInodeTableLo, bgInodeTableHi)
	g.freeBlocks, g.freeInodes = u16(bgFreeBlocksLo, bgFreeBlocksHi), u16(bgFreeInodesLo, bgFreeInodesHi)
	g.usedDirs, g.unused = u16(bgUsedDirsLo, bgUsedDirsHi), u16(bgUnusedLo, bgUnusedHi)
	g.flags = le.Uint16(d[bgFlags:])
	g.bbCsum, g.ibCsum = u16(bgBBCsumLo, bgBBCsumHi), u16(bgIBCsumLo, bgIBCsumHi)
	g.checksum = le.Uint16(d[bgChecksum:])
}

// encode writes what changes into the descriptor d of group n.
func (g *group) encode(s *super, n uint32, d []byte) {
	put := func(lo, hi int, v uint32) {
		le.PutUint16(d[lo:], uint16(v))
		if len(d) >= hi+2 {
			le.PutUint16(d[hi:], uint16(v>>16))
		}
	}
	put(bgFreeBlocksLo, bgFreeBlocksHi, g.freeBlocks)
	put(bgFreeInodesLo, bgFreeInodesHi, g.freeInodes)
	put(bgUsedDirsLo, bgUsedDirsHi, g.usedDirs)
	put(bgUnusedLo, bgUnusedHi, g.unused)
	put(bgBBCsumLo, bgBBCsumHi, g.bbCsum)
	put(bgIBCsumLo, bgIBCsumHi, g.ibCsum)
	le.PutUint16(d[bgFlags:], g.flags)
	g.checksum = s.descChecksum(n, d)
	le.PutUint16(d[bgChecksum:], g.checksum)
}

// descChecksum is what bg_checksum should be, 0 without the features for it.
func (s *super) descChecksum(n uint32, d []byte) uint16 {
	switch {
	case s.metaCsum():
		c := crc32c32(s.csumSeed, n)
		c = crc32c(c, d[:bgChecksum])
		c = crc32c(c, zeros[:2])
		return uint16(crc32c(c, d[bgChecksum+2:]))
	case s.gdtCsum():
		var b [4]byte
		le.PutUint32(b[:], n)
		c := crc16(0xffff, s.raw[sbUUID:sbUUID+16])
		c = crc16(c, b[:])
		c = crc16(c, d[:bgChecksum])
		return crc16(c, d[bgChecksum+2:])
	}
	return 0
}

// loadGroups reads all descriptors and checks that what they point to is on the
// device.
func (fs *fileSystem) loadGroups() error {
	s := &fs.sb
	perBlock := uint32(s.blockSize / s.descSize)
	fs.groups = make([]group, s.groups)
	tableBlocks := (uint64(s.inodesPG)*uint64(s.inodeSize) + uint64(s.blockSize) - 1) >> s.blockShift
	inside := func(b, n uint64) bool { return b > s.firstData && b < s.blocks && n <= s.blocks-b }
	for n := uint32(0); n < s.groups; n++ {
		b, err := fs.read(s.descBlock(n/perBlock), kindDesc, 0)
		if err != nil {
			return err
		}
		d := b.data[int(n%perBlock)*s.descSize:][:s.descSize]
		g := &fs.groups[n]
		g.decode(d)
		if s.gdtCsum() {
			if want := s.descChecksum(n, d); g.checksum != want {
				return fmt.Errorf("ext4: descriptor of group %d in block %d: checksum %#x, wanted %#x: %w", n, b.no, g.checksum, want, syscall.EUCLEAN)
			}
		} else {
			g.flags = 0
			g.unused = 0
		}
		if !inside(g.blockBitmap, 1) || !inside(g.inodeBitmap, 1) || !inside(g.inodeTable, tableBlocks) {
			return fmt.Errorf("ext4: descriptor of group %d in block %d: bitmaps in blocks %d and %d, inodes from %d on, of %d blocks: %w",
				n, b.no, g.blockBitmap, g.inodeBitmap, g.inodeTable, s.blocks, syscall.EUCLEAN)
		}
		if uint64(g.freeBlocks) > s.groupBlocks(n) && s.roCompat&roBigalloc == 0 || g.freeInodes > s.inodesPG || g.unused > s.inodesPG {
			return fmt.Errorf("ext4: descriptor of group %d in block %d: %d free blocks of %d, %d free inodes, %d never used of %d: %w",
				n, b.no, g.freeBlocks, s.groupBlocks(n), g.freeInodes, g.unused, s.inodesPG, syscall.EUCLEAN)
		}
	}
	return nil
}
