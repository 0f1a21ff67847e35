package ext4

import (
	"fmt"
	"testing"

	"osv/kernel/vfs"
)

// mounted file system with one file of n bytes, and the file opened.
func benchFile(b *testing.B, n int) (*mounted, *disk, vfs.File) {
	needTools(b)
	d := image(b, 64<<10, "-t", "ext4", "-b", "4096")
	m := mount(b, d, false)
	node := mk(b, m.Root(), "file", vfs.TypeFile)
	if err := writeAt(node, make([]byte, n), 0); err != nil {
		b.Fatal(err)
	}
	m.unmount()
	m = mount(b, d, false)
	f, err := m.at("file").Open(2)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close(); m.unmount() })
	return m, d, f
}

// A cached read allocates nothing, from the system call's side down.
func TestCachedReadsDoNotAllocate(t *testing.T) {
	needTools(t)
	d := image(t, 8<<10, "-t", "ext4")
	m := mount(t, d, false)
	writeAt(mk(t, m.Root(), "file", vfs.TypeFile), make([]byte, 64<<10), 0)
	f, _ := m.at("file").Open(0)
	buf := &vfs.Bytes{B: make([]byte, 4096)}
	read := func() {
		*buf = vfs.Bytes{B: buf.B}
		if n, err := f.Read(buf, 8192); n != 4096 || err != nil {
			t.Error(n, err)
		}
	}
	read()
	if n := testing.AllocsPerRun(200, read); n != 0 {
		t.Errorf("%v allocations", n)
	}
	f.Close()
	m.unmount()
}

func BenchmarkReadCached4K(b *testing.B) {
	_, _, f := benchFile(b, 1<<20)
	buf := &vfs.Bytes{B: make([]byte, 4096)}
	b.SetBytes(4096)
	b.ReportAllocs()
	b.ResetTimer()
	for k := range b.N {
		*buf = vfs.Bytes{B: buf.B}
		f.Read(buf, int64(k%256)<<12)
	}
}

func BenchmarkReadSequential128K(b *testing.B) {
	m, d, f := benchFile(b, 12<<20)
	buf := &vfs.Bytes{B: make([]byte, 128<<10)}
	b.SetBytes(128 << 10)
	b.ReportAllocs()
	reads := d.reads
	b.ResetTimer()
	for k := range b.N {
		if k%96 == 0 {
			f.(*file).i.pages.Invalidate(0, 1<<40)
		}
		*buf = vfs.Bytes{B: buf.B}
		if n, err := f.Read(buf, int64(k%96)<<17); n != 128<<10 || err != nil {
			b.Fatal(n, err)
		}
	}
	_ = m
	b.ReportMetric(float64(d.reads-reads)/float64(b.N), "pieces/op")
}

func BenchmarkWriteSequential128K(b *testing.B) {
	_, _, f := benchFile(b, 1<<20)
	buf := &vfs.Bytes{B: make([]byte, 128<<10)}
	b.SetBytes(128 << 10)
	b.ReportAllocs()
	b.ResetTimer()
	for k := range b.N {
		*buf = vfs.Bytes{B: buf.B}
		if n, _, err := f.Write(buf, int64(k%96)<<17, false); n != 128<<10 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkAppendAndSync(b *testing.B) {
	_, _, f := benchFile(b, 4096)
	buf := &vfs.Bytes{B: make([]byte, 100)}
	b.ReportAllocs()
	b.ResetTimer()
	for k := range b.N {
		*buf = vfs.Bytes{B: buf.B}
		f.Write(buf, int64(k%10000)*100, false)
		if err := f.Sync(false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMakeAndRemove(b *testing.B) {
	m, _, _ := benchFile(b, 4096)
	b.ReportAllocs()
	b.ResetTimer()
	for k := range b.N {
		name := fmt.Sprint("name", k)
		if _, err := m.Root().Make(name, vfs.NewNode{Type: vfs.TypeFile}); err != nil {
			b.Fatal(err)
		}
		if err := m.Root().Remove(name, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	m, _, _ := benchFile(b, 4096)
	for k := range 2000 {
		m.Root().Make(fmt.Sprint("name", k), vfs.NewNode{Type: vfs.TypeFile})
	}
	m.Root().Lookup("name77")
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := m.Root().Lookup("name77"); err != nil {
			b.Fatal(err)
		}
	}
}
