// Command linux runs one unmodified Linux program as a guest of its own.
//
//	[KERNEL OPTION]... [--root=DISK] [--strace] [--hostname=NAME] -- PROGRAM [ARGUMENT]...
//
// The program's files are on a disk: an ext4 file system, or a tar archive that is
// unpacked into memory. Its exit status is the guest's. README.md has examples. Start
// reading here, then at kernel/platform/programs and kernel/linux.
package main

import (
	"fmt"
	"os"

	"osv/kernel/platform"
	"osv/kernel/platform/programs"
)

// Exit statuses of our own; others are the program's.
const (
	exitUsage   = 64
	exitFailure = 127
)

func main() {
	if !platform.Booted() {
		fmt.Fprintln(os.Stderr, "linux: this is the kernel of a guest: there is a Linux here already")
		os.Exit(exitUsage)
	}
	machine := platform.Start()
	p := programs.FromOptions(machine.Options, os.Args[1:])
	if len(p.Argv) == 0 {
		fmt.Fprintln(os.Stderr, "linux: no program: want [OPTION]... -- PROGRAM [ARGUMENT]...")
		os.Exit(exitUsage)
	}
	status, err := programs.Run(machine, p)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailure)
	}
	fmt.Fprintf(os.Stderr, "linux: %s: exit status %d\n", p.Argv[0], status)
	os.Exit(status)
}
