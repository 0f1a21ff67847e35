package ext4

import (
	"errors"
	"time"

	"osv/kernel/vfs/cache"
)

// openWrite makes a mounted file system ready to be written to: the journal is empty,
// the superblock says that it is in use.
func (fs *fileSystem) openWrite(l *logArea, every time.Duration) error {
	a := &fs.alloc
	for n := range fs.groups {
		a.free += int64(fs.groups[n].freeBlocks)
	}
	a.slack = min(a.free/50, 4096)
	j := &fs.journal
	j.fs, j.log = fs, l
	j.pending = map[uint64]*logged{}
	j.most = 4096
	first := uint32(1)
	if l != nil {
		if be.Uint32(l.super[4:]) == jSuperV1 {
			be.PutUint32(l.super[4:], jSuperV2)
			clear(l.super[jsErrno+4:])
			copy(l.super[jsUUID:], fs.sb.raw[sbUUID:sbUUID+16])
			be.PutUint32(l.super[jsUsers:], 1)
			l.seed = crc32c(^uint32(0), l.super[jsUUID:jsUUID+16])
		}
		// As Linux, the log gets the features that the file system calls for.
		l.incompat = l.incompat&^(jsIncompatAsync|jsIncompatCsumV2|jsIncompatCsumV3) | jsIncompatRevoke
		if fs.sb.incompat&incompat64bit != 0 {
			l.incompat |= jsIncompat64bit
		}
		if fs.sb.metaCsum() {
			l.incompat |= jsIncompatCsumV3
			l.super[jsCsumType] = jCRC32C
			be.PutUint32(l.super[jsCompat:], be.Uint32(l.super[jsCompat:])&^jsCompatChecksum)
		}
		be.PutUint32(l.super[jsIncompat:], l.incompat)
		be.PutUint32(l.super[jsErrno:], 0)
		first = max(be.Uint32(l.super[jsSequence:]), 1)
		j.head = l.first
		j.most = int(l.end-l.first)/4 - 8
		if err := l.writeSuper(0, first); err != nil {
			return err
		}
	}
	j.running = &transaction{tid: first}
	j.done.Store(first - 1)

	fs.superMu.Lock()
	s := &fs.sb
	now := uint32(fs.clock().Unix())
	le.PutUint32(s.raw[sbMtime:], now)
	le.PutUint16(s.raw[sbMntCount:], s.u16(sbMntCount)+1)
	if l != nil {
		s.incompat |= incompatRecover
		le.PutUint32(s.raw[sbIncompat:], s.incompat)
	} else {
		le.PutUint16(s.raw[sbState:], s.u16(sbState)&^stateValid)
	}
	fs.superMu.Unlock()
	if err := fs.writeSuper(); err != nil {
		return err
	}
	if err := fs.flush(); err != nil {
		return err
	}
	j.stop, j.stopped = make(chan struct{}), make(chan struct{})
	go j.run(every)
	return nil
}

// sealSuper copies the superblock into its block's buffer.
func (fs *fileSystem) sealSuper(b *buf) {
	fs.superMu.Lock()
	defer fs.superMu.Unlock()
	fs.sumSuper()
	copy(b.data[sbSize&(fs.sb.blockSize-1):], fs.sb.raw[:])
}

// sumSuper puts time and checksum into the superblock. Caller holds superMu.
func (fs *fileSystem) sumSuper() {
	s := &fs.sb
	le.PutUint32(s.raw[sbWtime:], uint32(fs.clock().Unix()))
	if s.metaCsum() {
		le.PutUint32(s.raw[sbChecksum:], crc32c(^uint32(0), s.raw[:sbChecksum]))
	}
}

// writeSuper writes the superblock to its place, past the journal, which has no
// version of it then or is at its end.
func (fs *fileSystem) writeSuper() error {
	no := uint64(sbSize) >> fs.sb.blockShift
	b, err := fs.read(no, kindSuper, 0)
	if err != nil {
		return err
	}
	fs.sealSuper(b)
	return fs.writeAt(b.data, int64(no)<<fs.sb.blockShift)
}

// noteError marks the file system as one that e2fsck should look at.
func (fs *fileSystem) noteError(ino uint32, block uint64) {
	if fs.dev.ReadOnly() || fs.journal.most == 0 {
		return
	}
	fs.superMu.Lock()
	s := &fs.sb
	now := uint32(fs.clock().Unix())
	le.PutUint16(s.raw[sbState:], s.u16(sbState)|stateErrors)
	n := s.u32(sbErrorCount)
	le.PutUint32(s.raw[sbErrorCount:], n+1)
	if n == 0 {
		le.PutUint32(s.raw[sbFirstErrTime:], now)
		le.PutUint32(s.raw[sbFirstErrIno:], ino)
		le.PutUint64(s.raw[sbFirstErrBlk:], block)
	}
	le.PutUint32(s.raw[sbLastErrTime:], now)
	le.PutUint32(s.raw[sbLastErrIno:], ino)
	le.PutUint64(s.raw[sbLastErrBlk:], block)
	// The counts in raw are those of the last commit, and so are the bitmaps on the
	// medium: nothing of what is not committed gets there.
	fs.sumSuper()
	d := make([]byte, max(fs.dev.BlockSize(), sbSize))
	off := int64(sbSize) &^ int64(len(d)-1)
	sb := s.raw
	fs.superMu.Unlock()
	if len(d) > sbSize {
		if fs.readAt(d, off) != nil {
			return
		}
	}
	copy(d[sbSize-off:], sb[:])
	if l := fs.journal.log; l != nil {
		// A replay brings an older superblock back: the journal remembers for it.
		js := append([]byte(nil), l.super...)
		be.PutUint32(js[jsErrno:], ^uint32(116)) // -EUCLEAN
		if l.csum() {
			be.PutUint32(js[jsChecksum:], superSum(js))
		}
		fs.writeAt(js, int64(l.at(0))<<fs.sb.blockShift)
	}
	if fs.writeAt(d, off) == nil {
		fs.flush()
	}
}

// mine says whether a file's pages are this file system's.
func (fs *fileSystem) mine(b cache.Backing) bool {
	k, ok := b.(*backing)
	return ok && k.fs == fs
}

// Sync is vfs.FileSystem's.
func (fs *fileSystem) Sync() error {
	if fs.readOnly.Load() {
		return nil
	}
	err := fs.cache.SyncAll(fs.mine)
	return errors.Join(err, fs.journal.sync())
}

// Unmount is vfs.FileSystem's. The journal is empty after it, and nobody uses the
// file system any more.
func (fs *fileSystem) Unmount() error {
	defer fs.forgetPages()
	j := &fs.journal
	if j.most == 0 { // it was never written to
		return nil
	}
	var err error
	if !fs.readOnly.Load() {
		err = fs.Sync()
	}
	close(j.stop)
	<-j.stopped
	if fs.readOnly.Swap(true) || err != nil {
		return err
	}
	j.turn.Lock()
	defer j.turn.Unlock()
	if j.log != nil {
		if err := j.checkpoint(); err != nil {
			return err
		}
	}
	fs.superMu.Lock()
	s := &fs.sb
	s.incompat &^= incompatRecover
	le.PutUint32(s.raw[sbIncompat:], s.incompat)
	le.PutUint16(s.raw[sbState:], s.u16(sbState)|stateValid)
	fs.superMu.Unlock()
	fs.putCounts()
	if err := fs.writeSuper(); err != nil {
		return err
	}
	return fs.flush()
}

// forgetPages gives the memory of all files' pages back.
func (fs *fileSystem) forgetPages() {
	fs.inodes.mu.Lock()
	var all []*inode
	for _, w := range fs.inodes.all {
		if i := w.Value(); i != nil && i.pages != nil {
			all = append(all, i)
		}
	}
	fs.inodes.mu.Unlock()
	for _, i := range all {
		i.pages.Close()
	}
}
