package linux_test

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"

	"osv/kernel/ktest/ring3"
	"osv/kernel/linux"
	"osv/kernel/linux/abi"
	"osv/kernel/linux/task"
)

// call is a system call as registers have it: number and arguments.
type call [7]uint64

// plan is what loopers play.
type plan struct {
	calls []call
	left  int
	saved abi.Regs
	on    bool
}

// looper is a processor whose program makes the plan's calls, one after the other, at
// the cost of setting registers. Outside of that it is the played one.
type looper struct {
	task.CPU
	plan *plan
}

func (l *looper) CopyFrom(o task.CPU) { l.CPU.CopyFrom(o.(*looper).CPU) }

func (l *looper) Enter(root uint64) task.Reason {
	p := l.plan
	r := l.Regs()
	if p.left == 0 {
		if p.on {
			p.on, *r = false, p.saved
		}
		return l.CPU.Enter(root)
	}
	if !p.on {
		p.on, p.saved = true, *r
	} else if int64(r.RAX) < 0 && int64(r.RAX) > -4096 {
		panic(fmt.Sprintf("call %d: %v", p.calls[(p.left+1)%len(p.calls)][0], syscall.Errno(-int64(r.RAX))))
	}
	p.left--
	c := &p.calls[p.left%len(p.calls)]
	r.RAX, r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9 = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
	return task.Reason{}
}

// BenchmarkCalls is the whole way of system calls but for ring 3 itself: the compiler's
// profile of appliances/linux is made of it. The plans are played backwards.
func BenchmarkCalls(b *testing.B) {
	const mem = buf + 0x400
	for _, c := range []struct {
		name  string
		calls func(p *ring3.Prog) []call
	}{
		{"getpid", func(*ring3.Prog) []call { return []call{{syscall.SYS_GETPID}} }},
		{"clock", func(*ring3.Prog) []call { return []call{{syscall.SYS_CLOCK_GETTIME, abi.CLOCK_MONOTONIC, mem}} }},
		{"sigprocmask", func(*ring3.Prog) []call {
			return []call{{syscall.SYS_RT_SIGPROCMASK, abi.SIG_BLOCK, mem, 0, 8}, {syscall.SYS_RT_SIGPROCMASK, abi.SIG_SETMASK, mem, mem + 8, 8}}
		}},
		{"zero", func(p *ring3.Prog) []call {
			return []call{{syscall.SYS_READ, open(p, "/dev/zero", syscall.O_RDONLY), mem, 1}}
		}},
		{"pipe", func(p *ring3.Prog) []call {
			r, w := pair(p, syscall.SYS_PIPE2, mem, 0)
			return []call{{syscall.SYS_READ, r, mem, 512}, {syscall.SYS_WRITE, w, mem, 512}}
		}},
		{"epoll", func(p *ring3.Prog) []call {
			e, _ := p.Call(syscall.SYS_EVENTFD2, 0, 0)
			ep, _ := p.Call(syscall.SYS_EPOLL_CREATE1, 0)
			p.Write(mem, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, 1), 7))
			p.Sys(syscall.SYS_EPOLL_CTL, ep, 1, e, mem)
			p.Put64(mem+64, 1)
			return []call{{syscall.SYS_READ, e, mem, 8}, {syscall.SYS_EPOLL_WAIT, ep, mem, 8, ^uint64(0)}, {syscall.SYS_WRITE, e, mem + 64, 8}}
		}},
		{"file", func(p *ring3.Prog) []call {
			f := open(p, "/f", syscall.O_RDWR|syscall.O_CREAT)
			return []call{{syscall.SYS_PREAD64, f, mem, 512, 0}, {syscall.SYS_PWRITE64, f, mem, 512, 0}}
		}},
		{"names", func(p *ring3.Prog) []call {
			n := p.String(mem, "/dev/../bin")
			return []call{{syscall.SYS_NEWFSTATAT, 1<<64 - 100, n, mem + 64, 0}, {syscall.SYS_ACCESS, n, 4}}
		}},
		{"futex", func(*ring3.Prog) []call { return []call{{syscall.SYS_FUTEX, mem, 129, 1}} }},
		{"mprotect", func(p *ring3.Prog) []call {
			m, _ := p.Call(syscall.SYS_MMAP, 0, 3*4096, 3, syscall.MAP_PRIVATE|syscall.MAP_ANON, ^uint64(0), 0)
			return []call{{syscall.SYS_MPROTECT, m + 4096, 4096, 3}, {syscall.SYS_MPROTECT, m + 4096, 4096, 1}}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			pl := new(plan)
			g := newGuest(b, func(p *ring3.Prog) {
				pl.calls = c.calls(p)
				b.ResetTimer()
				pl.left = b.N * len(pl.calls)
				p.Sys(syscall.SYS_GETPID)
				b.StopTimer()
				p.Exit(0)
			})
			made := g.cfg.NewCPU
			g.cfg.NewCPU = func() (task.CPU, error) {
				u, err := made()
				return &looper{u, pl}, err
			}
			if status, err := linux.Run(g.cfg); status != 0 || err != nil {
				b.Errorf("status %d, %v; console:\n%s", status, err, g.log.String())
			}
		})
	}
}

func open(p *ring3.Prog, path string, flags uint64) uint64 {
	f, _ := p.Call(syscall.SYS_OPEN, p.String(buf, path), flags, 0o644)
	return f
}

// pair makes two descriptors, which the call writes to addr.
func pair(p *ring3.Prog, nr, addr, flags uint64) (uint64, uint64) {
	p.Sys(nr, addr, flags)
	return uint64(p.Get32(addr)), uint64(p.Get32(addr + 4))
}
