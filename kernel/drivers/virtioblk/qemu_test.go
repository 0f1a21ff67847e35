package virtioblk_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtioblk"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
	"osv/kernel/ktest/qtest"
)

const qemuDisk = 8 << 20

// The disks of a real QEMU, on each transport: random transfers against a model,
// many at a time, then flush, discard and write-zeroes.
func TestOnQEMU(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		get  func(*qtest.Machine) (virtio.Transport, []irq.Line)
	}{
		{"pci", []string{"-machine", "q35,memory-backend=ram", "-device", "virtio-blk-pci,drive=d"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 0) }},
		{"pci msix 2 queues", []string{"-machine", "q35,memory-backend=ram", "-device", "virtio-blk-pci,drive=d,num-queues=2"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 3) }},
		{"pci one vector", []string{"-machine", "pc,memory-backend=ram", "-device", "virtio-blk-pci,drive=d,num-queues=2"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 1) }},
		{"pci blocks of 4096", []string{"-machine", "q35,memory-backend=ram", "-device", "virtio-blk-pci,drive=d,logical_block_size=4096,physical_block_size=4096"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 2) }},
		{"pci plain ring", []string{"-machine", "q35,memory-backend=ram", "-device", "virtio-blk-pci,drive=d,indirect_desc=off,event_idx=off,queue-size=16"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 2) }},
		{"pci-legacy", []string{"-machine", "pc,memory-backend=ram", "-device", "virtio-blk-pci,drive=d,disable-modern=on"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(true, 0) }},
		{"pci-legacy msix", []string{"-machine", "pc,memory-backend=ram", "-device", "virtio-blk-pci,drive=d,disable-modern=on"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(true, 2) }},
		{"mmio-legacy", []string{"-machine", "microvm,memory-backend=ram,ioapic2=off", "-device", "virtio-blk-device,drive=d"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.MMIO() }},
		{"mmio", []string{"-machine", "microvm,memory-backend=ram,ioapic2=off", "-global", "virtio-mmio.force-legacy=false", "-device", "virtio-blk-device,drive=d"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.MMIO() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, d, file := startDisk(t, "driver=raw,file.driver=file,file.filename="+diskFile(t)+",file.discard=unmap,discard=unmap", c.args, c.get)
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
			if id, err := d.ID(); err != nil || id != "" && !strings.HasPrefix(id, "serial") {
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
func startDisk(t *testing.T, node string, args []string, get func(*qtest.Machine) (virtio.Transport, []irq.Line)) (*qtest.Machine, *virtioblk.Device, string) {
	t.Helper()
	m := qtest.Start(t, append([]string{"-blockdev", node + ",node-name=d"}, args...)...)
	tr, lines := get(m)
	d, err := virtioblk.New(tr, m, lines, virtioblk.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if d.Size() != qemuDisk {
		t.Fatalf("size %d", d.Size())
	}
	_, file, _ := strings.Cut(node, "filename=")
	file, _, _ = strings.Cut(file, ",")
	return m, d, file
}

// randomTransfers writes and reads areas of the disk from 4 goroutines, each with
// an area of its own, and keeps the model up to date.
func randomTransfers(t *testing.T, d *virtioblk.Device, model []byte) {
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
		[]string{"-machine", "q35,memory-backend=ram", "-device", "virtio-blk-pci,drive=d"},
		func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 2) })
	mem, err := m.Alloc(64<<10, 4096)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(2, 2))
	done := make(chan *virtioblk.Request, 64)
	for range 64 {
		n := uint64(1 + rnd.IntN(64))
		q := &virtioblk.Request{Op: virtioblk.OpRead, Sector: bad - 100 + uint64(rnd.IntN(200)),
			Mem: []dma.Region{mem.Slice(0, int(n)*512)}, Done: func(q *virtioblk.Request) { done <- q }}
		d.Submit(q)
	}
	hits := 0
	for range 64 {
		q := <-done
		n := uint64(len(q.Mem[0].Bytes) / 512)
		hit := q.Sector <= bad && bad < q.Sector+n
		var e *virtioblk.Error
		switch {
		case !hit && q.Err != nil:
			t.Errorf("%d sectors at %d: %v", n, q.Sector, q.Err)
		case hit && (!errors.As(q.Err, &e) || e.Why != virtioblk.ErrIO || e.Sector > bad || e.Sector+e.Count <= bad):
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
