package cpu

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/arch"
)

// fakeAPIC is an xAPIC page that remembers what was written.
type fakeAPIC struct{ page []byte }

func newFakeAPIC(t *testing.T) *fakeAPIC {
	t.Helper()
	base, page := hostcpu.Arena(t, 4096)
	b, x, d := apicBase, x2apic, deadline
	t.Cleanup(func() { SetAPIC(b, x, d) })
	SetAPIC(base, false, false)
	return &fakeAPIC{page}
}

func (f *fakeAPIC) reg(o int) uint32    { return binary.LittleEndian.Uint32(f.page[o:]) }
func (f *fakeAPIC) set(o int, v uint32) { binary.LittleEndian.PutUint32(f.page[o:], v) }
func (f *fakeAPIC) want(t *testing.T, o int, v uint32) {
	t.Helper()
	if f.reg(o) != v {
		t.Errorf("register %#x is %#x, want %#x", o, f.reg(o), v)
	}
}

func TestEnableAPIC(t *testing.T) {
	f := newFakeAPIC(t)
	EnableAPIC()
	f.want(t, apicSVR, 0x1ff) // software enable, spurious vector 0xff
	f.want(t, apicLVTLINT0, lvtMasked)
	f.want(t, apicLVTLINT1, 0x400) // NMI, as the MP specification wires it
	f.want(t, apicLVTError, lvtMasked)
	f.want(t, apicLVTTimer, VectorTimer) // one-shot, not masked
	f.want(t, apicTimerDiv, divideBy1)
	f.want(t, apicTimerInit, 0) // and not running
	f.set(apicID, 5<<24)
	if id := APICID(); id != 5 {
		t.Errorf("APIC ID %d, want 5", id)
	}
	f.set(apicEOI, 1)
	EOI()
	f.want(t, apicEOI, 0)
}

func TestSendIPI(t *testing.T) {
	f := newFakeAPIC(t)
	me := become(t, 0)
	All(1).APIC = 9
	before := me.Stats.IPIs
	SendIPI(All(1), VectorIPI)
	f.want(t, apicICRHigh, 9<<24)
	f.want(t, apicICRLow, 0x4000|VectorIPI) // fixed, edge, asserted
	if me.Stats.IPIs != before+1 {
		t.Error("the interrupt was not counted")
	}
	SendICR(3, ICRInit)
	f.want(t, apicICRHigh, 3<<24)
	f.want(t, apicICRLow, 0x4500)
}

// The one-shot timer counts APIC ticks; deadlines are TSC ticks.
func TestCalibrateAndArmTimer(t *testing.T) {
	f := newFakeAPIC(t)
	for _, test := range []struct {
		ticks uint32 // APIC ticks that passed …
		tsc   uint64 // … in this many TSC ticks
	}{
		{2000000, 6000000}, {1, 3}, {125000, 5000000}, {5000000, 5000000}, {0, 1000}, {1000, 0},
	} {
		CalibrateTimerStart()
		f.want(t, apicLVTTimer, lvtMasked|VectorTimer)
		f.want(t, apicTimerInit, ^uint32(0))
		f.set(apicTimerCur, ^uint32(0)-test.ticks)
		CalibrateTimerStop(test.tsc)
		f.want(t, apicLVTTimer, VectorTimer)
		f.want(t, apicTimerInit, 0)
		rate := float64(test.ticks) / float64(test.tsc)
		if test.ticks == 0 || test.tsc == 0 {
			rate = 1 // nothing was measured
		}
		for range 100 {
			ahead := 1000000 + rand.Uint64N(1<<36)
			before := arch.ReadTSC()
			ArmTimer(before + ahead)
			took := arch.ReadTSC() - before
			got := float64(f.reg(apicTimerInit))
			// Never early, but for the longest that the counter can hold.
			least := min(float64(ahead-took)*rate, float64(1<<31)*0.999)
			most := float64(ahead)*rate*1.0001 + 3
			if got < least*0.9999 || got > most {
				t.Fatalf("%d ticks in %d: timer for %d TSC ticks ahead is %v, want %v to %v", test.ticks, test.tsc, ahead, got, least, most)
			}
		}
		ArmTimer(arch.ReadTSC() - 1) // past: at once, which is not 0 (that would disarm)
		if v := f.reg(apicTimerInit); v == 0 || v > 3 {
			t.Errorf("timer for the past is %d", v)
		}
		ArmTimer(0)
		f.want(t, apicTimerInit, 0)
	}
}
