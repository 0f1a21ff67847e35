package ahci

import (
	"encoding/binary"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
)

// fis is the host-to-device register FIS of a command, SATA 3.x §10.5.5.
type fis struct {
	command  uint8
	features uint16
	lba      uint64
	count    uint16
	device   uint8
}

func (f fis) store(b []byte) {
	_ = b[19]
	b[0], b[1], b[2], b[3] = 0x27, 1<<7, f.command, uint8(f.features) // C: a command
	b[4], b[5], b[6], b[7] = uint8(f.lba), uint8(f.lba>>8), uint8(f.lba>>16), f.device
	b[8], b[9], b[10], b[11] = uint8(f.lba>>24), uint8(f.lba>>32), uint8(f.lba>>40), uint8(f.features>>8)
	binary.LittleEndian.PutUint16(b[12:], f.count)
	clear(b[14:20])
}

// transfer is the command that reads or writes n logical sectors. With tag >= 0 it
// is a queued one.
func (g *geometry) transfer(write bool, lba uint64, n uint32, tag int) fis {
	switch {
	case tag >= 0: // ACS-3 §7.23: the count is in the features field
		f := fis{command: ataReadFPDMA, features: uint16(n), lba: lba, count: uint16(tag) << 3, device: deviceLBA}
		if write {
			f.command = ataWriteFPDMA
		}
		return f
	case g.lba48:
		f := fis{command: ataReadExt, lba: lba, count: uint16(n), device: deviceLBA}
		if write {
			f.command = ataWriteExt
		}
		return f
	}
	f := fis{command: ataReadDMA, lba: lba & (1<<24 - 1), count: uint16(uint8(n)), device: deviceLBA | uint8(lba>>24&15)}
	if write {
		f.command = ataWriteDMA
	}
	return f
}

// setPRDT fills in the table of physical regions, §4.2.3.3.
func setPRDT(table []byte, pieces []blk.Seg) {
	for i, p := range pieces {
		putPRD(table[tablePRDT+i*prdBytes:], p.Addr, int(p.Len))
	}
}

func putPRD(b []byte, a dma.Addr, n int) {
	binary.LittleEndian.PutUint64(b, uint64(a))
	binary.LittleEndian.PutUint32(b[8:], 0)
	binary.LittleEndian.PutUint32(b[12:], uint32(n-1))
}

// setTrim fills in the ranges of a DATA SET MANAGEMENT block, ACS-3 §7.6: 48 bits
// of LBA, 16 of count each. n is at most maxTrim.
func setTrim(b []byte, lba, n uint64) {
	for len(b) >= 8 {
		k := min(n, 0xffff)
		binary.LittleEndian.PutUint64(b, lba|k<<48)
		if k == 0 {
			binary.LittleEndian.PutUint64(b, 0)
		}
		lba, n, b = lba+k, n-k, b[8:]
	}
}

const maxTrim = trimBytes / 8 * 0xffff // logical sectors

// header fills in a command header, §4.2.2.
func header(b []byte, write bool, prds int, table dma.Addr) {
	v := headerFISLen | uint32(prds)<<16
	if write {
		v |= headerWrite
	}
	binary.LittleEndian.PutUint32(b, v)
	binary.LittleEndian.PutUint32(b[4:], 0) // PRDBC: the HBA counts
	binary.LittleEndian.PutUint64(b[8:], uint64(table))
}
