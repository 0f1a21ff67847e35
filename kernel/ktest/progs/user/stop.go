package main

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/hw/gate"
	"osv/kernel/linux/mm"
)

// runner is a program that runs in a goroutine of its own until it is told to end.
type runner struct {
	u     *gate.User
	s     *space
	kicks atomic.Int64
	stop  atomic.Bool
	done  chan gate.UserReason // the first reason that is no kick, or the last kick
}

func run(s *space, u *gate.User) *runner {
	r := &runner{u: u, s: s, done: make(chan gate.UserReason, 1)}
	go func() {
		for {
			q := u.Enter(s.Root())
			if q.Kind != gate.UserKick || r.stop.Load() {
				r.done <- q
				return
			}
			r.kicks.Add(1)
		}
	}()
	return r
}

func (r *runner) end() gate.UserReason {
	r.stop.Store(true)
	r.u.Kick()
	return <-r.done
}

// spin: a program that never comes back by itself, with GS pointing into the kernel,
// holds up neither the collector nor other goroutines.
func spin() {
	var all []*runner
	for range gate.CPUs() + 1 {
		s := newSpace(code{}.spin(), 0)
		u := thread()
		u.Regs().GSBase = 0xffff800000100000
		all = append(all, run(s, u))
	}
	worst := time.Duration(0)
	for range 5 {
		t0 := time.Now()
		runtime.GC()
		worst = max(worst, time.Since(t0))
		time.Sleep(time.Millisecond)
	}
	fmt.Printf("user: a collection beside spinning programs took up to %d ms\n", worst.Milliseconds())
	if worst > 10*time.Second {
		fail("the collector waited %v", worst)
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + gate.CPUs() + 1)
	var late []time.Duration
	for range 50 {
		t0 := time.Now()
		time.Sleep(time.Millisecond)
		late = append(late, time.Since(t0)-time.Millisecond)
	}
	slices.Sort(late)
	fmt.Printf("user: a sleep beside them ends %d us late, at most %d us; an interrupt takes %d us\n",
		late[25].Microseconds(), late[49].Microseconds(), int(gate.InterruptLatency(50)/1000))
	for _, r := range all {
		want("a spinning program", r.end(), gate.UserReason{Kind: gate.UserKick})
		want("RIP", r.u.Regs().RIP, codeAt)
		want("GS base", r.u.Regs().GSBase, 0xffff800000100000)
		r.u.Free()
		r.s.free()
	}
}

// kick measures how long it takes to get a spinning program back.
func kick() {
	s := newSpace(code{}.spin(), 0)
	u := thread()
	var at atomic.Int64
	took := make(chan time.Duration)
	const n = 50
	go func() {
		for range n {
			for at.Load() == 0 {
				u.Enter(s.Root())
			}
			took <- time.Duration(time.Now().UnixNano() - at.Swap(0))
		}
	}()
	var all []time.Duration
	for range n {
		time.Sleep(200 * time.Microsecond)
		at.Store(time.Now().UnixNano())
		u.Kick()
		all = append(all, <-took)
	}
	slices.Sort(all)
	fmt.Printf("user: a kick takes %d us, at most %d us\n", all[n/2].Microseconds(), all[n-1].Microseconds())
	u.Free()
	s.free()
}

// sticky: a kick that comes while the program is not inside is not lost, and a system
// call does not eat it.
func sticky() {
	s := newSpace(code{}.movEAX(7).syscall().jmp(0), 0)
	u := thread()
	for range 100 {
		u.Kick()
		u.Kick()
		rip := u.Regs().RIP
		want("after a kick", u.Enter(s.Root()).Kind, gate.UserKick)
		want("RIP", u.Regs().RIP, rip)
		want("after that", enter(u, s).Kind, gate.UserSyscall)
	}
	u.Free()
	s.free()
}

// copies: fork in small. Two programs go on from one state, apart from each other.
func copies() {
	xcr0, _ := gate.UserXFeatures()
	s := newSpace(counter(xcr0&4 != 0, 0), 1)
	a, b := thread(), thread()
	a.Regs().FSBase, a.Regs().GSBase = dataAt, dataAt
	for range 10 {
		enter(a, s)
	}
	b.CopyFrom(a)
	want("registers", *b.Regs(), *a.Regs())
	want("FPU", string(b.XState()), string(a.XState()))
	for range 5 {
		enter(a, s)
		enter(b, s)
	}
	want("x87", extended(a.XState()[xST0:]), 15)
	want("x87 of the copy", extended(b.XState()[xST0:]), 15)
	want("RBX of the copy", b.Regs().RBX, 15)
	want("memory of both", binary.LittleEndian.Uint64(machine.Bytes(s.data[0], 0)), 20)
	a.Free()
	b.Free()
	s.free()
}

// dirty bits are set by the program's stores, and again after a harvest.
func dirty() {
	s := newSpace(code{}.movRBX(dataAt+4096).storeRBX().syscall().jmp(0), 3)
	u := thread()
	for range 50 {
		enter(u, s)
		var got []uint64
		check(s.Harvest(dataAt, dataAt+3*4096, func(va uint64, e mm.PTE) { got = append(got, va) }))
		want("dirty pages", fmt.Sprint(got), fmt.Sprint([]uint64{dataAt + 4096}))
	}
	u.Free()
	s.free()
}

// shootdown: a page that is unmapped, replaced or protected is so for a program that
// is running, on any processor.
func shootdown() {
	s := newSpace(code{}.raw(0x48, 0xff, 0xc0).storeRBX().loadRBX().jmp(0), 0) // INC RAX; MOV [RBX], RAX; MOV RAX, [RBX]
	u := thread()
	fr := make([]mm.Frame, 2)
	check(machine.Alloc(fr, 0, true))
	for i := range 90 {
		u.Regs().RBX = dataAt
		check(s.Map(dataAt, fr[:1], 0, rw))
		r := run(s, u)
		b := machine.Bytes(fr[0], 0)
		for binary.LittleEndian.Uint64(b) == 0 {
			runtime.Gosched()
		}
		switch i % 3 {
		case 0: // gone
			check(s.Unmap(dataAt, dataAt+4096, nil))
		case 1: // replaced at once: the old frame must not change any more
			check(s.Unmap(dataAt, dataAt+4096, nil))
			check(s.Map(dataAt, fr[1:], 0, rw))
		case 2:
			check(s.Protect(dataAt, dataAt+4096, mm.ProtRead))
		}
		was := binary.LittleEndian.Uint64(b)
		for range 20 {
			runtime.Gosched()
		}
		want("a page that is not the program's any more", binary.LittleEndian.Uint64(b), was)
		if i%3 == 1 {
			r.end()
			check(s.Unmap(dataAt, dataAt+4096, nil))
			clear(machine.Bytes(fr[1], 0))
		} else if q := <-r.done; q.Kind != gate.UserFault || q.Vector != 14 || q.Addr != dataAt {
			fail("after the change: %+v", q)
		}
		u.Regs().RIP = codeAt
		u.Regs().RAX = 0
		check(s.Unmap(dataAt, dataAt+4096, nil))
		clear(b)
	}
	machine.Free(fr, 0)
	u.Free()
	s.free()
}

// upperHalf: what the kernel maps after a table was made is seen on it. A new entry
// of the top table is needed once the Go heap region passes 512 GiB.
func upperHalf() {
	s := newSpace(code{}.syscall().jmp(0), 0)
	u := thread()
	enter(u, s) // this processor is on the table from now on
	b, err := gate.MapAnonymous(600 << 30)
	check(err)
	for i := range 3 {
		enter(u, s)
		b[i*250<<30] = 1
	}
	check(gate.Unmap(b))
	u.Free()
	s.free()
}

// storm: programs that come and go, with tables of their own, kicked at any time.
func storm() {
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 40 {
				s := newSpace(code{}.movEAX(1).pause(uint32(g*i*100+1)).syscall().jmp(0), 2)
				u := thread()
				kicked := make(chan struct{})
				go func() {
					for range 3 {
						u.Kick()
						runtime.Gosched()
					}
					close(kicked)
				}()
				n, err := s.MapZero(1<<30, uint64(g+1)<<20, rw, true)
				check(err)
				want("bytes mapped", n, uint64(g+1)<<20)
				for range 5 {
					want("a program in the storm", enter(u, s).Kind, gate.UserSyscall)
				}
				<-kicked
				u.Free()
				s.free()
			}
		})
	}
	wg.Wait()
}

// leaks: programs that come and go leave no memory behind. What the Go heap holds
// differs from one time to the next, but does not grow each time.
func leaks() {
	storm()
	settled := func() uint64 {
		runtime.GC()
		debug.FreeOSMemory()
		return machine.FreeBytes()
	}
	lost := uint64(0)
	for range 4 {
		before := settled()
		storm()
		after := settled()
		if after+1<<20 >= before {
			return
		}
		lost = before - after
	}
	fail("%d bytes of memory are lost in each storm", lost)
}
