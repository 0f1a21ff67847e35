package elf

import (
	"syscall"

	"osv/kernel/linux/mm"
)

// Space is the address space that a program is loaded into: mm.Space.
type Space interface {
	Mmap(r mm.MapRequest) (uint64, error)
	Munmap(addr, n uint64) error
	CopyOut(addr uint64, p []byte) error
	Zero(addr, n uint64) error
}

// File is a program's file: to read headers of, and as mappings want it.
type File struct {
	Reader
	// Map has File, Ref, Unref and Path set.
	Map mm.MapRequest
}

// Loaded is where an image is.
type Loaded struct {
	Bias  uint64 // added to the addresses of the file
	Entry uint64
	Phdr  uint64
	End   uint64 // of the last segment: where the heap may begin
	Base  uint64 // of the first segment
}

// dynBase is where a program that may be anywhere goes: two thirds up (ELF_ET_DYN_BASE).
const dynBase = maxUser / 3 * 2 &^ (pageSize - 1)

// Load maps an image's segments. slide, a multiple of the page size, moves the
// programs that can be moved; one with an interpreter goes to two thirds of the
// address space, as on Linux, and an interpreter or static program where mmap puts it.
func Load(s Space, f File, i *Image, slide uint64) (Loaded, error) {
	var l Loaded
	start, end, align := i.Span()
	at := start
	if i.Dyn {
		at = 0
		if i.Interp != "" {
			at = (dynBase + slide) &^ (align - 1)
		}
	}
	// The whole range is taken first, so that nothing else gets in between.
	length := end - start
	over := length
	if at == 0 && align > pageSize {
		over += align
	}
	r := mm.MapRequest{Addr: at, Length: over, Flags: syscall.MAP_PRIVATE | syscall.MAP_ANON | syscall.MAP_NORESERVE}
	if at != 0 {
		r.Flags |= mapFixedNoReplace
	}
	got, err := s.Mmap(r)
	if err != nil {
		return l, err
	}
	if at == 0 && over > length {
		aligned := (got + align - 1) &^ (align - 1)
		if aligned > got {
			if err := s.Munmap(got, aligned-got); err != nil {
				return l, err
			}
		}
		if rest := got + over - (aligned + length); rest > 0 {
			if err := s.Munmap(aligned+length, rest); err != nil {
				return l, err
			}
		}
		got = aligned
	}
	l.Bias = got - start
	// Gaps between segments are given back, segments are put over the reservation.
	next := got
	for n := range i.Segments {
		seg := &i.Segments[n]
		from := (seg.Addr + l.Bias) &^ (pageSize - 1)
		if from > next {
			if err := s.Munmap(next, from-next); err != nil {
				return l, err
			}
		}
		if err := load(s, f, seg, l.Bias); err != nil {
			return l, err
		}
		next = (seg.Addr + seg.MemSize + l.Bias + pageSize - 1) &^ (pageSize - 1)
	}
	last := &i.Segments[len(i.Segments)-1]
	l.Base, l.End = got, last.Addr+last.MemSize+l.Bias
	l.Entry = i.Entry + l.Bias
	if i.PhdrAddr != 0 {
		l.Phdr = i.PhdrAddr + l.Bias
	}
	return l, nil
}

const mapFixedNoReplace = 0x100000

// load maps one segment: the file's pages, and zeros after them.
func load(s Space, f File, seg *Segment, bias uint64) error {
	prot := protOf(seg.Flags)
	addr := seg.Addr + bias
	from := addr &^ (pageSize - 1)
	fileEnd := addr + seg.FileSize
	pages := (fileEnd + pageSize - 1) &^ (pageSize - 1)
	end := (addr + seg.MemSize + pageSize - 1) &^ (pageSize - 1)
	if seg.FileSize != 0 {
		r := f.Map
		r.Addr, r.Length, r.Prot = from, pages-from, prot
		r.Flags = syscall.MAP_PRIVATE | syscall.MAP_FIXED
		r.Offset = seg.Offset &^ (pageSize - 1)
		if _, err := s.Mmap(r); err != nil {
			return err
		}
	} else {
		pages = from
	}
	if end > pages {
		r := mm.MapRequest{Addr: pages, Length: end - pages, Prot: prot, Flags: syscall.MAP_PRIVATE | syscall.MAP_FIXED | syscall.MAP_ANON}
		if _, err := s.Mmap(r); err != nil {
			return err
		}
	}
	// What the file has behind the segment in its last page is not the program's.
	if seg.MemSize > seg.FileSize && fileEnd < pages && seg.FileSize != 0 {
		return zeroTail(s, fileEnd, pages-fileEnd, prot)
	}
	return nil
}

// zeroTail clears the rest of a page of the file. Linux lets it be where the segment
// cannot be written to; so a program cannot rely on it.
func zeroTail(s Space, addr, n uint64, prot mm.Prot) error {
	if prot&mm.ProtWrite == 0 {
		return nil
	}
	return s.Zero(addr, n)
}

func protOf(flags uint32) (p mm.Prot) {
	if flags&flagR != 0 {
		p |= mm.ProtRead
	}
	if flags&flagW != 0 {
		p |= mm.ProtWrite
	}
	if flags&flagX != 0 {
		p |= mm.ProtExec
	}
	return p
}
