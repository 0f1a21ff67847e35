package diskimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
)

// QCOW2 version 3 (QEMU docs/interop/qcow2.txt). Clusters of 64 KiB, deflated with
// the 4 KiB window that readers are only obliged to have; the cluster at the start of
// the OSv partition stays plain, so that the command line can be changed in place
// (QCOW2.WriteAt).
const (
	qcowMagic       = 0x514649fb
	qcowBits        = 16
	qcowCluster     = 1 << qcowBits
	qcowHeader      = 104
	qcowCopied      = 1 << 63
	qcowCompressed  = 1 << 62
	qcowEntries     = qcowCluster / 8 // of an L2 table
	qcowSectorShift = 62 - (qcowBits - 8)
	qcowOffsetMask  = 0x00fffffffffffe00
	deflateWindow   = 4096
)

// WriteQCOW2 writes the disk as a compressed QCOW2 image.
func (d *Disk) WriteQCOW2(w io.Writer) error {
	be := binary.BigEndian
	clusters := (d.size + qcowCluster - 1) / qcowCluster
	l1 := make([]uint64, (clusters+qcowEntries-1)/qcowEntries)
	if len(l1) > qcowEntries {
		return fmt.Errorf("diskimage: qcow2: disk of %d bytes needs %d L2 tables: at most %d fit", d.size, len(l1), qcowEntries)
	}
	l2 := map[int64][]uint64{}
	var body bytes.Buffer // what follows the header's and the L1 table's cluster
	const bodyAt = 2 * qcowCluster
	var packed bytes.Buffer
	z, err := flate.NewWriterWindow(&packed, deflateWindow)
	if err != nil {
		return err
	}
	refs := map[int64]uint16{0: 1, 1: 1}
	ref := func(at, n int64) {
		for c := at / qcowCluster; c <= (at+n-1)/qcowCluster; c++ {
			refs[c]++
		}
	}
	buf := make([]byte, qcowCluster)
	set := func(c int64, e uint64) {
		if l2[c/qcowEntries] == nil {
			l2[c/qcowEntries] = make([]uint64, qcowEntries)
		}
		l2[c/qcowEntries][c%qcowEntries] = e
	}
	if d.chunk(buf, d.plain) { // plain first: it is aligned there
		ref(bodyAt, qcowCluster)
		set(d.plain/qcowCluster, bodyAt|qcowCopied)
		body.Write(buf)
	}
	for c := int64(0); c < clusters; c++ {
		if c == d.plain/qcowCluster || !d.chunk(buf, c*qcowCluster) {
			continue
		}
		packed.Reset()
		z.Reset(&packed)
		z.Write(buf)
		if err := z.Close(); err != nil {
			return err
		}
		at := bodyAt + int64(body.Len())
		n := int64(packed.Len())
		if n >= qcowCluster {
			body.Write(make([]byte, -at&(qcowCluster-1)))
			at = bodyAt + int64(body.Len())
			ref(at, qcowCluster)
			set(c, uint64(at)|qcowCopied)
			body.Write(buf)
			continue
		}
		ref(at, n)
		more := (at+n-1)/sectorBytes - at/sectorBytes
		set(c, qcowCompressed|uint64(more)<<qcowSectorShift|uint64(at))
		body.Write(packed.Bytes())
	}
	body.Write(make([]byte, -body.Len()&(qcowCluster-1)))

	table := func(t []uint64) int64 {
		at := bodyAt + int64(body.Len())
		b := make([]byte, qcowCluster)
		for i, e := range t {
			be.PutUint64(b[8*i:], e)
		}
		ref(at, qcowCluster)
		body.Write(b)
		return at
	}
	for i := range l1 {
		if t := l2[int64(i)]; t != nil {
			l1[i] = uint64(table(t)) | qcowCopied
		}
	}
	// Reference counts: one table cluster, then blocks of 16-bit counts, which count
	// themselves too.
	const perBlock = qcowCluster / 2
	tableAt := bodyAt + int64(body.Len())
	used := tableAt/qcowCluster + 1
	blocks := (used + perBlock - 1) / perBlock
	for (used+blocks+perBlock-1)/perBlock > blocks {
		blocks++
	}
	if blocks > qcowEntries {
		return fmt.Errorf("diskimage: qcow2: %d bytes of data: too many for one table of reference counts", body.Len())
	}
	ref(tableAt, (1+blocks)*qcowCluster)
	rt, rb := make([]byte, qcowCluster), make([]byte, blocks*qcowCluster)
	for i := range blocks {
		be.PutUint64(rt[8*i:], uint64(tableAt+(1+i)*qcowCluster))
	}
	for c, n := range refs {
		be.PutUint16(rb[2*c:], n)
	}
	body.Write(rt)
	body.Write(rb)

	head := make([]byte, bodyAt)
	be.PutUint32(head[0:], qcowMagic)
	be.PutUint32(head[4:], 3)
	be.PutUint32(head[20:], qcowBits)
	be.PutUint64(head[24:], uint64(d.size))
	be.PutUint32(head[36:], uint32(len(l1)))
	be.PutUint64(head[40:], qcowCluster)
	be.PutUint64(head[48:], uint64(tableAt))
	be.PutUint32(head[56:], 1)
	be.PutUint32(head[96:], 4) // reference counts of 2^4 bits
	be.PutUint32(head[100:], qcowHeader)
	for i, e := range l1 {
		be.PutUint64(head[qcowCluster+8*i:], e)
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err = body.WriteTo(w)
	return err
}

// QCOW2 reads a QCOW2 image as the raw disk in it, and writes where that needs no
// allocation. It knows what WriteQCOW2 makes and what QEMU makes of it: version 2 or
// 3, deflate, no backing file, no encryption.
type QCOW2 struct {
	f interface {
		io.ReaderAt
	}
	size  int64
	bits  uint
	l1    []byte
	cache struct { // the last inflated cluster
		at   int64
		data []byte
	}
}

// OpenQCOW2 reads the header of an image.
func OpenQCOW2(f io.ReaderAt) (*QCOW2, error) {
	be := binary.BigEndian
	h := make([]byte, qcowHeader)
	if n, err := f.ReadAt(h, 0); n < len(h) {
		return nil, fmt.Errorf("diskimage: qcow2: header: %w", err)
	}
	version, bits, l1 := be.Uint32(h[4:]), be.Uint32(h[20:]), be.Uint32(h[36:])
	switch {
	case be.Uint32(h) != qcowMagic:
		return nil, fmt.Errorf("diskimage: qcow2: magic %#x", be.Uint32(h))
	case version != 2 && version != 3:
		return nil, fmt.Errorf("diskimage: qcow2: version %d: want 2 or 3", version)
	case be.Uint64(h[8:]) != 0:
		return nil, fmt.Errorf("diskimage: qcow2: image with a backing file: open that, or flatten by qemu-img convert")
	case be.Uint32(h[32:]) != 0:
		return nil, fmt.Errorf("diskimage: qcow2: encrypted")
	case version == 3 && be.Uint64(h[72:])&^1 != 0: // dirty is fine for reading
		return nil, fmt.Errorf("diskimage: qcow2: incompatible features %#x", be.Uint64(h[72:]))
	case bits < 9 || bits > 21 || l1 > 1<<20 || be.Uint64(h[24:]) > 1<<46:
		return nil, fmt.Errorf("diskimage: qcow2: clusters of 2^%d bytes, %d L1 entries, size %d", bits, l1, be.Uint64(h[24:]))
	}
	q := &QCOW2{f: f, size: int64(be.Uint64(h[24:])), bits: uint(bits), l1: make([]byte, 8*l1)}
	q.cache.at = -1
	if n, err := f.ReadAt(q.l1, int64(be.Uint64(h[40:])&(1<<62-1))); n < len(q.l1) {
		return nil, fmt.Errorf("diskimage: qcow2: L1 table: %w", err)
	}
	return q, nil
}

// Size is the disk's size in bytes.
func (q *QCOW2) Size() int64 { return q.size }

// lookup returns the L2 entry of the cluster at off, 0 where nothing is.
func (q *QCOW2) lookup(off int64) (uint64, error) {
	be := binary.BigEndian
	c := uint64(off) >> q.bits
	per := uint(q.bits - 3)
	i := c >> per
	if 8*i >= uint64(len(q.l1)) {
		return 0, fmt.Errorf("diskimage: qcow2: offset %d is behind the L1 table", off)
	}
	at := be.Uint64(q.l1[8*i:]) & qcowOffsetMask
	if at == 0 {
		return 0, nil
	}
	var b [8]byte
	if n, err := q.f.ReadAt(b[:], int64(at+8*(c&(1<<per-1)))); n < len(b) {
		return 0, fmt.Errorf("diskimage: qcow2: L2 table at %d: %w", at, err)
	}
	return be.Uint64(b[:]), nil
}

// ReadAt reads the disk, as io.ReaderAt. Not for concurrent use.
func (q *QCOW2) ReadAt(p []byte, off int64) (total int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("diskimage: read at %d", off)
	}
	cluster := int64(1) << q.bits
	for total < len(p) {
		if off >= q.size {
			return total, io.EOF
		}
		in := off & (cluster - 1)
		part := p[total:][:min(int64(len(p)-total), cluster-in, q.size-off)]
		e, err := q.lookup(off)
		switch at := int64(e & qcowOffsetMask); {
		case err != nil:
		case e&qcowCompressed != 0:
			var c []byte
			if c, err = q.inflate(e); err == nil {
				copy(part, c[in:])
			}
		case at == 0 || e&1 != 0: // bit 0: reads as zero
			clear(part)
		default:
			var n int
			if n, err = q.f.ReadAt(part, at+in); n == len(part) {
				err = nil
			}
		}
		if err != nil {
			return total, err
		}
		total += len(part)
		off += int64(len(part))
	}
	return total, nil
}

func (q *QCOW2) inflate(e uint64) ([]byte, error) {
	shift := 62 - (q.bits - 8)
	at := int64(e & (1<<shift - 1))
	if q.cache.at == at {
		return q.cache.data, nil
	}
	n := int64((e>>shift)&(1<<(q.bits-8)-1)+1)*sectorBytes - at%sectorBytes
	b := make([]byte, 1<<q.bits)
	if _, err := io.ReadFull(flate.NewReader(io.NewSectionReader(q.f, at, n)), b); err != nil {
		return nil, fmt.Errorf("diskimage: qcow2: compressed cluster at %d: %w", at, err)
	}
	q.cache.at, q.cache.data = at, b
	return b, nil
}

// WriteAt writes into a cluster that is plain and not shared, as io.WriterAt: enough
// for imagefmt.SetCommandLine. The file must be an io.WriterAt.
func (q *QCOW2) WriteAt(p []byte, off int64) (int, error) {
	w, ok := q.f.(io.WriterAt)
	if !ok {
		return 0, fmt.Errorf("diskimage: qcow2: opened for reading only")
	}
	in := off & (1<<q.bits - 1)
	if off < 0 || in+int64(len(p)) > 1<<q.bits {
		return 0, fmt.Errorf("diskimage: qcow2: write of %d bytes at %d crosses clusters", len(p), off)
	}
	e, err := q.lookup(off)
	if err != nil {
		return 0, err
	}
	if e&qcowCopied == 0 || e&1 != 0 || e&qcowOffsetMask == 0 {
		return 0, fmt.Errorf("diskimage: qcow2: the cluster at %d cannot be written in place", off)
	}
	return w.WriteAt(p, int64(e&qcowOffsetMask)+in)
}
