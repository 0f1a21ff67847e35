package cpu

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
)

// The entry code in kernel/metal/trap knows these offsets, kernel/hw/gate the order
// of the registers.
func TestUserLayout(t *testing.T) {
	var u User
	for name, got := range map[string][2]uintptr{
		"RAX": {unsafe.Offsetof(u.RAX), 0}, "RBX": {unsafe.Offsetof(u.RBX), 8}, "RCX": {unsafe.Offsetof(u.RCX), 16}, "RDX": {unsafe.Offsetof(u.RDX), 24},
		"RSI": {unsafe.Offsetof(u.RSI), 32}, "RDI": {unsafe.Offsetof(u.RDI), 40}, "RBP": {unsafe.Offsetof(u.RBP), 48}, "R8": {unsafe.Offsetof(u.R8), 56},
		"R15": {unsafe.Offsetof(u.R15), 112}, "RIP": {unsafe.Offsetof(u.RIP), 120}, "RFlags": {unsafe.Offsetof(u.RFlags), 128}, "RSP": {unsafe.Offsetof(u.RSP), 136},
		"FSBase": {unsafe.Offsetof(u.FSBase), 144}, "GSBase": {unsafe.Offsetof(u.GSBase), 152}, "Root": {unsafe.Offsetof(u.Root), 160}, "Kind": {unsafe.Offsetof(u.Kind), 168},
		"Vector": {unsafe.Offsetof(u.Vector), 172}, "Err": {unsafe.Offsetof(u.Err), 176}, "MXCSR": {unsafe.Offsetof(u.MXCSR), 180},
		"CPU": {unsafe.Offsetof(u.CPU), 192}, "Kick": {unsafe.Offsetof(u.Kick), 196}, "X": {unsafe.Offsetof(u.X), 512}, "size": {unsafe.Sizeof(u), 4096},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is at %d, want %d", name, got[0], got[1])
		}
	}
}

// programs makes n Users in memory, as metal does.
func programs(t testing.TB, n int) []*User {
	at, _ := hostcpu.Arena(t, n*4096)
	var out []*User
	for i := range n {
		u := (*User)(unsafe.Pointer(at + uintptr(i)*4096))
		InitUser(u)
		out = append(out, u)
	}
	return out
}

// A processor that has everything on: what PrepareUser would do in ring 0 only is
// done.
func ready(c *CPU) {
	UserFeatures()
	c.xcr0, c.FPOwner, c.CR3, c.Online = features, 0, 0, 1
}

func fcw(u *User) uint16   { return binary.LittleEndian.Uint16(u.X[xFCW:]) }
func mxcsr(u *User) uint32 { return binary.LittleEndian.Uint32(u.X[xMXCSR:]) }

// The x87 control word, which stands for all of x87, follows its owner; XMM and MXCSR
// in the image are left to the entry code.
func TestFPOwner(t *testing.T) {
	for _, noXSave := range []bool{false, true} {
		c := become(t, 0)
		ready(c)
		keep := features
		if noXSave {
			features, c.xcr0 = 0, 0
		}
		us := programs(t, 2)
		a, b := us[0], us[1]
		if fcw(a) != 0x37f || mxcsr(a) != 0x1f80 || a.FPCPU != -1 || a.CPU != -1 || a.RFlags != 0x202 {
			t.Errorf("a new program: %#x %#x %d %d %#x", fcw(a), mxcsr(a), a.FPCPU, a.CPU, a.RFlags)
		}
		binary.LittleEndian.PutUint16(a.X[xFCW:], 0x27f)
		binary.LittleEndian.PutUint32(a.X[xMXCSR:], 0x7fffff80) // with bits that would fault
		a.X[xXMM] = 0x55
		a.X[xHeader] |= compX87
		PrepareUser(c, a)
		if a.MXCSR != 0xff80 || c.FPOwner != uintptr(unsafe.Pointer(a)) || a.FPCPU != 0 {
			t.Errorf("owner %#x, MXCSR %#x", c.FPOwner, a.MXCSR)
		}
		a.MXCSR = 0x3f80 // as the entry code leaves it
		binary.LittleEndian.PutUint16(a.X[xFCW:], 0)
		PrepareUser(c, b)
		if fcw(a) != 0x27f || mxcsr(a) != 0x3f80 || a.X[xXMM] != 0x55 || a.FPCPU != -1 || b.FPCPU != 0 {
			t.Errorf("image of the first: FCW %#x, MXCSR %#x, XMM0 %#x, on %d", fcw(a), mxcsr(a), a.X[xXMM], a.FPCPU)
		}
		PrepareUser(c, a)
		TakeFP(c, a)
		TakeFP(c, a) // nothing left to take
		if fcw(a) != 0x27f || fcw(b) != 0x37f || c.FPOwner != 0 {
			t.Errorf("FCW %#x and %#x, owner %#x", fcw(a), fcw(b), c.FPOwner)
		}
		features = keep
	}
}

// An image that says that XMM is as after reset has it so, and one with a header that
// XRSTOR refuses is put right.
func TestHeaderIsPutRight(t *testing.T) {
	c := become(t, 0)
	ready(c)
	if features == 0 {
		t.Skip("no XSAVE here")
	}
	u := programs(t, 1)[0]
	for i := xXMM; i < xXMM+256; i++ {
		u.X[i] = 0xaa
	}
	for i := xHeader; i < xHeader+64; i++ {
		u.X[i] = 0xff
	}
	u.X[xHeader] &^= compSSE
	PrepareUser(c, u) // would fault
	TakeFP(c, u)
	for i := xXMM; i < xXMM+256; i++ {
		if u.X[i] != 0 {
			t.Fatalf("XMM at %d is %#x", i, u.X[i])
		}
	}
	if bv := binary.LittleEndian.Uint64(u.X[xHeader:]); bv&^features != 0 || bv&compSSE == 0 {
		t.Errorf("XSTATE_BV %#x", bv)
	}
}

// Another processor gives up what it has when it is asked, and answers requests that
// do not concern it.
func TestAskAnotherProcessor(t *testing.T) {
	f := newFakeAPIC(t)
	keep := count
	count = 2
	defer func() { count = keep }()
	us := programs(t, 1)
	u := us[0]
	var stop atomic.Bool
	up, down := make(chan bool), make(chan bool)
	go func() {
		c := become(t, 1)
		ready(c)
		c.APIC = 5
		PrepareUser(c, u)
		c.CR3 = 0x7000
		close(up)
		for !stop.Load() {
			PollTLB()
		}
		close(down)
	}()
	<-up
	me := become(t, 0)
	ready(me)
	before := me.Stats.Shootdowns
	TakeFP(me, u)
	if u.FPCPU != -1 || All(1).FPOwner != 0 || fcw(u) != 0x37f {
		t.Errorf("on %d, owner there %#x, FCW %#x", u.FPCPU, All(1).FPOwner, fcw(u))
	}
	f.want(t, apicICRHigh, 5<<24)
	f.want(t, apicICRLow, 0x4000|VectorIPI)
	if me.Stats.Shootdowns != before+1 {
		t.Error("the request was not counted")
	}
	// Nobody uses this root: no interrupt. (Ring 3 cannot reload CR3 or flush, so what
	// follows a request for a root in use is for the boot tests.)
	list := [1]uintptr{0x1000}
	FlushPages(me, 0x9000, uintptr(unsafe.Pointer(&list)), 1)
	RetireRoot(me, 0x9000)
	if me.Stats.Shootdowns != before+1 {
		t.Error("a root that nobody uses is flushed elsewhere")
	}
	for _, lazy := range []bool{false, true} {
		if m := users(me, 0x7000, lazy); m != 1<<1 {
			t.Errorf("users of the root: %#x", m)
		}
	}
	// One that idles is not woken for a flush, but for the end of the root.
	for _, r := range []uintptr{0x7000 | rootLazy, 0x7000 | rootBits} {
		atomic.StoreUintptr(&All(1).CR3, r)
		if m := users(me, 0x7000, false); m != 0 || All(1).CR3 != 0x7000|rootBits {
			t.Errorf("CR3 word %#x: users %#x, word %#x", r, m, All(1).CR3)
		}
		if m := users(me, 0x7000, true); m != 1<<1 {
			t.Errorf("CR3 word %#x: users %#x", r, m)
		}
	}
	stop.Store(true)
	<-down
	All(1).CR3 = 0
}

// A processor that rests gives up the registers, and comes back to its root without
// loading it unless there was a flush.
func TestRest(t *testing.T) {
	c := become(t, 0)
	ready(c)
	u := programs(t, 1)[0]
	PrepareUser(c, u)
	c.CR3, u.Root = 0x7000, 0x7000
	Rest(c)
	if c.CR3 != 0x7000 || c.FPOwner == 0 {
		t.Error("the only processor rests")
	}
	keep := count
	count = 2
	defer func() { count, c.CR3 = keep, 0 }()
	Rest(c)
	Rest(c)
	if c.CR3 != 0x7000|rootLazy || c.FPOwner != 0 || u.FPCPU != -1 {
		t.Errorf("CR3 word %#x, owner %#x, on %d", c.CR3, c.FPOwner, u.FPCPU)
	}
	PrepareUser(c, u) // a load of CR3 would fault here
	if c.CR3 != 0x7000 {
		t.Errorf("CR3 word %#x", c.CR3)
	}
	c.CR3 = KernelRoot
	Rest(c)
	if c.CR3 != KernelRoot {
		t.Errorf("CR3 word %#x", c.CR3)
	}
}

func TestServeWithoutPrivilege(t *testing.T) {
	c := become(t, 0)
	ready(c)
	request.kind, request.arg, request.n = reqFlush, 0x5000, 1
	for _, kind := range []uint32{reqFlush, reqLeaveRoot, reqDropFP} {
		request.kind = kind
		atomic.StoreUint64(&request.todo, 1|1<<9)
		serve(c)
		if request.todo != 1<<9 {
			t.Errorf("request %d: left %#x", kind, request.todo)
		}
	}
	request.todo = 0
}

// A segment's limit tells the processor's number: SDM vol. 2, LSL; bytes, DPL 3.
func TestNumberDescriptor(t *testing.T) {
	d := uint64(0x0040f10000000000) | 7
	if limit := d&0xffff | d>>48&0xf<<16; limit != 7 || d>>55&1 != 0 || d>>45&3 != 3 || d>>47&1 != 1 {
		t.Errorf("descriptor %#x: limit %d", d, limit)
	}
	if SelNumber>>3 >= uint(len((&CPU{}).gdt)) {
		t.Error("the selector is outside of the table")
	}
}
