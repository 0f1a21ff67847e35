package virtioblk_test

import (
	"bytes"
	"testing"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtioblk"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
)

const sectors = 4096

// content is what disks hold at first: each sector within 128 KiB is different.
var content = func() []byte {
	b := make([]byte, 256*512)
	for i := range b {
		b[i] = byte(i/512*3 + i)
	}
	return b
}()

// rig is a driver on a fake disk.
type rig struct {
	t    testing.TB
	mem  *fakedev.Mem
	disk *fakedev.Blk
	dev  *virtioblk.Device
}

type rigOpt struct {
	features uint64
	queues   int // of the disk
	sectors  int // 0: sectors
	lines    int // 0: one, no MSI-X
	ring     int
	front    string
	before   func(*fakedev.Blk)
	cfg      virtioblk.Config
}

func newRig(t testing.TB, o rigOpt) *rig {
	t.Helper()
	r, err := tryRig(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.dev.Close(); err != nil {
			t.Error(err)
		}
		r.wantNoLeak()
	})
	return r
}

func (r *rig) wantNoLeak() {
	r.t.Helper()
	if n := r.mem.Live(); n != 0 {
		r.t.Errorf("%d DMA regions leaked", n)
	}
}

func tryRig(t testing.TB, o rigOpt) (*rig, error) {
	t.Helper()
	if o.ring == 0 {
		o.ring = 128
	}
	if o.sectors == 0 {
		o.sectors = sectors
	}
	if o.queues == 0 {
		o.queues = 1
	}
	r := &rig{t: t, mem: &fakedev.Mem{}}
	r.disk = fakedev.NewBlk(r.mem, o.features, o.sectors, o.queues, o.ring)
	r.disk.MSIX = o.lines > 0
	var lines []irq.Line
	for range max(o.lines, 1) {
		l := &fakedev.Line{}
		lines = append(lines, l)
		r.disk.Lines = append(r.disk.Lines, l)
	}
	for d := r.disk.Disk; len(d) > 0; {
		d = d[copy(d, content):]
	}
	if o.before != nil {
		o.before(r.disk)
	}
	var err error
	r.dev, err = virtioblk.New(transport(t, r.disk, o.front), r.mem, lines, o.cfg)
	if err != nil {
		r.wantNoLeak()
	}
	return r, err
}

func transport(t testing.TB, disk *fakedev.Blk, front string) virtio.Transport {
	t.Helper()
	var tr virtio.Transport
	var err error
	switch front {
	case "", "pci":
		f := disk.PCI()
		tr, err = virtio.NewPCI(virtio.DeviceID(disk.ID), virtio.PCIWindows{Common: f.Common, Notify: f.Notify,
			NotifyMultiplier: f.NotifyMultiplier, ISR: f.ISR, Device: f.Config}, disk.MSIX)
	case "pci-legacy":
		tr, err = virtio.NewLegacyPCI(virtio.DeviceID(disk.ID), disk.LegacyPCI(), disk.MSIX)
	case "mmio":
		tr, err = virtio.NewMMIO(disk.MMIO(2))
	case "mmio-legacy":
		tr, err = virtio.NewMMIO(disk.MMIO(1))
	default:
		t.Fatalf("no front %q", front)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// steps lets the disk work, and all goroutines settle, until there is nothing to
// do. Only inside a synctest bubble, whose wait it is given.
func (r *rig) steps(wait func()) {
	for wait(); r.disk.Step() > 0; wait() {
	}
}

// region is device memory that the test frees at its end.
func (r *rig) region(n int) dma.Region {
	r.t.Helper()
	m, err := r.mem.Alloc(n, 512)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func pattern(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*13 + i/512 + seed)
	}
	return b
}

func (r *rig) wantDisk(off int, want []byte) {
	r.t.Helper()
	if !bytes.Equal(r.disk.Disk[off:off+len(want)], want) {
		r.t.Errorf("disk at %d does not hold the %d bytes written", off, len(want))
	}
}
