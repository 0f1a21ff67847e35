package shim

import (
	"encoding/binary"
	"strings"
	"testing"
	"unsafe"

	"osv/kernel/metal/sched"
	"osv/kernel/metal/vm"
)

const (
	nENOENT = -2
	nESRCH  = -3
	nBADF   = -9
	nAGAIN  = -11
	nNOMEM  = -12
	nINVAL  = -22
	nNOSYS  = -38
)

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// The numbers are those of Linux on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl),
// and the results those that the Go runtime relies on.
func TestSimpleCalls(t *testing.T) {
	g := start(t)
	g.want(1, 39)                 // getpid
	g.want(int(g.th.ID()), 186)   // gettid
	g.want(0, 3, 5)               // close
	g.want(nENOENT, 257, 0, g.at) // openat
	g.want(nNOSYS, 157)           // prctl
	g.want(nNOSYS, 302)           // prlimit64
	g.want(nNOSYS, 27)            // mincore
	g.want(2, 72, 1, 3)           // fcntl(1, F_GETFL): O_RDWR
	g.want(0, 72, 0, 1)           // fcntl(0, F_GETFD)
	g.want(nBADF, 72, 3, 3)
	g.want(0, 158, 0x1002, 0xabc) // arch_prctl(ARCH_SET_FS)
	if g.th.FSBase != 0xabc {
		t.Errorf("FS base is %#x", g.th.FSBase)
	}
	g.want(nINVAL, 158, 0x1001, 1)
	g.want(nINVAL, 204, 0, 7, g.at) // sched_getaffinity with too small a mask
	g.want(8, 204, 0, 1024, g.at)
	if m := le64(g.b); m != 1 {
		t.Errorf("affinity mask is %#x with one processor", m)
	}
	g.want(100, 318, g.at, 100) // getrandom
	if string(g.b[:100]) == string(make([]byte, 100)) || g.b[100] != 0 {
		t.Error("getrandom wrote nothing, or too much")
	}
}

func TestWriteAndRead(t *testing.T) {
	g := start(t)
	copy(g.b, "hello\n")
	out := printed(func() {
		g.want(6, 1, 1, g.at, 6)
		g.want(5, 1, 2, g.at, 5)
	})
	if out != "hello\nhello" {
		t.Errorf("printed %q", out)
	}
	g.want(nBADF, 1, 3, g.at, 6)
	g.want(0, 0, 0, g.at, 6) // the console has no input: end of file
	g.want(nBADF, 0, 1, g.at, 6)
}

// epoll and eventfd, as runtime/netpoll_epoll.go uses them.
func TestPoller(t *testing.T) {
	g := start(t)
	epfd := int(g.call(291, 0x80000))
	evfd := int(g.call(290, 0, 0x80800))
	if epfd < 3 || evfd < 3 || epfd == evfd {
		t.Fatalf("descriptors %d and %d", epfd, evfd)
	}
	binary.LittleEndian.PutUint32(g.b, 1) // EPOLLIN
	binary.LittleEndian.PutUint64(g.b[4:], 0xfeedface12345678)
	g.want(0, 233, uintptr(epfd), 1, uintptr(evfd), g.at)
	g.want(nBADF, 233, uintptr(epfd), 1, 77, g.at)
	g.want(nBADF, 233, uintptr(epfd), 2, uintptr(evfd), 0)
	g.want(nAGAIN, 0, uintptr(evfd), g.at, 8)
	g.want(0, 281, uintptr(epfd), g.at+64, 128, 0) // no event, no time
	g.want(8, 1, uintptr(evfd), g.at, 8)
	g.want(1, 281, uintptr(epfd), g.at+64, 128, ^uintptr(0))
	if e, d := binary.LittleEndian.Uint32(g.b[64:]), le64(g.b[68:]); e != 1 || d != 0xfeedface12345678 {
		t.Errorf("event %#x with data %#x", e, d)
	}
	g.want(nINVAL, 0, uintptr(evfd), g.at, 7)
	g.want(8, 0, uintptr(evfd), g.at+128, 8)
	if v := le64(g.b[128:]); v != 1 {
		t.Errorf("eventfd reads %d", v)
	}
	g.want(0, 232, uintptr(epfd), g.at+64, 128, 0)
}

func TestMemory(t *testing.T) {
	g := start(t)
	const ro, rw, anon, fixed = 0, 3, 0x22, 0x10
	va := g.call(9, 0, 64<<10, ro, anon)
	if int(va) < 0 && int(va) > -4096 || va%4096 != 0 || vm.Fault(va) != vm.NotOurs {
		t.Fatalf("mmap: %#x", va)
	}
	if got := g.call(9, va, 8192, rw, anon|fixed); got != va || vm.Fault(va) != vm.OK || vm.Fault(va+8192) != vm.NotOurs {
		t.Errorf("mmap with MAP_FIXED: %#x", got)
	}
	g.want(nINVAL, 9, 0x1000, 4096, rw, anon|fixed) // not in the heap region
	g.want(nNOMEM, 9, 0, 0, rw, anon)
	g.want(nNOMEM, 9, 0, 1<<60, rw, anon)
	g.want(0, 28, va+32<<10, 4096, 4) // madvise(MADV_DONTNEED)
	g.want(0, 28, va+32<<10, 4096, 8) // MADV_FREE
	g.want(0, 28, va, 4096, 14)       // MADV_HUGEPAGE
	g.want(0, 28, va, 4096, 15)       // MADV_NOHUGEPAGE
	g.want(nINVAL, 28, va, 4096, 25)  // MADV_COLLAPSE: the runtime does without
	g.want(nINVAL, 28, 0x1000, 8192, 4)
	g.want(nINVAL, 11, 0x1000, 4096) // munmap
	g.want(0, 11, va+16<<10, 16<<10)
}

func TestTimespec(t *testing.T) {
	g := start(t)
	for _, test := range []struct{ s, ns, want int64 }{
		{0, 0, 0}, {1, 5, 1000000005}, {-1, 0, 0}, {0, -1, 0}, {1<<62/nsPerSec - 1, 7, (1<<62/nsPerSec-1)*nsPerSec + 7},
		{1<<63 - 1, 999999999, 1<<62/nsPerSec*nsPerSec + 999999999},
	} {
		binary.LittleEndian.PutUint64(g.b, uint64(test.s))
		binary.LittleEndian.PutUint64(g.b[8:], uint64(test.ns))
		if got := timespec(g.at); got != test.want {
			t.Errorf("%d s %d ns is %d, want %d", test.s, test.ns, got, test.want)
		}
	}
}

func TestClocks(t *testing.T) {
	g := start(t)
	for _, id := range []uintptr{0, 1, 5, 7} {
		g.b[0], g.b[8] = 1, 1
		g.want(0, 228, id, g.at)
		if le64(g.b) != 0 || le64(g.b[8:]) != 0 { // time stands still at 0
			t.Errorf("clock %d: %d s %d ns", id, le64(g.b), le64(g.b[8:]))
		}
	}
	for i := range 200 {
		g.b[i] = 0xff
	}
	g.want(0, 98, 0, g.at) // getrusage
	if string(g.b[:144]) != string(make([]byte, 144)) || g.b[144] != 0xff {
		t.Errorf("struct rusage: %x", g.b[:150])
	}
}

func TestFutex(t *testing.T) {
	g := start(t)
	const wait, wake, private = 0, 1, 128
	g.want(nAGAIN, 202, g.at, wait|private, 1)
	g.want(0, 202, g.at, wake|private, 10)
	g.want(nNOSYS, 202, g.at, 9, 10)
	binary.LittleEndian.PutUint64(g.b[16:], 0)
	binary.LittleEndian.PutUint64(g.b[24:], 500)
	g.call(202, g.at, wait|private, 0, g.at+16)
	if g.c.Gone == 0 {
		t.Fatal("the thread does not wait")
	}
	sched.Schedule(g.c)
	if n := sched.FutexWake(g.at, 5); n != 1 || g.th.RAX != 0 {
		t.Errorf("woke %d, result %d", n, int(g.th.RAX))
	}
	sched.Schedule(g.c)
	if sched.Current(g.c) != g.th {
		t.Error("the thread does not run again")
	}
}

func TestSleepAndYield(t *testing.T) {
	g := start(t)
	g.want(0, 24) // sched_yield
	binary.LittleEndian.PutUint64(g.b[8:], 1000)
	g.want(0, 35, g.at, 0) // nanosleep
	if g.c.Gone == 0 {
		t.Error("the thread does not sleep")
	}
	sched.Schedule(g.c)
	if !sched.Kill(g.c, g.th.ID(), 12) { // SIGUSR2 gets it back
		t.Error("no such thread")
	}
	sched.Schedule(g.c)
	if sched.Current(g.c) != g.th || int(g.th.RAX) != -4 { // EINTR
		t.Errorf("result %d", int(g.th.RAX))
	}
}

func TestSignals(t *testing.T) {
	g := start(t)
	g.want(nINVAL, 13, 0, g.at, 0)
	g.want(nINVAL, 13, 65, g.at, 0)
	binary.LittleEndian.PutUint64(g.b, 0x4000)
	g.want(0, 13, 10, g.at, 0)
	g.want(0, 13, 10, 0, g.at+64)
	if le64(g.b[64:]) != 0x4000 {
		t.Errorf("handler is %#x", le64(g.b[64:]))
	}
	const block, unblock, setmask = 0, 1, 2
	mask := func(how int, v uint64, want uint64) {
		t.Helper()
		binary.LittleEndian.PutUint64(g.b, v)
		old := g.th.Mask()
		g.want(0, 14, uintptr(how), g.at, g.at+8, 8)
		if g.th.Mask() != want || le64(g.b[8:]) != old {
			t.Errorf("rt_sigprocmask(%d, %#x): mask %#x, old %#x; want %#x, %#x", how, v, g.th.Mask(), le64(g.b[8:]), want, old)
		}
	}
	mask(setmask, 0xf0, 0xf0)
	mask(block, 0x3, 0xf3)
	mask(unblock, 0x30, 0xc3)
	g.want(0, 14, 99, 0, g.at, 8) // asks only
	g.want(nINVAL, 14, 99, g.at, 0, 8)
	g.th.SetMask(0)

	// sigaltstack: pointer, flags, size.
	g.want(0, 131, 0, g.at)
	if le64(g.b[8:]) != 2 { // SS_DISABLE
		t.Errorf("flags %d without an alternate stack", le64(g.b[8:]))
	}
	binary.LittleEndian.PutUint64(g.b, 0x7000)
	binary.LittleEndian.PutUint64(g.b[8:], 0)
	binary.LittleEndian.PutUint64(g.b[16:], 0x8000)
	g.want(0, 131, g.at, 0)
	g.want(0, 131, 0, g.at+64)
	if le64(g.b[64:]) != 0x7000 || le64(g.b[72:]) != 0 || le64(g.b[80:]) != 0x8000 {
		t.Errorf("alternate stack %x", g.b[64:88])
	}
	binary.LittleEndian.PutUint64(g.b[8:], 2)
	g.want(0, 131, g.at, 0)
	if sp, n := g.th.AltStack(); sp != 0 || n != 0 {
		t.Errorf("alternate stack %#x+%#x after SS_DISABLE", sp, n)
	}

	g.want(nINVAL, 234, 1, uintptr(g.th.ID()), 0)
	g.want(nINVAL, 234, 1, uintptr(g.th.ID()), 65)
	g.want(nESRCH, 234, 1, 4000, 10)
	g.th.SetMask(1 << 9)
	g.want(0, 234, 1, uintptr(g.th.ID()), 10) // tgkill to oneself, blocked
	if sched.SignalPending(g.c) {
		t.Error("a blocked signal is taken")
	}
	g.th.SetMask(0)
	if !sched.SignalPending(g.c) {
		t.Error("the signal is lost")
	}
}

func TestClone(t *testing.T) {
	g := start(t)
	const vm, settls = 0x50f00, 0x80000
	g.th.FSBase = 0x111
	id := g.call(56, vm|settls, 0x9000, 0, 0, 0x222)
	if int(id) <= 0 || uint32(id) == g.th.ID() {
		t.Fatalf("clone: %d", int(id))
	}
	sched.Yield(g.c)
	child := sched.Current(g.c)
	if child.ID() != uint32(id) || child.RAX != 0 || child.RSP != 0x9000 || child.FSBase != 0x222 {
		t.Errorf("child %d: result %d, SP %#x, FS %#x", child.ID(), child.RAX, child.RSP, child.FSBase)
	}
	child.RAX = 60 // exit
	Call(g.c)
	if g.c.Gone == 0 {
		t.Error("exit does not end the thread")
	}
	sched.Schedule(g.c)
}

func TestUnknownCallIsNamedOnce(t *testing.T) {
	g := start(t)
	before := Unknown
	g.th.RIP = 0x1234
	out := printed(func() {
		g.want(nNOSYS, 400)
		g.want(nNOSYS, 400)
		g.want(nNOSYS, 5000) // a private call that there is not: counted
		g.want(nNOSYS, 401)
	})
	if Unknown != before+4 || strings.Count(out, "system call 400 ") != 1 || strings.Count(out, "system call 401 ") != 1 || !strings.Contains(out, "0x1234") || strings.Count(out, "\n") != 2 {
		t.Errorf("%d counted, printed %q", Unknown-before, out)
	}
}

func TestPrivateCalls(t *testing.T) {
	g := start(t)
	g.want(0, CallNop)
	v := g.call(CallIRQAlloc, 0)
	if v < 0x30 || v > 0xef {
		t.Fatalf("vector %#x", v)
	}
	g.want(nINVAL, CallIRQAlloc, 1) // there is one processor
	for _, nr := range []uintptr{CallIRQFree, CallIRQLevel, CallIRQWait, CallIRQRaise} {
		g.want(nINVAL, nr, 0x2f)
		g.want(nINVAL, nr, 0xf0)
	}
	g.want(0, CallIRQRaise, v)
	g.want(0, CallIRQWait, v)
	g.want(0, CallIRQFree, v)

	g.want(0, CallCounts, g.at)
	free := le64(g.b[8:])
	pa := g.call(CallFrames, 3, 2)
	if int(pa) < 0 || pa%8192 != 0 {
		t.Fatalf("frames at %#x", pa)
	}
	g.want(0, CallCounts, g.at)
	if le64(g.b[8:]) != free-3 {
		t.Errorf("%d frames free after taking 3 of %d", le64(g.b[8:]), free)
	}
	g.want(0, CallFreeFrames, pa, 3)
	g.want(0, CallCounts, g.at)
	if le64(g.b[8:]) != free || le64(g.b) < free || le64(g.b[16:]) > free-3 {
		t.Errorf("counts %d of %d, least %d", le64(g.b[8:]), le64(g.b), le64(g.b[16:]))
	}
	g.want(nNOMEM, CallFrames, 1<<30, 1)
	va := g.call(CallMapDevice, 0xfec00000, 4096)
	if pa, ok := vm.Translate(va); !ok || pa != 0xfec00000 {
		t.Errorf("device window at %#x leads to %#x", va, pa)
	}
	g.want(nNOMEM, CallMapDevice, 0xfec00000, 0)
	g.want(nNOMEM, CallMapRAM, 1<<60, 10)
	g.want(0, CallMapRAM, 0x5000, 10)
	g.want(0, CallPowerOff, 3, g.at+100, 7)
	g.want(0, CallPowerOff, 0, 0, 0)
	copy(g.b, "0123456789abcdef")
	g.want(0, CallMix, g.at, 16)
	g.want(0, CallConsole, 1)

	// The caller's thread, then the only processor's idle one.
	if r := g.call(CallThreads, 0, g.at); r != (sched.IdleID+1)<<8|2 || le64(g.b)&0xffffffff != 1 || le64(g.b[unsafe.Sizeof(sched.Info{}):])&0xffffffff != sched.IdleID {
		t.Errorf("threads: %#x, %x", r, g.b[:2*unsafe.Sizeof(sched.Info{})])
	}
}

func TestLogRead(t *testing.T) {
	g := start(t)
	copy(g.b, "to be read back\n")
	pos := consoleEnd()
	g.want(16, 1, 1, g.at, 16)
	binary.LittleEndian.PutUint64(g.b[100:], pos)
	g.want(5, CallLogRead, g.at+100, g.at+200, 5)
	g.want(11, CallLogRead, g.at+100, g.at+205, 1000)
	g.want(0, CallLogRead, g.at+100, g.at+200, 1000)
	if s := string(g.b[200:216]); s != "to be read back\n" || le64(g.b[100:]) != pos+16 {
		t.Errorf("read %q up to %d", s, le64(g.b[100:]))
	}
}

// Power-off by a register in memory; ports are for a guest.
func TestPowerOffWritesMemory(t *testing.T) {
	g := start(t)
	SetPowerOff(3, g.at+10, 0x34, g.at+20, 0x56)
	powerOff()
	if g.b[10] != 0x34 || g.b[20] != 0x56 {
		t.Errorf("registers hold %#x and %#x", g.b[10], g.b[20])
	}
	SetPowerOff(0, g.at+30, 1, 0, 0)
	powerOff()
	if g.b[30] != 0 {
		t.Error("an unknown kind wrote")
	}
}

// Private calls are apart from Linux's numbers, which grow.
func TestPrivateNumbers(t *testing.T) {
	if CallNop != callBase || CallCounts <= CallConsole || callBase < 1024 {
		t.Errorf("private calls go from %d to %d", CallNop, CallCounts)
	}
}
