package nvme

import (
	"encoding/binary"
	"errors"
	"strings"

	"osv/kernel/blk"
)

// info is what counts of the Identify Controller data, Base 2.0 §5.17.2.1, as
// read and not yet judged.
type info struct {
	serial, model string
	maxTransfer   int // bytes, MDTS; 0: no limit
	namespaces    uint32
	discard       bool // ONCS: dataset management
	writeZeroes   bool
	cache         bool   // a volatile write cache is there
	wzLimit       int    // bytes, WZSL; 0: no limit
	dsmBlocks     uint32 // blocks of one range, DMRSL; 0: no limit
}

const identifyBytes = 4096

// parseController reads the 4096 bytes that CNS 01h gives.
func parseController(b []byte, minPage int) info {
	oncs := binary.LittleEndian.Uint16(b[520:])
	i := info{
		serial:      text(b[4:24]),
		model:       text(b[24:64]),
		namespaces:  binary.LittleEndian.Uint32(b[516:]),
		discard:     oncs&(1<<2) != 0,
		writeZeroes: oncs&(1<<3) != 0,
		cache:       b[525]&1 != 0,
	}
	i.maxTransfer = powerOfPages(b[77], minPage)
	return i
}

// parseCommandSet reads what CNS 06h gives for the NVM command set, NVM Command
// Set 1.0 §4.1.5.4.
func (i *info) parseCommandSet(b []byte, minPage int) {
	i.wzLimit = powerOfPages(b[1], minPage)
	i.dsmBlocks = binary.LittleEndian.Uint32(b[4:])
}

// powerOfPages is 2^exp pages in bytes; 0 is no limit, as is more than anybody
// would transfer.
func powerOfPages(exp uint8, page int) int {
	if exp == 0 || exp > 24 {
		return 0
	}
	return page << exp
}

// text is an ASCII field, padded by spaces, with what is not printable dropped.
func text(b []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b)))
}

// nsInfo is what counts of the Identify Namespace data, NVM Command Set 1.0
// §4.1.5.1.
type nsInfo struct {
	blocks    uint64 // NSZE
	shift     int    // log2 of a block's bytes
	metadata  int    // bytes of each block
	protected bool   // NSATTR: write protected
	unmap     bool   // DLFEAT: write-zeroes may deallocate, and zeroes are read then
}

// parseNamespace reads the 4096 bytes that CNS 00h gives. It reports false where
// the format named does not exist.
func parseNamespace(b []byte) (n nsInfo, ok bool) {
	flbas, last := b[26], int(b[25])
	format := int(flbas&15) | int(flbas>>5&3)<<4
	if last < 16 {
		format = int(flbas & 15) // the upper bits count only with more formats than 16
	}
	if format > last || format > 63 {
		return n, false
	}
	lbaf := binary.LittleEndian.Uint32(b[128+4*format:])
	return nsInfo{
		blocks:    binary.LittleEndian.Uint64(b),
		shift:     int(lbaf >> 16 & 0xff),
		metadata:  int(lbaf & 0xffff),
		protected: b[99]&1 != 0,
		unmap:     b[33]&15 == 1|1<<3,
	}, true
}

// parseList reads a namespace list, Base 2.0 §4.4.2: ascending identifiers up to a
// 0. It returns those above after, and false where the order is broken.
func parseList(b []byte, after uint32) (ids []uint32, ok bool) {
	for ; len(b) >= 4; b = b[4:] {
		id := binary.LittleEndian.Uint32(b)
		if id == 0 {
			break
		}
		if id <= after || id >= 0xffffffff {
			return ids, false
		}
		ids, after = append(ids, id), id
	}
	return ids, true
}

// identifyPage runs an Identify command. The bytes are the controller's buffer,
// good until the next.
func (c *Controller) identifyPage(cns, nsid, dw11 uint32) ([]byte, error) {
	clear(c.buffer.Bytes)
	cmd := newCommand(adminIdentify, nsid)
	cmd.setPRP(c.buffer.Bus, 0)
	cmd[10], cmd[11] = cns, dw11
	_, err := c.exec(&cmd)
	return c.buffer.Bytes[:identifyBytes], err
}

// identify asks the controller what it can do.
func (c *Controller) identify() error {
	b, err := c.identifyPage(cnsController, 0, 0)
	if err != nil {
		return err
	}
	i := parseController(b, c.cap.minPage())
	if c.cap.css()&cssSelected != 0 {
		if b, err = c.identifyPage(cnsCSCtrl, 0, 0); err == nil {
			i.parseCommandSet(b, c.cap.minPage())
		} else if status := (*adminError)(nil); !errors.As(err, &status) {
			return err
		}
	}
	c.info = i
	return nil
}

// maxNamespaces is how many disks one controller may become.
const maxNamespaces = 256

// activeNamespaces are the identifiers in use: by list, or, from a controller of
// 1.0, all.
func (c *Controller) activeNamespaces() ([]uint32, error) {
	var ids []uint32
	if c.version < versionOf1_1 {
		for id := uint32(1); id <= min(c.info.namespaces, maxNamespaces); id++ {
			ids = append(ids, id)
		}
		return ids, nil
	}
	b, err := c.identifyPage(cnsActiveList, 0, 0)
	if err != nil {
		return nil, err
	}
	ids, ok := parseList(b, 0)
	if !ok {
		return nil, c.protocolf("the list of namespaces is not in order")
	}
	if len(ids) > maxNamespaces {
		log.Warnf("%d namespaces, the first %d are used", len(ids), maxNamespaces)
		ids = ids[:maxNamespaces]
	}
	return ids, nil
}

// findNamespaces makes a disk of each active namespace that is in a format we
// read. Caller must hold mu.
func (c *Controller) findNamespaces() error {
	ids, err := c.activeNamespaces()
	if err != nil {
		return err
	}
	for _, id := range ids {
		b, err := c.identifyPage(cnsNamespace, id, 0)
		if status := (*adminError)(nil); errors.As(err, &status) {
			log.Warnf("namespace %d: %v", id, err)
			continue
		}
		if err != nil {
			return err
		}
		i, ok := parseNamespace(b)
		switch {
		case !ok:
			log.Warnf("namespace %d: its format is not in its own list", id)
		case i.blocks == 0: // inactive
		case i.shift < 9 || i.shift > 16:
			log.Warnf("namespace %d: blocks of 2^%d bytes", id, i.shift)
		case i.metadata != 0:
			log.Warnf("namespace %d: %d bytes of metadata in each block are not supported", id, i.metadata)
		case i.blocks > 1<<62>>i.shift:
			log.Warnf("namespace %d: %d blocks of 2^%d bytes", id, i.blocks, i.shift)
		default:
			n, err := c.newNamespace(id, i)
			if err != nil {
				return err
			}
			c.spaces = append(c.spaces, n)
		}
	}
	return nil
}

var _ blk.Disk = (*Namespace)(nil)
