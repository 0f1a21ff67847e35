package fd

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"
)

// maxFiles is the ceiling of RLIMIT_NOFILE (fs.nr_open).
const maxFiles = 1 << 20

// Table numbers the open files of one or more processes (CLONE_FILES). Get takes no
// lock; whoever changes the table takes mu.
type Table struct {
	refs  atomic.Int32
	limit atomic.Uint64
	slots atomic.Pointer[[]slot] // replaced by a longer copy, never shortened

	mu      sync.Mutex
	used    []uint64 // bit per descriptor: taken or reserved
	full    []uint64 // bit per word of used that has no zero
	cloexec []uint64
	posix   atomic.Bool // POSIX locks may be held in its name
}

type slot struct{ open atomic.Pointer[Open] }

// NewTable is an empty table with the limit (RLIMIT_NOFILE) and one holder.
func NewTable(limit uint64) *Table {
	t := &Table{}
	t.refs.Store(1)
	t.SetLimit(limit)
	s := make([]slot, 64)
	t.slots.Store(&s)
	t.used = make([]uint64, 1)
	t.cloexec = make([]uint64, 1)
	t.full = make([]uint64, 1)
	return t
}

// SetLimit is RLIMIT_NOFILE: the first number that cannot be had. Descriptors above it
// stay.
func (t *Table) SetLimit(n uint64) { t.limit.Store(min(n, maxFiles)) }

// Limit is what SetLimit set.
func (t *Table) Limit() uint64 { return t.limit.Load() }

// Share takes a further holder: a process that shares the table (CLONE_FILES).
func (t *Table) Share() *Table {
	t.refs.Add(1)
	return t
}

// Unshared says whether there is but one holder.
func (t *Table) Unshared() bool { return t.refs.Load() == 1 }

// Release gives a holder up; with the last one all descriptors are closed.
func (t *Table) Release() {
	if t.refs.Add(-1) > 0 {
		return
	}
	_ = t.CloseRange(0, maxFiles-1)
}

// Get is the open file that n names, with a reference for the caller, who gives it
// back by Release. EBADF, also for a descriptor of O_PATH.
func (t *Table) Get(n int) (*Open, error) {
	o, err := t.GetAny(n)
	if err != nil {
		return nil, err
	}
	if o.IsPath() {
		_ = o.Release()
		return nil, syscall.EBADF
	}
	return o, nil
}

// GetAny is Get of O_PATH descriptors too: for fstat, fchdir, the *at calls, dup.
func (t *Table) GetAny(n int) (*Open, error) {
	for {
		s := *t.slots.Load()
		if n < 0 || n >= len(s) {
			return nil, syscall.EBADF
		}
		o := s[n].open.Load()
		if o == nil {
			return nil, syscall.EBADF
		}
		// The last reference may have gone since the load: then the slot has been
		// changed before it, and is looked at again.
		if o.retainLive() {
			return o, nil
		}
	}
}

// Reserve takes the lowest free number from min on, which names nothing until Set:
// EMFILE at the limit, EINVAL for a min beyond it.
func (t *Table) Reserve(min int, cloexec bool) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reserve(min, cloexec)
}

// Caller must hold mu.
func (t *Table) reserve(min int, cloexec bool) (int, error) {
	limit := t.limit.Load()
	n := t.lowest(min)
	if uint64(n) >= limit {
		return 0, syscall.EMFILE
	}
	t.grow(n)
	t.take(n, cloexec)
	return n, nil
}

// lowest is the lowest number from min on that is not taken. Caller must hold mu.
func (t *Table) lowest(min int) int {
	w := min / 64
	if w < len(t.used) {
		if free := ^t.used[w] &^ (1<<(min%64) - 1); free != 0 {
			return w*64 + bits.TrailingZeros64(free)
		}
		w++
		for f := w / 64; f < len(t.full); f++ {
			free := ^t.full[f]
			if f == w/64 {
				free &^= 1<<(w%64) - 1
			}
			if free != 0 {
				w = f*64 + bits.TrailingZeros64(free)
				if w >= len(t.used) {
					return len(t.used) * 64
				}
				return w*64 + bits.TrailingZeros64(^t.used[w])
			}
		}
		return len(t.used) * 64
	}
	return min
}

// grow makes room for n. Caller must hold mu.
func (t *Table) grow(n int) {
	old := *t.slots.Load()
	if n < len(old) {
		return
	}
	size := len(old)
	for size <= n {
		size *= 2
	}
	s := make([]slot, size)
	for i := range old {
		s[i].open.Store(old[i].open.Load())
	}
	t.slots.Store(&s)
	for len(t.used) < size/64 {
		t.used = append(t.used, 0)
		t.cloexec = append(t.cloexec, 0)
	}
	for len(t.full) < (len(t.used)+63)/64 {
		t.full = append(t.full, 0)
	}
}

// take marks n. Caller must hold mu.
func (t *Table) take(n int, cloexec bool) {
	w, b := n/64, uint64(1)<<(n%64)
	t.used[w] |= b
	if ^t.used[w] == 0 {
		t.full[w/64] |= 1 << (w % 64)
	}
	if cloexec {
		t.cloexec[w] |= b
	} else {
		t.cloexec[w] &^= b
	}
}

// free unmarks n. Caller must hold mu.
func (t *Table) free(n int) {
	w, b := n/64, uint64(1)<<(n%64)
	t.used[w] &^= b
	t.full[w/64] &^= 1 << (w % 64)
	t.cloexec[w] &^= b
}

// Caller must hold mu.
func (t *Table) taken(n int) bool {
	return n/64 < len(t.used) && t.used[n/64]&(1<<(n%64)) != 0
}

// Set has a reserved number name o, and takes over the caller's reference to it.
func (t *Table) Set(n int, o *Open) {
	t.mu.Lock()
	defer t.mu.Unlock()
	(*t.slots.Load())[n].open.Store(o)
}

// Unreserve gives a reserved number back.
func (t *Table) Unreserve(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free(n)
}

// Install has the lowest free number from min on name o. It takes over the caller's
// reference; with an error (Reserve's) the caller still has it.
func (t *Table) Install(o *Open, min int, cloexec bool) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := t.reserve(min, cloexec)
	if err != nil {
		return 0, err
	}
	(*t.slots.Load())[n].open.Store(o)
	return n, nil
}

// Dup is dup(2) with min 0, and F_DUPFD: EINVAL for a min at or above the limit.
func (t *Table) Dup(n, min int, cloexec bool) (int, error) {
	o, err := t.GetAny(n)
	if err != nil {
		return 0, err
	}
	if min < 0 || uint64(min) >= t.limit.Load() {
		_ = o.Release()
		return 0, syscall.EINVAL
	}
	m, err := t.Install(o, min, cloexec)
	if err != nil {
		_ = o.Release()
	}
	return m, err
}

// DupTo is dup3(2), and dup2(2) where n and m differ: m names what n does, in one step
// with the end of what it named before. EBUSY where another thread is just opening m.
func (t *Table) DupTo(n, m int, cloexec bool) (int, error) {
	if n == m {
		return 0, syscall.EINVAL
	}
	if m < 0 || uint64(m) >= t.limit.Load() {
		return 0, syscall.EBADF
	}
	o, err := t.GetAny(n)
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	t.grow(m)
	s := *t.slots.Load()
	old := s[m].open.Load()
	if old == nil && t.taken(m) {
		t.mu.Unlock()
		_ = o.Release()
		return 0, syscall.EBUSY
	}
	t.take(m, cloexec)
	s[m].open.Store(o)
	t.mu.Unlock()
	if old != nil {
		_ = t.drop(old) // dup2 tells no error of this close
	}
	return m, nil
}

// Close is close(2). The number is free whatever the error.
func (t *Table) Close(n int) error {
	t.mu.Lock()
	s := *t.slots.Load()
	if n < 0 || n >= len(s) {
		t.mu.Unlock()
		return syscall.EBADF
	}
	o := s[n].open.Load()
	if o == nil {
		t.mu.Unlock()
		return syscall.EBADF
	}
	s[n].open.Store(nil)
	t.free(n)
	t.mu.Unlock()
	return t.drop(o)
}

// drop ends what a descriptor held: the process's POSIX locks on the file, and its
// reference.
func (t *Table) drop(o *Open) error {
	if t.posix.Load() {
		dropPosix(t, o)
	}
	return o.Release()
}

// CloseRange closes all descriptors from first to last: close_range(2).
func (t *Table) CloseRange(first, last uint) error {
	if first > last {
		return syscall.EINVAL
	}
	t.sweep(first, last, func(int) bool { return true })
	return nil
}

// sweep closes the descriptors of [first, last] that f picks, which is called with mu
// held.
func (t *Table) sweep(first, last uint, f func(n int) bool) {
	var gone [64]*Open
	for w := first / 64; ; w++ {
		t.mu.Lock()
		if w >= uint(len(t.used)) || w > last/64 {
			t.mu.Unlock()
			return
		}
		k := 0
		s := *t.slots.Load()
		for rest := t.used[w]; rest != 0; rest &= rest - 1 {
			n := w*64 + uint(bits.TrailingZeros64(rest))
			o := s[n].open.Load()
			if n < first || n > last || o == nil || !f(int(n)) {
				continue
			}
			s[n].open.Store(nil)
			t.free(int(n))
			gone[k] = o
			k++
		}
		t.mu.Unlock()
		for i := range k {
			_ = t.drop(gone[i])
			gone[i] = nil
		}
	}
}

// SetCloexecRange is close_range(2) with CLOSE_RANGE_CLOEXEC.
func (t *Table) SetCloexecRange(first, last uint) error {
	if first > last {
		return syscall.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := first; n <= last && n < uint(len(t.used))*64; n++ {
		if t.taken(int(n)) {
			t.cloexec[n/64] |= 1 << (n % 64)
		}
	}
	return nil
}

// CloseOnExec closes what execve does not pass on.
func (t *Table) CloseOnExec() {
	t.sweep(0, maxFiles-1, func(n int) bool { return t.cloexec[n/64]&(1<<(n%64)) != 0 })
}

// Cloexec is F_GETFD.
func (t *Table) Cloexec(n int) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.named(n) {
		return false, syscall.EBADF
	}
	return t.cloexec[n/64]&(1<<(n%64)) != 0, nil
}

// SetCloexec is F_SETFD.
func (t *Table) SetCloexec(n int, on bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.named(n) {
		return syscall.EBADF
	}
	t.take(n, on)
	return nil
}

// Caller must hold mu.
func (t *Table) named(n int) bool {
	s := *t.slots.Load()
	return n >= 0 && n < len(s) && s[n].open.Load() != nil
}

// Clone is a copy for a new process (fork): each description gets a reference more.
// Numbers that are reserved at the moment are free in it.
func (t *Table) Clone() *Table {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.slots.Load()
	c := &Table{
		used:    make([]uint64, len(t.used)),
		full:    make([]uint64, len(t.full)),
		cloexec: make([]uint64, len(t.cloexec)),
	}
	c.refs.Store(1)
	c.limit.Store(t.limit.Load())
	s := make([]slot, len(old))
	c.slots.Store(&s)
	for w, word := range t.used {
		for ; word != 0; word &= word - 1 {
			n := w*64 + bits.TrailingZeros64(word)
			if o := old[n].open.Load(); o != nil {
				s[n].open.Store(o.Retain())
				c.take(n, t.cloexec[w]&(1<<(n%64)) != 0)
			}
		}
	}
	return c
}

// Each calls f for every descriptor, lowest first, until it returns false: for
// /proc/self/fd and the like. The description is f's while it runs.
func (t *Table) Each(f func(n int, o *Open) bool) {
	for n := 0; n < len(*t.slots.Load()); n++ {
		o, err := t.GetAny(n)
		if err != nil {
			continue
		}
		more := f(n, o)
		_ = o.Release()
		if !more {
			return
		}
	}
}

// Len is how many numbers there can be now without growing: all descriptors are below.
func (t *Table) Len() int { return len(*t.slots.Load()) }
