package platform

import (
	"errors"
	"fmt"

	"osv/kernel/blk"
	"osv/kernel/drivers/ahci"
	"osv/kernel/drivers/nvme"
	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtioblk"
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
		if f.pci != nil {
			s.attachPCIDisks(f)
		} else if f.id == virtio.IDBlock {
			if err := s.attachVirtioDisk(f); err != nil {
				log.Warnf("%s: %v", f.where, err)
			}
		}
	}
}

// attachPCIDisks gives a function to the driver that knows it, where one does.
func (s *System) attachPCIDisks(f found) {
	for _, d := range diskDrivers {
		if !d.is(f.pci) {
			continue
		}
		if err := s.openPCIDisks(f, d); err != nil {
			log.Warnf("%s: %s: %v", f.where, d.name, err)
		}
		return
	}
}

func (s *System) openPCIDisks(f found, d diskDriver) error {
	regs, err := f.pci.MapBAR(d.bar, portMapper{})
	if err != nil {
		return err
	}
	lines, _, err := s.pciLines(f.pci, min(d.lines, 1+gate.CPUs()))
	if err != nil {
		return err
	}
	f.pci.SetBusMaster(true)
	first := len(s.Disks)
	disks, err := d.open(s, regs, lines, func(i int) string { return fmt.Sprintf("blk%d", first+i) })
	for _, l := range lines {
		if err != nil {
			l.Close()
		}
	}
	for _, k := range disks {
		s.addDisk(k, f.where+" "+d.name)
	}
	return err
}

// CloseDisks shuts all disks down, which also writes out what their controllers
// cache. A program that writes calls it before it ends; nobody else does.
func (s *System) CloseDisks() error {
	var errs []error
	for _, d := range s.Disks {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

func (s *System) attachVirtioDisk(f found) error {
	t, lines, err := f.open(1 + gate.CPUs())
	if err != nil {
		return err
	}
	d, err := virtioblk.New(t, s.Memory, lines, virtioblk.Config{Name: fmt.Sprintf("blk%d", len(s.Disks))})
	if err != nil {
		return err
	}
	s.addDisk(d, f.where)
	return nil
}

func (s *System) addDisk(d blk.Disk, where string) {
	s.Disks = append(s.Disks, d)
	more := ""
	if q, ok := d.(interface{ Queues() int }); ok {
		more = fmt.Sprintf(", %d queues", q.Queues())
	}
	log.Infof("%s: %s, %d MiB, blocks of %d bytes%s", d.Name(), where, d.Size()>>20, d.BlockSize(), more)
}
