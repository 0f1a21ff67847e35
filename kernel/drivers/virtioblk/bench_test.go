package virtioblk_test

import (
	"testing"

	"osv/kernel/drivers/virtioblk"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
)

// One request from Submit to Done through a device that costs nothing, 32 deep.
func BenchmarkSubmit(b *testing.B) {
	const depth = 32
	p := virtioPump(b)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		p.round(depth)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/depth, "ns/request")
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	p := virtioPump(t)
	if n := testing.AllocsPerRun(200, func() { p.round(16) }); n != 0 {
		t.Errorf("%v allocations for 16 requests", n)
	}
}

// pump sends reads of one sector round after round.
type pump struct {
	r    *rig
	reqs [64]virtioblk.Request
	done chan struct{}
}

func virtioPump(t testing.TB) *pump {
	p := &pump{r: newRig(t, rigOpt{features: fakedev.BlkAll &^ fakedev.FeatureIndirectDesc, lines: 2, ring: 256,
		cfg: virtioblk.Config{Ring: 256}}), done: make(chan struct{}, 64)}
	mem := p.r.region(512)
	t.Cleanup(func() { p.r.mem.Free(mem) })
	for i := range p.reqs {
		p.reqs[i] = virtioblk.Request{Op: virtioblk.OpRead, Mem: []dma.Region{mem},
			Done: func(*virtioblk.Request) { p.done <- struct{}{} }}
	}
	p.r.disk.Queues[0].Answer = func(_, status []byte) { status[0] = fakedev.BlkOK }
	return p
}

func (p *pump) round(n int) {
	for i := range n {
		p.r.dev.Submit(&p.reqs[i])
	}
	p.r.disk.Queues[0].Complete(n, 513)
	for range n {
		<-p.done
	}
}
