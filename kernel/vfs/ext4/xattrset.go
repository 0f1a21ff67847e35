package ext4

import "syscall"

const (
	xattrCreate  = 1 // flags of setxattr(2)
	xattrReplace = 2
)

// Set is vfs.XAttr's.
func (x *xattrs) Set(name string, value []byte, flags int) error {
	index, rest := splitName(name)
	switch {
	case index == 0:
		return syscall.EOPNOTSUPP
	case len(rest) > maxName:
		return syscall.ERANGE
	case len(value) > xattrMaxValue:
		return syscall.E2BIG
	}
	if index == 2 || index == 3 {
		var err error
		if value, err = aclToDisk(value); err != nil {
			return err
		}
	}
	return (*inode)(x).setAttr(xentry{index: index, name: rest, value: append([]byte{}, value...)}, flags, false)
}

// Remove is vfs.XAttr's.
func (x *xattrs) Remove(name string) error {
	index, rest := splitName(name)
	if index == 0 {
		return syscall.EOPNOTSUPP
	}
	return (*inode)(x).setAttr(xentry{index: index, name: rest}, xattrReplace, true)
}

// setAttr sets or removes an attribute. It goes behind the inode's fields if there is
// room, else into the block.
func (i *inode) setAttr(e xentry, flags int, remove bool) error {
	h, err := i.fs.begin(creditsInode + creditsXAttr + creditsExtent)
	if err != nil {
		return err
	}
	defer h.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead {
		return syscall.ENOENT
	}
	in, err := i.inodeAttrs()
	if err != nil {
		return err
	}
	block, err := i.blockAttrs()
	if err != nil {
		return err
	}
	without := func(list []xentry) (out []xentry, had bool) {
		for _, o := range list {
			if o.index == e.index && o.name == e.name {
				had = true
				continue
			}
			out = append(out, o)
		}
		return out, had
	}
	in, had := without(in)
	block, hadInBlock := without(block)
	switch {
	case flags&xattrCreate != 0 && (had || hadInBlock):
		return syscall.EEXIST
	case flags&xattrReplace != 0 && !had && !hadInBlock:
		return syscall.ENODATA
	}
	if !remove {
		if all := append(in[:len(in):len(in)], e); i.fits(all) {
			in = all
		} else {
			block = append(block, e)
			hadInBlock = true
			sortEntries(block)
			if !putEntries(make([]byte, i.fs.sb.blockSize), xattrHeader, 0, block) {
				return syscall.ENOSPC
			}
		}
	}
	if hadInBlock {
		if err := i.putBlockAttrs(h, block); err != nil {
			return err
		}
	}
	i.putInodeAttrs(in)
	i.ctime.Store(i.fs.now())
	return h.inode(i, false)
}

// fits says whether attributes fit behind the inode's fields.
func (i *inode) fits(list []xentry) bool {
	n := len(i.raw) - i.extra() - 4
	return n >= xattrEntry && putEntries(make([]byte, n), 0, 0, list)
}

// putInodeAttrs writes the attributes behind the inode's fields, where they fit.
func (i *inode) putInodeAttrs(list []xentry) {
	at := i.extra()
	if len(i.raw)-at < 8 {
		return
	}
	if len(list) == 0 {
		clear(i.raw[at:])
		return
	}
	le.PutUint32(i.raw[at:], xattrMagic)
	sortEntries(list)
	putEntries(i.raw[at+4:], 0, 0, list)
}

// putBlockAttrs writes the block's attributes, into a block of the inode's own.
func (i *inode) putBlockAttrs(h *handle, list []xentry) error {
	if len(list) == 0 {
		return i.dropXAttrBlock(h)
	}
	fs := i.fs
	var b *buf
	if i.acl != 0 {
		var err error
		if b, err = fs.read(i.acl, kindXAttr, 0); err != nil {
			return err
		}
		b.mu.RLock()
		shared := le.Uint32(b.data[4:]) > 1
		b.mu.RUnlock()
		if shared {
			if err := i.dropXAttrBlock(h); err != nil {
				return err
			}
			b = nil
		}
	}
	if b == nil {
		no, err := fs.newBlock(h, i.goal(0), false)
		if err != nil {
			return err
		}
		b = fs.fresh(no, kindXAttr, 0)
		le.PutUint32(b.data, xattrMagic)
		le.PutUint32(b.data[4:], 1)
		le.PutUint32(b.data[8:], 1)
		i.acl = no
		i.sectors += int64(fs.sb.blockSize / 512)
	}
	h.change(b)
	b.mu.Lock()
	defer b.mu.Unlock()
	putEntries(b.data, xattrHeader, 0, list)
	sum := uint32(0)
	for k := range list {
		sum = sum<<16 ^ sum>>16 ^ list[k].hash()
	}
	le.PutUint32(b.data[12:], sum)
	return h.inode(i, false)
}

// dropXAttrBlock lets go of the block, which goes with the last inode that has it.
// Caller holds i.mu.
func (i *inode) dropXAttrBlock(h *handle) error {
	if i.acl == 0 {
		return nil
	}
	no := i.acl
	b, err := i.fs.read(no, kindXAttr, 0)
	if err != nil {
		return err
	}
	b.mu.Lock()
	refs := le.Uint32(b.data[4:])
	if refs > 1 {
		h.change(b)
		le.PutUint32(b.data[4:], refs-1)
	}
	b.mu.Unlock()
	i.acl = 0
	i.sectors -= int64(i.fs.sb.blockSize / 512)
	if refs <= 1 {
		if err := i.fs.freeBlocks(h, i.ino, run{start: no, n: 1}, true); err != nil {
			return err
		}
	}
	return h.inode(i, false)
}
