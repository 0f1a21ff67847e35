package nvme

import (
	"encoding/binary"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
)

// Controller properties, Base 2.0 §3.1.3 figure 35.
const (
	regCAP  mmio.Off = 0x00 // R  64 bits: capabilities
	regVS   mmio.Off = 0x08 // R  version
	regCC   mmio.Off = 0x14 // RW configuration
	regCSTS mmio.Off = 0x1c // R  status
	regAQA  mmio.Off = 0x24 // RW admin queue sizes
	regASQ  mmio.Off = 0x28 // RW 64 bits: admin submission queue
	regACQ  mmio.Off = 0x30 // RW 64 bits: admin completion queue

	// regDoorbells is where the PCIe transport has its doorbells (PCIe Transport
	// 1.0 §3.1.2): for queue y, SQyTDBL at 2y strides and CQyHDBL at 2y+1.
	regDoorbells mmio.Off = 0x1000
)

// capReg is the CAP property, §3.1.3.1.
type capReg uint64

func (c capReg) mqes() int { return int(c&0xffff) + 1 } // entries of a queue
func (c capReg) timeout() time.Duration {
	return time.Duration(max(c>>24&0xff, 1)) * 500 * time.Millisecond
}
func (c capReg) stride() mmio.Off { return 4 << (c >> 32 & 15) }
func (c capReg) css() uint8       { return uint8(c >> 37) }
func (c capReg) minPage() int     { return 4096 << (c >> 48 & 15) }

const (
	cssNVM      = 1 << 0 // CAP.CSS: the NVM command set
	cssSelected = 1 << 6 // CAP.CSS: I/O command sets by their identifiers
)

// CC, §3.1.3.5.
const (
	ccEnable      uint32 = 1 << 0
	ccCSSAll      uint32 = 6 << 4 // all supported I/O command sets
	ccMPSShift           = 7
	ccSHNNormal   uint32 = 1 << 14
	ccSHNMask     uint32 = 3 << 14
	ccEntrySizes  uint32 = 6<<16 | 4<<20 // 64 bytes of submission, 16 of completion
	cstsReady     uint32 = 1 << 0
	cstsFatal     uint32 = 1 << 1
	cstsSHSTMask  uint32 = 3 << 2
	cstsSHSTDone  uint32 = 2 << 2
	cstsGone      uint32 = 1<<32 - 1 // what a read of a device that is not there gives
	versionOf1_1  uint32 = 1<<16 | 1<<8
	sqeBytes             = 64
	cqeBytes             = 16
	maxDepth             = 1024 // ours: a command identifier has ten bits of slot
	cidSlot              = maxDepth - 1
	cidGeneration        = maxDepth
)

// Admin commands, §5 figure 88.
const (
	adminDeleteSQ    = 0x00
	adminCreateSQ    = 0x01
	adminDeleteCQ    = 0x04
	adminCreateCQ    = 0x05
	adminIdentify    = 0x06
	adminAbort       = 0x08
	adminSetFeatures = 0x09

	featNumberOfQueues = 0x07

	cnsNamespace  = 0x00
	cnsController = 0x01
	cnsActiveList = 0x02
	cnsCSCtrl     = 0x06 // of the command set in CDW11
)

// NVM commands, NVM Command Set 1.0 §3.
const (
	nvmFlush       = 0x00
	nvmWrite       = 0x01
	nvmRead        = 0x02
	nvmWriteZeroes = 0x08
	nvmDSM         = 0x09

	dsmDeallocate = 1 << 2  // CDW11.AD
	wzDeallocate  = 1 << 25 // CDW12.DEAC
	dsmRangeBytes = 16
)

// command is a submission queue entry, Base 2.0 §3.3.3.1, in dwords.
type command [16]uint32

func newCommand(opcode uint8, nsid uint32) command {
	var c command
	c[0], c[1] = uint32(opcode), nsid
	return c
}

func (c *command) setCID(cid uint16) { c[0] = c[0]&0xffff | uint32(cid)<<16 }

// setPRP fills in PRP1 and PRP2.
func (c *command) setPRP(prp1, prp2 dma.Addr) {
	c[6], c[7] = uint32(prp1), uint32(prp1>>32)
	c[8], c[9] = uint32(prp2), uint32(prp2>>32)
}

// setSLBA fills in the starting block, CDW10 and CDW11.
func (c *command) setSLBA(lba uint64) { c[10], c[11] = uint32(lba), uint32(lba>>32) }

func (c *command) store(b []byte) {
	for i, v := range c {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
}

// completion is what counts of a completion queue entry, §3.3.3.2.
type completion struct {
	result uint32 // DW0
	status status
	err    error // ours: no completion came
}
