package diskimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

type load struct {
	paddr, mem uint64
	data       []byte
}

// kernel makes an ELF as harness/image leaves it.
func kernel(entry uint64, loads ...load) []byte {
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: entry, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(loads))}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	binary.Write(&b, binary.LittleEndian, h)
	off := uint64(64 + 56*len(loads))
	for _, l := range loads {
		binary.Write(&b, binary.LittleEndian, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Off: off, Vaddr: l.paddr + 0xffffffff80000000, Paddr: l.paddr, Filesz: uint64(len(l.data)), Memsz: l.mem,
		})
		off += uint64(len(l.data))
	}
	for _, l := range loads {
		b.Write(l.data)
	}
	return b.Bytes()
}

// noise is what does not compress.
func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// testKernel has text, a gap, data that compresses and data that does not, and .bss.
func testKernel() []byte {
	text := bytes.Repeat([]byte("text "), 1000)
	data := append(bytes.Repeat([]byte("data, data. "), 20000), noise(200000)...)
	data = append(data, make([]byte, 300000)...)
	data = append(data, 1)
	return kernel(0x400018, load{0x400000, uint64(len(text)), text}, load{0x403000, uint64(len(data)) + 100000, data})
}

func testDisk(t testing.TB, o Options) *Disk {
	t.Helper()
	d, err := Build(testKernel(), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tool runs a program, which must be installed.
func tool(t testing.TB, debian, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed (Debian: apt-get install %s)", name, debian)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// file writes what write writes into a file of a test's own.
func file(t testing.TB, name string, write func(f *os.File) error) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
