package ext4

import (
	"cmp"
	"slices"
	"strings"
	"syscall"

	"osv/kernel/vfs"
)

// Extended attributes, "Extended Attributes": entries behind the inode's fields, and
// in one block that inodes with the same attributes may share.
const (
	xattrMagic     = 0xea020000
	xattrHeader    = 32 // of a block; behind an inode it is the magic alone
	xattrEntry     = 16
	xattrSystem    = 7
	xattrMaxValue  = 1 << 16
	xattrRefsLimit = 1024
)

// xattrPrefixes are the prefixes that names are stored without, by e_name_index.
var xattrPrefixes = [...]string{
	1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default",
	4: "trusted.", 6: "security.", 7: "system.", 8: "system.richacl",
}

// splitName returns a name's index and the rest of it, 0 for what cannot be stored.
func splitName(name string) (index uint8, rest string) {
	for _, k := range [...]uint8{2, 3, 1, 4, 6} {
		p := xattrPrefixes[k]
		if k == 2 || k == 3 {
			if name == p {
				return k, ""
			}
		} else if strings.HasPrefix(name, p) && len(name) > len(p) {
			return k, name[len(p):]
		}
	}
	return 0, ""
}

// xentry is one entry of an area; offset is where in the area its value is.
type xentry struct {
	index  uint8
	name   string
	offset uint32
	size   uint32
	inum   uint32 // of the inode with the value, with ea_inode
	value  []byte
}

// entryAt reads the entry at off in an area; base is what value offsets count from.
// ok is false at the end, and sound where it is broken.
func entryAt(area []byte, off, base int) (e xentry, next int, ok, sound bool) {
	if off+4 > len(area) || le.Uint32(area[off:]) == 0 {
		return e, 0, false, true
	}
	if off+xattrEntry > len(area) {
		return e, 0, false, false
	}
	d := area[off:]
	n := int(d[0])
	if len(d) < xattrEntry+n {
		return e, 0, false, false
	}
	e = xentry{index: d[1], inum: le.Uint32(d[4:]), size: le.Uint32(d[8:]), name: string(d[xattrEntry : xattrEntry+n])}
	e.offset = uint32(le.Uint16(d[2:])) + uint32(base)
	if e.inum == 0 && (uint64(e.offset)+uint64(e.size) > uint64(len(area)) || e.size > xattrMaxValue) {
		return e, 0, false, false
	}
	return e, off + (xattrEntry+n+3)&^3, true, true
}

// findEntry finds a name in the area behind an inode, whose entries begin at base.
func findEntry(area []byte, base int, index uint8, name string) (xentry, bool) {
	for off := base; ; {
		e, next, ok, sound := entryAt(area, off, base)
		if !ok || !sound {
			return xentry{}, false
		}
		if e.index == index && e.name == name {
			return e, true
		}
		off = next
	}
}

// xattrArea is the room for entries behind the inode's fields, nil without one that
// is in use.
func (i *inode) xattrArea() []byte {
	at := i.extra()
	if at+8 > len(i.raw) || le.Uint32(i.raw[at:]) != xattrMagic {
		return nil
	}
	return i.raw[at+4:]
}

// entries returns the entries of an area, values being copies.
func (i *inode) entries(area []byte, first, base int, block uint64) ([]xentry, error) {
	var list []xentry
	for off := first; ; {
		e, next, ok, sound := entryAt(area, off, base)
		if !sound || e.inum != 0 && i.fs.sb.incompat&incompatEAInode == 0 {
			return nil, i.fs.corrupt(i.ino, block, "broken extended attribute at byte %d", off)
		}
		if !ok {
			return list, nil
		}
		if e.inum == 0 {
			e.value = append([]byte{}, area[e.offset:][:e.size]...)
		}
		list = append(list, e)
		off = next
	}
}

// inodeAttrs and blockAttrs are the attributes in the two places. Caller holds i.mu.
func (i *inode) inodeAttrs() ([]xentry, error) {
	area := i.xattrArea()
	if area == nil {
		return nil, nil
	}
	return i.entries(area, 0, 0, 0)
}

func (i *inode) blockAttrs() ([]xentry, error) {
	if i.acl == 0 {
		return nil, nil
	}
	b, err := i.fs.read(i.acl, kindXAttr, 0)
	if err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	return i.entries(b.data, xattrHeader, 0, b.no)
}

func (i *inode) attrs() ([]xentry, error) {
	a, err := i.inodeAttrs()
	if err != nil {
		return nil, err
	}
	b, err := i.blockAttrs()
	return append(a, b...), err
}

// valueOf returns an attribute's value as programs see it.
func (i *inode) valueOf(e xentry) ([]byte, error) {
	v := e.value
	if e.inum != 0 {
		big, err := i.fs.anyInode(e.inum, i.ino)
		if err != nil {
			return nil, err
		}
		if big == i || big.flags&flEAInode == 0 || big.pages == nil || e.size > xattrMaxValue || int64(e.size) > big.size {
			return nil, i.fs.corrupt(i.ino, 0, "attribute %q refers to inode %d, which holds none", e.name, e.inum)
		}
		b := vfs.Bytes{B: make([]byte, e.size)}
		if _, err := big.pages.Read(&b, 0, nil); err != nil {
			return nil, err
		}
		v = b.B
	}
	if e.index == 2 || e.index == 3 {
		return aclFromDisk(v)
	}
	return v, nil
}

// xattrs is an inode's vfs.XAttr.
type xattrs inode

// XAttr is vfs.Node's.
func (i *inode) XAttr() vfs.XAttr { return (*xattrs)(i) }

// Get is vfs.XAttr's.
func (x *xattrs) Get(name string) ([]byte, error) {
	i := (*inode)(x)
	index, rest := splitName(name)
	if index == 0 {
		return nil, syscall.EOPNOTSUPP
	}
	i.mu.RLock()
	defer i.mu.RUnlock()
	list, err := i.attrs()
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.index == index && e.name == rest {
			return i.valueOf(e)
		}
	}
	return nil, syscall.ENODATA
}

// List is vfs.XAttr's.
func (x *xattrs) List() ([]string, error) {
	i := (*inode)(x)
	i.mu.RLock()
	defer i.mu.RUnlock()
	list, err := i.attrs()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if e.index == xattrSystem || int(e.index) >= len(xattrPrefixes) || xattrPrefixes[e.index] == "" {
			continue
		}
		names = append(names, xattrPrefixes[e.index]+e.name)
	}
	return names, nil
}

// sortEntries puts entries into the order of a block.
func sortEntries(list []xentry) {
	slices.SortFunc(list, func(a, b xentry) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	})
}

// hash is e_hash.
func (e *xentry) hash() uint32 {
	h := uint32(0)
	for _, c := range []byte(e.name) {
		h = h<<5 ^ h>>27 ^ uint32(c)
	}
	for v := e.value; len(v) > 0; v = v[min(4, len(v)):] {
		var w [4]byte
		copy(w[:], v)
		h = h<<16 ^ h>>16 ^ le.Uint32(w[:])
	}
	return h
}

// putEntries writes entries from first on and their values at the end of area, or
// says that there is no room. base is what value offsets count from.
func putEntries(area []byte, first, base int, list []xentry) bool {
	need := first + 4
	for _, e := range list {
		need += (xattrEntry+len(e.name)+3)&^3 + (len(e.value)+3)&^3
	}
	if need > len(area) {
		return false
	}
	clear(area[first:])
	off, end := first, len(area)
	for _, e := range list {
		d := area[off:]
		d[0], d[1] = uint8(len(e.name)), e.index
		if len(e.value) > 0 {
			end -= (len(e.value) + 3) &^ 3
			copy(area[end:], e.value)
			le.PutUint16(d[2:], uint16(end-base))
		}
		le.PutUint32(d[8:], uint32(len(e.value)))
		le.PutUint32(d[12:], e.hash())
		copy(d[xattrEntry:], e.name)
		off += (xattrEntry + len(e.name) + 3) &^ 3
	}
	return true
}

// Access control lists are stored with entries that leave out what needs no ID, and
// shown as version 2 with all fields.
const (
	aclUser  = 2
	aclGroup = 8
)

func aclFromDisk(v []byte) ([]byte, error) {
	if len(v) < 4 || le.Uint32(v) != 1 {
		return nil, syscall.EINVAL
	}
	out := le.AppendUint32(nil, 2)
	for v = v[4:]; len(v) > 0; {
		if len(v) < 4 {
			return nil, syscall.EINVAL
		}
		tag, id := le.Uint16(v), ^uint32(0)
		out = append(out, v[:4]...)
		v = v[4:]
		if tag == aclUser || tag == aclGroup {
			if len(v) < 4 {
				return nil, syscall.EINVAL
			}
			id = le.Uint32(v)
			v = v[4:]
		}
		out = le.AppendUint32(out, id)
	}
	return out, nil
}

func aclToDisk(v []byte) ([]byte, error) {
	if len(v) < 4 || le.Uint32(v) != 2 || len(v)%8 != 4 {
		return nil, syscall.EINVAL
	}
	out := le.AppendUint32(nil, 1)
	for v = v[4:]; len(v) > 0; v = v[8:] {
		out = append(out, v[:4]...)
		if tag := le.Uint16(v); tag == aclUser || tag == aclGroup {
			out = append(out, v[4:8]...)
		}
	}
	return out, nil
}
