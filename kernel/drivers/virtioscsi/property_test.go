package virtioscsi_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"osv/kernel/blk"
	"osv/kernel/drivers/virtioscsi"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakescsi"
)

// Any mix of requests on any shape of adapter, completed in any order, some with
// errors, some never answered: what is read is what a plain byte slice says, each
// request is done once, and all memory comes back.
func TestAnyTrafficMatchesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func(t *testing.T) { anyTraffic(t, rt) })
	})
}

func anyTraffic(t *testing.T, rt *rapid.T) {
	features := fakedev.SCSIAll
	if rapid.Bool().Draw(rt, "plain ring") {
		features &^= fakedev.FeatureIndirectDesc | fakedev.FeatureEventIdx
	}
	r := newRig(t, rigOpt{features: features, queues: rapid.IntRange(1, 3).Draw(rt, "queues"), lines: rapid.IntRange(0, 4).Draw(rt, "lines"),
		ring:  4 << rapid.IntRange(0, 4).Draw(rt, "ring"),
		front: rapid.SampledFrom([]string{"pci", "pci", "pci-legacy"}).Draw(rt, "front"),
		before: func(r *rig) {
			r.fake.Conf[4] = byte(rapid.IntRange(1, 20).Draw(rt, "seg_max"))
			binary.LittleEndian.PutUint32(r.fake.Conf[8:], uint32(8*rapid.IntRange(0, 8).Draw(rt, "max_sectors/8")))
			r.fake.Conf[12] = byte(rapid.IntRange(0, 40).Draw(rt, "cmd_per_lun"))
		}, cfg: virtioscsi.Config{Queues: 2, MaxSegs: rapid.IntRange(1, 20).Draw(rt, "segments")}})
	model := bytes.Clone(r.unit.Disk)
	bad := uint64(rapid.IntRange(0, 2*diskBytes/512).Draw(rt, "bad sector"))
	kind := rapid.SampledFrom([]fakescsi.Reply{fakescsi.Check(3, 0x1100), {Drop: true}}).Draw(rt, "bad kind")
	r.fake.Set(func() {
		r.fake.Manual = true
		r.fake.Pick = func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") }
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
			r.fake.StepOne()
		}
	}
	for range 60 { // long enough for aborts and all
		r.settle()
		time.Sleep(timeout / 4)
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

// Whatever an adapter says of itself and answers: no panic, no memory outside of
// what was given, no request without an end.
func FuzzAdapterAnswers(f *testing.F) {
	f.Add([]byte{}, uint8(0), uint32(0), uint16(0), uint32(0), []byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 36), uint8(9), uint32(5), uint16(1), uint32(600), bytes.Repeat([]byte{3}, 16))
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0}, uint8(77), uint32(1<<31), uint16(2), uint32(3), []byte{3, 0, 0, 0x80, 1, 0, 0x40, 0, 0, 0, 0, 0, 0x2a, 9})
	f.Fuzz(func(t *testing.T, conf []byte, response uint8, residual uint32, used uint16, length uint32, event []byte) {
		bubble(t, func(t *testing.T) {
			r, err := tryRig(t, rigOpt{lines: 2, before: func(r *rig) {
				copy(r.fake.Conf, conf)
				binary.LittleEndian.PutUint16(r.fake.Conf[30:], uint16(response&7))
			}})
			if err != nil {
				return
			}
			r.fake.Set(func() { r.fake.Response, r.fake.Residual = response, residual })
			if len(event) >= 16 {
				r.fake.Event(binary.LittleEndian.Uint32(event), [8]byte(event[4:]), binary.LittleEndian.Uint32(event[12:]))
			}
			if r.d != nil {
				p := make([]byte, 1024)
				r.d.ReadAt(p, 0)
				r.d.WriteAt(p, 0)
				r.d.Flush()
			}
			r.fake.Set(func() {
				r.fake.Queues[used%3].PushRaw(uint32(used), length)
				r.fake.Queues[used%3].Flush()
			})
			synctest.Wait()
			if r.d != nil {
				r.d.ReadAt(make([]byte, 512), 0)
			}
			if err := r.dev.Close(); err != nil {
				t.Error(err)
			}
			r.fake.Close()
			if n := r.mem.Live(); n != 0 {
				t.Errorf("%d regions leaked", n)
			}
		})
	})
}
