package clock

import (
	"math/big"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"osv/kernel/metal/arch"
)

// set makes the clock one whose TSC has rate hz and was at first when the kernel
// was entered, until the test ends.
func set(t *testing.T, rate, first uint64) {
	t.Helper()
	h, m, s, w, v := hz, mul, start, wallNS, vdsoClockgettimeSym
	t.Cleanup(func() { hz, mul, start, wallNS, vdsoClockgettimeSym = h, m, s, w, v })
	hz, mul, start, wallNS = rate, nsPerTick(rate), first, 0
}

var rates = []uint64{1000000000, 1000000001, 2094951923, 2600000000, 3393624012, 4999999999, 100000000, 24000000}

// ToNS is exact to a part in 2³¹, never fast, and does not run backwards.
func TestToNS(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, rate := range rates {
		set(t, rate, 0)
		for range 2000 {
			ticks := rng.Uint64() >> (2 + rng.IntN(60))
			got := ToNS(ticks)
			x := new(big.Int).Mul(new(big.Int).SetUint64(ticks), big.NewInt(1000000000))
			x.Div(x, new(big.Int).SetUint64(rate))
			if !x.IsUint64() {
				continue // beyond 584 years
			}
			want := x.Uint64()
			if got > want || want-got > want>>(31-3)+1 {
				t.Fatalf("%d Hz: %d ticks are %d ns, want %d", rate, ticks, got, want)
			}
			if ToNS(ticks+1) < got {
				t.Fatalf("%d Hz: time runs backwards at %d ticks", rate, ticks)
			}
		}
	}
}

// A timer set for TSCAt(ns) fires when Now says ns or later, and not a tick later
// than it must: were it early, it would be set again and again until Now catches
// up.
func TestTSCAtIsTheInverseOfToNS(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, rate := range rates {
		const first = 123456789
		set(t, rate, first)
		for range 2000 {
			ns := rng.Int64N(1<<62) >> rng.IntN(62)
			at := TSCAt(ns)
			if ns <= 0 {
				if at != first {
					t.Fatalf("TSCAt(%d) = %d", ns, at)
				}
				continue
			}
			if at == ^uint64(0) {
				if float64(ns)*float64(rate)/1e9 < 0x1p64*0.999 {
					t.Fatalf("%d Hz: TSCAt(%d) saturates", rate, ns)
				}
				continue
			}
			if got := ToNS(at - start); got < uint64(ns) {
				t.Fatalf("%d Hz: at TSCAt(%d) it is %d ns, too early by %d", rate, ns, got, uint64(ns)-got)
			}
			if got := ToNS(at - 1 - start); got >= uint64(ns) {
				t.Fatalf("%d Hz: TSCAt(%d) is late: a tick before it is %d ns", rate, ns, got)
			}
		}
	}
}

func TestTSCAtSaturates(t *testing.T) {
	set(t, 4999999999, 1<<63)
	for _, ns := range []int64{1<<63 - 1, 1 << 62} {
		if at := TSCAt(ns); at != ^uint64(0) {
			t.Errorf("TSCAt(%d) = %#x", ns, at)
		}
	}
	for _, ns := range []int64{0, -1, -1 << 63} {
		if at := TSCAt(ns); at != start {
			t.Errorf("TSCAt(%d) = %#x", ns, at)
		}
	}
	if at := TSCAt(1); at != start+6 { // 5 ticks are 0.9999999998 ns
		t.Errorf("TSCAt(1) = start + %d, want 6 ticks", at-start)
	}
}

// kvmclock states the rate as a factor and a shift (KVM-specific MSRs); the host
// chooses the shift so that the factor fills 32 bits.
func TestKVMHz(t *testing.T) {
	for _, rate := range rates {
		for shift := int8(-4); shift <= 4; shift++ {
			// factor = 1e9 << 32 / rate >> shift
			f := new(big.Int).Lsh(big.NewInt(1000000000), uint(32-shift))
			f.Div(f, new(big.Int).SetUint64(rate))
			if f.BitLen() > 32 || f.BitLen() < 28 {
				continue
			}
			got := kvmHz(f.Uint64(), shift)
			if diff := int64(got) - int64(rate); diff > int64(rate>>26) || -diff > int64(rate>>26) {
				t.Errorf("factor %d, shift %d: %d Hz, want %d", f, shift, got, rate)
			}
		}
	}
}

func TestDaysSinceEpoch(t *testing.T) {
	d := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for d.Year() < 2101 {
		got := daysSinceEpoch(uint64(d.Year()), uint64(d.Month()), uint64(d.Day()))
		if want := uint64(d.Unix() / 86400); got != want {
			t.Fatalf("%s: day %d, want %d", d.Format(time.DateOnly), got, want)
		}
		d = d.AddDate(0, 0, 1)
	}
}

func TestRTCTime(t *testing.T) {
	want := uint64(time.Date(2026, 2, 28, 13, 59, 7, 0, time.UTC).Unix())
	midnight := uint64(time.Date(2099, 12, 31, 0, 0, 60, 0, time.UTC).Unix())
	for name, test := range map[string]struct {
		b, s, m, h, d, mon, y uint64
		want                  uint64
	}{
		"BCD, 24 hours":       {rtc24h, 0x07, 0x59, 0x13, 0x28, 0x02, 0x26, want},
		"binary, 24 hours":    {rtc24h | rtcBinary, 7, 59, 13, 28, 2, 26, want},
		"BCD, 12 hours":       {0, 0x07, 0x59, 0x81, 0x28, 0x02, 0x26, want},
		"binary, 12 hours":    {rtcBinary, 7, 59, 0x81, 28, 2, 26, want},
		"noon":                {0, 0x07, 0x59, 0x92, 0x28, 0x02, 0x26, want - 3600},
		"midnight, 12 hours":  {0, 0x60, 0x00, 0x12, 0x31, 0x12, 0x99, midnight},
		"midnight, leap":      {rtc24h, 0x60, 0x00, 0x00, 0x31, 0x12, 0x99, midnight},
		"all ones":            {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0},
		"no day":              {rtc24h, 0, 0, 0, 0, 1, 0x26, 0},
		"day 32":              {rtc24h, 0, 0, 0, 0x32, 1, 0x26, 0},
		"no month":            {rtc24h, 0, 0, 0, 1, 0, 0x26, 0},
		"month 13":            {rtc24h, 0, 0, 0, 1, 0x13, 0x26, 0},
		"second 61":           {rtc24h, 0x61, 0, 0, 1, 1, 0x26, 0},
		"minute 60":           {rtc24h, 0, 0x60, 0, 1, 1, 0x26, 0},
		"hour 24":             {rtc24h, 0, 0, 0x24, 1, 1, 0x26, 0},
		"year beyond a byte":  {rtc24h | rtcBinary, 0, 0, 0, 1, 1, 100, 0},
		"the chip's midnight": {rtc24h, 0, 0, 0, 1, 1, 0, uint64(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix())},
	} {
		if got := rtcTime(test.b, test.s, test.m, test.h, test.d, test.mon, test.y); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

func TestSourceNames(t *testing.T) {
	seen := map[string]bool{}
	for s := FromNothing; s <= FromPIT; s++ {
		if n := s.String(); n == "" || seen[n] {
			t.Errorf("source %d is called %q", s, n)
		}
		seen[s.String()] = true
	}
}

// measured is this machine's TSC rate, good enough for the tests below.
func measured(t *testing.T) uint64 {
	t.Helper()
	best := uint64(0)
	for range 20 {
		c0, t0 := time.Now(), arch.ReadTSC()
		for time.Since(c0) < time.Millisecond {
		}
		t1, d := arch.ReadTSC(), time.Since(c0)
		best = max(best, (t1-t0)*uint64(time.Second)/uint64(d))
	}
	if best < 1000000 {
		t.Skip("this machine has no TSC to speak of")
	}
	return best
}

func TestNowFollowsTheTSC(t *testing.T) {
	set(t, measured(t), arch.ReadTSC())
	if From() > FromPIT || Hz() != hz {
		t.Errorf("rate %d from %v", Hz(), From())
	}
	a := Now()
	Spin(2000000)
	b := Now()
	if a < 0 || b-a < 2000000 {
		t.Errorf("a spin of 2 ms took %d ns", b-a)
	}
	wallNS = 1 << 60
	if w := Wall() - 1<<60; w < b || w > Now() {
		t.Errorf("wall time is %d ns after the start, now is %d", w, Now())
	}
}

// What time.Now calls in the guest is called here: it splits seconds, adds the
// wall time to the wall clocks only, and agrees with Now.
func TestVDSO(t *testing.T) {
	set(t, measured(t), arch.ReadTSC()-12345678901)
	const wall = 1700000000*1000000000 + 123456789
	wallNS = wall
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var real, mono [5]time.Duration
	before := Now()
	func() {
		InstallVDSO()
		defer func() { vdsoClockgettimeSym = 0 }()
		for i := range real {
			now := time.Now()
			real[i], mono[i] = time.Duration(now.UnixNano()), time.Duration(runtimeNano())
		}
	}()
	after := Now()
	for i := range real {
		r, m := int64(real[i])-wall, int64(mono[i])
		if r < before || r > after || m < r || m > after || i > 0 && r < int64(mono[i-1]) {
			t.Errorf("reading %d: %d ns by the wall clock, %d ns by the other, between %d and %d", i, r, m, before, after)
		}
	}
	var ts syscall.Timespec
	for id, isWall := range map[uintptr]bool{0: true, 5: true, 1: false, 4: false, 7: false, 6: false} {
		before := Now()
		if r := callVDSO(id, uintptr(unsafe.Pointer(&ts))); r != 0 {
			t.Errorf("clock %d: result %d", id, r)
		}
		got := ts.Nano()
		if isWall {
			got -= wall
		}
		if got < before || got > Now() || ts.Nsec < 0 || ts.Nsec >= 1e9 {
			t.Errorf("clock %d: %d.%09d, want about %d ns", id, ts.Sec, ts.Nsec, before)
		}
	}
}

//go:linkname runtimeNano runtime.nanotime
func runtimeNano() int64

// callVDSO calls vdsoGettime by the C calling convention: Go passes its fourth
// and fifth word in DI and SI.
func callVDSO(clock, ts uintptr) uintptr {
	pc := vdsoAddr()
	f := &pc
	return (*(*func(_, _, _, clock, ts uintptr) uintptr)(unsafe.Pointer(&f)))(0, 0, 0, clock, ts)
}
