package elf

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/abi"
	"osv/kernel/linux/mm"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

// image is a Reader of bytes.
type image []byte

func (b image) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, nil
	}
	return copy(p, b[off:]), nil
}

// seg is one program header.
type seg struct {
	typ, flags                      uint32
	off, addr, filesz, memsz, align uint64
}

// build makes an ELF file; data is what comes after the headers, at 4096.
func build(typ uint16, entry uint64, data []byte, segs ...seg) image {
	b := make([]byte, 4096+len(data))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], typ)
	le.PutUint16(b[18:], machineX64)
	le.PutUint64(b[24:], entry)
	le.PutUint64(b[32:], headerSize)
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], uint16(len(segs)))
	for i, s := range segs {
		p := b[headerSize+phdrSize*i:]
		le.PutUint32(p, s.typ)
		le.PutUint32(p[4:], s.flags)
		for n, v := range []uint64{s.off, s.addr, s.addr, s.filesz, s.memsz, s.align} {
			le.PutUint64(p[8+8*n:], v)
		}
	}
	copy(b[4096:], data)
	return b
}

func TestParse(t *testing.T) {
	b := build(typeDyn, 0x1234, []byte("/lib/ld.so\x00"),
		seg{typ: ptPhdr, addr: 64},
		seg{typ: ptInterp, off: 4096, filesz: 11},
		seg{typ: ptLoad, flags: flagR | flagX, addr: 0, filesz: 4096, memsz: 4096, align: 4096},
		seg{typ: ptLoad, flags: flagR | flagW, off: 4096, addr: 0x203000, filesz: 8, memsz: 0x3000, align: 0x200000},
		seg{typ: ptGNUStack, flags: flagR | flagW})
	i, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if !i.Dyn || i.Entry != 0x1234 || i.Interp != "/lib/ld.so" || i.PhdrAddr != 64 || i.PhdrCount != 5 || i.ExecStack || len(i.Segments) != 2 {
		t.Errorf("%+v", i)
	}
	if start, end, align := i.Span(); start != 0 || end != 0x206000 || align != 0x200000 {
		t.Errorf("span %#x-%#x, alignment %#x", start, end, align)
	}
}

func TestParseRefuses(t *testing.T) {
	load := seg{typ: ptLoad, flags: flagR, addr: 0x400000, filesz: 4096, memsz: 4096, align: 4096}
	good := func() image { return build(typeExec, 0x400000, []byte("x"), load) }
	for name, c := range map[string]struct {
		b    image
		want error
	}{
		"empty":               {nil, syscall.ENOEXEC},
		"text":                {image(strings.Repeat("hello ", 100)), syscall.ENOEXEC},
		"32 bits":             {func() image { b := good(); b[4] = 1; return b }(), syscall.ENOEXEC},
		"big-endian":          {func() image { b := good(); b[5] = 2; return b }(), syscall.ENOEXEC},
		"object":              {func() image { b := good(); b[16] = 1; return b }(), syscall.ENOEXEC},
		"other machine":       {func() image { b := good(); b[18] = 3; return b }(), syscall.ENOEXEC},
		"header size":         {func() image { b := good(); b[54] = 32; return b }(), syscall.ENOEXEC},
		"no headers":          {func() image { b := good(); b[56] = 0; return b }(), syscall.ENOEXEC},
		"too many":            {func() image { b := good(); b[57] = 0xff; return b }(), syscall.ENOEXEC},
		"headers cut off":     {func() image { b := good(); le.PutUint64(b[32:], 1<<40); return b }(), syscall.ENOEXEC},
		"headers nowhere":     {func() image { b := good(); le.PutUint64(b[32:], 1<<63); return b }(), syscall.ENOEXEC},
		"no segment":          {build(typeExec, 0, nil, seg{typ: ptGNUStack}), syscall.ENOEXEC},
		"file beyond memory":  {build(typeExec, 0, nil, seg{typ: ptLoad, filesz: 2, memsz: 1}), syscall.EINVAL},
		"kernel address":      {build(typeExec, 0, nil, seg{typ: ptLoad, addr: 1 << 47, memsz: 1}), syscall.EINVAL},
		"huge":                {build(typeExec, 0, nil, seg{typ: ptLoad, memsz: 1 << 63}), syscall.EINVAL},
		"offset":              {build(typeExec, 0, nil, seg{typ: ptLoad, off: 1 << 63, memsz: 1}), syscall.EINVAL},
		"misaligned":          {build(typeExec, 0, nil, seg{typ: ptLoad, off: 1, addr: 4096, memsz: 1}), syscall.EINVAL},
		"descending":          {build(typeExec, 0, nil, load, seg{typ: ptLoad, addr: 0x3ff000, memsz: 1}), syscall.ENOEXEC},
		"interpreter empty":   {build(typeExec, 0, nil, load, seg{typ: ptInterp, off: 4096, filesz: 1}), syscall.ENOEXEC},
		"interpreter long":    {build(typeExec, 0, nil, load, seg{typ: ptInterp, off: 0, filesz: 5000}), syscall.ENOEXEC},
		"interpreter beyond":  {build(typeExec, 0, nil, load, seg{typ: ptInterp, off: 1 << 20, filesz: 10}), syscall.EIO},
		"interpreter open":    {build(typeExec, 0, []byte("/lib/ld"), load, seg{typ: ptInterp, off: 4096, filesz: 7}), syscall.ENOEXEC},
		"interpreter is \"\"": {build(typeExec, 0, []byte("\x00\x00"), load, seg{typ: ptInterp, off: 4096, filesz: 2}), syscall.ENOEXEC},
	} {
		if _, err := Parse(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

func TestReadErrors(t *testing.T) {
	if _, err := Parse(failing{}); err != syscall.EIO {
		t.Error(err)
	}
	if _, _, _, err := Script(failing{}); err != syscall.EIO {
		t.Error(err)
	}
}

func TestScript(t *testing.T) {
	long := "#!/" + strings.Repeat("x", 300)
	for _, c := range []struct {
		in, interp, arg string
		ok              bool
		err             error
	}{
		{"#!/bin/sh\n", "/bin/sh", "", true, nil},
		{"#! \t/bin/sh  -e  x \nmore", "/bin/sh", "-e  x", true, nil},
		{"#!/bin/sh", "/bin/sh", "", true, nil},
		{"#!/bin/sh\x00junk", "/bin/sh", "", true, nil},
		{"#!/bin/sh -e", "/bin/sh", "-e", true, nil},
		{"#!\n", "", "", true, syscall.ENOEXEC},
		{"#!   \n", "", "", true, syscall.ENOEXEC},
		{"#!", "", "", true, syscall.ENOEXEC},
		{long, "", "", true, syscall.ENOEXEC},
		{"#!/bin/sh " + strings.Repeat("y", 300), "/bin/sh", strings.Repeat("y", 245), true, nil},
		{"no script", "", "", false, nil},
		{"", "", "", false, nil},
	} {
		interp, arg, ok, err := Script(image(c.in))
		if interp != c.interp || arg != c.arg || ok != c.ok || err != c.err {
			t.Errorf("%.20q: %q, %q, %v, %v", c.in, interp, arg, ok, err)
		}
	}
}

// world is an empty address space on its machine.
type world struct {
	*mm.Space
	m *fakemm.Machine
}

func space(t testing.TB, frames int) world {
	t.Helper()
	m := fakemm.New(frames)
	s, err := mm.New(m, mm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return world{s, m}
}

// file puts b into a file system.
func (w world) file(t testing.TB, b []byte) File {
	t.Helper()
	ctx := vfs.NewContext(vfs.NewTree(tmpfs.New(tmpfs.Options{Frames: fakemm.Frames{M: w.m}})), vfs.RootCreds())
	if err := vfs.WriteFile(ctx, "/f", b, 0o755); err != nil {
		t.Fatal(err)
	}
	o, err := vfs.OpenExec(ctx, vfs.Path{}, "/f", 0)
	if err != nil {
		t.Fatal(err)
	}
	return File{Reader: image(b), Map: mm.MapRequest{File: o.File}}
}

// read is memory as the program sees it.
func read(t testing.TB, s world, addr uint64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if err := s.CopyIn(b, addr); err != nil {
		t.Errorf("%#x: %v", addr, err)
	}
	return b
}

func TestLoad(t *testing.T) {
	data := bytes.Repeat([]byte{0xaa}, 2*4096)
	segs := []seg{
		{typ: ptLoad, flags: flagR | flagX, addr: 0, filesz: 4096, memsz: 4096, align: 4096},
		// A tail of zeros within the page of the file, and further pages.
		{typ: ptLoad, flags: flagR | flagW, off: 4096, addr: 0x3000, filesz: 100, memsz: 0x2100, align: 4096},
		// Zeros alone, after a gap.
		{typ: ptLoad, flags: flagR | flagW, off: 0, addr: 0x8000, memsz: 0x1000, align: 4096},
	}
	for _, c := range []struct {
		name  string
		typ   uint16
		base  uint64
		align uint64
	}{{"fixed", typeExec, 0x400000, 4096}, {"anywhere", typeDyn, 0, 4096}, {"aligned", typeDyn, 0, 1 << 21}} {
		s := space(t, 256)
		mine := append([]seg(nil), segs...)
		for i := range mine {
			mine[i].addr += c.base
			mine[i].align = c.align
		}
		b := build(c.typ, c.base+0x10, data, mine...)
		i, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Load(s, s.file(t, b), i, 0)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		at := c.base + l.Bias
		if c.typ == typeExec && l.Bias != 0 || l.Entry != at+0x10 || l.End != at+0x9000 || l.Base != at || l.Phdr != at+headerSize || at%c.align != 0 {
			t.Errorf("%s: %+v", c.name, l)
		}
		if got := read(t, s, at, 4); string(got) != "\x7fELF" {
			t.Errorf("%s: text % x", c.name, got)
		}
		if got := read(t, s, at+0x3000, 0x2100); !bytes.Equal(got[:100], data[:100]) || len(bytes.Trim(got[100:], "\x00")) != 0 {
			t.Errorf("%s: data and zeros are wrong", c.name)
		}
		if got := read(t, s, at+0x8000, 4096); len(bytes.Trim(got, "\x00")) != 0 {
			t.Errorf("%s: zeros are wrong", c.name)
		}
		if err := s.CopyOut(at, []byte{1}); err != syscall.EFAULT {
			t.Errorf("%s: the text can be written to: %v", c.name, err)
		}
		if err := s.CopyIn(make([]byte, 1), at+0x6000); err != syscall.EFAULT {
			t.Errorf("%s: the gap is mapped: %v", c.name, err)
		}
		if n := len(s.Maps()); n > 5 {
			t.Errorf("%s: %d mappings", c.name, n)
		}
	}
}

func TestLoadTwice(t *testing.T) {
	s := space(t, 64)
	b := build(typeExec, 0, nil, seg{typ: ptLoad, flags: flagR, addr: 0x400000, filesz: 10, memsz: 10})
	i, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(s, s.file(t, b), i, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(s, s.file(t, b), i, 0); err != syscall.EEXIST {
		t.Errorf("over another program: %v", err)
	}
}

// Programs of this machine are read as debug/elf reads them.
func TestRealPrograms(t *testing.T) {
	for _, path := range []string{"/bin/true", "/bin/bash", "/lib64/ld-linux-x86-64.so.2", "/proc/self/exe"} {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		defer f.Close()
		want, err := elf.NewFile(f)
		if err != nil {
			t.Fatal(err)
		}
		i, err := Parse(osFile{f})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		n := 0
		for _, p := range want.Progs {
			switch p.Type {
			case elf.PT_LOAD:
				if s := i.Segments[n]; s.Addr != p.Vaddr || s.MemSize != p.Memsz || s.FileSize != p.Filesz || s.Offset != p.Off {
					t.Errorf("%s: %+v, want %+v", path, s, p)
				}
				n++
			case elf.PT_INTERP:
				b, _ := io.ReadAll(p.Open())
				if i.Interp != strings.TrimRight(string(b), "\x00") {
					t.Errorf("%s: interpreter %q", path, i.Interp)
				}
			}
		}
		if i.Entry != want.Entry || n != len(i.Segments) {
			t.Errorf("%s: entry %#x, %d segments", path, i.Entry, n)
		}
	}
}

type osFile struct{ *os.File }

func (f osFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if n > 0 || err == io.EOF {
		err = nil
	}
	return n, err
}

func TestCheckArgs(t *testing.T) {
	long := strings.Repeat("x", maxString)
	for _, c := range []struct {
		argv  []string
		limit uint64
		want  error
	}{
		{[]string{"a"}, 8 << 20, nil},
		{[]string{long}, 8 << 20, syscall.E2BIG},
		{[]string{long[1:]}, 8 << 20, nil},
		{[]string{long[1:], long[1:]}, 1 << 19, syscall.E2BIG},
		{[]string{long[:1000]}, 0, nil},
	} {
		if err := CheckArgs(c.argv, nil, c.limit); err != c.want {
			t.Errorf("%d bytes, limit %d: %v", len(c.argv[0]), c.limit, err)
		}
	}
}

func TestStack(t *testing.T) {
	const top = 0x7ffff0000000
	for _, exec := range []bool{false, true} {
		for n := range 4 {
			s := space(t, 64)
			st := Start{
				Argv: []string{"prog", "a b", ""}[:n%4], Env: []string{"A=1", "B=22"}[:n%3], ExecFn: "/bin/prog", Platform: "x86_64",
				Aux: [][2]uint64{{abi.AT_PAGESZ, 4096}},
			}
			st.Random[0] = 77
			if err := MapStack(s, top, st.Size(), exec); err != nil {
				t.Fatal(err)
			}
			o, err := st.Build(s, top)
			if err != nil {
				t.Fatal(err)
			}
			word := func(a uint64) uint64 { return le.Uint64(read(t, s, a, 8)) }
			str := func(a uint64) string {
				got, err := s.String(a, 100)
				if err != nil {
					t.Error(err)
				}
				return got
			}
			if o.SP%16 != 0 || word(o.SP) != uint64(len(st.Argv)) {
				t.Errorf("sp %#x, argc %d", o.SP, word(o.SP))
			}
			a := o.SP + 8
			for _, list := range [][]string{st.Argv, st.Env} {
				for _, want := range list {
					if got := str(word(a)); got != want {
						t.Errorf("%q, want %q", got, want)
					}
					a += 8
				}
				if word(a) != 0 {
					t.Error("no null pointer")
				}
				a += 8
			}
			aux := map[uint64]uint64{}
			for ; word(a) != abi.AT_NULL; a += 16 {
				aux[word(a)] = word(a + 8)
			}
			if aux[abi.AT_PAGESZ] != 4096 || str(aux[abi.AT_EXECFN]) != "/bin/prog" || str(aux[abi.AT_PLATFORM]) != "x86_64" || read(t, s, aux[abi.AT_RANDOM], 1)[0] != 77 {
				t.Errorf("auxv %v", aux)
			}
			// What /proc shows: strings with their zeros, one after the other.
			if got, want := string(read(t, s, o.ArgStart, int(o.ArgEnd-o.ArgStart))), strings.Join(append(st.Argv, ""), "\x00"); got != want {
				t.Errorf("arguments %q, want %q", got, want)
			}
			if got, want := string(read(t, s, o.EnvStart, int(o.EnvEnd-o.EnvStart))), strings.Join(append(st.Env, ""), "\x00"); got != want {
				t.Errorf("environment %q, want %q", got, want)
			}
			if exec != (s.Maps()[0].Prot&mm.ProtExec != 0) {
				t.Errorf("rights %v", s.Maps()[0].Prot)
			}
		}
	}
}

// The stack that Linux builds has the entries that ours has (the host's may have more).
func TestAuxvLikeLinux(t *testing.T) {
	out, err := exec.Command("env", "-i", "LD_SHOW_AUXV=1", "/bin/true").Output()
	if err != nil {
		t.Skip("no dynamic linker that shows it:", err)
	}
	for _, name := range []string{"AT_PHDR", "AT_PHENT", "AT_PHNUM", "AT_PAGESZ", "AT_BASE", "AT_ENTRY", "AT_RANDOM", "AT_EXECFN", "AT_PLATFORM"} {
		if !strings.Contains(string(out), name) {
			t.Errorf("Linux gives no %s", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(build(typeDyn, 0, []byte("/lib/ld.so\x00"), seg{typ: ptInterp, off: 4096, filesz: 11}, seg{typ: ptLoad, flags: 5, filesz: 10, memsz: 10})))
	if b, err := os.ReadFile(filepath.Join("/bin", "true")); err == nil {
		f.Add(b[:min(len(b), 4096)])
	}
	f.Add([]byte("#!/bin/sh -e\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if interp, _, ok, err := Script(image(b)); ok && err == nil && interp == "" {
			t.Error("a script without interpreter")
		}
		i, err := Parse(image(b))
		if err != nil {
			return
		}
		var end uint64
		for _, s := range i.Segments {
			if s.Addr < end || s.Addr+s.MemSize > maxUser || s.FileSize > s.MemSize || s.MemSize == 0 {
				t.Errorf("segment %+v after %#x", s, end)
			}
			end = s.Addr + s.MemSize
		}
		start, stop, align := i.Span()
		if stop <= start || align&(align-1) != 0 {
			t.Errorf("span %#x-%#x, %#x", start, stop, align)
		}
		if len(b) < 1<<13 {
			s := space(t, 64)
			if l, err := Load(s, s.file(t, b), i, 0); err == nil && l.End <= l.Base {
				t.Errorf("%+v", l)
			}
		}
	})
}
