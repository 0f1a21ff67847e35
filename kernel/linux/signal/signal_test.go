package signal

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"osv/kernel/linux/abi"
)

func TestSets(t *testing.T) {
	s := Of(syscall.SIGHUP, syscall.SIGKILL)
	if s != 1|1<<8 || !s.Has(1) || s.Has(2) || s.First() != 1 || Set(0).First() != 0 || Bit(0) != 0 || Bit(65) != 0 || Bit(64) != 1<<63 {
		t.Errorf("%#x", s)
	}
	for sig, want := range map[syscall.Signal]Effect{
		syscall.SIGCHLD: Ignore, syscall.SIGURG: Ignore, syscall.SIGWINCH: Ignore, syscall.SIGCONT: Ignore,
		syscall.SIGSTOP: StopAll, syscall.SIGTSTP: StopAll, syscall.SIGTTIN: StopAll,
		syscall.SIGSEGV: Core, syscall.SIGQUIT: Core, syscall.SIGABRT: Core, syscall.SIGXFSZ: Core,
		syscall.SIGTERM: Terminate, syscall.SIGKILL: Terminate, syscall.SIGPIPE: Terminate, 40: Terminate,
	} {
		if got := Default(int(sig)); got != want {
			t.Errorf("%v: %d, want %d", sig, got, want)
		}
	}
}

func TestAction(t *testing.T) {
	a := Action{Handler: 0x1234, Flags: abi.SA_SIGINFO | abi.SA_RESTORER | abi.SA_RESETHAND, Restorer: 0x5678, Mask: Of(syscall.SIGINT)}
	var b [ActionSize]byte
	a.Encode(&b)
	if got := DecodeAction(&b); got != a {
		t.Errorf("%+v, want %+v", got, a)
	}
	le.PutUint64(b[8:], ^uint64(0))
	le.PutUint64(b[24:], ^uint64(0))
	if got := DecodeAction(&b); got.Flags != abi.SA_KNOWN || got.Mask&Unblockable != 0 {
		t.Errorf("%+v", got)
	}
	if (&Action{Handler: abi.SIG_IGN}).Ignores(2) != true || (&Action{}).Ignores(int(syscall.SIGCHLD)) != true || (&Action{}).Ignores(2) || (&Action{Handler: 5}).Ignores(int(syscall.SIGCHLD)) {
		t.Error("Ignores is wrong")
	}
}

// The queue does what a list of signals does of which standard ones are kept once.
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var q Queue
		var model []abi.Siginfo
		sigs := rapid.SampledFrom([]int{1, 8, 11, 15, 34, 35, 64})
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0, 1, 2:
				i := abi.Siginfo{Signo: int32(sigs.Draw(rt, "sig")), Value: rapid.Uint64().Draw(rt, "value")}
				room := rapid.Bool().Draw(rt, "room")
				pending, there := false, false
				for _, m := range model {
					if m.Signo == i.Signo {
						pending = true
						there = there || m.Errno == 0
					}
				}
				want := i.Signo >= abi.SIGRTMIN || !pending
				if got := q.Add(i, room); got != want {
					rt.Fatalf("Add: %v, want %v", got, want)
				}
				if !want {
					break
				}
				if !room {
					// Pending, but nothing is queued; with others queued it is lost.
					if pending {
						break
					}
					i = abi.Siginfo{Signo: i.Signo, Errno: -1}
				} else if pending && !there {
					// The one without info has become this one.
					for n := range model {
						if model[n].Signo == i.Signo {
							model = append(model[:n], model[n+1:]...)
							break
						}
					}
				}
				model = append(model, i)
			case 3:
				allowed := Set(rapid.Uint64().Draw(rt, "allowed"))
				best := -1
				for n, m := range model {
					if !allowed.Has(int(m.Signo)) {
						continue
					}
					rank := func(sig int32) int {
						if Sync.Has(int(sig)) {
							return int(sig)
						}
						return int(sig) + 100
					}
					if best < 0 || rank(m.Signo) < rank(model[best].Signo) {
						best = n
					}
				}
				i, ok := q.Take(allowed)
				if ok != (best >= 0) {
					rt.Fatalf("Take: %v, want %v", ok, best >= 0)
				}
				if ok {
					want := model[best]
					want.Errno = 0
					if i != want {
						rt.Fatalf("Take: %+v, want %+v", i, want)
					}
					model = append(model[:best], model[best+1:]...)
				}
			case 4:
				s := Bit(sigs.Draw(rt, "removed"))
				q.Remove(s)
				var left []abi.Siginfo
				for _, m := range model {
					if !s.Has(int(m.Signo)) {
						left = append(left, m)
					}
				}
				model = left
			}
			var want Set
			for _, m := range model {
				want |= Bit(int(m.Signo))
			}
			if q.Pending() != want {
				rt.Fatalf("pending %#x, want %#x", q.Pending(), want)
			}
		}
	})
}

func TestFind(t *testing.T) {
	var q Queue
	q.Add(abi.Siginfo{Signo: 40, Timer: 1}, true)
	q.Add(abi.Siginfo{Signo: 40, Timer: 2}, true)
	if i := q.Find(40, func(i *abi.Siginfo) bool { return i.Timer == 2 }); i == nil || i.Timer != 2 {
		t.Errorf("%+v", i)
	}
	if i := q.Find(40, func(i *abi.Siginfo) bool { return false }); i != nil || q.Find(41, func(*abi.Siginfo) bool { return true }) != nil || q.Len() != 2 {
		t.Errorf("%+v", i)
	}
}

// memory is a stack from base on.
type memory struct {
	base uint64
	b    []byte
}

func (m *memory) at(addr uint64, n int) ([]byte, error) {
	if addr < m.base || addr-m.base+uint64(n) > uint64(len(m.b)) {
		return nil, syscall.EFAULT
	}
	return m.b[addr-m.base:][:n], nil
}

func (m *memory) CopyIn(p []byte, addr uint64) error {
	b, err := m.at(addr, len(p))
	copy(p, b)
	return err
}

func (m *memory) CopyOut(addr uint64, p []byte) error {
	b, err := m.at(addr, len(p))
	copy(b, p)
	return err
}

const xsize = 832

func newFrame() (*memory, Frame) {
	m := &memory{0x10000, make([]byte, 16384)}
	f := Frame{
		Regs: abi.Regs{RAX: 1, RBX: 2, RCX: 3, RDX: 4, RSI: 5, RDI: 6, RBP: 7, R8: 8, R9: 9, R10: 10, R11: 11, R12: 12, R13: 13,
			R14: 14, R15: 15, RIP: 16, RFlags: abi.FlagCF | abi.FlagIF | 2, RSP: 0x13000, FSBase: 18, GSBase: 19},
		Info: abi.Siginfo{Signo: 11, Code: abi.SEGV_MAPERR, Addr: 0x99}, Mask: Of(syscall.SIGUSR1),
		Err: 6, Trap: 14, CR2: 0x99, Features: 7, XState: make([]byte, xsize),
	}
	InitXState(f.XState)
	le.PutUint32(f.XState[mxcsrMaskAt:], 0xffff)
	le.PutUint64(f.XState[xstateBV:], 7)
	for i := xheaderEnd; i < xsize; i++ {
		f.XState[i] = byte(i)
	}
	return m, f
}

func TestFrame(t *testing.T) {
	m, f := newFrame()
	var scratch [FrameSize]byte
	at, fp, overflow := f.Place(f.Regs.RSP, false)
	if at%16 != 8 || fp%64 != 0 || fp+xsize+4 > f.Regs.RSP-128 || at+FrameSize > fp || overflow {
		t.Fatalf("at %#x, fp %#x, %v", at, fp, overflow)
	}
	if f.Regs.RSP-at > MinStack(xsize)+128 {
		t.Errorf("MinStack %d, needed %d", MinStack(xsize), f.Regs.RSP-128-at)
	}
	if err := f.Write(m, at, fp, 0x4444, scratch[:]); err != nil {
		t.Fatal(err)
	}
	var r abi.Regs
	Enter(&r, 11, 0x8888, at)
	if r.RDI != 11 || r.RIP != 0x8888 || r.RSP != at || r.RSI != at+312 || r.RDX != at+8 {
		t.Errorf("%+v", r)
	}
	if b, _ := m.at(at, 8); le.Uint64(b) != 0x4444 {
		t.Error("the restorer is not where the handler returns to")
	}
	g := Frame{Regs: abi.Regs{FSBase: 18, GSBase: 19, RFlags: abi.FlagIF | 2}, Features: 7}
	x := make([]byte, xsize)
	le.PutUint32(x[mxcsrMaskAt:], 0xffff)
	if err := g.Read(m, at+8, x, scratch[:]); err != nil {
		t.Fatal(err)
	}
	if g.Regs != f.Regs || g.Mask != f.Mask {
		t.Errorf("%+v\n%+v", g.Regs, f.Regs)
	}
	if string(x[:fpSoftware]) != string(f.XState[:fpSoftware]) || string(x[xsaveLegacy:]) != string(f.XState[xsaveLegacy:]) {
		t.Error("the XSAVE image differs")
	}
}

// What a frame may not say, and what it may leave out.
func TestFrameChecks(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *memory, at, fp uint64)
		want   error
		check  func(x []byte) bool
	}{
		"no image":      {func(m *memory, at, fp uint64) { put64(m, at+frameFP, 0) }, nil, func(x []byte) bool { return le.Uint64(x[xstateBV:]) == 0 && le.Uint16(x) == fcwDefault }},
		"no magic":      {func(m *memory, at, fp uint64) { put64(m, fp+fpSoftware, 0) }, nil, func(x []byte) bool { return le.Uint64(x[xstateBV:]) == 3 && x[600] == 0 }},
		"no end":        {func(m *memory, at, fp uint64) { put64(m, fp+xsize, 0) }, nil, func(x []byte) bool { return le.Uint64(x[xstateBV:]) == 3 }},
		"fewer":         {func(m *memory, at, fp uint64) { put64(m, fp+fpSoftware+8, 3) }, nil, func(x []byte) bool { return le.Uint64(x[xstateBV:]) == 3 }},
		"features":      {func(m *memory, at, fp uint64) { put64(m, fp+xstateBV, 1<<9|7); put64(m, fp+fpSoftware+8, ^uint64(0)) }, syscall.EINVAL, nil},
		"compacted":     {func(m *memory, at, fp uint64) { put64(m, fp+xcompBV, 1<<63) }, syscall.EINVAL, nil},
		"reserved":      {func(m *memory, at, fp uint64) { put64(m, fp+xcompBV+16, 1) }, syscall.EINVAL, nil},
		"mxcsr":         {func(m *memory, at, fp uint64) { put64(m, fp+mxcsrAt, 1<<31) }, syscall.EINVAL, nil},
		"image nowhere": {func(m *memory, at, fp uint64) { put64(m, at+frameFP, 0x1000) }, syscall.EFAULT, nil},
		"end nowhere": {func(m *memory, at, fp uint64) {
			put64(m, at+frameFP, m.base+uint64(len(m.b))-xsize)
			copy(m.b[len(m.b)-xsize:], m.b[fp-m.base:fp-m.base+xsize])
		}, syscall.EFAULT, nil},
	} {
		m, f := newFrame()
		var scratch [FrameSize]byte
		at, fp, _ := f.Place(f.Regs.RSP, false)
		if err := f.Write(m, at, fp, 0, scratch[:]); err != nil {
			t.Fatal(err)
		}
		c.change(m, at, fp)
		x := make([]byte, xsize)
		g := Frame{Features: 7}
		err := g.Read(m, at+8, x, scratch[:])
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.check != nil && !c.check(x) {
			t.Errorf("%s: image % x", name, x[500:540])
		}
	}
	m, f := newFrame()
	var scratch [FrameSize]byte
	if err := f.Write(m, 0x1000, 0x1200, 0, scratch[:]); err != syscall.EFAULT {
		t.Error(err)
	}
	if err := f.Write(m, 0x1000, 0x12000, 0, scratch[:]); err != syscall.EFAULT {
		t.Error(err)
	}
	if err := f.Read(m, 0x1000, make([]byte, xsize), scratch[:]); err != syscall.EFAULT {
		t.Error(err)
	}
}

func put64(m *memory, addr, v uint64) {
	b, err := m.at(addr, 8)
	if err != nil {
		panic(err)
	}
	le.PutUint64(b, v)
}

func TestAltStack(t *testing.T) {
	_, f := newFrame()
	f.Stack = Stack{SP: 0x20000, Size: 0x4000}
	at, _, overflow := f.Place(f.Regs.RSP, true)
	if at < 0x20000 || at >= 0x24000 || overflow {
		t.Errorf("at %#x", at)
	}
	// On it already: below the red zone.
	at, fp, _ := f.Place(0x23000, true)
	if fp >= 0x23000-128 || at < 0x20000 {
		t.Errorf("at %#x, fp %#x", at, fp)
	}
	if _, _, overflow := f.Place(0x20100, true); !overflow {
		t.Error("an overflow is not seen")
	}
	f.Stack.Size = 512
	if _, _, overflow := f.Place(f.Regs.RSP, true); !overflow {
		t.Error("a stack that is too small is not seen")
	}
	f.Stack.Flags = abi.SS_DISABLE
	if at, _, _ := f.Place(f.Regs.RSP, true); at > f.Regs.RSP {
		t.Error("a stack that is disabled is used")
	}
	for _, c := range []struct {
		s    Stack
		sp   uint64
		want uint32
	}{
		{Stack{}, 0, abi.SS_DISABLE}, {Stack{SP: 10, Size: 10}, 15, abi.SS_ONSTACK}, {Stack{SP: 10, Size: 10}, 10, 0}, {Stack{SP: 10, Size: 10}, 20, abi.SS_ONSTACK},
		{Stack{SP: 10, Size: 10, Flags: abi.SS_AUTODISARM}, 15, abi.SS_AUTODISARM},
	} {
		var b [StackSize]byte
		c.s.Encode(b[:], c.sp)
		if got := DecodeStack(b[:]).Flags; got != c.want {
			t.Errorf("%+v at %d: flags %#x, want %#x", c.s, c.sp, got, c.want)
		}
	}
}

// Linux tells the frame's size for its processor in AT_MINSIGSTKSZ: ours, for an image
// of that size, is no smaller than what is left after the image, and not much larger.
func TestMinStackLikeLinux(t *testing.T) {
	b, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		t.Skip(err)
	}
	for ; len(b) >= 16; b = b[16:] {
		if le.Uint64(b) == abi.AT_MINSIGSTKSZ {
			const legacy = 832 // at least AVX
			if v := le.Uint64(b[8:]); v < MinStack(legacy)-200 {
				t.Skipf("Linux has %d: a processor without AVX", v)
			}
			return
		}
	}
	t.Skip("no AT_MINSIGSTKSZ")
}

func FuzzRead(f *testing.F) {
	m, fr := newFrame()
	var scratch [FrameSize]byte
	at, fp, _ := fr.Place(fr.Regs.RSP, false)
	if err := fr.Write(m, at, fp, 0, scratch[:]); err != nil {
		f.Fatal(err)
	}
	f.Add(m.b[at-m.base:fr.Regs.RSP-m.base], uint64(8))
	f.Fuzz(func(t *testing.T, b []byte, sp uint64) {
		m := &memory{0x10000, b}
		g := Frame{Features: 7}
		x := make([]byte, xsize)
		if g.Read(m, 0x10000+sp%64, x, make([]byte, FrameSize)) != nil {
			return
		}
		if g.Mask&Unblockable != 0 || le.Uint64(x[xstateBV:])&^7 != 0 || le.Uint64(x[xcompBV:]) != 0 || g.Regs.RFlags&^abi.FlagsUser != 0 {
			t.Errorf("mask %#x, features %#x, flags %#x", g.Mask, le.Uint64(x[xstateBV:]), g.Regs.RFlags)
		}
	})
}

func TestNames(t *testing.T) {
	for sig, want := range map[int]string{1: "SIGHUP", 11: "SIGSEGV", 31: "SIGSYS", 32: "SIGRTMIN", 33: "SIGRT_1", 64: "SIGRT_32", 65: "65", 0: "0"} {
		if got := abi.SignalName(sig); got != want {
			t.Errorf("%d: %s, want %s", sig, got, want)
		}
	}
	if !strings.HasPrefix(abi.SignalName(9), "SIG") {
		t.Error("no name")
	}
}
