package nvme_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/nvme"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakenvme"
)

const diskBytes = 2 << 20

// rig is a driver on a fake controller.
type rig struct {
	t    testing.TB
	mem  *fakedev.Mem
	fake *fakenvme.Device
	c    *nvme.Controller
	d    blk.Disk // namespace 1
}

type rigOpt struct {
	lines  int // 0: one
	shift  int // 0: 9
	before func(*fakenvme.Device)
	cfg    nvme.Config
}

const (
	timeout      = 4 * time.Second
	adminTimeout = time.Second
)

// newRig is only for a synctest bubble, since goroutines wait for interrupts.
func newRig(t testing.TB, o rigOpt) *rig {
	t.Helper()
	r, err := tryRig(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.c.Close(); err != nil {
			t.Error(err)
		}
		r.wantClean()
	})
	return r
}

func (r *rig) wantClean() {
	r.t.Helper()
	if n := r.mem.Live(); n != 0 {
		r.t.Errorf("%d DMA regions leaked", n)
	}
	for _, v := range r.fake.Violations() {
		r.t.Error("violation: ", v)
	}
}

func tryRig(t testing.TB, o rigOpt) (*rig, error) {
	t.Helper()
	if o.shift == 0 {
		o.shift = 9
	}
	r := &rig{t: t, mem: &fakedev.Mem{}}
	r.fake = fakenvme.New(r.mem, max(o.lines, 1), diskBytes, o.shift)
	copy(r.fake.Spaces[1].Disk, pattern(diskBytes, 99))
	if o.before != nil {
		o.before(r.fake)
	}
	var lines []irq.Line
	for _, l := range r.fake.Lines {
		lines = append(lines, l)
	}
	if o.cfg.Timeout == 0 {
		o.cfg.Timeout, o.cfg.AdminTimeout = timeout, adminTimeout
	}
	var err error
	r.c, err = nvme.New(r.fake, r.mem, lines, o.cfg)
	if err != nil {
		return r, err
	}
	if d := r.c.Disks(); len(d) > 0 {
		r.d = d[0]
	}
	return r, nil
}

// settle lets the controller work, and all goroutines settle, until there is
// nothing to do.
func (r *rig) settle() {
	for synctest.Wait(); r.fake.Step(); synctest.Wait() {
	}
}

func (r *rig) region(n, align int) dma.Region {
	r.t.Helper()
	m, err := r.mem.Alloc(n, align)
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
	r.fake.Set(func() {
		if !bytes.Equal(r.fake.Spaces[1].Disk[off:off+len(want)], want) {
			r.t.Errorf("disk at %d does not hold the %d bytes written", off, len(want))
		}
	})
}

// bubble runs f where time is not real.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
