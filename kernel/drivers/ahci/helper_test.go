package ahci_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/ahci"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakeahci"
	"osv/kernel/ktest/fakedev"
)

const diskBytes = 2 << 20

// rig is a driver on a fake HBA.
type rig struct {
	t    testing.TB
	mem  *fakedev.Mem
	fake *fakeahci.HBA
	c    *ahci.Controller
	d    blk.Disk // at port 0
}

type rigOpt struct {
	shift  int // 0: 9
	before func(*fakeahci.HBA)
	cfg    ahci.Config
}

const timeout = 4 * time.Second

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
	r.fake = fakeahci.New(r.mem, diskBytes, o.shift)
	copy(r.fake.Ports[0].Disk, pattern(diskBytes, 99))
	if o.before != nil {
		o.before(r.fake)
	}
	if o.cfg.Timeout == 0 {
		o.cfg.Timeout, o.cfg.ReadyTimeout = timeout, time.Second
	}
	var err error
	r.c, err = ahci.New(r.fake, r.mem, r.fake.Line, o.cfg)
	if err != nil {
		return r, err
	}
	if d := r.c.Disks(); len(d) > 0 {
		r.d = d[0]
	}
	return r, nil
}

// settle lets the HBA work, and all goroutines settle, until there is nothing to
// do.
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
		if !bytes.Equal(r.fake.Ports[0].Disk[off:off+len(want)], want) {
			r.t.Errorf("disk at %d does not hold the %d bytes written", off, len(want))
		}
	})
}

func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
