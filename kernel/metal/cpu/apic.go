package cpu

import (
	"osv/kernel/metal/arch"
)

// Interrupt vectors. Devices get those in between (kernel/metal/sched, irq.go).
const (
	VectorFirstDevice = 0x30
	VectorLastDevice  = 0xef
	VectorTimer       = 0xf0
	VectorIPI         = 0xf1
	VectorSpurious    = 0xff
)

// Local APIC registers: offsets in the xAPIC page (SDM vol. 3A table 11-1); the
// x2APIC's MSR is MSRX2APICBase + offset/16 (§11.12.1.2).
const (
	apicID        = 0x020
	apicEOI       = 0x0b0
	apicSVR       = 0x0f0
	apicICRLow    = 0x300
	apicICRHigh   = 0x310
	apicLVTTimer  = 0x320
	apicLVTLINT0  = 0x350
	apicLVTLINT1  = 0x360
	apicLVTError  = 0x370
	apicTimerInit = 0x380
	apicTimerCur  = 0x390
	apicTimerDiv  = 0x3e0

	lvtMasked   = 1 << 16
	lvtNMI      = 4 << 8
	lvtDeadline = 2 << 17
	svrEnable   = 1 << 8
	divideBy1   = 0xb

	icrPending = 1 << 12
	ICRInit    = 0x4500 // assert, INIT
	ICRStartup = 0x4600 // assert, STARTUP; the low byte is the page
	icrFixed   = 0x4000
	icrSelf    = 1<<18 | icrFixed // shorthand: this processor

	// APICPhys is where the xAPIC page is at reset (§11.4.1).
	APICPhys = 0xfee00000
)

var (
	apicBase    uintptr // virtual address of the xAPIC page
	x2apic      bool
	deadline    bool   // TSC-deadline timer
	timerMul    uint64 // APIC timer ticks per TSC tick, 32.32 fixed point
	timerMaxTSC uint64
)

// SetAPIC says where the xAPIC page is mapped and which features CPUID offers.
func SetAPIC(base uintptr, haveX2, haveDeadline bool) {
	apicBase, x2apic, deadline = base, haveX2, haveDeadline
}

func apicRead(reg uintptr) uint32 {
	if x2apic {
		return uint32(arch.ReadMSR(arch.MSRX2APICBase + uint32(reg>>4)))
	}
	return *arch.U32(apicBase + reg)
}

func apicWrite(reg uintptr, v uint32) {
	if x2apic {
		arch.WriteMSR(arch.MSRX2APICBase+uint32(reg>>4), uint64(v))
		return
	}
	*arch.U32(apicBase + reg) = v
}

// EnableAPIC turns this processor's local APIC on, its timer masked.
func EnableAPIC() {
	if x2apic {
		arch.WriteMSR(arch.MSRAPICBase, arch.ReadMSR(arch.MSRAPICBase)|3<<10)
	}
	apicWrite(apicSVR, svrEnable|VectorSpurious)
	apicWrite(apicLVTLINT0, lvtMasked)
	apicWrite(apicLVTLINT1, lvtNMI)
	apicWrite(apicLVTError, lvtMasked)
	apicWrite(apicTimerDiv, divideBy1)
	if deadline {
		apicWrite(apicLVTTimer, VectorTimer|lvtDeadline)
	} else {
		apicWrite(apicLVTTimer, VectorTimer)
		apicWrite(apicTimerInit, 0)
	}
}

// APICID is this processor's local APIC ID.
func APICID() uint32 {
	if x2apic {
		return apicRead(apicID)
	}
	return apicRead(apicID) >> 24
}

// EOI ends the interrupt in service.
func EOI() { apicWrite(apicEOI, 0) }

// SendICR sends an interrupt command to the processor with the given APIC ID
// and waits until the bus has taken it.
func SendICR(apic uint32, cmd uint32) {
	if x2apic {
		arch.WriteMSR(arch.MSRX2APICBase+apicICRLow>>4, uint64(apic)<<32|uint64(cmd))
		return
	}
	apicWrite(apicICRHigh, apic<<24)
	apicWrite(apicICRLow, cmd)
	for apicRead(apicICRLow)&icrPending != 0 {
		arch.Pause()
	}
}

// SendIPI raises vector on c.
func SendIPI(c *CPU, vector uint32) {
	Current().Stats.IPIs++
	SendICR(c.APIC, icrFixed|vector)
}

// SendSelf raises vector on this processor. Unlike SendIPI it leaves the upper half
// of the command register alone, so that an NMI may use it in the middle of one.
func SendSelf(vector uint32) {
	if x2apic {
		SendICR(0, icrSelf|vector)
		return
	}
	apicWrite(apicICRLow, icrSelf|vector)
}

// CalibrateTimer learns the rate of the one-shot timer against the TSC: the
// caller spins for a known number of TSC ticks between Start and Stop.
func CalibrateTimerStart() {
	apicWrite(apicLVTTimer, lvtMasked|VectorTimer)
	apicWrite(apicTimerInit, ^uint32(0))
}

// CalibrateTimerStop ends the measurement that lasted tsc ticks.
func CalibrateTimerStop(tsc uint64) {
	ticks := uint64(^uint32(0) - apicRead(apicTimerCur))
	apicWrite(apicTimerInit, 0)
	apicWrite(apicLVTTimer, VectorTimer)
	if tsc == 0 || ticks == 0 {
		timerMul = 1 << 32
	} else {
		timerMul = ticks << 32 / tsc
	}
	timerMaxTSC = (1 << 31) << 32 / max(timerMul, 1)
}

// HaveDeadline says whether the timer takes TSC values directly.
func HaveDeadline() bool { return deadline }

// ArmTimer makes the timer of this processor fire when the TSC reaches at, once,
// replacing what was set before. 0 disarms it.
func ArmTimer(at uint64) {
	if deadline {
		arch.WriteMSR(arch.MSRTSCDeadline, at)
		return
	}
	if at == 0 {
		apicWrite(apicTimerInit, 0)
		return
	}
	now := arch.ReadTSC()
	var d uint64
	if at > now {
		d = min(at-now, timerMaxTSC)
	}
	// Round up: firing early would only arm again.
	apicWrite(apicTimerInit, max(1, uint32(d*(timerMul>>8)>>24)+1))
}
