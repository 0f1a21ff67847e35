package instance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"osv/harness/diskimage"
	"osv/kernel/imagefmt"
)

// QCOW2 version 3 (QEMU docs/interop/qcow2.txt), clusters of 64 KiB.
const (
	clusterBits  = 16
	clusterBytes = 1 << clusterBits
	perL2        = clusterBytes / 8
	headerBytes  = 104
	extBacking   = 0xe2792aca // header extension: format of the backing file
	copied       = 1 << 63
	maxOverlay   = perL2 * perL2 * clusterBytes // one cluster of L1 entries
)

// overlay is a disk whose changes stay in memory until they are written as a QCOW2
// file on top of the disk below.
type overlay struct {
	base  io.ReaderAt
	size  int64
	dirty map[int64][]byte // cluster number to its bytes
}

func newOverlay(base io.ReaderAt, size int64) *overlay {
	return &overlay{base, size, map[int64][]byte{}}
}

// cluster reads cluster c, from the base if it has not been written.
func (o *overlay) cluster(c int64) ([]byte, error) {
	if b := o.dirty[c]; b != nil {
		return b, nil
	}
	b := make([]byte, clusterBytes)
	n := min(int64(clusterBytes), o.size-c*clusterBytes)
	if n <= 0 {
		return nil, io.EOF
	}
	if o.base != nil {
		if m, err := o.base.ReadAt(b[:n], c*clusterBytes); int64(m) < n {
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	return b, nil
}

func (o *overlay) ReadAt(p []byte, off int64) (done int, err error) {
	for done < len(p) {
		at := off + int64(done)
		b, err := o.cluster(at / clusterBytes)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], b[at%clusterBytes:])
	}
	return done, nil
}

func (o *overlay) WriteAt(p []byte, off int64) (done int, err error) {
	for done < len(p) {
		at := off + int64(done)
		b, err := o.cluster(at / clusterBytes)
		if err != nil {
			return done, err
		}
		o.dirty[at/clusterBytes] = b
		done += copy(b[at%clusterBytes:], p[done:])
	}
	return done, nil
}

// encode is the QCOW2 file: header, L1 table, L2 tables, data, reference counts.
// backing is the name of the file below, "" for none.
func (o *overlay) encode(backing, format string) ([]byte, error) {
	if o.size <= 0 || o.size > maxOverlay {
		return nil, fmt.Errorf("disk of %d bytes: want 1 to %d", o.size, int64(maxOverlay))
	}
	be := binary.BigEndian
	clusters := (o.size + clusterBytes - 1) / clusterBytes
	l1 := (clusters + perL2 - 1) / perL2
	out := make([]byte, 2*clusterBytes)
	grow := func() (at int64) {
		at = int64(len(out))
		out = append(out, make([]byte, clusterBytes)...)
		return at
	}
	var order []int64
	for c := range o.dirty {
		order = append(order, c)
	}
	slices.Sort(order)
	for _, c := range order {
		entry := clusterBytes + 8*(c/perL2)
		if be.Uint64(out[entry:]) == 0 {
			at := grow()
			be.PutUint64(out[entry:], uint64(at)|copied)
		}
		table := int64(be.Uint64(out[entry:]) &^ copied)
		at := grow()
		copy(out[at:], o.dirty[c])
		be.PutUint64(out[table+8*(c%perL2):], uint64(at)|copied)
	}
	table := grow()
	block := grow()
	be.PutUint64(out[table:], uint64(block))
	if len(out)/clusterBytes > clusterBytes/2 {
		return nil, fmt.Errorf("%d clusters written: more than one block of reference counts", len(o.dirty))
	}
	for c := range len(out) / clusterBytes {
		be.PutUint16(out[block+2*int64(c):], 1)
	}
	be.PutUint32(out[0:], 0x514649fb)
	be.PutUint32(out[4:], 3)
	be.PutUint32(out[20:], clusterBits)
	be.PutUint64(out[24:], uint64(o.size))
	be.PutUint32(out[36:], uint32(l1))
	be.PutUint64(out[40:], clusterBytes)
	be.PutUint64(out[48:], uint64(table))
	be.PutUint32(out[56:], 1)
	be.PutUint32(out[96:], 4)
	be.PutUint32(out[100:], headerBytes)
	if backing == "" {
		return out, nil
	}
	at := headerBytes
	be.PutUint32(out[at:], extBacking)
	be.PutUint32(out[at+4:], uint32(len(format)))
	copy(out[at+8:], format)
	at += 8 + (len(format)+7)&^7
	at += 8 // the end of extensions is zero
	if len(backing) > 1023 {
		return nil, fmt.Errorf("backing file name of %d bytes", len(backing))
	}
	be.PutUint64(out[8:], uint64(at))
	be.PutUint32(out[16:], uint32(len(backing)))
	copy(out[at:], backing)
	return out, nil
}

// writeOverlay makes a copy-on-write disk at path over base, which is named relative to
// it by backing. line, if not nil, is the kernel command line in the copy.
func writeOverlay(path, base, backing string, line *string) error {
	i, err := diskimage.Open(base, false)
	if err != nil {
		if line != nil || !errors.Is(err, diskimage.ErrFormat) {
			return err
		}
		return foreign(path, base, backing)
	}
	defer i.Close()
	o := newOverlay(i, i.Size)
	if line != nil {
		if err := imagefmt.SetCommandLine(o, *line); err != nil {
			return fmt.Errorf("command line: %w", err)
		}
	}
	b, err := o.encode(backing, i.Format)
	if err != nil {
		return err
	}
	return writeFile(path, b)
}

// foreign is writeOverlay over a raw disk that is not ours: a boot sector is all that
// is known of it.
func foreign(path, base, backing string) error {
	st, err := os.Stat(base)
	if err != nil {
		return err
	}
	b, err := newOverlay(nil, st.Size()).encode(backing, "raw")
	if err != nil {
		return err
	}
	return writeFile(path, b)
}

// CreateVolume makes an empty disk, raw (a file with a hole) or QCOW2.
func CreateVolume(path, format string, size int64) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("volume %s: there is a file", path)
	}
	if size <= 0 || size > maxOverlay || size%512 != 0 {
		return fmt.Errorf("volume %s: size %d: want a multiple of 512 up to %d", path, size, int64(maxOverlay))
	}
	switch format {
	case "qcow2":
		b, err := newOverlay(nil, size).encode("", "")
		if err != nil {
			return err
		}
		return writeFile(path, b)
	case "raw":
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			os.Remove(path)
			return err
		}
		return nil
	}
	return fmt.Errorf("volume %s: format %q: want raw or qcow2", path, format)
}

// writeFile makes a file that appears complete or not at all.
func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}
