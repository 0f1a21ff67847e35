// Package platform is the composition root of a booted guest: it finds the
// machine's devices, makes drivers of them with all that they touch as
// parameters, and joins them with the services above. It holds order, not logic.
//
// Who may call it: appliances and kernel/ktest/progs, once, from main. It works
// only in a booted guest (Booted). Start reading at Boot: it is the boot story
// above the runtime; the one below is in kernel/metal/boot.
package platform

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"osv/kernel/blk"
	"osv/kernel/hw/acpi"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/gate"
	"osv/kernel/net/sock"
	"osv/kernel/pkt"
	"osv/kernel/platform/reclaim"
	"osv/kernel/trace"
	"osv/kernel/vfs/cache"
)

// Exit statuses of a guest whose boot fails (the others are in metal/shim).
const (
	StatusUsage = 64  // bad command line
	StatusBoot  = 103 // the machine lacks what the kernel needs
)

// System is the booted machine.
type System struct {
	Options Options
	Memory  dma.Allocator // device-visible memory
	ACPI    *acpi.Tables  // nil where the machine has none
	Links   []pkt.Link    // network cards, in the order found: eth0, eth1, …
	Disks   []blk.Disk    // in the order found: blk0, blk1, …
	Random  int           // devices that seed the generator
	Line    string        // the command line as the guest was given it

	balance    *reclaim.Balance
	watch      sync.Once // over the Go heap
	files      sync.Once // makes pages
	parts      sync.Once // makes partitions
	pages      *cache.Cache
	partitions []Partition
	net        *sock.Net
	irqs       *interrupts
	start      time.Time
	end        ending
}

// Booted says whether this program runs as the kernel of a guest. Programs that
// also run hosted ask it first.
func Booted() bool { return gate.Booted() }

// Start boots the machine above the runtime: options, firmware tables, devices.
// It does not return on --help, --trace-list or failure: it says why on the
// console and powers off. os.Args is left with the program's own arguments.
func Start() *System {
	trace.SetClock(gate.SinceEntry)
	trace.Stage("runtime up")
	line := strings.Join(os.Args[1:], " ")
	o, err := ParseOptions(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "osv: %v\n%s", err, usage())
		gate.Exit(StatusUsage)
	}
	os.Args = append(os.Args[:1:1], o.Args...)
	s := &System{Options: o, Line: line, balance: newBalance(), start: time.Now()}
	s.Memory = dmaMemory{s.balance}
	if s.informational() {
		gate.Exit(0)
	}
	if err := s.boot(); err != nil {
		fmt.Fprintf(os.Stderr, "osv: %v\n", err)
		gate.Exit(StatusBoot)
	}
	return s
}

// informational serves the options that print and power off, and sets up output.
func (s *System) informational() bool {
	o := &s.Options
	switch o.Console {
	case "debug":
		gate.SetConsole(gate.ConsoleDebug)
	case "all":
		gate.SetConsole(gate.ConsoleSerial | gate.ConsoleDebug)
	case "none":
		gate.SetConsole(0)
	}
	level := trace.LevelWarn
	if o.Verbose {
		level = trace.LevelInfo
	}
	trace.SetConsole(os.Stderr, level)
	if o.Help {
		fmt.Print(usage())
		return true
	}
	if o.TraceList {
		for _, p := range trace.Points() {
			fmt.Println(p)
		}
		return true
	}
	return false
}

func (s *System) boot() error {
	o := &s.Options
	for _, glob := range o.Trace {
		n, err := trace.Enable(glob)
		if err != nil {
			return fmt.Errorf("option --trace: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("option --trace: no tracepoint matches %q (--trace-list prints them)", glob)
		}
	}
	if o.Cwd != "" {
		os.Setenv("PWD", o.Cwd)
	}
	s.findTables() // ACPI
	trace.Stage("firmware tables")
	s.preparePower()                        // soft-off, reset, power button
	if err := s.prepareIRQs(); err != nil { // IOAPICs
		return err
	}
	bus := s.findDevices() // PCI functions, MMIO slots
	trace.Stage("device scan")
	s.attachRandom(bus) // seeds the generator first of all
	s.attachDisks(bus)
	s.attachLinks(bus)
	trace.Stage("drivers")
	s.watchPowerButton()
	s.hookExit() // shuts disks down
	if o.Bootchart {
		fmt.Fprint(os.Stderr, trace.BootChart())
	}
	if o.Delay > 0 {
		time.Sleep(o.Delay)
	}
	return nil
}

// findTables reads the firmware tables. A machine without them, or with garbled
// ones, still runs: with what the command line names, and one line that says so.
func (s *System) findTables() {
	t, err := acpi.Discover(physMemory{}, gate.RSDP())
	if err != nil {
		log.Warnf("%v; devices that only the firmware tables describe are not used", err)
		return
	}
	for _, w := range t.Warnings {
		log.Warnf("%v", w)
	}
	s.ACPI = t
}

var (
	log    = trace.For("platform")
	netLog = trace.For("net")
)
