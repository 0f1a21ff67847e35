package ext4

import "osv/kernel/vfs"

// Directory entries, "Linear (Classic) Directories": inode, length of the record,
// length of the name, type, name. Records fill their block; one with inode 0 is free.
const (
	direntHeader = 8
	maxName      = 255

	// With metadata_csum a block ends with a record of this size that holds the
	// checksum: inode 0, no name, this type.
	dirTailSize = 12
	dirTailType = 0xde
)

// dirent is one record of a block.
type dirent struct {
	off, rec int
	ino      uint32
	typ      uint8
	name     []byte // part of the block
}

// recLen is the room that a name of n bytes needs.
func recLen(n int) int { return (direntHeader + n + 3) &^ 3 }

// direntAt reads the record at off, false where it is broken.
func direntAt(d []byte, off int) (dirent, bool) {
	if len(d)-off < direntHeader || off&3 != 0 {
		return dirent{}, false
	}
	r := d[off:]
	e := dirent{off: off, ino: le.Uint32(r), rec: int(le.Uint16(r[4:])), typ: r[7]}
	n := int(r[6])
	if e.rec < recLen(n) || e.rec < 12 || e.rec&3 != 0 || e.rec > len(r) {
		return dirent{}, false
	}
	e.name = r[direntHeader : direntHeader+n]
	return e, true
}

func putDirent(d []byte, off, rec int, ino uint32, typ uint8, name string) {
	r := d[off:]
	le.PutUint32(r, ino)
	le.PutUint16(r[4:], uint16(rec))
	r[6], r[7] = uint8(len(name)), typ
	copy(r[direntHeader:], name)
}

// The types of directory entries, table "ftype".
var fileTypes = [...]vfs.Type{0, vfs.TypeFile, vfs.TypeDir, vfs.TypeChar, vfs.TypeBlock, vfs.TypePipe, vfs.TypeSocket, vfs.TypeLink}

func typeOf(ft uint8) vfs.Type {
	if int(ft) < len(fileTypes) {
		return fileTypes[ft]
	}
	return 0
}

func ftype(t vfs.Type) uint8 {
	for i, x := range fileTypes {
		if x == t {
			return uint8(i)
		}
	}
	return 0
}

// findIn returns the record of a name in a block's records.
func findIn(d []byte, name string) (e dirent, ok, sound bool) {
	for off := 0; off < len(d); off += e.rec {
		if e, ok = direntAt(d, off); !ok {
			return e, false, false
		}
		if e.ino != 0 && string(e.name) == name {
			return e, true, true
		}
	}
	return e, false, true
}
