package virtio_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/ktest/fakedev"
)

// VIRTIO 1.2 §3.1.1: reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK and its
// check, queues, DRIVER_OK; on each transport, every register access in order.
func TestInitialisationFollowsSpecOrder(t *testing.T) {
	for _, name := range fronts {
		for _, msix := range []bool{false, true} {
			if msix && strings.HasPrefix(name, "mmio") {
				continue
			}
			file := name + ".regs"
			if msix {
				file = name + "-msix.regs"
			}
			t.Run(file, func(t *testing.T) {
				fd := &fakedev.Device{ID: 99, Mem: &fakedev.Mem{}, Offered: modern | 1<<3, Conf: make([]byte, 8), MSIX: msix}
				fd.Init(2, 256)
				log := &fakedev.Transcript{}
				tr := transcribed(t, fd, name, log)
				d, err := virtio.Open(tr, fd.Mem, "virtio-test", virtio.FeatureEventIdx|1<<3|1<<4, 1<<3)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 2 {
					if _, err := d.Queue(i, virtio.QueueOptions{MaxSize: 64, Vector: uint16(1 + i)}); err != nil {
						t.Fatal(err)
					}
				}
				if err := tr.SetConfigVector(0); err != nil {
					t.Fatal(err)
				}
				if err := d.Start(); err != nil {
					t.Fatal(err)
				}
				golden(t, file, log.String())
				if err := d.Close(); err != nil || fd.Mem.Live() != 0 {
					t.Error(err, fd.Mem.Live())
				}
			})
		}
	}
}

// transcribed is front with each window's accesses written into log.
func transcribed(t *testing.T, d *fakedev.Device, name string, log *fakedev.Transcript) virtio.Transport {
	t.Helper()
	tee := func(prefix string, s mmio.Space) mmio.Space {
		if s == nil {
			return nil
		}
		return &fakedev.Transcript{Behind: s, Prefix: prefix, Into: log}
	}
	var tr virtio.Transport
	var err error
	switch name {
	case "pci":
		f := d.PCI()
		tr, err = virtio.NewPCI(99, virtio.PCIWindows{Common: tee("", f.Common), Notify: tee("notify ", f.Notify),
			NotifyMultiplier: f.NotifyMultiplier, ISR: tee("isr ", f.ISR), Device: tee("config ", f.Config)}, d.MSIX)
	case "pci-legacy":
		tr, err = virtio.NewLegacyPCI(99, tee("", d.LegacyPCI()), d.MSIX)
	case "mmio":
		tr, err = virtio.NewMMIO(tee("", d.MMIO(2)))
	case "mmio-legacy":
		tr, err = virtio.NewMMIO(tee("", d.MMIO(1)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestTransportFacts(t *testing.T) {
	for _, name := range fronts {
		fd := &fakedev.Device{ID: 99, Mem: &fakedev.Mem{}, Offered: modern, Conf: []byte{1, 2, 3, 4, 5, 6, 7, 8}}
		fd.Init(1, 64)
		fd.Lines = []interface{ Fire() }{&fakedev.Line{}}
		tr := front(t, fd, name)
		if tr.String() != name || tr.DeviceID() != 99 || tr.Legacy() != legacy(name) || tr.MSIX() {
			t.Errorf("%s: %v, type %d, legacy %v, MSI-X %v", name, tr, tr.DeviceID(), tr.Legacy(), tr.MSIX())
		}
		if n := tr.Config().Len(); n < 8 || tr.Config().Load8(2) != 3 || tr.Config().Load16(4) != 0x0605 || tr.Config().Load32(4) != 0x08070605 {
			t.Errorf("%s: configuration of %d bytes is read wrongly", name, n)
		}
		tr.Config().Store8(0, 9)
		tr.Config().Store16(2, 0x0b0a)
		tr.Config().Store32(4, 0x0f0e0d0c)
		if got := string(fd.Conf); got != "\x09\x02\x0a\x0b\x0c\x0d\x0e\x0f" {
			t.Errorf("%s: configuration after writes: %x", name, got)
		}
		if isr := tr.AckInterrupt(); isr != 0 {
			t.Errorf("%s: ISR %#x before any interrupt", name, isr)
		}
		fd.ConfigChanged()
		if isr := tr.AckInterrupt(); isr != virtio.ISRConfig {
			t.Errorf("%s: ISR %#x after a configuration change", name, isr)
		}
		if fd.ISR() != 0 {
			t.Errorf("%s: the interrupt was not acknowledged", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		front string
		set   func(*fakedev.Device)
		need  virtio.Features
		want  string
	}{
		{name: "features refused", set: func(d *fakedev.Device) { d.RefuseFeatures = true }, want: "device refuses features"},
		{name: "no VERSION_1", set: func(d *fakedev.Device) { d.Offered = 1 }, want: "without 0x100000000 which the driver needs"},
		{name: "need", need: 1 << 7, want: "without 0x80"},
		{name: "reset stuck", set: func(d *fakedev.Device) { d.ResetReads = -1 }, want: "device does not finish its reset: status 0x1 after 2s"},
		{name: "reset stuck", front: "mmio", set: func(d *fakedev.Device) { d.ResetReads = -1 }, want: "does not finish its reset"},
		{name: "reset stuck", front: "pci-legacy", set: func(d *fakedev.Device) { d.ResetReads = -1 }, want: "does not finish its reset"},
	} {
		t.Run(c.name+c.front, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fd := &fakedev.Device{ID: 99, Mem: &fakedev.Mem{}, Offered: modern}
				fd.Init(1, 64)
				if c.set != nil {
					c.set(fd)
				}
				_, err := virtio.Open(front(t, fd, c.front), fd.Mem, "virtio-test", 0, c.need)
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "virtio-test: ") {
					t.Errorf("Open: %v, want %q", err, c.want)
				}
				if fd.ResetReads == 0 && fd.Status()&0x80 == 0 {
					t.Errorf("status %#x: FAILED is not set", fd.Status())
				}
			})
		})
	}
}

func TestResetIsWaitedFor(t *testing.T) {
	for _, reads := range []int{1, 63, 500} {
		synctest.Test(t, func(t *testing.T) {
			fd := &fakedev.Device{ID: 99, Mem: &fakedev.Mem{}, Offered: modern, ResetReads: reads}
			if _, err := virtio.Open(front(t, fd, "pci"), fd.Mem, "virtio-test", 0, 0); err != nil {
				t.Errorf("%d reads: %v", reads, err)
			}
		})
	}
}

func TestQueueRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		front string
		msix  bool
		set   func(*fakedev.Device)
		index int
		want  string
	}{
		{name: "size 0", set: func(d *fakedev.Device) { d.Queues[0].Max = 0 }, want: "queue 0: device offers 0 descriptors"},
		{name: "size 1", set: func(d *fakedev.Device) { d.Queues[0].Max = 1 }, want: "offers 1 descriptors"},
		{name: "no such queue", index: 1, want: "queue 1: device has only 1 queues"},
		{name: "no such queue", front: "mmio", index: 1, want: "queue 1: device offers 0 descriptors"},
		{name: "no such queue", front: "pci-legacy", index: 1, want: "queue 1: device offers 0 descriptors"},
		{name: "odd size", front: "pci-legacy", set: func(d *fakedev.Device) { d.Queues[0].Max = 100 }, want: "offers 100 descriptors"},
		{name: "notify outside", set: func(d *fakedev.Device) { d.NotifyOff = 1000 }, want: "notify register at 0xfa0 is outside"},
		{name: "vector", msix: true, set: func(d *fakedev.Device) { d.NoVectors = true }, want: "takes MSI-X vector 0x1 as 0xffff"},
		{name: "vector", msix: true, front: "pci-legacy", set: func(d *fakedev.Device) { d.NoVectors = true }, want: "takes MSI-X vector 0x1 as 0xffff"},
	} {
		t.Run(c.name+c.front, func(t *testing.T) {
			fd := &fakedev.Device{ID: 99, Mem: &fakedev.Mem{}, Offered: modern, MSIX: c.msix}
			fd.Init(1, 64)
			d, err := virtio.Open(front(t, fd, c.front), fd.Mem, "virtio-test", 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			if c.set != nil {
				c.set(fd)
			}
			_, err = d.Queue(c.index, virtio.QueueOptions{Vector: 1})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Queue: %v, want %q", err, c.want)
			}
			if c.msix {
				if err := d.Transport.SetConfigVector(0); err == nil {
					t.Error("a configuration vector that was not taken is not noticed")
				}
			}
			if err := d.Fail(err); err == nil {
				t.Error("Fail lost its error")
			}
			if n := fd.Mem.Live(); n != 0 {
				t.Errorf("%d regions leaked", n)
			}
		})
	}
}

// A queue that was not cleaned by the reset must not be set up again, §4.2.3.2.
func TestQueueInUseAfterReset(t *testing.T) {
	for _, name := range []string{"mmio", "mmio-legacy", "pci-legacy"} {
		r := newRig(t, opt{features: modern, size: 64, front: name})
		if _, err := r.dev.Queue(0, virtio.QueueOptions{}); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoMemoryForRings(t *testing.T) {
	fd := &fakedev.Device{ID: 99, Mem: &fakedev.Mem{}, Offered: modern}
	fd.Init(1, 64)
	for left := range 2 {
		mem := &tightMem{Mem: fd.Mem, left: left}
		d, err := virtio.Open(front(t, fd, "pci"), mem, "virtio-test", virtio.FeatureIndirectDesc, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Queue(0, virtio.QueueOptions{MaxSegs: 4})
		if !errors.As(err, &dma.ErrNoMemory{}) {
			t.Errorf("with room for %d regions: %v", left, err)
		}
		if d.Close(); fd.Mem.Live() != 0 {
			t.Errorf("%d regions leaked", fd.Mem.Live())
		}
	}
}

// tightMem has room for so many regions.
type tightMem struct {
	*fakedev.Mem
	left int
}

func (m *tightMem) Alloc(size, align int) (dma.Region, error) {
	if m.left == 0 {
		return dma.Region{}, dma.ErrNoMemory{Size: size, Align: align}
	}
	m.left--
	return m.Mem.Alloc(size, align)
}

// §2.5.1: the generation tells that a reading is torn.
func TestConfigIsReadUntilItIsStable(t *testing.T) {
	for _, name := range fronts {
		r := newRig(t, opt{features: modern, size: 64, front: name})
		r.fd.SetConf(0, 1, 2, 3, 4, 5, 6, 7, 8)
		r.fd.GarbleConfig = 5
		v, err := virtio.ReadConfig(r.dev, func(c *virtio.ConfigReader) uint64 { return c.U64(0) })
		if err != nil || v != 0x0807060504030201 {
			t.Errorf("%s: %#x, %v", name, v, err)
		}
		r.fd.GarbleConfig = 1 << 30
		_, err = virtio.ReadConfig(r.dev, func(c *virtio.ConfigReader) uint64 { return uint64(c.U16(0)) + uint64(c.U8(3)) })
		if (err != nil) == legacy(name) { // legacy devices have no generation
			t.Errorf("%s: restless configuration: %v", name, err)
		}
	}
}

func TestLegacyConfigIsReadUntilTwoAgree(t *testing.T) {
	r := newRig(t, opt{features: modern, size: 64, front: "pci-legacy"})
	n := 0
	v, err := virtio.ReadConfig(r.dev, func(c *virtio.ConfigReader) uint32 {
		n++
		return uint32(min(n, 3))
	})
	if v != 3 || n != 4 || err != nil {
		t.Errorf("%d after %d readings, %v", v, n, err)
	}
	if _, err = virtio.ReadConfig(r.dev, func(c *virtio.ConfigReader) int { n++; return n }); err == nil {
		t.Error("a configuration that never settles is taken")
	}
}

func TestConfigBeyondTheWindow(t *testing.T) {
	r := newRig(t, opt{features: modern, size: 64})
	_, err := virtio.ReadConfig(r.dev, func(c *virtio.ConfigReader) uint64 { return c.U64(12) + uint64(c.U16(15)) + uint64(c.U8(16)) })
	if err == nil || !strings.Contains(err.Error(), "configuration of 16 bytes lacks the field that ends at 20") {
		t.Error(err)
	}
	fd := &fakedev.Device{ID: 99, Mem: &fakedev.Mem{}, Offered: modern}
	d, err := virtio.Open(front(t, fd, "pci"), fd.Mem, "virtio-test", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := virtio.ReadConfig(d, func(c *virtio.ConfigReader) uint8 { return c.U8(0) }); err == nil {
		t.Error("a field is read from no window")
	}
}

func TestCheckTellsTrouble(t *testing.T) {
	r := newRig(t, opt{features: modern, size: 64})
	if err := r.dev.Check(); err != nil {
		t.Error(err)
	}
	r.fd.NeedsReset()
	if err := r.dev.Check(); err == nil || err.Error() != "virtio-test: device needs a reset: status 0x4f" {
		t.Error(err)
	}
	r.fd.ForgetDriver()
	if err := r.dev.Check(); err == nil || err.Error() != "virtio-test: device was reset behind the driver's back: status 0x0" {
		t.Error(err)
	}
	if r.dev.Name() != "virtio-test" {
		t.Error(r.dev.Name())
	}
}

func TestStartSeesADeviceInTrouble(t *testing.T) {
	fd := &fakedev.Device{ID: 99, Mem: &fakedev.Mem{}, Offered: modern, DropDriverOK: true}
	d, err := virtio.Open(front(t, fd, "pci"), fd.Mem, "virtio-test", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err == nil {
		t.Error("a device that drops DRIVER_OK is taken")
	}
}

func TestTransportsRefuse(t *testing.T) {
	regs := func(m map[mmio.Off]uint32) *fakedev.Transcript { return &fakedev.Transcript{Regs: m} }
	if _, err := virtio.NewMMIO(fakedev.EmptyMMIO()); !errors.Is(err, virtio.ErrNoDevice) {
		t.Errorf("empty slot: %v", err)
	}
	for _, c := range []struct {
		s    *fakedev.Transcript
		want string
	}{
		{regs(map[mmio.Off]uint32{0: 1}), "magic value 0x1"},
		{regs(map[mmio.Off]uint32{0: 0x74726976, 4: 3, 8: 1}), "version 3"},
		{&fakedev.Transcript{Size: 64}, "slot of 64 bytes"},
	} {
		if _, err := virtio.NewMMIO(c.s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("NewMMIO: %v, want %q", err, c.want)
		}
	}
	if m, err := virtio.NewMMIO(&fakedev.Transcript{Size: 256, Regs: map[mmio.Off]uint32{0: 0x74726976, 4: 2, 8: 1}}); err != nil || m.Config() != nil {
		t.Errorf("slot without configuration: %v", err)
	}
	if _, err := virtio.NewLegacyPCI(1, &fakedev.Transcript{Size: 16}, false); err == nil {
		t.Error("legacy window of 16 bytes is taken")
	}
	if l, err := virtio.NewLegacyPCI(1, &fakedev.Transcript{Size: 20}, false); err != nil || l.Config() != nil {
		t.Errorf("legacy window without configuration: %v", err)
	}
	ok := windows((&fakedev.Device{}).PCI())
	for _, w := range []virtio.PCIWindows{
		{},
		{Common: &fakedev.Transcript{Size: 20}, Notify: ok.Notify, ISR: ok.ISR},
		{Common: ok.Common, Notify: ok.Notify, ISR: emptySpace{&fakedev.Transcript{}}},
	} {
		if _, err := virtio.NewPCI(1, w, false); err == nil {
			t.Errorf("NewPCI takes %+v", w)
		}
	}
}

type emptySpace struct{ *fakedev.Transcript }

func (emptySpace) Len() uint32 { return 0 }
