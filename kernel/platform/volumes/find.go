package volumes

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"osv/kernel/blk"
	"osv/kernel/platform"
)

// candidate is a disk or a partition, and by what it can be named.
type candidate struct {
	disk      blk.Disk
	disks     int // place of the disk among the machine's
	partition int // its number, 0 = the whole disk
	ext4      bool
	data      bool // the image's data partition

	label, uuid         string // of the file system
	partLabel, partUUID string
}

// find looks at all disks and partitions.
func find(sys *platform.System) []candidate {
	var out []candidate
	parts := sys.Partitions()
	data, _ := sys.DataPartition()
	for n, d := range sys.Disks {
		out = append(out, candidate{disk: d, disks: n})
		for i := range parts {
			if p := &parts[i]; p.On == d {
				out = append(out, candidate{disk: p, disks: n, partition: p.Entry.Number, data: p == data, partLabel: p.Entry.Name, partUUID: p.Entry.ID.String()})
			}
		}
	}
	for i := range out {
		if err := out[i].identify(); err != nil {
			log.Warnf("%s: %v", out[i].disk.Name(), err)
		}
	}
	return out
}

// Fields of ext4's super block, which begins at byte 1024 ("ext4 Data Structures and
// Algorithms", The Super Block).
const (
	superAt    = 1024
	uuidAt     = superAt + 0x68
	labelAt    = superAt + 0x78
	labelBytes = 16
)

// identify reads what the file system calls itself.
func (c *candidate) identify() error {
	head := make([]byte, 4096)
	if c.disk.Size() < int64(len(head)) {
		return nil
	}
	if _, err := c.disk.ReadAt(head, 0); err != nil {
		return err
	}
	if c.ext4 = platform.IsExt4(head); c.ext4 {
		label, _, _ := bytes.Cut(head[labelAt:labelAt+labelBytes], []byte{0})
		c.label, c.uuid = string(label), uuid(head[uuidAt:uuidAt+16])
	}
	return nil
}

// uuid spells 16 bytes as RFC 9562 §4 does.
func uuid(b []byte) string {
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// lookup finds what fstab(5) calls a file system: LABEL=, UUID=, PARTLABEL=, PARTUUID=,
// or a device by the kernel's name (blk0, blk0p4) or by Linux' (vda4, nvme0n1p4), with
// or without /dev/.
func lookup(list []candidate, source string) (*candidate, error) {
	is, err := matcher(source)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range list {
		if is(&list[i]) {
			return &list[i], nil
		}
		names = append(names, list[i].disk.Name())
	}
	if names == nil {
		return nil, errors.New("there are no disks")
	}
	return nil, fmt.Errorf("there is no such disk (there are %s)", strings.Join(names, ", "))
}

func matcher(source string) (func(*candidate) bool, error) {
	if key, value, ok := strings.Cut(source, "="); ok {
		value = strings.Trim(value, `"`)
		if value == "" {
			return nil, fmt.Errorf("%s= of what", key)
		}
		switch key {
		case "LABEL":
			return func(c *candidate) bool { return c.label == value }, nil
		case "UUID":
			return func(c *candidate) bool { return strings.EqualFold(c.uuid, value) }, nil
		case "PARTLABEL":
			return func(c *candidate) bool { return c.partLabel == value }, nil
		case "PARTUUID":
			return func(c *candidate) bool { return strings.EqualFold(c.partUUID, value) }, nil
		}
		return nil, fmt.Errorf("%s= is not known", key)
	}
	name := strings.TrimPrefix(source, "/dev/")
	if disk, partition, ok := linuxName(name); ok {
		return func(c *candidate) bool { return c.disks == disk && c.partition == partition }, nil
	}
	return func(c *candidate) bool { return c.disk.Name() == name }, nil
}

// linuxName reads the names that Linux gives disks by their order: vda4, sda4, xvda4;
// nvme0n1p4.
func linuxName(s string) (disk, partition int, ok bool) {
	if rest, is := strings.CutPrefix(s, "nvme"); is {
		n, rest, has := strings.Cut(rest, "n1")
		if disk, ok = number(n); !has || !ok {
			return 0, 0, false
		}
		if rest == "" {
			return disk, 0, true
		}
		p, has := strings.CutPrefix(rest, "p")
		partition, ok = number(p)
		return disk, partition, has && ok && partition > 0
	}
	for _, prefix := range []string{"vd", "sd", "xvd"} {
		rest, is := strings.CutPrefix(s, prefix)
		if !is || rest == "" || rest[0] < 'a' || rest[0] > 'z' {
			continue
		}
		if rest[1:] == "" {
			return int(rest[0] - 'a'), 0, true
		}
		partition, ok = number(rest[1:])
		return int(rest[0] - 'a'), partition, ok && partition > 0
	}
	return 0, 0, false
}

// number reads a decimal number of at most three digits.
func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 10)
	return int(n), err == nil
}
