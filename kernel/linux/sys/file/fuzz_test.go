package file_test

import (
	"math/rand/v2"
	"testing"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux/sys/file"
)

// Random calls of this topic with random arguments: nothing panics, nothing hangs that
// a signal does not end. A timer interrupts those that wait.
func TestRandomCalls(t *testing.T) {
	calls := 60000
	if testing.Short() {
		calls = 5000
	}
	for seed := range uint64(3) {
		inGuest(t, func(p *ring3.Prog, g *guest) { randomCalls(t, p, g, seed, calls/3) })
	}
}

func randomCalls(t *testing.T, p *ring3.Prog, g *guest, seed uint64, calls int) {
	const alarm, itimer, sigaction, sigpipe, sigxfsz = 14, 38, 13, 13, 25
	r := &run{system: g}
	handler := p.Addr(func(*ring3.Prog) {})
	act := func(sig, h uint64) {
		if _, err := p.Call(sigaction, sig, r.bytes(u64(h, 0x04000000, ring3.Restorer, 0)), 0, 8); err != nil {
			t.Errorf("sigaction: %v", err)
		}
	}
	act(alarm, handler)
	act(sigpipe, 1)
	act(sigxfsz, 1)
	if _, err := p.Call(itimer, 0, r.bytes(u64(0, 2000, 0, 2000)), 0); err != nil {
		t.Errorf("setitimer: %v", err)
	}
	rnd := rand.New(rand.NewPCG(seed, 3))
	names := []uint64{r.str("/t/a"), r.str("/t/b"), r.str("/t"), r.str("/t/d/e"), r.str("/dev/null"), r.str("/dev/console"), r.str("a"), r.str(".."),
		r.str(""), r.str("/"), r.str("/t/fifo"), r.str("user.x"), r.str("tmpfs")}
	arg := func() uint64 {
		switch rnd.IntN(12) {
		case 0:
			return 0
		case 1:
			return ^uint64(0)
		case 2, 3:
			return uint64(rnd.IntN(20)) // a descriptor, a command, a small size
		case 4:
			return g.addr(rnd.IntN(arena))
		case 5:
			return g.addr(arena/2 + rnd.IntN(64)*8)
		case 6, 7:
			return names[rnd.IntN(len(names))]
		case 8:
			return uint64(1) << rnd.IntN(64)
		case 9:
			return uint64(rnd.Uint32())
		case 10:
			return 0xffffff9c
		}
		return rnd.Uint64()
	}
	p.Sys(133, names[10], 0o10644, 0)
	skip := map[uint16]bool{161: true} // chroot: the rest would find nothing
	for i := range calls {
		if i%40 == 0 { // files of all kinds to play with
			p.Sys(436, 0, 1000, 0)
			for range 2 {
				p.Sys(2, names[0], 0o102, 0o644)
				p.Sys(2, names[2], 0, 0)
				p.Sys(2, names[10], 0o2, 0)
				p.Sys(2, names[5], 0o2, 0)
				p.Sys(293, g.addr(arena/2), uint64(rnd.IntN(2)*0o4000))
				p.Sys(290, 1, 0)
				p.Sys(291, 0)
				p.Sys(294, 0)
				p.Sys(319, names[0], 2)
				p.Sys(283, 1, 0)
			}
		}
		e := file.Calls[rnd.IntN(len(file.Calls))]
		if skip[e.Nr] {
			continue
		}
		// What structs are in the arena changes all the time.
		p.Put64(g.addr(arena/2+rnd.IntN(64)*8), arg())
		p.Sys(uint64(e.Nr), arg(), arg(), arg(), arg(), arg(), arg())
	}
}
