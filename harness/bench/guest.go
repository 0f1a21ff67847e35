// Package bench runs a plan: it boots the guests in the order of the schedule,
// loads each cell with a generator in its own process, and writes the journal.
// A run that is interrupted, by Ctrl-C, a crash or a full disk, goes on where the
// journal ends.
//
// It knows guests through two small interfaces (this file). Three kinds exist:
// linux and osv under QEMU (qemu.go), and local, a process on loopback
// (local.go), which serves to try the harness and is marked as such everywhere.
//
// Who may use it: the command line. May not: draw, or judge results (report
// does). Start reading at guest.go, then run.go.
package bench

import (
	"context"
	"os/exec"

	"osv/harness/design"
	"osv/harness/load/udp"
	"osv/harness/tcg"
)

// Kind boots guests of one sort.
type Kind interface {
	// Can reports why a system cannot run a service here, nil if it can.
	Can(system design.System, service string) error
	// Boot starts a guest and returns when each of its ports ("udp:11211") has
	// answered. An error leaves nothing running.
	Boot(ctx context.Context, cfg Config) (Guest, error)
}

// Preparer is a kind that has images to make before it can boot. It is asked once
// for each system and service, before the first boot, so that a build is in no
// boot's time and disturbs no guest.
type Preparer interface {
	Prepare(ctx context.Context, system design.System, service string) error
}

// Config is what a boot is told.
type Config struct {
	System design.System
	CPUs   int
	MemMiB int
	// Service is what the guest runs (design.Service), Ports what must answer;
	// the first reply on the first of them ends the boot time.
	Service string
	Ports   []string
	// Serial is the file that keeps the console, "" = none.
	Serial string
	// Instructions asks for instruction counting, where the accelerator can.
	Instructions bool
	// Profile asks for a guest that is a Profiler.
	Profile bool
}

// Guest is a running guest. It belongs to one goroutine.
type Guest interface {
	Facts() Facts
	// Addr is how a generator started by Run reaches a port.
	Addr(port string) (string, error)
	// Run runs a generator's process where it reaches the guest.
	Run(ctx context.Context, cmd *exec.Cmd) error
	// Place moves the guest's threads, and says on which host cores the
	// generator may run (empty = any).
	Place(p design.Placement) (client []int, err error)
	// Probes are counters of the guest, as load.ParseProbe reads them. Names:
	// insn (instructions), vcpu, vcpu_wait, main, other (thread times).
	Probes() []string
	// Alive reports an error when the guest has ended by itself.
	Alive() error
	// Stop ends the guest and removes all it left. It may be called twice.
	Stop() error
}

// Profiler is a guest, booted for it, that says which code it executes.
type Profiler interface {
	// Blocks are the blocks of code translated so far with their executions; nil
	// where they are not counted.
	Blocks() []tcg.Block
	// Symbols names code addresses, and other what has no name.
	Symbols(ctx context.Context) (syms *tcg.Symbols, other string, err error)
}

// FrameGuest is a guest whose wire is in this process (vhost-user): UDP load is
// run here, on raw frames.
type FrameGuest interface {
	Guest
	Frames(port string) (udp.Port, error)
}

// Facts are what a boot is recorded with.
type Facts struct {
	FirstReply float64 // seconds from start to first right reply
	Line       string
	Accel      string // kvm, tcg; none for a local process
	Kernel     string
	Image      string // digest
	ImageBytes int64  // what has to be shipped to boot it: kernel and root
	Parity     map[string]string
	Wire       string
	WireNote   string
}
