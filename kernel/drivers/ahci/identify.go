package ahci

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// geometry is what counts of the IDENTIFY DEVICE data, ACS-3 §7.12.7.
type geometry struct {
	serial, model string
	sectors       uint64 // logical sectors
	shift         int    // log2 of a logical sector's bytes
	lba48         bool
	depth         int // of queued commands; 0: none
	cache         bool
	flushExt      bool
	trim          bool
}

const identifyBytes = 512

// parseIdentify reads IDENTIFY data and refuses what makes no sense.
func parseIdentify(b []byte) (g geometry, err error) {
	word := func(i int) uint16 { return binary.LittleEndian.Uint16(b[2*i:]) }
	valid := func(i int) uint16 { // words whose bits 15:14 say 01
		if w := word(i); w>>14 == 1 {
			return w
		}
		return 0
	}
	if b[510] == 0xa5 { // word 255: signature and checksum
		var sum uint8
		for _, x := range b[:identifyBytes] {
			sum += x
		}
		if sum != 0 {
			return g, fmt.Errorf("identify data have a wrong checksum")
		}
	}
	switch {
	case word(0)>>15 != 0:
		return g, fmt.Errorf("identify data are not of an ATA device (word 0 is %#04x)", word(0))
	case word(49)>>8&3 != 3:
		return g, fmt.Errorf("device has no LBA or no DMA (word 49 is %#04x)", word(49))
	}
	g.serial, g.model = swapped(b[20:40]), swapped(b[54:94])
	g.lba48 = valid(83)&(1<<10) != 0
	g.flushExt = valid(83)&(1<<13) != 0
	g.cache = word(85)&(1<<5) != 0
	g.trim = word(169)&1 != 0 && word(169) != 0xffff
	if w := word(76); w != 0xffff && w&(1<<8) != 0 && g.lba48 {
		g.depth = int(word(75)&31) + 1
	}
	g.sectors = uint64(word(61))<<16 | uint64(word(60))
	if g.lba48 {
		g.sectors = binary.LittleEndian.Uint64(b[200:])
	}
	size := 512
	if valid(106)&(1<<12) != 0 {
		size = 2 * (int(word(118))<<16 | int(word(117)))
	}
	for g.shift = 9; 1<<g.shift < size && g.shift < 16; g.shift++ {
	}
	switch {
	case 1<<g.shift != size:
		return g, fmt.Errorf("device says its sectors have %d bytes", size)
	case g.sectors == 0 || g.sectors > 1<<48 || !g.lba48 && g.sectors > 1<<28:
		return g, fmt.Errorf("device says it has %d sectors", g.sectors)
	}
	return g, nil
}

// swapped is an ATA string: two characters in each word, the first in its upper
// byte, padded by spaces.
func swapped(b []byte) string {
	var s strings.Builder
	for i := range b {
		if c := b[i^1]; c >= ' ' && c <= '~' {
			s.WriteByte(c)
		}
	}
	return strings.TrimSpace(s.String())
}

// ncqError is what the log of NCQ errors tells, ACS-3 §A.14: which tag failed, and
// with which status and error.
type ncqError struct {
	tag           int
	status, error uint8
}

// parseNCQError reads log 10h. It reports false where the checksum is wrong or the
// log is of a command that was not queued or did not fail.
func parseNCQError(b []byte) (e ncqError, ok bool) {
	var sum uint8
	for _, x := range b[:512] {
		sum += x
	}
	return ncqError{tag: int(b[0] & 31), status: b[2], error: b[3]}, sum == 0 && b[0]>>7 == 0 && b[2]&1 != 0
}
