package platform

import (
	"errors"
	"testing"

	"osv/kernel/blk"
	"osv/kernel/blk/gpt"
	"osv/kernel/imagefmt"
)

// fakeDisk is only what a partition is on.
type fakeDisk struct {
	blk.Disk
	name string
}

func (d *fakeDisk) Name() string { return d.name }

func TestDataPartition(t *testing.T) {
	a, b := &fakeDisk{name: "blk0"}, &fakeDisk{name: "blk1"}
	entry := func(on blk.Disk, kind gpt.GUID, n int, name string) Partition {
		return Partition{On: on, Entry: gpt.Partition{Number: n, Type: kind, Name: name}}
	}
	osv := gpt.GUID(imagefmt.Type)
	foreign := entry(a, gpt.LinuxData, 1, "data")
	own := []Partition{entry(b, osv, 3, "osv"), entry(b, gpt.LinuxData, 4, "data")}
	for _, c := range []struct {
		name string
		all  []Partition
		on   blk.Disk // nil: none
	}{
		{"none", nil, nil},
		{"an image without one", own[:1], nil},
		{"an image's", own, b},
		{"a disk's of another kind", []Partition{foreign}, a},
		{"both", append([]Partition{foreign}, own...), b},
		{"of another label", []Partition{entry(a, gpt.LinuxData, 1, "root")}, nil},
		{"of another type", []Partition{entry(a, osv, 1, "data")}, nil},
	} {
		s := &System{partitions: c.all, Disks: []blk.Disk{a, b}}
		s.parts.Do(func() {})
		p, err := s.DataPartition()
		switch {
		case c.on == nil:
			if !errors.Is(err, ErrNoData) {
				t.Errorf("%s: %v", c.name, err)
			}
		case err != nil || p.On != c.on:
			t.Errorf("%s: %v, %v", c.name, p, err)
		}
	}
	s := &System{Disks: []blk.Disk{a, b}}
	for d, want := range map[blk.Disk]uint64{b: 0xfe10, &own[1]: 0xfe14, &fakeDisk{}: 0xfe20} {
		if got := s.deviceNumber(d); got != want {
			t.Errorf("device number %#x, want %#x", got, want)
		}
	}
}
