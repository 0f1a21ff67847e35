// Package clock tells time below the runtime: nanoseconds from the TSC, the
// wall clock at boot, and the function that time.Now calls without a trap.
//
// Spec: Intel SDM vol. 3B (2024-06) §18.17 (TSC), CPUID leaves 0x15 and
// 0x40000010; KVM-specific MSRs (pvclock); Intel 8254 data sheet (PIT);
// Motorola MC146818 (RTC). Who may call it: kernel/metal. It may not allocate
// or lock: after Init all state is read-only. Start reading at Init.
package clock

import (
	"math/bits"
	"unsafe"

	"osv/kernel/metal/arch"
)

// Source says where the TSC's rate was learnt.
type Source uint8

const (
	FromNothing Source = iota // assumed: there was nothing to measure against
	FromKVM
	FromLeaf40000010
	FromLeaf15
	FromPIT
)

// String names the source for the boot message.
func (s Source) String() string {
	switch s {
	case FromKVM:
		return "kvmclock"
	case FromLeaf40000010:
		return "CPUID leaf 0x40000010"
	case FromLeaf15:
		return "CPUID leaf 0x15"
	case FromPIT:
		return "PIT"
	}
	return "nothing: assumed"
}

var (
	hz     uint64 // TSC ticks per second
	mul    uint64 // ns per tick, 32.32 fixed point
	start  uint64 // TSC at Init
	wallNS uint64 // Unix time in ns at start; 0 where there is no clock chip
	source Source
)

const nsPerSec uint64 = 1000000000

// Init learns the TSC's rate and the wall time. firstTSC is the TSC at entry to
// the kernel: the zero of Now.
func Init(firstTSC uint64, imageDelta uintptr) {
	start = firstTSC
	hz, source = fromHypervisor(imageDelta)
	if hz == 0 {
		hz, source = fromCPUID()
	}
	if hz == 0 {
		hz, source = fromPIT()
	}
	if hz == 0 {
		// Nothing to measure against. A plausible rate keeps timers working.
		hz, source = 1000000000, FromNothing
	}
	mul = nsPerTick(hz)
	if s := readRTC(); s != 0 {
		wallNS = s*nsPerSec - uint64(Now())
	}
}

// nsPerTick is the factor of a TSC rate, 32.32 fixed point.
func nsPerTick(hz uint64) uint64 { return nsPerSec << 32 / hz }

// Hz is the rate of the TSC, From how it was learnt.
func Hz() uint64   { return hz }
func From() Source { return source }

// Now is nanoseconds since the kernel was entered.
func Now() int64 { return int64(ToNS(arch.ReadTSC() - start)) }

// Wall is Unix time in nanoseconds.
func Wall() int64 { return int64(wallNS) + Now() }

// Parameters are what Now and Wall compute with: the TSC at entry, ns per tick in
// 32.32 fixed point, and Unix time in ns at entry. They do not change after Init.
func Parameters() (startTSC, nsPerTick, wall uint64) { return start, mul, wallNS }

// ToNS converts a number of ticks.
func ToNS(ticks uint64) uint64 {
	hi, lo := bits.Mul64(ticks, mul)
	return hi<<32 | lo>>32
}

// TSCAt is the first TSC value at which Now is at least ns: the exact inverse of
// ToNS, so that a timer set for it does not fire before its time as Now tells it.
// It saturates.
func TSCAt(ns int64) uint64 {
	if ns <= 0 {
		return start
	}
	// ⌈ns << 32 / mul⌉
	hi, lo := uint64(ns)>>32, uint64(ns)<<32
	lo, carry := bits.Add64(lo, mul-1, 0)
	if hi += carry; hi >= mul {
		return ^uint64(0)
	}
	q, _ := bits.Div64(hi, lo, mul)
	if start+q < q {
		return ^uint64(0)
	}
	return start + q
}

// Spin waits for ns nanoseconds.
func Spin(ns int64) {
	for end := Now() + ns; Now() < end; {
		arch.Pause()
	}
}

// pvti is struct pvclock_vcpu_time_info (KVM-specific MSRs, MSR_KVM_SYSTEM_TIME_NEW).
type pvti struct {
	version uint32 // odd while the host writes
	_       uint32
	tsc     uint64
	system  uint64
	toNS    uint32 // ns per tick, 0.32 fixed point, after shift
	shift   int8
	flags   uint8
	_       [2]byte
	_       [32]byte // keeps the structure inside one page once aligned
}

var kvmTime [2]pvti

// fromHypervisor uses kvmclock's conversion factor, or the timing leaf that
// VMware defined and KVM can offer.
func fromHypervisor(imageDelta uintptr) (uint64, Source) {
	if _, _, ecx, _ := arch.CPUID(1, 0); ecx>>31 == 0 {
		return 0, 0
	}
	maxLeaf, b, c, d := arch.CPUID(0x40000000, 0)
	if maxLeaf >= 0x40000010 {
		if khz, _, _, _ := arch.CPUID(0x40000010, 0); khz != 0 {
			return uint64(khz) * 1000, FromLeaf40000010
		}
	}
	if b != 0x4b4d564b || c != 0x564b4d56 || d != 0x4d { // "KVMKVMKVM"
		return 0, 0
	}
	if features, _, _, _ := arch.CPUID(0x40000001, 0); features&(1<<3) == 0 {
		return 0, 0
	}
	// The structure must not cross a page; one of two neighbours does not.
	p := &kvmTime[0]
	a := uintptr(unsafe.Pointer(p))
	if a&4095 > 4096-unsafe.Sizeof(*p) {
		p = &kvmTime[1]
		a = uintptr(unsafe.Pointer(p))
	}
	// The image is linked at its physical address plus vm.ImageBase.
	arch.WriteMSR(arch.MSRKVMSystemTime, uint64(a&0x7fffffff+imageDelta)|1)
	m, sh := uint64(*arch.U32(uintptr(unsafe.Pointer(&p.toNS)))), p.shift
	arch.WriteMSR(arch.MSRKVMSystemTime, 0)
	if m == 0 {
		return 0, 0
	}
	return kvmHz(m, sh), FromKVM
}

// kvmHz is the rate that kvmclock's factor stands for: ns = ticks<<shift * m >> 32,
// so hz = 1e9<<32 / m >> shift.
func kvmHz(m uint64, shift int8) uint64 {
	q := nsPerSec << 32 / m
	if shift >= 0 {
		return q >> uint(shift)
	}
	return q << uint(-shift)
}

// fromCPUID uses leaf 0x15 where it also states the crystal's rate.
func fromCPUID() (uint64, Source) {
	maxLeaf, _, _, _ := arch.CPUID(0, 0)
	if maxLeaf < 0x15 {
		return 0, 0
	}
	den, num, crystal, _ := arch.CPUID(0x15, 0)
	if den == 0 || num == 0 || crystal == 0 {
		return 0, 0
	}
	return uint64(crystal) * uint64(num) / uint64(den), FromLeaf15
}
