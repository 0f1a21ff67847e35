package acpi

import "fmt"

// FADT is the Fixed ACPI Description Table (signature FACP), §5.2.9: the
// registers of the fixed hardware. A register that the 64-bit X_ fields and the
// older 32-bit fields both give is taken from X_.
type FADT struct {
	Revision uint8
	// SCI is the interrupt of the fixed hardware: an ISA IRQ where the MADT
	// says PCATCompat (overrides apply), else a GSI.
	SCI         uint16
	SMICommand  uint32 // port; 0: always in ACPI mode
	ACPIEnable  uint8  // written to SMICommand: enter ACPI mode
	ACPIDisable uint8
	Flags       FADTFlags
	BootArch    BootArch
	Century     uint8 // CMOS index of the century, 0 where there is none

	// Power management event blocks: a status register, then an enable
	// register, each PM1EventLen/2 bytes.
	PM1aEvent, PM1bEvent GAS
	PM1EventLen          uint8
	PM1aControl          GAS
	PM1bControl          GAS
	PMTimer              GAS // 3.579545 MHz; 32 bits wide with FlagTimerExt, else 24
	GPE0, GPE1           GAS
	GPE0Len, GPE1Len     uint8 // bytes, status and enable together

	Reset      GAS // valid with FlagResetReg only
	ResetValue uint8

	// Hardware-reduced machines power off through these, §4.8.3.7.
	SleepControl GAS
	SleepStatus  GAS

	DSDT uint64 // physical address, or 0
}

// FADTFlags are the fixed feature flags, §5.2.9 table 5.10.
type FADTFlags uint32

const (
	FlagPowerButtonControl FADTFlags = 1 << 4 // set: no fixed power button
	FlagTimerExt           FADTFlags = 1 << 8 // TMR_VAL_EXT
	FlagResetReg           FADTFlags = 1 << 10
	FlagHardwareReduced    FADTFlags = 1 << 20
)

// BootArch is IAPC_BOOT_ARCH, §5.2.9.3 table 5.11.
type BootArch uint16

const (
	BootLegacyDevices BootArch = 1 << 0
	Boot8042          BootArch = 1 << 1
	BootNoVGA         BootArch = 1 << 2
	BootNoMSI         BootArch = 1 << 3 // MSI must not be enabled
	BootNoASPM        BootArch = 1 << 4
	BootNoCMOSRTC     BootArch = 1 << 5
)

// FADT layout, §5.2.9 table 5.9.
const (
	offFADTDSDT         = 40
	offFADTSCI          = 46
	offFADTSMICmd       = 48
	offFADTEnable       = 52
	offFADTDisable      = 53
	offFADTPM1aEvt      = 56
	offFADTPM1bEvt      = 60
	offFADTPM1aCnt      = 64
	offFADTPM1bCnt      = 68
	offFADTPMTmr        = 76
	offFADTGPE0         = 80
	offFADTGPE1         = 84
	offFADTPM1EvtLen    = 88
	offFADTPM1CntLen    = 89
	offFADTPMTmrLen     = 91
	offFADTGPE0Len      = 92
	offFADTGPE1Len      = 93
	offFADTCentury      = 108
	offFADTBootArch     = 109
	offFADTFlags        = 112
	fadtV1Len           = 116
	offFADTReset        = 116
	offFADTResetValue   = 128
	offFADTXDSDT        = 140
	offFADTXPM1aEvt     = 148
	offFADTXPM1bEvt     = 160
	offFADTXPM1aCnt     = 172
	offFADTXPM1bCnt     = 184
	offFADTXPMTmr       = 208
	offFADTXGPE0        = 220
	offFADTXGPE1        = 232
	offFADTSleepControl = 244
	offFADTSleepStatus  = 256
)

// ParseFADT decodes a whole FADT of any revision.
func ParseFADT(b []byte) (*FADT, error) {
	if err := verifyAs(b, "FACP", fadtV1Len); err != nil {
		return nil, err
	}
	f := &FADT{
		Revision:    b[offRevision],
		SCI:         le16(b, offFADTSCI),
		SMICommand:  le32(b, offFADTSMICmd),
		ACPIEnable:  b[offFADTEnable],
		ACPIDisable: b[offFADTDisable],
		Flags:       FADTFlags(le32(b, offFADTFlags)),
		BootArch:    BootArch(le16(b, offFADTBootArch)),
		Century:     b[offFADTCentury],
		PM1EventLen: b[offFADTPM1EvtLen],
		GPE0Len:     b[offFADTGPE0Len],
		GPE1Len:     b[offFADTGPE1Len],
		DSDT:        uint64(le32(b, offFADTDSDT)),
	}
	f.PM1aEvent = block(b, offFADTPM1aEvt, offFADTXPM1aEvt, f.PM1EventLen)
	f.PM1bEvent = block(b, offFADTPM1bEvt, offFADTXPM1bEvt, f.PM1EventLen)
	f.PM1aControl = block(b, offFADTPM1aCnt, offFADTXPM1aCnt, b[offFADTPM1CntLen])
	f.PM1bControl = block(b, offFADTPM1bCnt, offFADTXPM1bCnt, b[offFADTPM1CntLen])
	f.PMTimer = block(b, offFADTPMTmr, offFADTXPMTmr, b[offFADTPMTmrLen])
	f.GPE0 = block(b, offFADTGPE0, offFADTXGPE0, f.GPE0Len)
	f.GPE1 = block(b, offFADTGPE1, offFADTXGPE1, f.GPE1Len)
	f.Reset = optionalGAS(b, offFADTReset)
	if len(b) > offFADTResetValue {
		f.ResetValue = b[offFADTResetValue]
	}
	if len(b) >= offFADTXDSDT+8 {
		if x := le64(b, offFADTXDSDT); x != 0 {
			f.DSDT = x
		}
	}
	f.SleepControl = optionalGAS(b, offFADTSleepControl)
	f.SleepStatus = optionalGAS(b, offFADTSleepStatus)
	if f.Flags&FlagHardwareReduced == 0 {
		if f.PM1aEvent.Valid() && f.PM1EventLen < 4 {
			return nil, fmt.Errorf("PM1_EVT_LEN is %d, want at least 4", f.PM1EventLen)
		}
		if n := b[offFADTPM1CntLen]; f.PM1aControl.Valid() && n < 2 {
			return nil, fmt.Errorf("PM1_CNT_LEN is %d, want at least 2", n)
		}
	}
	return f, nil
}

// HardwareReduced reports that there is no fixed hardware: no PM1 registers, no
// SCI, no PM timer (§4.1).
func (f *FADT) HardwareReduced() bool { return f.Flags&FlagHardwareReduced != 0 }

// block is a register block: the X_ field at x where the table has one that is
// not 0, else the port in the 32-bit field at off with n bytes.
func block(b []byte, off, x int, n uint8) GAS {
	if g := optionalGAS(b, x); g.Valid() {
		return g
	}
	port := le32(b, off)
	if port == 0 {
		return GAS{}
	}
	return GAS{Space: SystemIO, BitWidth: uint8(min(int(n)*8, 255)), Addr: uint64(port)}
}

// optionalGAS is the GAS at off, or none where the table ends before it.
func optionalGAS(b []byte, off int) GAS {
	if len(b) < off+gasLen {
		return GAS{}
	}
	return parseGAS(b, off)
}
