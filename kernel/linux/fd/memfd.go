package fd

import (
	"sync"
	"syscall"

	"osv/kernel/vfs"
)

// Seals of memfd_create(2).
const (
	SealSeal        = 1
	SealShrink      = 2
	SealGrow        = 4
	SealWrite       = 8
	SealFutureWrite = 16
	sealAll         = 31
)

// Memfd is a memory file: a file of a tmpfs without a name, with seals. What embeds it
// is the file itself.
type Memfd struct {
	vfs.File
	mu    sync.RWMutex // held for reading while the file changes
	seals uint32
	maps  int // shared mappings that may be written to
}

// NewMemfd wraps an open file. sealed is without MFD_ALLOW_SEALING: no seal can be set.
func NewMemfd(f vfs.File, sealed bool) *Memfd {
	m := &Memfd{File: f}
	if sealed {
		m.seals = SealSeal
	}
	return m
}

// Memfd is what o is, nil if it is none.
func (o *Open) Memfd() *Memfd {
	m, _ := o.file.(*Memfd)
	return m
}

// Seals are those that are set: F_GET_SEALS.
func (m *Memfd) Seals() uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.seals
}

// AddSeals is F_ADD_SEALS: EPERM once SealSeal is set, EINVAL, EBUSY for SealWrite
// while there are mappings that may be written to.
func (m *Memfd) AddSeals(s uint32) error {
	if s&^sealAll != 0 {
		return syscall.EINVAL
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seals&SealSeal != 0 {
		return syscall.EPERM
	}
	if s&SealWrite != 0 && m.maps > 0 {
		return syscall.EBUSY
	}
	m.seals |= s
	return nil
}

// Write is EPERM where the seals forbid it.
func (m *Memfd) Write(s vfs.Src, off int64, appending bool) (int, int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.seals&(SealWrite|SealFutureWrite) != 0 {
		return 0, off, syscall.EPERM
	}
	if m.seals&SealGrow != 0 {
		size, err := m.size()
		if err != nil {
			return 0, off, err
		}
		if appending || off+int64(s.Left()) > size {
			return 0, off, syscall.EPERM
		}
	}
	return m.File.Write(s, off, appending)
}

func (m *Memfd) size() (int64, error) {
	a, err := m.File.Node().Attr()
	return a.Size, err
}

// Truncate is ftruncate(2).
func (m *Memfd) Truncate(n int64) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	size, err := m.size()
	switch {
	case err != nil:
		return err
	case n < size && m.seals&SealShrink != 0, n > size && m.seals&SealGrow != 0:
		return syscall.EPERM
	}
	return m.File.Node().SetAttr(vfs.SetSize, vfs.Attr{Size: n})
}

// Allocate is fallocate(2).
func (m *Memfd) Allocate(mode uint32, off, n int64) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	const punch = 2
	size, err := m.size()
	switch {
	case err != nil:
		return err
	case mode&punch != 0 && m.seals&(SealWrite|SealFutureWrite) != 0,
		mode&punch == 0 && off+n > size && m.seals&SealGrow != 0:
		return syscall.EPERM
	}
	a, ok := m.File.(vfs.Allocator)
	if !ok {
		return syscall.EOPNOTSUPP
	}
	return a.Allocate(mode, off, n)
}

// SeekData finds data and holes.
func (m *Memfd) SeekData(off int64, hole bool) (int64, error) {
	if s, ok := m.File.(vfs.Seeker); ok {
		return s.SeekData(off, hole)
	}
	return off, nil
}

// PageAt is of vfs.Mapper. A page is not had for writing once that is sealed.
func (m *Memfd) PageAt(off int64, write bool) (vfs.Page, error) {
	p, ok := m.File.(vfs.Mapper)
	if !ok {
		return nil, syscall.ENODEV
	}
	if write && m.Seals()&SealWrite != 0 {
		return nil, syscall.EPERM
	}
	return p.PageAt(off, write)
}

// HoldMap counts a shared mapping that may be written to, or is about to be made: EPERM
// where the seals forbid it. Until LetMap SealWrite cannot be set.
func (m *Memfd) HoldMap() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seals&(SealWrite|SealFutureWrite) != 0 {
		return syscall.EPERM
	}
	m.maps++
	return nil
}

// HoldMapAgain counts one more where there is one: of a child, by fork.
func (m *Memfd) HoldMapAgain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.maps++
}

// LetMap ends one that was counted.
func (m *Memfd) LetMap() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.maps--
}

// Attach and Detach are of vfs.Mapped, CachedPage of vfs.CachedMapper.
func (m *Memfd) Attach(g vfs.Mapping) {
	if f, ok := m.File.(vfs.Mapped); ok {
		f.Attach(g)
	}
}

// Detach ends Attach.
func (m *Memfd) Detach(g vfs.Mapping) {
	if f, ok := m.File.(vfs.Mapped); ok {
		f.Detach(g)
	}
}

// CachedPage is PageAt of what is there.
func (m *Memfd) CachedPage(off int64) (vfs.Page, bool) {
	if f, ok := m.File.(vfs.CachedMapper); ok {
		return f.CachedPage(off)
	}
	return nil, false
}
