package ext4

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
	"osv/kernel/vfs/poll"
)

// file is an open file.
type file struct {
	i     *inode
	flags int
	ahead cache.ReadAhead
	seen  uint32 // failed write-backs that were told
}

// Open is vfs.Node's.
func (i *inode) Open(flags int) (vfs.File, error) {
	switch i.typ {
	case vfs.TypeFile, vfs.TypeDir:
	case vfs.TypeLink:
		return nil, syscall.ELOOP
	default:
		return nil, syscall.ENXIO // of devices, pipes and sockets others are in charge
	}
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		if i.typ == vfs.TypeDir {
			return nil, syscall.EISDIR
		}
		if err := i.fs.writable(); err != nil {
			return nil, err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead {
		return nil, syscall.ENOENT
	}
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY && (i.flags&flImmutable != 0 || i.flags&flAppend != 0 && flags&syscall.O_APPEND == 0) {
		return nil, syscall.EPERM
	}
	i.open++
	f := &file{i: i, flags: flags}
	if i.pages != nil {
		f.seen = i.pages.ErrSeen()
	}
	return f, nil
}

// Node is vfs.File's.
func (f *file) Node() vfs.Node { return f.i }

// Ready, Watch and Unwatch are poll.Pollable's: files are always ready.
func (f *file) Ready() poll.Events   { return poll.In | poll.Out }
func (f *file) Watch(*poll.Waiter)   {}
func (f *file) Unwatch(*poll.Waiter) {}

// Seekable is vfs.File's.
func (f *file) Seekable() bool { return true }

// Read is vfs.File's.
func (f *file) Read(d vfs.Dst, off int64) (int, error) {
	if f.i.typ == vfs.TypeDir {
		return 0, syscall.EISDIR
	}
	n, err := f.i.pages.Read(d, off, &f.ahead)
	if n > 0 && f.flags&syscall.O_NOATIME == 0 {
		f.i.touchAtime()
	}
	return n, err
}

// Write is vfs.File's.
func (f *file) Write(s vfs.Src, off int64, appending bool) (n int, at int64, err error) {
	i := f.i
	if i.typ == vfs.TypeDir {
		return 0, off, syscall.EBADF
	}
	i.write.Lock()
	defer i.write.Unlock()
	size := i.pages.Size()
	if appending {
		off = size
	}
	switch most := maxFileSize(i.fs.sb.blockShift); {
	case off < 0:
		return 0, off, syscall.EINVAL
	case s.Left() == 0:
		return 0, off, nil
	case off >= most:
		return 0, off, syscall.EFBIG
	case int64(s.Left()) > most-off:
		s = &limited{s, int(most - off)}
	}
	if err := i.modified(); err != nil {
		return 0, off, err
	}
	if off > size {
		if err := i.zeroTail(size, off); err != nil {
			return 0, off, err
		}
	}
	n, err = i.pages.Write(s, off)
	if n > 0 && f.flags&(syscall.O_DSYNC|syscall.O_SYNC) != 0 {
		if e := f.Sync(f.flags&syscall.O_SYNC != syscall.O_SYNC); e != nil {
			return 0, off, e
		}
	}
	return n, off, err
}

// limited is a Src with an end.
type limited struct {
	s    vfs.Src
	left int
}

func (l *limited) Left() int { return min(l.left, l.s.Left()) }
func (l *limited) Take(p []byte) (int, error) {
	n, err := l.s.Take(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// Sync is vfs.File's.
func (f *file) Sync(dataOnly bool) error {
	i := f.i
	if i.pages != nil {
		i.pages.Sync()
		if err := i.pages.Err(&f.seen); err != nil {
			return err
		}
	}
	return i.syncMeta(dataOnly)
}

// syncMeta commits what was last changed of the inode.
func (i *inode) syncMeta(dataOnly bool) error {
	if i.fs.readOnly.Load() {
		if i.fs.failed.Load() {
			return syscall.EIO
		}
		return nil
	}
	j := &i.fs.journal
	j.mu.Lock()
	tid := i.tid
	if dataOnly {
		tid = i.dataTid
	}
	j.mu.Unlock()
	if tid == 0 || !before(j.done.Load(), tid) {
		return i.fs.flush()
	}
	return j.commit(tid)
}

// Close is vfs.File's.
func (f *file) Close() error {
	i := f.i
	i.mu.Lock()
	i.open--
	i.mu.Unlock()
	i.destroyIfUnused()
	return nil
}

// PageAt is vfs.Mapper's.
func (f *file) PageAt(off int64, write bool) (vfs.Page, error) {
	if f.i.typ != vfs.TypeFile {
		return nil, syscall.ENODEV
	}
	if write {
		if err := f.i.modified(); err != nil {
			return nil, err
		}
	}
	return f.i.pages.PageAt(off, write)
}

// CachedPage is vfs.CachedMapper's.
func (f *file) CachedPage(off int64) (vfs.Page, bool) {
	if f.i.typ != vfs.TypeFile {
		return nil, false
	}
	return f.i.pages.CachedPage(off)
}

// Attach and Detach are vfs.Mapped's.
func (f *file) Attach(m vfs.Mapping) {
	if f.i.pages != nil {
		f.i.pages.Attach(m)
	}
}

func (f *file) Detach(m vfs.Mapping) {
	if f.i.pages != nil {
		f.i.pages.Detach(m)
	}
}

// SeekData is vfs.Seeker's. Blocks that are allocated and not written are a hole, but
// for what the cache has of them.
func (f *file) SeekData(off int64, wantHole bool) (int64, error) {
	i := f.i
	if i.typ != vfs.TypeFile {
		return 0, syscall.EINVAL
	}
	shift := i.fs.sb.blockShift
	size := i.pages.Size()
	if off < 0 || off >= size {
		return 0, syscall.ENXIO
	}
	i.mu.RLock()
	defer i.mu.RUnlock()
	for at := off; at < size; {
		r := run{n: 1 << 40, sort: written}
		if i.flags&flInline == 0 {
			var err error
			if r, err = i.find(uint64(at) >> shift); err != nil {
				return 0, err
			}
		}
		end := min(int64(min(r.end(), 1<<(62-shift))<<shift), size)
		if r.sort == written {
			if !wantHole {
				return at, nil
			}
			at = end
			continue
		}
		dirty, ok := i.pages.Dirty(at>>cache.PageShift, (end+cache.PageSize-1)>>cache.PageShift)
		data := max(dirty<<cache.PageShift, at)
		switch {
		case !ok && wantHole:
			return at, nil
		case !ok:
			at = end
		case !wantHole:
			return data, nil
		case data > at:
			return at, nil
		default:
			at = min(data&^(cache.PageSize-1)+cache.PageSize, end)
		}
	}
	if wantHole {
		return size, nil
	}
	return 0, syscall.ENXIO
}

// Perm is vfs.Permer's.
func (i *inode) Perm() (mode, uid, gid uint32) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.mode, i.uid, i.gid
}

// touchAtime notes a read, as relatime does: where the time is older than the last
// change, or than a day.
func (i *inode) touchAtime() {
	a := i.atime.Load()
	now := i.fs.now()
	if i.fs.readOnly.Load() || a > i.mtime.Load() && a > i.ctime.Load() && now-a < 24*3600e9 || a >= now {
		return
	}
	h, err := i.fs.begin(creditsInode)
	if err != nil {
		return
	}
	defer h.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.dead && i.links > 0 {
		i.atime.Store(now)
		h.inode(i, false)
	}
}

// modified notes a change of the contents.
func (i *inode) modified() error {
	if err := i.fs.writable(); err != nil {
		return err
	}
	now := i.fs.now()
	if i.mtime.Load() == now && i.ctime.Load() == now {
		return nil
	}
	h, err := i.fs.begin(creditsInode)
	if err != nil {
		return err
	}
	defer h.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.flags&flImmutable != 0 {
		return syscall.EPERM
	}
	i.mtime.Store(now)
	i.ctime.Store(now)
	return h.inode(i, false)
}
