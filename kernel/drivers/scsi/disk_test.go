package scsi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakescsi"
)

const (
	opTUR, opInq, opMode, opStart, opCap10, opRead, opWrite, opSync = 0x00, 0x12, 0x1a, 0x1b, 0x25, 0x28, 0x2a, 0x35
	opUnmap, opRead16, opSame, opCap16, opLUNs                      = 0x42, 0x88, 0x93, 0x9e, 0xa0
)

// All of a disk, and the commands in their order.
func TestDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{})
		want := []string{"120000002400", "a00000000000000002000000", "120000002400", "000000000000", "25000000000000000000",
			"9e100000000000000000000000200000", "1a080800fc00", "12010000fc00", "12018000fc00", "12018300fc00", "1201b000fc00", "1201b100fc00", "1201b200fc00"}
		var got []string
		for _, c := range r.a.bus.Log() {
			if c.Target == 0 {
				got = append(got, fmt.Sprintf("%x", c.CDB))
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("commands\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		d := r.d.(*scsi.Disk)
		id, err := d.ID()
		if d.Name() != "sda" || d.Size() != diskBytes || d.BlockSize() != 512 || d.ReadOnly() || id != "fake-serial" || err != nil ||
			d.Model() != "FAKE fake disk 1.0" || d.Queues() != 1 || d.Address().String() != "0:0" {
			t.Errorf("%s %d %d %v %q %v %q", d.Name(), d.Size(), d.BlockSize(), d.ReadOnly(), id, err, d.Model())
		}
		if p, rot := d.Geometry(); p != 4096 || rot != 1 {
			t.Errorf("physical blocks of %d, %d rotations", p, rot)
		}
		data := pattern(200<<10, 1)
		if n, err := d.WriteAt(data, 4096); n != len(data) || err != nil {
			t.Error(n, err)
		}
		r.wantDisk(4096, data)
		buf := make([]byte, 1000)
		if n, err := d.ReadAt(buf, 4096+77); n != len(buf) || err != nil || !bytes.Equal(buf, data[77:1077]) {
			t.Error(n, err, "or wrong bytes")
		}
		if n, err := d.ReadAt(buf, diskBytes-10); n != 10 || err != io.EOF {
			t.Error(n, err)
		}
		r.a.bus.Log()
		if err := d.Flush(); err != nil {
			t.Error(err)
		}
		if err := d.WriteZeroes(0, 200*512); err != nil {
			t.Error(err)
		}
		if err := d.Discard(300*512, 100*512); err != nil {
			t.Error(err)
		}
		r.wantDisk(0, make([]byte, 200*512))
		r.wantDisk(300*512, bytes.Repeat([]byte{0xdd}, 100*512))
		got = nil
		for _, c := range r.a.bus.Log() {
			got = append(got, fmt.Sprintf("%x", c.CDB))
		}
		// WRITE SAME of 128 and 72 blocks with UNMAP, UNMAP of 64 and 36.
		want = []string{"35000000000000000000", "93080000000000000000000000800000", "93080000000000000080000000480000", "42000000000000001800", "42000000000000001800"}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("commands\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// What units and adapters say changes what is sent.
func TestShapes(t *testing.T) {
	for _, c := range []struct {
		name   string
		block  int
		before func(*rig)
		check  func(*testing.T, *rig)
	}{
		{"blocks of 4096", 4096, nil, func(t *testing.T, r *rig) {
			if r.d.BlockSize() != 4096 || r.d.WriteZeroes(4096, 8192) != nil || r.d.Discard(8192, 4096) != nil {
				t.Error("blocks of 4096")
			}
			r.wantDisk(4096, make([]byte, 4096))
		}},
		{"write protected", 0, func(r *rig) { r.unit.Mode[2] = 0x90; r.unit.ReadOnly = true }, func(t *testing.T, r *rig) {
			_, err := r.d.WriteAt(make([]byte, 512), 0)
			if !r.d.ReadOnly() || !errors.Is(err, blk.ErrReadOnly) || !errors.Is(r.d.Discard(0, 512), blk.ErrReadOnly) {
				t.Error(err)
			}
		}},
		{"no cache", 0, func(r *rig) { r.unit.Mode[6] = 0 }, func(t *testing.T, r *rig) {
			r.a.bus.Log()
			if err := r.d.Flush(); err != nil || len(r.a.bus.Log()) != 0 {
				t.Error(err)
			}
		}},
		{"no mode pages and no flush", 0, func(r *rig) { r.unit.Mode = nil }, func(t *testing.T, r *rig) {
			r.judge(times(1, fakescsi.Check(5, 0x2000)), opSync)
			if err := r.d.Flush(); err != nil {
				t.Error(err)
			}
		}},
		{"thin by WRITE SAME", 0, func(r *rig) { r.unit.Page(0xb2, []byte{0, 0x40, 0, 0}) }, func(t *testing.T, r *rig) {
			r.a.bus.Log()
			if err := r.d.Discard(0, 200*512); err != nil {
				t.Error(err)
			}
			l := r.a.bus.Log()
			if len(l) != 2 || l[0].CDB[0] != opSame || l[0].CDB[1] != 8 {
				t.Errorf("%v", l)
			}
		}},
		{"thick", 0, func(r *rig) { delete(r.unit.VPD, 0xb2); delete(r.unit.VPD, 0xb0) }, func(t *testing.T, r *rig) {
			if !errors.Is(r.d.Discard(0, 512), blk.ErrUnsupported) || !errors.Is(r.d.WriteZeroes(0, 512), blk.ErrUnsupported) {
				t.Error("discard or write-zeroes of a unit that has neither")
			}
		}},
		{"SCSI-2", 0, func(r *rig) { r.unit.Inquiry[2] = 2; r.unit.Inquiry[7] = 0; r.unit.Short = true }, func(t *testing.T, r *rig) {
			id, err := r.d.ID()
			if n, err2 := r.d.ReadAt(make([]byte, 100<<10), 0); n != 100<<10 || err2 != nil || id != "" || err != nil {
				t.Error(n, err2, id, err)
			}
		}},
		{"no READ CAPACITY (16)", 0, func(r *rig) { r.unit.Short = true }, func(t *testing.T, r *rig) {
			if r.d.Size() != diskBytes {
				t.Error(r.d.Size())
			}
		}},
		{"no serial", 0, func(r *rig) { delete(r.unit.VPD, 0x80) }, func(t *testing.T, r *rig) {
			if id, _ := r.d.ID(); id != "naa.5001020304050607" {
				t.Error(id)
			}
		}},
		{"adapter of 8 KiB", 0, func(r *rig) { r.a.limits.MaxBytes, r.a.limits.PerUnit = 8192, 2 }, func(t *testing.T, r *rig) {
			r.a.bus.Log()
			if n, err := r.d.ReadAt(make([]byte, 64<<10), 0); n != 64<<10 || err != nil {
				t.Error(n, err)
			}
			for _, c := range r.a.bus.Log() {
				if c.Room > 8192 {
					t.Errorf("%v: %d bytes", c, c.Room)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c.check(t, newRig(t, rigOpt{block: c.block, before: func(r *rig) {
					if c.before != nil {
						c.before(r)
					}
				}}))
			})
		})
	}
}

// Beyond 2 TiB, and beyond 2^32 blocks of a command's end, the long commands.
func TestLongCommands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{before: func(r *rig) {
			r.judge(func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
				if c.Op() == opCap10 {
					return fakescsi.Reply{In: []byte{255, 255, 255, 255, 0, 0, 2, 0}}, true
				}
				in := make([]byte, 32)
				in[3], in[10] = 1, 2 // 2^32 + 1 blocks
				return fakescsi.Reply{In: in}, true
			}, opCap10, opCap16)
		}})
		if r.d.Size() != (1<<32+1)*512 {
			t.Fatal(r.d.Size())
		}
		r.judge(func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
			return fakescsi.Reply{In: make([]byte, c.Room)}, true
		}, opRead, opRead16)
		r.a.bus.Log()
		for _, at := range []int64{1<<32 - 2, 1<<32 - 1} {
			if _, err := r.d.ReadAt(make([]byte, 1024), at*512); err != nil {
				t.Error(err)
			}
		}
		l := r.a.bus.Log()
		if len(l) != 2 || fmt.Sprintf("%x %x", l[0].CDB, l[1].CDB) != "2800fffffffe00000200 880000000000ffffffff000000020000" {
			t.Errorf("%v", l)
		}
	})
}

// Which units become disks.
func TestScan(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{before: func(r *rig) {
			bus := r.a.bus
			bus.AddDisk(0, 5, 4096, 512)
			bus.AddDisk(0, 300, 8192, 512)
			bus.AddDisk(2, 1, 16384, 512) // no unit 0
			bus.AddDisk(3, 0, 4096, 512).Inquiry[0] = 5
			bus.AddDisk(3, 1, 4096, 512).Inquiry[0] = 0x1d
			bus.AddDisk(4, 0, 4096, 520)
			bus.AddDisk(7, 0, 4096, 512) // the adapter itself
		}, cfg: scsi.Config{Name: func(i int) string { return fmt.Sprintf("blk%d", i+3) }}})
		var got []string
		for _, d := range r.h.Disks() {
			got = append(got, fmt.Sprintf("%s %v %d", d.Name(), d.(*scsi.Disk).Address(), d.Size()))
		}
		if want := "blk3 0:0 1048576, blk4 0:5 4096, blk5 0:300 8192, blk6 2:1 16384"; strings.Join(got, ", ") != want {
			t.Errorf("%s, want %s", strings.Join(got, ", "), want)
		}
		for _, c := range r.a.bus.Log() {
			if c.Target == 7 {
				t.Error("the adapter's own number was looked at")
			}
		}
	})
	bubble(t, func(t *testing.T) { // a target that does not know REPORT LUNS
		r := newRig(t, rigOpt{before: func(r *rig) {
			r.judge(times(100, fakescsi.Check(5, 0x2000)), opLUNs)
		}})
		if len(r.h.Disks()) != 1 {
			t.Error(r.h.Disks())
		}
	})
	for name, before := range map[string]func(*rig){
		"not ready for good": func(r *rig) { r.judge(times(1<<30, fakescsi.Check(2, 0x3a00)), opTUR) },
		"ready never":        func(r *rig) { r.judge(times(1<<30, fakescsi.Check(2, 0x0401)), opTUR) },
		"busy for good":      func(r *rig) { r.judge(times(1<<30, fakescsi.Reply{Status: 8}), opCap10) },
		"short capacity":     func(r *rig) { r.judge(times(1<<30, fakescsi.Reply{In: make([]byte, 7)}), opCap10) },
		"reserved":           func(r *rig) { r.judge(times(1<<30, fakescsi.Reply{Status: 0x18}), opCap10) },
		"inquiry fails":      func(r *rig) { r.judge(times(1<<30, fakescsi.Check(4, 0x4400)), opInq) },
		"no such unit":       func(r *rig) { r.judge(times(1<<30, fakescsi.Reply{NoUnit: true}), opInq, opLUNs) },
		"PI":                 func(r *rig) { r.judge(times(1<<30, fakescsi.Reply{In: []byte{10: 2, 12: 1, 31: 0}}), opCap16) },
		"far too large":      func(r *rig) { r.judge(times(1<<30, fakescsi.Reply{In: []byte{0: 0x7f, 10: 2, 31: 0}}), opCap16) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{before: before})
				if n := len(r.h.Disks()); n != 0 {
					t.Errorf("%d disks", n)
				}
			})
		})
	}
}

// A unit with attentions to give, slow to start, and busy becomes a disk.
func TestSlowUnit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{before: func(r *rig) {
			r.unit.Pending = [][]byte{fakescsi.Sense(6, 0x2900), fakescsi.Sense(6, 0x2901), fakescsi.Sense(6, 0x3f03)}
			n := 0
			r.judge(func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
				n++
				switch {
				case c.Op() == opStart:
					return fakescsi.Reply{}, false
				case n <= 3:
					return fakescsi.Check(2, 0x0402), n != 2
				case n <= 8:
					return fakescsi.Check(2, 0x0401), true
				case n == 9:
					return fakescsi.Reply{Status: 0x28}, true
				}
				return fakescsi.Reply{}, false
			}, opTUR, opStart)
		}})
		if len(r.h.Disks()) != 1 {
			t.Error("no disk")
		}
	})
}

// What status and sense say becomes an error, or is tried again.
func TestOutcomes(t *testing.T) {
	desc := func(key byte, code uint16) fakescsi.Reply {
		return fakescsi.Reply{Status: 2, Sense: []byte{0x72, key, byte(code >> 8), byte(code), 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 7}}
	}
	for _, c := range []struct {
		name  string
		n     int // how often
		a     fakescsi.Reply
		want  error
		says  string
		tries int
	}{
		{"good", 0, fakescsi.Reply{}, nil, "", 1},
		{"recovered", 1, fakescsi.Reply{Status: 2, Sense: fakescsi.Sense(1, 0x1700), In: make([]byte, 512)}, nil, "", 1},
		{"condition met", 1, fakescsi.Reply{Status: 4}, nil, "", 1},
		{"medium error", 1, fakescsi.Check(3, 0x1100), blk.ErrIO, "medium error, ASC 11h/00h", 1},
		{"medium error, descriptors", 1, desc(3, 0x1104), blk.ErrIO, "medium error, ASC 11h/04h, information 7", 1},
		{"hardware error", 1, fakescsi.Check(4, 0x4400), blk.ErrIO, "hardware error", 1},
		{"range", 1, fakescsi.Check(5, 0x2100), blk.ErrRange, "", 1},
		{"unsupported", 1, fakescsi.Check(5, 0x2000), blk.ErrUnsupported, "", 1},
		{"no unit", 1, fakescsi.Check(5, 0x2500), blk.ErrGone, "", 1},
		{"protected", 1, fakescsi.Check(7, 0x2700), blk.ErrReadOnly, "", 1},
		{"full", 1, fakescsi.Check(7, 0x2707), blk.ErrIO, "data protect, ASC 27h/07h", 1},
		{"no medium", 1, fakescsi.Check(2, 0x3a00), blk.ErrIO, "not ready", 1},
		{"becoming ready", 3, fakescsi.Check(2, 0x0401), nil, "", 4},
		{"attentions", 3, fakescsi.Check(6, 0x2900), nil, "", 4},
		{"attentions for good", 99, fakescsi.Check(6, 0x2a01), blk.ErrIO, "unit attention", 10},
		{"aborted", 2, fakescsi.Check(0xb, 0x4700), nil, "", 3},
		{"task aborted", 2, fakescsi.Reply{Status: 0x40}, nil, "", 3},
		{"deferred", 1, fakescsi.Reply{Status: 2, Sense: []byte{0x71, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0}}, nil, "", 2},
		{"busy", 3, fakescsi.Reply{Status: 8}, nil, "", 4},
		{"task set full", 5, fakescsi.Reply{Status: 0x28}, nil, "", 6},
		{"busy for good", 1000, fakescsi.Reply{Status: 8}, blk.ErrIO, "unit is busy", 41},
		{"reservation conflict", 1, fakescsi.Reply{Status: 0x18}, blk.ErrIO, "reservation conflict", 1},
		{"ACA", 1, fakescsi.Reply{Status: 0x30}, blk.ErrIO, "status 30h", 1},
		{"no sense data", 1, fakescsi.Reply{Status: 2}, blk.ErrIO, "without sense data", 1},
		{"garbled sense data", 1, fakescsi.Reply{Status: 2, Sense: []byte{0x12, 3, 4}}, blk.ErrIO, "without sense data", 1},
		{"no target", 1, fakescsi.Reply{NoTarget: true}, blk.ErrGone, "no such target", 1},
		{"no such unit", 1, fakescsi.Reply{NoUnit: true}, blk.ErrGone, "no such unit", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{})
				r.judge(times(c.n, c.a), opWrite)
				r.a.bus.Log()
				_, err := r.d.WriteAt(pattern(512, 5), 1024)
				var e *blk.Error
				switch {
				case c.want == nil && err != nil, c.want != nil && !errors.Is(err, c.want):
					t.Errorf("%v, want %v", err, c.want)
				case err != nil && (!errors.As(err, &e) || e.Sector != 2 || e.Count != 1 || !strings.Contains(err.Error(), c.says)):
					t.Error(err)
				}
				if n := len(r.a.bus.Log()); n != c.tries {
					t.Errorf("%d tries, want %d", n, c.tries)
				}
				if _, err := r.d.ReadAt(make([]byte, 512), 0); err != nil {
					t.Error("after: ", err)
				}
			})
		})
	}
}

// Adapters that say what units do not.
func TestAdapterOutcomes(t *testing.T) {
	for _, c := range []struct {
		name   string
		garble func(*scsi.Result)
		want   error
	}{
		{"short", func(r *scsi.Result) { r.Residual = 100 }, blk.ErrProtocol},
		{"short by some", func(r *scsi.Result) { r.Residual = -1 }, blk.ErrProtocol},
		{"overrun", func(r *scsi.Result) { r.Host = scsi.HostOverrun }, blk.ErrProtocol},
		{"failed", func(r *scsi.Result) { r.Host, r.Err = scsi.HostFailed, errors.New("parity") }, blk.ErrIO},
		{"busy", func(r *scsi.Result) { r.Host = scsi.HostBusy }, blk.ErrIO},
		{"reset", func(r *scsi.Result) { r.Host = scsi.HostReset }, blk.ErrReset},
		{"lying sense length", func(r *scsi.Result) { r.Status, r.SenseLen = 2, 1000 }, blk.ErrIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{})
				r.a.set(func() { r.a.garble = c.garble })
				if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, c.want) {
					t.Error(err)
				}
			})
		})
	}
}

// The rest of a request of which a part failed is not sent.
func TestRestOfFailedRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{before: func(r *rig) { r.a.limits.MaxBytes = 4096 }, cfg: scsi.Config{Depth: 2}})
		r.judge(times(1, fakescsi.Check(3, 0x1100)), opRead)
		r.a.bus.Log()
		m := r.region(64 << 10)
		defer r.mem.Free(m)
		q := &blk.Request{Op: blk.OpRead, Sector: 16, Mem: []dma.Region{m}}
		err := blk.Do(r.d.Submit, q)
		var e *blk.Error
		if !errors.As(err, &e) || e.Why != blk.ErrIO || e.Sector != 16 || e.Count != 8 {
			t.Error(err)
		}
		if n := len(r.a.bus.Log()); n > 3 {
			t.Errorf("%d commands", n)
		}
	})
}

// Commands that are not answered: abort, unit reset, adapter reset, as far as is
// needed; the one fails, the others are sent again.
func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name         string
		refuse, deaf string
		calls        string
	}{
		{"abort", "", "", "abort"},
		{"abort refused", "abort", "", "abort,unit reset"},
		{"abort does nothing", "", "abort", "abort,unit reset"},
		{"nothing helps", "abort", "unit reset", "abort,unit reset,reset"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{})
				r.a.set(func() { r.a.refuse, r.a.deaf = c.refuse, c.deaf })
				r.judge(func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
					lba, _, _ := c.Blocks()
					return fakescsi.Reply{Drop: true}, lba == 8
				}, opRead)
				begin := time.Now()
				_, err := r.d.ReadAt(make([]byte, 512), 8*512)
				if !errors.Is(err, blk.ErrTimeout) {
					t.Error(err)
				}
				if d := time.Since(begin); d < timeout || d > 2*timeout+3*abortTimeout {
					t.Errorf("after %v", d)
				}
				if got := strings.Join(r.calls(), ","); got != c.calls {
					t.Errorf("calls %q, want %q", got, c.calls)
				}
				if _, err := r.d.ReadAt(make([]byte, 512), 0); err != nil {
					t.Error(err)
				}
			})
		})
	}
	bubble(t, func(t *testing.T) { // only the interrupt was lost
		r := newRig(t, rigOpt{})
		r.a.set(func() { r.a.pollEnd = true })
		r.judge(times(1, fakescsi.Reply{Drop: true}), opWrite)
		if _, err := r.d.WriteAt(make([]byte, 512), 0); err != nil {
			t.Error(err)
		}
		if len(r.calls()) != 0 {
			t.Error(r.calls())
		}
	})
	for _, deaf := range []string{"", "abort", "all"} { // while looking for units
		bubble(t, func(t *testing.T) {
			r := newRig(t, rigOpt{before: func(r *rig) {
				r.a.deaf = deaf
				r.judge(times(1, fakescsi.Reply{Drop: true}), opCap10)
			}})
			if n := len(r.h.Disks()); n != 0 {
				t.Errorf("%d disks", n)
			}
		})
	}
}

// A unit whose reset takes others along: those are sent again.
func TestResetTakesOthersAlong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{})
		r.a.set(func() { r.a.refuse = "abort" })
		n := 0
		r.judge(func(fakescsi.Cmd) (fakescsi.Reply, bool) {
			n++
			return fakescsi.Reply{Drop: true}, n <= 2
		}, opWrite)
		errs := make(chan error, 2)
		for i := range 2 {
			go func() {
				time.Sleep(time.Duration(i) * timeout * 3 / 4) // the second is not late
				_, err := r.d.WriteAt(pattern(512, i), int64(i)*512)
				errs <- err
			}()
		}
		a, b := <-errs, <-errs
		if (a == nil) == (b == nil) || !errors.Is(errors.Join(a, b), blk.ErrTimeout) {
			t.Errorf("%v and %v", a, b)
		}
		r.wantDisk(512, pattern(512, 1))
	})
}

func TestCapacityChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{})
		r.a.bus.Set(func() {
			r.unit.Disk = append(r.unit.Disk, make([]byte, 4096)...)
			r.unit.Pending = [][]byte{fakescsi.Sense(6, 0x2a09)}
		})
		if err := r.d.Flush(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if r.d.Size() != diskBytes+4096 {
			t.Error(r.d.Size())
		}
		r.a.bus.Set(func() { r.unit.Disk = r.unit.Disk[:diskBytes] })
		r.h.Changed(scsi.Address{}, 0x2a, 9)
		r.h.Changed(scsi.Address{}, 0x2a, 1)
		r.h.Changed(scsi.Address{}, 0x3f, 0xe)
		r.h.Changed(scsi.Address{Target: 5}, 0x2a, 9)
		synctest.Wait()
		if r.d.Size() != diskBytes {
			t.Error(r.d.Size())
		}
		r.a.bus.Set(func() { r.unit.Block = 4096 })
		r.h.Changed(scsi.Address{}, 0x2a, 9)
		synctest.Wait()
		if !errors.Is(r.d.Err(), blk.ErrGone) {
			t.Error(r.d.Err())
		}
	})
}

func TestRemoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{})
		r.h.Added(scsi.Address{Target: 3})
		r.h.Removed(scsi.Address{Target: 3})
		if r.d.Err() != nil {
			t.Error(r.d.Err())
		}
		r.h.Removed(scsi.Address{})
		if _, err := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(err, blk.ErrGone) {
			t.Error(err)
		}
	})
}

// Close ends a disk whose unit is busy, and leaves the others.
func TestCloseDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{before: func(r *rig) { r.a.bus.AddDisk(1, 0, 4096, 512) }})
		r.judge(func(c fakescsi.Cmd) (fakescsi.Reply, bool) { return fakescsi.Reply{Status: 8}, c.Target == 0 }, opRead)
		err := make(chan error)
		go func() { _, e := r.d.ReadAt(make([]byte, 512), 0); err <- e }()
		time.Sleep(100 * time.Millisecond)
		if e := r.d.Close(); e != nil {
			t.Error(e)
		}
		if e := <-err; !errors.Is(e, blk.ErrIO) {
			t.Error(e)
		}
		if _, e := r.d.ReadAt(make([]byte, 512), 0); !errors.Is(e, blk.ErrClosed) {
			t.Error(e)
		}
		if _, e := r.h.Disks()[1].ReadAt(make([]byte, 512), 0); e != nil {
			t.Error(e)
		}
	})
}

// An adapter that stops with requests under way, paused and waiting.
func TestAdapterStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{cfg: scsi.Config{Depth: 2}})
		r.judge(func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
			lba, _, _ := c.Blocks()
			return fakescsi.Reply{Status: 8, Drop: lba == 0}, true
		}, opRead)
		m := r.region(4096)
		done := make(chan error, 8)
		for i := range 8 {
			r.d.Submit(&blk.Request{Op: blk.OpRead, Sector: uint64(i * 8), Mem: []dma.Region{m}, Done: func(q *blk.Request) { done <- q.Err }})
		}
		time.Sleep(10 * time.Millisecond)
		r.a.stop(errors.New("the adapter burns"))
		for range 8 {
			if err := <-done; err == nil || !strings.Contains(err.Error(), "burns") {
				t.Error(err)
			}
		}
		r.mem.Free(m)
	})
}
