package pvscsi_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/pvscsi"
	"osv/kernel/drivers/scsi"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/qtest"
)

const qemuDisk = 8 << 20

func isPVSCSI(vendor, device uint16, _ uint32) bool { return vendor == 0x15ad && device == 0x07c0 }

// The adapter of a real QEMU, on each transport: random transfers against a model,
// many at a time, then flush, discard and write-zeroes.
func TestOnQEMU(t *testing.T) {
	disk := "scsi-hd,drive=d,serial=s1"
	for _, c := range []struct {
		name, machine, adapter, disk string
		vectors                      int
		cfg                          pvscsi.Config
	}{
		{"pin", "q35", "pvscsi", disk, 0, pvscsi.Config{}},
		{"pc pin", "pc", "pvscsi", disk, 0, pvscsi.Config{}},
		{"msi", "q35", "pvscsi", disk, qtest.MSIOnly, pvscsi.Config{}},
		{"pc msi", "pc", "pvscsi", disk, qtest.MSIOnly, pvscsi.Config{}},
		{"no messages", "pc", "pvscsi,use_msg=0", disk, qtest.MSIOnly, pvscsi.Config{}},
		{"blocks of 4096", "q35", "pvscsi", disk + ",logical_block_size=4096,physical_block_size=4096", qtest.MSIOnly, pvscsi.Config{}},
		{"target 15", "q35", "pvscsi", disk + ",scsi-id=15", qtest.MSIOnly, pvscsi.Config{}},
		{"small", "q35", "pvscsi", disk, qtest.MSIOnly, pvscsi.Config{Depth: 3, MaxSegs: 1}},
		{"large", "q35", "pvscsi", disk, qtest.MSIOnly, pvscsi.Config{Depth: 1024, MaxSegs: 128}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, dev, file := start(t, "driver=raw,file.driver=file,file.filename="+diskFile(t)+",file.discard=unmap,discard=unmap", c.machine, c.adapter, c.disk, c.vectors, c.cfg)
			d := dev.Disks()[0]
			model := make([]byte, qemuDisk)
			randomTransfers(t, d, model)
			bs := int64(d.BlockSize())
			if err := d.WriteZeroes(3*bs, 300*bs); err != nil {
				t.Error(err)
			}
			clear(model[3*bs : 303*bs])
			if err := d.Discard(400*bs, 100*bs); err != nil {
				t.Error(err)
			}
			if err := d.Flush(); err != nil {
				t.Error(err)
			}
			if id, err := d.ID(); err != nil || id != "s1" {
				t.Errorf("ID %q, %v", id, err)
			}
			got := make([]byte, qemuDisk)
			if _, err := d.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			copy(model[400*bs:500*bs], got[400*bs:]) // anything, after a discard
			if !bytes.Equal(got, model) {
				t.Error("the disk differs from the model")
			}
			if onDisk, err := os.ReadFile(file); err != nil || !bytes.Equal(onDisk, got) {
				t.Errorf("the file differs from what was read (%v)", err)
			}
			if err := dev.Close(); err != nil || m.Live() != 0 {
				t.Error(err, m.Live())
			}
		})
	}
}

// What is no disk is left alone; many units are found.
func TestUnitsOnQEMU(t *testing.T) {
	null := func(name, size string) []string {
		return []string{"-blockdev", "driver=null-co,node-name=" + name + ",read-zeroes=on,size=" + size}
	}
	args := []string{"-machine", "q35,memory-backend=ram", "-device", "pvscsi,id=s"}
	for _, a := range [][]string{null("a", "1048576"), null("b", "2097152"), null("c", "3145728"),
		{"-device", "scsi-hd,bus=s.0,drive=a,scsi-id=3"}, {"-device", "scsi-hd,bus=s.0,drive=b,scsi-id=7"}, {"-device", "scsi-cd,bus=s.0,drive=c,scsi-id=1"}} {
		args = append(args, a...)
	}
	m := qtest.Start(t, args...)
	f := m.Function(qtest.MSIOnly, isPVSCSI)
	dev, err := pvscsi.New(f.BARs[0], m, f.Lines[0], pvscsi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	d := dev.Disks()
	if len(d) != 2 || d[0].Size() != 1<<20 || d[1].Size() != 2<<20 || d[1].(*scsi.Disk).Address() != address(7, 0) {
		t.Errorf("%d disks", len(d))
	}
}

func diskFile(t *testing.T) string {
	f := t.TempDir() + "/disk"
	if err := os.WriteFile(f, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(f, qemuDisk); err != nil {
		t.Fatal(err)
	}
	return f
}

// start starts a machine with the block node given, whose file is returned.
func start(t *testing.T, node, machine, adapter, disk string, vectors int, cfg pvscsi.Config) (*qtest.Machine, *pvscsi.Adapter, string) {
	t.Helper()
	m := qtest.Start(t, "-blockdev", node+",node-name=d", "-machine", machine+",memory-backend=ram", "-device", adapter+",id=s", "-device", disk+",bus=s.0")
	f := m.Function(vectors, isPVSCSI)
	cfg.SCSI.Timeout = 20 * time.Second
	dev, err := pvscsi.New(f.BARs[0], m, f.Lines[0], cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	if d := dev.Disks(); len(d) != 1 || d[0].Size() != qemuDisk {
		t.Fatalf("%d disks", len(d))
	}
	_, file, _ := bytes.Cut([]byte(node), []byte("filename="))
	file, _, _ = bytes.Cut(file, []byte(","))
	return m, dev, string(file)
}

// randomTransfers writes and reads areas of the disk from 4 goroutines, each with
// an area of its own, and keeps the model up to date.
func randomTransfers(t *testing.T, d blk.Disk, model []byte) {
	var wg sync.WaitGroup
	const workers = 4
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			fill := rand.NewChaCha8([32]byte{byte(w)})
			bs := d.BlockSize()
			lo, n := w*qemuDisk/workers, qemuDisk/workers
			for range 40 {
				off := rnd.IntN(n/bs) * bs
				size := min(1+rnd.IntN(1+rnd.IntN(512<<10)), n-off)
				if rnd.IntN(2) == 0 {
					size = (size + bs - 1) / bs * bs
					p := model[lo+off : lo+off+size]
					fill.Read(p)
					if k, err := d.WriteAt(p, int64(lo+off)); k != size || err != nil {
						t.Errorf("write of %d at %d: %d, %v", size, lo+off, k, err)
					}
					continue
				}
				got := make([]byte, size)
				if k, err := d.ReadAt(got, int64(lo+off)); k != size || err != nil || !bytes.Equal(got, model[lo+off:lo+off+size]) {
					t.Errorf("read of %d at %d: %d, %v, or differs", size, lo+off, k, err)
				}
			}
		})
	}
	wg.Wait()
}

// QEMU's blkdebug makes one sector bad: requests that touch it fail with ErrIO and
// name it, all others work. Unit and adapter resets in between change nothing.
func TestBadSectorOnQEMU(t *testing.T) {
	const bad = 5000
	m, dev, _ := start(t, "driver=blkdebug,image.driver=raw,image.file.driver=file,image.file.filename="+diskFile(t)+
		",inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5,inject-error.0.sector=5000",
		"q35", "pvscsi", "scsi-hd,drive=d", qtest.MSIOnly, pvscsi.Config{})
	d := dev.Disks()[0]
	mem, err := m.Alloc(64<<10, 4096)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(2, 2))
	done := make(chan *blk.Request, 64)
	for i := range 64 {
		n := uint64(1 + rnd.IntN(64))
		q := &blk.Request{Op: blk.OpRead, Sector: bad - 100 + uint64(rnd.IntN(200)),
			Mem: []dma.Region{mem.Slice(0, int(n)*512)}, Done: func(q *blk.Request) { done <- q }}
		d.Submit(q)
		if i%16 == 15 {
			if err := dev.ResetUnit(address(0, 0)); err != nil {
				t.Error(err)
			}
			if i > 40 {
				dev.Reset("test")
			}
		}
	}
	hits := 0
	for range 64 {
		q := <-done
		n := uint64(len(q.Mem[0].Bytes) / 512)
		hit := q.Sector <= bad && bad < q.Sector+n
		var e *blk.Error
		switch {
		case !hit && q.Err != nil:
			t.Errorf("%d sectors at %d: %v", n, q.Sector, q.Err)
		case hit && (!errors.As(q.Err, &e) || e.Why != blk.ErrIO || e.Sector > bad || e.Sector+e.Count <= bad):
			t.Errorf("%d sectors at %d: %v", n, q.Sector, q.Err)
		case hit:
			hits++
		}
	}
	if hits == 0 {
		t.Error("no request touched the bad sector")
	}
	if _, err := d.ReadAt(make([]byte, 512), 0); err != nil {
		t.Error(err)
	}
}
