package virtioscsi_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtioscsi"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
	"osv/kernel/ktest/qtest"
)

const qemuDisk = 8 << 20

func pci(legacy bool, vectors int) func(*qtest.Machine) (virtio.Transport, []irq.Line) {
	return func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(legacy, vectors) }
}

// The adapter of a real QEMU, on each transport: random transfers against a model,
// many at a time, then flush, discard and write-zeroes.
func TestOnQEMU(t *testing.T) {
	disk := "scsi-hd,drive=d,serial=s1"
	for _, c := range []struct {
		name, machine, adapter, disk string
		get                          func(*qtest.Machine) (virtio.Transport, []irq.Line)
	}{
		{"pci", "q35", "virtio-scsi-pci", disk, pci(false, 0)},
		{"pci msix 2 queues", "q35", "virtio-scsi-pci,num_queues=2", disk, pci(false, 3)},
		{"pci one vector", "pc", "virtio-scsi-pci,num_queues=2", disk, pci(false, 1)},
		{"pci blocks of 4096", "q35", "virtio-scsi-pci", disk + ",logical_block_size=4096,physical_block_size=4096", pci(false, 2)},
		{"pci unit 0:9:200", "q35", "virtio-scsi-pci", disk + ",scsi-id=9,lun=200", pci(false, 2)},
		{"pci unit 0:255:16383", "q35", "virtio-scsi-pci", disk + ",scsi-id=255,lun=16383", pci(false, 2)},
		{"pci small", "q35", "virtio-scsi-pci,max_sectors=16,cmd_per_lun=2,virtqueue_size=16,indirect_desc=off,event_idx=off", disk, pci(false, 2)},
		{"pci no unmap", "q35", "virtio-scsi-pci", disk + ",max_unmap_size=65536,max_io_size=65536", pci(false, 2)},
		{"pci-legacy", "pc", "virtio-scsi-pci,disable-modern=on", disk, pci(true, 0)},
		{"pci-legacy msix", "pc", "virtio-scsi-pci,disable-modern=on", disk, pci(true, 2)},
		{"mmio", "microvm,ioapic2=off", "virtio-scsi-device", disk, (*qtest.Machine).MMIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, dev, file := start(t, "driver=raw,file.driver=file,file.filename="+diskFile(t)+",file.discard=unmap,discard=unmap", c.machine, c.adapter, c.disk, c.get)
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
	args := []string{"-machine", "q35,memory-backend=ram", "-device", "virtio-scsi-pci,id=s"}
	for _, a := range [][]string{null("a", "1048576"), null("b", "2097152"), null("c", "3145728"), null("e", "4194304"),
		{"-device", "scsi-hd,bus=s.0,drive=a,scsi-id=3,lun=0"}, {"-device", "scsi-hd,bus=s.0,drive=b,scsi-id=3,lun=7"},
		{"-device", "scsi-cd,bus=s.0,drive=c,scsi-id=1"}, {"-device", "scsi-hd,bus=s.0,drive=e,scsi-id=6,lun=1"}} {
		args = append(args, a...)
	}
	m := qtest.Start(t, args...)
	tr, lines := m.PCI(false, 2)
	dev, err := virtioscsi.New(tr, m, lines, virtioscsi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	d := dev.Disks()
	if len(d) != 3 || d[0].Size() != 1<<20 || d[1].Size() != 2<<20 || d[2].Size() != 4<<20 || d[1].(*scsi.Disk).Address() != address(3, 7) {
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
func start(t *testing.T, node, machine, adapter, disk string, get func(*qtest.Machine) (virtio.Transport, []irq.Line)) (*qtest.Machine, *virtioscsi.Device, string) {
	t.Helper()
	m := qtest.Start(t, "-blockdev", node+",node-name=d", "-machine", machine+",memory-backend=ram", "-device", adapter+",id=s", "-device", disk+",bus=s.0")
	tr, lines := get(m)
	dev, err := virtioscsi.New(tr, m, lines, virtioscsi.Config{SCSI: scsi.Config{Timeout: 20 * time.Second}})
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
// name it, all others work. Unit resets in between change nothing.
func TestBadSectorOnQEMU(t *testing.T) {
	const bad = 5000
	m, dev, _ := start(t, "driver=blkdebug,image.driver=raw,image.file.driver=file,image.file.filename="+diskFile(t)+
		",inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5,inject-error.0.sector=5000",
		"q35", "virtio-scsi-pci", "scsi-hd,drive=d", pci(false, 2))
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
