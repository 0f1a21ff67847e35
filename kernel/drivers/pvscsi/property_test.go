package pvscsi_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"osv/kernel/blk"
	"osv/kernel/drivers/pvscsi"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakescsi"
)

// Any mix of requests on any shape of adapter, completed in any order, some with
// errors, some never answered, with deaf aborts and resets: what is read is what a
// plain byte slice says, each request is done once, and all memory comes back.
func TestAnyTrafficMatchesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func(t *testing.T) { anyTraffic(t, rt) })
	})
}

func anyTraffic(t *testing.T, rt *rapid.T) {
	r := newRig(t, rigOpt{before: func(r *rig) {
		r.fake.Small, r.fake.Exact = rapid.Bool().Draw(rt, "small"), rapid.Bool().Draw(rt, "exact")
	}, cfg: pvscsi.Config{Depth: rapid.IntRange(1, 80).Draw(rt, "depth"), MaxSegs: rapid.IntRange(1, 20).Draw(rt, "segments")}})
	model := bytes.Clone(r.unit.Disk)
	bad := uint64(rapid.IntRange(0, 2*diskBytes/512).Draw(rt, "bad sector"))
	kind := rapid.SampledFrom([]fakescsi.Reply{fakescsi.Check(3, 0x1100), {Drop: true}}).Draw(rt, "bad kind")
	r.fake.Set(func() {
		r.fake.Manual = true
		r.fake.Pick = func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") }
		r.fake.DeafAbort = rapid.Bool().Draw(rt, "deaf abort")
		r.fake.DeafReset = rapid.Bool().Draw(rt, "deaf reset")
	})
	r.fake.Bus.Set(func() {
		r.fake.Bus.Judge = func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
			lba, n, ok := c.Blocks()
			return kind, ok && lba <= bad && bad < lba+n
		}
	})
	type op struct {
		req  blk.Request
		data []byte
		n    int
		done int
	}
	const area = 128 // sectors; each request has one of its own, so that any order will do
	var ops []*op
	for i := range rapid.IntRange(1, diskBytes/512/area).Draw(rt, "requests") {
		o := &op{}
		o.req.Op = rapid.SampledFrom([]blk.Op{blk.OpRead, blk.OpWrite}).Draw(rt, "op")
		first := rapid.IntRange(0, area-1).Draw(rt, "first")
		o.n = rapid.IntRange(1, area-first).Draw(rt, "sectors")
		o.req.Sector = uint64(i*area + first)
		for n := o.n; n > 0; {
			k := rapid.IntRange(1, n).Draw(rt, "piece")
			m := r.region(k * 512)
			defer r.mem.Free(m)
			o.req.Mem = append(o.req.Mem, m)
			n -= k
			if o.req.Op == blk.OpWrite {
				copy(m.Bytes, pattern(len(m.Bytes), rapid.IntRange(0, 255).Draw(rt, "seed")))
				o.data = append(o.data, m.Bytes...)
			}
		}
		o.req.Done = func(*blk.Request) { o.done++ }
		ops = append(ops, o)
		r.d.Submit(&o.req)
		if rapid.Bool().Draw(rt, "step") {
			r.fake.Step()
		}
	}
	for range 100 { // long enough for aborts, resets and all
		r.settle()
		time.Sleep(timeout / 8)
		synctest.Wait()
	}
	for _, o := range ops {
		if o.done != 1 {
			rt.Fatalf("%v of %d sectors at %d was done %d times", o.req.Op, o.n, o.req.Sector, o.done)
		}
		at := model[o.req.Sector*512:][:o.n*512]
		switch {
		case o.req.Err != nil:
			hit := o.req.Sector <= bad && bad < o.req.Sector+uint64(o.n)
			if !hit || !errors.Is(o.req.Err, blk.ErrIO) && !errors.Is(o.req.Err, blk.ErrTimeout) {
				rt.Fatalf("%v of %d sectors at %d, bad sector %d: %v", o.req.Op, o.n, o.req.Sector, bad, o.req.Err)
			}
			r.fake.Bus.Set(func() { copy(at, r.unit.Disk[o.req.Sector*512:]) })
		case o.req.Op == blk.OpWrite:
			copy(at, o.data)
		default:
			var got []byte
			for _, m := range o.req.Mem {
				got = append(got, m.Bytes...)
			}
			if !bytes.Equal(got, at) {
				rt.Fatalf("read of %d sectors at %d differs from the model", o.n, o.req.Sector)
			}
		}
	}
	if !bytes.Equal(model, r.unit.Disk) {
		rt.Fatal("the disk differs from the model")
	}
}

// Whatever an adapter answers: no panic, no memory outside of what was given, no
// request without an end.
func FuzzAdapterAnswers(f *testing.F) {
	f.Add(uint64(1<<16|1), uint16(0), uint16(0), uint64(0), uint32(0), uint8(0), uint32(0))
	f.Add(uint64(1<<64-1), uint16(0x12), uint16(2), uint64(1<<63), uint32(1<<31), uint8(3), uint32(1))
	f.Add(uint64(0), uint16(0x26), uint16(8), uint64(100), uint32(96), uint8(7), uint32(33))
	f.Fuzz(func(t *testing.T, context uint64, host, status uint16, moved uint64, sense uint32, when uint8, skip uint32) {
		bubble(t, func(t *testing.T) {
			n := uint8(0)
			r, err := tryRig(t, rigOpt{before: func(r *rig) {
				r.fake.Phys = sense
				r.fake.Bus.Judge = func(c fakescsi.Cmd) (fakescsi.Reply, bool) {
					n++
					return fakescsi.Reply{Status: byte(status), Sense: []byte{byte(sense), byte(moved), byte(host)}}, n == when
				}
			}})
			if err != nil {
				return
			}
			r.fake.Set(func() { r.fake.HostStatus, r.fake.DataLen = host, moved })
			if r.d != nil {
				r.d.ReadAt(make([]byte, 1024), 0)
			}
			r.fake.Set(func() { r.fake.HostStatus, r.fake.DataLen = 0, 0 })
			if when&1 != 0 {
				r.fake.Post(context, host, status, moved, sense)
			}
			if when&2 != 0 && skip != 0 {
				r.fake.Skip(when&4 != 0, skip)
			}
			synctest.Wait()
			if r.d != nil {
				r.d.WriteAt(make([]byte, 512), 0)
			}
			if err := r.a.Close(); err != nil {
				t.Error(err)
			}
			if n := r.mem.Live(); n != 0 {
				t.Errorf("%d regions leaked", n)
			}
		})
	})
}

// pump sends reads of one block round after round, 32 deep.
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
	r.fake.Bus.NoLog = true
	p := &pump{r: r, done: make(chan struct{}, 64)}
	mem := r.region(8192)
	for i := range p.reqs {
		p.reqs[i] = blk.Request{Op: blk.OpRead, Mem: []dma.Region{mem.Slice(0, 512), mem.Slice(4096, 512)}, Done: func(*blk.Request) { p.done <- struct{}{} }}
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
		p.round()
	}
	if n := testing.AllocsPerRun(100, p.round); n != 0 {
		t.Errorf("%v allocations for %d requests", n, len(p.reqs))
	}
}
