// Package diskimage makes bootable disk images of a kernel ELF, and writes them in
// the formats of hypervisors and clouds.
//
// Spec: UEFI 2.10 (2022-08) section 5 (GUID partition table, protective MBR) and 13.3
// (EFI system partition); Microsoft FAT specification (2005-08-30); the formats each
// name theirs in their own file. Who may use it: harness and capstan. It runs no
// programs, needs no tool but Go, and knows no hypervisor beyond its file formats.
//
// The same kernel, options and version of this package give the same bytes: GUIDs are
// derived from the content, times are zero.
//
// Start reading at Build; layout.go draws the disk. Formats: qcow2.go, vmdk.go,
// vhd.go, ova.go with ovf.go, vmware.go, gce.go; format.go lists them all.
package diskimage

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"osv/harness/diskimage/loader"
	"osv/kernel/imagefmt"
)

// Options for Build. The zero value is an image without command line and data.
type Options struct {
	CommandLine string // what the kernel gets; imagefmt.SetCommandLine changes it later
	DataBytes   int64  // size of the data partition; 0 = none
	AlignBytes  int64  // the disk's size is a multiple of this; 0 = 1 MiB
}

// MaxDataBytes bounds the data partition: 2 TiB, where VHD and MBR fields end.
const MaxDataBytes = 2<<40 - 1<<30

// Build lays out a disk that boots kernelELF (made by harness/image) by BIOS and by
// UEFI.
func Build(kernelELF []byte, o Options) (*Disk, error) {
	if o.AlignBytes == 0 {
		o.AlignBytes = mib
	}
	if o.AlignBytes < mib || o.AlignBytes%mib != 0 {
		return nil, fmt.Errorf("diskimage: size aligned to %d bytes: want a multiple of 1 MiB", o.AlignBytes)
	}
	if o.DataBytes < 0 || o.DataBytes > MaxDataBytes {
		return nil, fmt.Errorf("diskimage: data partition of %d bytes: want 0 to %d", o.DataBytes, int64(MaxDataBytes))
	}
	h, payload, err := flatten(kernelELF)
	if err != nil {
		return nil, fmt.Errorf("diskimage: kernel: %w", err)
	}
	line, err := imagefmt.CommandLineArea(o.CommandLine)
	if err != nil {
		return nil, err
	}
	l := layOut(int64(len(payload)), o)
	l.id = identity(payload, o)

	d := &Disk{size: l.size}
	mbr := append(loader.BootSector(l.bios.first), make([]byte, sectorBytes-440)...)
	protect(mbr, l.size/sectorBytes)
	primary, backup := l.tables()
	d.add(0, append(mbr, primary...))
	d.add(l.bios.at(), loader.Stage2(l.kernel.first))
	serial := l.guid("fat")
	d.add(l.esp.at(), fat16(l.esp, loader.EFI(), binary.LittleEndian.Uint32(serial[:])))
	d.add(l.kernel.at(), h.Sector())
	d.add(l.kernel.at()+imagefmt.CommandLineSector*sectorBytes, line)
	d.add(l.kernel.at()+imagefmt.PayloadSector*sectorBytes, payload)
	d.add(l.size-int64(len(backup)), backup)
	d.plain = l.kernel.at()
	d.id = l.guid("disk")
	return d, nil
}

// flatten turns the loadable segments into the bytes that lie in memory.
func flatten(kernel []byte) (h imagefmt.Header, payload []byte, err error) {
	f, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return h, nil, err
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC {
		return h, nil, fmt.Errorf("want a static x86-64 executable, have %v %v %v", f.Class, f.Machine, f.Type)
	}
	const top = 1 << 31
	lo, file, mem := uint64(top), uint64(0), uint64(0)
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		if p.Paddr >= top || p.Memsz > top || p.Filesz > p.Memsz {
			return h, nil, fmt.Errorf("segment at physical %#x: not post-linked by harness/image", p.Paddr)
		}
		lo, mem = min(lo, p.Paddr), max(mem, p.Paddr+p.Memsz)
		if p.Filesz > 0 {
			file = max(file, p.Paddr+p.Filesz)
		}
	}
	if lo >= file || f.Entry < lo || f.Entry >= file {
		return h, nil, fmt.Errorf("entry point %#x outside of the loaded %#x to %#x: not post-linked by harness/image", f.Entry, lo, file)
	}
	if file-lo > 1<<30 {
		return h, nil, fmt.Errorf("%d bytes: the boot code maps 1 GiB", file-lo)
	}
	payload = make([]byte, file-lo)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Filesz > 0 {
			if _, err := io.ReadFull(p.Open(), payload[p.Paddr-lo:p.Paddr-lo+p.Filesz]); err != nil {
				return h, nil, fmt.Errorf("segment at physical %#x: %w", p.Paddr, err)
			}
		}
	}
	if len(payload) == 0 {
		return h, nil, errors.New("nothing to load")
	}
	return imagefmt.Header{
		CommandLine: imagefmt.CommandLineSector, Payload: imagefmt.PayloadSector,
		PayloadBytes: uint32(len(payload)), MemBytes: uint32(mem - lo), Load: uint32(lo), Entry: uint32(f.Entry),
		PayloadCRC: crc32.ChecksumIEEE(payload),
	}, payload, nil
}

// identity stands for the content, except the command line, which may change.
func identity(payload []byte, o Options) [32]byte {
	h := sha256.New()
	h.Write(loader.Stage2(0))
	h.Write(loader.EFI())
	h.Write(payload)
	fmt.Fprintf(h, "%d %d", o.DataBytes, o.AlignBytes)
	return [32]byte(h.Sum(nil))
}
