package pci

import "fmt"

// Options say what Scan needs to know of the machine.
type Options struct {
	// Roots are the root buses; none means bus 0 of segment 0, without windows.
	Roots []Root
	// RAM is where no BAR may be.
	RAM []Range
	// PhysBits is how wide physical addresses are; 0 means 52, the most there is.
	PhysBits int
}

// Root is a root bus and the addresses that its host bridge passes on, where
// BARs go that firmware left without address. Without windows they stay so.
type Root struct {
	Segment uint16
	Bus     uint8
	Windows []Window
}

// Window is a range of addresses that a bridge passes on to its bus.
type Window struct {
	Range
	IO           bool // ports, not memory
	Prefetchable bool // only for prefetchable BARs
}

// Result is what Scan found.
type Result struct {
	// Devices are the functions that make sense, bridges included, in the order
	// of their buses as met from the roots.
	Devices []*Device
	// Warnings are the functions left out and the oddities of those kept, most of
	// them DeviceErrors.
	Warnings []error
}

const (
	maxPhysBits = 52
	maxDepth    = 64 // bridges behind each other
)

// Scan finds all functions behind the roots, sizes and checks their BARs, gives
// addresses to those that have none, and reads the capability lists. No driver
// may run meanwhile: decoding is off for a moment in each function.
func Scan(cfg Config, opt Options) *Result {
	s := &scanner{
		cfg: cfg, ram: opt.RAM, physBits: opt.PhysBits,
		buses: map[busKey]string{}, res: &Result{},
	}
	if s.physBits <= 0 || s.physBits > maxPhysBits {
		s.physBits = maxPhysBits
	}
	roots := opt.Roots
	if len(roots) == 0 {
		roots = []Root{{}}
	}
	for _, r := range roots {
		key := busKey{r.Segment, r.Bus}
		if by, ok := s.buses[key]; ok {
			s.warn(fmt.Errorf("pci: root bus %d of segment %d is already %s", r.Bus, r.Segment, by))
			continue
		}
		s.buses[key] = "a root"
		s.scanBus(key, 0xFF, newSpace(r.Windows, s.ram), 0, false)
	}
	s.checkOverlaps()
	s.assign()
	s.enableBridges()
	return s.res
}

// scanner is one run of Scan.
type scanner struct {
	cfg      Config
	ram      []Range
	physBits int
	buses    map[busKey]string // buses seen so far → what leads to them
	res      *Result
}

func (s *scanner) warn(err error) { s.res.Warnings = append(s.res.Warnings, err) }

// scanBus visits the functions of one bus. last is the highest bus number that
// reaches it, sp the addresses that do.
func (s *scanner) scanBus(bus busKey, last uint8, sp *space, depth int, oneDevice bool) {
	devices := uint8(32)
	if oneDevice {
		devices = 1
	}
	for dev := range devices {
		a := Addr{Segment: bus.segment, Bus: bus.bus, Device: dev}
		// §3.2.2.3.4: function 0 must be there, and says whether others may be.
		if !s.exists(a) {
			continue
		}
		functions := uint8(1)
		if s.cfg.Read8(a, regHeaderType)&headerMultiFunc != 0 {
			functions = 8
		}
		for a.Function = range functions {
			if s.exists(a) {
				s.function(a, last, sp, depth)
			}
		}
	}
}

// exists reports whether there is a function: the vendor ID of nothing reads as
// all ones, and 0 is no vendor's.
func (s *scanner) exists(a Addr) bool {
	v := s.cfg.Read16(a, regVendorID)
	return v != 0xFFFF && v != 0
}

// function reads one function, and what is behind it.
func (s *scanner) function(a Addr, last uint8, sp *space, depth int) {
	d := &Device{
		Addr:     a,
		VendorID: s.cfg.Read16(a, regVendorID),
		DeviceID: s.cfg.Read16(a, regDeviceID),
		Revision: s.cfg.Read8(a, regRevisionID),
		Class: Class(s.cfg.Read8(a, regBaseClass))<<16 | Class(s.cfg.Read8(a, regSubClass))<<8 |
			Class(s.cfg.Read8(a, regProgIF)),
		IntPin:  s.cfg.Read8(a, regInterruptPin),
		IntLine: s.cfg.Read8(a, regInterruptLine),
		cfg:     s.cfg,
		space:   sp,
	}
	slots := deviceBARs
	switch t := s.cfg.Read8(a, regHeaderType) & headerTypeMask; t {
	case headerDevice:
		d.SubsystemVendorID = d.Read16(regSubVendorID)
		d.SubsystemID = d.Read16(regSubsystemID)
	case headerBridge:
		slots = bridgeBARs
		d.Bridge = &Bridge{d.Read8(regPrimaryBus), d.Read8(regSecondaryBus), d.Read8(regSubordinateBus)}
	default:
		s.warn(d.errorf("header type %#x is not known", t))
		return
	}
	if d.IntPin > 4 {
		s.warn(d.errorf("interrupt pin %d, want 0 to 4", d.IntPin))
		d.IntPin = 0
	}
	// A host bridge may need its decoders to reach memory at all, so its BARs
	// are left alone; no driver wants them.
	if !d.Class.Is(classBridge, subClassHostBridge) {
		if err := s.readBARs(d, slots); err != nil {
			s.warn(err)
			if d.Bridge == nil {
				return
			}
			d.BARs = [deviceBARs]BAR{}
		}
	}
	if err := d.readCaps(); err != nil {
		s.warn(err)
	}
	if err := d.readExtCaps(); err != nil {
		s.warn(err)
	}
	s.res.Devices = append(s.res.Devices, d)
	sp.occupy(d)
	if d.Bridge != nil {
		s.bridge(d, last, depth)
	}
}

// bridge visits the bus behind d.
func (s *scanner) bridge(d *Device, last uint8, depth int) {
	b := d.Bridge
	key := busKey{d.Addr.Segment, b.Secondary}
	by, seen := s.buses[key]
	switch {
	case b.Secondary == 0:
		s.warn(d.errorf("firmware gave the bus behind the bridge no number; devices there are not found"))
	case seen:
		s.warn(d.errorf("bridge leads to bus %d, which is already %s", b.Secondary, by))
	case b.Secondary <= d.Addr.Bus || b.Subordinate < b.Secondary || b.Subordinate > last:
		s.warn(d.errorf("bridge on bus %d leads to buses %d to %d, want them within %d to %d",
			d.Addr.Bus, b.Secondary, b.Subordinate, int(d.Addr.Bus)+1, last))
	case depth == maxDepth:
		s.warn(d.errorf("bridge to bus %d is %d bridges deep; devices there are not looked for", b.Secondary, depth))
	default:
		s.buses[key] = fmt.Sprintf("behind %v", d.Addr)
		s.scanBus(key, b.Subordinate, d.space.behind(d.windows(), s.ram), depth+1, d.oneDeviceBelow())
	}
}

// checkOverlaps warns where two BARs claim the same address. Both stay: which of
// them is wrong cannot be seen.
func (s *scanner) checkOverlaps() {
	type claim struct {
		d *Device
		i int
	}
	var claims []claim
	for _, d := range s.res.Devices {
		for i, b := range d.BARs {
			if !b.Present() || !b.Assigned() {
				continue
			}
			for _, c := range claims {
				o := c.d.BARs[c.i]
				if c.d.Addr.Segment == d.Addr.Segment && (o.Kind == IO) == (b.Kind == IO) && (Range{o.Base, o.Size}).overlaps(b.Base, b.Size) {
					s.warn(d.barErrorf(i, "%#x bytes overlap BAR %d of %v", b.Size, c.i, c.d.Addr))
				}
			}
			claims = append(claims, claim{d, i})
		}
	}
}
