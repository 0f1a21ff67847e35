package ahci_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"osv/kernel/blk"
	"osv/kernel/drivers/ahci"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakeahci"
	"osv/kernel/ktest/fakedev"
)

// AHCI 1.3.1 §10.1.2, §10.4.3, §10.6.3: what is written to which register, in which
// order, from firmware's hands to the disk's first command, and to Close.
func TestRegistersFollowSpecOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mem := &fakedev.Mem{}
		fake := fakeahci.New(mem, diskBytes, 9)
		fake.CAP2, fake.BOHC = 1, 1
		tr := &fakedev.Transcript{Behind: fake}
		c, err := ahci.New(tr, mem, fake.Line, ahci.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		// Looking at empty ports is repeated for a while: once is enough here.
		var lines []string
		for _, l := range strings.SplitAfter(tr.String(), "\n") {
			if strings.HasPrefix(l, "R ") && strings.Contains(strings.Join(lines[max(0, len(lines)-8):], ""), l) {
				continue
			}
			lines = append(lines, l)
		}
		got := strings.Join(lines, "")
		if os.Getenv("UPDATE") != "" {
			os.MkdirAll("testdata", 0o755)
			os.WriteFile("testdata/init.regs", []byte(got), 0o644)
		} else if want, err := os.ReadFile("testdata/init.regs"); err != nil || got != string(want) {
			t.Errorf("%v; got\n%s\nwant testdata/init.regs (UPDATE=1 writes it)", err, got)
		}
		var ops []string
		for _, c := range fake.Log() {
			ops = append(ops, fmt.Sprintf("%02x", c.Command))
		}
		if got := strings.Join(ops, " "); got != "ec ea" {
			t.Errorf("commands %s", got)
		}
		for _, v := range fake.Violations() {
			t.Error(v)
		}
	})
}

func setWord(i int, v uint16) func(*fakeahci.HBA) {
	return func(h *fakeahci.HBA) {
		h.Ports[0].SetWord(i, v)
		h.Ports[0].Seal()
	}
}

func TestReadWrite(t *testing.T) {
	for _, c := range []struct {
		name string
		o    rigOpt
		cmds string // of transfers
	}{
		{"NCQ", rigOpt{}, "60 61"},
		{"NCQ of depth 2", rigOpt{before: setWord(75, 1)}, "60 61"},
		{"one slot", rigOpt{before: func(h *fakeahci.HBA) { h.CAP &^= 31 << 8 }}, "60 61"},
		{"HBA without NCQ", rigOpt{before: func(h *fakeahci.HBA) { h.CAP &^= 1 << 30 }}, "25 35"},
		{"disk without NCQ", rigOpt{before: setWord(76, 0)}, "25 35"},
		{"NCQ unwanted", rigOpt{cfg: ahci.Config{NoNCQ: true}}, "25 35"},
		{"LBA28", rigOpt{before: setWord(83, 1<<14)}, "c8 ca"},
		{"sectors of 4096", rigOpt{shift: 12}, "60 61"},
		{"32-bit addresses", rigOpt{before: func(h *fakeahci.HBA) { h.CAP &^= 1 << 31 }}, "60 61"},
		{"no checksum", rigOpt{before: func(h *fakeahci.HBA) { h.Ports[0].Identify[510] = 0 }}, "60 61"},
		{"firmware stays", rigOpt{before: func(h *fakeahci.HBA) { h.CAP2, h.BOHC, h.FirmwareStays = 1, 1|1<<4, true }}, "60 61"},
		{"spun up on demand", rigOpt{before: func(h *fakeahci.HBA) { h.CAP |= 1 << 27 }}, "60 61"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, c.o)
				if r.d == nil || r.d.Size() != diskBytes {
					t.Fatal("no disk, or of another size")
				}
				r.fake.Log()
				disk := r.fake.Ports[0].Disk
				for _, x := range []struct{ n, off int }{{4096, 0}, {64 << 10, 8192}, {1 << 20, 12288}, {700, 5}, {1, diskBytes - 1}} {
					got := make([]byte, x.n)
					if n, err := r.d.ReadAt(got, int64(x.off)); n != x.n || err != nil || !bytes.Equal(got, disk[x.off:x.off+x.n]) {
						t.Errorf("ReadAt %d at %d: %d, %v", x.n, x.off, n, err)
					}
				}
				for i, x := range []struct{ n, off int }{{64 << 10, 0}, {1 << 20, 128 << 10}, {64 << 10, diskBytes - 64<<10}} {
					p := pattern(x.n, i)
					if n, err := r.d.WriteAt(p, int64(x.off)); n != x.n || err != nil {
						t.Errorf("WriteAt %d at %d: %d, %v", x.n, x.off, n, err)
					}
					r.wantDisk(x.off, p)
				}
				for _, q := range r.fake.Log() {
					if !strings.Contains(c.cmds, fmt.Sprintf("%02x", q.Command)) {
						t.Errorf("%v, want %s", q, c.cmds)
					}
				}
				bs := int64(r.d.BlockSize())
				if err := errors.Join(r.d.Flush(), r.d.Discard(4*bs, 2*bs)); err != nil {
					t.Error(err)
				}
				r.wantDisk(int(4*bs), bytes.Repeat([]byte{0xdd}, int(2*bs)))
				if err := r.d.WriteZeroes(0, bs); !errors.Is(err, blk.ErrUnsupported) {
					t.Error(err)
				}
			})
		})
	}
}

// A large and scattered request goes out in parts that a table holds.
func TestScatteredMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{})
		m := r.region(2<<20, 4096)
		defer r.mem.Free(m)
		q := &blk.Request{Op: blk.OpWrite, Sector: 3}
		var want []byte
		for i := range 300 {
			s := m.Slice(i*4096+2*(i%5), 512*(1+i%3))
			copy(s.Bytes, pattern(len(s.Bytes), i))
			q.Mem = append(q.Mem, s)
			want = append(want, s.Bytes...)
		}
		if err := blk.Do(r.d.Submit, q); err != nil {
			t.Fatal(err)
		}
		r.wantDisk(3*512, want)
		clear(m.Bytes)
		q.Op = blk.OpRead
		if err := blk.Do(r.d.Submit, q); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for _, s := range q.Mem {
			got = append(got, s.Bytes...)
		}
		if !bytes.Equal(got, want) {
			t.Error("differs")
		}
		q.Mem = []dma.Region{m.Slice(1, 512)}
		if err := blk.Do(r.d.Submit, q); !errors.Is(err, blk.ErrAlign) {
			t.Error(err)
		}
	})
}

func TestSeveralPorts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{before: func(h *fakeahci.HBA) {
			h.AddDisk(1, 1<<20, 9).Sig = 0xeb140101 // a CD drive
			h.AddDisk(3, 1<<20, 12)
			h.PIMask = 0x8b // and ports beyond the window
		}, cfg: ahci.Config{Name: func(i int) string { return fmt.Sprintf("blk%d", 3+i) }}})
		d := r.c.Disks()
		if len(d) != 2 || d[0].Name() != "blk3" || d[1].Name() != "blk4" || d[1].BlockSize() != 4096 || d[1].Size() != 1<<20 {
			t.Fatalf("%d disks", len(d))
		}
		if id, err := d[1].ID(); id != "fake-serial-3" || err != nil {
			t.Error(id, err)
		}
		m := d[0].(interface {
			Model() string
			Depth() int
		})
		if m.Model() != "fake disk" || m.Depth() != 32 {
			t.Error(m.Model(), m.Depth())
		}
		p := pattern(8192, 7)
		if _, err := d[1].WriteAt(p, 4096); err != nil || !bytes.Equal(r.fake.Ports[3].Disk[4096:][:8192], p) {
			t.Error(err)
		}
		if err := d[1].Close(); err != nil {
			t.Error(err)
		}
		if _, err := d[1].ReadAt(p, 0); !errors.Is(err, blk.ErrClosed) {
			t.Error(err)
		}
		if _, err := d[0].ReadAt(p, 0); err != nil {
			t.Error(err)
		}
		if err := d[0].Close(); err != nil {
			t.Error(err)
		}
	})
}

// A flush waits for what is queued before it; queued commands wait for it. The fake
// notes what is mixed up.
func TestFlushAmongQueuedCommands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{before: func(h *fakeahci.HBA) { h.Manual = true }})
		m := r.region(512, 512)
		defer r.mem.Free(m)
		var order []string
		for i, op := range []blk.Op{blk.OpRead, blk.OpRead, blk.OpFlush, blk.OpRead, blk.OpDiscard, blk.OpWrite, blk.OpFlush} {
			q := &blk.Request{Op: op, Done: func(q *blk.Request) { order = append(order, fmt.Sprint(i, q.Err)) }}
			switch op {
			case blk.OpDiscard:
				q.Sectors = 8
			case blk.OpRead, blk.OpWrite:
				q.Mem = []dma.Region{m}
			}
			r.d.Submit(q)
		}
		if n := r.fake.Waiting(); n != 2 {
			t.Errorf("%d commands under way, want the two reads", n)
		}
		r.settle()
		if got := strings.Join(order, " "); got != "0<nil> 1<nil> 2<nil> 3<nil> 4<nil> 5<nil> 6<nil>" &&
			got != "0 <nil> 1 <nil> 2 <nil> 3 <nil> 4 <nil> 5 <nil> 6 <nil>" {
			t.Error(got)
		}
	})
}

// What cannot be used is left alone, and is no error of the HBA.
func TestLeftAlone(t *testing.T) {
	for name, before := range map[string]func(*fakeahci.HBA){
		"no disk":             func(h *fakeahci.HBA) { *h.Ports[0] = *h.Ports[1] },
		"checksum":            func(h *fakeahci.HBA) { h.Ports[0].Identify[0]++ },
		"not ATA":             setWord(0, 0x8000),
		"no DMA":              setWord(49, 0),
		"no sectors":          func(h *fakeahci.HBA) { clear(h.Ports[0].Identify[200:208]); h.Ports[0].Seal() },
		"too many sectors":    func(h *fakeahci.HBA) { h.Ports[0].Identify[207] = 1; h.Ports[0].Seal() },
		"sectors of 768":      func(h *fakeahci.HBA) { h.Ports[0].SetWord(106, 1<<14|1<<12); setWord(117, 384)(h) },
		"huge sectors":        func(h *fakeahci.HBA) { h.Ports[0].SetWord(106, 1<<14|1<<12); setWord(118, 2)(h) },
		"busy":                func(h *fakeahci.HBA) { h.Ports[0].Busy = true },
		"port multiplier":     func(h *fakeahci.HBA) { h.Ports[0].Sig = 0x96690101 },
		"unknown":             func(h *fakeahci.HBA) { h.Ports[0].Sig = 0x12345678 },
		"gone by the reset":   func(h *fakeahci.HBA) { h.Ports[0].NoLink = true },
		"identify fails":      judge(0xec, fakeahci.Fail),
		"identify early":      func(h *fakeahci.HBA) { judge(0xec, fakeahci.Fail)(h); h.Ports[0].EarlyCI = true },
		"identify no answer":  judge(0xec, fakeahci.Drop),
		"identify CRC errors": judge(0xec, fakeahci.CRC),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, rigOpt{before: before})
				if r.d != nil {
					t.Errorf("there is a disk: %d bytes", r.d.Size())
				}
			})
		})
	}
}

func judge(command uint8, v fakeahci.Verdict) func(*fakeahci.HBA) {
	return func(h *fakeahci.HBA) {
		h.Judge = func(c fakeahci.Cmd) fakeahci.Verdict {
			if c.Command == command {
				return v
			}
			return fakeahci.Do
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		o    rigOpt
		want string
	}{
		{"gone", rigOpt{before: func(h *fakeahci.HBA) { h.Gone = true }}, "no HBA answers"},
		{"transfer", rigOpt{cfg: ahci.Config{MaxTransfer: 5000}}, "transfers of 5000 bytes"},
		{"bounces", rigOpt{cfg: ahci.Config{Bounces: blk.Bounces{Size: 5000}}}, "bounce buffers of 5000 bytes"},
		{"no memory", rigOpt{cfg: ahci.Config{Bounces: blk.Bounces{Size: 1 << 61}}}, "port 0: bounce buffers"},
	} {
		bubble(t, func(t *testing.T) {
			r, err := tryRig(t, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: New: %v, want %q", c.name, err, c.want)
			}
			r.wantClean()
		})
	}
	bubble(t, func(t *testing.T) {
		r, err := tryRig(t, rigOpt{before: func(h *fakeahci.HBA) { h.StuckReset = true }})
		if err == nil || !strings.Contains(err.Error(), "HBA reset: device does not answer") {
			t.Errorf("New: %v", err)
		}
		_ = r
	})
	if _, err := ahci.New(&fakedev.Transcript{Size: 64}, &fakedev.Mem{}, &fakedev.Line{}, ahci.Config{}); err == nil {
		t.Error("a small window")
	}
}
