package procfs

import (
	"time"

	"osv/kernel/vfs"
)

// Tasks are the processes.
type Tasks interface {
	// PIDs are the numbers of all processes, ascending.
	PIDs() []int
	// Process is the thread group that n is the leader, or any thread, of.
	Process(n int) (Task, bool)
	// TIDs are the threads of a process, ascending; nil where there is none.
	TIDs(pid int) []int
	// Thread is a thread of a process.
	Thread(pid, tid int) (Task, bool)
}

// Task is a process, or one of its threads. Its methods are called when a file is
// read; after its end they may return zero values.
type Task interface {
	// Stat is of the thread; of a process Times and Faults are of all its threads.
	Stat() Stat
	Memory() Memory
	// Maps calls f for each mapping, by address, until it returns false.
	Maps(f func(m Map) bool)
	Limits() []Limit
	// Cmdline and Environ are as in memory: strings with a zero byte after each.
	Cmdline() []byte
	Environ() []byte
	Auxv() []byte
	// Exe is the program's file; false of a kernel thread or an ended process.
	Exe() (vfs.Path, bool)
	Root() (vfs.Path, bool)
	Cwd() (vfs.Path, bool)
	// FDs are the open descriptors, ascending.
	FDs() []int
	FD(n int) (FD, bool)
	SetComm(name string) error
	OOMScoreAdj() int
	SetOOMScoreAdj(n int) error
	IO() IO
}

// Stat is what stat and status tell.
type Stat struct {
	PID, TID, PPID int
	Comm           string
	State          byte // 'R', 'S', 'D', 'T', 'Z'
	PGRP, Session  int
	TTY            uint64
	TPGID          int
	MinFlt, MajFlt uint64
	User, System   time.Duration
	Children       [2]time.Duration // user, system, of children that were waited for
	Priority, Nice int
	Policy         uint
	RTPriority     uint
	Threads        int
	Start          time.Duration // since boot
	ExitSignal     int
	ExitCode       int
	CPU            int
	StartStack     uint64
	CPUs           int // that it may run on: the first so many
	FDSize         int
	Umask          uint32

	UID, GID [4]uint32 // real, effective, saved, file system
	Groups   []uint32
	Caps     [5]uint64 // inheritable, permitted, effective, bounding, ambient
	NoNew    bool

	// Signals, bit n-1 for signal n.
	SigQueued, SigLimit                                    int
	Pending, SharedPending, Blocked, SigIgnored, SigCaught uint64

	Voluntary, Involuntary uint64 // switches
}

// Memory is sizes of an address space in bytes.
type Memory struct {
	Size, Peak, Locked, Pinned       uint64
	Resident, HighWater              uint64
	Anon, File, Shared               uint64 // of Resident
	Data, Stack, Text, Library, PTEs uint64
	Swap                             uint64
	StartCode, EndCode               uint64
	StartBrk                         uint64
	ArgStart, ArgEnd                 uint64
	EnvStart, EnvEnd                 uint64
}

// Map is one mapping.
type Map struct {
	Start, End          uint64
	Read, Write, Exec   bool
	Shared              bool
	Offset              uint64
	Dev, Ino            uint64
	Name                string // a path, "[heap]", "[stack]", "[vdso]", or nothing
	Resident, Dirty     uint64 // bytes, for smaps
	Anon, Locked, Huge  uint64
	NoReserve, HugePage bool
}

// Limit is one resource limit; Infinity is none.
type Limit struct {
	Name, Unit string
	Soft, Hard uint64
}

// Infinity is no limit.
const Infinity = ^uint64(0)

// FD is one open descriptor.
type FD struct {
	// Path is where it leads when it is followed; its name is shown. Of files outside
	// the tree it is made with vfs.Tree.Anon, or zero: then Name is shown, and opening
	// it is ENXIO.
	Path  vfs.Path
	Name  string
	Flags int
	Pos   int64
	// Extra are further lines of fdinfo, each with its newline.
	Extra       string
	Read, Write bool
}

// IO is counts of one process's input and output, in bytes and calls.
type IO struct {
	RChar, WChar, SyscR, SyscW, ReadBytes, WriteBytes uint64
}

// System is the machine.
type System interface {
	Release() Release
	SetHostname(name string) error
	SetDomain(name string) error
	CPUs() []CPU
	Meminfo() Meminfo
	// Times are of each processor since boot.
	Times() []CPUTime
	Counts() Counts
	Load() Load
	// Uptime is since boot, and how long processors were idle, summed.
	Uptime() (up, idle time.Duration)
	// Boot is when that was.
	Boot() time.Time
	Cmdline() string
	// Random fills p.
	Random(p []byte)
	BootID() [16]byte
}

// Release is what uname tells.
type Release struct{ Sysname, Nodename, Release, Version, Machine, Domain string }

// CPU is what cpuinfo tells of a processor.
type CPU struct {
	ID, Package, Core, Siblings, Cores int
	APICID                             int
	Vendor, Name                       string
	Family, Model, Stepping, Microcode int
	Hz                                 uint64
	CacheKB                            int
	CPUIDLevel                         int
	Flags                              []string
	CacheLine, PhysBits, VirtBits      int
}

// Meminfo is sizes in bytes.
type Meminfo struct {
	Total, Free, Available, Buffers, Cached, SwapCached uint64
	Active, Inactive, Dirty, Writeback                  uint64
	AnonPages, Mapped, Shmem, Slab, SReclaimable        uint64
	KernelStack, PageTables                             uint64
	CommitLimit, Committed                              uint64
	AnonHuge                                            uint64
}

// CPUTime is where a processor's time went.
type CPUTime struct {
	User, Nice, System, Idle, IOWait, IRQ, SoftIRQ, Steal time.Duration
}

// Counts are since boot.
type Counts struct {
	Interrupts, Switches, Forks uint64
	Running, Blocked            int
	PageFaults, MajorFaults     uint64
	PagesIn, PagesOut           uint64
}

// Load is loadavg.
type Load struct {
	Avg            [3]float64
	Running, Total int
	LastPID        int
}

// Net is the network.
type Net interface {
	Interfaces() []Interface
	Routes() []Route
	// Sockets are those of a protocol: "tcp", "tcp6", "udp", "udp6", "raw", "unix".
	Sockets(proto string) []Socket
	// SNMP are counters by protocol and name, in the order to be shown.
	SNMP() []Counters
	// InUse are how many sockets there are of a protocol, for sockstat.
	InUse(proto string) int
}

// Interface is one network interface.
type Interface struct {
	Name     string
	Index    int
	Loopback bool
	MAC      [6]byte
	MTU      int
	Addr6    [][16]byte
	Bits6    []int

	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Route is one IPv4 route; addresses in network order.
type Route struct {
	Interface         string
	Dst, Mask, Router [4]byte
	Metric, MTU       int
}

// Socket is one socket. Local and Remote are 4 or 16 bytes.
type Socket struct {
	Local, Remote         []byte
	LocalPort, RemotePort uint16
	State                 int // as Linux's TCP states; of UDP 7
	TxQueue, RxQueue      int
	UID                   uint32
	Ino                   uint64
	// Of UNIX sockets:
	Type, Flags, Refs int
	Path              string
}

// Counters are one protocol's line of snmp.
type Counters struct {
	Proto  string
	Names  []string
	Values []uint64
}
