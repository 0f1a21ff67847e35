package diskimage

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"unicode/utf16"

	"osv/kernel/imagefmt"
)

// The disk, in sectors of 512 bytes:
//
//	0       boot sector with the protective MBR
//	1       GUID partition table, 33 sectors
//	64      1 BIOS boot partition: second stage
//	2048    2 EFI system partition, FAT16, 4 MiB: \EFI\BOOT\BOOTX64.EFI
//	10240   3 OSv partition (kernel/imagefmt): header, command line, kernel
//	…       4 data partition, if any; on a MiB
//	end-33  backup of the partition table
const (
	sectorBytes = 512
	mib         = 1 << 20
	gptSectors  = 33
	entryBytes  = 128
	biosFirst   = 64
	espFirst    = 2048
	espSectors  = 8192
	kernelFirst = espFirst + espSectors
)

// Partition types (UEFI 2.10 §5.3.3; systemd's discoverable partitions for the last).
var (
	typeBIOSBoot = mustGUID("21686148-6449-6E6F-744E-656564454649")
	typeESP      = mustGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	typeLinux    = mustGUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4")
)

type guid [16]byte

// extent is a partition: sectors first to last.
type extent struct{ first, last uint64 }

func (e extent) at() int64       { return int64(e.first) * sectorBytes }
func (e extent) sectors() uint64 { return e.last - e.first + 1 }

type layout struct {
	bios, esp, kernel, data extent // data.last == 0: none
	size                    int64  // bytes
	id                      [32]byte
}

func layOut(payload int64, o Options) layout {
	const perMiB = mib / sectorBytes
	l := layout{
		bios: extent{biosFirst, espFirst - 1},
		esp:  extent{espFirst, espFirst + espSectors - 1},
	}
	end := uint64(kernelFirst + imagefmt.PayloadSector + (payload+sectorBytes-1)/sectorBytes)
	end = (end + perMiB - 1) / perMiB * perMiB
	l.kernel = extent{kernelFirst, end - 1}
	if o.DataBytes > 0 {
		n := uint64(o.DataBytes+mib-1) / mib * perMiB
		l.data = extent{end, end + n - 1}
		end += n
	}
	l.size = int64(end+gptSectors) * sectorBytes
	l.size = (l.size + o.AlignBytes - 1) / o.AlignBytes * o.AlignBytes
	return l
}

// guid derives a GUID of version 8 (RFC 9562 §5.8) from the content.
func (l *layout) guid(name string) guid {
	sum := sha256.Sum256(append(l.id[:], name...))
	g := guid(sum[:16])
	g[7] = g[7]&0x0f | 0x80 // the version is in the third field, little-endian on disk
	g[8] = g[8]&0x3f | 0x80
	return g
}

// tables returns sectors 1 to 33 and the last 33 of the disk (UEFI 2.10 §5.3.2).
func (l *layout) tables() (primary, backup []byte) {
	le := binary.LittleEndian
	entries := make([]byte, (gptSectors-1)*sectorBytes)
	for i, p := range []struct {
		kind guid
		name string
		extent
	}{
		{typeBIOSBoot, "bios", l.bios}, {typeESP, "efi", l.esp}, {imagefmt.Type, "osv", l.kernel}, {typeLinux, "data", l.data},
	} {
		if p.last == 0 {
			continue
		}
		e := entries[i*entryBytes:]
		id := l.guid(p.name)
		copy(e, p.kind[:])
		copy(e[16:], id[:])
		le.PutUint64(e[32:], p.first)
		le.PutUint64(e[40:], p.last)
		for j, u := range utf16.Encode([]rune(p.name)) {
			le.PutUint16(e[56+2*j:], u)
		}
	}
	last := uint64(l.size/sectorBytes) - 1
	disk := l.guid("disk")
	header := func(self, other, table uint64) []byte {
		h := make([]byte, sectorBytes)
		copy(h, "EFI PART")
		le.PutUint32(h[8:], 0x10000) // revision
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], self)
		le.PutUint64(h[32:], other)
		le.PutUint64(h[40:], 1+gptSectors)
		le.PutUint64(h[48:], last-gptSectors)
		copy(h[56:], disk[:])
		le.PutUint64(h[72:], table)
		le.PutUint32(h[80:], uint32(len(entries)/entryBytes))
		le.PutUint32(h[84:], entryBytes)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		return h
	}
	primary = append(header(1, last, 2), entries...)
	backup = append(append([]byte(nil), entries...), header(last, 1, last-gptSectors+1)...)
	return primary, backup
}

// protect writes the protective MBR (UEFI 2.10 §5.2.3) behind the boot code. Its one
// entry is marked bootable: UEFI ignores that, some BIOSes want it.
func protect(mbr []byte, sectors int64) {
	e := mbr[446:]
	copy(e, []byte{0x80, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(sectors-1, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xaa
}

// mustGUID reads a GUID's text into the bytes on disk: the first three fields are
// little-endian.
func mustGUID(s string) (g guid) {
	var raw []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '-' {
			raw = append(raw, hexDigit(s[i])<<4|hexDigit(s[i+1]))
			i++
		}
	}
	for i, j := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		g[i] = raw[j]
	}
	return g
}

func hexDigit(c byte) byte {
	if c >= 'A' {
		return c - 'A' + 10
	}
	return c - '0'
}
