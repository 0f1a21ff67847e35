package diskimage

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"testing"

	"osv/harness/diskimage/loader"
	"osv/kernel/imagefmt"
)

func raw(t testing.TB, d *Disk) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := d.WriteTo(&b)
	if err != nil || n != d.Size() || int64(b.Len()) != n {
		t.Fatalf("%d bytes of %d, %v", n, d.Size(), err)
	}
	return b.Bytes()
}

// The OSv partition holds what the ELF would load, and the command line.
func TestBuildHoldsTheKernel(t *testing.T) {
	d := testDisk(t, Options{CommandLine: "--ip=eth0,10.0.0.2,24 -- -p 1"})
	at, h, err := imagefmt.Find(d)
	if err != nil {
		t.Fatal(err)
	}
	if at != kernelFirst*sectorBytes || h.Load != 0x400000 || h.Entry != 0x400018 || h.MemBytes != h.PayloadBytes+100000 {
		t.Errorf("at %d: %+v", at, h)
	}
	payload := make([]byte, h.PayloadBytes)
	if _, err := d.ReadAt(payload, at+int64(h.Payload)*sectorBytes); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(payload, []byte("text text")) || !bytes.HasPrefix(payload[0x3000:], []byte("data, ")) || payload[len(payload)-1] != 1 || payload[5000] != 0 {
		t.Error("the payload is not the segments")
	}
	if crc32.ChecksumIEEE(payload) != h.PayloadCRC {
		t.Error("payload CRC")
	}
	if line, err := imagefmt.ReadCommandLine(d); err != nil || line != "--ip=eth0,10.0.0.2,24 -- -p 1" {
		t.Errorf("command line %q, %v", line, err)
	}
	if err := imagefmt.SetCommandLine(d, "other"); err != nil {
		t.Fatal(err)
	}
	if line, err := imagefmt.ReadCommandLine(d); err != nil || line != "other" {
		t.Errorf("command line %q, %v", line, err)
	}
	if _, err := d.WriteAt([]byte{1}, d.Size()/2); err == nil {
		t.Error("wrote into a gap")
	}
}

func TestBuildIsReproducible(t *testing.T) {
	a, b := testDisk(t, Options{CommandLine: "x"}), testDisk(t, Options{CommandLine: "x"})
	if !bytes.Equal(raw(t, a), raw(t, b)) || a.ID() != b.ID() {
		t.Error("two builds differ")
	}
	// The command line is no part of the identity: it may change; the kernel is.
	if c := testDisk(t, Options{CommandLine: "y"}); c.ID() != a.ID() {
		t.Error("the command line changes the disk's GUID")
	}
	other, err := Build(kernel(0x400000, load{0x400000, 10, []byte("0123456789")}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if other.ID() == a.ID() || len(a.ID()) != 36 || a.ID()[14] != '8' {
		t.Errorf("GUIDs %s and %s", a.ID(), other.ID())
	}
}

// The tables follow UEFI 2.10 §5.3: both copies, CRCs, ranges in order.
func TestPartitionTable(t *testing.T) {
	const data = 5<<20 + 1
	d := testDisk(t, Options{DataBytes: data})
	b := raw(t, d)
	le := binary.LittleEndian
	last := uint64(len(b)/sectorBytes - 1)
	if b[510] != 0x55 || b[511] != 0xaa || b[450] != 0xee || le.Uint32(b[454:]) != 1 || uint64(le.Uint32(b[458:])) != last {
		t.Errorf("protective MBR %x", b[446:512])
	}
	var tables [][]byte
	for _, self := range []uint64{1, last} {
		h := bytes.Clone(b[self*sectorBytes:][:92])
		crc := le.Uint32(h[16:])
		clear(h[16:20])
		if string(h[:8]) != "EFI PART" || crc32.ChecksumIEEE(h) != crc || le.Uint64(h[24:]) != self || le.Uint64(h[32:]) != last+1-self {
			t.Errorf("header at %d: %x", self, h)
		}
		table := b[le.Uint64(h[72:])*sectorBytes:][:128*128]
		if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
			t.Errorf("header at %d: CRC of the entries", self)
		}
		tables = append(tables, table)
		free := le.Uint64(h[40:])
		for i := range 4 {
			e := table[i*128:]
			first, end := le.Uint64(e[32:]), le.Uint64(e[40:])
			if first < free || end < first || end > le.Uint64(h[48:]) {
				t.Errorf("partition %d: %d to %d", i, first, end)
			}
			free = end + 1
		}
		if e := table[3*128:]; int64(le.Uint64(e[40:])-le.Uint64(e[32:])+1)*sectorBytes < data || le.Uint64(e[32:])%2048 != 0 {
			t.Errorf("data partition %x", e[:48])
		}
	}
	if !bytes.Equal(tables[0], tables[1]) {
		t.Error("the two tables differ")
	}
	if len(b)%mib != 0 {
		t.Errorf("%d bytes", len(b))
	}
}

// The file system is walked as a firmware would: root, EFI, BOOT, the chain of the
// file's clusters.
func TestFAT(t *testing.T) {
	d := testDisk(t, Options{})
	le := binary.LittleEndian
	b := raw(t, d)[espFirst*sectorBytes:][:espSectors*sectorBytes]
	fatSectors, reserved := int(le.Uint16(b[22:])), int(le.Uint16(b[14:]))
	fat := b[reserved*sectorBytes:]
	if !bytes.Equal(fat[:fatSectors*sectorBytes], b[(reserved+fatSectors)*sectorBytes:][:fatSectors*sectorBytes]) {
		t.Error("the two FATs differ")
	}
	root := (reserved + 2*fatSectors) * sectorBytes
	data := root + int(le.Uint16(b[17:]))*32
	if clusters := (int(le.Uint16(b[19:]))*sectorBytes - data) / sectorBytes; clusters < 4085 || clusters >= 65525 {
		t.Errorf("%d clusters: not FAT16", clusters)
	}
	read := func(c uint16) (out []byte) {
		for ; c < 0xfff8; c = le.Uint16(fat[2*c:]) {
			out = append(out, b[data+int(c-2)*sectorBytes:][:sectorBytes]...)
		}
		return out
	}
	find := func(dir []byte, name string) (cluster uint16, size uint32) {
		for e := dir; len(e) >= 32 && e[0] != 0; e = e[32:] {
			if string(e[:11]) == name {
				return le.Uint16(e[26:]), le.Uint32(e[28:])
			}
		}
		t.Fatalf("no %q", name)
		return 0, 0
	}
	efi, _ := find(b[root:data], "EFI        ")
	boot, _ := find(read(efi), "BOOT       ")
	c, n := find(read(boot), "BOOTX64 EFI")
	if got := read(c); int(n) > len(got) || !bytes.Equal(got[:n], loader.EFI()) {
		t.Errorf("BOOTX64.EFI: %d bytes in the directory, %d in the chain", n, len(got))
	}
}

func TestBuildRefuses(t *testing.T) {
	ok := testKernel()
	one := func(paddr, mem uint64, n int) []byte { return kernel(paddr, load{paddr, mem, make([]byte, n)}) }
	dyn := bytes.Clone(ok)
	dyn[16] = 3
	for name, test := range map[string]struct {
		kernel []byte
		o      Options
		want   string
	}{
		"no ELF":       {[]byte("#!/bin/sh"), Options{}, "kernel"},
		"shared":       {dyn, Options{}, "static x86-64 executable"},
		"not linked":   {one(0xffffffff80400000, 10, 10), Options{}, "not post-linked"},
		"nothing":      {kernel(0x400000), Options{}, "not post-linked"},
		"entry":        {kernel(0x300000, load{0x400000, 10, make([]byte, 10)}), Options{}, "entry point"},
		"short file":   {ok[:2000], Options{}, "segment at"},
		"mem < file":   {one(0x400000, 5, 10), Options{}, "segment at"},
		"align":        {ok, Options{AlignBytes: 1000}, "multiple of 1 MiB"},
		"negative":     {ok, Options{DataBytes: -1}, "data partition"},
		"huge":         {ok, Options{DataBytes: 3 << 40}, "data partition"},
		"command line": {ok, Options{CommandLine: strings.Repeat("x", 5000)}, "command line"},
	} {
		if _, err := Build(test.kernel, test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDiskReads(t *testing.T) {
	d := testDisk(t, Options{})
	whole := raw(t, d)
	for _, at := range []int64{0, 1, 511, 2048*512 - 3, kernelFirst*512 + 100, d.Size() - 600, d.Size() - 1} {
		p := bytes.Repeat([]byte{7}, 700)
		n, err := d.ReadAt(p, at)
		if want := min(int64(len(p)), d.Size()-at); int64(n) != want || (err == io.EOF) != (n < len(p)) || !bytes.Equal(p[:n], whole[at:at+want]) {
			t.Errorf("at %d: %d bytes, %v", at, n, err)
		}
	}
	if _, err := d.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the start")
	}
	if n, err := d.ReadAt(make([]byte, 1), d.Size()+5); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	path := file(t, "sparse", func(f *os.File) error { return d.writeSparse(f) })
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, whole) {
		t.Errorf("the sparse file differs: %v", err)
	}
}
