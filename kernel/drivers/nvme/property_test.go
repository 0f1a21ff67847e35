package nvme_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"osv/kernel/blk"
	"osv/kernel/drivers/nvme"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakenvme"
)

// Any mix of requests on any shape of controller, completed in any order, some with
// errors, some dropped: what is read is what a plain byte slice says, each request
// is done once, and all memory comes back.
func TestAnyTrafficMatchesModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, func(t *testing.T) { anyTraffic(t, rt) })
	})
}

func anyTraffic(t *testing.T, rt *rapid.T) {
	shift := rapid.SampledFrom([]int{9, 9, 12}).Draw(rt, "shift")
	r := newRig(t, rigOpt{lines: rapid.IntRange(1, 4).Draw(rt, "lines"), shift: shift,
		before: func(d *fakenvme.Device) {
			d.Manual = true
			d.Ctrl[77] = byte(rapid.IntRange(0, 5).Draw(rt, "mdts"))
			d.CSCtrl[1] = byte(rapid.IntRange(0, 4).Draw(rt, "wzsl"))
			d.NoAbort = rapid.Bool().Draw(rt, "no abort")
		},
		cfg: nvme.Config{Depth: rapid.IntRange(2, 20).Draw(rt, "depth"), Timeout: timeout, AdminTimeout: adminTimeout,
			MaxTransfer: 4096 << rapid.IntRange(0, 4).Draw(rt, "transfer")}})
	const perBlock = 8
	disk := r.fake.Spaces[1].Disk
	model := bytes.Clone(disk)
	r.fake.Set(func() { r.fake.Pick = func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") } })
	type op struct {
		req  blk.Request
		data []byte
		n    int // sectors
		done int
	}
	const area = 128 // sectors; each request has one of its own, so that any order will do
	for range rapid.IntRange(1, 3).Draw(rt, "rounds") {
		bad := uint64(rapid.IntRange(0, 3*diskBytes/512).Draw(rt, "bad sector"))
		drop := rapid.IntRange(0, 3).Draw(rt, "drop") == 0
		r.fake.Set(func() {
			r.fake.Judge = ioOnly(func(c fakenvme.Cmd) fakenvme.Verdict {
				at := uint64(c.DW[10]) << (shift - 9)
				n := uint64(c.DW[12]&0xffff+1) << (shift - 9)
				if c.Opcode == 9 { // the range is in memory
					b, _ := r.mem.BytesAt(dma.Addr(c.PRP1), 16)
					at = binary.LittleEndian.Uint64(b[8:]) << (shift - 9)
					n = uint64(binary.LittleEndian.Uint32(b[4:])) << (shift - 9)
				}
				switch {
				case c.Opcode == 0 || at > bad || bad >= at+n:
					return fakenvme.Do
				case drop:
					return fakenvme.Drop
				}
				return fakenvme.Unrecovered
			})
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
					off := 4 * rapid.IntRange(0, 1023).Draw(rt, "offset/4")
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
			if rapid.Bool().Draw(rt, "step") {
				r.fake.Step()
			}
		}
		for range 100 { // long enough for aborts, resets and all
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
			case blk.OpWriteZeroes:
				clear(at)
			}
		}
		if !bytes.Equal(model, disk) {
			rt.Fatal("the disk differs from the model")
		}
	}
}

// Whatever a controller says of itself and answers to commands: no panic, no
// memory outside of what was given, no request without an end.
func FuzzControllerAnswers(f *testing.F) {
	f.Add([]byte{}, []byte{}, []byte{}, uint64(0), uint16(0), uint16(0), uint8(0))
	f.Add(bytes.Repeat([]byte{0xff}, 600), bytes.Repeat([]byte{0xff}, 200), []byte{1, 0, 0, 0}, uint64(1<<37|1), uint16(3), uint16(7), uint8(9))
	f.Add([]byte{77: 1, 516: 1, 520: 12, 525: 1}, []byte{1: 16, 130: 9}, []byte{1, 0, 0, 0, 2}, uint64(1<<37|63), uint16(0), uint16(0), uint8(1))
	f.Fuzz(func(t *testing.T, ctrl, ns, list []byte, caps uint64, cid, status uint16, when uint8) {
		bubble(t, func(t *testing.T) {
			r, err := tryRig(t, rigOpt{lines: 1 + int(when&1), before: func(d *fakenvme.Device) {
				copy(d.Ctrl[:], ctrl)
				copy(d.Spaces[1].Info[:], ns)
				copy(d.CSCtrl[:], list)
				d.CAP = caps | 1
				if len(list) > 0 {
					d.List = nil
					for ; len(list) >= 4 && len(d.List) < 1024; list = list[4:] {
						d.List = append(d.List, binary.LittleEndian.Uint32(list))
					}
				}
				d.VS = uint32(when) << 12
				n := uint8(0)
				d.Judge = func(c fakenvme.Cmd) fakenvme.Verdict {
					if n++; n == when {
						return fakenvme.Verdict(status)
					}
					return fakenvme.Do
				}
			}, cfg: nvme.Config{Timeout: timeout, AdminTimeout: adminTimeout, Depth: 8}})
			if err != nil {
				if n := r.mem.Live(); n != 0 {
					t.Errorf("%d regions leaked after %v", n, err)
				}
				return
			}
			for _, d := range r.c.Disks()[:min(2, len(r.c.Disks()))] {
				if d.Size() < 0 || d.BlockSize() < 512 {
					t.Errorf("size %d, blocks of %d", d.Size(), d.BlockSize())
				}
				p := make([]byte, 3*d.BlockSize())
				d.ReadAt(p, 0)
				d.WriteAt(p, 0)
				d.Flush()
				d.Discard(0, int64(len(p)))
				d.WriteZeroes(0, int64(len(p)))
				r.fake.Post(1, int(status), cid, status)
				d.ReadAt(p, 0)
			}
			r.c.Close()
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
	r, err := tryRig(t, rigOpt{lines: 2})
	if err != nil {
		t.Fatal(err)
	}
	p := &pump{r: r, done: make(chan struct{}, 64)}
	mem := r.region(4096, 4096)
	for i := range p.reqs {
		p.reqs[i] = blk.Request{Op: blk.OpRead, Mem: []dma.Region{mem}, Done: func(*blk.Request) { p.done <- struct{}{} }}
	}
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
	p.r.fake.NoLog = true
	b.ReportAllocs()
	for range b.N {
		p.round()
	}
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	p := newPump(t)
	defer p.r.c.Close()
	p.r.fake.NoLog = true
	if n := testing.AllocsPerRun(100, p.round); n != 0 {
		t.Errorf("%v allocations for %d requests", n, len(p.reqs))
	}
}
