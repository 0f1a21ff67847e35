package platform

import (
	"errors"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/acpi"
	"osv/kernel/hw/gate"
	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pci"
	"osv/kernel/hw/pio"
	"osv/kernel/irq"
)

// portMapper reaches both kinds of BAR.
type portMapper struct{ deviceMapper }

func (portMapper) MapPorts(base uint16, size uint32) (mmio.Space, error) { return pio.New(base, size) }

// scanPCI finds all functions. Configuration space is reached by ECAM where
// ACPI tells where it is, else by the ports that every PC has.
func (s *System) scanPCI() []found {
	cfg, roots, err := s.pciConfig()
	if err != nil {
		log.Infof("no PCI: %v", err)
		return nil
	}
	res := pci.Scan(cfg, pci.Options{Roots: roots, RAM: ramRanges()})
	for _, w := range res.Warnings {
		log.Warnf("%v", w)
	}
	var fadt *acpi.FADT
	if s.ACPI != nil {
		fadt = s.ACPI.FADT
	}
	s.irqs.expect(res.Devices, fadt)
	var out []found
	for _, d := range res.Devices {
		id, transitional, ok := virtio.PCIDeviceID(d.VendorID, d.DeviceID, d.SubsystemID)
		if !ok {
			out = append(out, found{pci: d, where: "pci " + d.Addr.String()})
			continue
		}
		out = append(out, found{id: id, where: "pci " + d.Addr.String(), open: func(n int) (virtio.Transport, []irq.Line, error) {
			return s.openPCI(d, id, transitional, n)
		}})
	}
	return out
}

func (s *System) pciConfig() (pci.Config, []pci.Root, error) {
	var roots []pci.Root
	if s.ACPI != nil {
		for _, h := range s.ACPI.HostBridges {
			roots = append(roots, rootOf(h))
		}
		var regions []pci.Region
		for _, e := range s.ACPI.ECAMs() {
			regions = append(regions, pci.Region(e))
		}
		if len(regions) > 0 {
			cfg, err := pci.NewECAM(deviceMapper{}, regions)
			if err == nil {
				return cfg, roots, nil
			}
			log.Warnf("%v; the configuration ports are used instead", err)
		}
	}
	ports, err := pio.New(pci.ConfigPorts, pci.ConfigPortsLen)
	if err != nil {
		return nil, nil, err
	}
	cfg, err := pci.NewPortConfig(ports)
	return cfg, roots, err
}

// rootOf passes on what firmware says of a host bridge: its bus and the windows
// that BARs without an address may be given.
func rootOf(h acpi.HostBridge) pci.Root {
	r := pci.Root{Segment: h.Segment, Bus: h.Bus}
	for _, w := range h.Windows {
		if w.Kind != acpi.WindowBus {
			r.Windows = append(r.Windows, pci.Window{Range: pci.Range{Base: w.Base, Size: w.Size},
				IO: w.Kind == acpi.WindowIO, Prefetchable: w.Prefetchable})
		}
	}
	return r
}

// openPCI makes the transport of a virtio function: modern where it has the
// capabilities, else legacy; MSI-X where it has enough vectors, else its pin.
func (s *System) openPCI(d *pci.Device, id virtio.DeviceID, transitional bool, n int) (virtio.Transport, []irq.Line, error) {
	lines, msix, err := s.pciLines(d, n)
	if err != nil {
		return nil, nil, err
	}
	d.SetBusMaster(true)
	caps, err := virtio.FindPCICaps(d.Read32)
	if err != nil && !transitional {
		return nil, nil, err
	}
	if err == nil && caps.Modern() {
		w, err := virtioWindows(d, caps)
		if err != nil {
			return nil, nil, err
		}
		t, err := virtio.NewPCI(id, w, msix)
		return t, lines, err
	}
	if !transitional {
		return nil, nil, errors.New("virtio capabilities are missing")
	}
	regs, err := d.MapBAR(0, portMapper{})
	if err != nil {
		return nil, nil, err
	}
	t, err := virtio.NewLegacyPCI(id, regs, msix)
	return t, lines, err
}

func virtioWindows(d *pci.Device, caps virtio.PCICaps) (w virtio.PCIWindows, err error) {
	get := func(c virtio.PCICap) mmio.Space {
		if c.Length == 0 || err != nil {
			return nil
		}
		var m mmio.Space
		m, err = d.MapRange(int(c.BAR), uint64(c.Offset), uint64(c.Length), portMapper{})
		return m
	}
	w = virtio.PCIWindows{Common: get(caps.Common), Notify: get(caps.Notify), ISR: get(caps.ISR), NotifyMultiplier: caps.NotifyMultiplier}
	if caps.Device.Length != 0 {
		w.Device = get(caps.Device)
	}
	return w, err
}

// pciLines gives up to n message interrupts, line i+1 on processor i, the one
// message of a function with MSI only, or the one pin. msix says which.
func (s *System) pciLines(d *pci.Device, n int) (lines []irq.Line, msix bool, err error) {
	x, err := d.MSIX(deviceMapper{})
	switch {
	case err == nil && x.Len() > 0:
		var msgs []irq.Message
		for i := range min(n, x.Len()) {
			l, m, err := s.irqs.message(i)
			if err != nil {
				return nil, false, err
			}
			lines, msgs = append(lines, l), append(msgs, m)
		}
		return lines, true, x.Enable(msgs)
	case err != nil && !errors.Is(err, pci.ErrNoMSIX):
		log.Warnf("pci %v: %v; its pin is used", d.Addr, err)
	}
	if m, err := d.MSI(); err == nil {
		l, msg, err := s.irqs.message(0)
		if err != nil {
			return nil, false, err
		}
		return []irq.Line{l}, false, m.Enable(msg, 1)
	} else if !errors.Is(err, pci.ErrNoMSI) {
		log.Warnf("pci %v: %v; its pin is used", d.Addr, err)
	}
	if d.IntPin == 0 {
		return nil, false, errors.New("no interrupt: neither a message nor a pin")
	}
	d.SetINTx(true)
	l, err := s.irqs.pci(d.IntLine)
	if err != nil {
		return nil, false, err
	}
	return []irq.Line{l}, false, nil
}

// ramRanges is where no BAR may be.
func ramRanges() []pci.Range {
	var out []pci.Range
	for _, r := range gate.RAM() {
		out = append(out, pci.Range{Base: r.Start, Size: r.End - r.Start})
	}
	return out
}
