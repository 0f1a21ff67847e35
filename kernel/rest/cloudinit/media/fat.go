package media

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// fat is a FAT volume's geometry, in bytes.
type fat struct {
	r        io.ReaderAt
	size     int64
	width    int   // bits of a table entry: 12, 16, 32
	table    int64 // offset of the first table
	root     int64 // offset of the root folder (12, 16)
	rootSize int64
	data     int64 // offset of cluster 2
	cluster  int64 // bytes
	clusters uint32
	rootAt   uint32 // first cluster of the root folder (32)
}

// fatgen103: attributes of a folder entry.
const (
	fatVolume = 0x08
	fatFolder = 0x10
	fatLong   = 0x0f
	fatEntry  = 32
	fatLast   = 0x40 // of a long name's first entry on disk
)

func openFAT(r io.ReaderAt, size int64) (*Medium, error) {
	b := make([]byte, 512)
	if readAt(r, b, 0) != nil || b[510] != 0x55 || b[511] != 0xaa {
		return nil, ErrUnknown
	}
	sector := int64(binary.LittleEndian.Uint16(b[11:]))
	perCluster, reserved, tables := int64(b[13]), int64(binary.LittleEndian.Uint16(b[14:])), int64(b[16])
	if sector != 512 && sector != 1024 && sector != 2048 && sector != 4096 ||
		perCluster == 0 || perCluster&(perCluster-1) != 0 || reserved == 0 || tables == 0 || tables > 4 {
		return nil, ErrUnknown
	}
	total, each := int64(binary.LittleEndian.Uint16(b[19:])), int64(binary.LittleEndian.Uint16(b[22:]))
	if total == 0 {
		total = int64(binary.LittleEndian.Uint32(b[32:]))
	}
	wide := each == 0
	if wide {
		each = int64(binary.LittleEndian.Uint32(b[36:]))
	}
	f := &fat{r: r, size: size, cluster: sector * perCluster, rootSize: int64(binary.LittleEndian.Uint16(b[17:])) * fatEntry}
	f.table = reserved * sector
	f.root = f.table + tables*each*sector
	f.data = f.root + (f.rootSize+sector-1)/sector*sector
	if total*sector > size || f.data >= total*sector {
		return nil, fmt.Errorf("fat: %d sectors of %d bytes with data from %d on a disk of %d", total, sector, f.data, size)
	}
	n := (total*sector - f.data) / f.cluster
	f.clusters = uint32(min(n, 0x0ffffff5))
	switch { // the width follows from the number of clusters alone
	case n < 4085:
		f.width = 12
	case n < 65525:
		f.width = 16
	default:
		f.width = 32
	}
	if wide != (f.width == 32) {
		return nil, fmt.Errorf("fat: %d clusters do not go with its layout", n)
	}
	label := b[43:54]
	if f.width == 32 {
		f.rootAt = binary.LittleEndian.Uint32(b[44:])
		label = b[71:82]
	}
	m := &Medium{Kind: fmt.Sprintf("fat%d", f.width), Label: strings.TrimRight(string(label), " \x00")}
	m.read = f.read
	return m, f.folder(m)
}

// next is the cluster after c, 0 at the end of a chain.
func (f *fat) next(c uint32) (uint32, error) {
	var p [4]byte
	var v uint32
	at := f.table + int64(c)*int64(f.width)/8
	if err := readAt(f.r, p[:max(2, f.width/8)], at); err != nil {
		return 0, fmt.Errorf("fat: table entry %d: %w", c, err)
	}
	switch f.width {
	case 12:
		v = uint32(binary.LittleEndian.Uint16(p[:])) >> (c % 2 * 4) & 0xfff
	case 16:
		v = uint32(binary.LittleEndian.Uint16(p[:]))
	case 32:
		v = binary.LittleEndian.Uint32(p[:]) & 0x0fffffff
	}
	if v >= 1<<min(f.width, 28)-8 {
		return 0, nil
	}
	if !f.valid(v) {
		return 0, fmt.Errorf("fat: cluster %d is followed by %d of %d", c, v, f.clusters+2)
	}
	return v, nil
}

func (f *fat) valid(c uint32) bool { return c >= 2 && c-2 < f.clusters }

// chain fills p from the chain that begins at c; short reports how much of p was
// left where it ends early.
func (f *fat) chain(c uint32, p []byte) (short int, err error) {
	for n := uint32(0); len(p) > 0; n++ {
		if !f.valid(c) || n > f.clusters {
			return 0, fmt.Errorf("fat: cluster %d of %d, or a chain in a circle", c, f.clusters+2)
		}
		part := p[:min(int64(len(p)), f.cluster)]
		if err := readAt(f.r, part, f.data+int64(c-2)*f.cluster); err != nil {
			return 0, fmt.Errorf("fat: cluster %d: %w", c, err)
		}
		p = p[len(part):]
		if c, err = f.next(c); err != nil {
			return 0, err
		}
		if c == 0 {
			return len(p), nil
		}
	}
	return 0, nil
}

func (f *fat) read(e entry, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	short, err := f.chain(e.start, p)
	if err == nil && short > 0 {
		err = fmt.Errorf("fat: a chain ends %d bytes before its file", short)
	}
	return err
}

// folder reads the root folder into m, and the label if it has one.
func (f *fat) folder(m *Medium) error {
	b := make([]byte, min(f.rootSize, maxFolder))
	if f.width == 32 {
		b = make([]byte, maxFolder)
		short, err := f.chain(f.rootAt, b)
		if err != nil {
			return err
		}
		b = b[:len(b)-short]
	} else if err := readAt(f.r, b, f.root); err != nil {
		return fmt.Errorf("fat: root folder: %w", err)
	}
	var long []uint16
	for ; len(b) >= fatEntry && b[0] != 0; b = b[fatEntry:] {
		d := b[:fatEntry]
		attr := d[11]
		switch {
		case d[0] == 0xe5: // deleted
			long = nil
		case attr&0x3f == fatLong:
			if d[0]&fatLast != 0 {
				long = nil
			}
			if len(long) < 20*13 {
				long = append(longPart(d), long...)
			}
		case attr&fatVolume != 0:
			m.Label = strings.TrimRight(string(d[:11]), " ")
			long = nil
		default:
			name := shortName(d)
			if long != nil {
				name = string(utf16.Decode(long))
			}
			long = nil
			if attr&fatFolder != 0 {
				continue
			}
			if len(m.root) == maxEntries {
				return fmt.Errorf("fat: root folder: more than %d files", maxEntries)
			}
			start := uint32(binary.LittleEndian.Uint16(d[26:]))
			if f.width == 32 {
				start |= uint32(binary.LittleEndian.Uint16(d[20:])) << 16
			}
			m.root = append(m.root, entry{name, start, binary.LittleEndian.Uint32(d[28:])})
		}
	}
	return nil
}

// longPart is the up to 13 characters of one entry of a long name.
func longPart(d []byte) []uint16 {
	out := make([]uint16, 0, 13)
	for _, at := range [...]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		c := binary.LittleEndian.Uint16(d[at:])
		if c == 0 || c == 0xffff {
			break
		}
		out = append(out, c)
	}
	return out
}

func shortName(d []byte) string {
	name := strings.TrimRight(string(d[:8]), " ")
	if ext := strings.TrimRight(string(d[8:11]), " "); ext != "" {
		name += "." + ext
	}
	return strings.ToLower(name)
}
