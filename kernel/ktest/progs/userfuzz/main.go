// Command userfuzz runs random code with random registers in ring 3, on all
// processors at once: whatever a program does comes back as a system call, a fault or
// a kick, and the kernel goes on. The seed is the first argument, so that a run can be
// repeated; the second is the number of seconds.
//
//boot:want ^userfuzz: ok
//boot:timeout 120s
//boot:machine q35
//boot:cpus 1,2
//boot:append -- 1 6
package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/hw/gate"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/usermem"
	_ "osv/kernel/metal/boot"
)

const (
	codeAt  = 0x400000
	dataAt  = 0x10000000
	stackAt = 0x7fffff000000
)

// nasty are instructions that a kernel has to be careful with; the rest of the code is
// random bytes.
var nasty = [][]byte{
	{0x0f, 0x05},                                                                                       // SYSCALL
	{0x0f, 0x34},                                                                                       // SYSENTER
	{0x0f, 0x07},                                                                                       // SYSRET
	{0x48, 0x0f, 0x07},                                                                                 // SYSRETQ
	{0x48, 0xcf},                                                                                       // IRETQ
	{0x48, 0xcb},                                                                                       // RETFQ
	{0x48, 0xff, 0x2b},                                                                                 // JMP FAR [RBX]
	{0x48, 0xff, 0x1b},                                                                                 // CALL FAR [RBX]
	{0x9d},                                                                                             // POPFQ
	{0x8e, 0xd0},                                                                                       // MOV SS, AX
	{0x8e, 0xd8},                                                                                       // MOV DS, AX
	{0x8e, 0xe0},                                                                                       // MOV FS, AX
	{0x8e, 0xe8},                                                                                       // MOV GS, AX
	{0xf3, 0x48, 0x0f, 0xae, 0xd0},                                                                     // WRFSBASE RAX
	{0xf3, 0x48, 0x0f, 0xae, 0xd8},                                                                     // WRGSBASE RAX
	{0xf3, 0x48, 0x0f, 0xae, 0xdc},                                                                     // WRGSBASE RSP
	{0x0f, 0x01, 0xf8},                                                                                 // SWAPGS
	{0x0f, 0x01, 0xd1},                                                                                 // XSETBV
	{0x0f, 0x01, 0xd9},                                                                                 // VMMCALL
	{0x0f, 0x01, 0xc1},                                                                                 // VMCALL
	{0x0f, 0x01, 0xcb},                                                                                 // STAC
	{0x0f, 0xae, 0x2b},                                                                                 // XRSTOR [RBX]
	{0x0f, 0xae, 0x23},                                                                                 // XSAVE [RBX]
	{0x0f, 0xae, 0x13},                                                                                 // LDMXCSR [RBX]
	{0x0f, 0xae, 0x0b},                                                                                 // FXRSTOR [RBX]
	{0xd9, 0x2b},                                                                                       // FLDCW [RBX]
	{0xdb, 0xe3},                                                                                       // FNINIT
	{0x0f, 0x77},                                                                                       // EMMS
	{0x0f, 0x22, 0xd8},                                                                                 // MOV CR3, RAX
	{0x0f, 0x23, 0xf8},                                                                                 // MOV DR7, RAX
	{0x0f, 0x30},                                                                                       // WRMSR
	{0x0f, 0x01, 0x13},                                                                                 // LGDT [RBX]
	{0x0f, 0x01, 0x1b},                                                                                 // LIDT [RBX]
	{0x0f, 0x00, 0xd8},                                                                                 // LTR AX
	{0x0f, 0x09},                                                                                       // WBINVD
	{0xcc}, {0xcd, 0x02}, {0xcd, 0x08}, {0xcd, 0x0e}, {0xcd, 0x12}, {0xcd, 0x80}, {0xcd, 0xf0}, {0xf1}, // INT
	{0xfa}, {0xfb}, {0xf4}, {0x6c}, {0xee}, // CLI STI HLT INS OUT
	{0x48, 0x89, 0xc4}, // MOV RSP, RAX
	{0xff, 0xe0},       // JMP RAX
	{0xeb, 0xfe},       // JMP $
}

// odd are numbers at which things change.
var odd = []uint64{0, 1, 7, codeAt, dataAt, stackAt, 1<<47 - 1, 1 << 47, 1<<47 - 2, 1 << 63, ^uint64(0), 0xffff800000000000, 0xffff800000100000,
	0xffffffff80400000, 0xffff900000000000, 0x2b, 0x23, 0x10, 0x08, 0x33, 0x43, 0xfee00000, 0x37f, 0x1f80, 0xffff, 0x250dd5, 0x100, 0x246}

var counts [3]atomic.Int64

func main() {
	args := [2]int{1, 6}
	n := 0
	for _, p := range os.Args[1:] {
		if v, err := strconv.Atoi(p); err == nil && n < len(args) {
			args[n] = v
			n++
		}
	}
	seed, seconds := uint64(args[0]), args[1]
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 4)
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	var wg sync.WaitGroup
	for g := range gate.CPUs() + 1 {
		wg.Go(func() { fuzz(rand.New(rand.NewPCG(seed, uint64(g))), end) })
	}
	wg.Wait()
	for i := range counts {
		if counts[i].Load() == 0 {
			fmt.Printf("userfuzz: never a %v\n", gate.UserKind(i))
			os.Exit(1)
		}
	}
	fmt.Printf("userfuzz: ok: %d system calls, %d faults, %d kicks\n", counts[0].Load(), counts[1].Load(), counts[2].Load())
}

func check(err error) {
	if err != nil {
		fmt.Println("userfuzz:", err)
		os.Exit(1)
	}
}

// fuzz runs programs until end.
func fuzz(r *rand.Rand, end time.Time) {
	m := usermem.New(usermem.Guest{})
	u, err := gate.NewUser()
	check(err)
	for time.Now().Before(end) {
		t, err := m.NewTable()
		check(err)
		page := make([]mm.Frame, 3)
		check(m.Alloc(page, 0, true))
		check(t.Map(codeAt, page[:1], 0, mm.ProtRead|mm.ProtExec))
		check(t.Map(dataAt, page[1:2], 0, mm.ProtRead|mm.ProtWrite))
		check(t.Map(stackAt-4096, page[2:], 0, mm.ProtRead|mm.ProtWrite))
		for range 200 {
			program(r, m, page)
			registers(r, u)
			done := time.AfterFunc(time.Millisecond, u.Kick)
			for range 8 {
				q := u.Enter(t.Root())
				counts[q.Kind].Add(1)
				if q.Kind == gate.UserKick {
					break
				}
				if q.Kind == gate.UserFault { // over the instruction, somehow
					u.Regs().RIP += uint64(1 + r.IntN(8))
				}
			}
			done.Stop()
		}
		check(t.Unmap(0, 1<<47, nil))
		m.Free(page, 0)
		t.Free()
	}
	// A timer may still kick it: it is not freed.
}

func number(r *rand.Rand) uint64 {
	if r.IntN(2) == 0 {
		return odd[r.IntN(len(odd))]
	}
	return r.Uint64() >> r.IntN(64)
}

// program fills the pages.
func program(r *rand.Rand, m *usermem.Machine, page []mm.Frame) {
	c := m.Bytes(page[0], 0)[:256]
	for i := 0; i < len(c); {
		if r.IntN(3) > 0 {
			i += copy(c[i:], nasty[r.IntN(len(nasty))])
		} else {
			c[i] = byte(r.Uint32())
			i++
		}
	}
	// QEMU 7.2's TCG lets IRETD with VM set into virtual-8086 mode, with IOPL 3 if the
	// program likes: there it can switch interrupts off. Processors raise #GP.
	for i := range c {
		if c[i] == 0xcf {
			c[i] = 0x90
		}
	}
	for _, f := range page[1:] {
		b := m.Bytes(f, 0)
		for i := 0; i < len(b); i += 8 {
			binary.LittleEndian.PutUint64(b[i:], number(r))
		}
	}
}

func registers(r *rand.Rand, u *gate.User) {
	g := u.Regs()
	for _, p := range []*uint64{&g.RAX, &g.RBX, &g.RCX, &g.RDX, &g.RSI, &g.RDI, &g.RBP, &g.R8, &g.R9, &g.R10, &g.R11, &g.R12, &g.R13, &g.R14, &g.R15, &g.RFlags, &g.RSP, &g.FSBase, &g.GSBase} {
		*p = number(r)
	}
	g.RIP = codeAt + uint64(r.IntN(64))
	if r.IntN(2) == 0 {
		g.RBX, g.RSP = dataAt+uint64(r.IntN(64))*64, stackAt-512
	}
	if r.IntN(8) == 0 {
		g.RIP = number(r)
	}
	if r.IntN(4) == 0 { // the fast way in
		g.RCX, g.R11 = g.RIP, g.RFlags&0x250dd5|0x202
		g.RFlags = g.R11
	}
	if r.IntN(4) == 0 {
		x := u.XState()
		for range 20 {
			x[r.IntN(len(x))] = byte(r.Uint32())
		}
	}
}
