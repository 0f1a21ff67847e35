// Package programs runs unmodified Linux programs on the booted machine: it joins
// kernel/linux with disks, network, console and power. Images without it do not have
// the Linux layer.
//
// Who may use it: appliances, after platform.Start. Start reading at Run.
package programs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"osv/kernel/blk"
	"osv/kernel/hw/gate"
	"osv/kernel/linux"
	"osv/kernel/linux/archive"
	"osv/kernel/linux/usermem"
	"osv/kernel/platform"
	"osv/kernel/platform/reclaim"
	"osv/kernel/trace"
	"osv/kernel/vfs"
	"osv/kernel/vfs/tmpfs"
)

// Program is an unmodified Linux program and what it finds.
type Program struct {
	// Root is the disk with its files, "blk0" and so on: an ext4 file system, or a tar
	// archive, which is unpacked into memory. "" is the first disk.
	Root string
	Argv []string
	Env  []string
	Cwd  string
	// Strace prints every system call.
	Strace bool
	// Hostname is the node's name; "": "osv".
	Hostname string
}

// log is what the join says of itself.
var log = trace.For("linux")

// Run runs the program to its end, and returns its exit status.
func Run(s *platform.System, p Program) (int, error) {
	cfg := linux.Config{
		Argv: p.Argv, Env: p.Env, Cwd: p.Cwd, Hostname: p.Hostname, Cmdline: strings.Join(os.Args, " "),
		Console: os.Stdout, Log: os.Stderr, CPUs: make([]linux.CPU, gate.CPUs()), Reclaim: s.Need,
	}
	// What programs wrote reaches the disk at the latest when the guest ends.
	unmount := func() {
		if err := cfg.Root.Unmount(); err != nil {
			log.Warnf("unmount: %v", err)
		}
	}
	cfg.PowerOff = func(restart bool) {
		unmount()
		if restart {
			s.Restart()
		}
		s.Exit(0)
	}
	if p.Strace {
		cfg.Strace = os.Stderr
	}
	linux.Guest(&cfg)
	if m, ok := cfg.Machine.(*usermem.Machine); ok {
		m.SetReserve(func() uint64 { return reclaim.Reserve(s.RAM()) })
	}
	if err := mountRoot(s, &cfg, p.Root); err != nil {
		return 127, err
	}
	if err := joinNet(s, &cfg); err != nil {
		return 127, err
	}
	status, err := linux.Run(cfg)
	for i := range gate.CPUs() {
		log.Infof("cpu%d: %+v", i, gate.CPUStats(i))
	}
	unmount()
	return status, err
}

// find finds a disk by its name, the first for "".
func find(s *platform.System, name string) (blk.Disk, int, error) {
	for i, d := range s.Disks {
		if name == "" || d.Name() == name {
			return d, i, nil
		}
	}
	if name == "" {
		return nil, 0, errors.New("no disk: a program's files are on one (-device virtio-blk-pci)")
	}
	return nil, 0, fmt.Errorf("no disk is called %s", name)
}

// mountRoot makes the root file system of what is on a disk.
func mountRoot(s *platform.System, cfg *linux.Config, name string) error {
	d, n, err := find(s, name)
	if err != nil {
		return err
	}
	cfg.Source = "/dev/vd" + string(rune('a'+n))
	head := make([]byte, 4096)
	if _, err := d.ReadAt(head, 0); err != nil {
		return fmt.Errorf("%s: %w", d.Name(), err)
	}
	if fs, err := mountDisk(s, cfg, d, head); fs != nil || err != nil {
		cfg.Root = fs
		return err
	}
	if !archive.Is(head) {
		return fmt.Errorf("%s: neither a file system that is known nor a tar archive", d.Name())
	}
	fs := tmpfs.New(tmpfs.Options{Frames: linux.Frames(cfg.Machine), Mode: 0o755})
	ctx := vfs.NewContext(vfs.NewTree(fs), vfs.RootCreds())
	ctx.Dirs.SetUmask(0)
	entries, err := archive.Unpack(ctx, bufio.NewReaderSize(io.NewSectionReader(d, 0, d.Size()), 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %w", d.Name(), err)
	}
	log.Infof("%s: tar archive, %d entries", d.Name(), entries)
	cfg.Root = fs
	return nil
}
