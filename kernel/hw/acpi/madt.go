package acpi

import (
	"errors"
	"fmt"
)

// MADT is the Multiple APIC Description Table (signature APIC), §5.2.12: which
// CPUs and interrupt controllers there are and how interrupts are wired.
type MADT struct {
	// LocalAPICAddr is the physical address of each CPU's local APIC, the
	// 64-bit override applied.
	LocalAPICAddr uint64
	// PCATCompat says that two 8259 PICs exist too and must be masked.
	PCATCompat bool

	LocalAPICs []LocalAPIC
	IOAPICs    []IOAPIC
	Overrides  []InterruptOverride
	NMISources []NMISource
	LocalNMIs  []LocalNMI
}

// LocalAPIC is one CPU (§5.2.12.2; as x2APIC §5.2.12.12).
type LocalAPIC struct {
	UID     uint32 // ACPI processor UID
	APICID  uint32
	Enabled bool
	// OnlineCapable: not enabled now, but may be hot-plugged.
	OnlineCapable bool
	X2APIC        bool // listed by an x2APIC entry
}

// IOAPIC is one I/O APIC, §5.2.12.3. It serves the interrupts from GSIBase on;
// how many, only its version register says.
type IOAPIC struct {
	ID      uint8
	Addr    uint32 // physical
	GSIBase uint32
}

// InterruptOverride says that an ISA interrupt is not wired to the GSI of the
// same number, or not as the ISA bus would, §5.2.12.5.
type InterruptOverride struct {
	IRQ      uint8 // ISA
	GSI      uint32
	Polarity Polarity
	Trigger  Trigger
}

// NMISource is a GSI that is wired as NMI, §5.2.12.6.
type NMISource struct {
	GSI      uint32
	Polarity Polarity
	Trigger  Trigger
}

// AllProcessors is the UID of a LocalNMI that concerns each CPU.
const AllProcessors uint32 = 0xFFFF_FFFF

// LocalNMI is a local APIC pin that is wired as NMI, §5.2.12.7 and §5.2.12.13.
type LocalNMI struct {
	UID      uint32 // or AllProcessors
	LINT     uint8  // 0 or 1
	Polarity Polarity
	Trigger  Trigger
}

// Polarity is the active level of an interrupt.
type Polarity uint8

// BusPolarity is what the bus of the source uses: active high for ISA, active
// low for PCI.
const (
	BusPolarity Polarity = iota
	ActiveHigh
	ActiveLow
)

func (p Polarity) String() string {
	return [...]string{"bus polarity", "active high", "active low"}[min(p, 2)]
}

// Trigger is the trigger mode of an interrupt.
type Trigger uint8

// BusTrigger is what the bus of the source uses: edge for ISA, level for PCI.
const (
	BusTrigger Trigger = iota
	Edge
	Level
)

func (t Trigger) String() string {
	return [...]string{"bus trigger", "edge", "level"}[min(t, 2)]
}

// Interrupt controller structure types, §5.2.12 table 5.21.
const (
	madtLocalAPIC     = 0
	madtIOAPIC        = 1
	madtOverride      = 2
	madtNMISource     = 3
	madtLocalAPICNMI  = 4
	madtAddrOverride  = 5
	madtLocalX2APIC   = 9
	madtLocalX2APINMI = 10
)

// madtEntryLen is the length of each structure that is read.
var madtEntryLen = map[uint8]int{
	madtLocalAPIC:     8,
	madtIOAPIC:        12,
	madtOverride:      10,
	madtNMISource:     8,
	madtLocalAPICNMI:  6,
	madtAddrOverride:  12,
	madtLocalX2APIC:   16,
	madtLocalX2APINMI: 12,
}

const (
	offMADTLocalAddr = 36
	offMADTFlags     = 40
	madtFixedLen     = 44

	madtPCATCompat = 1 << 0

	apicEnabled       = 1 << 0
	apicOnlineCapable = 1 << 1
)

// ParseMADT decodes a whole MADT. Structures of a kind not known here are
// skipped, as §5.2.12 asks.
func ParseMADT(b []byte) (*MADT, error) {
	if err := verifyAs(b, "APIC", madtFixedLen); err != nil {
		return nil, err
	}
	m := &MADT{
		LocalAPICAddr: uint64(le32(b, offMADTLocalAddr)),
		PCATCompat:    le32(b, offMADTFlags)&madtPCATCompat != 0,
	}
	seen := map[uint32]int{}
	for off := madtFixedLen; off < len(b); {
		if len(b)-off < 2 {
			return nil, fmt.Errorf("offset %#x: %d stray byte(s) at the end", off, len(b)-off)
		}
		kind, n := b[off], int(b[off+1])
		if n < 2 || n > len(b)-off {
			return nil, fmt.Errorf("offset %#x: structure of type %d is %d bytes long, %d remain", off, kind, n, len(b)-off)
		}
		e := b[off : off+n]
		if want := madtEntryLen[kind]; n < want {
			return nil, fmt.Errorf("offset %#x: structure of type %d is %d bytes long, want %d", off, kind, n, want)
		}
		if err := m.entry(kind, e, seen); err != nil {
			return nil, fmt.Errorf("offset %#x: %w", off, err)
		}
		off += n
	}
	for _, l := range m.LocalAPICs {
		if l.Enabled {
			return m, nil
		}
	}
	return nil, fmt.Errorf("none of %d local APICs is enabled", len(m.LocalAPICs))
}

// entry adds one structure, whose length is checked. seen holds the place
// in LocalAPICs of each APIC ID so far.
func (m *MADT) entry(kind uint8, e []byte, seen map[uint32]int) error {
	switch kind {
	case madtLocalAPIC:
		// 0xFF is the broadcast ID: firmware's mark for an empty slot.
		if id := e[3]; id != 0xFF {
			m.addLocalAPIC(uint32(e[2]), uint32(id), le32(e, 4), false, seen)
		}
	case madtLocalX2APIC:
		if id := le32(e, 4); id != 0xFFFF_FFFF {
			m.addLocalAPIC(le32(e, 12), id, le32(e, 8), true, seen)
		}
	case madtIOAPIC:
		io := IOAPIC{ID: e[2], Addr: le32(e, 4), GSIBase: le32(e, 8)}
		if io.Addr == 0 {
			return fmt.Errorf("I/O APIC %d has address 0", io.ID)
		}
		m.IOAPICs = append(m.IOAPICs, io)
	case madtOverride:
		if bus := e[2]; bus != 0 {
			return fmt.Errorf("interrupt source override for bus %d, want 0 (ISA)", bus)
		}
		o := InterruptOverride{IRQ: e[3], GSI: le32(e, 4)}
		var err error
		if o.Polarity, o.Trigger, err = parseINTI(le16(e, 8)); err != nil {
			return fmt.Errorf("override of IRQ %d: %w", o.IRQ, err)
		}
		m.Overrides = append(m.Overrides, o)
	case madtNMISource:
		s := NMISource{GSI: le32(e, 4)}
		var err error
		if s.Polarity, s.Trigger, err = parseINTI(le16(e, 2)); err != nil {
			return fmt.Errorf("NMI source GSI %d: %w", s.GSI, err)
		}
		m.NMISources = append(m.NMISources, s)
	case madtLocalAPICNMI:
		uid := uint32(e[2])
		if uid == 0xFF {
			uid = AllProcessors
		}
		return m.addLocalNMI(uid, le16(e, 3), e[5])
	case madtLocalX2APINMI:
		return m.addLocalNMI(le32(e, 4), le16(e, 2), e[8])
	case madtAddrOverride:
		addr := le64(e, 4)
		if addr == 0 {
			return errors.New("local APIC address override is 0")
		}
		m.LocalAPICAddr = addr
	}
	return nil
}

// addLocalAPIC adds a CPU once: firmware may list it as local APIC and as
// x2APIC. An entry that is enabled wins over one that is not.
func (m *MADT) addLocalAPIC(uid, id, flags uint32, x2 bool, seen map[uint32]int) {
	l := LocalAPIC{
		UID: uid, APICID: id, X2APIC: x2,
		Enabled:       flags&apicEnabled != 0,
		OnlineCapable: flags&apicEnabled == 0 && flags&apicOnlineCapable != 0,
	}
	if i, ok := seen[id]; ok {
		if l.Enabled && !m.LocalAPICs[i].Enabled {
			m.LocalAPICs[i] = l
		}
		return
	}
	seen[id] = len(m.LocalAPICs)
	m.LocalAPICs = append(m.LocalAPICs, l)
}

func (m *MADT) addLocalNMI(uid uint32, flags uint16, lint uint8) error {
	if lint > 1 {
		return fmt.Errorf("local APIC NMI on LINT%d, want 0 or 1", lint)
	}
	p, t, err := parseINTI(flags)
	if err != nil {
		return fmt.Errorf("local APIC NMI on LINT%d: %w", lint, err)
	}
	m.LocalNMIs = append(m.LocalNMIs, LocalNMI{uid, lint, p, t})
	return nil
}

// parseINTI decodes MPS INTI flags, §5.2.12.5 table 5.26.
func parseINTI(flags uint16) (p Polarity, t Trigger, err error) {
	switch flags & 3 {
	case 1:
		p = ActiveHigh
	case 2:
		err = fmt.Errorf("MPS INTI flags %#04x: reserved polarity", flags)
	case 3:
		p = ActiveLow
	}
	switch flags >> 2 & 3 {
	case 1:
		t = Edge
	case 2:
		err = fmt.Errorf("MPS INTI flags %#04x: reserved trigger mode", flags)
	case 3:
		t = Level
	}
	return p, t, err
}
