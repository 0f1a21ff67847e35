// Package hypervisor starts and stops machines: QEMU by its command line and QMP,
// VirtualBox by VBoxManage, VMware by vmrun, Compute Engine by gcloud, Firecracker by
// its configuration file.
//
// Spec: QEMU 7.2 ("System Emulation User's Guide", "QMP reference"); VBoxManage of
// VirtualBox 7.0; vmrun of VMware Workstation 17; gcloud compute; Firecracker 1.x
// (docs/getting-started.md). Only QEMU was run here: the others' command lines are
// tested with fakes. Who may use it: capstan. It may not know images or the store:
// files are handed in by path.
//
// Start reading at Machine and Hypervisor, then qemu.go.
package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Machine is a machine to run. It is kept as JSON with its instance.
type Machine struct {
	Name        string    `json:"name"`
	Dir         string    `json:"-"` // of the instance; all files are in it unless their path is absolute
	CPUs        int       `json:"cpus"`
	MemMiB      int       `json:"memory_mib"`
	Disk        string    `json:"disk,omitempty"`   // in the hypervisor's Format
	Kernel      string    `json:"kernel,omitempty"` // ELF, where it is booted directly
	CommandLine string    `json:"cmdline,omitempty"`
	Net         NetKind   `json:"net"`
	Link        string    `json:"link,omitempty"` // bridge or TAP interface
	MAC         string    `json:"mac,omitempty"`
	Forwards    []Forward `json:"forwards,omitempty"` // NAT only
	Volumes     []Volume  `json:"volumes,omitempty"`
	UploadDir   string    `json:"upload_dir,omitempty"` // gce: gs://BUCKET/FOLDER
	NoKVM       bool      `json:"no_kvm,omitempty"`     // qemu
	Control     string    `json:"control,omitempty"`    // qemu, firecracker: address of the control socket
}

// NetKind is how the machine's network card is joined to the host.
type NetKind string

// The networks.
const (
	NAT    NetKind = "nat"    // through the hypervisor, with forwarded ports
	Bridge NetKind = "bridge" // on a bridge of the host
	TAP    NetKind = "tap"    // an existing TAP interface
	VHost  NetKind = "vhost"  // the same, served by the host kernel's vhost-net
)

// Forward is a port of the host that leads into the guest.
type Forward struct {
	Proto string `json:"proto"` // "tcp" or "udp"
	Host  string `json:"host"`  // address; "" = 127.0.0.1
	From  int    `json:"from"`  // on the host
	To    int    `json:"to"`    // in the guest
}

// ParseForward reads [tcp:|udp:][ADDRESS:]HOST:GUEST.
func ParseForward(s string) (Forward, error) {
	f := Forward{Proto: "tcp", Host: "127.0.0.1"}
	rest := s
	if p, r, ok := strings.Cut(s, ":"); ok && (p == "tcp" || p == "udp") {
		f.Proto, rest = p, r
	}
	i := strings.LastIndexByte(rest, ':')
	bad := fmt.Errorf("port forward %q: want [tcp:|udp:][ADDRESS:]HOST:GUEST, as 8080:80", s)
	if i < 0 {
		return f, bad
	}
	from, to := rest[:i], rest[i+1:]
	if j := strings.LastIndexByte(from, ':'); j >= 0 {
		f.Host, from = strings.Trim(from[:j], "[]"), from[j+1:]
		if net.ParseIP(f.Host) == nil {
			return f, bad
		}
	}
	var err1, err2 error
	f.From, err1 = strconv.Atoi(from)
	f.To, err2 = strconv.Atoi(to)
	if err1 != nil || err2 != nil || f.From < 1 || f.From > 65535 || f.To < 1 || f.To > 65535 {
		return f, bad
	}
	return f, nil
}

func (f Forward) String() string {
	return fmt.Sprintf("%s %s -> guest %d", f.Proto, net.JoinHostPort(f.Host, strconv.Itoa(f.From)), f.To)
}

// Free reports a port that something else holds.
func (f Forward) Free() error {
	addr := net.JoinHostPort(f.Host, strconv.Itoa(f.From))
	var c io.Closer
	var err error
	if f.Proto == "udp" {
		c, err = net.ListenPacket("udp", addr)
	} else {
		c, err = net.Listen("tcp", addr)
	}
	if err != nil {
		return fmt.Errorf("port %s/%s is taken: stop what uses it, or choose another: -f %d:%d (%w)", addr, f.Proto, freeAbove(f.From), f.To, err)
	}
	return c.Close()
}

func freeAbove(p int) int {
	if p > 55535 {
		return p - 10000
	}
	return p + 10000
}

// Volume is a further disk.
type Volume struct {
	Path   string `json:"path"`
	Format string `json:"format"` // "raw" or "qcow2"
	AIO    string `json:"aio,omitempty"`
	Cache  string `json:"cache,omitempty"`
}

// ParseVolume reads PATH[:format=raw|qcow2][:aio=native|threads|io_uring][:cache=MODE].
func ParseVolume(s string) (Volume, error) {
	f := strings.Split(s, ":")
	v := Volume{Path: f[0], Format: "raw"}
	rest := f[1:]
	if len(f[0]) == 1 && len(f) > 1 && strings.HasPrefix(f[1], `\`) { // C:\...
		v.Path, rest = f[0]+":"+f[1], f[2:]
	}
	for _, o := range rest {
		key, value, _ := strings.Cut(o, "=")
		ok := false
		switch key {
		case "format":
			ok = value == "raw" || value == "qcow2"
			v.Format = value
		case "aio":
			ok = value == "native" || value == "threads" || value == "io_uring"
			v.AIO = value
		case "cache":
			ok = value == "none" || value == "writeback" || value == "writethrough" || value == "directsync" || value == "unsafe"
			v.Cache = value
		}
		if !ok {
			return v, fmt.Errorf("volume %q: %q: want format=raw|qcow2, aio=native|threads|io_uring, cache=none|writeback|writethrough|directsync|unsafe", s, o)
		}
	}
	if v.Path == "" {
		return v, fmt.Errorf("volume %q: no path", s)
	}
	return v, nil
}

// State is what a machine does.
type State string

// The states.
const (
	Running State = "running"
	Stopped State = "stopped"
	Unknown State = "unknown" // the hypervisor cannot be asked
)

// IO is where the console of a machine in the foreground goes; the zero IO is that of
// one in the background, whose console is in the file ConsoleLog.
type IO struct {
	In  io.Reader
	Out io.Writer
}

// ConsoleLog is the console's file in the instance's folder.
const ConsoleLog = "console.log"

// Hypervisor runs machines.
type Hypervisor interface {
	Name() string
	// Format is what a machine's Disk (or for "elf" its Kernel) must be.
	Format() string
	// Installed is an error of type *Missing where its tool is not there.
	Installed(h *Host) error
	// Check refuses a machine that this hypervisor cannot run, before anything is made.
	Check(m Machine) error
	// Start makes the machine and starts it. With foreground, wait blocks until it has
	// ended; else wait is nil and the machine outlives this process.
	Start(ctx context.Context, h *Host, m Machine, foreground *IO) (wait func() error, err error)
	// Stop ends it: by the power button, or at once with force.
	Stop(ctx context.Context, h *Host, m Machine, force bool) error
	State(ctx context.Context, h *Host, m Machine) State
	// Delete removes what the hypervisor itself knows of a stopped machine.
	Delete(ctx context.Context, h *Host, m Machine) error
}

// All lists the hypervisors.
var All = []Hypervisor{QEMU{}, VirtualBox{}, VMware{}, GCE{}, Firecracker{}}

// Find returns a hypervisor by name.
func Find(name string) (Hypervisor, error) {
	var names []string
	for _, h := range All {
		if h.Name() == name {
			return h, nil
		}
		names = append(names, h.Name())
	}
	return nil, fmt.Errorf("hypervisor %q: want %s", name, strings.Join(names, ", "))
}

// Host is the machine that hypervisors run on, as far as they need it.
type Host struct {
	Look  func(tool string) (string, error)
	Run   func(ctx context.Context, dir string, argv ...string) (out []byte, err error)
	Spawn func(c *exec.Cmd, detached bool) error // starts it
	KVM   func(ctx context.Context, qemu string) bool
}

// Local is this computer.
func Local() *Host {
	return &Host{Look: exec.LookPath, Run: run, Spawn: spawn, KVM: haveKVM}
}

// Missing is the error for a hypervisor that is not installed.
type Missing struct{ Hypervisor, Tool, Hint string }

func (e *Missing) Error() string {
	return fmt.Sprintf("%s: %s is not installed (not in PATH): %s, or choose another hypervisor by -p", e.Hypervisor, e.Tool, e.Hint)
}

func (h *Host) tool(hypervisor, name, hint string) (string, error) {
	p, err := h.Look(name)
	if err != nil {
		return "", &Missing{hypervisor, name, hint}
	}
	return p, nil
}

func run(ctx context.Context, dir string, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var e *exec.ExitError
		msg := ""
		if errors.As(err, &e) {
			msg = ": " + lastLines(string(e.Stderr), 3)
		}
		return out, fmt.Errorf("%s: %w%s", strings.Join(argv[:min(len(argv), 3)], " "), err, msg)
	}
	return out, nil
}

func spawn(c *exec.Cmd, detached bool) error {
	if detached {
		detach(c)
	}
	return c.Start()
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// onlyNAT refuses networks and volumes that a hypervisor is not set up for.
func onlyNAT(name string, m Machine) error {
	if m.Net != NAT {
		return fmt.Errorf("%s: network %q: only nat here", name, m.Net)
	}
	return noVolumes(name, m)
}

func noVolumes(name string, m Machine) error {
	if len(m.Volumes) > 0 {
		return fmt.Errorf("%s: volume %s: only qemu and firecracker take volumes", name, m.Volumes[0].Path)
	}
	return nil
}

// lingers is how long a machine that has been stopped may still hold its ports.
const lingers = 300 * time.Millisecond

// checkPorts refuses ports of the host that are taken.
func checkPorts(m Machine) error {
	end := time.Now().Add(lingers)
	for _, f := range m.Forwards {
		for {
			err := f.Free()
			if err == nil {
				break
			}
			if time.Now().After(end) {
				return err
			}
			time.Sleep(lingers / 10)
		}
	}
	return nil
}

// stderrTail reads what a tool wrote into a file of the instance.
func stderrTail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return lastLines(string(b), 6)
}
