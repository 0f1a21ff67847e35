package virtioblk_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"osv/kernel/drivers/virtioblk"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
)

// Any mix of requests on any shape of device, completed in any order, some with
// errors: what is read is what a plain byte slice says, each request is done once,
// and all memory comes back.
func TestAnyTrafficMatchesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) { anyTraffic(t, rt) })
	})
}

const anySectors = 1024

func anyTraffic(t *testing.T, rt *rapid.T) {
	features := fakedev.FeatureVersion1 | fakedev.BlkFlush | fakedev.BlkDiscard | fakedev.BlkWriteZeroes
	for _, f := range []uint64{fakedev.FeatureIndirectDesc, fakedev.FeatureEventIdx, fakedev.BlkSegMax, fakedev.BlkSizeMax, fakedev.BlkMQ} {
		if rapid.Bool().Draw(rt, "feature") {
			features |= f
		}
	}
	queues := rapid.IntRange(1, 3).Draw(rt, "queues")
	segMax := rapid.IntRange(1, 20).Draw(rt, "segMax")
	r := newRig(t, rigOpt{
		features: features, queues: queues, lines: queues + 1, sectors: anySectors,
		ring: 1 << rapid.IntRange(2, 6).Draw(rt, "ring"),
		before: func(b *fakedev.Blk) {
			b.SetConf(8, 0, byte(rapid.IntRange(2, 16).Draw(rt, "sizeMax/256")), 0, 0)
			b.SetConf(12, byte(segMax), 0, 0, 0)
		},
	})
	model := bytes.Clone(r.disk.Disk)
	r.disk.Pick = func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") }

	type op struct {
		req  virtioblk.Request
		data []byte // of a write
		done int
	}
	// Requests of one round touch areas of their own, so that any order will do.
	const area = 64
	for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
		bad := uint64(rapid.IntRange(0, 3*anySectors).Draw(rt, "bad sector"))
		r.disk.Fail = func(q fakedev.BlkRequest) uint8 {
			if q.Sector <= bad && bad < q.Sector+q.Sectors {
				return fakedev.BlkIOErr
			}
			return fakedev.BlkOK
		}
		var ops []*op
		for i := range rapid.IntRange(1, anySectors/area).Draw(rt, "requests") {
			o := &op{}
			o.req.Op = rapid.SampledFrom([]virtioblk.Op{virtioblk.OpRead, virtioblk.OpWrite, virtioblk.OpDiscard,
				virtioblk.OpWriteZeroes, virtioblk.OpFlush}).Draw(rt, "op")
			first := rapid.IntRange(0, area-1).Draw(rt, "first")
			n := rapid.IntRange(1, area-first).Draw(rt, "sectors")
			o.req.Sector = uint64(i*area + first)
			switch o.req.Op {
			case virtioblk.OpRead, virtioblk.OpWrite:
				for n > 0 {
					k := rapid.IntRange(1, n).Draw(rt, "piece")
					m := r.region(k * 512)
					defer r.mem.Free(m)
					o.req.Mem = append(o.req.Mem, m)
					n -= k
					if o.req.Op == virtioblk.OpWrite {
						copy(m.Bytes, pattern(len(m.Bytes), rapid.IntRange(0, 255).Draw(rt, "seed")))
						o.data = append(o.data, m.Bytes...)
					}
				}
			case virtioblk.OpFlush:
				o.req.Sector = 0
			default:
				o.req.Sectors = uint64(n)
			}
			o.req.Done = func(*virtioblk.Request) { o.done++ }
			ops = append(ops, o)
			r.dev.Submit(&o.req)
			if rapid.Bool().Draw(rt, "step") {
				r.disk.StepOne()
			}
		}
		r.steps(synctest.Wait)
		for _, o := range ops {
			if o.done != 1 {
				rt.Fatalf("%v of %d pieces was done %d times", o.req.Op, len(o.req.Mem), o.done)
			}
			n := o.req.Sectors
			for _, m := range o.req.Mem {
				n += uint64(len(m.Bytes)) / 512
			}
			hit := o.req.Sector <= bad && bad < o.req.Sector+n
			if hit != (o.req.Err != nil) || hit && !errors.Is(o.req.Err, virtioblk.ErrIO) {
				rt.Fatalf("%v of %d sectors at %d, bad sector %d: %v", o.req.Op, n, o.req.Sector, bad, o.req.Err)
			}
			apply(rt, model, r.disk.Disk, &o.req, o.data, n)
		}
		if !bytes.Equal(model, r.disk.Disk) {
			rt.Fatal("the disk differs from the model")
		}
	}
}

// apply does to the model what req did; of one that failed, the model takes over
// what the disk has.
func apply(rt *rapid.T, model, disk []byte, req *virtioblk.Request, data []byte, n uint64) {
	at := model[req.Sector*512 : (req.Sector+n)*512]
	if req.Err != nil {
		copy(at, disk[req.Sector*512:])
		return
	}
	switch req.Op {
	case virtioblk.OpWrite:
		copy(at, data)
	case virtioblk.OpRead:
		if got := flat(req.Mem); !bytes.Equal(got, at) {
			rt.Fatalf("read of %d sectors at %d differs from the model", n, req.Sector)
		}
	case virtioblk.OpDiscard:
		for i := range at {
			at[i] = 0xdd
		}
	case virtioblk.OpWriteZeroes:
		clear(at)
	}
}

func flat(mem []dma.Region) (b []byte) {
	for _, m := range mem {
		b = append(b, m.Bytes...)
	}
	return b
}
