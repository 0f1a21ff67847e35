package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"osv/harness/image"
	"osv/harness/rootfs"
)

// The defaults of the flags that a description may change.
const (
	defaultCPUs = 1
	defaultMem  = 256
)

// program makes of a description of a Linux program (appliances/linux/NAME.yaml) what
// is to be booted: the kernel that runs programs and a disk with the program's files,
// both in the folder build of the working directory. Flags win over the description.
func (c *cli) program(ctx context.Context) error {
	spec, err := rootfs.Load(c.Kernel)
	if err != nil {
		return err
	}
	if len(spec.Run) == 0 {
		return fmt.Errorf("%s: run: names no program", c.Kernel)
	}
	disk := filepath.Join("build", strings.TrimSuffix(filepath.Base(c.Kernel), ".yaml")+".img")
	if !newer(disk, c.Kernel) {
		fmt.Fprintf(c.err, "making %s\n", disk)
		if err := os.MkdirAll("build", 0o755); err != nil {
			return err
		}
		if _, err := rootfs.Build(ctx, spec, disk, rootfs.Config{Log: c.err}); err != nil {
			return err
		}
	}
	kernel := filepath.Join("build", "linux.elf")
	if err := image.Build("./appliances/linux", kernel); err != nil {
		return err
	}
	return c.fill(spec, kernel, disk)
}

// newer says whether file is there and made after than.
func newer(file, than string) bool {
	f, err := os.Stat(file)
	if err != nil {
		return false
	}
	t, err := os.Stat(than)
	return err == nil && f.ModTime().After(t.ModTime())
}

// fill sets the machine as the description wants it, where no flag did.
func (c *cli) fill(spec rootfs.Spec, kernel, disk string) error {
	c.Kernel = kernel
	c.Disk = append([]string{disk}, c.Disk...)
	if c.CPUs == defaultCPUs && spec.CPUs > 0 {
		c.CPUs = spec.CPUs
	}
	if c.Mem == defaultMem && spec.Memory != "" {
		n, err := rootfs.ParseSize(spec.Memory)
		if err != nil {
			return fmt.Errorf("memory: %w", err)
		}
		c.Mem = int(n >> 20)
	}
	if len(c.Net) == 0 && len(spec.Ports) > 0 {
		card := "user"
		for _, p := range spec.Ports {
			card += fmt.Sprintf(",fwd=tcp:127.0.0.1:%d-:%d", p, p)
		}
		c.Net = []string{card}
	}
	c.Append = spec.CommandLine(c.Append)
	return nil
}
