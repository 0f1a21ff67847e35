package loader

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
)

// The committed code was made from the committed sources.
func TestCodeIsFresh(t *testing.T) {
	h := sha256.New()
	for _, name := range []string{"mbr.S", "stage2.S", "uefi.c", "uefi.ld"} {
		b, err := os.ReadFile("src/" + name)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(b)
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != strings.TrimSpace(sources) {
		t.Errorf("the sources have changed: run go generate ./harness/diskimage/loader")
	}
}

func TestBootSector(t *testing.T) {
	b := BootSector(0x1122334455)
	if len(b) != 440 || b[0] != 0xea { // LJMP
		t.Fatalf("%d bytes, the first %#x", len(b), b[0])
	}
	dap := b[0x1a0:]
	if dap[0] != 16 || int(binary.LittleEndian.Uint16(dap[2:]))*512 != len(Stage2(0)) || binary.LittleEndian.Uint64(dap[8:]) != 0x1122334455 {
		t.Errorf("disk address packet %x", dap[:16])
	}
}

func TestStage2(t *testing.T) {
	a, b := Stage2(0), Stage2(0x8877665544332211)
	if len(a)%512 != 0 || binary.LittleEndian.Uint64(b[8:]) != 0x8877665544332211 {
		t.Errorf("%d bytes, partition at %x", len(a), b[8:16])
	}
	copy(b[8:16], a[8:16])
	if !bytes.Equal(a, b) {
		t.Error("the partition's place is not all that differs")
	}
}

// Firmware wants a PE32+ EFI application that it can move.
func TestEFI(t *testing.T) {
	f, err := pe.NewFile(bytes.NewReader(EFI()))
	if err != nil {
		t.Fatal(err)
	}
	o, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 || o.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION {
		t.Fatalf("%+v %+v", f.FileHeader, f.OptionalHeader)
	}
	if f.Characteristics&pe.IMAGE_FILE_RELOCS_STRIPPED != 0 || o.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_BASERELOC].Size == 0 {
		t.Error("not relocatable")
	}
	if len(f.Sections) != 2 || f.Sections[0].Characteristics&pe.IMAGE_SCN_MEM_WRITE != 0 {
		t.Errorf("sections: %+v", f.Sections)
	}
	if text := f.Sections[0]; o.AddressOfEntryPoint < text.VirtualAddress || o.AddressOfEntryPoint >= text.VirtualAddress+text.VirtualSize {
		t.Errorf("entry %#x is outside of the code", o.AddressOfEntryPoint)
	}
	end := f.Sections[1].VirtualAddress + 4096
	if o.SizeOfImage != end {
		t.Errorf("image of %#x bytes, its sections end at %#x", o.SizeOfImage, end)
	}
}
