package shim

import (
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/vm"
)

// boot makes a machine of one processor, for all tests: memory, an empty address
// space, a local APIC in memory. Time stands still at 0.
var boot = sync.OnceValue(func() error {
	const ramBytes = 16 << 20
	b, err := syscall.Mmap(-1, 0, ramBytes+4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return err
	}
	at := uintptr(unsafe.Pointer(&b[0]))
	phys.SetBase(at)
	phys.Init(0, ramBytes)
	phys.AddRange(1<<20, ramBytes)
	vm.Init(vm.Image{}, false)
	cpu.SetAPIC(at+ramBytes, false, false)
	sched.InitCPU(cpu.All(0), 0x1d1e)
	return nil
})

// guest is a thread that makes system calls.
type guest struct {
	t  *testing.T
	c  *cpu.CPU
	th *sched.Thread
	at uintptr // memory for arguments
	b  []byte
}

// start makes the calling goroutine the processor, running a new thread.
func start(t *testing.T) *guest {
	t.Helper()
	c := cpu.All(0)
	c.Self, c.Online = uintptr(unsafe.Pointer(c)), 1
	hostcpu.Become(t, c.Self)
	if err := boot(); err != nil {
		t.Fatal(err)
	}
	if !sched.Spawn(0x1000, 0x2000) {
		t.Fatal("no room for a thread")
	}
	sched.Schedule(c)
	g := &guest{t: t, c: c, th: sched.Current(c)}
	g.at, g.b = hostcpu.Arena(t, 16<<10)
	t.Cleanup(func() {
		if c.Gone == 0 && sched.Current(c) == g.th {
			sched.Exit(c)
		}
		sched.Schedule(c)
	})
	return g
}

// call makes a system call and returns its result.
func (g *guest) call(nr uintptr, args ...uintptr) uintptr {
	f := &g.th.Frame
	f.RAX = nr
	for i, p := range []*uintptr{&f.RDI, &f.RSI, &f.RDX, &f.R10, &f.R8, &f.R9} {
		*p = 0
		if i < len(args) {
			*p = args[i]
		}
	}
	Call(g.c)
	return f.RAX
}

// want makes a system call and checks its result; negative ones are errors.
func (g *guest) want(result int, nr uintptr, args ...uintptr) {
	g.t.Helper()
	if got := g.call(nr, args...); int(got) != result {
		g.t.Errorf("system call %d%v: result %d, want %d", nr, args, int(got), result)
	}
}

// printed returns what do printed on the console.
func printed(do func()) string {
	pos := consoleEnd()
	do()
	n, _ := klog.Read(pos, uintptr(unsafe.Pointer(&console[0])), uintptr(len(console)))
	return string(console[:n])
}

var console [1 << 16]byte

// consoleEnd is the position behind all that was printed.
func consoleEnd() (pos uint64) {
	for {
		n, next := klog.Read(pos, uintptr(unsafe.Pointer(&console[0])), uintptr(len(console)))
		if n == 0 {
			return next
		}
		pos = next
	}
}
