package ahci_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/ahci"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/qtest"
)

const qemuDisk = 8 << 20

// The HBA of a real QEMU: random transfers against a model, many at a time,
// then flush and trim, and the file compared in the end.
func TestOnQEMU(t *testing.T) {
	for _, c := range []struct {
		name    string
		machine string
		disk    string
		vectors int
		cfg     ahci.Config
	}{
		{"q35 pin", "q35", "ide-hd,bus=hba.0,drive=d,serial=s1", 0, ahci.Config{}},
		{"q35 msi", "q35", "ide-hd,bus=hba.0,drive=d,serial=s1", 1, ahci.Config{}},
		{"pc pin", "pc", "ide-hd,bus=hba.2,drive=d,serial=s1", 0, ahci.Config{}},
		{"no NCQ", "q35", "ide-hd,bus=hba.5,drive=d,serial=s1", 1, ahci.Config{NoNCQ: true}},
		{"depth 3", "q35", "ide-hd,bus=hba.1,drive=d,serial=s1", 1, ahci.Config{Depth: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, d, file := startDisk(t, "driver=raw,file.driver=file,file.filename="+diskFile(t)+",file.discard=unmap,discard=unmap",
				c.machine, c.disk, c.vectors, c.cfg)
			model := make([]byte, qemuDisk)
			randomTransfers(t, d, model)
			bs := int64(d.BlockSize())
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
			if err := d.Close(); err != nil || m.Live() != 0 {
				t.Error(err, m.Live())
			}
		})
	}
}

// Disks at several ports, a CD drive that is left alone, and an HBA reset under
// load.
func TestPortsOnQEMU(t *testing.T) {
	m := qtest.Start(t, "-machine", "q35,memory-backend=ram", "-device", "ich9-ahci,id=hba,addr=5",
		"-blockdev", "driver=null-co,node-name=a,size=1048576,read-zeroes=on", "-device", "ide-hd,bus=hba.1,drive=a,serial=one",
		"-device", "ide-cd,bus=hba.2",
		"-blockdev", "driver=raw,node-name=b,file.driver=file,file.filename="+diskFile(t), "-device", "ide-hd,bus=hba.4,drive=b,serial=two")
	f := m.Function(1, isHBA)
	c, err := ahci.New(f.BARs[5], m, f.Lines[0], ahci.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := c.Disks()
	if len(d) != 2 || d[0].Size() != 1<<20 || d[1].Size() != qemuDisk {
		t.Fatalf("%d disks", len(d))
	}
	if id, _ := d[1].ID(); id != "two" {
		t.Errorf("ID %q", id)
	}
	stop := make(chan struct{})
	var resets sync.WaitGroup
	resets.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if err := c.Reset(); err != nil {
				t.Error(err)
			}
		}
	})
	model := make([]byte, qemuDisk)
	randomTransfers(t, d[1], model)
	close(stop)
	resets.Wait()
	got := make([]byte, qemuDisk)
	if _, err := d[1].ReadAt(got, 0); err != nil || !bytes.Equal(got, model) {
		t.Error("the disk differs from the model: ", err)
	}
}

func isHBA(_, _ uint16, class uint32) bool { return class == 0x010601 }

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

// startDisk starts a machine with the block node given, whose file is returned.
func startDisk(t *testing.T, node, machine, device string, vectors int, cfg ahci.Config) (*qtest.Machine, blk.Disk, string) {
	t.Helper()
	m := qtest.Start(t, "-blockdev", node+",node-name=d", "-machine", machine+",memory-backend=ram",
		"-device", "ich9-ahci,id=hba,addr=5", "-device", device)
	f := m.Function(vectors, isHBA)
	c, err := ahci.New(f.BARs[5], m, f.Lines[0], cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := c.Disks()
	if len(d) != 1 || d[0].Size() != qemuDisk {
		t.Fatalf("%d disks", len(d))
	}
	_, file, _ := bytes.Cut([]byte(node), []byte("filename="))
	file, _, _ = bytes.Cut(file, []byte(","))
	return m, d[0], string(file)
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
// name it, all others work, with queued commands and without.
func TestBadSectorOnQEMU(t *testing.T) {
	for _, cfg := range []ahci.Config{{}, {NoNCQ: true}} {
		badSector(t, cfg)
	}
}

func badSector(t *testing.T, cfg ahci.Config) {
	const bad = 5000
	m, d, _ := startDisk(t, "driver=blkdebug,image.driver=raw,image.file.driver=file,image.file.filename="+diskFile(t)+
		",inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5,inject-error.0.sector=5000",
		"q35", "ide-hd,bus=hba.0,drive=d", 1, cfg)
	mem, err := m.Alloc(64<<10, 4096)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(2, 2))
	done := make(chan *blk.Request, 64)
	for range 64 {
		n := uint64(1 + rnd.IntN(64))
		q := &blk.Request{Op: blk.OpRead, Sector: bad - 100 + uint64(rnd.IntN(200)),
			Mem: []dma.Region{mem.Slice(0, int(n)*512)}, Done: func(q *blk.Request) { done <- q }}
		d.Submit(q)
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
