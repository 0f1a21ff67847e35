// Package machine is what a guest can tell of itself and be told to do: the
// interfaces between those who know (kernel/platform in a guest, kernel/rest/hosted
// in a process) and those who ask (kernel/rest, a command shell), and the values that
// pass between them, which are those of the REST API's models.
//
// Spec: the models of OSv's REST API (modules/httpserver-api). Who may use it:
// kernel/rest and what is below it, kernel/platform. It holds no state and does
// nothing by itself.
//
// Every method may be called by any number of goroutines. Errors that wrap
// ErrUnavailable say that this machine cannot do that at all; those of files wrap
// io/fs's. Start reading at Machine.
package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Version is the version of the kernel, Vendor who made it.
const (
	Version = "v0.06"
	Vendor  = "OSv in Go"
)

// ErrUnavailable says that a machine lacks what was asked for. It comes wrapped in
// the reason.
var ErrUnavailable = errors.New("not available")

// Unavailable returns an ErrUnavailable with a reason.
func Unavailable(format string, args ...any) error {
	return &unavailable{fmt.Sprintf(format, args...)}
}

type unavailable struct{ reason string }

func (u *unavailable) Error() string        { return u.reason }
func (u *unavailable) Is(target error) bool { return target == ErrUnavailable }

// Machine is all parts that a machine may have. System and Hardware are there
// always; any other may be nil.
type Machine struct {
	System   System
	Hardware Hardware
	Network  Network
	Mounts   Mounts
	Files    Files
	Env      Env
	Apps     Apps
}

// Action is a way to end.
type Action int

const (
	Shutdown Action = iota // ask the program to end, then power off
	PowerOff               // at once
	Reboot
)

// System is the operating system.
type System interface {
	Uptime() time.Duration
	Memory() Memory
	Threads() []Thread
	// Log writes what the kernel has logged, as text.
	Log(w io.Writer) error
	Hostname() string
	SetHostname(name string) error
	CommandLine() string
	// SetCommandLine stores the command line of the next boot.
	SetCommandLine(line string) error
	// End returns what ends the machine, once everything else is done.
	End(a Action) (func(), error)
}

// Memory is the state of the memory in bytes.
type Memory struct {
	Total     uint64 `json:"total"`
	Free      uint64 `json:"free"`
	LeastFree uint64 `json:"least_free,omitempty"`
	Balloon   uint64 `json:"balloon"`
}

// Thread is a thread of the machine. A nil field is not known.
type Thread struct {
	ID          int64    `json:"id"`
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	CPU         *int64   `json:"cpu,omitempty"`
	CPUms       *int64   `json:"cpu_ms,omitempty"`
	CPUns       *int64   `json:"cpu_ns,omitempty"`
	Switches    *uint64  `json:"switches,omitempty"`
	Migrations  *uint64  `json:"migrations,omitempty"`
	Preemptions *uint64  `json:"preemptions,omitempty"`
	Priority    *float64 `json:"priority,omitempty"`
	StackSize   *int64   `json:"stack_size,omitempty"`
	WaitsFor    string   `json:"waits_for,omitempty"` // while it is waiting
}

// Hardware is processors, firmware and disks.
type Hardware interface {
	CPUs() int
	Flags() []string // as /proc/cpuinfo spells them
	Processors() []Processor
	Firmware() (vendor string, err error)
	Hypervisor() string // "none" where there is none
	Disks() ([]Disk, error)
}

// Processor is one processor's counters since boot. A nil field is not known.
type Processor struct {
	ID         int64   `json:"id"`
	BusyMS     int64   `json:"busy_ms"`
	IdleMS     int64   `json:"idle_ms"`
	Switches   *uint64 `json:"switches,omitempty"`
	Interrupts *uint64 `json:"interrupts,omitempty"`
	Timer      *uint64 `json:"timer,omitempty"`
	IPIs       *uint64 `json:"ipis,omitempty"`
	PageFaults *uint64 `json:"page_faults,omitempty"`
	Syscalls   *uint64 `json:"syscalls,omitempty"`
}

// Disk is one disk.
type Disk struct {
	Name      string `json:"name"`
	Size      int64  `json:"size"`
	BlockSize int    `json:"block_size"`
	ReadOnly  bool   `json:"read_only"`
	Model     string `json:"model,omitempty"`
}

// Network is interfaces and routes.
type Network interface {
	Interfaces() ([]Interface, error)
	Routes() ([]Route, error)
}

// Interface is one network interface.
type Interface struct {
	Config   InterfaceConfig `json:"config"`
	Data     InterfaceData   `json:"data"`
	Channels *Channels       `json:"channels,omitempty"`
	Time     int64           `json:"time"` // µs since boot
}

// InterfaceConfig is how an interface is set up. Values are strings, as in OSv.
type InterfaceConfig struct {
	Name      string   `json:"name"`
	Addr      string   `json:"addr"`
	Mask      string   `json:"mask"`
	Broadcast string   `json:"broadcast"`
	Flags     string   `json:"flags"`
	MTU       string   `json:"mtu"`
	PhysAddr  string   `json:"phys_addr"`
	Addrs     []string `json:"addrs"`
}

// InterfaceData is an interface's counters, under the names of FreeBSD's if_data.
// A nil field is not counted.
type InterfaceData struct {
	MTU          int64    `json:"ifi_mtu"`
	LinkState    int64    `json:"ifi_link_state"` // if_link_state: 1 down, 2 up
	IPackets     uint64   `json:"ifi_ipackets"`
	IBytes       uint64   `json:"ifi_ibytes"`
	IErrors      uint64   `json:"ifi_ierrors"`
	IQDrops      uint64   `json:"ifi_iqdrops"`
	OPackets     uint64   `json:"ifi_opackets"`
	OBytes       uint64   `json:"ifi_obytes"`
	OErrors      uint64   `json:"ifi_oerrors"`
	OKicks       *uint64  `json:"ifi_okicks,omitempty"`
	OQueueFull   *uint64  `json:"ifi_oqueue_is_full,omitempty"`
	IWakeups     *uint64  `json:"ifi_ibh_wakeups,omitempty"`
	IWakeupStats *Wakeups `json:"ifi_iwakeup_stats,omitempty"`
	OWakeupStats *Wakeups `json:"ifi_owakeup_stats,omitempty"`
}

// Values of LinkState.
const (
	LinkDown = 1
	LinkUp   = 2
)

// Wakeups is a histogram: how many packets a wake-up found, at most 8, 16, ….
type Wakeups struct {
	P8   uint64 `json:"packets_8"`
	P16  uint64 `json:"packets_16"`
	P32  uint64 `json:"packets_32"`
	P64  uint64 `json:"packets_64"`
	P128 uint64 `json:"packets_128"`
	P256 uint64 `json:"packets_256"`
}

// Channels counts frames by the way they took into the guest.
type Channels struct {
	Fast    uint64            `json:"fast"`
	Slow    uint64            `json:"slow"`
	Reasons map[string]uint64 `json:"reasons"`
}

// Route is a row of the routing table.
type Route struct {
	Destination string `json:"destination"`
	Gateway     string `json:"gateway"`
	Flags       string `json:"flags"` // U, G for a gateway, H for a host
	Netif       string `json:"netif"`
	IPv6        bool   `json:"ipv6"`
}

// Mounts is the file systems that are mounted.
type Mounts interface {
	FileSystems() ([]FileSystem, error)
}

// FileSystem is the use of one file system, in blocks.
type FileSystem struct {
	Filesystem string `json:"filesystem"`
	Mount      string `json:"mount"`
	BTotal     uint64 `json:"btotal"`
	BFree      uint64 `json:"bfree"`
	FTotal     uint64 `json:"ftotal"`
	FFree      uint64 `json:"ffree"`
	BlockSize  int64  `json:"blocksize"`
}

// Files is a tree of files, confined: no name leads out of it, not through symbolic
// links either. Names are as io/fs has them ("." is the root, "etc/hosts"), without
// "..". Errors wrap fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid,
// syscall.ENOTDIR, EISDIR, ENOTEMPTY, ENOSPC and EROFS as they apply.
type Files interface {
	// Stat tells of a file, of a symbolic link itself.
	Stat(name string) (FileInfo, error)
	// List tells of all files of a directory, sorted by name.
	List(name string) ([]FileInfo, error)
	// Open opens a file for reading; a directory is EISDIR.
	Open(name string) (File, error)
	// Create opens a file for writing: empty, or appending to what there is. perm is
	// that of a file that is made.
	Create(name string, perm fs.FileMode, appending bool) (io.WriteCloser, error)
	Mkdir(name string, perm fs.FileMode) error
	Chmod(name string, perm fs.FileMode) error
	// Rename replaces what has the new name, where that is a file.
	Rename(old, new string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
}

// File is an open file.
type File interface {
	io.ReadSeekCloser
	Stat() (FileInfo, error)
}

// FileInfo is what is known of a file.
type FileInfo struct {
	Name      string
	Mode      fs.FileMode
	Size      int64
	BlockSize int64
	Links     int64
	Modified  time.Time
	Accessed  time.Time
	Owner     string
	Group     string
	Target    string // of a symbolic link
}

// Env is the environment of the program. Lookup, Set and Unset are those of os.
type Env interface {
	List() []string
	Lookup(name string) (string, bool)
	Set(name, value string) error
	Unset(name string) error
}

// Apps runs programs: commands that are built in, or Linux programs.
type Apps interface {
	// Run starts a program and returns its number.
	Run(ctx context.Context, command string) (id string, err error)
	// Finished tells whether the program with that number has ended; one that never
	// was has.
	Finished(id string) bool
}
