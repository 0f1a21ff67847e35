package diskimage

import "encoding/binary"

// FAT16 with one sector a cluster, two FATs, 512 root entries (Microsoft FAT
// specification §3, §6).
const (
	fatReserved = 1
	fatCopies   = 2
	fatRoot     = 512 // entries
	dirEntry    = 32
	fatEnd      = 0xffff
	attrDir     = 0x10
)

// fat16 returns the file system of an EFI system partition that holds the loader.
// It is as long as what is in use; the rest of the partition is zero.
func fat16(part extent, efi []byte, serial uint32) []byte {
	le := binary.LittleEndian
	sectors := int(part.sectors())
	const rootSectors = fatRoot * dirEntry / sectorBytes
	fatSectors := (sectors*2 + sectorBytes - 1) / sectorBytes
	dataAt := (fatReserved + fatCopies*fatSectors + rootSectors) * sectorBytes
	files := (len(efi) + sectorBytes - 1) / sectorBytes
	b := make([]byte, dataAt+(2+files)*sectorBytes) // two directories of a cluster each

	copy(b, "\xeb\x3c\x90OSV     ")
	le.PutUint16(b[11:], sectorBytes)
	b[13] = 1
	le.PutUint16(b[14:], fatReserved)
	b[16] = fatCopies
	le.PutUint16(b[17:], fatRoot)
	le.PutUint16(b[19:], uint16(sectors))
	b[21] = 0xf8
	le.PutUint16(b[22:], uint16(fatSectors))
	le.PutUint16(b[24:], 63)  // sectors a track
	le.PutUint16(b[26:], 255) // heads
	le.PutUint32(b[28:], uint32(part.first))
	b[36] = 0x80
	b[38] = 0x29
	le.PutUint32(b[39:], serial)
	copy(b[43:], "OSV        FAT16   ")
	b[510], b[511] = 0x55, 0xaa

	const dirEFI, dirBoot, fileEFI = 2, 3, 4 // first clusters
	for i := range fatCopies {
		fat := b[(fatReserved+i*fatSectors)*sectorBytes:]
		le.PutUint16(fat[0:], 0xfff8)
		le.PutUint16(fat[2:], fatEnd)
		le.PutUint16(fat[2*dirEFI:], fatEnd)
		le.PutUint16(fat[2*dirBoot:], fatEnd)
		for c := range files {
			next := uint16(fileEFI + c + 1)
			if c == files-1 {
				next = fatEnd
			}
			le.PutUint16(fat[2*(fileEFI+c):], next)
		}
	}
	entry := func(at int, name string, attr byte, cluster uint16, size int) {
		e := b[at:]
		copy(e, name)
		e[11] = attr
		le.PutUint16(e[16:], 0x21) // 1980-01-01, the first date there is
		le.PutUint16(e[18:], 0x21)
		le.PutUint16(e[24:], 0x21)
		le.PutUint16(e[26:], cluster)
		le.PutUint32(e[28:], uint32(size))
	}
	cluster := func(c int) int { return dataAt + (c-2)*sectorBytes }
	root := (fatReserved + fatCopies*fatSectors) * sectorBytes
	entry(root, "OSV        ", 0x08, 0, 0)
	entry(root+dirEntry, "EFI        ", attrDir, dirEFI, 0)
	entry(cluster(dirEFI), ".          ", attrDir, dirEFI, 0)
	entry(cluster(dirEFI)+dirEntry, "..         ", attrDir, 0, 0)
	entry(cluster(dirEFI)+2*dirEntry, "BOOT       ", attrDir, dirBoot, 0)
	entry(cluster(dirBoot), ".          ", attrDir, dirBoot, 0)
	entry(cluster(dirBoot)+dirEntry, "..         ", attrDir, dirEFI, 0)
	entry(cluster(dirBoot)+2*dirEntry, "BOOTX64 EFI", 0x20, fileEFI, len(efi))
	copy(b[cluster(fileEFI):], efi)
	return b
}
