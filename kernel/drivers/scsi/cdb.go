package scsi

import (
	"encoding/binary"

	"osv/kernel/blk"
)

// Operation codes, SPC-4 table E.2.
const (
	opTestUnitReady  = 0x00
	opInquiry        = 0x12
	opModeSense6     = 0x1a
	opStartStopUnit  = 0x1b
	opReadCapacity10 = 0x25
	opRead10         = 0x28
	opWrite10        = 0x2a
	opSyncCache10    = 0x35
	opUnmap          = 0x42
	opRead16         = 0x88
	opWrite16        = 0x8a
	opWriteSame16    = 0x93
	opServiceIn16    = 0x9e
	opReportLUNs     = 0xa0

	serviceReadCapacity16 = 0x10
)

// cdb is a command descriptor block and its length.
type cdb struct {
	b [16]byte
	n int
}

func cdb6(op byte) cdb { return cdb{b: [16]byte{op}, n: 6} }

// inquiry is SPC-4 §6.6. vpd asks for a page of vital product data.
func inquiry(vpd bool, page byte, length int) cdb {
	c := cdb6(opInquiry)
	if vpd {
		c.b[1], c.b[2] = 1, page
	}
	binary.BigEndian.PutUint16(c.b[3:], uint16(length))
	return c
}

// modeSense is SPC-4 §6.13, without block descriptors.
func modeSense(page byte, length int) cdb {
	c := cdb6(opModeSense6)
	c.b[1], c.b[2], c.b[4] = 1<<3, page, byte(length)
	return c
}

// startUnit is SBC-3 §5.25 with START.
func startUnit() cdb {
	c := cdb6(opStartStopUnit)
	c.b[4] = 1
	return c
}

// reportLUNs is SPC-4 §6.33, for all that are accessible.
func reportLUNs(length int) cdb {
	c := cdb{b: [16]byte{opReportLUNs}, n: 12}
	binary.BigEndian.PutUint32(c.b[6:], uint32(length))
	return c
}

func readCapacity10() cdb { return cdb{b: [16]byte{opReadCapacity10}, n: 10} }

// readCapacity16 is SBC-3 §5.16.
func readCapacity16(length int) cdb {
	c := cdb{b: [16]byte{opServiceIn16, serviceReadCapacity16}, n: 16}
	binary.BigEndian.PutUint32(c.b[10:], uint32(length))
	return c
}

// setCDB10 and setCDB16 make c a command on n blocks from lba.

func (c *Command) setCDB10(op byte, lba uint32, n uint16) {
	c.CDB = [16]byte{op}
	c.CDBLen = 10
	binary.BigEndian.PutUint32(c.CDB[2:], lba)
	binary.BigEndian.PutUint16(c.CDB[7:], n)
}

func (c *Command) setCDB16(op, flags byte, lba uint64, n uint32) {
	c.CDB = [16]byte{op, flags}
	c.CDBLen = 16
	binary.BigEndian.PutUint64(c.CDB[2:], lba)
	binary.BigEndian.PutUint32(c.CDB[10:], n)
}

// setTransfer is READ or WRITE: of 10 bytes where that does, since old units know
// no other, else of 16, SBC-3 §5.11 and §5.13.
func (c *Command) setTransfer(write bool, lba, n uint64) {
	short, long := byte(opRead10), byte(opRead16)
	c.Dir = FromUnit
	if write {
		short, long = opWrite10, opWrite16
		c.Dir = ToUnit
	}
	if lba+n <= 1<<32 && n <= 1<<16-1 {
		c.setCDB10(short, uint32(lba), uint16(n))
	} else {
		c.setCDB16(long, 0, lba, uint32(n))
	}
}

// Flags of WRITE SAME, SBC-3 §5.42.
const writeSameUnmap = 1 << 3

// unmapListBytes is a parameter list with one block descriptor, SBC-3 §5.28.
const unmapListBytes = 8 + 16

// setUnmap makes c an UNMAP, whose parameter list it writes to list.
func (c *Command) setUnmap(list []byte, lba uint64, n uint32) {
	c.CDB = [16]byte{opUnmap}
	c.CDBLen = 10
	binary.BigEndian.PutUint16(c.CDB[7:], unmapListBytes)
	c.Dir = ToUnit
	clear(list[:unmapListBytes])
	binary.BigEndian.PutUint16(list, unmapListBytes-2)
	binary.BigEndian.PutUint16(list[2:], 16)
	binary.BigEndian.PutUint64(list[8:], lba)
	binary.BigEndian.PutUint32(list[16:], n)
}

// setMemory points c at one piece of memory.
func (c *Command) setMemory(s blk.Seg) {
	c.Data = append(c.Data[:0], s)
	c.Len = int(s.Len)
}
