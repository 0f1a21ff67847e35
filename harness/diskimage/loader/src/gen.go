//go:build ignore

// Gen assembles mbr.S and stage2.S and compiles uefi.c with the GNU tools, and
// writes mbr.bin, stage2.bin and bootx64.efi. Run by `go generate
// ./harness/diskimage/loader` when a source changes; the results are committed, so
// that building an image needs Go alone. sources.sha256 ties them to the sources.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	dir, err := os.MkdirTemp("", "loader")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	write("mbr.bin", flat(dir, "mbr", "0x7c00"))
	write("stage2.bin", flat(dir, "stage2", "0x8000"))

	o, elf, bin := filepath.Join(dir, "uefi.o"), filepath.Join(dir, "uefi.elf"), filepath.Join(dir, "uefi.bin")
	run("gcc", "-Os", "-m64", "-ffreestanding", "-fpie", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
		"-fcf-protection=none", "-mno-red-zone", "-mgeneral-regs-only", "-fvisibility=hidden", "-fno-tree-loop-distribute-patterns",
		"-Wall", "-Wextra", "-Werror", "-c", "-o", o, "uefi.c")
	run("ld", "-pie", "--no-dynamic-linker", "--build-id=none", "-T", "uefi.ld", "-e", "start", "-o", elf, o)
	run("objcopy", "-O", "binary", "-j", ".text", elf, bin)
	code, err := os.ReadFile(bin)
	if err != nil {
		log.Fatal(err)
	}
	write("bootx64.efi", pe(code))

	h := sha256.New()
	for _, name := range []string{"mbr.S", "stage2.S", "uefi.c", "uefi.ld"} {
		p, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		h.Write(p)
	}
	write("sources.sha256", []byte(fmt.Sprintf("%x\n", h.Sum(nil))))
}

// flat assembles NAME.S for a fixed 16-bit address.
func flat(dir, name, at string) []byte {
	o, elf, bin := filepath.Join(dir, name+".o"), filepath.Join(dir, name+".elf"), filepath.Join(dir, name+".bin")
	run("as", "--32", "-o", o, name+".S")
	run("ld", "-m", "elf_i386", "--build-id=none", "-Ttext", at, "-o", elf, o)
	run("objcopy", "-O", "binary", "-j", ".text", elf, bin)
	p, err := os.ReadFile(bin)
	if err != nil {
		log.Fatal(err)
	}
	return p
}

// pe wraps code, linked for RVA 0x1000 and position independent, as a PE32+ EFI
// application (Microsoft PE/COFF revision 11). Firmware moves it without fixups: the
// relocation directory is there and empty.
func pe(code []byte) []byte {
	const headers, align, fileAlign = 0x200, 0x1000, 0x200
	up := func(n, a int) int { return (n + a - 1) &^ (a - 1) }
	textFile := up(len(code), fileAlign)
	relocRVA := align + up(len(code), align)
	le := binary.LittleEndian
	b := make([]byte, headers+textFile+fileAlign)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	h := b[0x40:]
	copy(h, "PE\x00\x00")
	le.PutUint16(h[4:], 0x8664)
	le.PutUint16(h[6:], 2)       // sections
	le.PutUint16(h[20:], 0xf0)   // size of the optional header
	le.PutUint16(h[22:], 0x0022) // executable, large addresses
	o := h[24:]
	le.PutUint16(o[0:], 0x20b) // PE32+
	le.PutUint32(o[4:], uint32(textFile))
	le.PutUint32(o[8:], fileAlign)
	le.PutUint32(o[16:], align) // entry
	le.PutUint32(o[20:], align) // base of code
	le.PutUint32(o[32:], align)
	le.PutUint32(o[36:], fileAlign)
	le.PutUint32(o[56:], uint32(relocRVA+align))
	le.PutUint32(o[60:], headers)
	le.PutUint16(o[68:], 10)     // subsystem: EFI application
	le.PutUint16(o[70:], 0x0140) // NX compatible, dynamic base
	le.PutUint32(o[108:], 16)
	le.PutUint32(o[112+5*8:], uint32(relocRVA))
	le.PutUint32(o[112+5*8+4:], 12)
	section := func(i int, name string, size, rva, raw, at int, flags uint32) {
		s := o[0xf0+40*i:]
		copy(s, name)
		le.PutUint32(s[8:], uint32(size))
		le.PutUint32(s[12:], uint32(rva))
		le.PutUint32(s[16:], uint32(raw))
		le.PutUint32(s[20:], uint32(at))
		le.PutUint32(s[36:], flags)
	}
	section(0, ".text", len(code), align, textFile, headers, 0x60000020)        // code, execute, read
	section(1, ".reloc", 12, relocRVA, fileAlign, headers+textFile, 0x42000040) // data, discardable, read
	copy(b[headers:], code)
	le.PutUint32(b[headers+textFile:], align) // one block for the first page, with
	le.PutUint32(b[headers+textFile+4:], 12)  // two entries that mean nothing
	return b
}

func run(name string, args ...string) {
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		log.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out.Bytes())
	}
}

func write(name string, b []byte) {
	if err := os.WriteFile(filepath.Join("..", name), b, 0o644); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d bytes\n", name, len(b))
}
