package acpi

import "fmt"

// ECAM is a window of memory-mapped PCI configuration space, PCI Firmware 3.3
// §4.1.2. Function (bus, device, function) is at Base + bus<<20 + device<<15 +
// function<<12: Base belongs to bus 0 also where StartBus is not 0.
type ECAM struct {
	Base     uint64 // physical
	Segment  uint16
	StartBus uint8
	EndBus   uint8 // inclusive
}

const (
	offMCFGEntries = 44 // after 8 reserved bytes
	mcfgEntryLen   = 16
	busBytes       = 1 << 20
	maxECAMs       = 256
)

// ParseMCFG decodes a whole MCFG. It refuses the table where any entry makes no
// sense: half of a PCI is worse than none, which falls back to port access.
func ParseMCFG(b []byte) ([]ECAM, error) {
	if err := verifyAs(b, "MCFG", offMCFGEntries); err != nil {
		return nil, err
	}
	body := b[offMCFGEntries:]
	if len(body) == 0 || len(body)%mcfgEntryLen != 0 {
		return nil, fmt.Errorf("%d bytes of entries, want a multiple of %d", len(body), mcfgEntryLen)
	}
	n := len(body) / mcfgEntryLen
	if n > maxECAMs {
		return nil, fmt.Errorf("%d entries, more than %d", n, maxECAMs)
	}
	out := make([]ECAM, n)
	for i := range out {
		e := body[i*mcfgEntryLen:]
		w := ECAM{Base: le64(e, 0), Segment: le16(e, 8), StartBus: e[10], EndBus: e[11]}
		if w.Base == 0 || w.Base%busBytes != 0 {
			return nil, fmt.Errorf("entry %d: base %#x is not a multiple of %#x", i, w.Base, busBytes)
		}
		if w.StartBus > w.EndBus {
			return nil, fmt.Errorf("entry %d: buses %d to %d", i, w.StartBus, w.EndBus)
		}
		if end := w.Base + (uint64(w.EndBus)+1)*busBytes; end < w.Base {
			return nil, fmt.Errorf("entry %d: base %#x and bus %d reach beyond the address space", i, w.Base, w.EndBus)
		}
		for j, o := range out[:i] {
			if w.Segment == o.Segment && w.StartBus <= o.EndBus && o.StartBus <= w.EndBus {
				return nil, fmt.Errorf("entry %d: segment %d buses %d to %d overlap entry %d", i, w.Segment, w.StartBus, w.EndBus, j)
			}
		}
		out[i] = w
	}
	return out, nil
}

// ECAMs returns the windows of configuration space: those of the MCFG, or,
// where there is no MCFG, those that the host bridges name by _CBA.
func (t *Tables) ECAMs() []ECAM {
	if len(t.MCFG) > 0 {
		return t.MCFG
	}
	var out []ECAM
	for _, h := range t.HostBridges {
		if h.ConfigBase == 0 || h.ConfigBase%busBytes != 0 {
			continue
		}
		w := ECAM{Base: h.ConfigBase, Segment: h.Segment, StartBus: h.Bus, EndBus: 0xFF}
		for _, r := range h.Windows {
			if r.Kind == WindowBus && r.Base == uint64(h.Bus) && r.Size <= 0x100-r.Base {
				w.EndBus = uint8(r.Base + r.Size - 1)
			}
		}
		out = append(out, w)
	}
	return out
}
