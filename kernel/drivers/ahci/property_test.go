package ahci_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"osv/kernel/blk"
	"osv/kernel/drivers/ahci"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakeahci"
)

// Any mix of requests on any shape of disk, completed in any order, some with
// errors, some dropped, some garbled, with HBA resets in between: what is read is
// what a plain byte slice says, each request is done once, and all memory comes
// back.
func TestAnyTrafficMatchesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func(t *testing.T) { anyTraffic(t, rt) })
	})
}

func anyTraffic(t *testing.T, rt *rapid.T) {
	shift := rapid.SampledFrom([]int{9, 9, 12}).Draw(rt, "shift")
	flip := func(name string) bool { return rapid.Bool().Draw(rt, name) }
	r := newRig(t, rigOpt{shift: shift, before: func(h *fakeahci.HBA) {
		h.CAP = h.CAP&^(31<<8) | uint32(rapid.IntRange(0, 31).Draw(rt, "slots"))<<8
		h.Ports[0].SetWord(75, uint16(rapid.IntRange(0, 31).Draw(rt, "depth")))
		h.Ports[0].Seal()
		h.Ports[0].NoLog, h.Ports[0].BadLog, h.Ports[0].EarlyCI = flip("no log"), flip("bad log"), flip("early CI")
	}, cfg: ahci.Config{NoNCQ: rapid.IntRange(0, 3).Draw(rt, "no NCQ") == 0, MaxTransfer: 64 << 10,
		Timeout: timeout, ReadyTimeout: time.Second}})
	const perBlock = 8
	disk := r.fake.Ports[0].Disk
	model := bytes.Clone(disk)
	r.fake.Set(func() {
		r.fake.Manual = true
		r.fake.Pick = func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") }
	})
	type op struct {
		req  blk.Request
		data []byte
		n    int // sectors
		done int
	}
	const area = 256 // sectors; each request has one of its own, so that any order will do
	for range rapid.IntRange(1, 3).Draw(rt, "rounds") {
		bad := uint64(rapid.IntRange(0, 3*diskBytes/512).Draw(rt, "bad sector"))
		garbled := rapid.IntRange(0, 2).Draw(rt, "garbled")
		verdict := rapid.SampledFrom([]fakeahci.Verdict{fakeahci.Fail, fakeahci.Fail, fakeahci.Drop}).Draw(rt, "verdict")
		r.fake.Set(func() {
			r.fake.Judge = func(c fakeahci.Cmd) fakeahci.Verdict {
				if garbled > 0 && c.Command != 0xec {
					garbled--
					return fakeahci.CRC
				}
				return touches(bad>>(shift-9), verdict)(c)
			}
		})
		var ops []*op
		for i := range rapid.IntRange(1, diskBytes/512/area).Draw(rt, "requests") {
			o := &op{}
			o.req.Op = rapid.SampledFrom([]blk.Op{blk.OpRead, blk.OpWrite, blk.OpRead, blk.OpWrite, blk.OpDiscard, blk.OpFlush}).Draw(rt, "op")
			first := rapid.IntRange(0, area/perBlock-1).Draw(rt, "first") * perBlock
			o.n = rapid.IntRange(1, (area-first)/perBlock).Draw(rt, "blocks") * perBlock
			o.req.Sector = uint64(i*area + first)
			switch o.req.Op {
			case blk.OpRead, blk.OpWrite:
				for n := o.n / perBlock; n > 0; {
					k := rapid.IntRange(1, n).Draw(rt, "piece")
					off := 2 * rapid.IntRange(0, 2047).Draw(rt, "offset/2")
					m := r.region(k*perBlock*512+off, 4096)
					defer r.mem.Free(m)
					s := m.Slice(off, k*perBlock*512)
					o.req.Mem = append(o.req.Mem, s)
					n -= k
					if o.req.Op == blk.OpWrite {
						copy(s.Bytes, pattern(len(s.Bytes), rapid.IntRange(0, 255).Draw(rt, "seed")))
						o.data = append(o.data, s.Bytes...)
					}
				}
			case blk.OpFlush:
				o.req.Sector, o.n = 0, 0
			default:
				o.req.Sectors = uint64(o.n)
			}
			o.req.Done = func(*blk.Request) { o.done++ }
			ops = append(ops, o)
			r.d.Submit(&o.req)
			switch rapid.IntRange(0, 40).Draw(rt, "step") {
			case 0:
				if err := r.c.Reset(); err != nil {
					rt.Fatal(err)
				}
			case 1, 2, 3, 4, 5, 6, 7, 8:
				r.fake.Step()
			}
		}
		for range 100 { // long enough for timeouts, resets and all
			r.settle()
			time.Sleep(timeout / 4)
			synctest.Wait()
		}
		for _, o := range ops {
			if o.done != 1 {
				rt.Fatalf("%v of %d sectors at %d was done %d times", o.req.Op, o.n, o.req.Sector, o.done)
			}
			at := model[o.req.Sector*512:][:o.n*512]
			if o.req.Err != nil {
				hit := o.req.Sector <= bad && bad < o.req.Sector+uint64(o.n)
				if !hit && !errors.Is(o.req.Err, blk.ErrIO) || !errors.Is(o.req.Err, blk.ErrIO) && !errors.Is(o.req.Err, blk.ErrTimeout) {
					rt.Fatalf("%v of %d sectors at %d, bad sector %d: %v", o.req.Op, o.n, o.req.Sector, bad, o.req.Err)
				}
				copy(at, disk[o.req.Sector*512:])
				continue
			}
			switch o.req.Op {
			case blk.OpWrite:
				copy(at, o.data)
			case blk.OpRead:
				var got []byte
				for _, m := range o.req.Mem {
					got = append(got, m.Bytes...)
				}
				if !bytes.Equal(got, at) {
					rt.Fatalf("read of %d sectors at %d differs from the model", o.n, o.req.Sector)
				}
			case blk.OpDiscard:
				for i := range at {
					at[i] = 0xdd
				}
			}
		}
		if !bytes.Equal(model, disk) {
			rt.Fatal("the disk differs from the model")
		}
		if err := r.d.Err(); err != nil {
			rt.Fatal(err)
		}
	}
}

// Whatever an HBA and a disk say of themselves: no panic, no memory outside of
// what was given, no request without an end.
func FuzzDeviceAnswers(f *testing.F) {
	f.Add([]byte{}, uint32(0), uint32(0), uint8(0), uint8(0))
	f.Add(bytes.Repeat([]byte{0xff}, 512), uint32(0xffffffff), uint32(1<<30), uint8(2), uint8(3))
	f.Add([]byte{99: 3, 121: 1, 150: 31}, uint32(0x40001f00), uint32(1<<3), uint8(1), uint8(2))
	f.Fuzz(func(t *testing.T, id []byte, caps, is uint32, when, verdict uint8) {
		bubble(t, func(t *testing.T) {
			r, err := tryRig(t, rigOpt{before: func(h *fakeahci.HBA) {
				h.CAP = caps
				if len(id) > 0 {
					copy(h.Ports[0].Identify[:510], id)
					h.Ports[0].Seal()
				}
				n := uint8(0)
				h.Judge = func(c fakeahci.Cmd) fakeahci.Verdict {
					if n++; n == when {
						return fakeahci.Verdict(verdict % 4)
					}
					return fakeahci.Do
				}
			}})
			if err != nil {
				if n := r.mem.Live(); n != 0 {
					t.Errorf("%d regions leaked after %v", n, err)
				}
				return
			}
			if r.d != nil {
				if r.d.Size() <= 0 || r.d.BlockSize() < 512 {
					t.Errorf("size %d, blocks of %d", r.d.Size(), r.d.BlockSize())
				}
				p := make([]byte, 3*r.d.BlockSize())
				for range 2 {
					r.d.ReadAt(p, 0)
					r.d.WriteAt(p, 0)
					r.d.Flush()
					r.d.Discard(0, int64(len(p)))
					r.fake.Raise(0, is)
				}
				r.d.ReadAt(p, 0)
			}
			r.c.Close()
			if n := r.mem.Live(); n != 0 {
				t.Errorf("%d regions leaked", n)
			}
		})
	})
}

// Each range of a trim command is within its 16 bits, and all sectors are in one.
func TestTrimOfManySectors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const sectors = 300000
		r := newRig(t, rigOpt{before: func(h *fakeahci.HBA) { h.AddDisk(1, sectors*512, 9) }})
		d := r.c.Disks()[1]
		if err := d.Discard(512, (sectors-2)*512); err != nil {
			t.Fatal(err)
		}
		disk := r.fake.Ports[1].Disk
		if disk[511] == 0xdd || disk[(sectors-1)*512] == 0xdd || bytes.Count(disk, []byte{0xdd}) != (sectors-2)*512 {
			t.Error("other sectors than those were trimmed")
		}
		for _, c := range r.fake.Log() {
			if c.Command == 6 && binary.LittleEndian.Uint16([]byte{byte(c.Count), byte(c.Count >> 8)}) != 1 {
				t.Error(c)
			}
		}
	})
}

type pump struct {
	r    *rig
	reqs [32]blk.Request
	done chan struct{}
}

func newPump(t testing.TB) *pump {
	r, err := tryRig(t, rigOpt{})
	if err != nil {
		t.Fatal(err)
	}
	p := &pump{r: r, done: make(chan struct{}, 64)}
	mem := r.region(4096, 4096)
	for i := range p.reqs {
		p.reqs[i] = blk.Request{Op: blk.OpRead, Mem: []dma.Region{mem}, Done: func(*blk.Request) { p.done <- struct{}{} }}
	}
	r.fake.NoLog = true
	return p
}

func (p *pump) round() {
	for i := range p.reqs {
		p.r.d.Submit(&p.reqs[i])
	}
	for range p.reqs {
		<-p.done
	}
}

// One request from Submit to Done, with what the fake costs.
func BenchmarkSubmit(b *testing.B) {
	p := newPump(b)
	defer p.r.c.Close()
	b.ReportAllocs()
	for range b.N {
		p.round()
	}
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	p := newPump(t)
	defer p.r.c.Close()
	if n := testing.AllocsPerRun(100, p.round); n != 0 {
		t.Errorf("%v allocations for %d requests", n, len(p.reqs))
	}
}
