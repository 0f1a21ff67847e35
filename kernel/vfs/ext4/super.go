package ext4

import (
	"fmt"
	"strings"
	"syscall"
)

// The superblock, "The Super Block": 1024 bytes at byte 1024. Offsets of the fields
// that are used.
const (
	sbInodesCount   = 0x00
	sbBlocksLo      = 0x04
	sbRBlocksLo     = 0x08
	sbFreeBlocksLo  = 0x0c
	sbFreeInodes    = 0x10
	sbFirstData     = 0x14
	sbLogBlock      = 0x18
	sbLogCluster    = 0x1c
	sbBlocksPG      = 0x20
	sbClustersPG    = 0x24
	sbInodesPG      = 0x28
	sbMtime         = 0x2c
	sbWtime         = 0x30
	sbMntCount      = 0x34
	sbMagic         = 0x38
	sbState         = 0x3a
	sbErrors        = 0x3c
	sbRevLevel      = 0x4c
	sbFirstIno      = 0x54
	sbInodeSize     = 0x58
	sbCompat        = 0x5c
	sbIncompat      = 0x60
	sbROCompat      = 0x64
	sbUUID          = 0x68
	sbReservedGDT   = 0xce
	sbJournalInum   = 0xe0
	sbLastOrphan    = 0xe8
	sbHashSeed      = 0xec
	sbDefHash       = 0xfc
	sbDescSize      = 0xfe
	sbFirstMetaBG   = 0x104
	sbBlocksHi      = 0x150
	sbRBlocksHi     = 0x154
	sbFreeBlocksHi  = 0x158
	sbWantExtra     = 0x15e
	sbFlags         = 0x160
	sbLogFlex       = 0x174
	sbErrorCount    = 0x194
	sbFirstErrTime  = 0x198
	sbFirstErrIno   = 0x19c
	sbFirstErrBlk   = 0x1a0
	sbLastErrTime   = 0x1cc
	sbLastErrIno    = 0x1d0
	sbLastErrBlk    = 0x1d8
	sbBackupBGs     = 0x24c
	sbChecksumSeed  = 0x270
	sbOrphanFileIno = 0x280
	sbChecksum      = 0x3fc
	sbSize          = 1024

	magic = 0xef53

	stateValid  = 1 // s_state: cleanly unmounted
	stateErrors = 2

	flagUnsignedHash = 2 // s_flags
)

// Features, "Super Block", s_feature_compat, s_feature_incompat, s_feature_ro_compat.
const (
	compatJournal     = 0x4
	compatXAttr       = 0x8
	compatResizeInode = 0x10
	compatDirIndex    = 0x20
	compatSparse2     = 0x200
	compatOrphanFile  = 0x1000

	incompatFiletype   = 0x2
	incompatRecover    = 0x4
	incompatJournalDev = 0x8
	incompatMetaBG     = 0x10
	incompatExtents    = 0x40
	incompat64bit      = 0x80
	incompatMMP        = 0x100
	incompatFlexBG     = 0x200
	incompatEAInode    = 0x400
	incompatCsumSeed   = 0x2000
	incompatInlineData = 0x8000

	incompatKnown    = incompatFiletype | incompatRecover | incompatMetaBG | incompatExtents | incompat64bit | incompatMMP | incompatFlexBG | incompatEAInode | incompatCsumSeed | incompatInlineData
	incompatReadOnly = incompatMMP | incompatEAInode // of these: not to be written

	roSparse     = 0x1
	roLargeFile  = 0x2
	roBtreeDir   = 0x4
	roHugeFile   = 0x8
	roGDTCsum    = 0x10
	roDirNlink   = 0x20
	roExtraIsize = 0x40
	roBigalloc   = 0x200
	roMetaCsum   = 0x400
	roOrphans    = 0x10000

	roKnown = roSparse | roLargeFile | roBtreeDir | roHugeFile | roGDTCsum | roDirNlink | roExtraIsize | roMetaCsum | roOrphans
)

var incompatNames = map[uint32]string{
	1: "compression", incompatJournalDev: "journal_dev", 0x1000: "dirdata", 0x4000: "large_dir", 0x10000: "encrypt", 0x20000: "casefold",
	incompatMMP: "mmp", incompatEAInode: "ea_inode",
}

var roNames = map[uint32]string{
	0x80: "has_snapshot", 0x100: "quota", roBigalloc: "bigalloc", 0x800: "replica", 0x1000: "read-only", 0x2000: "project", 0x4000: "shared_blocks", 0x8000: "verity",
}

func featureNames(bits uint32, names map[uint32]string) string {
	var out []string
	for b := uint32(1); b != 0; b <<= 1 {
		if bits&b == 0 {
			continue
		}
		if n := names[b]; n != "" {
			out = append(out, n)
		} else {
			out = append(out, fmt.Sprintf("%#x", b))
		}
	}
	return strings.Join(out, ", ")
}

// super is the superblock: its bytes, and what of them is fixed while mounted.
type super struct {
	raw [sbSize]byte

	blockSize   int
	blockShift  uint
	blocks      uint64
	firstData   uint64
	blocksPG    uint64 // per group
	inodesPG    uint32
	inodes      uint32
	inodeSize   int
	descSize    int
	groups      uint32
	firstIno    uint32
	compat      uint32
	incompat    uint32
	roCompat    uint32
	csumSeed    uint32
	hashSeed    [4]uint32
	hashVersion uint8
	flexShift   uint
}

func (s *super) u16(off int) uint16 { return le.Uint16(s.raw[off:]) }
func (s *super) u32(off int) uint32 { return le.Uint32(s.raw[off:]) }
func (s *super) split(lo, hi int) uint64 {
	v := uint64(s.u32(lo))
	if s.incompat&incompat64bit != 0 {
		v |= uint64(s.u32(hi)) << 32
	}
	return v
}

func (s *super) metaCsum() bool { return s.roCompat&roMetaCsum != 0 }
func (s *super) gdtCsum() bool  { return s.roCompat&(roGDTCsum|roMetaCsum) != 0 }

// parse checks the superblock for a device of size bytes.
func (s *super) parse(size int64) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("ext4: superblock: "+format+": %w", append(a, syscall.EINVAL)...)
	}
	if m := s.u16(sbMagic); m != magic {
		return bad("magic %#x, wanted %#x", m, magic)
	}
	if s.u32(sbRevLevel) == 0 {
		s.firstIno, s.inodeSize = 11, 128
	} else {
		s.firstIno, s.inodeSize = s.u32(sbFirstIno), int(s.u16(sbInodeSize))
		s.compat, s.incompat, s.roCompat = s.u32(sbCompat), s.u32(sbIncompat), s.u32(sbROCompat)
	}
	if f := s.incompat &^ incompatKnown; f != 0 {
		return bad("features that are not supported: %s", featureNames(f, incompatNames))
	}
	if s.metaCsum() {
		if got, want := s.u32(sbChecksum), crc32c(^uint32(0), s.raw[:sbChecksum]); got != want {
			return bad("checksum %#x, wanted %#x", got, want)
		}
	}
	log := s.u32(sbLogBlock)
	if log > 2 {
		return bad("blocks of 2^%d bytes, at most 4096 are supported", 10+min(log, 100))
	}
	s.blockShift = 10 + uint(log)
	s.blockSize = 1 << s.blockShift
	s.blocks = s.split(sbBlocksLo, sbBlocksHi)
	s.firstData = uint64(s.u32(sbFirstData))
	s.blocksPG, s.inodesPG = uint64(s.u32(sbBlocksPG)), s.u32(sbInodesPG)
	s.inodes = s.u32(sbInodesCount)
	perBlock := uint32(8 * s.blockSize)
	switch {
	case s.roCompat&roBigalloc == 0 && s.u32(sbLogCluster) != log:
		return bad("clusters of 2^%d blocks without bigalloc", s.u32(sbLogCluster)-log)
	case s.firstData != uint64(b2i(log == 0)) && s.roCompat&roBigalloc == 0:
		return bad("first data block %d with blocks of %d", s.firstData, s.blockSize)
	case s.blocks == 0 || s.blocks>>(63-s.blockShift) != 0 || s.blocks<<s.blockShift > uint64(size):
		return bad("%d blocks of %d bytes on a device of %d bytes", s.blocks, s.blockSize, size)
	case s.inodeSize < 128 || s.inodeSize > s.blockSize || s.inodeSize&(s.inodeSize-1) != 0:
		return bad("inodes of %d bytes", s.inodeSize)
	case s.blocksPG < 8 || s.blocksPG%8 != 0 || s.blocksPG > uint64(perBlock) && s.roCompat&roBigalloc == 0:
		return bad("%d blocks per group", s.blocksPG)
	case s.inodesPG == 0 || s.inodesPG%8 != 0 || s.inodesPG > perBlock || s.inodesPG < uint32(s.blockSize/s.inodeSize):
		return bad("%d inodes per group", s.inodesPG)
	case s.firstIno < 11 || s.firstIno > s.inodes:
		return bad("first inode %d of %d", s.firstIno, s.inodes)
	}
	s.descSize = 32
	if s.incompat&incompat64bit != 0 {
		s.descSize = int(s.u16(sbDescSize))
		if s.descSize < 64 || s.descSize > 1024 || s.descSize&(s.descSize-1) != 0 {
			return bad("group descriptors of %d bytes", s.descSize)
		}
	}
	groups := (s.blocks - s.firstData + s.blocksPG - 1) / s.blocksPG
	if s.blocks <= s.firstData || groups*uint64(s.inodesPG) != uint64(s.inodes) {
		return bad("%d inodes in %d groups of %d", s.inodes, groups, s.inodesPG)
	}
	s.groups = uint32(groups)
	if s.flexShift = 0; s.incompat&incompatFlexBG != 0 && s.raw[sbLogFlex] < 32 {
		s.flexShift = uint(s.raw[sbLogFlex])
	}
	s.csumSeed = crc32c(^uint32(0), s.raw[sbUUID:sbUUID+16])
	if s.incompat&incompatCsumSeed != 0 {
		s.csumSeed = s.u32(sbChecksumSeed)
	}
	for i := range s.hashSeed {
		s.hashSeed[i] = s.u32(sbHashSeed + 4*i)
	}
	s.hashVersion = s.raw[sbDefHash]
	return nil
}

// why says what keeps the file system from being written to, or nothing.
func (s *super) readOnlyWhy() string {
	switch {
	case s.roCompat&^roKnown != 0:
		return "features that are not written: " + featureNames(s.roCompat&^roKnown, roNames)
	case s.incompat&incompatReadOnly != 0:
		return "features that are not written: " + featureNames(s.incompat&incompatReadOnly, incompatNames)
	case s.incompat&incompatExtents == 0:
		return "files have indirect blocks, which are not written: the feature extents is missing"
	case s.incompat&incompatFiletype == 0:
		return "the feature filetype is missing"
	}
	return ""
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// hasSuper says whether group g has a copy of the superblock and the group
// descriptors, "Layout".
func (s *super) hasSuper(g uint32) bool {
	if g == 0 {
		return true
	}
	if s.compat&compatSparse2 != 0 {
		return g == s.u32(sbBackupBGs) || g == s.u32(sbBackupBGs+4)
	}
	if s.roCompat&roSparse == 0 || g == 1 {
		return true
	}
	if g&1 == 0 {
		return false
	}
	for _, base := range [...]uint64{3, 5, 7} {
		n := base
		for n < uint64(g) {
			n *= base
		}
		if n == uint64(g) {
			return true
		}
	}
	return false
}

// descBlock is the block with the descriptors of the group block number n (those of
// groups n*perBlock …), "Meta Block Groups".
func (s *super) descBlock(n uint32) uint64 {
	if s.incompat&incompatMetaBG == 0 || n < s.u32(sbFirstMetaBG) {
		// The block after the superblock's.
		return sbSize>>s.blockShift + 1 + uint64(n)
	}
	g := n * uint32(s.blockSize/s.descSize)
	at := s.groupStart(g)
	if s.hasSuper(g) {
		at++
	}
	return at
}

// overhead is how many blocks at the start of group g hold superblock and
// descriptors.
func (s *super) overhead(g uint32) uint64 {
	perBlock := uint32(s.blockSize / s.descSize)
	n := uint64(0)
	if s.hasSuper(g) {
		n = 1
	}
	meta := g / perBlock
	if s.incompat&incompatMetaBG != 0 && meta >= s.u32(sbFirstMetaBG) {
		if i := g % perBlock; i == 0 || i == 1 || i == perBlock-1 {
			n++
		}
		return n
	}
	if n == 0 {
		return 0
	}
	gdt := uint64((s.groups + perBlock - 1) / perBlock)
	if s.incompat&incompatMetaBG != 0 {
		gdt = min(gdt, uint64(s.u32(sbFirstMetaBG)))
	}
	return n + gdt + uint64(s.u16(sbReservedGDT))
}

func (s *super) groupStart(g uint32) uint64 { return s.firstData + uint64(g)*s.blocksPG }

// groupBlocks is how many blocks group g has; the last one may be short.
func (s *super) groupBlocks(g uint32) uint64 {
	return min(s.blocksPG, s.blocks-s.groupStart(g))
}

// Is says whether a device whose first bytes are head, 2048 of them, has a file system
// of this family.
func Is(head []byte) bool {
	return len(head) >= 2*sbSize && le.Uint16(head[sbSize+sbMagic:]) == magic
}
