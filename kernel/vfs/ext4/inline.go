package ext4

import "syscall"

// Inline data, "Inline Data": up to 60 bytes of a small file or directory in i_block,
// what is more in the attribute system.data. A directory begins with its parent's
// number, in place of "." and "..". Such files are read; when they are written to,
// they get blocks.

const inlineParent = 4 // bytes of a directory before its first record

// inlineData returns a copy of the contents. Caller holds i.mu.
func (i *inode) inlineData() []byte {
	n := min(i.size, blockArea)
	d := append([]byte(nil), i.raw[inBlock:inBlock+n]...)
	if i.size > blockArea {
		d = append(d, i.inlineMore()...)
	}
	return d[:min(int64(len(d)), i.size)]
}

// inlineMore is the part that is not in i_block.
func (i *inode) inlineMore() []byte {
	area := i.xattrArea()
	if area == nil {
		return nil
	}
	e, ok := findEntry(area, 0, xattrSystem, "data")
	if !ok || e.inum != 0 || int(e.offset)+int(e.size) > len(area) {
		return nil
	}
	return area[e.offset:][:e.size]
}

// inlineDirParts are the two places with records.
func (i *inode) inlineDirParts() [][]byte {
	parts := [][]byte{i.raw[inBlock+inlineParent : inBlock+blockArea]}
	if more := i.inlineMore(); len(more) > 0 {
		parts = append(parts, more)
	}
	return parts
}

func (i *inode) lookupInline(name string) (place, error) {
	for _, d := range i.inlineDirParts() {
		e, ok, sound := findIn(d, name)
		if !sound {
			return place{}, i.badDir(0, e.off)
		}
		if ok {
			return place{dirent: e, data: d}, nil
		}
	}
	return place{}, syscall.ENOENT
}
