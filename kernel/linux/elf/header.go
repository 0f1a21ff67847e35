// Package elf loads programs: it reads the headers of an ELF file, maps its segments
// and those of its interpreter, and builds the stack that a program starts with.
//
// Spec: System V ABI, AMD64 supplement 1.0, §3.4 and chapter 5; gABI chapter 5;
// Linux 6.1 (fs/binfmt_elf.c, fs/binfmt_script.c) for what is accepted and where things
// go. Thread-local storage (PT_TLS) is the C library's matter. Who may use it:
// kernel/linux/task. It knows neither processes nor the file tree: files come as
// Readers and mm.MapRequests. Start reading at Parse, then Load.
package elf

import (
	"encoding/binary"
	"syscall"
)

var le = binary.LittleEndian

// Types of ELF files and of segments, and segment flags.
const (
	typeExec = 2
	typeDyn  = 3

	ptLoad     = 1
	ptInterp   = 3
	ptPhdr     = 6
	ptGNUStack = 0x6474e551

	flagX = 1
	flagW = 2
	flagR = 4

	headerSize  = 64
	phdrSize    = 56
	maxHeaders  = 65536 / phdrSize // ELF_MIN_ALIGN of binfmt_elf's load_elf_phdrs
	maxPath     = 4096
	machineX64  = 62
	pageSize    = 4096
	maxUser     = 1<<47 - pageSize
	maxSegments = 1 << 10
)

// Segment is a PT_LOAD.
type Segment struct {
	Offset, Addr, FileSize, MemSize, Align uint64
	Flags                                  uint32
}

// Image is what an ELF file says of itself.
type Image struct {
	Dyn        bool // may be loaded anywhere
	Entry      uint64
	PhdrOffset uint64 // in the file
	PhdrAddr   uint64 // of PT_PHDR, 0 where there is none
	PhdrCount  int
	Segments   []Segment // ascending, apart from each other
	Interp     string    // path, "" where there is none
	ExecStack  bool
}

// Reader is a file. ReadAt returns what there is, and an error only where that is
// nothing.
type Reader interface {
	ReadAt(p []byte, off int64) (int, error)
}

// full reads all of p, or fails with short.
func full(r Reader, p []byte, off uint64, short error) error {
	if off > 1<<62 {
		return short
	}
	for len(p) > 0 {
		n, err := r.ReadAt(p, int64(off))
		if err != nil {
			return err
		}
		if n == 0 {
			return short
		}
		p, off = p[n:], off+uint64(n)
	}
	return nil
}

// Parse reads the headers of a program: ENOEXEC where it is none for this machine.
func Parse(r Reader) (*Image, error) {
	var h [headerSize]byte
	if err := full(r, h[:], 0, syscall.ENOEXEC); err != nil {
		return nil, err
	}
	i, n, err := parseHeader(h[:])
	if err != nil {
		return nil, err
	}
	ph := make([]byte, n*phdrSize)
	if err := full(r, ph, i.PhdrOffset, syscall.ENOEXEC); err != nil {
		return nil, err
	}
	at, size, err := i.parseSegments(ph)
	if err != nil {
		return nil, err
	}
	if size != 0 {
		if err := i.readInterp(r, at, size); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func parseHeader(h []byte) (*Image, int, error) {
	if string(h[:4]) != "\x7fELF" || h[4] != 2 || h[5] != 1 { // 64 bits, little-endian
		return nil, 0, syscall.ENOEXEC
	}
	typ, machine := le.Uint16(h[16:]), le.Uint16(h[18:])
	size, n := le.Uint16(h[54:]), int(le.Uint16(h[56:]))
	if typ != typeExec && typ != typeDyn || machine != machineX64 || size != phdrSize || n == 0 || n > maxHeaders {
		return nil, 0, syscall.ENOEXEC
	}
	return &Image{Dyn: typ == typeDyn, Entry: le.Uint64(h[24:]), PhdrOffset: le.Uint64(h[32:]), PhdrCount: n}, n, nil
}

// parseSegments reads the program headers, and returns where the interpreter's name is.
func (i *Image) parseSegments(ph []byte) (interp, size uint64, err error) {
	var end uint64 // of the segment before
	for ; len(ph) >= phdrSize; ph = ph[phdrSize:] {
		s := Segment{
			Flags: le.Uint32(ph[4:]), Offset: le.Uint64(ph[8:]), Addr: le.Uint64(ph[16:]),
			FileSize: le.Uint64(ph[32:]), MemSize: le.Uint64(ph[40:]), Align: le.Uint64(ph[48:]),
		}
		switch le.Uint32(ph) {
		case ptLoad:
			if s.MemSize == 0 {
				continue
			}
			if err := s.check(end); err != nil {
				return 0, 0, err
			}
			end = s.Addr + s.MemSize
			if i.Segments = append(i.Segments, s); len(i.Segments) > maxSegments {
				return 0, 0, syscall.ENOEXEC
			}
		case ptInterp:
			if size != 0 {
				continue
			}
			if interp, size = s.Offset, s.FileSize; size < 2 || size > maxPath {
				return 0, 0, syscall.ENOEXEC
			}
		case ptPhdr:
			i.PhdrAddr = s.Addr
		case ptGNUStack:
			i.ExecStack = s.Flags&flagX != 0
		}
	}
	if len(i.Segments) == 0 {
		return 0, 0, syscall.ENOEXEC
	}
	if i.PhdrAddr == 0 {
		i.PhdrAddr = i.findPhdr()
	}
	return interp, size, nil
}

// check refuses what cannot be mapped. Segments ascend, and share no page's worth of
// bytes with the one before.
func (s *Segment) check(end uint64) error {
	switch {
	case s.FileSize > s.MemSize, s.MemSize > maxUser, s.Addr > maxUser-s.MemSize:
		return syscall.EINVAL
	case s.Offset > 1<<62 || s.FileSize > 1<<62:
		return syscall.EINVAL
	case s.Addr%pageSize != s.Offset%pageSize:
		return syscall.EINVAL
	case s.Addr < end:
		return syscall.ENOEXEC
	case s.Align&(s.Align-1) != 0:
		s.Align = 0
	}
	return nil
}

// findPhdr is where the program headers are in memory, by the segment that holds them.
func (i *Image) findPhdr() uint64 {
	for _, s := range i.Segments {
		if s.Offset <= i.PhdrOffset && i.PhdrOffset-s.Offset < s.FileSize {
			return i.PhdrOffset - s.Offset + s.Addr
		}
	}
	return 0
}

func (i *Image) readInterp(r Reader, at, size uint64) error {
	b := make([]byte, size)
	if err := full(r, b, at, syscall.EIO); err != nil {
		return err
	}
	if b[size-1] != 0 {
		return syscall.ENOEXEC
	}
	for n, c := range b {
		if c == 0 {
			i.Interp = string(b[:n])
			break
		}
	}
	if i.Interp == "" {
		return syscall.ENOEXEC
	}
	return nil
}

// Span is the first and the end address, whole pages, and the largest alignment.
func (i *Image) Span() (start, end, align uint64) {
	first, last := i.Segments[0], i.Segments[len(i.Segments)-1]
	align = pageSize
	for _, s := range i.Segments {
		align = max(align, s.Align)
	}
	return first.Addr &^ (pageSize - 1), (last.Addr + last.MemSize + pageSize - 1) &^ (pageSize - 1), align
}
