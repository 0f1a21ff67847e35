package diskimage

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Disk is a raw disk in memory: some pieces, zero in between.
type Disk struct {
	size   int64
	pieces []piece // by offset, not overlapping
	plain  int64   // offset of the OSv partition, whose start stays writable in place
	id     guid
}

type piece struct {
	at   int64
	data []byte
}

func (d *Disk) add(at int64, b []byte) {
	d.pieces = append(d.pieces, piece{at, b})
	slices.SortFunc(d.pieces, func(a, b piece) int { return int(a.at/sectorBytes - b.at/sectorBytes) })
}

// Size is the disk's size in bytes, a multiple of 1 MiB.
func (d *Disk) Size() int64 { return d.size }

// ID is the disk's GUID as text.
func (d *Disk) ID() string {
	g := d.id
	return strings.ToLower(fmt.Sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%x-%x", g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8:10], g[10:]))
}

// ReadAt reads the raw disk, as io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("diskimage: read at %d", off)
	}
	n := max(0, min(int64(len(p)), d.size-off))
	clear(p[:n])
	for _, c := range d.pieces {
		from, to := max(c.at, off), min(c.at+int64(len(c.data)), off+n)
		if from < to {
			copy(p[from-off:], c.data[from-c.at:to-c.at])
		}
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// WriteAt changes bytes that the disk already has (not those in its gaps), as
// io.WriterAt: it is there for imagefmt.SetCommandLine.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	for _, c := range d.pieces {
		if c.at <= off && off+int64(len(p)) <= c.at+int64(len(c.data)) {
			return copy(c.data[off-c.at:], p), nil
		}
	}
	return 0, fmt.Errorf("diskimage: write of %d bytes at %d: not inside of one piece of the disk", len(p), off)
}

// empty says whether [off, off+n) is in a gap, and so zero.
func (d *Disk) empty(off, n int64) bool {
	for _, c := range d.pieces {
		if max(c.at, off) < min(c.at+int64(len(c.data)), off+n) {
			return false
		}
	}
	return true
}

// chunk reads n bytes at off into buf, zero behind the disk's end. It returns false
// if all are zero.
func (d *Disk) chunk(buf []byte, off int64) bool {
	if d.empty(off, int64(len(buf))) {
		return false
	}
	n, _ := d.ReadAt(buf, off)
	clear(buf[n:])
	for _, b := range buf {
		if b != 0 {
			return true
		}
	}
	return false
}

// WriteTo writes the raw disk with all its zeros, as io.WriterTo.
func (d *Disk) WriteTo(w io.Writer) (total int64, err error) {
	buf := make([]byte, mib)
	for off := int64(0); off < d.size; off += mib {
		if !d.chunk(buf, off) {
			clear(buf)
		}
		n, err := w.Write(buf)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// writeSparse writes the raw disk to a new file, with holes for the gaps.
func (d *Disk) writeSparse(f *os.File) error {
	if err := f.Truncate(d.size); err != nil {
		return err
	}
	for _, c := range d.pieces {
		if _, err := f.WriteAt(c.data, c.at); err != nil {
			return err
		}
	}
	return nil
}
