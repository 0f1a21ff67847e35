package mm

import (
	"sync"
	"sync/atomic"
	"syscall"
)

// The page size and the layout of the lower half, as arch/x86/include/asm/page_types.h
// and processor.h have them.
const (
	PageShift = 12
	PageSize  = 1 << PageShift
	LargeSize = 2 << 20

	// TaskSize is the end of user addresses: the last page of the lower half stays
	// free (an erratum of SYSRET).
	TaskSize = 1<<47 - PageSize
	// MinAddr is vm.mmap_min_addr.
	MinAddr = 1 << 16
	// MaxMaps is vm.max_map_count: above what Cassandra asks for.
	MaxMaps = 1 << 20

	largeOrder = 9
	// mmapBottom is where the search upwards begins if the one downwards fails.
	mmapBottom = TaskSize / 3 &^ (PageSize - 1)
)

// Options are what a Space is told of its surroundings.
type Options struct {
	// Refs is the machine's; nil makes one of its own (no sharing with other spaces but
	// those forked from it).
	Refs *Refs
	// Total is the machine's memory in bytes, for the overcommit check; 0 is no check.
	Total uint64
	// Random moves the mmap base and brk; nil leaves them fixed.
	Random func() uint64
	// Reclaim is asked for memory when there is none, with no lock held: true if
	// trying again is worth it. Nil is false.
	Reclaim func(bytes uint64) bool
	// OOM is called when a page that the program was promised cannot be had, with the
	// space's lock held for reading: it may only take note, and see to it that the
	// program dies. Nil does nothing; Fault returns ErrOOM as well. A child of fork wants
	// its own: SetOOM.
	OOM    func()
	Limits Limits
}

// Limits are the soft resource limits that bear on memory, in bytes; ^0 is none.
// 0 counts as none as well in the zero value's sake only for Stack.
type Limits struct {
	AS, Data, Stack, Memlock uint64
}

// Unlimited is no limit but the usual 8 MiB of stack and of locked memory.
var Unlimited = Limits{AS: ^uint64(0), Data: ^uint64(0), Stack: 8 << 20, Memlock: 8 << 20}

// Space is the address space of a process; vfork's child shares its parent's.
//
// Locks, in order: Space.mu (Linux's mmap_lock), region.mu (one per table region),
// Refs' chunks, whatever Page.Dirty and Page.Release take. With mu held for reading
// pages are only added and rights only widened, so that what Table.Lookup told stays
// true, and its frame allocated, until mu is released. All that takes pages or rights
// away holds mu for writing; a copy on write, which replaces a frame with mu held for
// reading, leaves the old one to whoever next holds it for writing (settle).
//
// Mapper.PageAt, Reclaim, Attach and Detach and the reference functions are called
// with no lock held.
type Space struct {
	m     Machine
	table Table
	// reacher is the table, or nil where it is no Reacher.
	reacher Reacher
	root    uint64 // of table
	near    near
	refs    *Refs
	opt     Options
	oom     atomic.Pointer[func()]

	users   atomic.Int32
	ipcLock atomic.Bool

	// Barriers are the commands that membarrier(2) registered.
	Barriers atomic.Uint32

	mu      sync.RWMutex
	tree    tree
	zap     zapper
	drops   []*backing // to be dropped by unlock
	spare   *vma       // free list, through next
	layout  layout
	total   uint64 // bytes of all mappings
	locked  uint64 // of those with vmLocked
	data    uint64 // private, writable, not stack: RLIMIT_DATA counts them
	stack   uint64 // growing down
	exec    uint64 // executable
	commit  uint64 // accounted to Committed_AS
	inPlace int    // mappings that writes go through to a page behind
	lockAll bool   // MCL_FUTURE

	regions [64]region

	old struct { // frames that copy on write replaced
		mu     sync.Mutex
		n      atomic.Int32
		frames []oldFrame
	}

	limits atomic.Pointer[Limits]
	anon   atomic.Int64 // resident pages, by kind
	files  atomic.Int64
	peak   atomic.Int64 // resident pages at most
	peakVM uint64       // guarded by mu
	faults atomic.Uint64
	waits  atomic.Uint64 // for files
}

// region is the lock and the scratch space of the page tables for those 2 MiB regions
// whose number has the same last bits.
type region struct {
	mu  sync.Mutex
	one [1]Frame
}

type oldFrame struct {
	frame Frame
	page  bool // of a file
}

// region locks the tables around a.
func (s *Space) region(a uint64) *region {
	r := &s.regions[a/LargeSize%uint64(len(s.regions))]
	r.mu.Lock()
	return r
}

// New makes an empty address space with one user.
func New(m Machine, opt Options) (*Space, error) {
	if opt.Refs == nil {
		opt.Refs = new(Refs)
	}
	if opt.Limits == (Limits{}) {
		opt.Limits = Unlimited
	}
	t, err := m.NewTable()
	if err != nil {
		return nil, err
	}
	s := &Space{m: m, table: t, root: t.Root(), refs: opt.Refs, opt: opt}
	s.reacher, _ = t.(Reacher)
	s.users.Store(1)
	s.SetOOM(opt.OOM)
	s.zap.init(s)
	s.spare = spares.Get().(*vma)
	s.SetLimits(opt.Limits)
	s.layout.choose(opt.Limits.Stack, opt.Random)
	return s, nil
}

// SetLimits says what may be had from now on.
func (s *Space) SetLimits(l Limits) { s.limits.Store(&l) }

// SetOOM replaces Options.OOM, which a child of fork has from its parent: whose program
// dies is another.
func (s *Space) SetOOM(f func()) {
	if f == nil {
		f = func() {}
	}
	s.oom.Store(&f)
}

// SetIPCLock says whether the program may lock memory beyond its limit (CAP_IPC_LOCK).
func (s *Space) SetIPCLock(may bool) { s.ipcLock.Store(may) }

// memlock is how many bytes may be locked.
func (s *Space) memlock() uint64 {
	if s.ipcLock.Load() {
		return ^uint64(0)
	}
	return s.limits.Load().Memlock
}

// Table is the page table, to run threads on.
func (s *Space) Table() Table { return s.table }

// Root is Table().Root().
func (s *Space) Root() uint64 { return s.root }

// Share adds a user (a vfork child, a reader in procfs) and returns s; each calls
// Close. It returns nil where the last has closed it already.
func (s *Space) Share() *Space {
	for {
		n := s.users.Load()
		if n == 0 {
			return nil
		}
		if s.users.CompareAndSwap(n, n+1) {
			return s
		}
	}
}

// Close ends a use. The last unmaps all and releases the table: no thread may be in
// user mode on it any more.
func (s *Space) Close() {
	if s.users.Add(-1) != 0 {
		return
	}
	s.lock()
	for v := s.tree.first; v != nil; v = v.next {
		// Nothing runs here any more, so the flushes cost nothing that counts, and
		// whole mappings need no split.
		s.zap.begin(v)
		s.zap.run(v.start, v.end)
	}
	for s.tree.first != nil {
		s.forget(s.tree.first)
	}
	s.zap.end()
	spares.Put(s.spare)
	s.spare = nil
	s.unlock()
	s.table.Free()
}

// spares are lists of mappings that spaces left behind.
var spares = sync.Pool{New: func() any { return (*vma)(nil) }}

// lock takes mu for writing, when all readers of replaced frames are gone.
func (s *Space) lock() {
	s.mu.Lock()
	s.free()
}

// unlock ends lock and lets go of the files that were unmapped.
func (s *Space) unlock() {
	d := s.drops
	s.drops = nil
	s.mu.Unlock()
	for _, b := range d {
		b.drop()
	}
}

// replaced puts off the release of a frame that nothing maps any more, but that a
// reader may still be copying from. Caller holds mu for reading.
func (s *Space) replaced(f Frame, page bool) {
	s.forgetNear()
	s.old.mu.Lock()
	s.old.frames = append(s.old.frames, oldFrame{f, page})
	s.old.n.Store(int32(len(s.old.frames)))
	s.old.mu.Unlock()
}

// settle releases replaced frames if there are any and it is easy, or if they are
// many. Caller holds no lock.
func (s *Space) settle() {
	if n := s.old.n.Load(); n != 0 {
		s.release(n)
	}
}

// release is settle where there are n.
func (s *Space) release(n int32) {
	if n < 256 {
		if s.mu.TryLock() {
			s.free()
			s.unlock()
		}
		return
	}
	s.lock()
	s.unlock()
}

// free releases the replaced frames, and forgets what may be taken away now. Caller
// holds mu for writing.
func (s *Space) free() {
	s.forgetNear()
	if s.old.n.Load() == 0 {
		return
	}
	for _, o := range s.old.frames {
		if o.page {
			s.refs.dropPage(o.frame, false)
		} else if s.refs.drop(o.frame) {
			s.zap.put(o.frame)
		}
	}
	s.old.frames = s.old.frames[:0]
	s.old.n.Store(0)
	s.zap.flush()
}

// vma takes a mapping from the free list. Caller holds mu for writing.
func (s *Space) vma() *vma {
	v := s.spare
	if v == nil {
		return new(vma)
	}
	s.spare = v.next
	v.next = nil
	return v
}

// add puts v into the tree and into the sums.
func (s *Space) add(v *vma) {
	s.tree.insert(v)
	s.count(v, v.end-v.start)
	if v.writesInPlace() {
		s.inPlace++
	}
}

// forget takes v out of the tree and the sums, and keeps it for reuse. Its pages are
// gone or somebody else's.
func (s *Space) forget(v *vma) {
	s.tree.remove(v)
	s.count(v, -(v.end - v.start))
	if v.writesInPlace() {
		s.inPlace--
	}
	if v.back != nil {
		s.drops = append(s.drops, v.back)
	}
	*v = vma{next: s.spare}
	s.spare = v
}

// count adds n bytes (or takes them, as a negative number) of v's kind to the sums.
func (s *Space) count(v *vma, n uint64) {
	s.total += n
	s.peakVM = max(s.peakVM, s.total)
	if v.flags&vmLocked != 0 {
		s.locked += n
	}
	switch {
	case v.flags&vmGrowsDown != 0:
		s.stack += n
	case v.isData():
		s.data += n
	}
	if v.prot&ProtExec != 0 {
		s.exec += n
	}
	if v.accounted() {
		s.commit += n
	}
}

// isData is Linux's is_data_mapping.
func (v *vma) isData() bool {
	return v.prot&ProtWrite != 0 && v.flags&(vmShared|vmGrowsDown) == 0
}

// accounted is Linux's VM_ACCOUNT: memory that the mapping may have to find.
func (v *vma) accounted() bool {
	return v.prot&ProtWrite != 0 && v.flags&(vmShared|vmNoReserve) == 0
}

// resident adds n pages of a kind to the resident set.
func (s *Space) resident(kind *atomic.Int64, n int64) {
	kind.Add(n)
	if n > 0 {
		sum := s.anon.Load() + s.files.Load()
		for p := s.peak.Load(); sum > p && !s.peak.CompareAndSwap(p, sum); p = s.peak.Load() {
		}
	}
}

// reclaim asks for memory. Caller holds no lock.
func (s *Space) reclaim(bytes uint64) bool {
	return s.opt.Reclaim != nil && s.opt.Reclaim(bytes)
}

// noMemory says whether err is that of a machine without memory.
func noMemory(err error) bool { return err == syscall.ENOMEM }
