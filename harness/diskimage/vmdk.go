package diskimage

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
)

// VMDK, sparse extents (VMware Virtual Disk Format 5.0, 2011-12-20): streamOptimized
// for OVF packages, monolithicSparse to run from. Grains of 64 KiB.
const (
	vmdkGrain   = 128 // sectors
	vmdkGTEs    = 512 // entries of a grain table
	vmdkDescAt  = 1
	vmdkDescLen = 20
	vmdkAtEnd   = ^uint64(0)

	vmdkValidNewline = 1 << 0
	vmdkRedundant    = 1 << 1
	vmdkCompressed   = 1 << 16
	vmdkMarkers      = 1 << 17

	markerEOS    = 0
	markerGT     = 1
	markerGD     = 2
	markerFooter = 3
)

type vmdkHeader struct {
	version, flags        uint32
	capacity, rgd, gd     uint64
	overhead              uint64
	descriptor, descBytes uint64
	compress              uint16
}

func (h vmdkHeader) sector() []byte {
	le := binary.LittleEndian
	b := make([]byte, sectorBytes)
	copy(b, "KDMV")
	le.PutUint32(b[4:], h.version)
	le.PutUint32(b[8:], h.flags)
	le.PutUint64(b[12:], h.capacity)
	le.PutUint64(b[20:], vmdkGrain)
	le.PutUint64(b[28:], h.descriptor)
	le.PutUint64(b[36:], h.descBytes)
	le.PutUint32(b[44:], vmdkGTEs)
	le.PutUint64(b[48:], h.rgd)
	le.PutUint64(b[56:], h.gd)
	le.PutUint64(b[64:], h.overhead)
	copy(b[73:], "\n \r\n")
	le.PutUint16(b[77:], h.compress)
	return b
}

// descriptor is the text in sectors 1 to 20. adapter is "lsilogic", "ide" or
// "pvscsi"; a virtual machine's own settings decide in the end.
func (d *Disk) descriptor(kind, file, adapter string) []byte {
	sectors := d.size / sectorBytes
	heads, spt := 255, 63
	cid := binary.LittleEndian.Uint32(d.id[:4])
	if cid == 0xffffffff { // means "no parent"
		cid = 1
	}
	var uuid bytes.Buffer
	for i, b := range d.id {
		fmt.Fprintf(&uuid, "%02x", b)
		switch {
		case i == 7:
			uuid.WriteByte('-')
		case i < 15:
			uuid.WriteByte(' ')
		}
	}
	text := fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=ffffffff
createType="%s"

# Extent description
RW %d SPARSE "%s"

# The Disk Data Base
#DDB

ddb.adapterType = "%s"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "%d"
ddb.longContentID = "%x"
ddb.toolsInstallType = "4"
ddb.toolsVersion = "2147483647"
ddb.uuid = "%s"
ddb.virtualHWVersion = "13"
`, cid, kind, sectors, file, adapter, max(1, sectors/int64(heads*spt)), heads, spt, d.id[:], uuid.Bytes())
	b := make([]byte, vmdkDescLen*sectorBytes)
	copy(b, text)
	return b
}

// out counts what it writes and remembers the first error.
type out struct {
	w   io.Writer
	at  int64
	err error
}

func (o *out) write(b []byte) {
	if o.err == nil {
		_, o.err = o.w.Write(b)
		o.at += int64(len(b))
	}
}

// pad goes on to a multiple of n bytes.
func (o *out) pad(n int64) {
	if r := o.at % n; r != 0 {
		o.write(make([]byte, n-r))
	}
}

func (o *out) sector() uint64 { return uint64(o.at / sectorBytes) }

func (o *out) marker(sectors uint64, kind uint32) {
	b := make([]byte, sectorBytes)
	binary.LittleEndian.PutUint64(b, sectors)
	binary.LittleEndian.PutUint32(b[12:], kind)
	o.write(b)
}

// WriteVMDKStream writes a streamOptimized VMDK; file is its name.
func (d *Disk) WriteVMDKStream(w io.Writer, file string) error {
	le := binary.LittleEndian
	o := &out{w: w}
	h := vmdkHeader{
		version: 3, flags: vmdkValidNewline | vmdkCompressed | vmdkMarkers,
		capacity: uint64(d.size / sectorBytes), gd: vmdkAtEnd, overhead: vmdkGrain,
		descriptor: vmdkDescAt, descBytes: vmdkDescLen, compress: 1,
	}
	o.write(h.sector())
	o.write(d.descriptor("streamOptimized", file, "lsilogic"))
	o.pad(vmdkGrain * sectorBytes)

	grains := (d.size/sectorBytes + vmdkGrain - 1) / vmdkGrain
	var gd []uint32
	gt := make([]byte, 4*vmdkGTEs)
	used := false
	buf := make([]byte, vmdkGrain*sectorBytes)
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	for g := int64(0); g < grains; g++ {
		if d.chunk(buf, g*vmdkGrain*sectorBytes) {
			packed.Reset()
			z.Reset(&packed)
			z.Write(buf)
			if err := z.Close(); err != nil {
				return err
			}
			le.PutUint32(gt[4*(g%vmdkGTEs):], uint32(o.sector()))
			used = true
			var mark [12]byte
			le.PutUint64(mark[0:], uint64(g*vmdkGrain))
			le.PutUint32(mark[8:], uint32(packed.Len()))
			o.write(mark[:])
			o.write(packed.Bytes())
			o.pad(sectorBytes)
		}
		if (g+1)%vmdkGTEs == 0 || g == grains-1 {
			at := uint32(0)
			if used {
				o.marker(uint64(len(gt)/sectorBytes), markerGT)
				at = uint32(o.sector())
				o.write(gt)
				clear(gt)
				used = false
			}
			gd = append(gd, at)
		}
	}
	table := make([]byte, (4*len(gd)+sectorBytes-1)/sectorBytes*sectorBytes)
	for i, at := range gd {
		le.PutUint32(table[4*i:], at)
	}
	o.marker(uint64(len(table)/sectorBytes), markerGD)
	h.gd = o.sector()
	o.write(table)
	o.marker(1, markerFooter)
	o.write(h.sector())
	o.marker(0, markerEOS)
	return o.err
}

// WriteVMDKSparse writes a monolithicSparse VMDK, which VMware Workstation runs from;
// file is its name.
func (d *Disk) WriteVMDKSparse(w io.Writer, file, adapter string) error {
	le := binary.LittleEndian
	grains := (d.size/sectorBytes + vmdkGrain - 1) / vmdkGrain
	tables := (grains + vmdkGTEs - 1) / vmdkGTEs
	const gtSectors = 4 * vmdkGTEs / sectorBytes
	gdSectors := (4*tables + sectorBytes - 1) / sectorBytes
	rgd := int64(vmdkDescAt + vmdkDescLen)
	gd := rgd + gdSectors + tables*gtSectors
	overhead := (gd + gdSectors + tables*gtSectors + vmdkGrain - 1) / vmdkGrain * vmdkGrain

	o := &out{w: w}
	o.write(vmdkHeader{
		version: 1, flags: vmdkValidNewline | vmdkRedundant, capacity: uint64(d.size / sectorBytes),
		rgd: uint64(rgd), gd: uint64(gd), overhead: uint64(overhead),
		descriptor: vmdkDescAt, descBytes: vmdkDescLen,
	}.sector())
	o.write(d.descriptor("monolithicSparse", file, adapter))
	gts := make([]byte, tables*gtSectors*sectorBytes)
	buf := make([]byte, vmdkGrain*sectorBytes)
	next := overhead
	for g := int64(0); g < grains; g++ {
		if d.chunk(buf, g*vmdkGrain*sectorBytes) {
			le.PutUint32(gts[4*g:], uint32(next))
			next += vmdkGrain
		}
	}
	for _, at := range []int64{rgd, gd} {
		dir := make([]byte, gdSectors*sectorBytes)
		for i := range tables {
			le.PutUint32(dir[4*i:], uint32(at+gdSectors+i*gtSectors))
		}
		o.write(dir)
		o.write(gts)
	}
	o.pad(vmdkGrain * sectorBytes)
	for g := int64(0); g < grains; g++ {
		if d.chunk(buf, g*vmdkGrain*sectorBytes) {
			o.write(buf)
		}
	}
	return o.err
}
