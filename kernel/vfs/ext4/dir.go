package ext4

import (
	"cmp"
	"slices"
	"syscall"

	"osv/kernel/vfs"
)

// dirBlocks is how many blocks a directory has.
func (i *inode) dirBlocks() uint64 { return uint64(i.size) >> i.fs.sb.blockShift }

// dirBlock reads block n of a directory.
func (i *inode) dirBlock(n uint64) (*buf, error) {
	r, err := i.find(n)
	if err != nil {
		return nil, err
	}
	if r.sort != written || n >= i.dirBlocks() {
		return nil, i.fs.corrupt(i.ino, 0, "directory has no block %d", n)
	}
	return i.fs.read(r.start+n-r.first, kindDir, i.seed)
}

func (i *inode) badDir(block uint64, off int) error {
	return i.fs.corrupt(i.ino, block, "broken directory entry at byte %d", off)
}

// place is where a directory's entry is: in a block, or in a part of the inode.
type place struct {
	dirent
	buf  *buf   // nil: in the inode
	data []byte // the records it is one of
}

// lookup finds a name. Caller holds i.mu.
func (i *inode) lookup(name string) (place, error) {
	switch {
	case len(name) > maxName:
		return place{}, syscall.ENAMETOOLONG
	case i.dead || i.links == 0:
		return place{}, syscall.ENOENT
	case i.flags&flInline != 0:
		return i.lookupInline(name)
	}
	if i.flags&flIndex != 0 {
		p, err := i.lookupHash(name)
		if err != errBadIndex {
			return p, err
		}
	}
	for n := range i.dirBlocks() {
		b, err := i.dirBlock(n)
		if err != nil {
			return place{}, err
		}
		e, ok, sound := findIn(b.data, name)
		if !sound {
			return place{}, i.badDir(b.no, e.off)
		}
		if ok {
			return place{e, b, b.data}, nil
		}
	}
	return place{}, syscall.ENOENT
}

// Lookup is vfs.Node's.
func (i *inode) Lookup(name string) (vfs.Node, error) {
	if i.typ != vfs.TypeDir {
		return nil, syscall.ENOTDIR
	}
	i.mu.RLock()
	p, err := i.lookup(name)
	i.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	kid, err := i.fs.inode(p.ino, i.ino)
	if err != nil {
		if err == syscall.ESTALE {
			return nil, i.fs.corrupt(i.ino, 0, "entry %q refers to inode %d, which is not in use", name, p.ino)
		}
		return nil, err
	}
	return kid, nil
}

// listed is an entry on its way to a reader, with its position and that after it.
type listed struct {
	vfs.DirEntry
	at, next int64
}

// ReadDir is vfs.Node's. Positions are hashes, so that they stay when a block is
// split; in a directory of several blocks without an index, where nothing is ever
// moved, they are byte offsets.
func (i *inode) ReadDir(off int64, f func(e vfs.DirEntry, next int64) bool) error {
	if i.typ != vfs.TypeDir {
		return syscall.ENOTDIR
	}
	if off < 0 {
		return syscall.EINVAL
	}
	i.touchAtime()
	var list []listed
	for {
		i.mu.RLock()
		var next int64
		var err error
		list, next, err = i.list(list[:0], off)
		i.mu.RUnlock()
		if err != nil {
			return err
		}
		// The lock is not held here: f may come back for the directory.
		for _, e := range list {
			if !f(e.DirEntry, e.next) {
				return nil
			}
		}
		if next <= off {
			return nil
		}
		off = next
	}
}

// list appends some entries from position off on to l, and returns where to go on, 0
// at the end.
func (i *inode) list(l []listed, off int64) ([]listed, int64, error) {
	if i.dead || i.links == 0 {
		return l, 0, nil
	}
	if i.flags&flInline != 0 {
		return i.listHashed(l, off, i.inlineDirParts()...)
	}
	if i.flags&flIndex != 0 {
		l, next, err := i.listTree(l, off)
		if err != errBadIndex {
			return l, next, err
		}
	} else if i.dirBlocks() == 1 && i.fs.sb.compat&compatDirIndex != 0 {
		b, err := i.dirBlock(0)
		if err != nil {
			return l, 0, err
		}
		return i.listHashed(l, off, b.data)
	}
	shift := i.fs.sb.blockShift
	n := uint64(off) >> shift
	if n >= i.dirBlocks() {
		return l, 0, nil
	}
	b, err := i.dirBlock(n)
	if err != nil {
		return l, 0, err
	}
	base := int64(n << shift)
	var e dirent
	for at := 0; at < len(b.data); at += e.rec {
		var ok bool
		if e, ok = direntAt(b.data, at); !ok {
			return l, 0, i.badDir(b.no, at)
		}
		if base+int64(at) >= off && e.isName() {
			l = append(l, listed{e.entry(), base + int64(at), base + int64(at+e.rec)})
		}
	}
	return l, base + int64(len(b.data)), nil
}

// isName says whether a record is a name that is told, which "." and ".." are not.
func (e *dirent) isName() bool {
	return e.ino != 0 && string(e.name) != "." && string(e.name) != ".."
}

func (e *dirent) entry() vfs.DirEntry {
	return vfs.DirEntry{Name: string(e.name), Ino: uint64(e.ino), Type: typeOf(e.typ)}
}

// listHashed appends the entries of parts from off on, by their hash. That is all of
// them: it returns 0.
func (i *inode) listHashed(l []listed, off int64, parts ...[]byte) ([]listed, int64, error) {
	return i.listHashedAs(i.hashVersion(), l, off, parts...)
}

func (i *inode) listHashedAs(version uint8, l []listed, off int64, parts ...[]byte) ([]listed, int64, error) {
	first := len(l)
	for _, d := range parts {
		var e dirent
		for at := 0; at < len(d); at += e.rec {
			var ok bool
			if e, ok = direntAt(d, at); !ok {
				return l, 0, i.badDir(0, at)
			}
			if !e.isName() {
				continue
			}
			h, _ := hashName(version, &i.fs.sb.hashSeed, e.name)
			l = append(l, listed{e.entry(), h.pos(), 0})
		}
	}
	slices.SortFunc(l[first:], func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.Name, b.Name))
	})
	// Names with the same hash get places one behind the other.
	out := l[:first]
	last := int64(-1)
	for _, e := range l[first:] {
		e.at = max(e.at, last+1)
		last, e.next = e.at, e.at+1
		if e.at >= off {
			out = append(out, e)
		}
	}
	return out, 0, nil
}

// hashVersion is that of directories without an index.
func (i *inode) hashVersion() uint8 {
	v := i.fs.sb.hashVersion
	if v < hashUnsigned && i.fs.sb.u32(sbFlags)&flagUnsignedHash != 0 {
		v += hashUnsigned
	}
	return v
}
