package vdso

import (
	"syscall"

	"osv/kernel/linux/mm"
	"osv/kernel/vfs"
)

// Object is the data page and the image in memory, one for all programs.
type Object struct{ pages [2]page }

// page is a vfs.Page that stays.
type page struct {
	frame mm.Frame
	b     []byte
}

func (p *page) Frame() uint64 { return uint64(p.frame) }
func (p *page) Bytes() []byte { return p.b }
func (*page) Dirty()          {}
func (*page) Release()        {}

// New makes the object in two frames of m, which it keeps. Until Update, programs
// make system calls.
func New(m mm.Machine) (*Object, error) {
	var f [2]mm.Frame
	if err := m.Alloc(f[:], 0, true); err != nil {
		return nil, err
	}
	o := new(Object)
	for i := range f {
		o.pages[i] = page{f[i], m.Bytes(f[i], 0)}
	}
	copy(o.pages[1].b, Image())
	return o, nil
}

// Update sets the time for programs that run already, and all later ones. One
// goroutine at a time may call it.
func (o *Object) Update(p Params) { Update(o.pages[0].b, p) }

// PageAt makes it a vfs.Mapper.
func (o *Object) PageAt(off int64, write bool) (vfs.Page, error) {
	if write || off < 0 || off >= 2*PageSize {
		return nil, syscall.EFBIG
	}
	return &o.pages[off/PageSize], nil
}

// Map maps it into a new program's space and returns the image's address, for
// AT_SYSINFO_EHDR.
func (o *Object) Map(s *mm.Space) (uint64, error) {
	const rx = mm.ProtRead | mm.ProtExec
	at, err := s.Mmap(mm.MapRequest{Length: 2 * PageSize, Prot: mm.ProtRead, Flags: syscall.MAP_PRIVATE, Mapper: o, Max: rx, Name: "[vvar]"})
	if err != nil {
		return 0, err
	}
	return s.Mmap(mm.MapRequest{Addr: at + PageSize, Length: PageSize, Prot: rx, Flags: syscall.MAP_PRIVATE | syscall.MAP_FIXED,
		Mapper: o, Offset: PageSize, Max: rx, Name: "[vdso]"})
}
