package scsi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Peripheral device types, SPC-4 table 147.
const (
	typeDisk   = 0x00
	typeNoUnit = 0x1f
)

var typeNames = map[byte]string{1: "tape drive", 2: "printer", 3: "processor", 4: "write-once disk", 5: "CD-ROM or DVD drive",
	7: "optical disk", 8: "medium changer", 0xc: "storage array", 0xd: "enclosure", 0xe: "simplified disk", 0x14: "zoned disk"}

// unit is what a logical unit says of itself.
type unit struct {
	kind      byte // peripheral device type
	present   bool // peripheral qualifier 000b
	removable bool
	queuing   bool // CMDQUE
	version   byte
	vendor    string
	product   string
	revision  string
}

func (u unit) String() string { return fmt.Sprintf("%s %s %s", u.vendor, u.product, u.revision) }

// inquiryBytes is all of standard INQUIRY data that is read, which every unit has.
const inquiryBytes = 36

// parseInquiry is SPC-4 §6.6.2.
func parseInquiry(b []byte) (u unit, err error) {
	if len(b) < inquiryBytes {
		return u, fmt.Errorf("standard INQUIRY data of %d bytes", len(b))
	}
	u.kind, u.present = b[0]&0x1f, b[0]>>5 == 0 && b[0]&0x1f != typeNoUnit
	u.removable = b[1]&0x80 != 0
	u.version = b[2]
	u.queuing = b[7]&2 != 0
	u.vendor, u.product, u.revision = text(b[8:16]), text(b[16:32]), text(b[32:36])
	return u, nil
}

// text is a field of printable ASCII without its padding.
func text(b []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, string(b)))
}

// Pages of vital product data, SPC-4 §7.8 and SBC-3 §6.6.
const (
	vpdSupported    = 0x00
	vpdSerial       = 0x80
	vpdIdentify     = 0x83
	vpdBlockLimits  = 0xb0
	vpdCharacter    = 0xb1
	vpdProvisioning = 0xb2
)

// vpdBytes is how much of a page is read.
const vpdBytes = 252

// parseVPD returns the contents of page, behind the header of 4 bytes.
func parseVPD(b []byte, page byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("VPD page %02xh of %d bytes", page, len(b))
	}
	if b[1] != page {
		return nil, fmt.Errorf("VPD page %02xh is page %02xh", page, b[1])
	}
	return b[4:min(len(b), 4+int(binary.BigEndian.Uint16(b[2:])))], nil
}

// parseDesignators looks for a name of the unit in page 83h, SPC-4 §7.8.6: NAA,
// else EUI-64, else the vendor's; empty where there is none.
func parseDesignators(b []byte) string {
	best, rank := "", 0
	for len(b) >= 4 {
		n := 4 + int(b[3])
		if n > len(b) {
			break
		}
		d := b[4:n]
		name, r := "", 0
		if b[1]>>4&3 == 0 { // of the logical unit
			switch b[1] & 15 {
			case 3:
				name, r = fmt.Sprintf("naa.%x", d), 3
			case 2:
				name, r = fmt.Sprintf("eui.%x", d), 2
			case 1:
				name, r = text(d), 1
			case 0:
				name, r = text(d), 1
			}
		}
		if r > rank && len(d) > 0 && name != "" {
			best, rank = name, r
		}
		b = b[n:]
	}
	return best
}

// blockLimits is page B0h, SBC-3 §6.6.4, in blocks. 0 is no limit, but for unmap:
// none.
type blockLimits struct {
	maxTransfer      uint32
	maxUnmap         uint32
	maxUnmapList     uint32 // descriptors
	unmapGranularity uint32
	maxWriteSame     uint64
}

func parseBlockLimits(b []byte) (l blockLimits) {
	at := func(page, n int) []byte { // offsets are of the whole page
		var v [8]byte
		if page-4+n <= len(b) {
			copy(v[8-n:], b[page-4:])
		}
		return v[:]
	}
	u32 := func(page int) uint32 { return uint32(binary.BigEndian.Uint64(at(page, 4))) }
	l.maxTransfer = u32(8)
	l.maxUnmap, l.maxUnmapList = u32(20), u32(24)
	l.unmapGranularity = u32(28)
	l.maxWriteSame = binary.BigEndian.Uint64(at(36, 8))
	return l
}

// provisioning is page B2h, SBC-3 §6.6.6.
type provisioning struct {
	unmap       bool // LBPU: UNMAP
	writeSame   bool // LBPWS: WRITE SAME (16) with UNMAP
	readsZeroes bool // LBPRZ
}

func parseProvisioning(b []byte) (p provisioning) {
	if len(b) >= 4 {
		p.unmap, p.writeSame, p.readsZeroes = b[1]&0x80 != 0, b[1]&0x40 != 0, b[1]>>2&7 == 1
	}
	return p
}

// parseCharacteristics is page B1h, SBC-3 §6.6.2: the rotations per minute, 1 where
// nothing rotates, 0 where that is not said.
func parseCharacteristics(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(b))
}

// capacity is what READ CAPACITY tells.
type capacity struct {
	blocks    uint64
	blockSize uint32 // bytes
	physical  int    // log2 of logical blocks in a physical one
	protected bool   // protection information: blocks are larger on the wire
	zeroes    bool   // LBPRZ
	beyond    bool   // READ CAPACITY (10) cannot tell
}

var errShortCapacity = errors.New("READ CAPACITY data is too short")

// parseCapacity10 is SBC-3 §5.15.2.
func parseCapacity10(b []byte) (c capacity, err error) {
	if len(b) < 8 {
		return c, errShortCapacity
	}
	last := binary.BigEndian.Uint32(b)
	c.beyond = last == 1<<32-1
	c.blocks, c.blockSize = uint64(last)+1, binary.BigEndian.Uint32(b[4:])
	return c, nil
}

const capacity16Bytes = 32

// parseCapacity16 is SBC-3 §5.16.2.
func parseCapacity16(b []byte) (c capacity, err error) {
	if len(b) < 16 {
		return c, errShortCapacity
	}
	last := binary.BigEndian.Uint64(b)
	if last == 1<<64-1 {
		return c, errors.New("READ CAPACITY (16) says that the last block is ffffffffffffffffh")
	}
	c.blocks, c.blockSize = last+1, binary.BigEndian.Uint32(b[8:])
	c.protected = b[12]&1 != 0
	c.physical = int(b[13] & 15)
	c.zeroes = b[14]&0x40 != 0
	return c, nil
}

// parseModeSense reads the header's write protection and, of the caching page,
// whether there is a volatile write cache, SPC-4 §7.5.5 and SBC-3 §6.5.5. Without
// that page the answer is yes, which costs flushes that do nothing.
func parseModeSense(b []byte) (readOnly, cache bool) {
	if len(b) < 4 {
		return false, true
	}
	b = b[:min(len(b), 1+int(b[0]))]
	if len(b) < 4 {
		return false, true
	}
	readOnly, cache = b[2]&0x80 != 0, true
	for p := b[min(len(b), 4+int(b[3])):]; len(p) >= 3; {
		n := 2 + int(p[1])
		if p[0]&0x40 != 0 { // sub-page format
			if len(p) < 4 {
				break
			}
			n = 4 + int(binary.BigEndian.Uint16(p[2:]))
		} else if p[0]&0x3f == pageCaching {
			cache = p[2]&4 != 0 // WCE
		}
		if n > len(p) {
			break
		}
		p = p[n:]
	}
	return readOnly, cache
}

const pageCaching = 0x08

// maxUnits is how many units of one target are looked at.
const maxUnits = 63

// parseLUNs is SPC-4 §6.33.2: the units with a single level, each once.
func parseLUNs(b []byte) (units []LUN, others int) {
	if len(b) < 8 {
		return nil, 0
	}
	n := min(int(binary.BigEndian.Uint32(b)), len(b)-8)
	seen := map[int]bool{}
	for l := b[8 : 8+max(n, 0)]; len(l) >= 8; l = l[8:] {
		k, flat := LUN(l).Flat()
		if !flat {
			others++
		} else if !seen[k] {
			seen[k] = true
			units = append(units, FlatLUN(k))
		}
	}
	return units, others
}
