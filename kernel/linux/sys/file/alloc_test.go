package file_test

import (
	"runtime"
	"testing"

	"osv/kernel/ktest/ring3"
)

// The hot calls allocate no more than getpid does, which the played processor does
// anyway.
func TestHotCallsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	inGuest(t, func(p *ring3.Prog, g *guest) {
		r := &run{system: g}
		const n = 3000
		mallocs := func(f func()) float64 {
			f()
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			for range n {
				f()
			}
			runtime.ReadMemStats(&b)
			return float64(b.Mallocs-a.Mallocs) / n
		}
		sys := func(nr uint64, args ...uint64) func() { return func() { p.Sys(nr, args...) } }
		base := mallocs(sys(39, 1, 2, 3, 4, 5, 6))

		p.Sys(293, g.addr(0), 0)
		pr, pw := uint64(p.Get32(g.addr(0))), uint64(p.Get32(g.addr(4)))
		f, _ := p.Call(2, r.str("/t/f"), 0o102, 0o644)
		p.Sys(1, f, g.addr(4096), 4096)
		e, _ := p.Call(290, 1, 0o4000)
		ep, _ := p.Call(291, 0)
		p.Write(g.addr(64), []byte{1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0})
		p.Sys(233, ep, 1, e, g.addr(64))
		p.Write(g.addr(96), append(le.AppendUint32(nil, uint32(e)), 1, 0, 0, 0))
		p.Put64(g.addr(128), 1)
		p.Put64(g.addr(256), 1<<e)
		iov := r.iov("abc", "defg")
		name := r.str("/t/f")
		for _, c := range []struct {
			name  string
			calls float64
			most  float64 // beyond the played processor's
			f     func()
		}{
			{"pipe", 2, 0, func() { p.Sys(1, pw, g.addr(4096), 512, 0, 0, 0); p.Sys(0, pr, g.addr(4096), 512, 0, 0, 0) }},
			{"writev", 2, 0, func() { p.Sys(20, pw, iov, 2, 0, 0, 0); p.Sys(0, pr, g.addr(4096), 512, 0, 0, 0) }},
			{"pread", 1, 0, func() { p.Sys(17, f, g.addr(4096), 4096, 0, 0, 0) }},
			{"pwrite", 1, 0, func() { p.Sys(18, f, g.addr(4096), 4096, 0, 0, 0) }},
			{"lseek", 1, 0, func() { p.Sys(8, f, 0, 0, 0, 0, 0) }},
			{"eventfd", 2, 0, func() { p.Sys(1, e, g.addr(128), 8, 0, 0, 0); p.Sys(0, e, g.addr(136), 8, 0, 0, 0) }},
			{"epoll_wait", 2, 0, func() { p.Sys(1, e, g.addr(128), 8, 0, 0, 0); p.Sys(232, ep, g.addr(512), 8, ^uint64(0), 0, 0) }},
			{"poll", 1, 0, func() { p.Sys(7, g.addr(96), 1, ^uint64(0), 0, 0, 0) }},
			{"pselect6", 1, 0, func() { p.Sys(270, 10, g.addr(256), 0, 0, 0, 0) }}, // what it finds is what it asked for
			{"fcntl", 1, 0, func() { p.Sys(72, f, 3, 0, 0, 0, 0) }},
			{"fstat", 1, 0, func() { p.Sys(5, f, g.addr(512), 0, 0, 0, 0) }},
			{"stat", 1, 1, func() { p.Sys(4, name, g.addr(512), 0, 0, 0, 0) }}, // the path
		} {
			if m := mallocs(c.f) - c.calls*base; m > c.most+0.1 {
				t.Errorf("%s: %.2f allocations", c.name, m)
			}
		}
	})
}
