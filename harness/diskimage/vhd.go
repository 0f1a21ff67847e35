package diskimage

import (
	"encoding/binary"
	"io"
)

// VHD (Microsoft Virtual Hard Disk Image Format Specification 1.0, 2006-10-11), big
// endian. Azure takes fixed ones of whole MiB, EC2's import takes both.
const (
	vhdBlock  = 2 * mib
	vhdNone   = 0xffffffff
	vhdFixed  = 2
	vhdDyn    = 3
	vhdDynAt  = sectorBytes
	vhdTable  = 3 * sectorBytes
	vhdMaxAt  = ^uint64(0)
	vhdHeader = 1024
)

// vhdFooter is the last sector, and the first of a dynamic disk.
func (d *Disk) vhdFooter(kind uint32) []byte {
	be := binary.BigEndian
	b := make([]byte, sectorBytes)
	copy(b, "conectix")
	be.PutUint32(b[8:], 2) // reserved feature bit, always set
	be.PutUint32(b[12:], 0x10000)
	be.PutUint64(b[16:], vhdMaxAt)
	if kind == vhdDyn {
		be.PutUint64(b[16:], vhdDynAt)
	}
	// The creator tells readers whether the size or the geometry counts. "win " is
	// what Hyper-V writes: the size.
	copy(b[28:], "win ")
	be.PutUint32(b[32:], 0x000a0000)
	copy(b[36:], "Wi2k")
	be.PutUint64(b[40:], uint64(d.size))
	be.PutUint64(b[48:], uint64(d.size))
	c, h, s := vhdGeometry(d.size / sectorBytes)
	be.PutUint16(b[56:], c)
	b[58], b[59] = h, s
	be.PutUint32(b[60:], kind)
	copy(b[68:], d.id[:])
	be.PutUint32(b[64:], vhdSum(b))
	return b
}

func vhdSum(b []byte) uint32 {
	var sum uint32
	for _, c := range b {
		sum += uint32(c)
	}
	return ^sum
}

// vhdGeometry is the specification's appendix "CHS calculation".
func vhdGeometry(sectors int64) (cylinders uint16, heads, spt uint8) {
	sectors = min(sectors, 65535*16*255)
	var h, s, ch int64
	if sectors >= 65535*16*63 {
		h, s = 16, 255
		ch = sectors / s
	} else {
		s = 17
		ch = sectors / s
		h = max((ch+1023)/1024, 4)
		if ch >= h*1024 || h > 16 {
			s, h = 31, 16
			ch = sectors / s
		}
		if ch >= h*1024 {
			s, h = 63, 16
			ch = sectors / s
		}
	}
	return uint16(ch / h), uint8(h), uint8(s)
}

// WriteVHDFixed writes the raw disk and a footer, which is what Azure takes.
func (d *Disk) WriteVHDFixed(w io.Writer) error {
	if _, err := d.WriteTo(w); err != nil {
		return err
	}
	_, err := w.Write(d.vhdFooter(vhdFixed))
	return err
}

// WriteVHD writes a dynamic VHD, which has no room for what is zero.
func (d *Disk) WriteVHD(w io.Writer) error {
	be := binary.BigEndian
	blocks := (d.size + vhdBlock - 1) / vhdBlock
	h := make([]byte, vhdHeader)
	copy(h, "cxsparse")
	be.PutUint64(h[8:], vhdMaxAt)
	be.PutUint64(h[16:], vhdTable)
	be.PutUint32(h[24:], 0x10000)
	be.PutUint32(h[28:], uint32(blocks))
	be.PutUint32(h[32:], vhdBlock)
	be.PutUint32(h[36:], vhdSum(h))

	table := make([]byte, (4*blocks+sectorBytes-1)/sectorBytes*sectorBytes)
	for i := range table {
		table[i] = 0xff
	}
	buf := make([]byte, vhdBlock)
	next := uint32((vhdTable + int64(len(table))) / sectorBytes)
	for i := range blocks {
		if d.chunk(buf, i*vhdBlock) {
			be.PutUint32(table[4*i:], next)
			next += 1 + vhdBlock/sectorBytes
		}
	}
	o := &out{w: w}
	footer := d.vhdFooter(vhdDyn)
	o.write(footer)
	o.write(h)
	o.write(table)
	bitmap := make([]byte, sectorBytes)
	for i := range bitmap {
		bitmap[i] = 0xff
	}
	for i := range blocks {
		if d.chunk(buf, i*vhdBlock) {
			o.write(bitmap)
			o.write(buf)
		}
	}
	o.write(footer)
	return o.err
}
