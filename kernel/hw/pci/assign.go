package pci

import (
	"cmp"
	"fmt"
	"slices"
)

// space is the addresses of one bus: those that its bridge passes on, and those
// that are taken.
type space struct {
	windows []Window
	used    []Range // memory: RAM, BARs, what bridges on the bus pass on
	usedIO  []Range // ports
}

// Legacy devices live below these; no BAR is put there.
const (
	legacyMemory = 1 << 20
	legacyPorts  = 0x1000
)

func newSpace(windows []Window, ram []Range) *space {
	return &space{windows: windows, used: slices.Clone(ram)}
}

// occupy marks what d has already.
func (sp *space) occupy(d *Device) {
	for _, b := range d.BARs {
		if b.Present() && b.Assigned() {
			sp.take(b.Kind == IO, Range{b.Base, b.Size})
		}
	}
	if d.Bridge != nil {
		for _, w := range d.windows() {
			sp.take(w.IO, w.Range)
		}
	}
}

func (sp *space) take(io bool, r Range) {
	if io {
		sp.usedIO = append(sp.usedIO, r)
	} else {
		sp.used = append(sp.used, r)
	}
}

// behind is the space of the bus behind a bridge that passes on windows.
func (sp *space) behind(windows []Window, ram []Range) *space {
	if len(sp.windows) == 0 {
		return newSpace(windows, ram) // what the host bridge passes on is not known
	}
	var out []Window
	for _, w := range windows {
		for _, p := range sp.windows {
			lo, hi := max(w.Base, p.Base), min(w.Base+w.Size, p.Base+p.Size)
			if w.IO == p.IO && lo < hi {
				out = append(out, Window{Range{lo, hi - lo}, w.IO, w.Prefetchable || p.Prefetchable})
			}
		}
	}
	return newSpace(out, ram)
}

// windows decodes what bridge d passes on, PCI-to-PCI Bridge 1.2 §3.2.5.
func (d *Device) windows() []Window {
	var out []Window
	add := func(base, limit, grain uint64, io, pref bool) {
		// A limit below the base closes the window. 0 at both is what a bridge
		// holds that nobody has programmed.
		if limit >= base && base != 0 {
			out = append(out, Window{Range{base, limit - base + grain}, io, pref})
		}
	}
	ioBase, ioLimit := d.Read8(regIOBase), d.Read8(regIOLimit)
	base, limit := uint64(ioBase>>4)<<12, uint64(ioLimit>>4)<<12
	if ioBase&0xF == bridgeWideDecode {
		base |= uint64(d.Read16(regIOBaseUpper16)) << 16
		limit |= uint64(d.Read16(regIOLimitUpper16)) << 16
	}
	if limit < portSpace {
		add(base, limit, bridgeIOGrain, true, false)
	}
	add(uint64(d.Read16(regMemoryBase)>>4)<<20, uint64(d.Read16(regMemoryLimit)>>4)<<20, bridgeMemoryGrain, false, false)
	prefBase, prefLimit := d.Read16(regPrefBase), d.Read16(regPrefLimit)
	base, limit = uint64(prefBase>>4)<<20, uint64(prefLimit>>4)<<20
	if prefBase&0xF == bridgeWideDecode {
		base |= uint64(d.Read32(regPrefBaseUpper)) << 32
		limit |= uint64(d.Read32(regPrefLimitUpper)) << 32
	}
	if limit < 1<<maxPhysBits {
		add(base, limit, bridgeMemoryGrain, false, true)
	}
	return out
}

// assign gives an address to each BAR that has none, large ones first so that
// the gaps between them stay small.
func (s *scanner) assign() {
	type want struct {
		d *Device
		i int
	}
	var wants []want
	for _, d := range s.res.Devices {
		for i, b := range d.BARs {
			if b.Present() && !b.Assigned() {
				wants = append(wants, want{d, i})
			}
		}
	}
	slices.SortStableFunc(wants, func(a, b want) int {
		return cmp.Compare(b.d.BARs[b.i].Size, a.d.BARs[a.i].Size)
	})
	for _, w := range wants {
		b := w.d.BARs[w.i]
		base, ok := w.d.space.place(b, s.physBits)
		if !ok && b.Kind == IO && !slices.ContainsFunc(w.d.space.windows, func(w Window) bool { return w.IO }) {
			continue // the machine has no ports for PCI; a driver that needs them hears of it
		}
		if !ok {
			s.warn(&DeviceError{w.d.Addr, w.i, 0, fmt.Sprintf("no window has room for %#x bytes of %v", b.Size, b.Kind)})
			continue
		}
		if err := w.d.setBAR(w.i, base); err != nil {
			s.warn(err)
			continue
		}
		w.d.space.take(b.Kind == IO, Range{base, b.Size})
	}
}

// place returns the lowest free address for b in the windows. Low addresses come
// first also for 64-bit BARs: not all hypervisors back the high ones.
func (sp *space) place(b BAR, physBits int) (uint64, bool) {
	floor, end, used := uint64(legacyMemory), uint64(1)<<32, sp.used
	switch b.Kind {
	case IO:
		floor, end, used = legacyPorts, portSpace, sp.usedIO
	case Memory64:
		end = 1 << physBits
	}
	best, found := uint64(0), false
	for _, w := range sp.windows {
		if w.IO != (b.Kind == IO) || w.Prefetchable && !b.Prefetchable {
			continue
		}
		wEnd := w.Base + w.Size
		if wEnd < w.Base {
			continue
		}
		base, ok := fit(max(w.Base, floor), min(wEnd, end), b.Size, used)
		if ok && (!found || base < best) {
			best, found = base, true
		}
	}
	return best, found
}

// fit returns the lowest multiple of size in [base, end) that has size free
// bytes. Each round passes at least one used range, so it ends.
func fit(base, end, size uint64, used []Range) (uint64, bool) {
	for {
		aligned := (base + size - 1) &^ (size - 1)
		if aligned < base || aligned > end || size > end-aligned {
			return 0, false
		}
		next, free := aligned, true
		for _, r := range used {
			if r.overlaps(aligned, size) {
				next, free = max(next, r.Base+r.Size), false
			}
		}
		if free {
			return aligned, true
		}
		if next == aligned {
			return 0, false // used to the end of all addresses
		}
		base = next
	}
}

// enableBridges has each bridge pass on memory, ports and the DMA of the devices
// behind it. One with a BAR that has no address must not decode that.
func (s *scanner) enableBridges() {
	for _, d := range s.res.Devices {
		if d.Bridge == nil {
			continue
		}
		on := uint16(cmdIO | cmdMemory | cmdBusMaster)
		for _, b := range d.BARs {
			switch {
			case !b.Present() || b.Assigned():
			case b.Kind == IO:
				on &^= cmdIO
			default:
				on &^= cmdMemory
			}
		}
		d.setCommand(0, on)
	}
}
