package ext4

import (
	"fmt"
	"slices"
	"sync"
)

// orphans are the inodes that a crash would leave half done: deleted and still open,
// or being truncated. On the medium they are a list through i_dtime that begins in
// s_last_orphan, "Orphan file" and "Super Block"; all is put right at the next mount.
type orphans struct {
	mu   sync.Mutex
	list []*inode // the first one first
}

// addOrphan puts i onto the list.
func (fs *fileSystem) addOrphan(h *handle, i *inode) error {
	o := &fs.orphans
	o.mu.Lock()
	defer o.mu.Unlock()
	if i.orphan {
		return nil
	}
	i.dtime = fs.sb.u32(sbLastOrphan)
	i.orphan = true
	o.list = slices.Insert(o.list, 0, i)
	fs.setLastOrphan(h, i.ino)
	return h.inode(i, true)
}

// dropOrphan takes it off.
func (fs *fileSystem) dropOrphan(h *handle, i *inode) error {
	o := &fs.orphans
	o.mu.Lock()
	defer o.mu.Unlock()
	if !i.orphan {
		return nil
	}
	k := slices.Index(o.list, i)
	if k == 0 {
		fs.setLastOrphan(h, i.dtime)
	} else {
		before := o.list[k-1]
		before.dtime = i.dtime
		if err := h.inode(before, true); err != nil {
			return err
		}
	}
	o.list = slices.Delete(o.list, k, k+1)
	i.orphan, i.dtime = false, 0
	return h.inode(i, true)
}

func (fs *fileSystem) setLastOrphan(h *handle, ino uint32) {
	fs.superMu.Lock()
	le.PutUint32(fs.sb.raw[sbLastOrphan:], ino)
	fs.superMu.Unlock()
	h.superChanged()
}

// cleanOrphans ends what a crash left undone. What cannot be ended stays for e2fsck.
func (fs *fileSystem) cleanOrphans() {
	inos, err := fs.orphanFile()
	if err != nil {
		return
	}
	seen := map[uint32]bool{}
	var list []*inode
	for ino := fs.sb.u32(sbLastOrphan); ino != 0; {
		if seen[ino] || ino > fs.sb.inodes {
			fs.corrupt(ino, 0, "list of orphans is broken")
			return
		}
		seen[ino] = true
		i, err := fs.inode(ino, 0)
		if err != nil {
			fs.corrupt(ino, 0, "list of orphans: %v", err)
			return
		}
		i.orphan = true
		list = append(list, i)
		ino = i.dtime
	}
	fs.orphans.list = slices.Clone(list)
	for _, ino := range inos {
		if !seen[ino] {
			if i, err := fs.inode(ino, 0); err == nil {
				list = append(list, i)
			}
		}
	}
	deleted, cut := 0, 0
	for _, i := range list {
		if i.links == 0 {
			err = i.destroy()
			deleted++
		} else {
			err = i.cutToSize()
			cut++
		}
		if err != nil {
			fs.report(fmt.Sprintf("inode %d: orphan: %v", i.ino, err))
			return
		}
	}
	if len(inos) > 0 {
		err = fs.emptyOrphanFile()
	}
	if deleted+cut > 0 {
		fs.note(fmt.Sprintf("%d files that were deleted while open are gone, %d truncations were ended", deleted, cut))
	}
}

// The orphan file, "Orphan file": blocks of inode numbers, each with a magic number
// and a checksum at its end. It is read and emptied; what is added goes to the list.
const orphanMagic = 0x0b10ca04

// orphanFile returns the numbers in the orphan file, none where it is not in use.
func (fs *fileSystem) orphanFile() ([]uint32, error) {
	if fs.sb.compat&compatOrphanFile == 0 || fs.sb.roCompat&roOrphans == 0 {
		return nil, nil
	}
	var inos []uint32
	return inos, fs.eachOrphanBlock(func(b *buf) error {
		for k := 0; k < len(b.data)-8; k += 4 {
			if ino := le.Uint32(b.data[k:]); ino != 0 {
				inos = append(inos, ino)
			}
		}
		return nil
	})
}

func (fs *fileSystem) eachOrphanBlock(f func(b *buf) error) error {
	ino := fs.sb.u32(sbOrphanFileIno)
	if ino == 0 || ino > fs.sb.inodes {
		return fs.corrupt(ino, 0, "is to be the orphan file")
	}
	i, err := fs.anyInode(ino, 0)
	if err != nil {
		return err
	}
	for n := range min(uint64(i.size)>>fs.sb.blockShift, 512) {
		r, err := i.find(n)
		if err != nil {
			return err
		}
		if r.sort != written {
			return fs.corrupt(ino, 0, "orphan file has no block %d", n)
		}
		b, err := fs.read(r.start+n-r.first, kindPlain, 0)
		if err != nil {
			return err
		}
		if le.Uint32(b.data[len(b.data)-8:]) != orphanMagic {
			return fs.corrupt(ino, b.no, "block of the orphan file has a wrong magic number")
		}
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

// emptyOrphanFile clears it, and the feature that says that it is in use.
func (fs *fileSystem) emptyOrphanFile() error {
	h, err := fs.begin(creditsInode)
	if err != nil {
		return err
	}
	defer h.end()
	ino := fs.sb.u32(sbOrphanFileIno)
	i, err := fs.anyInode(ino, 0)
	if err != nil {
		return err
	}
	err = fs.eachOrphanBlock(func(b *buf) error {
		h.change(b)
		n := len(b.data)
		clear(b.data[:n-8])
		if fs.sb.metaCsum() {
			c := crc32c(crc32c64(i.seed, b.no), b.data[:n-8])
			le.PutUint32(b.data[n-4:], c)
		}
		return nil
	})
	fs.superMu.Lock()
	fs.sb.roCompat &^= roOrphans
	le.PutUint32(fs.sb.raw[sbROCompat:], fs.sb.roCompat)
	fs.superMu.Unlock()
	h.superChanged()
	return err
}
