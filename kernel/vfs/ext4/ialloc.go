package ext4

import (
	"syscall"

	"osv/kernel/vfs"
)

// loadInodes reads a group's inode bitmap. Caller holds alloc.mu.
func (fs *fileSystem) loadInodes(n uint32) (*group, error) {
	g := &fs.groups[n]
	if g.inodes != nil {
		return g, nil
	}
	s := &fs.sb
	var b *buf
	if g.flags&bgInodeUninit != 0 {
		b = fs.fresh(g.inodeBitmap, kindInodeBitmap, 0)
		bitmap(b.data).fill(int(s.inodesPG), 8*s.blockSize-int(s.inodesPG))
	} else {
		var err error
		if b, err = fs.read(g.inodeBitmap, kindInodeBitmap, 0); err != nil {
			return nil, err
		}
		if s.metaCsum() && !g.sumIs(s, g.ibCsum, fs.inodeBitmapSum(b.data)) {
			return nil, fs.corrupt(0, b.no, "checksum of the inode bitmap of group %d is wrong", n)
		}
	}
	if free := bitmap(b.data).count(int(s.inodesPG)); free != int(g.freeInodes) {
		return nil, fs.corrupt(0, b.no, "inode bitmap of group %d has %d free inodes, its descriptor says %d", n, free, g.freeInodes)
	}
	g.inodes = b
	return g, nil
}

// groupFor is where the search for an inode begins: a directory below the root goes
// to the group with the most room, so that trees spread over the device; anything
// else goes near its directory. Caller holds alloc.mu.
func (fs *fileSystem) groupFor(dir *inode, t vfs.Type) uint32 {
	home := (dir.ino - 1) / fs.sb.inodesPG
	if t != vfs.TypeDir || dir.ino != inoRoot {
		return home
	}
	best, most := home, uint64(0)
	for n := range fs.groups {
		g := &fs.groups[n]
		if g.freeInodes == 0 {
			continue
		}
		if room := uint64(g.freeBlocks) + 1 - min(uint64(g.freeBlocks), 64*uint64(g.usedDirs)); room > most {
			best, most = uint32(n), room
		}
	}
	return best
}

// newIno allocates an inode's number.
func (fs *fileSystem) newIno(h *handle, dir *inode, t vfs.Type) (uint32, error) {
	a := &fs.alloc
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &fs.sb
	first := fs.groupFor(dir, t)
	for k := range s.groups {
		n := (first + k) % s.groups
		if fs.groups[n].freeInodes == 0 {
			continue
		}
		g, err := fs.loadInodes(n)
		if err != nil {
			return 0, err
		}
		m := bitmap(g.inodes.data)
		from := 0
		if n == 0 {
			from = int(s.firstIno - 1)
		}
		at := m.free(from, int(s.inodesPG))
		if at == int(s.inodesPG) {
			continue
		}
		ino := n*s.inodesPG + uint32(at) + 1
		if err := fs.wipeTable(h, g, n, uint32(at)); err != nil {
			return 0, err
		}
		h.change(g.inodes)
		m.set(at)
		g.flags &^= bgInodeUninit
		g.freeInodes--
		if t == vfs.TypeDir {
			g.usedDirs++
		}
		g.dirty = true
		h.superChanged()
		return ino, nil
	}
	return 0, syscall.ENOSPC
}

// wipeTable makes sure that inodes of a table that was never written up to number at
// are zero: from now on e2fsck looks at them.
func (fs *fileSystem) wipeTable(h *handle, g *group, n, at uint32) error {
	s := &fs.sb
	used := s.inodesPG - g.unused
	if !s.gdtCsum() || at < used {
		return nil
	}
	g.unused = s.inodesPG - at - 1
	if g.flags&bgInodeZeroed != 0 {
		return nil
	}
	for k := used; k <= at; k++ {
		block, off := fs.inodeAt(n*s.inodesPG + k + 1)
		b, err := fs.read(block, kindInodes, 0)
		if err != nil {
			return err
		}
		h.change(b)
		b.mu.Lock()
		clear(b.data[off : off+s.inodeSize])
		b.mu.Unlock()
	}
	return nil
}

// freeIno makes an inode's number free.
func (fs *fileSystem) freeIno(h *handle, ino uint32, t vfs.Type) error {
	a := &fs.alloc
	a.mu.Lock()
	defer a.mu.Unlock()
	n, at := (ino-1)/fs.sb.inodesPG, int((ino-1)%fs.sb.inodesPG)
	g, err := fs.loadInodes(n)
	if err != nil {
		return err
	}
	m := bitmap(g.inodes.data)
	if !m.get(at) {
		return fs.corrupt(ino, g.inodeBitmap, "inode is freed and not in use")
	}
	h.change(g.inodes)
	m.clear(at)
	g.freeInodes++
	if t == vfs.TypeDir && g.usedDirs > 0 {
		g.usedDirs--
	}
	g.dirty = true
	h.superChanged()
	return nil
}
