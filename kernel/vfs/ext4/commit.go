package ext4

import (
	"fmt"
	"slices"
	"syscall"
)

// used is how many blocks of the log are in use.
func (j *journal) used() uint32 {
	if j.tail == 0 {
		return 0
	}
	if j.head >= j.tail {
		return j.head - j.tail
	}
	return j.head + j.log.end - j.log.first - j.tail
}

// write writes a transaction to the log: revocations, descriptors with blocks, and,
// once all that is on the medium, the block that makes it count.
func (j *journal) write(tx *transaction, blocks []copied) error {
	l := j.log
	bs := j.fs.sb.blockSize
	perDesc := (bs - jHeader - 16 - b2i(l.csum())*jTail) / l.tagSize()
	perRevoke := (bs - jHeader - 4 - b2i(l.csum())*jTail) / l.revokeSize()
	n := len(blocks) + (len(blocks)+perDesc-1)/perDesc + (len(tx.revoked)+perRevoke-1)/perRevoke + 1
	if free := l.end - l.first - j.used(); uint32(n) >= free {
		// commit has made room for more than begin lets a transaction grow to.
		return fmt.Errorf("transaction %d has %d blocks, and %d of the log are free: %w", tx.tid, n, free, syscall.EFBIG)
	}
	out := make([]byte, 0, n*bs)
	block := func() []byte {
		at := len(out)
		out = out[:at+bs]
		return out[at:]
	}
	// Revocations count for the whole transaction, wherever they are in it.
	var revoked []uint64
	for no := range tx.revoked {
		revoked = append(revoked, no)
	}
	slices.Sort(revoked)
	for part := range slices.Chunk(revoked, perRevoke) {
		d := block()
		putHeader(d, jRevoke, tx.tid)
		at := jHeader + 4
		for _, no := range part {
			if l.revokeSize() == 8 {
				be.PutUint64(d[at:], no)
			} else {
				be.PutUint32(d[at:], uint32(no))
			}
			at += l.revokeSize()
		}
		be.PutUint32(d[jHeader:], uint32(at))
		j.sumTail(d)
	}
	for part := range slices.Chunk(blocks, perDesc) {
		d := block()
		putHeader(d, jDescriptor, tx.tid)
		at := jHeader
		for k, c := range part {
			t := tag{block: c.no}
			b := block()
			copy(b, c.data)
			if be.Uint32(b) == jMagic {
				be.PutUint32(b, 0)
				t.flags |= tagEscape
			}
			t.sum = l.blockSum(tx.tid, b)
			if k > 0 {
				t.flags |= tagSameUUID
			}
			if k == len(part)-1 {
				t.flags |= tagLast
			}
			l.putTag(d[at:], t)
			at += l.tagSize()
			if k == 0 {
				copy(d[at:at+16], l.super[jsUUID:])
				at += 16
			}
		}
		j.sumTail(d)
	}
	start := j.head
	if j.tail == 0 {
		if err := l.writeSuper(start, tx.tid); err != nil {
			return err
		}
		j.tail = start
	}
	if err := j.append(out); err != nil {
		return err
	}
	// The flush also covers file contents that blocks of this transaction refer to.
	if err := j.fs.flush(); err != nil {
		return err
	}
	d := make([]byte, bs)
	putHeader(d, jCommit, tx.tid)
	now := j.fs.clock()
	be.PutUint64(d[jcSec:], uint64(now.Unix()))
	be.PutUint32(d[jcNsec:], uint32(now.Nanosecond()))
	if l.csum() {
		be.PutUint32(d[jcChecksum:], l.sumAt(d, jcChecksum))
	}
	if err := j.append(d); err != nil {
		return err
	}
	return j.fs.flush()
}

// sumTail puts the checksum at the end of a descriptor or revocation block.
func (j *journal) sumTail(d []byte) {
	if j.log.csum() {
		be.PutUint32(d[len(d)-jTail:], j.log.sumAt(d, len(d)-jTail))
	}
}

// append writes blocks at the head of the log, in as few pieces as they lie in.
func (j *journal) append(d []byte) error {
	l := j.log
	shift := j.fs.sb.blockShift
	for len(d) > 0 {
		at := l.at(j.head)
		n := 0
		for {
			n++
			j.head = l.next(j.head)
			if n<<shift == len(d) || l.at(j.head) != at+uint64(n) {
				break
			}
		}
		if err := j.fs.writeAt(d[:n<<shift], int64(at)<<shift); err != nil {
			return err
		}
		d = d[n<<shift:]
	}
	return nil
}

// writePlaces writes blocks to where they belong, neighbours together, and returns
// when they are on the medium.
func (j *journal) writePlaces(blocks []copied) error {
	fs := j.fs
	shift := fs.sb.blockShift
	slices.SortFunc(blocks, func(a, b copied) int {
		switch {
		case a.no < b.no:
			return -1
		case a.no > b.no:
			return 1
		}
		return 0
	})
	const most = 256 << 10
	var piece []byte
	for k := 0; k < len(blocks); {
		n := 1
		for k+n < len(blocks) && blocks[k+n].no == blocks[k].no+uint64(n) && n<<shift < most {
			n++
		}
		d := blocks[k].data
		if n > 1 {
			piece = piece[:0]
			for _, c := range blocks[k : k+n] {
				piece = append(piece, c.data...)
			}
			d = piece
		}
		if err := fs.writeAt(d, int64(blocks[k].no)<<shift); err != nil {
			return err
		}
		k += n
	}
	if err := fs.flush(); err != nil {
		return err
	}
	j.mu.Lock()
	for _, c := range blocks {
		if l := j.pending[c.no]; l != nil && &l.data[0] == &c.data[0] {
			delete(j.pending, c.no)
		}
	}
	j.mu.Unlock()
	return nil
}

// checkpoint brings all committed blocks to their places and empties the log. Caller
// holds turn, and no transaction is being written.
func (j *journal) checkpoint() error {
	if j.tail == 0 {
		return nil
	}
	j.mu.Lock()
	blocks := make([]copied, 0, len(j.pending))
	for no, l := range j.pending {
		blocks = append(blocks, copied{no, l.data})
	}
	next := j.running.tid
	j.mu.Unlock()
	if err := j.writePlaces(blocks); err != nil {
		return err
	}
	// The log may be written to again only when it is empty for whoever reads it: a
	// part of what is in it now would bring back older versions.
	if err := j.log.writeSuper(0, next); err != nil {
		return err
	}
	if err := j.fs.flush(); err != nil {
		return err
	}
	j.tail = 0
	return nil
}
