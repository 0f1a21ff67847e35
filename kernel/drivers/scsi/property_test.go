package scsi_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakescsi"
)

// Any mix of requests on any shape of unit and adapter, completed in any order,
// some with errors, some to be tried again, some dropped: what is read is what a
// plain byte slice says, each request is done once, and all memory comes back.
func TestAnyTrafficMatchesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func(t *testing.T) { anyTraffic(t, rt) })
	})
}

func anyTraffic(t *testing.T, rt *rapid.T) {
	r := newRig(t, rigOpt{block: rapid.SampledFrom([]int{512, 512, 4096}).Draw(rt, "block"),
		before: func(r *rig) {
			r.a.limits.MaxSegs = rapid.IntRange(1, 8).Draw(rt, "segments")
			r.a.limits.MaxBytes = 4096 * rapid.IntRange(0, 16).Draw(rt, "pages")
			if rapid.Bool().Draw(rt, "no UNMAP") {
				r.unit.Page(0xb2, []byte{0, 0x40, 0, 0})
			}
		}, cfg: scsi.Config{Depth: rapid.IntRange(1, 16).Draw(rt, "depth"), Timeout: timeout, AbortTimeout: abortTimeout}})
	model := bytes.Clone(r.unit.Disk)
	r.a.set(func() {
		r.a.manual = true
		r.a.pick = func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") }
		r.a.refuse = rapid.SampledFrom([]string{"", "", "abort", "unit reset"}).Draw(rt, "refuse")
		r.a.deaf = rapid.SampledFrom([]string{"", "", "abort", "unit reset"}).Draw(rt, "deaf")
	})
	type op struct {
		req  blk.Request
		data []byte
		n    int // sectors
		done int
	}
	const perBlock, area = 8, 128 // sectors; each request has an area of its own, so that any order will do
	shift := uint64(r.unit.Block / 512)
	bad := uint64(rapid.IntRange(0, 2*diskBytes/512).Draw(rt, "bad sector"))
	kind := rapid.SampledFrom([]fakescsi.Reply{fakescsi.Check(3, 0x1100), {Drop: true}}).Draw(rt, "bad kind")
	r.a.bus.Set(func() {
		r.a.bus.Judge = func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
			switch rapid.IntRange(0, 15).Draw(rt, "mood") {
			case 0:
				return fakescsi.Reply{Status: 0x28}, true
			case 1:
				return fakescsi.Check(6, 0x2900), true
			}
			lba, n, ok := c.Blocks()
			if !ok || lba*shift > bad || bad >= (lba+n)*shift {
				return fakescsi.Reply{}, false
			}
			return kind, true
		}
	})
	var ops []*op
	for i := range rapid.IntRange(1, diskBytes/512/area).Draw(rt, "requests") {
		o := &op{}
		o.req.Op = rapid.SampledFrom([]blk.Op{blk.OpRead, blk.OpWrite, blk.OpDiscard, blk.OpWriteZeroes, blk.OpFlush}).Draw(rt, "op")
		first := rapid.IntRange(0, area/perBlock-1).Draw(rt, "first") * perBlock
		o.n = rapid.IntRange(1, (area-first)/perBlock).Draw(rt, "blocks") * perBlock
		o.req.Sector = uint64(i*area + first)
		switch o.req.Op {
		case blk.OpRead, blk.OpWrite:
			for n := o.n / perBlock; n > 0; {
				k := rapid.IntRange(1, n).Draw(rt, "piece")
				off := rapid.IntRange(0, 4095).Draw(rt, "offset")
				m := r.region(k*perBlock*512 + off)
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
		if bs := r.unit.Block; r.a.limits.MaxSegs < 2 && bs > 512 {
			continue // refused at start
		}
		o.req.Done = func(*blk.Request) { o.done++ }
		ops = append(ops, o)
		r.d.Submit(&o.req)
		if rapid.Bool().Draw(rt, "step") {
			r.a.one()
		}
	}
	for range 100 { // long enough for pauses, aborts, resets and all
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
			if !hit || !errors.Is(o.req.Err, blk.ErrIO) && !errors.Is(o.req.Err, blk.ErrTimeout) {
				rt.Fatalf("%v of %d sectors at %d, bad sector %d: %v", o.req.Op, o.n, o.req.Sector, bad, o.req.Err)
			}
			copy(at, r.unit.Disk[o.req.Sector*512:])
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
			if r.unit.VPD[0xb2][5]&0x80 == 0 { // by WRITE SAME
				clear(at)
				break
			}
			for i := range at {
				at[i] = 0xdd
			}
		case blk.OpWriteZeroes:
			clear(at)
		}
	}
	if !bytes.Equal(model, r.unit.Disk) {
		rt.Fatal("the disk differs from the model")
	}
}

// Whatever units answer: no panic, no memory outside of what was given, no request
// without an end.
func FuzzUnitAnswers(f *testing.F) {
	f.Add([]byte{}, []byte{}, []byte{}, uint8(0), uint16(0))
	f.Add(bytes.Repeat([]byte{0xff}, 36), bytes.Repeat([]byte{0xff}, 64), bytes.Repeat([]byte{0xff}, 32), uint8(7), uint16(0x0401))
	f.Add([]byte{7: 2, 35: 0}, []byte{0, 1, 0, 0}, []byte{3, 0, 0x80, 0}, uint8(9), uint16(0x6_29))
	f.Fuzz(func(t *testing.T, inquiry, limits, caps []byte, when uint8, sense uint16) {
		bubble(t, func(t *testing.T) {
			r, err := tryRig(t, rigOpt{before: func(r *rig) {
				copy(r.unit.Inquiry, inquiry)
				if len(limits) > 0 {
					r.unit.Page(0xb0, limits)
					r.unit.Page(0xb2, limits)
					r.unit.Page(0x83, limits)
					r.unit.Mode = limits
				}
				n := uint8(0)
				r.a.bus.Judge = func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
					if n++; n == when {
						return fakescsi.Check(byte(sense>>8), sense<<4), true
					}
					if len(caps) > 0 && (c.Op() == opCap10 || c.Op() == opCap16 || c.Op() == opLUNs && when&1 != 0) {
						return fakescsi.Reply{In: caps}, true
					}
					return fakescsi.Reply{}, false
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range r.h.Disks()[:min(1, len(r.h.Disks()))] {
				if d.Size() < 0 || d.BlockSize() < 512 {
					t.Errorf("size %d, blocks of %d", d.Size(), d.BlockSize())
				}
				p := make([]byte, 3*d.BlockSize())
				d.ReadAt(p, 0)
				d.WriteAt(p, 0)
				d.Flush()
				if d.Size() < 1<<30 {
					d.Discard(0, int64(len(p)))
					d.WriteZeroes(0, int64(len(p)))
				}
			}
			r.close()
		})
	})
}

// pump sends reads of one block round after round, 16 deep.
type pump struct {
	r    *rig
	reqs [16]blk.Request
	done chan struct{}
}

func newPump(t testing.TB) *pump {
	r, err := tryRig(t, rigOpt{})
	if err != nil {
		t.Fatal(err)
	}
	r.a.bus.NoLog = true
	p := &pump{r: r, done: make(chan struct{}, 64)}
	mem := r.region(4096)
	for i := range p.reqs {
		p.reqs[i] = blk.Request{Op: blk.OpRead, Mem: []dma.Region{mem}, Done: func(*blk.Request) { p.done <- struct{}{} }}
	}
	t.Cleanup(func() { r.mem.Free(mem); r.close() })
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
	b.ReportAllocs()
	for range b.N {
		p.round()
	}
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	p := newPump(t)
	for range 10 {
		p.round() // the fake's queue grows
	}
	if n := testing.AllocsPerRun(100, p.round); n != 0 {
		t.Errorf("%v allocations for %d requests", n, len(p.reqs))
	}
}
