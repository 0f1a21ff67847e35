// Package vm describes a QEMU virtual machine as one typed value, starts it,
// watches it and ends it. Boot tests, the bench and osvrun all use it, so the
// two guests of a comparison cannot get different lines by accident.
//
// Spec: QEMU 7.2 invocation ("System Emulation User's Guide") and the QEMU
// Machine Protocol reference of the same version. Both are stable since; where a
// newer QEMU differs, the field says so.
//
// Who may use it: everything in harness. May not: know what runs in the guest,
// make network devices or namespaces (harness/wire does), measure load.
//
// Start reading at Spec, then argv.go (Spec → command line), vm.go (Start to
// Wait), serial.go (the console log and its line matcher), qmp.go, proc.go
// (pinning and CPU time of QEMU's threads).
package vm

import (
	"errors"
	"fmt"
	"strings"
)

// Machine is QEMU's board model (-M).
type Machine string

// The three boards that guests are tested on.
const (
	Q35     Machine = "q35"     // PCIe, ACPI, ECAM; the board of every comparison
	PC      Machine = "pc"      // i440FX, PCI by port I/O
	MicroVM Machine = "microvm" // virtio-mmio, no PCI unless MachineOpts has pcie=on
)

// Accel is the way guest instructions are executed.
type Accel string

// Auto means KVM where a guest really boots under it (see Probe), else TCG.
const (
	Auto Accel = ""
	KVM  Accel = "kvm"
	TCG  Accel = "tcg"
)

// Spec is a whole virtual machine. The zero value of each field is a sensible
// default; a Spec is a value and may be copied and changed freely.
type Spec struct {
	QEMU        string   // binary; "" = qemu-system-x86_64 from PATH
	Machine     Machine  // "" = q35
	MachineOpts []string // further -M options, "acpi=off"
	Accel       Accel
	CPU         string // -cpu; "" = "max,-erms" under TCG, "host" under KVM
	CPUs        int    // vCPUs; 0 = 1
	OneThread   bool   // TCG: all vCPUs in turn on one host thread
	MemMiB      int    // guest memory in MiB; 0 = 256

	Kernel string // ELF with a PVH note, or a Linux bzImage
	Append string // kernel command line
	Initrd string

	Disks []Disk
	NICs  []NIC
	RNG   bool // virtio-rng

	// NoDebugExit leaves out the isa-debug-exit device at port 0xf4, by which a
	// guest ends QEMU with a code of its own.
	NoDebugExit bool

	Plugins []Plugin // TCG plugins
	GDBPort int      // gdb stub on 127.0.0.1; 0 = none
	Extra   []string // appended as they are

	// Pin is where the threads run once QEMU is up. It is not part of the
	// command line.
	Pin Pin
}

// Pin places QEMU's threads on host cores; empty lists leave them to the host's
// scheduler.
type Pin struct {
	VCPU []int // vCPU i runs on VCPU[i mod len]
	Rest []int // main loop, I/O threads and all others may use these cores
}

// Plugin is a TCG plugin with its arguments ("key=value").
type Plugin struct {
	Path string
	Args []string
}

// DiskBus is the controller a disk hangs on.
type DiskBus string

// The disk controllers; "" = VirtioBlk.
const (
	VirtioBlk  DiskBus = "virtio-blk"
	AHCI       DiskBus = "ahci"
	NVMe       DiskBus = "nvme"
	PVSCSI     DiskBus = "pvscsi"
	VirtioSCSI DiskBus = "virtio-scsi"
)

// Disk is one block device backed by a file.
type Disk struct {
	Path     string
	Format   string // "raw" or "qcow2"; "" = raw
	Bus      DiskBus
	ReadOnly bool
	Queues   int    // virtio request queues; 0 = QEMU's choice (one a vCPU)
	Serial   string // what the guest reads as the device's serial number
	Discard  bool   // pass discard to the file
	Snapshot bool   // writes go to a temporary overlay and are lost at exit
	// Errors are injected by the blkdebug filter between device and file.
	Errors []InjectError
	// Props are further properties of the device, "logical_block_size=4096".
	Props []string
}

// InjectError is a blkdebug rule: fail I/O with Errno when Event happens.
type InjectError struct {
	Event  string // blkdebug event; "" = any I/O of type IO
	IO     string // "read", "write", "discard", "flush", ...; "" = QEMU's default set
	Errno  int    // 5 = EIO; 0 = 5
	Sector int64  // 512-byte sector that must be touched; 0 or less = any
	Once   bool
}

// NICKind is what a network card is joined to on the host's side.
type NICKind string

// The network backends; NoNIC cards ("") are an error.
const (
	NetUser      NICKind = "user"       // QEMU's own NAT; needs no privilege, slow
	NetTAP       NICKind = "tap"        // an existing TAP interface
	NetDgram     NICKind = "dgram"      // unix datagram sockets, one frame each
	NetVHostUser NICKind = "vhost-user" // rings in shared memory, served by another process
)

// NIC is one network card and its backend.
type NIC struct {
	Kind   NICKind
	Model  string // "" = virtio-net; "e1000", "vmxnet3" as QEMU names them
	MAC    string // "" = 52:54:00:05:76:NN with the card's index
	Queues int    // queue pairs; 0 = 1

	IfName    string // NetTAP
	VHost     bool   // NetTAP: the host kernel's vhost-net serves the rings
	NoVNetHdr bool   // NetTAP: no virtio-net header on the interface, so no offloads

	HostFwd    []string // NetUser: "tcp:127.0.0.1:11211-:11211"
	Restrict   bool     // NetUser: the guest cannot reach anything but the host's forwards
	Net        string   // NetUser: guest network, "10.0.2.0/24"
	HostAddr   string   // NetUser: QEMU's own address in it
	LocalPath  string   // NetDgram: socket QEMU binds
	RemotePath string   // NetDgram: socket QEMU sends to
	Socket     string   // NetVHostUser: listening socket of the backend; "@name" = abstract

	// Off lists virtio-net features to switch off, by QEMU property name.
	// OffloadsOff is the usual set.
	Off []string
	// NoMSIX gives the card no MSI-X vectors, only its INTx line. QEMU 7.2
	// under TCG crashes with vhost-user and MSI-X.
	NoMSIX bool
	// Props are further properties of the device, "rx_queue_size=1024".
	Props []string
	// Pcap writes each frame of the card to this file.
	Pcap string
}

// OffloadsOff names every checksum and segmentation offload of virtio-net in
// both directions.
var OffloadsOff = []string{
	"csum", "gso", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo",
	"host_tso4", "host_tso6", "host_ecn", "host_ufo",
}

// withDefaults fills every field whose zero value means "the default".
func (s Spec) withDefaults() Spec {
	if s.QEMU == "" {
		s.QEMU = "qemu-system-x86_64"
	}
	if s.Machine == "" {
		s.Machine = Q35
	}
	if s.CPUs == 0 {
		s.CPUs = 1
	}
	if s.MemMiB == 0 {
		s.MemMiB = 256
	}
	if s.CPU == "" {
		switch s.Accel {
		case KVM:
			s.CPU = "host"
		default:
			// ERMS makes QEMU count every iteration of a rep-prefixed string
			// instruction, which blurs instruction counts.
			s.CPU = "max,-erms"
		}
	}
	return s
}

// Validate reports the first thing in s that QEMU would not understand or would
// silently take for something else.
func (s Spec) Validate() error {
	s = s.withDefaults()
	switch s.Machine {
	case Q35, PC, MicroVM:
	default:
		return fmt.Errorf("vm: machine %q: want q35, pc or microvm", s.Machine)
	}
	switch s.Accel {
	case Auto, KVM, TCG:
	default:
		return fmt.Errorf("vm: accelerator %q: want kvm, tcg or nothing", s.Accel)
	}
	if s.CPUs < 1 || s.CPUs > 255 {
		return fmt.Errorf("vm: %d vCPUs: want 1 to 255", s.CPUs)
	}
	if s.MemMiB < 1 {
		return fmt.Errorf("vm: %d MiB of memory", s.MemMiB)
	}
	if s.Initrd != "" && s.Kernel == "" {
		return errors.New("vm: initrd without a kernel")
	}
	if len(s.Plugins) > 0 && s.Accel == KVM {
		return errors.New("vm: TCG plugins need the tcg accelerator")
	}
	for i, d := range s.Disks {
		if err := d.validate(); err != nil {
			return fmt.Errorf("vm: disk %d: %w", i, err)
		}
	}
	for i, n := range s.NICs {
		if err := n.validate(); err != nil {
			return fmt.Errorf("vm: nic %d: %w", i, err)
		}
	}
	return nil
}

func (d Disk) validate() error {
	if d.Path == "" {
		return errors.New("no path")
	}
	switch d.Bus {
	case "", VirtioBlk, VirtioSCSI, AHCI, NVMe, PVSCSI:
	default:
		return fmt.Errorf("bus %q: want virtio-blk, virtio-scsi, ahci, nvme or pvscsi", d.Bus)
	}
	return nil
}

func (n NIC) validate() error {
	need := func(what, v string) error {
		if v == "" {
			return fmt.Errorf("%s backend without %s", n.Kind, what)
		}
		if strings.Contains(v, ",") {
			return fmt.Errorf("%s %q: a comma would end the option", what, v)
		}
		return nil
	}
	switch n.Kind {
	case NetUser:
		return nil
	case NetTAP:
		return need("interface name", n.IfName)
	case NetDgram:
		return errors.Join(need("local socket", n.LocalPath), need("remote socket", n.RemotePath))
	case NetVHostUser:
		return need("socket", n.Socket)
	}
	return fmt.Errorf("backend %q: want user, tap, dgram or vhost-user", n.Kind)
}
