package virtioscsi_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtioscsi"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakescsi"
)

const (
	diskBytes      = 1 << 20
	timeout        = 8 * time.Second
	abortTimeout   = time.Second
	controlTimeout = 2 * time.Second
)

// rig is a driver on a fake adapter with a disk at 0:0.
type rig struct {
	t    testing.TB
	mem  *fakedev.Mem
	fake *fakedev.SCSI
	unit *fakescsi.Unit
	dev  *virtioscsi.Device
	d    blk.Disk
}

type rigOpt struct {
	features uint64 // 0: all
	queues   int    // of the adapter; 0: 1
	lines    int    // 0: one, no MSI-X
	ring     int    // 0: 128
	front    string
	before   func(*rig)
	cfg      virtioscsi.Config
}

// newRig is only for a synctest bubble.
func newRig(t testing.TB, o rigOpt) *rig {
	t.Helper()
	r, err := tryRig(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.dev.Close(); err != nil {
		r.t.Error(err)
	}
	r.clean()
}

func (r *rig) clean() {
	r.t.Helper()
	r.fake.Close()
	if n := r.mem.Live(); n != 0 {
		r.t.Errorf("%d DMA regions leaked", n)
	}
	for _, v := range r.fake.Bus.Violations() {
		r.t.Error("violation: ", v)
	}
}

func tryRig(t testing.TB, o rigOpt) (*rig, error) {
	t.Helper()
	if o.features == 0 {
		o.features = fakedev.SCSIAll
	}
	if o.ring == 0 {
		o.ring = 128
	}
	r := &rig{t: t, mem: &fakedev.Mem{}}
	r.fake = fakedev.NewSCSI(r.mem, o.features, max(o.queues, 1), o.ring)
	r.fake.MSIX = o.lines > 0
	var lines []irq.Line
	for range max(o.lines, 1) {
		l := &fakedev.Line{}
		lines = append(lines, l)
		r.fake.Lines = append(r.fake.Lines, l)
	}
	r.unit = r.fake.Bus.AddDisk(0, 0, diskBytes, 512)
	copy(r.unit.Disk, pattern(diskBytes, 99))
	if o.before != nil {
		o.before(r)
	}
	o.cfg.SCSI.Timeout, o.cfg.SCSI.AbortTimeout, o.cfg.ControlTimeout = timeout, abortTimeout, controlTimeout
	o.cfg.SCSI.Bounces = blk.Bounces{N: 4, Size: 16 << 10}
	var err error
	r.dev, err = virtioscsi.New(transport(t, r.fake, o.front), r.mem, lines, o.cfg)
	if err != nil {
		r.clean()
		return r, err
	}
	if d := r.dev.Disks(); len(d) > 0 {
		r.d = d[0]
	}
	return r, nil
}

func transport(t testing.TB, f *fakedev.SCSI, front string) virtio.Transport {
	t.Helper()
	var tr virtio.Transport
	var err error
	switch front {
	case "", "pci":
		p := f.PCI()
		tr, err = virtio.NewPCI(virtio.DeviceID(f.ID), virtio.PCIWindows{Common: p.Common, Notify: p.Notify,
			NotifyMultiplier: p.NotifyMultiplier, ISR: p.ISR, Device: p.Config}, f.MSIX)
	case "pci-legacy":
		tr, err = virtio.NewLegacyPCI(virtio.DeviceID(f.ID), f.LegacyPCI(), f.MSIX)
	case "mmio":
		tr, err = virtio.NewMMIO(f.MMIO(2))
	case "mmio-legacy":
		tr, err = virtio.NewMMIO(f.MMIO(1))
	default:
		t.Fatalf("no front %q", front)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// settle carries commands out until there are none, with Manual.
func (r *rig) settle() {
	for synctest.Wait(); r.fake.StepOne(); synctest.Wait() {
	}
}

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
		b[i] = byte(i*13 + i/512*7 + seed)
	}
	return b
}

func (r *rig) wantDisk(off int, want []byte) {
	r.t.Helper()
	// Under the fake's lock: the race detector does not see the order that rings give,
	// which are not in Go's memory.
	r.fake.Bus.Set(func() {
		if !bytes.Equal(r.unit.Disk[off:off+len(want)], want) {
			r.t.Errorf("disk at %d does not hold the %d bytes written", off, len(want))
		}
	})
}

// drop makes the unit drop the first n commands with that operation code.
func (r *rig) drop(op byte, n int) {
	r.fake.Bus.Set(func() {
		r.fake.Bus.Judge = func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
			if c.Op() != op || n == 0 {
				return fakescsi.Reply{}, false
			}
			n--
			return fakescsi.Reply{Drop: true}, true
		}
	})
}

func address(target, lun int) scsi.Address {
	return scsi.Address{Target: target, LUN: scsi.FlatLUN(lun)}
}

// bubble runs f where time is not real.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
