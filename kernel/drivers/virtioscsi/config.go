package virtioscsi

import (
	"osv/kernel/blk"
	"osv/kernel/drivers/scsi"
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/mmio"
)

// Device configuration layout, §5.6.4.
const (
	cfgNumQueues     mmio.Off = 0  // 32 bits: request queues
	cfgSegMax        mmio.Off = 4  // 32 bits: data segments of a command
	cfgMaxSectors    mmio.Off = 8  // 32 bits: hint, in sectors
	cfgCmdPerLUN     mmio.Off = 12 // 32 bits
	cfgEventInfoSize mmio.Off = 16 // 32 bits, bytes
	cfgSenseSize     mmio.Off = 20 // 32 bits, bytes; driver may write
	cfgCDBSize       mmio.Off = 24 // 32 bits, bytes; driver may write
	cfgMaxChannel    mmio.Off = 28 // 16 bits
	cfgMaxTarget     mmio.Off = 30 // 16 bits
	cfgMaxLUN        mmio.Off = 32 // 32 bits
)

// Feature bits, §5.6.3.
const (
	featHotplug virtio.Features = 1 << 1
	featChange  virtio.Features = 1 << 2
)

func wanted(cfg Config) virtio.Features {
	w := featHotplug | featChange | virtio.FeatureIndirectDesc
	if !cfg.NoEventIdx {
		w |= virtio.FeatureEventIdx
	}
	return w
}

// scsiConf is the device configuration, checked.
type scsiConf struct {
	numQueues, segMax, maxSectors, cmdPerLUN, eventSize, senseSize, cdbSize uint32
	maxTarget                                                               uint16
}

func (c *scsiConf) maxBytes() int { return int(min(c.maxSectors, 1<<21)) * blk.SectorSize }

// readConfig reads the configuration. Sizes of CDB and sense data are what the
// reset made them, §5.6.4.1; they are taken as they are.
func (d *Device) readConfig() error {
	c, err := virtio.ReadConfig(d.dev, func(r *virtio.ConfigReader) scsiConf {
		return scsiConf{numQueues: r.U32(cfgNumQueues), segMax: r.U32(cfgSegMax), maxSectors: r.U32(cfgMaxSectors),
			cmdPerLUN: r.U32(cfgCmdPerLUN), eventSize: r.U32(cfgEventInfoSize), senseSize: r.U32(cfgSenseSize),
			cdbSize: r.U32(cfgCDBSize), maxTarget: r.U16(cfgMaxTarget)}
	})
	if err != nil {
		return err
	}
	const most = 256
	switch {
	case c.numQueues == 0:
		return d.dev.Errorf("device has no request queue")
	case c.segMax == 0:
		return d.dev.Errorf("device takes commands of 0 segments")
	case c.eventSize < eventBytes || c.eventSize > most:
		return d.dev.Errorf("device has events of %d bytes", c.eventSize)
	case c.senseSize > most:
		return d.dev.Errorf("device has sense data of %d bytes", c.senseSize)
	case c.cdbSize < 16 || c.cdbSize > most:
		return d.dev.Errorf("device takes CDBs of %d bytes", c.cdbSize)
	}
	c.maxTarget = min(c.maxTarget, 255)   // one byte of a LUN names it
	c.cmdPerLUN = min(c.cmdPerLUN, 1<<16) // 0 is no limit
	d.conf = c
	return nil
}

// putLUN writes the 8 bytes that name a unit, §5.6.6.1: 1, the target, and a
// single-level LUN in flat space addressing.
func putLUN(b []byte, a scsi.Address) {
	n, _ := a.LUN.Flat() // the layer knows no others
	copy(b, []byte{1, byte(a.Target), 0x40 | byte(n>>8), byte(n), 0, 0, 0, 0})
}

// addressOf is putLUN backwards, for events.
func addressOf(b []byte) scsi.Address {
	return scsi.Address{Target: int(b[1]), LUN: scsi.FlatLUN(int(b[2]&0x3f)<<8 | int(b[3]))}
}
