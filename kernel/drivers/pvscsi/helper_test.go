package pvscsi_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/pvscsi"
	"osv/kernel/drivers/scsi"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakepvscsi"
	"osv/kernel/ktest/fakescsi"
)

const (
	diskBytes    = 1 << 20
	timeout      = 8 * time.Second
	abortTimeout = time.Second
)

// rig is a driver on a fake adapter with a disk at 0:0.
type rig struct {
	t    testing.TB
	mem  *fakedev.Mem
	fake *fakepvscsi.Device
	unit *fakescsi.Unit
	a    *pvscsi.Adapter
	d    blk.Disk
}

type rigOpt struct {
	before func(*rig)
	regs   func(mmio.Space) mmio.Space
	cfg    pvscsi.Config
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
	if err := r.a.Close(); err != nil {
		r.t.Error(err)
	}
	r.clean()
}

func (r *rig) clean() {
	r.t.Helper()
	if n := r.mem.Live(); n != 0 {
		r.t.Errorf("%d DMA regions leaked", n)
	}
	for _, v := range r.fake.Bus.Violations() {
		r.t.Error("violation: ", v)
	}
}

func tryRig(t testing.TB, o rigOpt) (*rig, error) {
	t.Helper()
	r := &rig{t: t, mem: &fakedev.Mem{}}
	r.fake = fakepvscsi.New(r.mem)
	r.unit = r.fake.Bus.AddDisk(0, 0, diskBytes, 512)
	copy(r.unit.Disk, pattern(diskBytes, 99))
	if o.before != nil {
		o.before(r)
	}
	o.cfg.SCSI.Timeout, o.cfg.SCSI.AbortTimeout = timeout, abortTimeout
	o.cfg.SCSI.Bounces = blk.Bounces{N: 4, Size: 16 << 10}
	var regs mmio.Space = r.fake
	if o.regs != nil {
		regs = o.regs(regs)
	}
	var err error
	r.a, err = pvscsi.New(regs, r.mem, r.fake.Line, o.cfg)
	if err != nil {
		r.clean()
		return r, err
	}
	if d := r.a.Disks(); len(d) > 0 {
		r.d = d[0]
	}
	return r, nil
}

// settle carries commands out until there are none, with Manual.
func (r *rig) settle() {
	for synctest.Wait(); r.fake.Step(); synctest.Wait() {
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

// judge answers the first n commands with that operation code.
func (r *rig) judge(op byte, n int, a fakescsi.Reply) {
	r.fake.Bus.Set(func() {
		r.fake.Bus.Judge = func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
			if c.Op() != op || n == 0 {
				return fakescsi.Reply{}, false
			}
			n--
			return a, true
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
