package nvme_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"osv/kernel/blk"
	"osv/kernel/drivers/nvme"
	"osv/kernel/hw/dma"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakenvme"
)

// Base 2.0 §3.5.1 and §3.6.1: what is written to which register, in which order,
// from a controller that firmware left enabled to the shutdown.
func TestRegistersFollowSpecOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mem := &fakedev.Mem{}
		fake := fakenvme.New(mem, 2, diskBytes, 9)
		fake.Enable()
		tr := &fakedev.Transcript{Behind: fake}
		c, err := nvme.New(tr, mem, []irq.Line{fake.Lines[0], fake.Lines[1]}, nvme.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile("testdata/init.regs")
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		var lines []string
		for _, l := range strings.Split(tr.String(), "\n") { // bus addresses depend on the layout of memory only
			lines = append(lines, l)
		}
		got := strings.Join(lines, "\n")
		if os.Getenv("UPDATE") != "" {
			os.MkdirAll("testdata", 0o755)
			os.WriteFile("testdata/init.regs", []byte(got), 0o644)
		} else if got != string(want) {
			t.Errorf("got\n%s\nwant testdata/init.regs (UPDATE=1 writes it)", got)
		}
		var ops []string
		for _, c := range fake.Log() {
			ops = append(ops, fmt.Sprintf("%02x", c.Opcode))
		}
		// Identify controller, its command set, set features, create the completion
		// queue, then the submission queue, list and namespace; delete them the other
		// way round.
		if got := strings.Join(ops, " "); got != "06 06 09 05 01 06 06 00 04" {
			t.Errorf("admin commands %s", got)
		}
		for _, v := range fake.Violations() {
			t.Error(v)
		}
	})
}

func TestReadWrite(t *testing.T) {
	for _, c := range []struct {
		name string
		o    rigOpt
	}{
		{"pin", rigOpt{}},
		{"msix", rigOpt{lines: 2}},
		{"msix, 4 queues", rigOpt{lines: 5}},
		{"fewer queues granted", rigOpt{lines: 5, before: func(d *fakenvme.Device) { d.Queues = 2 }}},
		{"blocks of 4096", rigOpt{lines: 2, shift: 12}},
		{"blocks of 65536", rigOpt{lines: 2, shift: 16}},
		{"MDTS of a page", rigOpt{lines: 2, before: func(d *fakenvme.Device) { d.Ctrl[77] = 1 }}},
		{"no MDTS", rigOpt{lines: 2, before: func(d *fakenvme.Device) { d.Ctrl[77] = 0 }, cfg: nvme.Config{MaxTransfer: 1 << 20}}},
		{"transfers of a page", rigOpt{lines: 2, cfg: nvme.Config{MaxTransfer: 4096}}},
		{"wide stride", rigOpt{lines: 2, before: func(d *fakenvme.Device) { d.CAP |= 3 << 32 }}},
		{"pages of 16 KiB", rigOpt{lines: 2, before: func(d *fakenvme.Device) { d.CAP |= 2<<48 | 4<<52 }}},
		{"queues of 2", rigOpt{lines: 2, cfg: nvme.Config{Depth: 2}}},
		{"small queues", rigOpt{lines: 2, before: func(d *fakenvme.Device) { d.CAP = d.CAP&^0xffff | 3 }}},
		{"version 1.0", rigOpt{before: func(d *fakenvme.Device) { d.VS = 1 << 16; d.CAP &^= 1 << 43; d.Ctrl[516] = 3 }}},
		{"command sets by identifier", rigOpt{before: func(d *fakenvme.Device) { d.CAP &^= 1 << 37 }}},
		{"no command set data", rigOpt{before: func(d *fakenvme.Device) {
			d.Judge = func(c fakenvme.Cmd) fakenvme.Verdict {
				if c.Queue == 0 && c.Opcode == 6 && c.DW[10] == 6 {
					return fakenvme.InvalidField
				}
				return fakenvme.Do
			}
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, c.o)
				if r.d.Size() != diskBytes {
					t.Fatalf("size %d", r.d.Size())
				}
				disk := r.fake.Spaces[1].Disk
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
				if err := r.d.Flush(); err != nil {
					t.Error(err)
				}
				bs := int64(r.d.BlockSize())
				if err := errors.Join(r.d.WriteZeroes(bs, 2*bs), r.d.Discard(4*bs, 2*bs)); err != nil {
					t.Error(err)
				}
				r.wantDisk(int(bs), make([]byte, 2*bs))
				r.wantDisk(int(4*bs), bytes.Repeat([]byte{0xdd}, int(2*bs)))
			})
		})
	}
}

// Memory that begins anywhere and is in pieces that no PRP list can hold together
// goes out in parts, each within PRP rules and MDTS, which the fake checks.
func TestPRPsOfScatteredMemory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 2})
		m := r.region(1<<20, 4096)
		defer r.mem.Free(m)
		for _, mem := range [][]dma.Region{
			{m.Slice(0, 512)},
			{m.Slice(4, 512)},
			{m.Slice(4092, 512)},
			{m.Slice(4092, 8192)},
			{m.Slice(2048, 1<<19)},
			{m.Slice(0, 4096), m.Slice(8192, 4096), m.Slice(65536, 512)},
			{m.Slice(512, 512), m.Slice(8192+512, 512), m.Slice(4096, 4096), m.Slice(20480, 4096), m.Slice(32768+1024, 1024)},
			{m.Slice(3584, 512), m.Slice(8192, 4096), m.Slice(12288, 4096), m.Slice(0, 512)},
		} {
			n := 0
			for i, x := range mem {
				copy(x.Bytes, pattern(len(x.Bytes), i+1))
				n += len(x.Bytes)
			}
			var want []byte
			for _, x := range mem {
				want = append(want, x.Bytes...)
			}
			for _, op := range []blk.Op{blk.OpWrite, blk.OpRead} {
				if op == blk.OpRead {
					r.wantDisk(5*512, want)
					clear(m.Bytes)
				}
				if err := blk.Do(r.d.Submit, &blk.Request{Op: op, Sector: 5, Mem: mem}); err != nil {
					t.Fatal(err)
				}
			}
			var got []byte
			for _, x := range mem {
				got = append(got, x.Bytes...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes in %d pieces differ", n, len(mem))
			}
		}
	})
}

func TestSeveralNamespaces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 2, before: func(d *fakenvme.Device) {
			d.AddSpace(3, 1<<20, 12)
			d.AddSpace(4, 1<<20, 9).Info[128] = 8             // metadata
			d.AddSpace(5, 1<<20, 9).Info[26] = 3              // a format that is not there
			d.AddSpace(6, 1<<20, 9).Info[130] = 8             // blocks of 256 bytes
			d.AddSpace(7, 1<<20, 9).Info[7] = 0xff            // more than 2^62 bytes
			d.AddSpace(8, 0, 9)                               // inactive
			d.AddSpace(9, 1<<20, 9).Info[99] = 1              // write protected
			d.AddSpace(20, 1<<20, 9).Info[33] = 1 | 1<<3      // DLFEAT
			d.List = []uint32{1, 3, 4, 5, 6, 7, 8, 9, 12, 20} // 12 is not there
		}, cfg: nvme.Config{Name: func(i int) string { return fmt.Sprintf("blk%d", 10+i) }}})
		var got []string
		for _, d := range r.c.Disks() {
			id, _ := d.ID()
			got = append(got, fmt.Sprint(d.Name(), " ", id, " ", d.Size(), " ", d.BlockSize(), " ", d.ReadOnly()))
		}
		want := "blk10 fake-serial-n1 2097152 512 false|blk11 fake-serial-n3 1048576 4096 false|blk12 fake-serial-n9 1048576 512 true|blk13 fake-serial-n20 1048576 512 false"
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("got  %s\nwant %s", s, want)
		}
		d := r.c.Disks()
		p := pattern(4096, 3)
		if _, err := d[1].WriteAt(p, 8192); err != nil || !bytes.Equal(r.fake.Spaces[3].Disk[8192:8192+4096], p) {
			t.Error("namespace 3:", err)
		}
		if _, err := d[2].WriteAt(p, 0); !errors.Is(err, blk.ErrReadOnly) {
			t.Error(err)
		}
		r.fake.Log()
		if err := d[3].WriteZeroes(0, 4096); err != nil {
			t.Error(err)
		}
		if l := r.fake.Log(); len(l) != 1 || l[0].DW[12]&(1<<25) == 0 {
			t.Errorf("write-zeroes of a namespace that deallocates: %v", l)
		}
		// One closed namespace leaves the others alone.
		if err := d[1].Close(); err != nil {
			t.Error(err)
		}
		if _, err := d[1].ReadAt(p, 0); !errors.Is(err, blk.ErrClosed) {
			t.Error(err)
		}
		if _, err := d[0].ReadAt(p, 0); err != nil {
			t.Error(err)
		}
		if n := d[0].(*nvme.Namespace); n.NSID() != 1 || n.Queues() != 1 || r.c.Queues() != 1 || r.c.Model() != "fake controller" {
			t.Error(n.NSID(), n.Queues(), r.c.Queues(), r.c.Model())
		}
	})
}

func TestRangeCommands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 2, before: func(d *fakenvme.Device) {
			d.CSCtrl[1] = 2                                   // WZSL: 16 KiB
			binary.LittleEndian.PutUint32(d.CSCtrl[4:], 1000) // DMRSL
		}})
		if err := errors.Join(r.d.WriteZeroes(512, 1<<20), r.d.Discard(1<<20+4096, 1<<20-8192)); err != nil {
			t.Fatal(err)
		}
		r.wantDisk(512, make([]byte, 1<<20))
		r.wantDisk(1<<20+4096, bytes.Repeat([]byte{0xdd}, 1<<20-8192))
		for _, c := range r.fake.Log() {
			if c.Opcode == 8 && c.Queue > 0 && c.DW[12]&0xffff > 31 {
				t.Errorf("write-zeroes of %d blocks", c.DW[12]&0xffff+1)
			}
		}
		if err := r.d.Discard(0, 2*diskBytes); !errors.Is(err, blk.ErrRange) {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) {
		r := newRig(t, rigOpt{lines: 2, before: func(d *fakenvme.Device) { d.Ctrl[520], d.Ctrl[525] = 0, 0 }})
		if err := r.d.Discard(0, 512); !errors.Is(err, blk.ErrUnsupported) {
			t.Error(err)
		}
		if err := r.d.WriteZeroes(0, 512); !errors.Is(err, blk.ErrUnsupported) {
			t.Error(err)
		}
		r.fake.Log()
		if err := r.d.Flush(); err != nil || len(r.fake.Log()) != 0 {
			t.Error("flush without a volatile cache:", err)
		}
		if n, err := r.d.ReadAt(make([]byte, 10), diskBytes-5); n != 5 || err != io.EOF {
			t.Error(n, err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	admin := func(opcode uint8, v fakenvme.Verdict) func(*fakenvme.Device) {
		return func(d *fakenvme.Device) {
			d.Judge = func(c fakenvme.Cmd) fakenvme.Verdict {
				if c.Queue == 0 && c.Opcode == opcode {
					return v
				}
				return fakenvme.Do
			}
		}
	}
	for _, c := range []struct {
		name string
		o    rigOpt
		want string
	}{
		{"gone", rigOpt{before: func(d *fakenvme.Device) { d.Gone = true }}, "no controller answers"},
		{"no command set", rigOpt{before: func(d *fakenvme.Device) { d.CAP = d.CAP&^(0xff<<37) | 1<<44 }}, "no I/O command set"},
		{"huge pages", rigOpt{before: func(d *fakenvme.Device) { d.CAP |= 9<<48 | 9<<52 }}, "pages of 2097152 bytes"},
		{"one entry", rigOpt{before: func(d *fakenvme.Device) { d.CAP &^= 0xffff }}, "queues of 1 entries"},
		{"doorbells outside", rigOpt{before: func(d *fakenvme.Device) { d.CAP |= 15 << 32 }}, "doorbells of 1 queues end at"},
		{"never ready", rigOpt{before: func(d *fakenvme.Device) { d.NeverReady = true }}, "enable: device does not answer within 2s"},
		{"fatal", rigOpt{before: func(d *fakenvme.Device) { d.Fatal = true }}, "fatal error"},
		{"depth", rigOpt{cfg: nvme.Config{Depth: 5000}}, "queues of 5000 entries"},
		{"transfer", rigOpt{cfg: nvme.Config{MaxTransfer: 5000}}, "transfers of 5000 bytes"},
		{"identify fails", rigOpt{before: admin(6, fakenvme.Internal)}, "admin command 0x06: status 0/06h: internal error"},
		{"identify is not answered", rigOpt{before: admin(6, fakenvme.Drop)}, "admin command 0x06: device does not answer"},
		{"no queue count", rigOpt{before: admin(9, fakenvme.InvalidField)}, "admin command 0x09"},
		{"no completion queue", rigOpt{before: admin(5, fakenvme.InvalidField)}, "admin command 0x05"},
		{"no submission queue", rigOpt{before: admin(1, 0x102)}, "status 1/02h: unknown"},
		{"list out of order", rigOpt{before: func(d *fakenvme.Device) { d.List = []uint32{2, 1} }}, "not in order"},
		{"blocks beyond MDTS", rigOpt{shift: 16, before: func(d *fakenvme.Device) { d.Ctrl[77] = 2 }}, "commands of 0 bytes do not hold a block of 65536"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, err := tryRig(t, c.o)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("New: %v, want %q", err, c.want)
				}
				r.wantClean()
			})
		})
	}
	if _, err := nvme.New(&fakedev.Transcript{}, &fakedev.Mem{}, nil, nvme.Config{}); err == nil {
		t.Error("no lines")
	}
	if _, err := nvme.New(&fakedev.Transcript{Size: 64}, &fakedev.Mem{}, []irq.Line{&fakedev.Line{}}, nvme.Config{}); err == nil {
		t.Error("a small window")
	}
}

// A controller that does not finish its reset keeps its memory.
func TestResetThatDoesNotFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, err := tryRig(t, rigOpt{lines: 2})
		if err != nil {
			t.Fatal(err)
		}
		live := r.mem.Live()
		r.fake.NeverReset = true
		if err := r.c.Close(); !errors.Is(err, blk.ErrTimeout) {
			t.Errorf("Close: %v", err)
		}
		if n := r.mem.Live(); n != live {
			t.Errorf("%d of %d regions were freed while the controller may write to them", live-n, live)
		}
		if err := r.c.Close(); err != nil {
			t.Error("second Close:", err)
		}
		if _, err := r.d.ReadAt(make([]byte, 1), 0); !errors.Is(err, blk.ErrClosed) {
			t.Error(err)
		}
	})
}

// A controller that does not acknowledge the shutdown is reset all the same.
func TestShutdownThatIsNotAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, err := tryRig(t, rigOpt{lines: 2, before: func(d *fakenvme.Device) { d.NoShutdown = true }})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.c.Close(); !errors.Is(err, blk.ErrTimeout) || !strings.Contains(err.Error(), "shutdown") {
			t.Errorf("Close: %v", err)
		}
		if r.fake.CC()&1 != 0 {
			t.Error("still enabled")
		}
		r.wantClean()
	})
}
