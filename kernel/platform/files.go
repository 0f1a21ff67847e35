package platform

import (
	"slices"
	"sync"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
	"osv/kernel/vfs/ext4"
)

// IsExt4 says whether a disk whose first 4096 bytes are head has an ext4 file system.
func IsExt4(head []byte) bool { return ext4.Is(head) }

// MountExt4 mounts the ext4 file system on a disk, with a page cache in frames of the
// guest's memory, which shares it with the Go heap. It is read-only where the disk is.
func (s *System) MountExt4(d blk.Disk, frames cache.Frames) (vfs.FileSystem, error) {
	s.files.Do(func() {
		s.pages = cache.New(cache.Config{Frames: frames, Limit: int(s.RAM() / 3)})
		s.pages.Start()
		s.AddShrinker(s.pages)
	})
	return ext4.Mount(&fileDisk{Disk: d}, ext4.Options{Cache: s.pages, Name: d.Name(), Dev: s.deviceNumber(d)})
}

// deviceNumber is what files of a disk or partition say they are on. 254 is the major
// number that Linux gives virtio disks on most machines; 16 minors each, of which the
// first is the whole disk.
func (s *System) deviceNumber(d blk.Disk) uint64 {
	on, number := d, 0
	if p, ok := d.(*Partition); ok {
		on, number = p.On, p.Entry.Number
	}
	n := slices.Index(s.Disks, on)
	if n < 0 {
		n = len(s.Disks)
	}
	return 254<<8 | uint64(n)<<4 | uint64(min(number, 15))
}

// fileDisk is a disk that moves cache pages without a copy.
type fileDisk struct {
	blk.Disk
	free sync.Pool
}

type pageRequest struct {
	blk.Request
	mem  []dma.Region
	done chan struct{}
}

// ReadMem and WriteMem are ext4.MemDevice's.
func (f *fileDisk) ReadMem(mem []ext4.Mem, off int64) error { return f.move(blk.OpRead, mem, off) }

func (f *fileDisk) WriteMem(mem []ext4.Mem, off int64) error { return f.move(blk.OpWrite, mem, off) }

func (f *fileDisk) move(op blk.Op, mem []ext4.Mem, off int64) error {
	r, _ := f.free.Get().(*pageRequest)
	if r == nil {
		r = &pageRequest{done: make(chan struct{}, 1)}
		r.Done = func(*blk.Request) { r.done <- struct{}{} }
	}
	r.mem = r.mem[:0]
	for _, m := range mem {
		k := len(r.mem) - 1
		// Frames that follow each other are one piece for the device.
		if k >= 0 && r.mem[k].Bus+dma.Addr(len(r.mem[k].Bytes)) == dma.Addr(m.Frame) && cap(r.mem[k].Bytes) >= len(r.mem[k].Bytes)+len(m.Bytes) {
			r.mem[k].Bytes = r.mem[k].Bytes[:len(r.mem[k].Bytes)+len(m.Bytes)]
			continue
		}
		r.mem = append(r.mem, dma.Region{Bytes: m.Bytes, Bus: dma.Addr(m.Frame)})
	}
	r.Op, r.Sector, r.Mem = op, uint64(off)/blk.SectorSize, r.mem
	f.Submit(&r.Request)
	<-r.done
	err := r.Err
	clear(r.mem[:cap(r.mem)])
	f.free.Put(r)
	return err
}
