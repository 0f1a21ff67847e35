package ext4

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"weak"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

// Options are how a file system is mounted. Zero values of all but Cache are sound.
type Options struct {
	Cache *cache.Cache
	// Name is what messages call it: blk0.
	Name string
	// Dev is st_dev of its files, as makedev gives it.
	Dev uint64
	// ReadOnly keeps it from being written to, but for its journal, which is replayed
	// where the device can be written to.
	ReadOnly bool
	// CommitEvery is how long a change may stay out of the journal. 0: 5 s.
	CommitEvery time.Duration
	// Buffers is how many bytes of metadata are kept in memory. 0: 8 MiB.
	Buffers int
	// Warn and Note take messages, of what is wrong and of what was done. Nil: the log.
	Warn, Note func(msg string)
	// Now is the clock. Nil: the machine's.
	Now func() time.Time
}

// fileSystem is one mounted file system.
type fileSystem struct {
	dev    Device
	mem    MemDevice // dev, if it is one
	cache  *cache.Cache
	name   string
	devNo  uint64
	key    uint64 // of this mount, for the cache
	clock  func() time.Time
	warn   func(string)
	notify func(string)

	sb      super // fixed, but for what alloc and orphans guard
	groups  []group
	descs   []*buf // group descriptors, kept
	system  []run  // blocks that no file may have, in order
	overlay map[uint64][]byte

	bufs    buffers
	inodes  inodes
	alloc   allocator
	orphans orphans
	journal journal
	tree    sync.Mutex // changes of names are one at a time
	superMu sync.Mutex // guards sb.raw

	root     *inode
	readOnly atomic.Bool
	failed   atomic.Bool
	probing  bool // Mount is not done
	reports  atomic.Uint32
}

var mounts atomic.Uint64

// Mount makes a file system of what is on dev. It replays the journal, and, unless it
// is to be read-only, ends what a crash has left undone. Where something keeps the
// file system from being written to, it is mounted read-only with a message, which
// StatFS tells too. Errors wrap a syscall.Errno.
func Mount(dev Device, o Options) (vfs.FileSystem, error) {
	fs := &fileSystem{dev: dev, cache: o.Cache, name: o.Name, devNo: o.Dev, key: mounts.Add(1), clock: o.Now, warn: o.Warn, notify: o.Note, probing: true}
	fs.mem, _ = dev.(MemDevice)
	if fs.clock == nil {
		fs.clock = time.Now
	}
	if fs.warn == nil {
		fs.warn = func(msg string) { log.Warnf("%s", msg) }
	}
	if fs.notify == nil {
		fs.notify = func(msg string) { log.Infof("%s", msg) }
	}
	if fs.name == "" {
		fs.name = "ext4"
	}
	if o.Buffers == 0 {
		o.Buffers = 8 << 20
	}
	if o.CommitEvery == 0 {
		o.CommitEvery = 5 * time.Second
	}
	if err := fs.open(o); err != nil {
		var e syscall.Errno
		if !errors.As(err, &e) {
			err = fmt.Errorf("ext4: %w: %w", err, syscall.EIO)
		}
		return nil, err
	}
	return fs, nil
}

func (fs *fileSystem) open(o Options) error {
	if err := fs.loadSuper(); err != nil {
		return err
	}
	s := &fs.sb
	if dev := fs.dev.BlockSize(); dev > s.blockSize {
		return fmt.Errorf("ext4: blocks of %d bytes on a device with blocks of %d: %w", s.blockSize, dev, syscall.EINVAL)
	}
	fs.bufs.init(max(o.Buffers>>s.blockShift, 64))
	fs.inodes.all = map[uint32]weak.Pointer[inode]{}
	ro := o.ReadOnly || fs.dev.ReadOnly()
	if why := s.readOnlyWhy(); why != "" && !ro {
		fs.warn(fs.name + ": mounted read-only: " + why)
		ro = true
	}
	fs.readOnly.Store(ro)

	// The journal first: nothing else on the medium is right before it is replayed.
	if err := fs.loadGroups(); err != nil && s.incompat&incompatRecover == 0 {
		return err
	}
	var l *logArea
	if s.compat&compatJournal != 0 {
		var err error
		if l, err = fs.openLog(); err != nil && (s.incompat&incompatRecover != 0 || !ro) {
			return err
		}
	} else if s.incompat&incompatRecover != 0 {
		return fmt.Errorf("ext4: superblock: the journal is to be replayed, and there is none: %w", syscall.EINVAL)
	}
	if s.incompat&incompatRecover != 0 {
		if err := fs.recover(l); err != nil {
			return err
		}
		if err := fs.reload(o); err != nil {
			return err
		}
	}
	if err := fs.loadSystem(l); err != nil {
		return err
	}
	root, err := fs.inode(inoRoot, 0)
	if err != nil {
		return err
	}
	if root.typ != vfs.TypeDir || root.links == 0 {
		return fmt.Errorf("ext4: inode 2 is not a directory: %w", syscall.EUCLEAN)
	}
	fs.root = root
	if !ro {
		if err := fs.openWrite(l, o.CommitEvery); err != nil {
			return err
		}
	}
	fs.probing = false
	if !ro {
		fs.cleanOrphans()
	}
	return nil
}

func (fs *fileSystem) loadSuper() error {
	n, err := fs.dev.ReadAt(fs.sb.raw[:], sbSize)
	if n < sbSize {
		return fmt.Errorf("ext4: superblock cannot be read: %w: %w", err, syscall.EIO)
	}
	return fs.sb.parse(fs.dev.Size())
}

// reload reads again what was read before the journal was replayed.
func (fs *fileSystem) reload(o Options) error {
	s := &fs.sb
	no := uint64(sbSize) >> s.blockShift
	if d, ok := fs.overlay[no]; ok {
		copy(s.raw[:], d[sbSize&(s.blockSize-1):])
		if err := s.parse(fs.dev.Size()); err != nil {
			return err
		}
	} else if err := fs.loadSuper(); err != nil {
		return err
	}
	fs.bufs.init(max(o.Buffers>>s.blockShift, 64))
	fs.inodes.all = map[uint32]weak.Pointer[inode]{}
	return fs.loadGroups()
}

// loadSystem lists the blocks that hold the file system itself, and keeps the group
// descriptors in memory.
func (fs *fileSystem) loadSystem(l *logArea) error {
	s := &fs.sb
	perBlock := uint32(s.blockSize / s.descSize)
	for n := uint32(0); n < s.groups; n += perBlock {
		b, err := fs.read(s.descBlock(n/perBlock), kindDesc, 0)
		if err != nil {
			return err
		}
		fs.descs = append(fs.descs, b)
	}
	table := (uint64(s.inodesPG)*uint64(s.inodeSize) + uint64(s.blockSize) - 1) >> s.blockShift
	var all []run
	for n := range fs.groups {
		g := &fs.groups[n]
		if k := s.overhead(uint32(n)); k > 0 {
			all = append(all, run{start: s.groupStart(uint32(n)), n: k})
		}
		all = append(all, run{start: g.blockBitmap, n: 1}, run{start: g.inodeBitmap, n: 1}, run{start: g.inodeTable, n: table})
	}
	if l != nil {
		for _, r := range l.runs {
			all = append(all, run{start: r.start, n: r.n})
		}
	}
	fs.system = mergeRuns(all)
	return nil
}

func (fs *fileSystem) note(msg string) { fs.notify(fs.name + ": " + msg) }

// Type is vfs.FileSystem's.
func (fs *fileSystem) Type() string { return "ext4" }

// Root is vfs.FileSystem's.
func (fs *fileSystem) Root() vfs.Node { return fs.root }

// StatFS is vfs.FileSystem's.
func (fs *fileSystem) StatFS() (vfs.StatFS, error) {
	s := &fs.sb
	st := vfs.StatFS{Magic: magic, BlockSize: int64(s.blockSize), NameMax: maxName, Files: uint64(s.inodes), ReadOnly: fs.readOnly.Load()}
	over := uint64(0)
	for _, r := range fs.system {
		over += r.n
	}
	st.Blocks = s.blocks - s.firstData - min(over, s.blocks-s.firstData)
	fs.alloc.mu.Lock()
	for n := range fs.groups {
		st.Bfree += uint64(fs.groups[n].freeBlocks)
		st.Ffree += uint64(fs.groups[n].freeInodes)
	}
	st.Bfree -= min(st.Bfree, uint64(max(fs.alloc.reserved+fs.alloc.chosen, 0)))
	fs.alloc.mu.Unlock()
	st.Bavail = st.Bfree - min(st.Bfree, s.split(sbRBlocksLo, sbRBlocksHi))
	u := s.raw[sbUUID : sbUUID+16]
	id := le.Uint64(u) ^ le.Uint64(u[8:])
	st.FSID = [2]int32{int32(id), int32(id >> 32)}
	return st, nil
}
