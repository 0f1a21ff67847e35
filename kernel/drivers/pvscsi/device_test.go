package pvscsi_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/pvscsi"
	"osv/kernel/drivers/scsi"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakescsi"
)

func TestDisk(t *testing.T) {
	for name, o := range map[string]rigOpt{
		"plain":          {},
		"small":          {before: func(r *rig) { r.fake.Small = true }, cfg: pvscsi.Config{Depth: 2, MaxSegs: 1}},
		"large":          {before: func(r *rig) { r.fake.Exact = true }, cfg: pvscsi.Config{Depth: 1024, MaxSegs: 128}},
		"lost interrupt": {before: func(r *rig) { r.fake.Line.Fire() }},
	} {
		t.Run(name, func(t *testing.T) {
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
				if rw, _ := r.fake.Kicks(); rw == 0 {
					t.Error("reads and writes do not use their kick")
				}
				if err := errors.Join(r.d.Flush(), r.d.WriteZeroes(0, 1<<16), r.d.Discard(1<<17, 1<<16)); err != nil {
					t.Error(err)
				}
				r.wantDisk(0, make([]byte, 1<<16))
			})
		})
	}
}

// The registers in their order: reset, rings, message ring, configuration page,
// then interrupts, and a reset in the end.
func TestInitOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tr := &fakedev.Transcript{}
		r := newRig(t, rigOpt{regs: func(s mmio.Space) mmio.Space { tr.Behind = s; return tr }})
		var got []string
		words := 0
		for _, l := range strings.Split(tr.String(), "\n") {
			if strings.HasPrefix(l, "W 004") {
				words++
				continue
			}
			if words > 0 {
				got = append(got, fmt.Sprintf("%d words", words))
			}
			words = 0
			got = append(got, l)
		}
		log := strings.Join(got, "\n")
		want := strings.Join([]string{"R 100c 00000000", "W 000 00000001", "W 000 00000003", "132 words", "W 000 00000008", "R 008 fffffffe",
			"W 000 00000008", "34 words", "R 008 00000022", "W 000 00000007", "6 words", "W 100c 0000000f", "W 2010 0000000f", "W 3014 00000000", ""}, "\n")
		if !strings.HasPrefix(log, want) {
			t.Errorf("registers\n%s\nwant\n%s", log[:min(len(log), len(want)+40)], want)
		}
		tr.Reset()
		if err := r.a.Close(); err != nil {
			t.Error(err)
		}
		if log := tr.String(); log != "W 2010 00000000\nW 000 00000001\n" {
			t.Errorf("at the end\n%s", log)
		}
	})
}

func TestTargets(t *testing.T) {
	for phys, want := range map[uint32]int{0: 1, 65: 2, 1 << 20: 2} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, rigOpt{before: func(r *rig) { r.fake.Phys = phys; r.fake.Bus.AddDisk(64, 0, 4096, 512) }})
			if n := len(r.a.Disks()); n != want {
				t.Errorf("%d targets: %d disks, want %d", phys, n, want)
			}
		})
	}
}

func TestNoAdapter(t *testing.T) {
	for _, c := range []struct {
		o    rigOpt
		want string
	}{
		{rigOpt{before: func(r *rig) { r.fake.Gone = true }}, "device is gone"},
		{rigOpt{before: func(r *rig) { r.fake.NoRings = true }}, "did not take rings"},
		{rigOpt{cfg: pvscsi.Config{Depth: 2000}}, "at most 1024"},
		{rigOpt{cfg: pvscsi.Config{MaxSegs: 129}}, "at most 128"},
		{rigOpt{regs: func(mmio.Space) mmio.Space { return &fakedev.Transcript{} }}, "window of 0x1000"},
		{rigOpt{cfg: pvscsi.Config{SCSI: scsi.Config{Depth: 1, Name: func(int) string { return "" }}}, before: func(r *rig) {
			r.fake.Set(func() { r.fake.DataLen = 0; r.fake.Line.Close() })
		}}, "line was closed"},
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

// Host statuses, as the layer sees them.
func TestHostStatuses(t *testing.T) {
	for code, want := range map[uint16]error{
		0x0a: nil, 0x0b: nil, 0x0c: blk.ErrProtocol, 0x11: blk.ErrGone, 0x12: blk.ErrProtocol, 0x13: blk.ErrIO, 0x14: blk.ErrIO,
		0x17: blk.ErrGone, 0x1a: blk.ErrIO, 0x1d: blk.ErrIO, 0x20: blk.ErrIO, 0x21: blk.ErrIO, 0x22: blk.ErrReset, 0x23: blk.ErrReset,
		0x25: blk.ErrReset, 0x26: blk.ErrReset, 0x27: blk.ErrIO, 0x30: blk.ErrIO, 0x34: blk.ErrIO, 0x99: blk.ErrIO,
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, rigOpt{})
			r.fake.Set(func() { r.fake.HostStatus = code })
			if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, want) {
				t.Errorf("host status %02xh: %v, want %v", code, err, want)
			}
			r.fake.Set(func() { r.fake.HostStatus = 0 })
			if _, err := r.d.ReadAt(make([]byte, 512), 0); err != nil {
				t.Error(err)
			}
		})
	}
	for _, c := range []struct {
		host uint16
		n    uint64
		want error
	}{
		{0, 512, nil}, {0, 100, blk.ErrProtocol}, {0x12, 100, blk.ErrProtocol}, {0x12, 512, blk.ErrProtocol}, {0x0c, 1 << 40, blk.ErrProtocol},
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, rigOpt{})
			r.fake.Set(func() { r.fake.HostStatus, r.fake.DataLen = c.host, c.n })
			if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, c.want) {
				t.Errorf("host status %02xh and %d bytes: %v", c.host, c.n, err)
			}
		})
	}
	bubble(t, func(t *testing.T) { // sense data arrives, though the data was cut
		r := newRig(t, rigOpt{})
		r.judge(0x28, 1, fakescsi.Check(3, 0x1100))
		if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrIO) || !strings.Contains(err.Error(), "ASC 11h/00h") {
			t.Error(err)
		}
		r.fake.Set(func() { r.fake.HostStatus = 0x1b })
		r.judge(0x28, 1, fakescsi.Reply{Status: 2})
		if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrIO) || !strings.Contains(err.Error(), "without sense data") {
			t.Error(err)
		}
	})
}

// Commands that the unit does not answer: abort, unit reset, adapter reset; the one
// fails, the others are sent again.
func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(*rig)
		want   []uint32
	}{
		{"abort", func(*rig) {}, []uint32{6}},
		{"unit reset", func(r *rig) { r.fake.DeafAbort = true }, []uint32{6, 5}},
		{"adapter reset", func(r *rig) { r.fake.DeafAbort, r.fake.DeafReset = true, true }, []uint32{6, 5, 1, 3, 8}},
		{"reset refused", func(r *rig) { r.fake.DeafAbort, r.fake.RefuseReset = true, true }, []uint32{6, 5, 1, 3, 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{before: c.before})
				n := len(r.fake.Commands())
				r.judge(0x28, 1, fakescsi.Reply{Drop: true})
				if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrTimeout) {
					t.Error(err)
				}
				if got := r.fake.Commands()[n:]; fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("commands %d, want %d", got, c.want)
				}
				data := pattern(64<<10, 4)
				if _, err := r.d.WriteAt(data, 0); err != nil {
					t.Error(err)
				}
				r.wantDisk(0, data)
			})
		})
	}
	bubble(t, func(t *testing.T) { // a lost interrupt
		r := newRig(t, rigOpt{})
		r.fake.Set(func() { r.fake.NoInterrupts = true })
		if _, err := r.d.WriteAt(make([]byte, 512), 0); err != nil {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) { // an adapter reset takes others along, and those that wait come after it
		r := newRig(t, rigOpt{cfg: pvscsi.Config{Depth: 4}})
		r.fake.Set(func() { r.fake.DeafAbort, r.fake.DeafReset = true, true })
		r.judge(0x2a, 1, fakescsi.Reply{Drop: true})
		m := r.region(512)
		defer r.mem.Free(m)
		done := make(chan error, 1)
		r.d.Submit(&blk.Request{Op: blk.OpWrite, Mem: []dma.Region{m}, Done: func(q *blk.Request) { done <- q.Err }})
		time.Sleep(timeout * 3 / 4)
		r.fake.Set(func() { r.fake.Manual = true })
		others := make(chan error, 10)
		for i := range 10 {
			r.d.Submit(&blk.Request{Op: blk.OpRead, Sector: uint64(i), Mem: []dma.Region{m}, Done: func(q *blk.Request) { others <- q.Err }})
		}
		if err := <-done; !errors.Is(err, blk.ErrTimeout) {
			t.Error(err)
		}
		r.settle()
		for range 10 {
			if err := <-others; err != nil {
				t.Error(err)
			}
		}
	})
	bubble(t, func(t *testing.T) { // one that never does anything is given up
		r := newRig(t, rigOpt{})
		r.fake.Set(func() { r.fake.DeafAbort, r.fake.DeafReset = true, true })
		r.judge(0x28, 1<<30, fakescsi.Reply{Drop: true})
		for i := 0; r.a.Err() == nil; i++ {
			r.d.ReadAt(make([]byte, 512), 0)
			if i > 6 {
				t.Fatal("never given up")
			}
		}
		if err := r.a.Err(); !errors.Is(err, blk.ErrTimeout) {
			t.Error(err)
		}
		r.a.Reset("again")
		if r.a.ResetUnit(address(0, 0)) == nil || r.a.Abort(&scsi.Command{}) != nil {
			t.Error("the adapter goes on")
		}
	})
	bubble(t, func(t *testing.T) { // the rings do not come back
		r := newRig(t, rigOpt{})
		r.fake.Set(func() { r.fake.DeafAbort, r.fake.DeafReset, r.fake.NoRings = true, true, true })
		r.judge(0x28, 1, fakescsi.Reply{Drop: true})
		if _, err := r.d.ReadAt(make([]byte, 512), 0); err == nil || r.a.Err() == nil {
			t.Error(err)
		}
	})
}

func TestMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{})
		for i := range 70 {
			r.fake.Message(uint32(i%3*2), i%8, 1)
			if i%20 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if r.d.Err() != nil {
			t.Error(r.d.Err())
		}
		r.fake.Message(1, 0, 0)
		synctest.Wait()
		if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrGone) {
			t.Error(err)
		}
	})
}

// An adapter that lies in its rings, or goes away.
func TestDeviceStops(t *testing.T) {
	for name, spoil := range map[string]func(*rig){
		"no such context":  func(r *rig) { r.fake.Post(77, 0, 0, 0, 0) },
		"context 0":        func(r *rig) { r.fake.Post(0, 0, 0, 0, 0) },
		"huge context":     func(r *rig) { r.fake.Post(1<<63|0xffff, 0, 0, 0, 0) },
		"completion index": func(r *rig) { r.fake.Skip(false, 3) },
		"index backwards":  func(r *rig) { r.fake.Skip(false, 1<<32-1) },
		"message index":    func(r *rig) { r.fake.Skip(true, 33) },
		"gone":             func(r *rig) { r.fake.Set(func() { r.fake.Gone = true }); r.fake.Line.Fire() },
		"line closed":      func(r *rig) { r.fake.Line.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{})
				r.fake.Set(func() { r.fake.Manual = true })
				m := r.region(512)
				defer r.mem.Free(m)
				done := make(chan error, 1)
				r.d.Submit(&blk.Request{Op: blk.OpRead, Mem: []dma.Region{m}, Done: func(q *blk.Request) { done <- q.Err }})
				synctest.Wait()
				spoil(r)
				if err := <-done; err == nil || r.d.Err() == nil {
					t.Error(err, r.d.Err())
				}
			})
		})
	}
}

func TestCloseEndsRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{cfg: pvscsi.Config{Depth: 8}})
		r.fake.Set(func() { r.fake.Manual = true })
		m := r.region(512)
		done := make(chan error, 50)
		for i := range 50 {
			r.d.Submit(&blk.Request{Op: blk.OpRead, Sector: uint64(i), Mem: []dma.Region{m}, Done: func(q *blk.Request) { done <- q.Err }})
		}
		if err := r.a.Close(); err != nil {
			t.Error(err)
		}
		for range 50 {
			if err := <-done; !errors.Is(err, blk.ErrClosed) {
				t.Error(err)
			}
		}
		r.mem.Free(m)
		if err := r.a.Close(); err != nil {
			t.Error(err)
		}
	})
}
