// Package gpt reads GUID partition tables.
//
// Spec: UEFI 2.10 (2022-08) section 5.3 (GPT disk layout: header, partition entry
// array, backup). Not covered: MBR partitions (section 5.2), and changing a table.
//
// Who may use it: kernel/platform and the packages of kernel/blk. It reads from an
// io.ReaderAt and knows no disk; what is on a disk is not trusted, so that a table
// is taken only where both of its sums are right and all of its extents lie between
// the two copies. A partition that cannot be is no reason to refuse the others.
//
// Start reading at Read.
package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// GUID is one as it lies on disk: the first three fields are little-endian.
type GUID [16]byte

// LinuxData is the partition type of Linux file systems,
// 0FC63DAF-8483-4772-8E79-3D69D8477DE4.
var LinuxData = GUID{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4}

// String is the GUID as people write it, in small letters.
func (g GUID) String() string {
	le, be := binary.LittleEndian, binary.BigEndian
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", le.Uint32(g[:]), le.Uint16(g[4:]), le.Uint16(g[6:]), be.Uint16(g[8:]), g[10:])
}

// Partition is one entry of a table.
type Partition struct {
	Number int    // from 1, by its place in the table
	Type   GUID   // what it is for
	ID     GUID   // its own
	Name   string // its label, at most 36 characters
	Offset int64  // bytes from the start of the disk
	Size   int64  // bytes
}

// Table is the partitions of a disk, in the order of their entries.
type Table struct {
	Disk       GUID
	Partitions []Partition
	// Backup says that the copy at the end of the disk was read, as the first is
	// damaged.
	Backup bool
}

// ErrNone says that a disk has no GUID partition table.
var ErrNone = errors.New("gpt: no partition table")

// Header, UEFI 2.10 §5.3.2.
const (
	signature    = "EFI PART"
	offRevision  = 8
	offSize      = 12
	offCRC       = 16
	offMyLBA     = 24
	offFirstLBA  = 40 // first usable
	offLastLBA   = 48 // last usable
	offDisk      = 56
	offEntryLBA  = 72
	offEntries   = 80
	offEntrySize = 84
	offEntryCRC  = 88
	headerBytes  = 92
	revision1    = 0x10000

	entryType  = 0
	entryID    = 16
	entryFirst = 32
	entryLast  = 40
	entryName  = 56
	nameBytes  = 72
	entryBytes = 128

	maxTable = 1 << 20 // bytes of entries; 16 KiB is the custom
)

// Read returns the partitions of the disk behind r, of size bytes in blocks of
// blockSize. The error is ErrNone where neither the start nor the end of the disk
// has a table; of a table that is damaged twice, it says what the first lacks.
func Read(r io.ReaderAt, size int64, blockSize int) (*Table, error) {
	if blockSize < 512 || blockSize > 1<<16 || blockSize&(blockSize-1) != 0 {
		return nil, fmt.Errorf("gpt: blocks of %d bytes", blockSize)
	}
	blocks := size / int64(blockSize)
	if blocks < 6 {
		return nil, ErrNone
	}
	d := disk{r, int64(blockSize), blocks}
	t, err := d.table(1)
	if err == nil {
		return t, nil
	}
	t, err2 := d.table(blocks - 1)
	if err2 == nil {
		t.Backup = true
		return t, nil
	}
	if errors.Is(err, ErrNone) {
		err = err2
	}
	return nil, err
}

type disk struct {
	r       io.ReaderAt
	bs, len int64 // bytes of a block, blocks
}

// table reads the table whose header is block at.
func (d disk) table(at int64) (*Table, error) {
	h := make([]byte, d.bs)
	if err := d.read(h, at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if string(h[:8]) != signature {
		return nil, ErrNone
	}
	fail := func(format string, a ...any) (*Table, error) {
		return nil, fmt.Errorf("gpt: header at block %d: %s", at, fmt.Sprintf(format, a...))
	}
	n := le.Uint32(h[offSize:])
	if v := le.Uint32(h[offRevision:]); v>>16 != revision1>>16 || n < headerBytes || int64(n) > d.bs {
		return fail("revision %#x, %d bytes", v, n)
	}
	want := le.Uint32(h[offCRC:])
	le.PutUint32(h[offCRC:], 0)
	if got := crc32.ChecksumIEEE(h[:n]); got != want {
		return fail("CRC-32 %08x, want %08x", got, want)
	}
	if self := le.Uint64(h[offMyLBA:]); self != uint64(at) {
		return fail("it is that of block %d", self)
	}
	first, last := le.Uint64(h[offFirstLBA:]), le.Uint64(h[offLastLBA:])
	if first > last || last >= uint64(d.len) {
		return fail("usable blocks %d to %d of %d", first, last, d.len)
	}
	lba, count, size := le.Uint64(h[offEntryLBA:]), uint64(le.Uint32(h[offEntries:])), uint64(le.Uint32(h[offEntrySize:]))
	if size < entryBytes || size&(size-1) != 0 || count*size > maxTable || count > maxTable {
		return fail("%d entries of %d bytes", count, size)
	}
	if bytes := int64(count * size); lba >= uint64(d.len) || (bytes+d.bs-1)/d.bs > d.len-int64(lba) {
		return fail("%d entries of %d bytes at block %d of %d", count, size, lba, d.len)
	}
	entries := make([]byte, count*size)
	if err := d.read(entries, int64(lba)); err != nil {
		return nil, err
	}
	if got, want := crc32.ChecksumIEEE(entries), le.Uint32(h[offEntryCRC:]); got != want {
		return fail("entries have CRC-32 %08x, want %08x", got, want)
	}
	t := &Table{Disk: GUID(h[offDisk:])}
	for i := uint64(0); i < count; i++ {
		e := entries[i*size:][:entryBytes]
		from, to := le.Uint64(e[entryFirst:]), le.Uint64(e[entryLast:])
		if GUID(e[entryType:]) == (GUID{}) || from < first || to > last || from > to {
			continue
		}
		t.Partitions = append(t.Partitions, Partition{
			Number: int(i) + 1, Type: GUID(e[entryType:]), ID: GUID(e[entryID:]), Name: name(e[entryName : entryName+nameBytes]),
			Offset: int64(from) * d.bs, Size: int64(to-from+1) * d.bs,
		})
	}
	return t, nil
}

func (d disk) read(b []byte, block int64) error {
	if n, err := d.r.ReadAt(b, block*d.bs); n < len(b) {
		return fmt.Errorf("gpt: block %d: %w", block, err)
	}
	return nil
}

// name is UTF-16, up to the first zero.
func name(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}
