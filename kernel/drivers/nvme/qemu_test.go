package nvme_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/nvme"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/qtest"
)

const qemuDisk = 8 << 20

// The controller of a real QEMU: random transfers against a model, many at a time,
// then flush, deallocate and write-zeroes, and the file compared in the end.
func TestOnQEMU(t *testing.T) {
	for _, c := range []struct {
		name    string
		device  string
		machine string
		vectors int
		cfg     nvme.Config
		disks   int
	}{
		{"pin", "nvme,drive=d,serial=s1", "q35", 0, nvme.Config{}, 1},
		{"pc pin", "nvme,drive=d,serial=s1", "pc", 0, nvme.Config{}, 1},
		{"msix 2 queues", "nvme,drive=d,serial=s1,max_ioqpairs=2", "q35", 3, nvme.Config{}, 1},
		{"one vector", "nvme,drive=d,serial=s1", "q35", 1, nvme.Config{Queues: 2}, 1},
		{"blocks of 4096", "nvme,drive=d,serial=s1,logical_block_size=4096,physical_block_size=4096", "q35", 2, nvme.Config{}, 1},
		{"MDTS of 2 pages and queues of 4", "nvme,drive=d,serial=s1,mdts=1", "q35", 2, nvme.Config{Depth: 4}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, d, file := startDisk(t, "driver=raw,file.driver=file,file.filename="+diskFile(t)+",file.discard=unmap,discard=unmap",
				c.machine, c.device, c.vectors, c.cfg)
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
			if err := d.Close(); err != nil || m.Live() != 0 {
				t.Error(err, m.Live())
			}
		})
	}
}

func TestNamespacesOnQEMU(t *testing.T) {
	m := qtest.Start(t, "-machine", "q35,memory-backend=ram", "-device", "nvme,serial=s2,id=n",
		"-blockdev", "driver=null-co,node-name=a,size=1048576,read-zeroes=on", "-device", "nvme-ns,bus=n,drive=a,nsid=1",
		"-blockdev", "driver=null-co,node-name=b,size=2097152,read-zeroes=on", "-device", "nvme-ns,bus=n,drive=b,nsid=7,logical_block_size=4096,physical_block_size=4096",
		"-blockdev", "driver=null-co,node-name=c,size=2097152,read-zeroes=on", "-device", "nvme-ns,bus=n,drive=c,nsid=9,ms=8")
	f := m.Function(2, isNVMe)
	c, err := nvme.New(f.BARs[0], m, f.Lines, nvme.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := c.Disks()
	if len(d) != 2 || d[0].Size() != 1<<20 || d[1].Size() != 2<<20 || d[1].BlockSize() != 4096 {
		t.Errorf("%d namespaces", len(d))
	}
}

// Resets under load lose nothing.
func TestResetOnQEMU(t *testing.T) {
	for _, vectors := range []int{0, 3} {
		m := qtest.Start(t, "-machine", "q35,memory-backend=ram", "-device", "nvme,drive=d,serial=s1",
			"-blockdev", "driver=raw,node-name=d,file.driver=file,file.filename="+diskFile(t))
		f := m.Function(vectors, isNVMe)
		c, err := nvme.New(f.BARs[0], m, f.Lines, nvme.Config{})
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var resets sync.WaitGroup
		n := 0
		resets.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				if err := c.Reset(); err != nil {
					t.Error(err)
				}
				n++
			}
		})
		model := make([]byte, qemuDisk)
		randomTransfers(t, c.Disks()[0], model)
		close(stop)
		resets.Wait()
		got := make([]byte, qemuDisk)
		if _, err := c.Disks()[0].ReadAt(got, 0); err != nil || !bytes.Equal(got, model) {
			t.Error("the disk differs from the model: ", err)
		}
		if n < 3 {
			t.Errorf("%d resets", n)
		}
		if err := c.Close(); err != nil || m.Live() != 0 {
			t.Error(err, m.Live())
		}
	}
}

func isNVMe(_, _ uint16, class uint32) bool { return class == 0x010802 }

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
func startDisk(t *testing.T, node, machine, device string, vectors int, cfg nvme.Config) (*qtest.Machine, blk.Disk, string) {
	t.Helper()
	m := qtest.Start(t, "-blockdev", node+",node-name=d", "-machine", machine+",memory-backend=ram", "-device", device)
	f := m.Function(vectors, isNVMe)
	c, err := nvme.New(f.BARs[0], m, f.Lines, cfg)
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
// name it, all others work.
func TestBadSectorOnQEMU(t *testing.T) {
	const bad = 5000
	m, d, _ := startDisk(t, "driver=blkdebug,image.driver=raw,image.file.driver=file,image.file.filename="+diskFile(t)+
		",inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5,inject-error.0.sector=5000",
		"q35", "nvme,drive=d,serial=s1", 2, nvme.Config{})
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
