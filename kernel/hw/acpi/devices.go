package acpi

import (
	"errors"
	"fmt"
)

// VirtioMMIO is a virtio device behind the MMIO transport (VIRTIO 1.2 §4.2),
// which cannot be enumerated and so is listed in AML, with _HID LNRO0005.
type VirtioMMIO struct {
	Path       string // `\_SB.VR23`
	UID        uint64
	Base, Size uint64 // physical
	Interrupt  Interrupt
}

// GED is the Generic Event Device, §5.6.9: it stands in for the fixed hardware
// of hardware-reduced machines, for example as power button.
type GED struct {
	Path       string
	Interrupts []Interrupt
	// EventReg is the physical address of the device's first memory region, 0
	// where there is none. In QEMU that is the event selector (QEMU,
	// docs/specs/acpi_hw_reduced_hotplug.rst): a 32-bit read returns and clears
	// the pending events, bit 1 being system power down.
	EventReg uint64
}

// HostBridge is a root of PCI, _HID PNP0A03 or, with express, PNP0A08.
type HostBridge struct {
	Path    string
	Segment uint16
	Bus     uint8 // its root bus
	Express bool
	// ConfigBase is its _CBA (PCI Firmware 3.3 §4.1.3): where its ECAM is, in
	// the sense of ECAM.Base; 0 where it has none. QEMU's microvm gives this
	// instead of an MCFG.
	ConfigBase uint64
	// Windows are the addresses it passes on to its buses, and the bus numbers:
	// where BARs that firmware did not assign may go.
	Windows []Window
}

// Device IDs.
const (
	hidVirtioMMIO = "LNRO0005"
	hidGED        = "ACPI0013"
	hidPCI        = "PNP0A03"
	hidPCIExpress = "PNP0A08"
)

// resolve turns the collected objects into devices in t. Devices that are not
// present are left out silently, devices that make no sense with a warning.
func (ns *namespace) resolve(t *Tables) []Warning {
	var warnings []Warning
	for _, o := range ns.order {
		if !o.device || o.sta&staPresent == 0 {
			continue
		}
		var err error
		switch o.hid {
		case hidVirtioMMIO:
			err = o.virtio(t)
		case hidGED:
			err = o.ged(t)
		case hidPCI, hidPCIExpress:
			err = o.hostBridge(t)
		}
		if err != nil {
			warnings = append(warnings, Warning{o.table, o.addr, fmt.Sprintf("%s: %v", o.path, err)})
		}
	}
	return warnings
}

// template decodes the object's _CRS.
func (o *object) template() (resources, error) {
	if o.crs == nil {
		if o.crsWhyNot != "" {
			return resources{}, errors.New(o.crsWhyNot)
		}
		return resources{}, errors.New("no _CRS")
	}
	r, err := parseResources(o.crs)
	if err != nil {
		return r, fmt.Errorf("_CRS: %w", err)
	}
	return r, nil
}

func (o *object) virtio(t *Tables) error {
	r, err := o.template()
	if err != nil {
		return err
	}
	var mem []Window
	for _, w := range append(r.fixed, r.windows...) {
		if w.Kind == WindowMemory {
			mem = append(mem, w)
		}
	}
	if len(mem) != 1 || len(r.interrupts) != 1 {
		return fmt.Errorf("_CRS has %d memory ranges and %d interrupts, want one each", len(mem), len(r.interrupts))
	}
	// The registers end at 0x100, where the device's configuration starts.
	if mem[0].Size < 0x100 {
		return fmt.Errorf("%#x bytes of registers, want at least 0x100", mem[0].Size)
	}
	for _, v := range t.VirtioMMIO {
		if mem[0].Base < v.Base+v.Size && v.Base < mem[0].Base+mem[0].Size {
			return fmt.Errorf("registers at %#x overlap those of %s", mem[0].Base, v.Path)
		}
	}
	t.VirtioMMIO = append(t.VirtioMMIO, VirtioMMIO{
		Path: o.path, UID: o.uid, Base: mem[0].Base, Size: mem[0].Size, Interrupt: r.interrupts[0],
	})
	return nil
}

func (o *object) ged(t *Tables) error {
	if t.GED != nil {
		return fmt.Errorf("a second event device; %s counts", t.GED.Path)
	}
	r, err := o.template()
	if err != nil {
		return err
	}
	if len(r.interrupts) == 0 {
		return errors.New("_CRS has no interrupt")
	}
	t.GED = &GED{Path: o.path, Interrupts: r.interrupts, EventReg: o.region}
	return nil
}

// hostBridge keeps a bridge also where its _CRS is not known: its devices work
// as long as firmware has assigned their BARs.
func (o *object) hostBridge(t *Tables) error {
	if o.bbn > 0xFF || o.seg > 0xFFFF {
		return fmt.Errorf("_SEG %#x and _BBN %#x, want at most 0xffff and 0xff", o.seg, o.bbn)
	}
	r, err := o.template()
	t.HostBridges = append(t.HostBridges, HostBridge{
		Path: o.path, Segment: uint16(o.seg), Bus: uint8(o.bbn), ConfigBase: o.cba,
		Express: o.hid == hidPCIExpress || o.cid == hidPCIExpress, Windows: r.windows,
	})
	return err
}
