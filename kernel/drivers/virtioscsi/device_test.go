package virtioscsi_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
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

// A disk on each transport and with each number of interrupts.
func TestDisk(t *testing.T) {
	for _, o := range []rigOpt{
		{}, {lines: 1}, {lines: 2}, {lines: 4, queues: 3}, {lines: 1, queues: 3, cfg: virtioscsi.Config{Queues: 3}},
		{front: "pci-legacy"}, {front: "pci-legacy", lines: 2}, {front: "mmio"}, {front: "mmio-legacy"},
		{cfg: virtioscsi.Config{NoEventIdx: true}}, {ring: 4},
		{features: fakedev.FeatureVersion1, ring: 8},
		{before: func(r *rig) { r.fake.Conf[20], r.fake.Conf[24] = 18, 16 }}, // sizes of sense data and CDB
		{before: func(r *rig) { r.fake.LongLen = true }},                     // as QEMU does for what it reads
		{before: func(r *rig) { r.fake.Conf[4] = 1 }},                        // seg_max
		{before: func(r *rig) { clear(r.fake.Conf[8:16]) }},                  // max_sectors and cmd_per_lun do not say
	} {
		t.Run(fmt.Sprintf("%s,lines=%d,queues=%d,ring=%d,%#x", o.front, o.lines, o.queues, o.ring, o.features), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, o)
				if r.d == nil || r.d.Size() != diskBytes || r.d.Name() != "sda" {
					t.Fatal("no disk")
				}
				data := pattern(200<<10, 3)
				if n, err := r.d.WriteAt(data, 1024); n != len(data) || err != nil {
					t.Error(n, err)
				}
				r.wantDisk(1024, data)
				got := make([]byte, len(data))
				if n, err := r.d.ReadAt(got, 1024); n != len(data) || err != nil || !bytes.Equal(got, data) {
					t.Error(n, err, "or wrong bytes")
				}
				if err := errors.Join(r.d.Flush(), r.d.WriteZeroes(0, 1<<16), r.d.Discard(1<<17, 1<<16)); err != nil {
					t.Error(err)
				}
				r.wantDisk(0, make([]byte, 1<<16))
			})
		})
	}
}

// The order of §3.1.1, as registers see it.
func TestInitOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mem := &fakedev.Mem{}
		f := fakedev.NewSCSI(mem, fakedev.SCSIAll, 1, 64)
		f.Bus.AddDisk(1, 0, 4096, 512)
		l := &fakedev.Line{}
		f.Lines = []interface{ Fire() }{l}
		tr := &fakedev.Transcript{}
		p := f.PCI()
		common := &fakedev.Transcript{Behind: p.Common, Into: tr}
		vt, err := virtio.NewPCI(8, virtio.PCIWindows{Common: common, Notify: p.Notify, NotifyMultiplier: 4, ISR: p.ISR, Device: p.Config}, false)
		if err != nil {
			t.Fatal(err)
		}
		d, err := virtioscsi.New(vt, mem, []irq.Line{l}, virtioscsi.Config{})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"W 014 00", "W 014 01", "W 014 03", "W 014 0b", // reset, ACKNOWLEDGE, DRIVER, FEATURES_OK
			"W 016 0000", "W 01c 0001", "W 016 0001", "W 01c 0001", "W 016 0002", "W 01c 0001", "W 014 0f"} // three queues, DRIVER_OK
		log := tr.String()
		for _, w := range want {
			_, after, ok := strings.Cut(log, w+"\n")
			if !ok {
				t.Fatalf("no %q in its place in\n%s", w, tr)
			}
			log = after
		}
		if f.Features() != fakedev.SCSIAll {
			t.Errorf("features %#x", f.Features())
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if !strings.HasSuffix(tr.String(), "W 014 00\nR 014 00\n") {
			t.Error("no reset in the end")
		}
		f.Close()
		if mem.Live() != 0 {
			t.Error("leak")
		}
	})
}

func TestNoAdapter(t *testing.T) {
	conf := func(off int, b ...byte) func(*rig) {
		return func(r *rig) { copy(r.fake.Conf[off:], b) }
	}
	for _, c := range []struct {
		o    rigOpt
		want string
	}{
		{rigOpt{before: func(r *rig) { r.fake.ID = 2 }}, "device is of type 2"},
		{rigOpt{before: func(r *rig) { r.fake.RefuseFeatures = true }}, "refuses features"},
		{rigOpt{before: func(r *rig) { r.fake.DropDriverOK = true }}, "was reset behind the driver's back"},
		{rigOpt{before: conf(0, 0)}, "no request queue"},
		{rigOpt{before: conf(4, 0)}, "0 segments"},
		{rigOpt{before: conf(16, 8)}, "events of 8 bytes"},
		{rigOpt{before: conf(20, 0, 9)}, "sense data of 2304 bytes"},
		{rigOpt{before: conf(24, 8)}, "CDBs of 8 bytes"},
		{rigOpt{ring: 2, features: fakedev.FeatureVersion1}, "hold no command"},
		{rigOpt{before: func(r *rig) { r.fake.Conf = r.fake.Conf[:30] }}, "lacks the field"},
		{rigOpt{lines: 2, before: func(r *rig) { r.fake.NoVectors = true }}, "vector"},
		{rigOpt{before: func(r *rig) { r.fake.Queues[0].Max = 0 }}, "queue 0"},
		{rigOpt{before: func(r *rig) { r.fake.Queues[1].Max = 0 }}, "queue 1"},
		{rigOpt{before: func(r *rig) { r.fake.Queues[2].Max = 0 }}, "queue 2"},
		{rigOpt{before: func(r *rig) { r.drop(0x12, 1); r.fake.NoTMF = true }}, "device does not answer"},
	} {
		t.Run(c.want, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				if _, err := tryRig(t, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Error(err)
				}
			})
		})
	}
}

// Responses, as the layer sees them.
func TestResponses(t *testing.T) {
	for code, want := range map[uint8]error{
		1: blk.ErrProtocol, 2: blk.ErrReset, 3: blk.ErrGone, 4: blk.ErrReset, 5: blk.ErrIO, 6: blk.ErrIO, 7: blk.ErrIO, 8: blk.ErrIO,
		9: blk.ErrIO, 12: blk.ErrGone, 77: blk.ErrIO,
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, rigOpt{})
			r.fake.Set(func() { r.fake.Response = code })
			if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, want) {
				t.Errorf("response %d: %v, want %v", code, err, want)
			}
			r.fake.Set(func() { r.fake.Response = 0 })
			if _, err := r.d.ReadAt(make([]byte, 512), 0); err != nil {
				t.Error(err)
			}
		})
	}
	for _, residual := range []uint32{100, 1 << 31} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, rigOpt{})
			r.fake.Set(func() { r.fake.Residual = residual })
			if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrProtocol) {
				t.Error(err)
			}
		})
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{})
		r.fake.Set(func() { r.fake.NoResponse = 1 })
		if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrIO) || !strings.Contains(err.Error(), "not written") {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) { // sense data arrives
		r := newRig(t, rigOpt{})
		r.fake.Bus.Set(func() {
			r.fake.Bus.Judge = func(c fakescsi.Cmd) (fakescsi.Reply, bool) { return fakescsi.Check(3, 0x1100), true }
		})
		if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrIO) || !strings.Contains(err.Error(), "ASC 11h/00h") {
			t.Error(err)
		}
	})
}

// Commands that the unit does not answer.
func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(*fakedev.SCSI)
		tmfs   []byte
		dead   bool
	}{
		{"abort", func(*fakedev.SCSI) {}, []byte{0}, false},
		{"rejected", func(f *fakedev.SCSI) { f.RejectTMF = true }, []byte{0, 5}, true},
		{"does nothing", func(f *fakedev.SCSI) { f.DeafTMF = true }, []byte{0, 5}, true},
		{"not answered", func(f *fakedev.SCSI) { f.NoTMF = true }, []byte{0}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{lines: 2})
				r.fake.Set(func() { c.before(r.fake) })
				r.drop(0x28, 1)
				if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrTimeout) {
					t.Error(err)
				}
				r.fake.Set(func() {
					if !bytes.Equal(r.fake.TMFs, c.tmfs) {
						t.Errorf("task management %d, want %d", r.fake.TMFs, c.tmfs)
					}
				})
				if _, err := r.d.ReadAt(make([]byte, 512), 0); (err != nil) != c.dead {
					t.Error(err)
				}
			})
		})
	}
	bubble(t, func(t *testing.T) { // a lost interrupt
		r := newRig(t, rigOpt{lines: 2})
		r.fake.Set(func() { r.fake.NoInterrupt = true })
		go func() {
			time.Sleep(time.Second)
			r.fake.Set(func() { r.fake.Queues[2].Flush() }) // seen by nobody: the vector is not fired
		}()
		done := make(chan error)
		go func() { _, err := r.d.ReadAt(make([]byte, 512), 0); done <- err }()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) { // a unit reset ends all; those not late are sent again
		r := newRig(t, rigOpt{lines: 2})
		r.drop(0x2a, 2)
		errs := make(chan error, 2)
		for i := range 2 {
			go func() {
				time.Sleep(time.Duration(i) * timeout * 3 / 4)
				_, err := r.d.WriteAt(pattern(512, i), int64(i)*512)
				errs <- err
			}()
		}
		time.Sleep(timeout * 3 / 4)
		time.Sleep(time.Second)
		if err := r.dev.ResetUnit(address(0, 0)); err != nil {
			t.Error(err)
		}
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Error(err)
		}
		r.wantDisk(512, pattern(512, 1))
	})
	bubble(t, func(t *testing.T) { // commands that wait for room are not late: each has its time
		r := newRig(t, rigOpt{ring: 4, features: fakedev.FeatureVersion1})
		r.fake.Set(func() { r.fake.Manual = true })
		m := r.region(4096)
		defer r.mem.Free(m)
		done := make(chan error, 8)
		for i := range 8 {
			r.d.Submit(&blk.Request{Op: blk.OpRead, Sector: uint64(i), Mem: []dma.Region{m.Slice(0, 512)}, Done: func(q *blk.Request) { done <- q.Err }})
		}
		for range 20 {
			time.Sleep(timeout)
		}
		for range 8 {
			if err := <-done; !errors.Is(err, blk.ErrTimeout) {
				t.Error(err)
			}
		}
	})
}

func TestEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 2})
		lun := func(target, n byte) [8]byte { return [8]byte{1, target, 0x40, n} }
		for i := range 20 { // more than there are buffers
			synctest.Wait()
			if !r.fake.Event(uint32(i%5), lun(5, 1), uint32(i)) {
				t.Fatalf("no buffer for event %d", i)
			}
		}
		r.fake.Bus.Set(func() { r.unit.Disk = append(r.unit.Disk, make([]byte, 4096)...) })
		synctest.Wait()
		r.fake.Event(3|1<<31, lun(0, 0), 0x092a)
		synctest.Wait()
		if r.d.Size() != diskBytes+4096 {
			t.Error(r.d.Size())
		}
		if err := r.d.Err(); err != nil {
			t.Error(err)
		}
		r.fake.Event(1, lun(0, 0), 2)
		synctest.Wait()
		if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrGone) {
			t.Error(err)
		}
	})
}

// A device that is in trouble by its own account, or lies in its rings.
func TestDeviceStops(t *testing.T) {
	for name, spoil := range map[string]func(*rig){
		"needs reset":  func(r *rig) { r.fake.NeedsReset() },
		"forgot":       func(r *rig) { r.fake.ForgetDriver() },
		"line closed":  func(r *rig) { r.fake.Lines[1].(*fakedev.Line).Close() },
		"bad id":       func(r *rig) { r.fake.Set(func() { r.fake.Queues[2].PushRaw(9999, 0); r.fake.Queues[2].Flush() }) },
		"bad event":    func(r *rig) { r.fake.Set(func() { r.fake.Queues[1].PushRaw(9999, 0); r.fake.Queues[1].Flush() }) },
		"bad control":  func(r *rig) { r.fake.Set(func() { r.fake.Queues[0].PushRaw(9999, 0); r.fake.Queues[0].Flush() }) },
		"too much":     func(r *rig) { r.fake.Set(func() { r.fake.LongLen = true }); r.dev.ResetUnit(address(0, 0)) },
		"reset sticks": func(r *rig) { r.fake.ResetReads = 3; r.fake.NeedsReset() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{lines: 2})
				r.fake.Set(func() { r.fake.Manual = true })
				m := r.region(512)
				defer r.mem.Free(m)
				done := make(chan error, 1)
				r.d.Submit(&blk.Request{Op: blk.OpRead, Mem: []dma.Region{m}, Done: func(q *blk.Request) { done <- q.Err }})
				synctest.Wait()
				spoil(r)
				if err := <-done; err == nil {
					t.Error("no error")
				}
				if r.d.Err() == nil || r.dev.Abort(&scsi.Command{}) != nil || r.dev.ResetUnit(address(0, 0)) == nil {
					t.Error("the device goes on")
				}
				if _, err := r.d.ReadAt(make([]byte, 512), 0); err == nil {
					t.Error("no error")
				}
			})
		})
	}
	bubble(t, func(t *testing.T) { // its memory is lost
		r, err := tryRig(t, rigOpt{})
		if err != nil {
			t.Fatal(err)
		}
		r.fake.Set(func() { r.fake.ResetReads = -1 })
		if err := r.dev.Close(); !errors.Is(err, virtio.ErrStuck) {
			t.Error(err)
		}
		if r.mem.Live() == 0 {
			t.Error("memory was freed that is the device's")
		}
		if err := r.dev.Close(); err != nil {
			t.Error(err)
		}
		r.fake.Close()
	})
}

func TestCloseEndsRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 3, queues: 2})
		r.fake.Set(func() { r.fake.Manual = true })
		m := r.region(512)
		done := make(chan error, 50)
		for i := range 50 {
			r.d.Submit(&blk.Request{Op: blk.OpRead, Sector: uint64(i), Mem: []dma.Region{m}, Done: func(q *blk.Request) { done <- q.Err }})
		}
		if err := r.dev.Close(); err != nil {
			t.Error(err)
		}
		for range 50 {
			if err := <-done; !errors.Is(err, virtio.ErrClosed) {
				t.Error(err)
			}
		}
		r.mem.Free(m)
	})
}
