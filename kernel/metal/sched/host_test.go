package sched

import (
	"encoding/binary"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/vm"
)

// machine is two processors, a local APIC that remembers what was written, and
// no threads. Time stands still at 0: kernel/metal/clock is not initialised.
type machine struct {
	c    [2]*cpu.CPU
	apic []byte
	t    testing.TB
}

const idleRIP = 0x1d1e

// boot makes what outlives a test: memory, and the second processor.
var boot = sync.OnceValue(func() error {
	const ramBytes = 16 << 20
	b, err := syscall.Mmap(-1, 0, ramBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return err
	}
	phys.SetBase(uintptr(unsafe.Pointer(&b[0])))
	phys.Init(0, ramBytes)
	phys.AddRange(1<<20, ramBytes)
	cpu.Add()
	return nil
})

// fresh makes the calling goroutine processor 0 of a new machine. Both
// processors are idle.
func fresh(t testing.TB) *machine {
	t.Helper()
	self := cpu.All(0)
	self.Self = uintptr(unsafe.Pointer(self))
	hostcpu.Become(t, self.Self)
	if err := boot(); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(nthread) { // four threads share a frame
		if i%4 == 0 {
			phys.Free(table[i+1]-phys.ToVirt(0), 0)
		}
	}
	table, nthread, freeIDs, live = [maxThreads]uintptr{}, 0, none, 0
	sleepers, firstWake = [cpu.Max]uint32{}, [cpu.Max]int64{}
	buckets, tails = [futexHash]uint32{}, [futexHash]uint32{}
	queues, idle = [cpu.Max]runq{}, [cpu.Max]Thread{}
	armed, slice, calm = [cpu.Max]int64{}, [cpu.Max]int64{}, [cpu.Max]int64{}
	left = [cpu.Max]uint64{}
	lines, actions = [256]line{}, [numSignals + 1]Action{}
	poller, eventSet, eventData = none, false, 0
	base, apic := hostcpu.Arena(t, 4096)
	cpu.SetAPIC(base, false, false)
	m := &machine{apic: apic, t: t}
	for i := range m.c {
		c := cpu.All(i)
		*c = cpu.CPU{Self: uintptr(unsafe.Pointer(c)), ID: int32(i), APIC: 10 + uint32(i), Online: 1, SysStack: 0x1000 * uintptr(i+1)}
		m.c[i] = c
		InitCPU(c, idleRIP)
	}
	m.on(0)
	for _, c := range m.c {
		Schedule(c)
	}
	return m
}

// on makes the calling goroutine processor i.
func (m *machine) on(i int) { hostcpu.Become(m.t, m.c[i].Self) }

// ipi returns the APIC ID that the last interrupt went to, and forgets it; 0 if
// there was none.
func (m *machine) ipi() (apic uint32) {
	if binary.LittleEndian.Uint32(m.apic[0x300:]) != 0 { // ICR
		apic = binary.LittleEndian.Uint32(m.apic[0x310:]) >> 24
	}
	clear(m.apic[0x300:0x318])
	return apic
}

// spawn makes a thread and lets processor i run it.
func (m *machine) spawn(i int) *Thread {
	m.t.Helper()
	m.on(i)
	before := Live()
	if !Spawn(0x100, 0x200) {
		m.t.Fatal("no room for a thread")
	}
	if Live() != before+1 {
		m.t.Fatalf("%d threads live, want %d", Live(), before+1)
	}
	Schedule(m.c[i])
	return Current(m.c[i])
}

// wantRunning checks what processor i runs; nil is its idle thread.
func (m *machine) wantRunning(i int, t *Thread) {
	m.t.Helper()
	got := Current(m.c[i])
	if t == nil {
		t = &idle[i]
	}
	if got != t {
		m.t.Errorf("processor %d runs thread %d (idle: %v), want thread %d (idle: %v)", i, got.id, got.idle, t.id, t.idle)
	}
	if want := got.idle; (m.c[i].Idle == 1) != want {
		m.t.Errorf("processor %d runs thread %d and says idle is %d", i, got.id, m.c[i].Idle)
	}
}

// wantState checks a thread's state.
func (m *machine) wantState(t *Thread, s State) {
	m.t.Helper()
	if State(t.state) != s {
		m.t.Errorf("thread %d is in state %d, want %d", t.id, t.state, s)
	}
}

// stack returns memory that vm takes for mapped: n bytes at sp, with the page
// tables made anew.
func (m *machine) stack(n int) (sp uintptr, mem []byte) {
	m.t.Helper()
	sp, mem = hostcpu.Arena(m.t, n)
	if !vm.Init(vm.Image{}, false) {
		m.t.Fatal("no memory for page tables")
	}
	for a := sp; a < sp+uintptr(n); a += 4096 {
		if !vm.Identity(a) {
			m.t.Fatal("no memory for page tables")
		}
	}
	return sp, mem
}

func word(a uintptr) uintptr { return *arch.Ptr(a) }
