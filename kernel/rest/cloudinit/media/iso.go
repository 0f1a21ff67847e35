package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// ECMA-119.
const (
	isoSector     = 2048
	isoFirst      = 16 // sector of the first volume descriptor
	isoMaxVolumes = 64
	isoPrimary    = 1
	isoSupplement = 2
	isoEnd        = 255
	isoFolderFlag = 2 // file flags, §9.1.6: a directory
	isoMultiFlag  = 0x80
)

func openISO(r io.ReaderAt, size int64) (*Medium, error) {
	var primary, joliet []byte
	for i := range isoMaxVolumes {
		d := make([]byte, isoSector)
		if err := readAt(r, d, int64(isoFirst+i)*isoSector); err != nil {
			if i == 0 {
				return nil, ErrUnknown // too short to be one
			}
			return nil, fmt.Errorf("iso9660: volume descriptor %d: %w", i, err)
		}
		if string(d[1:6]) != "CD001" {
			if i == 0 {
				return nil, ErrUnknown
			}
			return nil, fmt.Errorf("iso9660: volume descriptor %d: no CD001", i)
		}
		switch {
		case d[0] == isoPrimary && primary == nil:
			primary = d
		case d[0] == isoSupplement && d[88] == '%' && d[89] == '/' && strings.IndexByte("@CE", d[90]) >= 0:
			joliet = d
		case d[0] == isoEnd:
			return isoMedium(r, size, primary, joliet)
		}
	}
	return nil, fmt.Errorf("iso9660: no end among %d volume descriptors", isoMaxVolumes)
}

// isoMedium reads the root folder: Rock Ridge's names where it has them, else
// Joliet's, else the plain ones, lower case without version.
func isoMedium(r io.ReaderAt, size int64, primary, joliet []byte) (*Medium, error) {
	if primary == nil {
		return nil, errors.New("iso9660: no primary volume descriptor")
	}
	if n := binary.LittleEndian.Uint16(primary[128:]); n != isoSector {
		return nil, fmt.Errorf("iso9660: logical blocks of %d bytes, want %d", n, isoSector)
	}
	m := &Medium{Kind: "iso9660", Label: strings.TrimRight(string(primary[40:72]), " \x00")}
	m.read = func(e entry, p []byte) error { return readAt(r, p, int64(e.start)*isoSector) }
	root, rock, err := isoFolder(r, size, primary[156:190], false)
	if err != nil {
		return nil, err
	}
	if !rock && joliet != nil {
		if root, _, err = isoFolder(r, size, joliet[156:190], true); err != nil {
			return nil, err
		}
	}
	m.root = root
	return m, nil
}

func isoFolder(r io.ReaderAt, size int64, rec []byte, ucs2 bool) (out []entry, rock bool, err error) {
	at, n := int64(binary.LittleEndian.Uint32(rec[2:]))*isoSector, int64(binary.LittleEndian.Uint32(rec[10:]))
	if n > maxFolder || at < 0 || at > size-n {
		return nil, false, fmt.Errorf("iso9660: root folder of %d bytes at %d of %d", n, at, size)
	}
	b := make([]byte, n)
	if err := readAt(r, b, at); err != nil {
		return nil, false, fmt.Errorf("iso9660: root folder: %w", err)
	}
	for off := 0; off < len(b); {
		l := int(b[off])
		if l == 0 { // records do not cross sectors
			off = (off/isoSector + 1) * isoSector
			continue
		}
		if l < 34 || off+l > len(b) || 33+int(b[off+32]) > l {
			return nil, false, fmt.Errorf("iso9660: root folder: record of %d bytes at %d", l, off)
		}
		d := b[off : off+l]
		off += l
		id := d[33 : 33+int(d[32])]
		if d[25]&(isoFolderFlag|isoMultiFlag) != 0 || len(id) == 0 {
			continue
		}
		if len(out) == maxEntries {
			return nil, false, fmt.Errorf("iso9660: root folder: more than %d files", maxEntries)
		}
		name := isoName(id, ucs2)
		use := d[33+len(id)+(len(id)+1)%2:]
		if nm := rockName(use); nm != "" {
			name, rock = nm, true
		}
		out = append(out, entry{name, binary.LittleEndian.Uint32(d[2:]), binary.LittleEndian.Uint32(d[10:])})
	}
	return out, rock, nil
}

func isoName(id []byte, ucs2 bool) string {
	s := string(id)
	if ucs2 {
		u := make([]uint16, len(id)/2)
		for i := range u {
			u[i] = binary.BigEndian.Uint16(id[2*i:])
		}
		s = string(utf16.Decode(u))
	}
	s, _, _ = strings.Cut(s, ";")
	s = strings.TrimSuffix(s, ".")
	if !ucs2 {
		s = strings.ToLower(s)
	}
	return s
}

// rockName puts the NM entries of a system use area together; continuation areas are
// not followed.
func rockName(use []byte) string {
	var name []byte
	for len(use) >= 4 {
		l := int(use[2])
		if l < 4 || l > len(use) {
			break
		}
		if use[0] == 'N' && use[1] == 'M' && l > 5 && use[4]&^1 == 0 {
			name = append(name, use[5:l]...)
		}
		use = use[l:]
	}
	return string(name)
}
