package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	metalPrefix = "osv/kernel/metal/"
	linkedSym   = "osv/kernel/metal/boot.linked"
	linkedMagic = 0x6b6e696c76736f
	pageSize    = 4096

	noteOwner    = "Xen\x00"
	notePhys32   = 18 // XEN_ELFNOTE_PHYS32_ENTRY
	phdrSize     = 56
	ptGNUStack   = 0x6474e551
	ehdrPhoff    = 32
	ehdrShoff    = 40
	ehdrEntry    = 24
	ehdrShnum    = 60
	ehdrShstrndx = 62
	phOffset     = 8
	phPaddr      = 24
	phFilesz     = 32
	phMemsz      = 40
	phAlign      = 48
)

// Link is the post-link step on an ELF that the Go linker made:
//
//   - the entry point and the physical addresses are moved below VirtBase;
//   - the unused PT_GNU_STACK header becomes the PVH note, without which
//     QEMU -kernel and Firecracker refuse the file;
//   - .bss beyond the last symbol of the code below the runtime is cut from the
//     loaded size: the kernel maps it on demand, so that Go's 32 MiB entropy
//     buffer (crypto/internal/fips140/drbg) costs a guest no RAM until touched;
//   - the addresses of the parts are stored where kernel/metal/boot reads them.
//
// With strip it also drops section headers, symbols and DWARF.
func Link(in []byte, strip bool) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(in))
	if err != nil {
		return nil, err
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC {
		return nil, fmt.Errorf("want a static x86-64 executable, have %v %v %v", f.Class, f.Machine, f.Type)
	}
	if f.Entry < VirtBase {
		return nil, fmt.Errorf("entry point %#x is not in the upper half: already linked, or not built with the kernel's flags", f.Entry)
	}
	var text, rodata, data *elf.Prog
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		switch {
		case p.Flags&elf.PF_X != 0 && text == nil:
			text = p
		case p.Flags&elf.PF_W != 0 && data == nil:
			data = p
		case p.Flags&(elf.PF_X|elf.PF_W) == 0 && rodata == nil:
			rodata = p
		default:
			return nil, fmt.Errorf("unexpected segment at %#x with flags %v", p.Vaddr, p.Flags)
		}
	}
	if text == nil || rodata == nil || data == nil {
		return nil, errors.New("text, read-only or data segment missing")
	}
	if text.Vaddr != VirtBase+LoadAddr {
		return nil, fmt.Errorf("image starts at %#x, want %#x", text.Vaddr, uint64(VirtBase+LoadAddr))
	}
	linkedAt, metalEnd, err := symbols(f)
	if err != nil {
		return nil, err
	}

	out := bytes.Clone(in)
	le := binary.LittleEndian
	end := data.Vaddr + data.Memsz
	loaded := min(end, max((metalEnd+pageSize-1)&^(pageSize-1), data.Vaddr+data.Filesz))
	at := data.Off + linkedAt - data.Vaddr
	if linkedAt < data.Vaddr || at+48 > data.Off+data.Filesz || le.Uint64(out[at:]) != linkedMagic {
		return nil, fmt.Errorf("%s is not where it should be", linkedSym)
	}
	for i, v := range []uint64{text.Vaddr, text.Vaddr + text.Memsz, data.Vaddr &^ (pageSize - 1), loaded, end} {
		le.PutUint64(out[at+8+uint64(i)*8:], v)
	}

	if strip {
		out = out[:data.Off+data.Filesz]
		le.PutUint64(out[ehdrShoff:], 0)
		le.PutUint16(out[ehdrShnum:], 0)
		le.PutUint16(out[ehdrShstrndx:], 0)
	}
	for len(out)%16 != 0 {
		out = append(out, 0)
	}
	noteOff := uint64(len(out))
	note := make([]byte, 24)
	le.PutUint32(note[0:], uint32(len(noteOwner)))
	le.PutUint32(note[4:], 8)
	le.PutUint32(note[8:], notePhys32)
	copy(note[12:], noteOwner)
	le.PutUint64(note[16:], f.Entry-VirtBase)
	out = append(out, note...)

	le.PutUint64(out[ehdrEntry:], f.Entry-VirtBase)
	ph := le.Uint64(out[ehdrPhoff:])
	noted := false
	for i, p := range f.Progs {
		h := out[ph+uint64(i)*phdrSize:]
		switch {
		case p.Type == elf.PT_LOAD:
			le.PutUint64(h[phPaddr:], p.Vaddr-VirtBase)
			if p == data {
				le.PutUint64(h[phMemsz:], loaded-data.Vaddr)
			}
		case uint32(p.Type) == ptGNUStack:
			clear(h[:phdrSize])
			le.PutUint32(h[0:], uint32(elf.PT_NOTE))
			le.PutUint32(h[4:], uint32(elf.PF_R))
			le.PutUint64(h[phOffset:], noteOff)
			le.PutUint64(h[phFilesz:], uint64(len(note)))
			le.PutUint64(h[phMemsz:], uint64(len(note)))
			le.PutUint64(h[phAlign:], 4)
			noted = true
		}
	}
	if !noted {
		return nil, errors.New("no PT_GNU_STACK header to turn into the PVH note")
	}
	return out, nil
}

// symbols finds boot.linked and the end of the last data symbol of metal.
func symbols(f *elf.File) (linkedAt, metalEnd uint64, err error) {
	syms, err := f.Symbols()
	if err != nil {
		return 0, 0, fmt.Errorf("symbol table (do not link with -s): %w", err)
	}
	for _, s := range syms {
		if s.Name == linkedSym {
			linkedAt = s.Value
		}
		if strings.HasPrefix(s.Name, metalPrefix) {
			metalEnd = max(metalEnd, s.Value+s.Size)
		}
	}
	if linkedAt == 0 {
		return 0, 0, fmt.Errorf("no symbol %s: the program does not import the kernel", linkedSym)
	}
	return linkedAt, metalEnd, nil
}
