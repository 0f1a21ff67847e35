package virtio_test

import (
	"os"
	"path/filepath"
	"testing"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
)

const modern = fakedev.FeatureVersion1 | fakedev.FeatureEventIdx | fakedev.FeatureIndirectDesc

// rig is one started queue on a fake device with no type of its own.
type rig struct {
	t   testing.TB
	mem *fakedev.Mem
	fd  *fakedev.Device
	dev *virtio.Device
	q   *virtio.Queue
	fq  *fakedev.Queue
	buf dma.Region
}

type opt struct {
	features uint64
	size     int
	maxSegs  int
	front    string
}

func newRig(t testing.TB, o opt) *rig {
	t.Helper()
	r := &rig{t: t, mem: &fakedev.Mem{}}
	r.fd = &fakedev.Device{ID: 99, Mem: r.mem, Offered: o.features, Conf: make([]byte, 16)}
	r.fd.Init(1, o.size)
	r.fq = r.fd.Queues[0]
	var err error
	r.dev, err = virtio.Open(front(t, r.fd, o.front), r.mem, "virtio-test",
		virtio.FeatureEventIdx|virtio.FeatureIndirectDesc, 0)
	if err != nil {
		t.Fatal(err)
	}
	if r.q, err = r.dev.Queue(0, virtio.QueueOptions{MaxSize: o.size, MaxSegs: o.maxSegs, Vector: 0}); err != nil {
		t.Fatal(err)
	}
	if err := r.dev.Start(); err != nil {
		t.Fatal(err)
	}
	if r.buf, err = r.mem.Alloc(1<<16, 4096); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.dev.Close(); err != nil {
			t.Error(err)
		}
		r.mem.Free(r.buf)
		if n := r.mem.Live(); n != 0 {
			t.Errorf("%d regions leaked", n)
		}
	})
	return r
}

// fronts are all transports, by name.
var fronts = []string{"pci", "pci-legacy", "mmio", "mmio-legacy"}

func legacy(front string) bool { return front == "pci-legacy" || front == "mmio-legacy" }

func front(t testing.TB, d *fakedev.Device, name string) virtio.Transport {
	t.Helper()
	tr, err := tryFront(d, name)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func tryFront(d *fakedev.Device, name string) (virtio.Transport, error) {
	switch name {
	case "pci-legacy":
		return virtio.NewLegacyPCI(virtio.DeviceID(d.ID), d.LegacyPCI(), d.MSIX)
	case "mmio":
		return virtio.NewMMIO(d.MMIO(2))
	case "mmio-legacy":
		return virtio.NewMMIO(d.MMIO(1))
	}
	return virtio.NewPCI(virtio.DeviceID(d.ID), windows(d.PCI()), d.MSIX)
}

func windows(f fakedev.PCIFront) virtio.PCIWindows {
	return virtio.PCIWindows{Common: f.Common, Notify: f.Notify, NotifyMultiplier: f.NotifyMultiplier, ISR: f.ISR, Device: f.Config}
}

// golden compares got with testdata/name; with UPDATE_GOLDEN set it writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}
