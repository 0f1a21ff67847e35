// Package ring3 plays user mode: a processor (task.CPU) whose programs are Go
// functions. A function makes system calls, touches its memory through the space's
// page table, faults, spins until it is kicked, and has signal handlers, which are
// functions too and return through rt_sigreturn as real ones do.
//
// For tests only. A World gives functions addresses; an ELF file whose entry is such
// an address is a program that execve can load. Start reading at World, then CPU.Enter.
package ring3

import (
	"encoding/binary"
	"fmt"
	"sync"
	"syscall"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/abi"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/task"
)

var le = binary.LittleEndian

// XStateSize is the size of the XSAVE image that CPUs have: legacy, header, AVX.
const XStateSize = 832

// Features is XCR0 of it.
const Features = 7

// Func is a program, a thread or a signal handler.
type Func func(p *Prog)

const (
	funcBase = 0x10000000
	siteBase = 0x20000000
	step     = 16
	// Restorer is where handlers return to.
	Restorer = 0x0fff0000
)

// Machine is a fakemm.Machine that knows its tables by their roots, as the processor
// does.
type Machine struct {
	*fakemm.Machine
	mu     sync.Mutex
	tables map[uint64]*fakemm.Table
	roots  uint64
}

// NewTable is of mm.Machine.
func (m *Machine) NewTable() (mm.Table, error) {
	t, err := m.Machine.NewTable()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roots += mm.PageSize
	m.tables[m.roots] = t.(*fakemm.Table)
	return rooted{t, m.roots}, nil
}

// rooted is a table with a root of its own.
type rooted struct {
	mm.Table
	root uint64
}

func (r rooted) Root() uint64 { return r.root }

func (m *Machine) table(root uint64) *fakemm.Table {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tables[root]
}

// World knows functions by address, and has the memory.
type World struct {
	Machine *Machine

	mu    sync.Mutex
	funcs []Func
	sites uint64
	after map[uint64]Func // what a child goes on with that is made at a site
}

// New makes one with so many frames of memory.
func New(frames int) *World {
	m := &Machine{Machine: fakemm.New(frames), tables: map[uint64]*fakemm.Table{}}
	return &World{Machine: m, after: map[uint64]Func{}}
}

// Addr is f's address, a new one at each call.
func (w *World) Addr(f Func) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.funcs = append(w.funcs, f)
	return funcBase + step*uint64(len(w.funcs)-1)
}

func (w *World) at(addr uint64) Func {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := (addr - funcBase) / step; addr >= funcBase && addr%step == 0 && n < uint64(len(w.funcs)) {
		return w.funcs[n]
	}
	return w.after[addr]
}

func (w *World) site() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sites++
	return siteBase + step*w.sites
}

// ELF is a static program that begins with f.
func (w *World) ELF(f Func) []byte {
	b := make([]byte, 4096+256)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], 62)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], w.Addr(f))
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	for n, seg := range [][5]uint64{{5, 0, 0x400000, 4096, 4096}, {6, 4096, 0x402000, 256, 8192}} {
		p := b[64+56*n:]
		le.PutUint32(p, 1)
		le.PutUint32(p[4:], uint32(seg[0]))
		le.PutUint64(p[8:], seg[1])
		le.PutUint64(p[16:], seg[2])
		le.PutUint64(p[32:], seg[3])
		le.PutUint64(p[40:], seg[4])
		le.PutUint64(p[48:], 4096)
	}
	return b
}

// Data is where a program of ELF may write: 8192 bytes.
const Data = 0x402000

// CPU is one thread's processor.
type CPU struct {
	w    *World
	regs abi.Regs
	x    [XStateSize]byte
	kick chan struct{}

	flows []*Prog // functions under way, the innermost last
	table *fakemm.Table
	freed bool
}

// NewCPU is task.Config's.
func (w *World) NewCPU() (task.CPU, error) {
	return &CPU{w: w, kick: make(chan struct{}, 1)}, nil
}

func (c *CPU) Regs() *abi.Regs { return &c.regs }
func (c *CPU) XState() []byte  { return c.x[:] }

// CopyFrom is of task.CPU.
func (c *CPU) CopyFrom(o task.CPU) {
	f := o.(*CPU)
	c.regs, c.x = f.regs, f.x
}

// Kick is of task.CPU.
func (c *CPU) Kick() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Free is of task.CPU: functions under way end.
func (c *CPU) Free() {
	if c.freed {
		panic("ring3: a CPU is freed twice")
	}
	c.freed = true
	for _, f := range c.flows {
		close(f.resume)
	}
	c.flows = nil
}

// Prog is a function under way.
type Prog struct {
	cpu    *CPU
	resume chan struct{}
	yield  chan task.Reason
	site   uint64 // where it waits, 0 while it runs
	again  bool   // the call at site is to be made again
}

// Enter is of task.CPU: what RIP points to goes on.
func (c *CPU) Enter(root uint64) task.Reason {
	c.table = c.w.Machine.table(root)
	select {
	case <-c.kick:
		return task.Reason{Kind: task.Kick}
	default:
	}
	for n := len(c.flows) - 1; n >= 0; n-- {
		f := c.flows[n]
		switch c.regs.RIP {
		case f.site + 2:
		case f.site: // a system call is restarted, an access tried again
			f.again = true
		default:
			continue
		}
		// A handler that was left by a jump is never gone back to.
		for _, gone := range c.flows[n+1:] {
			close(gone.resume)
		}
		c.flows = c.flows[:n+1]
		f.resume <- struct{}{}
		return c.wait(f)
	}
	if c.regs.RIP == Restorer {
		c.regs.RAX, c.regs.RIP = syscall.SYS_RT_SIGRETURN, Restorer+2
		return task.Reason{Kind: task.Syscall}
	}
	fn := c.w.at(c.regs.RIP)
	if fn == nil {
		return task.Reason{Kind: task.Fault, Vector: abi.VectorPF, Err: 0x14, Addr: c.regs.RIP}
	}
	f := &Prog{cpu: c, resume: make(chan struct{}), yield: make(chan task.Reason)}
	c.flows = append(c.flows, f)
	go func() {
		defer func() {
			if r := recover(); r != nil && r != errGone {
				panic(r)
			}
		}()
		fn(f)
		f.ret()
	}()
	return c.wait(f)
}

var errGone = fmt.Errorf("ring3: this thread has ended")

func (c *CPU) wait(f *Prog) task.Reason { return <-f.yield }

// stop leaves user mode for a reason, and comes back when the kernel goes on here.
func (p *Prog) stop(r task.Reason, rip uint64) {
	p.cpu.regs.RIP = rip
	p.yield <- r
	if _, ok := <-p.resume; !ok {
		panic(errGone)
	}
}

// ret is the end of a function: a return to what is on the stack.
func (p *Prog) ret() {
	c := p.cpu
	to := p.Get64(c.regs.RSP)
	if to == 0 {
		panic(fmt.Sprintf("ring3: a function returned to nowhere (rsp %#x): threads end by exit", c.regs.RSP))
	}
	for n, f := range c.flows {
		if f == p {
			c.flows = c.flows[:n]
			break
		}
	}
	c.regs.RSP += 8
	c.regs.RIP = to
	p.yield <- task.Reason{Kind: task.Kick}
}

// Regs are the registers.
func (p *Prog) Regs() *abi.Regs { return &p.cpu.regs }

// XState is the XSAVE image, for the program to change.
func (p *Prog) XState() []byte { return p.cpu.x[:] }

// Addr gives f an address, for handlers and threads.
func (p *Prog) Addr(f Func) uint64 { return p.cpu.w.Addr(f) }

// Sys makes a system call and returns what is in RAX then.
func (p *Prog) Sys(nr uint64, args ...uint64) uint64 { return p.sys(p.cpu.w.site(), nr, args...) }

func (p *Prog) sys(site, nr uint64, args ...uint64) uint64 {
	r := &p.cpu.regs
	r.RAX = nr
	var a [6]uint64
	copy(a[:], args)
	r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	p.site = site
	for {
		p.again = false
		p.stop(task.Reason{Kind: task.Syscall}, site+2)
		if !p.again {
			p.site = 0
			return r.RAX
		}
	}
}

// Call is Sys with the result as Go has it.
func (p *Prog) Call(nr uint64, args ...uint64) (uint64, error) {
	v := p.Sys(nr, args...)
	if int64(v) < 0 && int64(v) > -4096 {
		return 0, syscall.Errno(-int64(v))
	}
	return v, nil
}

// Clone makes a thread or process by clone(2), which goes on with f.
func (p *Prog) Clone(f Func, flags, stack, ptid, ctid, tls uint64) (int, error) {
	site := p.cpu.w.site()
	w := p.cpu.w
	w.mu.Lock()
	w.after[site+2] = f
	w.mu.Unlock()
	v := p.sys(site, syscall.SYS_CLONE, flags, stack, ptid, ctid, tls)
	if int64(v) < 0 {
		return 0, syscall.Errno(-int64(v))
	}
	return int(v), nil
}

// Fault raises an exception: it returns when the kernel goes on at the same place.
func (p *Prog) Fault(vector, err uint32, addr uint64) {
	p.site = p.cpu.w.site()
	p.stop(task.Reason{Kind: task.Fault, Vector: vector, Err: err, Addr: addr}, p.site)
	p.site = 0
}

// Spin runs until somebody kicks the thread.
func (p *Prog) Spin() {
	<-p.cpu.kick
	p.site = p.cpu.w.site()
	p.stop(task.Reason{Kind: task.Kick}, p.site)
	p.site = 0
}

// touch makes one access as an instruction does: it faults until it succeeds.
func (p *Prog) touch(addr uint64, want mm.Prot, b []byte, f func(mem, b []byte)) {
	for len(b) > 0 {
		n := min(len(b), mm.PageSize-int(addr%mm.PageSize))
		for {
			code, ok := p.cpu.table.Touch(addr, want, func(mem []byte) { f(mem, b[:n]) })
			if ok {
				break
			}
			p.Fault(abi.VectorPF, code, addr)
		}
		addr, b = addr+uint64(n), b[n:]
	}
}

// Write stores, Read loads.
func (p *Prog) Write(addr uint64, b []byte) {
	p.touch(addr, mm.ProtWrite, b, func(mem, b []byte) { copy(mem, b) })
}

// Read loads n bytes.
func (p *Prog) Read(addr uint64, n int) []byte {
	b := make([]byte, n)
	p.touch(addr, mm.ProtRead, b, func(mem, b []byte) { copy(b, mem) })
	return b
}

// String stores a string with a zero byte after it, and returns where.
func (p *Prog) String(addr uint64, s string) uint64 {
	p.Write(addr, append([]byte(s), 0))
	return addr
}

// Exit is exit_group(2).
func (p *Prog) Exit(code int) { p.Sys(syscall.SYS_EXIT_GROUP, uint64(code)) }

// Get16 is a number in memory.
func (p *Prog) Get16(addr uint64) uint16 { return binary.LittleEndian.Uint16(p.Read(addr, 2)) }
