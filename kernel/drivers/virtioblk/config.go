package virtioblk

import (
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/mmio"
)

// Device configuration layout, §5.2.4.
const (
	cfgCapacity           mmio.Off = 0  // 64 bits, in sectors
	cfgSizeMax            mmio.Off = 8  // 32 bits, with SIZE_MAX
	cfgSegMax             mmio.Off = 12 // 32 bits, with SEG_MAX
	cfgBlkSize            mmio.Off = 20 // 32 bits, with BLK_SIZE
	cfgPhysicalBlockExp   mmio.Off = 24 // 8 bits, with TOPOLOGY, as the next three
	cfgAlignmentOffset    mmio.Off = 25 // 8 bits, in blocks
	cfgMinIOSize          mmio.Off = 26 // 16 bits, in blocks
	cfgOptIOSize          mmio.Off = 28 // 32 bits, in blocks
	cfgNumQueues          mmio.Off = 34 // 16 bits, with MQ
	cfgMaxDiscardSectors  mmio.Off = 36 // 32 bits, with DISCARD, as the next two
	cfgMaxDiscardSeg      mmio.Off = 40 // 32 bits
	cfgDiscardAlignment   mmio.Off = 44 // 32 bits, in sectors
	cfgMaxWriteZeroes     mmio.Off = 48 // 32 bits, with WRITE_ZEROES, as the next two
	cfgMaxWriteZeroesSeg  mmio.Off = 52 // 32 bits
	cfgWriteZeroesMayTrim mmio.Off = 56 // 8 bits
)

// Feature bits, §5.2.3.
const (
	featSizeMax     virtio.Features = 1 << 1
	featSegMax      virtio.Features = 1 << 2
	featRO          virtio.Features = 1 << 5
	featBlkSize     virtio.Features = 1 << 6
	featFlush       virtio.Features = 1 << 9
	featTopology    virtio.Features = 1 << 10
	featMQ          virtio.Features = 1 << 12
	featDiscard     virtio.Features = 1 << 13
	featWriteZeroes virtio.Features = 1 << 14
)

func wanted(cfg Config) virtio.Features {
	w := featSizeMax | featSegMax | featRO | featBlkSize | featFlush | featTopology | featDiscard | featWriteZeroes |
		virtio.FeatureIndirectDesc
	if cfg.Queues > 1 {
		w |= featMQ
	}
	if !cfg.NoEventIdx {
		w |= virtio.FeatureEventIdx
	}
	return w
}

// Topology is in bytes, §5.2.4; 0 where the device does not say.
type Topology struct {
	PhysicalBlock   int // physical block size
	AlignmentOffset int // offset of the first aligned logical block
	MinIO, OptIO    int // smallest sensible and best transfer
}

// blkConf is the device configuration, valid as features say and checked.
type blkConf struct {
	capacity          uint64 // sectors
	sizeMax           uint32 // bytes of one segment
	segMax            uint32 // data segments of one request
	blockSize         uint32
	numQueues         uint16
	maxDiscard        uint32 // sectors of one discard
	discardAlign      uint32 // sectors
	maxWriteZeroes    uint32 // sectors of one write-zeroes
	writeZeroesUnmaps bool
	topology          Topology
}

const (
	maxCapacity  = 1 << 54 // sectors: bytes fit an int64
	maxBlockSize = 1 << 16
	maxSegBytes  = 1 << 24 // ours, so that a request's length fits 32 bits
	maxSegs      = 126     // ours, with the two segments around the data
)

func (d *Device) loadConfig() (blkConf, error) {
	f := d.dev.Features
	return virtio.ReadConfig(d.dev, func(r *virtio.ConfigReader) blkConf {
		c := blkConf{capacity: r.U64(cfgCapacity), sizeMax: maxSegBytes, segMax: maxSegs, blockSize: SectorSize, numQueues: 1}
		if f.Has(featSizeMax) {
			c.sizeMax = r.U32(cfgSizeMax)
		}
		if f.Has(featSegMax) {
			c.segMax = max(r.U32(cfgSegMax), 1) // some devices say 0 and mean 1
		}
		if f.Has(featBlkSize) {
			c.blockSize = r.U32(cfgBlkSize)
		}
		if f.Has(featTopology) {
			b := int(c.blockSize)
			c.topology = Topology{
				PhysicalBlock:   b << min(r.U8(cfgPhysicalBlockExp), 16),
				AlignmentOffset: b * int(r.U8(cfgAlignmentOffset)),
				MinIO:           b * int(r.U16(cfgMinIOSize)),
				OptIO:           b * int(r.U32(cfgOptIOSize)),
			}
		}
		if f.Has(featMQ) {
			c.numQueues = r.U16(cfgNumQueues)
		}
		if f.Has(featDiscard) {
			c.maxDiscard, c.discardAlign = r.U32(cfgMaxDiscardSectors), r.U32(cfgDiscardAlignment)
			if r.U32(cfgMaxDiscardSeg) == 0 {
				c.maxDiscard = 0
			}
		}
		if f.Has(featWriteZeroes) {
			c.maxWriteZeroes = r.U32(cfgMaxWriteZeroes)
			if r.U32(cfgMaxWriteZeroesSeg) == 0 {
				c.maxWriteZeroes = 0
			}
			c.writeZeroesUnmaps = r.U8(cfgWriteZeroesMayTrim) != 0
		}
		return c
	})
}

// readConfig loads the configuration and refuses what makes no sense.
func (d *Device) readConfig() error {
	c, err := d.loadConfig()
	if err != nil {
		return err
	}
	bs := c.blockSize
	switch {
	case bs < SectorSize || bs > maxBlockSize || bs&(bs-1) != 0:
		return d.dev.Errorf("device says its blocks have %d bytes", bs)
	case c.sizeMax < bs:
		return d.dev.Errorf("device takes segments of %d bytes, with blocks of %d", c.sizeMax, bs)
	case c.numQueues == 0:
		return d.dev.Errorf("device offers multiqueue with 0 queues")
	}
	c.sizeMax = min(c.sizeMax, maxSegBytes) / bs * bs
	// A split in the middle of a block is not possible.
	c.maxDiscard = c.maxDiscard / (bs / SectorSize) * (bs / SectorSize)
	c.maxWriteZeroes = c.maxWriteZeroes / (bs / SectorSize) * (bs / SectorSize)
	if a := c.discardAlign; a > 0 && c.maxDiscard > a {
		c.maxDiscard = c.maxDiscard / a * a
	}
	d.conf = c
	return d.setCapacity(c.capacity)
}

func (d *Device) setCapacity(sectors uint64) error {
	if sectors > maxCapacity {
		return d.dev.Errorf("device says it has %d sectors", sectors)
	}
	d.capacity.Store(sectors)
	return nil
}
