package platform

import (
	"errors"
	"fmt"
	"slices"

	"osv/kernel/blk"
	"osv/kernel/drivers/ahci"
	"osv/kernel/drivers/nvme"
	"osv/kernel/drivers/pvscsi"
	"osv/kernel/drivers/scsi"
	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtioblk"
	"osv/kernel/drivers/virtioscsi"
	"osv/kernel/hw/gate"
	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pci"
	"osv/kernel/irq"
)

// diskDriver is one line of the table of PCI controllers with disks.
type diskDriver struct {
	name string
	is   func(*pci.Device) bool
	bar  int // with the registers
	// lines is how many interrupt lines it can use.
	lines int
	// open starts the controller and returns its disks, named by name(0), name(1), …
	open func(s *System, regs mmio.Space, lines []irq.Line, name func(int) string) ([]blk.Disk, error)
}

// diskDrivers is asked from top to bottom. Classes are of PCI Code and ID
// Assignment 1.11, §1.2.
var diskDrivers = []diskDriver{
	{
		name: "nvme", bar: 0, lines: 1 + 64,
		is: func(d *pci.Device) bool { return d.Class == 0x010802 }, // NVM Express I/O controller
		open: func(s *System, regs mmio.Space, lines []irq.Line, name func(int) string) ([]blk.Disk, error) {
			c, err := nvme.New(regs, s.Memory, lines, nvme.Config{Name: name})
			if err != nil {
				return nil, err
			}
			return orClose(c.Disks(), c)
		},
	},
	{
		name: "ahci", bar: 5, lines: 1,
		is: func(d *pci.Device) bool { return d.Class == 0x010601 }, // SATA, AHCI 1.0
		open: func(s *System, regs mmio.Space, lines []irq.Line, name func(int) string) ([]blk.Disk, error) {
			c, err := ahci.New(regs, s.Memory, lines[0], ahci.Config{Name: name})
			if err != nil {
				return nil, err
			}
			return orClose(c.Disks(), c)
		},
	},
	{
		name: "pvscsi", bar: 0, lines: 1,
		is: func(d *pci.Device) bool { return d.VendorID == 0x15ad && d.DeviceID == 0x07c0 }, // VMware's
		open: func(s *System, regs mmio.Space, lines []irq.Line, name func(int) string) ([]blk.Disk, error) {
			a, err := pvscsi.New(regs, s.Memory, lines[0], pvscsi.Config{SCSI: scsi.Config{Name: name}})
			if err != nil {
				return nil, err
			}
			return orClose(a.Disks(), a)
		},
	},
}

// virtioDisks are the kinds of virtio devices with disks, and how each is opened.
var virtioDisks = map[virtio.DeviceID]func(s *System, t virtio.Transport, lines []irq.Line, name func(int) string) ([]blk.Disk, error){
	virtio.IDBlock: func(s *System, t virtio.Transport, lines []irq.Line, name func(int) string) ([]blk.Disk, error) {
		d, err := virtioblk.New(t, s.Memory, lines, virtioblk.Config{Name: name(0)})
		if err != nil {
			return nil, err
		}
		return []blk.Disk{d}, nil
	},
	virtio.IDSCSI: func(s *System, t virtio.Transport, lines []irq.Line, name func(int) string) ([]blk.Disk, error) {
		d, err := virtioscsi.New(t, s.Memory, lines, virtioscsi.Config{SCSI: scsi.Config{Name: name}})
		if err != nil {
			return nil, err
		}
		return orClose(d.Disks(), d)
	},
}

// orClose returns the disks, or closes a controller that has none.
func orClose(disks []blk.Disk, c interface{ Close() error }) ([]blk.Disk, error) {
	if len(disks) == 0 {
		return nil, c.Close()
	}
	return disks, nil
}

// attachDisks makes a driver of each disk: blk0, blk1, … in scan order, PCI
// functions by address, then MMIO slots.
func (s *System) attachDisks(bus []found) {
	for _, f := range bus {
		var err error
		if f.pci != nil {
			err = s.attachPCIDisks(f)
		} else if open := virtioDisks[f.id]; open != nil {
			var t virtio.Transport
			var lines []irq.Line
			if t, lines, err = f.open(1 + gate.CPUs()); err == nil {
				err = s.addDisks(f.where, lines, func(name func(int) string) ([]blk.Disk, error) { return open(s, t, lines, name) })
			}
		}
		if err != nil {
			log.Warnf("%s: %v", f.where, err)
		}
	}
}

// attachPCIDisks gives a function to the driver that knows it, where one does.
func (s *System) attachPCIDisks(f found) error {
	i := slices.IndexFunc(diskDrivers, func(d diskDriver) bool { return d.is(f.pci) })
	if i < 0 {
		return nil
	}
	d := diskDrivers[i]
	regs, err := f.pci.MapBAR(d.bar, portMapper{})
	if err != nil {
		return err
	}
	lines, _, err := s.pciLines(f.pci, min(d.lines, 1+gate.CPUs()))
	if err != nil {
		return err
	}
	f.pci.SetBusMaster(true)
	return s.addDisks(f.where+" "+d.name, lines, func(name func(int) string) ([]blk.Disk, error) { return d.open(s, regs, lines, name) })
}

// addDisks opens the disks of one device, whose lines are of no use where that
// fails.
func (s *System) addDisks(where string, lines []irq.Line, open func(name func(int) string) ([]blk.Disk, error)) error {
	first := len(s.Disks)
	disks, err := open(func(i int) string { return fmt.Sprintf("blk%d", first+i) })
	if err != nil {
		for _, l := range lines {
			l.Close()
		}
		return err
	}
	if len(disks) > 0 {
		s.irqs.nameLines(lines, disks[0].Name())
	}
	for _, d := range disks {
		more := ""
		if q, ok := d.(interface{ Queues() int }); ok {
			more = fmt.Sprintf(", %d queues", q.Queues())
		}
		log.Infof("%s: %s, %d MiB, blocks of %d bytes%s", d.Name(), where, d.Size()>>20, d.BlockSize(), more)
	}
	s.Disks = append(s.Disks, disks...)
	return nil
}

// CloseDisks shuts all disks down, which also writes out what their controllers
// cache, and says what went wrong. The ordinary end of the program does it too: see
// AtExit.
func (s *System) CloseDisks() error {
	var errs []error
	for _, d := range s.Disks {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}
