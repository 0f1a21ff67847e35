package virtiorng_test

import (
	"bytes"
	"testing"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtiorng"
	"osv/kernel/irq"
	"osv/kernel/ktest/qtest"
)

// The devices of a real QEMU, on each transport.
func TestOnQEMU(t *testing.T) {
	const object = "rng-random,id=r,filename=/dev/urandom"
	for _, c := range []struct {
		name string
		args []string
		get  func(*qtest.Machine) (virtio.Transport, []irq.Line)
	}{
		{"pci", []string{"-machine", "q35,memory-backend=ram", "-object", object, "-device", "virtio-rng-pci,rng=r"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 0) }},
		{"pci msix", []string{"-machine", "q35,memory-backend=ram", "-object", object, "-device", "virtio-rng-pci,rng=r"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 1) }},
		{"pci-legacy", []string{"-machine", "pc,memory-backend=ram", "-object", object, "-device", "virtio-rng-pci,rng=r,disable-modern=on"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(true, 0) }},
		{"mmio-legacy", []string{"-machine", "microvm,memory-backend=ram,ioapic2=off", "-object", object, "-device", "virtio-rng-device,rng=r"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.MMIO() }},
		{"mmio", []string{"-machine", "microvm,memory-backend=ram,ioapic2=off", "-global", "virtio-mmio.force-legacy=false", "-object", object, "-device", "virtio-rng-device,rng=r"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.MMIO() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := qtest.Start(t, c.args...)
			tr, lines := c.get(m)
			d, err := virtiorng.New(tr, m, lines[0])
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 2000)
			if n, err := d.Read(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			if bytes.Contains(p, make([]byte, 16)) {
				t.Error("16 zero bytes in a row")
			}
			if err := d.Close(); err != nil || m.Live() != 0 {
				t.Error(err, m.Live())
			}
		})
	}
}
