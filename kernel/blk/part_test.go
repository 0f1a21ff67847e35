package blk_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
)

// whole makes a ram disk a blk.Disk.
type whole struct {
	*ram
	closed, flushed int
}

func (w *whole) Name() string        { return "blk0" }
func (w *whole) ID() (string, error) { return "serial", nil }
func (w *whole) Close() error        { w.closed++; return nil }
func (w *whole) Flush() error        { w.flushed++; return w.ram.Flush() }

func TestPart(t *testing.T) {
	var mem fakedev.Mem
	d := &whole{ram: newRAM(t, &mem, 512)}
	const at, size = 64 << 10, 128 << 10
	before := bytes.Clone(d.b)
	p, err := blk.Part(d, "blk0p4", at, size)
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := p.ID(); p.Name() != "blk0p4" || p.Size() != size || p.BlockSize() != 512 || p.ReadOnly() || id != "serial" {
		t.Error(p.Name(), p.Size(), p.BlockSize(), p.ReadOnly(), id)
	}
	got := make([]byte, size+100)
	if n, err := p.ReadAt(got, 0); n != size || err != io.EOF || !bytes.Equal(got[:n], d.b[at:at+size]) {
		t.Errorf("ReadAt beyond the end: %d, %v", n, err)
	}
	if n, err := p.ReadAt(got[:7], size-7); n != 7 || err != nil || !bytes.Equal(got[:7], d.b[at+size-7:at+size]) {
		t.Errorf("ReadAt of the end: %d, %v", n, err)
	}
	if n, err := p.ReadAt(got[:1], size); n != 0 || err != io.EOF {
		t.Errorf("ReadAt at the end: %d, %v", n, err)
	}
	if n, err := p.ReadAt(nil, size+4096); n != 0 || err != nil {
		t.Errorf("ReadAt of nothing: %d, %v", n, err)
	}
	block := bytes.Repeat([]byte{0xa5}, 4096)
	if n, err := p.WriteAt(block, size-4096); n != 4096 || err != nil {
		t.Errorf("WriteAt: %d, %v", n, err)
	}
	copy(before[at+size-4096:], block)
	if err := errors.Join(p.WriteZeroes(0, 512), p.Discard(512, 512), p.Flush()); err != nil {
		t.Error(err)
	}
	clear(before[at:][:512])
	for name, err := range map[string]error{
		"read":         second(p.ReadAt(block, -512)),
		"write before": second(p.WriteAt(block, -512)),
		"write across": second(p.WriteAt(block, size-512)),
		"zeroes":       p.WriteZeroes(size-512, 1024),
		"discard":      p.Discard(-512, 1024),
	} {
		if !errors.Is(err, blk.ErrRange) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !bytes.Equal(d.b, before) {
		t.Error("bytes outside of the partition changed")
	}
	if err := p.Close(); err != nil || d.closed != 0 || d.flushed == 0 {
		t.Errorf("Close: %v, %d closes and %d flushes of the disk", err, d.closed, d.flushed)
	}
	for _, x := range [][2]int64{{-512, 512}, {0, 0}, {0, 2 << 20}, {1 << 20, 512}, {100, 512}, {512, 100}, {512, 1 << 62}} {
		if _, err := blk.Part(d, "x", x[0], x[1]); err == nil {
			t.Errorf("a partition of %d bytes at %d is taken", x[1], x[0])
		}
	}
}

func second(_ int, err error) error { return err }

// Requests go to the partition's place, come back as they were, and cannot leave it.
func TestPartSubmit(t *testing.T) {
	var mem fakedev.Mem
	d := &whole{ram: newRAM(t, &mem, 512)}
	p, err := blk.Part(d, "blk0p4", 1024, 4096)
	if err != nil {
		t.Fatal(err)
	}
	buf := dma.Region{Bytes: make([]byte, 1024), Bus: 4096}
	r := blk.Request{Op: blk.OpRead, Sector: 2, Mem: []dma.Region{buf}}
	ends := 0
	r.Done = func(*blk.Request) { ends++ }
	p.Submit(&r)
	if ends != 1 || r.Err != nil || r.Sector != 2 || len(r.Mem) != 1 || !bytes.Equal(buf.Bytes, d.b[2048:3072]) {
		t.Errorf("%d ends, %v, sector %d", ends, r.Err, r.Sector)
	}
	if n := testing.AllocsPerRun(100, func() { p.Submit(&r) }); n > 1 { // ram notes the operation
		t.Errorf("%v allocations", n)
	}
	for _, sector := range []uint64{7, 8, 1<<64 - 1, 1<<64 - 2} {
		r.Sector = sector
		p.Submit(&r)
		if !errors.Is(r.Err, blk.ErrRange) {
			t.Errorf("sector %d: %v", sector, r.Err)
		}
	}
	z := blk.Request{Op: blk.OpWriteZeroes, Sector: 1, Sectors: 8, Done: func(*blk.Request) {}}
	p.Submit(&z)
	if !errors.Is(z.Err, blk.ErrRange) {
		t.Error(z.Err)
	}
	if z.Sectors = 7; blk.Do(p.Submit, &z) != nil || !bytes.Equal(d.b[1536:5120], make([]byte, 3584)) {
		t.Error("write-zeroes to the end of the partition", z.Err)
	}
	if f := (blk.Request{Op: blk.OpFlush}); blk.Do(p.Submit, &f) != nil {
		t.Error(f.Err)
	}
	d.bad = 4
	r.Sector = 2
	if p.Submit(&r); !errors.Is(r.Err, blk.ErrIO) {
		t.Errorf("of a bad sector: %v", r.Err)
	}
}
