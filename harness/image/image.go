// Package image turns a Go main package into an ELF that boots: go build with
// the kernel's link flags, then the post-link step.
//
// Spec: ELF-64 (System V ABI, 2013); Xen PVH (XEN_ELFNOTE_PHYS32_ENTRY = 18).
// Who may call it: harness and capstan. It does not run QEMU. Start reading at
// Build.
package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	// LoadAddr is the physical address of the image. The ELF header page at its
	// start is the 32-bit entry code's stack (kernel/metal/boot/stub32).
	LoadAddr = 0x400000
	// VirtBase is what the linker adds to physical addresses.
	VirtBase = 0xffffffff80000000

	entrySym = "osv/kernel/metal/boot.pvhEntry"
	// -T wants the address of text, one page after the header, as a signed number.
	textFlag = -(1 << 31) + LoadAddr + 0x1000
)

// Options for Build.
type Options struct {
	Dir   string   // module directory, "" = current
	Tags  string   // build tags
	Strip bool     // drop symbols and DWARF from the ELF; the runtime's own tables stay
	Flags []string // further go build flags
	// KeepSymbols, if not empty, is where the ELF with symbols goes too, for GDB.
	KeepSymbols string
}

// Build compiles the main package pkg as a bootable ELF at out.
func Build(pkg, out string) error { return BuildWith(pkg, out, Options{}) }

// BuildWith is Build with options. The file appears complete or not at all.
func BuildWith(pkg, out string, o Options) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(out), ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	raw := filepath.Join(tmp, "raw.elf")
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", raw, "-ldflags", fmt.Sprintf("-E %s -T %d", entrySym, textFlag)}
	if o.Tags != "" {
		args = append(args, "-tags", o.Tags)
	}
	args = append(append(args, o.Flags...), pkg)
	cmd := exec.Command("go", args...)
	cmd.Dir = o.Dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if bytes.Contains(stderr.Bytes(), []byte("missing entry symbol")) || bytes.Contains(stderr.Bytes(), []byte("not defined: \""+entrySym)) {
			return fmt.Errorf("image: %s does not import the kernel (osv/kernel/platform)", pkg)
		}
		return fmt.Errorf("image: go build %s: %w\n%s", pkg, err, stderr.Bytes())
	}
	elf, err := os.ReadFile(raw)
	if err != nil {
		return err
	}
	linked, err := Link(elf, o.Strip)
	if err != nil {
		return fmt.Errorf("image: %s: %w", pkg, err)
	}
	if o.KeepSymbols != "" && o.Strip {
		full, err := Link(elf, false)
		if err != nil {
			return err
		}
		if err := writeFile(o.KeepSymbols, full); err != nil {
			return err
		}
	}
	return writeFile(out, linked)
}

func writeFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o755), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
