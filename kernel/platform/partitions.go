package platform

import (
	"errors"
	"fmt"

	"osv/kernel/blk"
	"osv/kernel/blk/gpt"
	"osv/kernel/imagefmt"
)

// Partition is a partition of one of the machine's disks: blk0p4 is entry 4 of the
// table of blk0. It is a Disk; closing it flushes the disk that it is on.
type Partition struct {
	blk.Disk
	Entry gpt.Partition // type, GUID, label
	On    blk.Disk
}

// ErrNoData says that no disk has a data partition.
var ErrNoData = errors.New("no disk has a data partition")

// Partitions lists the partitions of all disks, by disk and then by their place in
// its table. A disk without a table, or with one that is damaged, has none: the
// latter is said on the console.
func (s *System) Partitions() []Partition {
	s.parts.Do(func() {
		for _, d := range s.Disks {
			t, err := gpt.Read(d, d.Size(), d.BlockSize())
			if errors.Is(err, gpt.ErrNone) {
				continue
			}
			if err != nil {
				log.Warnf("%s: %v", d.Name(), err)
				continue
			}
			for _, e := range t.Partitions {
				p, err := blk.Part(d, fmt.Sprintf("%sp%d", d.Name(), e.Number), e.Offset, e.Size)
				if err != nil {
					log.Warnf("%v", err)
					continue
				}
				s.partitions = append(s.partitions, Partition{p, e, d})
			}
		}
	})
	return s.partitions
}

// DataPartition is the data partition of a disk image (`capstan build --data`, `images
// --data`): that of type Linux file system with the label "data", on a disk with an OSv
// partition if there are several. ErrNoData where there is none. Its bytes are zero
// until somebody makes a file system there.
func (s *System) DataPartition() (*Partition, error) {
	var found *Partition
	all := s.Partitions()
	for i := range all {
		p := &all[i]
		if p.Entry.Type != gpt.LinuxData || p.Entry.Name != "data" {
			continue
		}
		if ours(all, p.On) {
			return p, nil
		}
		if found == nil {
			found = p
		}
	}
	if found == nil {
		return nil, ErrNoData
	}
	return found, nil
}

// ours reports whether a disk has an OSv partition.
func ours(all []Partition, d blk.Disk) bool {
	for i := range all {
		if all[i].On == d && all[i].Entry.Type == gpt.GUID(imagefmt.Type) {
			return true
		}
	}
	return false
}
