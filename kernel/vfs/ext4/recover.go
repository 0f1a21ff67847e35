package ext4

import (
	"fmt"
	"syscall"
)

// logArea is the journal's blocks: inode 8, or what is needed of it.
type logArea struct {
	fs    *fileSystem
	runs  []run // of the inode, in order, without holes
	super []byte
	logFormat
	first, end uint32 // blocks of the log, between the superblock and the end
}

// openLog reads the journal's superblock.
func (fs *fileSystem) openLog() (*logArea, error) {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("ext4: journal: "+format+": %w", append(a, syscall.EUCLEAN)...)
	}
	s := &fs.sb
	if s.u32(sbJournalInum) != inoJournal {
		return nil, bad("in inode %d or on another device, only inode 8 is supported", s.u32(sbJournalInum))
	}
	i, err := fs.inode(inoJournal, 0)
	if err != nil {
		return nil, err
	}
	l := &logArea{fs: fs}
	blocks := uint64(i.size) >> s.blockShift
	for at := uint64(0); at < blocks; {
		r, err := i.find(at)
		if err != nil {
			return nil, err
		}
		if r.sort != written {
			return nil, bad("block %d of inode 8 is a hole", at)
		}
		r.start += at - r.first
		r.n = min(r.end(), blocks) - at
		r.first = at
		l.runs = append(l.runs, r)
		at += r.n
	}
	if blocks < 2 {
		return nil, bad("of %d blocks", blocks)
	}
	d := make([]byte, s.blockSize)
	if err := fs.readBlock(d, l.at(0)); err != nil {
		return nil, err
	}
	l.super = d[:jsSize]
	typ := be.Uint32(d[4:])
	if be.Uint32(d) != jMagic || typ != jSuperV1 && typ != jSuperV2 {
		return nil, bad("superblock has magic %#x, type %d", be.Uint32(d), typ)
	}
	if typ == jSuperV2 {
		l.incompat = be.Uint32(d[jsIncompat:])
		if f := l.incompat &^ jsIncompatKnown; f == jsIncompatFC && be.Uint32(d[jsStart:]) == 0 {
			l.incompat &^= jsIncompatFC
		} else if f != 0 {
			return nil, bad("features that are not supported: %#x", f)
		}
		if l.csum() && d[jsCsumType] != jCRC32C {
			return nil, bad("checksums of type %d", d[jsCsumType])
		}
		if l.csum() && be.Uint32(d[jsChecksum:]) != superSum(l.super) {
			return nil, bad("checksum of the superblock is wrong")
		}
		if n := be.Uint32(d[jsUsers:]); n > 1 {
			return nil, bad("%d file systems share it", n)
		}
	}
	l.seed = crc32c(^uint32(0), d[jsUUID:jsUUID+16])
	l.first, l.end = be.Uint32(d[jsFirst:]), be.Uint32(d[jsMaxLen:])
	if be.Uint32(d[jsBlockSize:]) != uint32(s.blockSize) || l.first == 0 || uint64(l.end) > blocks || l.first+8 > l.end {
		return nil, bad("blocks %d to %d of %d bytes in a file of %d blocks of %d", l.first, l.end, be.Uint32(d[jsBlockSize:]), blocks, s.blockSize)
	}
	if at := be.Uint32(d[jsStart:]); at != 0 && (at < l.first || at >= l.end) {
		return nil, bad("starts at block %d, outside of %d to %d", at, l.first, l.end)
	}
	return l, nil
}

// superSum is the checksum of the journal's superblock.
func superSum(d []byte) uint32 {
	c := crc32c(^uint32(0), d[:jsChecksum])
	c = crc32c(c, zeros[:])
	return crc32c(c, d[jsChecksum+4:jsSize])
}

// at is where block n of the journal is on the device.
func (l *logArea) at(n uint32) uint64 {
	for _, r := range l.runs {
		if uint64(n) < r.end() {
			return r.start + uint64(n) - r.first
		}
	}
	return 0 // beyond the runs: openLog has checked that there is none
}

// next is the block of the log after n, which is a ring.
func (l *logArea) next(n uint32) uint32 {
	if n++; n >= l.end {
		n = l.first
	}
	return n
}

func (l *logArea) read(n uint32) ([]byte, error) {
	d := make([]byte, l.fs.sb.blockSize)
	return d, l.fs.readAt(d, int64(l.at(n))<<l.fs.sb.blockShift)
}

// found is one block in the log that belongs somewhere.
type found struct {
	tag
	log uint32
	seq uint32
}

// recovery is what a scan of the log found: the committed transactions' blocks in
// order, and the last transaction that revokes each block.
type recovery struct {
	blocks  []found
	revoked map[uint64]uint32
	next    uint32 // the first sequence number that is not committed
}

// scan reads the log from its start up to the first transaction that is not whole.
func (l *logArea) scan() (*recovery, error) {
	start := be.Uint32(l.super[jsStart:])
	r := &recovery{revoked: map[uint64]uint32{}, next: be.Uint32(l.super[jsSequence:])}
	if start == 0 {
		return r, nil
	}
	seen := uint32(0)
	step := func(n uint32) uint32 { seen++; return l.next(n) }
	var tx []found
	revoked := map[uint64]bool{}
	for at := start; seen < l.end-l.first; {
		d, err := l.read(at)
		if err != nil {
			return nil, err
		}
		if !isHeader(d, r.next) {
			return r, nil
		}
		at = step(at)
		switch be.Uint32(d[4:]) {
		case jDescriptor:
			if l.csum() && !l.sumIsRight(d, len(d)-jTail) {
				return r, nil
			}
			tags, ok := l.tags(d)
			if !ok {
				return r, nil
			}
			for _, t := range tags {
				tx = append(tx, found{t, at, r.next})
				at = step(at)
			}
		case jRevoke:
			if l.csum() && !l.sumIsRight(d, len(d)-jTail) {
				return r, nil
			}
			n, size := int(be.Uint32(d[jHeader:])), l.revokeSize()
			if n < jHeader+4 || n > len(d) {
				return r, nil
			}
			for e := d[jHeader+4 : n]; len(e) >= size; e = e[size:] {
				no := uint64(be.Uint32(e))
				if size == 8 {
					no = be.Uint64(e)
				}
				revoked[no] = true
			}
		case jCommit:
			if !l.sumIsRight(d, jcChecksum) {
				return r, nil
			}
			if l.incompat&jsIncompatAsync != 0 && !l.blocksAreRight(tx) {
				return r, nil
			}
			r.blocks = append(r.blocks, tx...)
			for no := range revoked {
				r.revoked[no] = r.next
			}
			tx = nil
			clear(revoked)
			r.next++
		default:
			return r, nil
		}
	}
	return r, nil
}

// tags reads a descriptor's tags.
func (l *logArea) tags(d []byte) ([]tag, bool) {
	end := len(d)
	if l.csum() {
		end -= jTail
	}
	var tags []tag
	size := l.tagSize()
	for at := jHeader; at+size <= end; {
		t := l.tag(d[at:])
		if t.block >= l.fs.sb.blocks {
			return nil, false
		}
		tags = append(tags, t)
		at += size
		if t.flags&tagSameUUID == 0 {
			at += 16
		}
		if t.flags&tagLast != 0 {
			break
		}
	}
	return tags, true
}

func (l *logArea) blocksAreRight(tx []found) bool {
	for _, f := range tx {
		d, err := l.read(f.log)
		if err != nil || l.csum() && l.blockSum(f.seq, d) != f.sum {
			return false
		}
	}
	return true
}

// replay hands the blocks that the log has to f, the last version of each.
func (l *logArea) replay(r *recovery, f func(block uint64, d []byte) error) (int, error) {
	last := map[uint64]int{}
	for k, b := range r.blocks {
		if seq, ok := r.revoked[b.block]; ok && !before(seq, b.seq) {
			continue
		}
		last[b.block] = k
	}
	n := 0
	for k, b := range r.blocks {
		if at, ok := last[b.block]; !ok || at != k {
			continue
		}
		d, err := l.read(b.log)
		if err != nil {
			return n, err
		}
		if l.csum() && l.blockSum(b.seq, d) != b.sum {
			return n, fmt.Errorf("ext4: journal: block %d of the log, for block %d: checksum is wrong: %w", b.log, b.block, syscall.EUCLEAN)
		}
		if b.flags&tagEscape != 0 {
			be.PutUint32(d, jMagic)
		}
		if err := f(b.block, d); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// recover brings the log's blocks to their places, or, where the device cannot be
// written to, into memory.
func (fs *fileSystem) recover(l *logArea) error {
	r, err := l.scan()
	if err != nil {
		return err
	}
	if fs.dev.ReadOnly() {
		fs.overlay = map[uint64][]byte{}
		_, err := l.replay(r, func(no uint64, d []byte) error {
			fs.overlay[no] = d
			return nil
		})
		return err
	}
	n, err := l.replay(r, func(no uint64, d []byte) error { return fs.writeAt(d, int64(no)<<fs.sb.blockShift) })
	if err != nil {
		return err
	}
	if err := fs.flush(); err != nil {
		return err
	}
	fs.note(fmt.Sprintf("journal: %d blocks of %d transactions were brought to their places", n, r.next-be.Uint32(l.super[jsSequence:])))
	// One more, so that the remains of the first one that is not whole are not taken
	// for the next one.
	return l.writeSuper(0, r.next+1)
}

// writeSuper says where the log starts (0: it is empty) and with which transaction.
func (l *logArea) writeSuper(start, seq uint32) error {
	be.PutUint32(l.super[jsStart:], start)
	be.PutUint32(l.super[jsSequence:], seq)
	if l.csum() {
		be.PutUint32(l.super[jsChecksum:], superSum(l.super))
	}
	if err := l.fs.writeAt(l.super, int64(l.at(0))<<l.fs.sb.blockShift); err != nil {
		return err
	}
	return nil
}
