// Package imagefmt is the layout of the OSv partition of a disk image: where the
// kernel and its command line lie, so that a loader of a few hundred instructions can
// find them and a tool can change the command line without building anything.
//
// Spec: this package (the loaders in harness/diskimage/loader follow it); the
// partition table around it is UEFI 2.10 (2022-08) section 5.3. Who may use it:
// harness, capstan and the kernel. It may not know formats of disk images (it works
// on the raw disk, an io.ReaderAt), nor anything of the kernel.
//
//	sector 0      Header: where the rest is; CRC-32 over all of it
//	sector 1..9   command line: magic, CRC-32, length, text
//	sector 16..   payload: the kernel's loadable bytes, as they go to memory
//
// Start reading at Header; cmdline.go has ReadCommandLine and SetCommandLine.
package imagefmt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	// SectorBytes is the sector size that the layout counts in.
	SectorBytes = 512
	// Relocated is what EAX holds at the kernel's 32-bit entry if the loader put the
	// image elsewhere than where it was linked for, and gave it a stack in ESP.
	Relocated = 0x7276736f

	// CommandLineSector and PayloadSector are where the builder puts things. Readers
	// go by the header.
	CommandLineSector = 1
	PayloadSector     = 16

	// CommandLineSectors is the fixed size of the command line's area.
	CommandLineSectors = 9
	// MaxCommandLine is the longest command line, in bytes: what the kernel takes.
	MaxCommandLine = 4096

	headerMagic = "OSVBOOT\x01"
	lineMagic   = "OSVCMDL\x01"
	lineText    = 16
)

// Type is the partition type GUID of an OSv partition, as it lies in the partition
// table: 4F535642-4F4F-5401-8F53-5662696E6172.
var Type = [16]byte{0x42, 0x56, 0x53, 0x4f, 0x4f, 0x4f, 0x01, 0x54, 0x8f, 0x53, 0x56, 0x62, 0x69, 0x6e, 0x61, 0x72}

// Header is sector 0 of the partition. Little-endian in this order behind the magic
// and the CRC-32 (IEEE) of all that follows the CRC.
type Header struct {
	Flags        uint32 // 0
	CommandLine  uint32 // first sector of the command line, from the partition's start
	Payload      uint32 // first sector of the payload
	PayloadBytes uint32 // bytes in the image
	MemBytes     uint32 // bytes in memory; what the image lacks is zero
	Load         uint32 // physical address that the kernel was linked for
	Entry        uint32 // 32-bit entry (PVH), an address in the kernel as linked
	PayloadCRC   uint32 // CRC-32 (IEEE) of the payload
}

// ErrNoPartition says that a disk has no OSv partition.
var ErrNoPartition = errors.New("imagefmt: no OSv partition")

// Sector returns the header as its sector.
func (h Header) Sector() []byte {
	b := make([]byte, SectorBytes)
	copy(b, headerMagic)
	for i, v := range []uint32{h.Flags, h.CommandLine, h.Payload, h.PayloadBytes, h.MemBytes, h.Load, h.Entry, h.PayloadCRC} {
		binary.LittleEndian.PutUint32(b[12+4*i:], v)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.ChecksumIEEE(b[12:]))
	return b
}

// ParseHeader reads a header sector.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < SectorBytes || string(b[:8]) != headerMagic {
		return Header{}, errors.New("imagefmt: the partition does not start with an OSv header")
	}
	le := binary.LittleEndian
	if got, want := crc32.ChecksumIEEE(b[12:SectorBytes]), le.Uint32(b[8:]); got != want {
		return Header{}, fmt.Errorf("imagefmt: header: CRC-32 %08x, want %08x", got, want)
	}
	var h Header
	for i, p := range []*uint32{&h.Flags, &h.CommandLine, &h.Payload, &h.PayloadBytes, &h.MemBytes, &h.Load, &h.Entry, &h.PayloadCRC} {
		*p = le.Uint32(b[12+4*i:])
	}
	if h.CommandLine == 0 || h.Payload == 0 || h.MemBytes < h.PayloadBytes || h.PayloadBytes == 0 {
		return h, fmt.Errorf("imagefmt: header: command line at sector %d, payload at %d, %d bytes of %d: cannot be", h.CommandLine, h.Payload, h.PayloadBytes, h.MemBytes)
	}
	return h, nil
}

// Find returns the byte offset of the OSv partition on a raw disk, and its header.
func Find(disk io.ReaderAt) (at int64, h Header, err error) {
	const entryBytes, maxEntries = 128, 128
	var gpt [92]byte
	if _, err := disk.ReadAt(gpt[:], SectorBytes); err != nil || string(gpt[:8]) != "EFI PART" {
		return 0, h, fmt.Errorf("%w: no GUID partition table", ErrNoPartition)
	}
	le := binary.LittleEndian
	lba, n, size := le.Uint64(gpt[72:]), le.Uint32(gpt[80:]), le.Uint32(gpt[84:])
	if lba > 1<<40 || n > maxEntries || size != entryBytes {
		return 0, h, fmt.Errorf("%w: %d entries of %d bytes at sector %d in the partition table", ErrNoPartition, n, size, lba)
	}
	table := make([]byte, n*entryBytes)
	if _, err := disk.ReadAt(table, int64(lba)*SectorBytes); err != nil {
		return 0, h, fmt.Errorf("imagefmt: partition table: %w", err)
	}
	for ; len(table) > 0; table = table[entryBytes:] {
		if [16]byte(table[:16]) != Type {
			continue
		}
		first := le.Uint64(table[32:])
		if first == 0 || first > 1<<40 {
			return 0, h, fmt.Errorf("imagefmt: the OSv partition starts at sector %d", first)
		}
		at = int64(first) * SectorBytes
		var sector [SectorBytes]byte
		if _, err := disk.ReadAt(sector[:], at); err != nil {
			return 0, h, fmt.Errorf("imagefmt: header: %w", err)
		}
		h, err = ParseHeader(sector[:])
		return at, h, err
	}
	return 0, h, ErrNoPartition
}
