// Package loader holds the machine code that boots a disk image: a boot sector and a
// second stage for BIOS, and an EFI application, each a few hundred instructions.
//
// Spec: BIOS INT 13h extensions (EDD 3.0), INT 15h E820h (ACPI 6.5 §15.1); UEFI 2.10
// (2022-08); Xen PVH boot protocol. All three read the OSv partition as
// kernel/imagefmt lays it out and enter the kernel by PVH. Who may use it:
// harness/diskimage.
//
// Why not GRUB: with Debian's GRUB 2.06 (grub-mkimage with the modules for a disk, GPT,
// FAT and multiboot2), the same 4.9 MB kernel booted from a 2.80 MB QCOW2 against 2.51 MB
// with this, and took QEMU 1.9 s of CPU time by SeaBIOS against 0.40 s (medians of 3,
// interleaved, TCG; from start to the kernel's first instruction), 3.3 s against 3.0 s
// by OVMF, which is the firmware itself. Both meet the 10 MB. GRUB would bring a second
// boot protocol into the kernel, Debian packages into every build of an image, also on
// a Mac, and its licence into the images. It may not depend on tools at build time: the code is committed,
// `go generate` makes it anew. Start reading at src/stage2.S and src/uefi.c.
package loader

//go:generate sh -c "cd src && go run gen.go"

import (
	_ "embed" // the code
	"encoding/binary"
	"fmt"
)

var (
	//go:embed mbr.bin
	mbr []byte
	//go:embed stage2.bin
	stage2 []byte
	//go:embed bootx64.efi
	efi []byte
	//go:embed sources.sha256
	sources string
)

const (
	sectorBytes = 512
	mbrBytes    = 440   // the partition table follows
	mbrCount    = 0x1a2 // places in src/mbr.S
	mbrLBA      = 0x1a8
	stage2Part  = 8 // place in src/stage2.S
	stage2Max   = 0xa000 - 0x8000
)

// BootSector returns the first 440 bytes of the disk: they load the second stage
// from sector stage2LBA.
func BootSector(stage2LBA uint64) []byte {
	b := append([]byte(nil), mbr...)
	binary.LittleEndian.PutUint16(b[mbrCount:], uint16(len(stage2)/sectorBytes))
	binary.LittleEndian.PutUint64(b[mbrLBA:], stage2LBA)
	return b
}

// Stage2 returns the second stage, whole sectors, for an OSv partition that starts
// at sector partLBA.
func Stage2(partLBA uint64) []byte {
	b := append([]byte(nil), stage2...)
	binary.LittleEndian.PutUint64(b[stage2Part:], partLBA)
	return b
}

// EFI returns \EFI\BOOT\BOOTX64.EFI. It finds its disk by itself.
func EFI() []byte { return append([]byte(nil), efi...) }

func init() {
	if len(mbr) != mbrBytes || len(stage2)%sectorBytes != 0 || len(stage2) > stage2Max || len(efi) == 0 {
		panic(fmt.Sprintf("loader: %d, %d and %d bytes of code", len(mbr), len(stage2), len(efi)))
	}
}
