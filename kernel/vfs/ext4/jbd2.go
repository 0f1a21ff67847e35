package ext4

// The format of the journal, "Journal (jbd2)". All numbers are big-endian.
const (
	jMagic = 0xc03b3998

	jDescriptor = 1 // h_blocktype
	jCommit     = 2
	jSuperV1    = 3
	jSuperV2    = 4
	jRevoke     = 5

	jHeader = 12

	// The journal's superblock.
	jsBlockSize = 0x0c
	jsMaxLen    = 0x10
	jsFirst     = 0x14
	jsSequence  = 0x18
	jsStart     = 0x1c
	jsErrno     = 0x20
	jsCompat    = 0x24
	jsIncompat  = 0x28
	jsROCompat  = 0x2c
	jsUUID      = 0x30
	jsUsers     = 0x40
	jsCsumType  = 0x50
	jsFCBlocks  = 0x54
	jsChecksum  = 0xfc
	jsSize      = 1024

	jsCompatChecksum = 1 // old, of whole transactions: not checked

	jsIncompatRevoke = 0x1
	jsIncompat64bit  = 0x2
	jsIncompatAsync  = 0x4
	jsIncompatCsumV2 = 0x8
	jsIncompatCsumV3 = 0x10
	jsIncompatFC     = 0x20
	jsIncompatKnown  = jsIncompatRevoke | jsIncompat64bit | jsIncompatAsync | jsIncompatCsumV2 | jsIncompatCsumV3

	jCRC32C = 4 // s_checksum_type

	// Flags of a block's tag in a descriptor.
	tagEscape   = 1 // the block began with the magic number, which is zero here
	tagSameUUID = 2
	tagDeleted  = 4
	tagLast     = 8

	jTail = 4 // checksum at the end of descriptor and revocation blocks

	jcChecksum = 0x10 // of a commit block
	jcSec      = 0x30
	jcNsec     = 0x38
)

// logFormat is what the journal's features say about its blocks.
type logFormat struct {
	incompat uint32
	seed     uint32 // of checksums
}

func (f logFormat) csum() bool { return f.incompat&(jsIncompatCsumV2|jsIncompatCsumV3) != 0 }
func (f logFormat) v3() bool   { return f.incompat&jsIncompatCsumV3 != 0 }

// tagSize is the size of a tag, without the UUID that may follow.
func (f logFormat) tagSize() int {
	if f.v3() {
		return 16
	}
	n := 8
	if f.incompat&jsIncompat64bit != 0 {
		n += 4
	}
	if f.incompat&jsIncompatCsumV2 != 0 {
		n += 2
	}
	return n
}

func (f logFormat) revokeSize() int {
	if f.incompat&jsIncompat64bit != 0 {
		return 8
	}
	return 4
}

// tag says where a block of the log belongs.
type tag struct {
	block uint64
	flags uint32
	sum   uint32
}

func (f logFormat) tag(d []byte) tag {
	t := tag{block: uint64(be.Uint32(d))}
	if f.v3() {
		t.flags, t.sum = be.Uint32(d[4:]), be.Uint32(d[12:])
		if f.incompat&jsIncompat64bit != 0 {
			t.block |= uint64(be.Uint32(d[8:])) << 32
		}
		return t
	}
	t.sum, t.flags = uint32(be.Uint16(d[4:])), uint32(be.Uint16(d[6:]))
	if f.incompat&jsIncompat64bit != 0 {
		t.block |= uint64(be.Uint32(d[8:])) << 32
	}
	return t
}

// putTag is its reverse.
func (f logFormat) putTag(d []byte, t tag) {
	be.PutUint32(d, uint32(t.block))
	if f.v3() {
		be.PutUint32(d[4:], t.flags)
		be.PutUint32(d[8:], uint32(t.block>>32))
		be.PutUint32(d[12:], t.sum)
		return
	}
	be.PutUint16(d[4:], uint16(t.sum))
	be.PutUint16(d[6:], uint16(t.flags))
	if f.incompat&jsIncompat64bit != 0 {
		be.PutUint32(d[8:], uint32(t.block>>32))
	}
}

// blockSum is the checksum of a block in transaction seq, as its tag has it.
func (f logFormat) blockSum(seq uint32, d []byte) uint32 {
	if !f.csum() {
		return 0
	}
	var b [4]byte
	be.PutUint32(b[:], seq)
	c := crc32c(crc32c(f.seed, b[:]), d)
	if !f.v3() {
		c &= 0xffff
	}
	return c
}

// sumAt is the checksum of a block of the log that has it at byte at.
func (f logFormat) sumAt(d []byte, at int) uint32 {
	c := crc32c(f.seed, d[:at])
	c = crc32c(c, zeros[:])
	return crc32c(c, d[at+4:])
}

func (f logFormat) sumIsRight(d []byte, at int) bool {
	return !f.csum() || be.Uint32(d[at:]) == f.sumAt(d, at)
}

func putHeader(d []byte, typ, seq uint32) {
	be.PutUint32(d, jMagic)
	be.PutUint32(d[4:], typ)
	be.PutUint32(d[8:], seq)
}

// isHeader says whether d is a block of the log of transaction seq.
func isHeader(d []byte, seq uint32) bool { return be.Uint32(d) == jMagic && be.Uint32(d[8:]) == seq }

// before compares sequence numbers, which wrap.
func before(a, b uint32) bool { return int32(a-b) < 0 }
