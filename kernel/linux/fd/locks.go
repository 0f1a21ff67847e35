package fd

import (
	"cmp"
	"slices"
	"sync"
	"syscall"
	"time"

	"osv/kernel/vfs/poll"
)

// Lock is a lock on a range of a file: fcntl(2).
type Lock struct {
	Type  int16 // F_RDLCK, F_WRLCK, F_UNLCK
	Start int64
	End   int64 // last byte, maxOffset up to the end
	PID   int32 // -1 of an OFD lock
	owner any   // *Table of POSIX locks, *Open of OFD locks and flock
}

const maxOffset = 1<<63 - 1

// NewLock checks the range that a struct flock names, once start is counted from the
// front of the file: EINVAL before it, EOVERFLOW beyond the last byte.
func NewLock(typ int16, start, length int64, pid int32) (Lock, error) {
	l := Lock{Type: typ, Start: start, End: maxOffset, PID: pid}
	if typ != syscall.F_RDLCK && typ != syscall.F_WRLCK && typ != syscall.F_UNLCK || start < 0 {
		return l, syscall.EINVAL
	}
	switch {
	case length > 0:
		if length-1 > maxOffset-start {
			return l, syscall.EOVERFLOW
		}
		l.End = start + length - 1
	case length < 0:
		if start+length < 0 {
			return l, syscall.EINVAL
		}
		l.Start, l.End = start+length, start-1
	}
	return l, nil
}

// Length is l_len of struct flock.
func (l *Lock) Length() int64 {
	if l.End == maxOffset {
		return 0
	}
	return l.End - l.Start + 1
}

func (l *Lock) overlaps(m *Lock) bool { return l.Start <= m.End && m.Start <= l.End }

func (l *Lock) conflicts(m *Lock) bool {
	return l.owner != m.owner && l.overlaps(m) && (l.Type == syscall.F_WRLCK || m.Type == syscall.F_WRLCK)
}

// lockTable has all locks of all files. One lock over it: locks are rare, and a
// deadlock can only be found with all of them in sight.
var lockTable = struct {
	mu      sync.Mutex
	files   map[inode]*fileLocks
	waiting map[any]*Lock // owner of POSIX locks that waits → one that is in its way
}{files: map[inode]*fileLocks{}, waiting: map[any]*Lock{}}

// fileLocks are one inode's.
type fileLocks struct {
	ranges []Lock // POSIX and OFD: the owners as they came, each one's by start
	flocks []Lock // whole-file
	freed  poll.List
	users  int // waiting threads
}

// locksOf finds an inode's locks, or makes them. Caller must hold lockTable.mu.
func locksOf(k inode) *fileLocks {
	f := lockTable.files[k]
	if f == nil {
		f = &fileLocks{}
		lockTable.files[k] = f
	}
	return f
}

// tidy forgets an inode without locks. Caller must hold lockTable.mu.
func (f *fileLocks) tidy(k inode) {
	if len(f.ranges) == 0 && len(f.flocks) == 0 && f.users == 0 {
		delete(lockTable.files, k)
	}
}

// blocker is a lock in the way of l, nil if there is none. Of several it is the first
// in Linux's order: the owners as they came, each one's locks by their start. Caller
// must hold lockTable.mu.
func (f *fileLocks) blocker(l *Lock) *Lock {
	for i := range f.ranges {
		if m := &f.ranges[i]; l.conflicts(m) {
			return m
		}
	}
	return nil
}

// set puts l in place of what its owner has in its range; it says whether a lock went
// or became weaker. Caller must hold lockTable.mu.
func (f *fileLocks) set(l Lock) bool {
	freed := false
	var mine, others []Lock
	at := -1 // where the owner's locks are among the others
	for _, m := range f.ranges {
		if m.owner != l.owner {
			others = append(others, m)
			continue
		}
		if at < 0 {
			at = len(others)
		}
		if m.Type == l.Type && l.Type != syscall.F_UNLCK && touches(&m, &l) {
			l.Start, l.End = min(l.Start, m.Start), max(l.End, m.End)
			continue
		}
		if !m.overlaps(&l) {
			mine = append(mine, m)
			continue
		}
		freed = true
		if m.Start < l.Start {
			left := m
			left.End = l.Start - 1
			mine = append(mine, left)
		}
		if m.End > l.End {
			right := m
			right.Start = l.End + 1
			mine = append(mine, right)
		}
	}
	if l.Type != syscall.F_UNLCK {
		mine = append(mine, l)
	}
	slices.SortFunc(mine, func(a, b Lock) int { return cmp.Compare(a.Start, b.Start) })
	if at < 0 {
		at = len(others)
	}
	f.ranges = slices.Insert(others, at, mine...)
	return freed
}

// touches says whether the ranges overlap or are next to each other.
func touches(a, b *Lock) bool {
	return a.overlaps(b) || a.End != maxOffset && a.End+1 == b.Start || b.End != maxOffset && b.End+1 == a.Start
}

// owner is who a lock of o belongs to: the process's table, or with ofd set the
// description.
func owner(t *Table, o *Open, ofd bool) any {
	if ofd {
		return o
	}
	return t
}

// TestLock is F_GETLK and F_OFD_GETLK: the lock in the way of l, false if there is
// none. EINVAL for what cannot be locked.
func TestLock(t *Table, o *Open, l Lock, ofd bool) (Lock, bool, error) {
	k, ok := inodeOf(o.file.Node())
	if !ok {
		return l, false, syscall.EINVAL
	}
	l.owner = owner(t, o, ofd)
	lockTable.mu.Lock()
	defer lockTable.mu.Unlock()
	if f := lockTable.files[k]; f != nil {
		if b := f.blocker(&l); b != nil {
			return *b, true, nil
		}
	}
	return l, false, nil
}

// SetLock is F_SETLK, with wait F_SETLKW, and their OFD forms: EAGAIN where it would
// have to wait, EDEADLK where POSIX locks would wait in a circle, EBADF where o is not
// open for what the lock is for, abi.ERESTARTSYS.
func SetLock(s Sleeper, t *Table, o *Open, l Lock, ofd, wait bool) error {
	k, ok := inodeOf(o.file.Node())
	if !ok {
		return nil // what has no inode of its own nobody else locks
	}
	if l.Type == syscall.F_RDLCK && !o.CanRead() || l.Type == syscall.F_WRLCK && !o.CanWrite() {
		return syscall.EBADF
	}
	l.owner = owner(t, o, ofd)
	if ofd {
		l.PID = -1
		o.locked.Store(true)
	} else {
		t.posix.Store(true)
	}
	var w *lockWait
	for {
		lockTable.mu.Lock()
		f := locksOf(k)
		var b *Lock
		if l.Type != syscall.F_UNLCK {
			b = f.blocker(&l)
		}
		if b == nil {
			freed := f.set(l)
			w.end(f)
			f.tidy(k)
			lockTable.mu.Unlock()
			if freed {
				f.freed.Notify(poll.Out)
			}
			return nil
		}
		err := error(nil)
		switch {
		case !wait:
			err = syscall.EAGAIN
		case !ofd && deadlock(l.owner, b):
			err = syscall.EDEADLK
		case w != nil && w.err != nil:
			err = w.err
		}
		if err != nil {
			w.end(f)
			f.tidy(k)
			lockTable.mu.Unlock()
			return err
		}
		if w == nil {
			w = startLockWait(f, l.owner, !ofd)
		}
		if w.posix {
			at := *b
			lockTable.waiting[l.owner] = &at
		}
		lockTable.mu.Unlock()
		w.err = s.Sleep(w.w.c, time.Time{})
	}
}

// lockWait is a thread that waits for locks of one file to go.
type lockWait struct {
	w     *wait
	owner any
	posix bool
	err   error
}

// Caller must hold lockTable.mu.
func startLockWait(f *fileLocks, owner any, posix bool) *lockWait {
	w := waits.Get().(*wait)
	select {
	case <-w.c:
	default:
	}
	w.want.Store(uint32(poll.Any))
	w.w.Exclusive = false
	f.freed.Add(&w.w)
	f.users++
	return &lockWait{w: w, owner: owner, posix: posix}
}

// end ends the wait, if there was one. Caller must hold lockTable.mu.
func (w *lockWait) end(f *fileLocks) {
	if w == nil {
		return
	}
	f.freed.Remove(&w.w.w)
	f.users--
	if w.posix {
		delete(lockTable.waiting, w.owner)
	}
	waits.Put(w.w)
}

// deadlock says whether the owner of b waits, perhaps through others, for me. Caller
// must hold lockTable.mu.
func deadlock(me any, b *Lock) bool {
	for range 10 { // MAX_DEADLK_ITERATIONS
		if b.owner == me {
			return true
		}
		next := lockTable.waiting[b.owner]
		if next == nil {
			return false
		}
		b = next
	}
	return false
}

// dropPosix takes the process's POSIX locks on o's file away: the price of closing any
// descriptor of it.
func dropPosix(t *Table, o *Open) {
	k, ok := inodeOf(o.file.Node())
	if !ok {
		return
	}
	lockTable.mu.Lock()
	f := lockTable.files[k]
	freed := false
	if f != nil {
		freed = f.set(Lock{Type: syscall.F_UNLCK, End: maxOffset, owner: t})
		f.tidy(k)
	}
	lockTable.mu.Unlock()
	if freed {
		f.freed.Notify(poll.Out)
	}
}

// dropLocks takes a description's OFD locks and flock away.
func dropLocks(o *Open) {
	k, ok := inodeOf(o.file.Node())
	if !ok {
		return
	}
	lockTable.mu.Lock()
	f := lockTable.files[k]
	freed := false
	if f != nil {
		freed = f.set(Lock{Type: syscall.F_UNLCK, End: maxOffset, owner: o})
		freed = f.unflock(o) || freed
		f.tidy(k)
	}
	lockTable.mu.Unlock()
	if freed {
		f.freed.Notify(poll.Out)
	}
}

// unflock takes o's flock away. Caller must hold lockTable.mu.
func (f *fileLocks) unflock(o *Open) bool {
	for i := range f.flocks {
		if f.flocks[i].owner == any(o) {
			f.flocks = append(f.flocks[:i], f.flocks[i+1:]...)
			return true
		}
	}
	return false
}

// Flock is flock(2): typ is F_RDLCK, F_WRLCK or F_UNLCK. EAGAIN (EWOULDBLOCK) where it
// would have to wait and wait is not set, abi.ERESTARTSYS.
func Flock(s Sleeper, o *Open, typ int16, wait bool) error {
	k, ok := inodeOf(o.file.Node())
	if !ok {
		if typ == syscall.F_UNLCK {
			return nil
		}
		k = inode{} // what has no inode is locked by nobody else
		o.locked.Store(true)
		return nil
	}
	o.locked.Store(true)
	l := Lock{Type: typ, End: maxOffset, owner: o}
	var w *lockWait
	dropped := false
	for {
		lockTable.mu.Lock()
		f := locksOf(k)
		if !dropped {
			// A lock of another kind goes first: the change is not one step.
			for i := range f.flocks {
				if f.flocks[i].owner == any(o) && f.flocks[i].Type == typ {
					f.tidy(k)
					lockTable.mu.Unlock()
					return nil
				}
			}
			dropped = f.unflock(o)
			if dropped {
				f.freed.Notify(poll.Out)
			}
			dropped = true
		}
		blocked := false
		for i := range f.flocks {
			blocked = blocked || typ != syscall.F_UNLCK && l.conflicts(&f.flocks[i])
		}
		err := error(nil)
		switch {
		case blocked && !wait:
			err = syscall.EAGAIN
		case blocked && w != nil && w.err != nil:
			err = w.err
		}
		if !blocked && typ != syscall.F_UNLCK {
			f.flocks = append(f.flocks, l)
		}
		if !blocked || err != nil {
			w.end(f)
			f.tidy(k)
			lockTable.mu.Unlock()
			return err
		}
		if w == nil {
			w = startLockWait(f, o, false)
		}
		lockTable.mu.Unlock()
		w.err = s.Sleep(w.w.c, time.Time{})
	}
}

// LockInfo is one line of /proc/locks.
type LockInfo struct {
	Kind     string // POSIX, OFDLCK, FLOCK
	Type     int16
	PID      int32
	Dev, Ino uint64
	Start    int64
	End      int64 // -1 up to the end
}

// Locks are all locks that are held, in no order.
func Locks() []LockInfo {
	lockTable.mu.Lock()
	defer lockTable.mu.Unlock()
	var out []LockInfo
	for k, f := range lockTable.files {
		add := func(kind string, l *Lock) {
			i := LockInfo{kind, l.Type, l.PID, k.dev, k.ino, l.Start, l.End}
			if l.End == maxOffset {
				i.End = -1
			}
			out = append(out, i)
		}
		for i := range f.ranges {
			kind := "POSIX"
			if _, ofd := f.ranges[i].owner.(*Open); ofd {
				kind = "OFDLCK"
			}
			add(kind, &f.ranges[i])
		}
		for i := range f.flocks {
			add("FLOCK", &f.flocks[i])
		}
	}
	return out
}
