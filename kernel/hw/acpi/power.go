package acpi

import (
	"errors"
	"fmt"
)

// RegisterWrite is one step of a sequence that changes the state of the
// machine: read the register, clear the bits in Clear, set those in Set, write
// it back.
type RegisterWrite struct {
	Reg   GAS
	Bits  uint8 // width of the access: 8, 16 or 32
	Clear uint32
	Set   uint32
}

// Fields of PM1x_CNT (§4.8.3.2.1 table 4.16) and SLEEP_CONTROL_REG (§4.8.3.7
// table 4.23).
const (
	pm1SleepTypeShift = 10
	pm1SleepTypeMask  = 7 << pm1SleepTypeShift
	pm1SleepEnable    = 1 << 13

	sleepTypeShift = 2
	sleepTypeMask  = 7 << sleepTypeShift
	sleepEnable    = 1 << 5
)

// PowerOff returns the writes that enter S5, soft off (§7.4.2.6), in order. The
// machine is off a moment after the last.
func (t *Tables) PowerOff() ([]RegisterWrite, error) {
	if t.FADT == nil {
		return nil, errors.New("acpi: power off: no FADT")
	}
	if t.S5 == nil {
		return nil, errors.New(`acpi: power off: no constant \_S5 in DSDT or SSDT`)
	}
	f := t.FADT
	if f.HardwareReduced() {
		if !f.SleepControl.Valid() {
			return nil, errors.New("acpi: power off: hardware-reduced, and no SLEEP_CONTROL_REG")
		}
		return []RegisterWrite{{
			Reg: f.SleepControl, Bits: 8, Clear: sleepTypeMask,
			Set: uint32(t.S5.A)<<sleepTypeShift | sleepEnable,
		}}, nil
	}
	if !f.PM1aControl.Valid() {
		return nil, errors.New("acpi: power off: the FADT has no PM1a_CNT_BLK")
	}
	// The type goes in first and the enable bit last, to a then b: with two
	// blocks the machine sleeps only once both are enabled.
	regs := []struct {
		reg GAS
		typ uint8
	}{{f.PM1aControl, t.S5.A}, {f.PM1bControl, t.S5.B}}
	var seq []RegisterWrite
	for _, enable := range []uint32{0, pm1SleepEnable} {
		for _, r := range regs {
			if r.reg.Valid() {
				seq = append(seq, RegisterWrite{
					Reg: r.reg, Bits: 16, Clear: pm1SleepTypeMask | pm1SleepEnable,
					Set: uint32(r.typ)<<pm1SleepTypeShift | enable,
				})
			}
		}
	}
	return seq, nil
}

// ResetWrite returns the write that resets the machine, §4.8.3.6.
func (t *Tables) ResetWrite() (RegisterWrite, error) {
	if t.FADT == nil {
		return RegisterWrite{}, errors.New("acpi: reset: no FADT")
	}
	f := t.FADT
	if f.Flags&FlagResetReg == 0 || !f.Reset.Valid() {
		return RegisterWrite{}, errors.New("acpi: reset: the FADT has no RESET_REG")
	}
	// §4.8.3.6: the register is 8 bits wide, in one of three spaces.
	if f.Reset.Space > PCIConfig {
		return RegisterWrite{}, fmt.Errorf("acpi: reset: RESET_REG in %v", f.Reset.Space)
	}
	return RegisterWrite{Reg: f.Reset, Bits: 8, Clear: 0xFF, Set: uint32(f.ResetValue)}, nil
}
