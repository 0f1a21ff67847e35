package virtioscsi_test

import (
	"testing"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
)

// pump sends writes of one block round after round, 32 deep.
type pump struct {
	r    *rig
	reqs [32]blk.Request
	done chan struct{}
}

func newPump(t testing.TB) *pump {
	r, err := tryRig(t, rigOpt{lines: 2, features: fakedev.SCSIAll &^ fakedev.FeatureIndirectDesc})
	if err != nil {
		t.Fatal(err)
	}
	r.fake.Set(func() { r.fake.Fast = true })
	p := &pump{r: r, done: make(chan struct{}, 64)}
	mem := r.region(8192)
	for i := range p.reqs {
		p.reqs[i] = blk.Request{Op: blk.OpWrite, Mem: []dma.Region{mem.Slice(0, 512), mem.Slice(4096, 512)}, Done: func(*blk.Request) { p.done <- struct{}{} }}
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
	if n := testing.AllocsPerRun(100, p.round); n != 0 {
		t.Errorf("%v allocations for %d requests", n, len(p.reqs))
	}
}
