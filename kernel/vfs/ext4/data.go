package ext4

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

// backing is an inode as the page cache sees it.
type backing inode

// vec collects pieces of memory for one transfer.
type vec struct {
	mem []Mem
	n   int
}

func (v *vec) add(p *cache.Page, at, n int) {
	v.mem = append(v.mem, Mem{p.Frame() + uint64(at), p.Bytes()[at : at+n]})
	v.n += n
}

// blockAt is where file block n begins in pages that begin with page first.
func (fs *fileSystem) blockAt(n uint64, first int64, pages []*cache.Page) (p *cache.Page, at int) {
	off := int64(n<<fs.sb.blockShift) - first<<cache.PageShift
	return pages[off>>cache.PageShift], int(off & (cache.PageSize - 1))
}

// Fill is cache.Backing's.
func (k *backing) Fill(first int64, pages []*cache.Page) error {
	i := (*inode)(k)
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.dead {
		return syscall.EIO
	}
	if i.flags&flInline != 0 {
		d := i.inlineData()
		for n, p := range pages {
			clear(p.Bytes())
			if at := (first + int64(n)) << cache.PageShift; at < int64(len(d)) {
				copy(p.Bytes(), d[at:])
			}
		}
		return nil
	}
	fs := i.fs
	shift := fs.sb.blockShift
	b := uint64(first) << (cache.PageShift - shift)
	end := b + uint64(len(pages))<<(cache.PageShift-shift)
	// What is beyond the end, of the file or what the medium has of it, is zero.
	size := max(i.size, 0)
	last := min(end, uint64(size+int64(fs.sb.blockSize)-1)>>shift)
	var room [64]Mem
	for b < end {
		r := run{first: b, n: end - b}
		if b < last {
			var err error
			if r, err = i.find(b); err != nil {
				return err
			}
			if r.end() > last {
				r.n = last - r.first
			}
		}
		n := min(r.end(), end) - b
		v := vec{mem: room[:0]}
		for k := uint64(0); k < n; {
			p, at := fs.blockAt(b+k, first, pages)
			blocks := min(uint64(cache.PageSize-at)>>shift, n-k)
			if r.sort == written {
				v.add(p, at, int(blocks<<shift))
			} else {
				clear(p.Bytes()[at : at+int(blocks<<shift)])
			}
			k += blocks
		}
		if r.sort == written {
			if err := fs.readPages(&v, r.start+b-r.first); err != nil {
				return err
			}
		}
		b += n
	}
	if tail := size - first<<cache.PageShift; tail >= 0 && tail < int64(len(pages))<<cache.PageShift {
		clear(pages[tail>>cache.PageShift].Bytes()[tail&(cache.PageSize-1):])
	}
	return nil
}

// readPages reads blocks from no on into the pieces of v.
func (fs *fileSystem) readPages(v *vec, no uint64) error {
	off := int64(no) << fs.sb.blockShift
	if len(fs.overlay) > 0 {
		for _, m := range v.mem {
			for b := m.Bytes; len(b) > 0; b = b[fs.sb.blockSize:] {
				if err := fs.readBlock(b[:fs.sb.blockSize], no); err != nil {
					return err
				}
				no++
			}
		}
		return nil
	}
	if fs.mem != nil {
		if err := fs.mem.ReadMem(v.mem, off); err != nil {
			fs.ioError("read", v.n, off, err)
			return syscall.EIO
		}
		return nil
	}
	for _, m := range v.mem {
		if err := fs.readAt(m.Bytes, off); err != nil {
			return err
		}
		off += int64(len(m.Bytes))
	}
	return nil
}

// writePages writes the pieces of v to the blocks from no on.
func (fs *fileSystem) writePages(v *vec, no uint64) error {
	off := int64(no) << fs.sb.blockShift
	if fs.mem != nil {
		if err := fs.mem.WriteMem(v.mem, off); err != nil {
			fs.ioError("write", v.n, off, err)
			return syscall.EIO
		}
		return nil
	}
	for _, m := range v.mem {
		if err := fs.writeAt(m.Bytes, off); err != nil {
			return err
		}
		off += int64(len(m.Bytes))
	}
	return nil
}

// readLink returns a symbolic link's target.
func (i *inode) readLink() (string, error) {
	i.mu.RLock()
	if i.flags&flInline == 0 && i.fastLink() {
		defer i.mu.RUnlock()
		return string(i.raw[inBlock : inBlock+i.size]), nil
	}
	size := i.size
	i.mu.RUnlock()
	if size > cache.PageSize {
		return "", i.fs.corrupt(i.ino, 0, "symbolic link of %d bytes", size)
	}
	b := vfs.Bytes{B: make([]byte, size)}
	n, err := i.pages.Read(&b, 0, nil)
	return string(b.B[:n]), err
}
