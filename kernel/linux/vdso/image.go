package vdso

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

const (
	soname  = "linux-vdso.so.1"
	version = "LINUX_2.6"

	verBase   = 1 // indexes of versions
	verLinux  = 2
	flagBase  = 1 // VER_FLG_BASE
	codeAlign = 32

	phdrs   = 3
	headers = 64 + phdrs*56
)

// sections of the image, in order of address.
const (
	secHash = iota + 1
	secDynsym
	secDynstr
	secVersym
	secVerdef
	secDynamic
	secFrameHdr
	secFrame
	secText
	secShstrtab
	secCount
)

var sectionNames = [secCount]string{"", ".hash", ".dynsym", ".dynstr", ".gnu.version", ".gnu.version_d", ".dynamic", ".eh_frame_hdr", ".eh_frame", ".text", ".shstrtab"}

// Image builds the ELF file, one page, to be mapped right behind the data page.
func Image() []byte {
	gettime, tod, clock, getres, cpu := addresses()
	funcs := []struct {
		name string
		at   uintptr
	}{{"clock_gettime", gettime}, {"gettimeofday", tod}, {"time", clock}, {"clock_getres", getres}, {"getcpu", cpu}}

	strs := table{b: []byte{0}}
	name := strs.add(soname)
	verName := strs.add(version)
	syms := []elf.Sym64{{}}
	names := []string{""}
	var code []byte
	var ranges []span
	for _, f := range funcs {
		b := body(f.at)
		for len(code)%codeAlign != 0 {
			code = append(code, 0xcc)
		}
		for _, s := range []struct {
			name string
			bind elf.SymBind
		}{{"__vdso_" + f.name, elf.STB_GLOBAL}, {f.name, elf.STB_WEAK}} {
			syms = append(syms, elf.Sym64{Name: uint32(strs.add(s.name)), Info: elf.ST_INFO(s.bind, elf.STT_FUNC),
				Shndx: secText, Value: uint64(len(code)), Size: uint64(len(b))})
			names = append(names, s.name)
		}
		ranges = append(ranges, span{uint64(len(code)), uint64(len(b))})
		code = append(code, b...)
	}
	// The version is a symbol, too.
	syms = append(syms, elf.Sym64{Name: uint32(verName), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_OBJECT), Shndx: uint16(elf.SHN_ABS)})
	names = append(names, version)

	var shstr table
	for _, n := range sectionNames {
		shstr.add(n)
	}
	var versym []uint16
	for i := range syms {
		v := uint16(verLinux)
		if i == 0 {
			v = 0
		}
		versym = append(versym, v)
	}
	parts := [secCount][]byte{
		secHash:     encode(hashTable(names)),
		secDynsym:   encode(syms),
		secDynstr:   strs.b,
		secVersym:   encode(versym),
		secVerdef:   encode([]verdef{{1, flagBase, verBase, 1, elfHash(soname), 20, 28, uint32(name), 0}, {1, 0, verLinux, 1, elfHash(version), 20, 0, uint32(verName), 0}}),
		secDynamic:  make([]byte, 10*16),
		secFrameHdr: frameHdr(0, 0, 0, ranges),
		secFrame:    frames(0, 0, ranges),
		secText:     code,
		secShstrtab: shstr.b,
	}
	align := [secCount]int{secHash: 8, secDynsym: 8, secDynstr: 1, secVersym: 2, secVerdef: 4, secDynamic: 8, secFrameHdr: 4, secFrame: 8, secText: codeAlign, secShstrtab: 1}
	var at [secCount]uint64
	end := headers
	for i := 1; i < secCount; i++ {
		end = (end + align[i] - 1) &^ (align[i] - 1)
		at[i] = uint64(end)
		end += len(parts[i])
	}
	for i := range syms {
		if syms[i].Shndx == secText {
			syms[i].Value += at[secText]
		}
	}
	parts[secDynsym] = encode(syms)
	parts[secFrameHdr] = frameHdr(at[secFrameHdr], at[secFrame], at[secText], ranges)
	parts[secFrame] = frames(at[secFrame], at[secText], ranges)
	parts[secDynamic] = encode([]elf.Dyn64{
		{Tag: int64(elf.DT_SONAME), Val: uint64(name)},
		{Tag: int64(elf.DT_HASH), Val: at[secHash]},
		{Tag: int64(elf.DT_STRTAB), Val: at[secDynstr]},
		{Tag: int64(elf.DT_SYMTAB), Val: at[secDynsym]},
		{Tag: int64(elf.DT_STRSZ), Val: uint64(len(strs.b))},
		{Tag: int64(elf.DT_SYMENT), Val: elf.Sym64Size},
		{Tag: int64(elf.DT_VERDEF), Val: at[secVerdef]},
		{Tag: int64(elf.DT_VERDEFNUM), Val: 2},
		{Tag: int64(elf.DT_VERSYM), Val: at[secVersym]},
		{Tag: int64(elf.DT_NULL)},
	})
	sections := (end + 7) &^ 7

	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Shoff: uint64(sections),
		Ehsize: 64, Phentsize: 56, Phnum: phdrs, Shentsize: 64, Shnum: secCount, Shstrndx: secShstrtab,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	img := make([]byte, PageSize)
	put(img, 0, encode(h))
	put(img, 64, encode([]elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Filesz: PageSize, Memsz: PageSize, Align: PageSize},
		{Type: uint32(elf.PT_DYNAMIC), Flags: uint32(elf.PF_R), Off: at[secDynamic], Vaddr: at[secDynamic], Paddr: at[secDynamic],
			Filesz: uint64(len(parts[secDynamic])), Memsz: uint64(len(parts[secDynamic])), Align: 8},
		{Type: ptGNUEhFrame, Flags: uint32(elf.PF_R), Off: at[secFrameHdr], Vaddr: at[secFrameHdr], Paddr: at[secFrameHdr],
			Filesz: uint64(len(parts[secFrameHdr])), Memsz: uint64(len(parts[secFrameHdr])), Align: 4},
	}))
	var sh [secCount]elf.Section64
	for i := 1; i < secCount; i++ {
		put(img, int(at[i]), parts[i])
		sh[i] = elf.Section64{Name: uint32(shstr.at[sectionNames[i]]), Flags: uint64(elf.SHF_ALLOC), Addr: at[i], Off: at[i], Size: uint64(len(parts[i])), Addralign: uint64(align[i])}
	}
	sh[secHash].Type, sh[secHash].Link, sh[secHash].Entsize = uint32(elf.SHT_HASH), secDynsym, 4
	sh[secDynsym].Type, sh[secDynsym].Link, sh[secDynsym].Info, sh[secDynsym].Entsize = uint32(elf.SHT_DYNSYM), secDynstr, 1, elf.Sym64Size
	sh[secDynstr].Type = uint32(elf.SHT_STRTAB)
	sh[secVersym].Type, sh[secVersym].Link, sh[secVersym].Entsize = uint32(elf.SHT_GNU_VERSYM), secDynsym, 2
	sh[secVerdef].Type, sh[secVerdef].Link, sh[secVerdef].Info = uint32(elf.SHT_GNU_VERDEF), secDynstr, 2
	sh[secDynamic].Type, sh[secDynamic].Link, sh[secDynamic].Entsize = uint32(elf.SHT_DYNAMIC), secDynstr, 16
	sh[secFrameHdr].Type, sh[secFrame].Type = uint32(elf.SHT_PROGBITS), uint32(elf.SHT_PROGBITS)
	sh[secText].Type, sh[secText].Flags = uint32(elf.SHT_PROGBITS), uint64(elf.SHF_ALLOC|elf.SHF_EXECINSTR)
	sh[secShstrtab].Type, sh[secShstrtab].Flags, sh[secShstrtab].Addr = uint32(elf.SHT_STRTAB), 0, 0
	put(img, sections, encode(sh[:]))
	return img
}

// verdef is Elf64_Verdef with its one Elf64_Verdaux.
type verdef struct {
	Version, Flags, Index, Count uint16
	Hash, Aux, Next              uint32
	Name, AuxNext                uint32
}

// table is a string table.
type table struct {
	b  []byte
	at map[string]int
}

func (t *table) add(s string) int {
	if t.at == nil {
		t.at = map[string]int{}
	}
	n := len(t.b)
	t.at[s] = n
	t.b = append(append(t.b, s...), 0)
	return n
}

// hashTable is DT_HASH over the symbols' names, of which the first is none.
func hashTable(names []string) []uint32 {
	const buckets = 7
	h := make([]uint32, 2+buckets+len(names))
	h[0], h[1] = buckets, uint32(len(names))
	chain := h[2+buckets:]
	for i := 1; i < len(names); i++ {
		b := &h[2+elfHash(names[i])%buckets]
		chain[i], *b = *b, uint32(i)
	}
	return h
}

// elfHash is the System V ABI's hash function.
func elfHash(s string) uint32 {
	h := uint32(0)
	for i := range len(s) {
		h = h<<4 + uint32(s[i])
		g := h & 0xf0000000
		h = (h ^ g>>24) &^ g
	}
	return h
}

func encode(v any) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// put copies b into the page, which has room for it.
func put(img []byte, at int, b []byte) {
	copy(img[at:at+len(b)], b)
}
