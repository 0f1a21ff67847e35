package manage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"osv/kernel/hw/gate"
	"osv/kernel/hw/smbios"
	"osv/kernel/imagefmt"
	"osv/kernel/platform"
	"osv/kernel/rest/cpuid"
	"osv/kernel/rest/machine"
	"osv/kernel/rest/vfsfiles"
	"osv/kernel/trace"
)

// describe is the machine as the API tells of it.
func describe(sys *platform.System, cfg Config) machine.Machine {
	s := &system{sys: sys, volumes: cfg.Volumes}
	s.name = hostname{offers: s.offers, tell: s.tell}
	if givenName != "" {
		s.name.set(givenName)
	}
	m := machine.Machine{
		System:   s,
		Hardware: &hardware{sys: sys},
		Env:      env{},
		Apps:     cfg.Apps,
	}
	if len(sys.Links) > 0 {
		m.Network = network{sys}
	}
	if cfg.Tree != nil {
		f := vfsfiles.New(cfg.Tree)
		m.Files, m.Mounts = f, f
	}
	return m
}

type system struct {
	sys     *platform.System
	volumes Volumes
	name    hostname
}

func (s *system) Uptime() time.Duration { return gate.SinceEntry() }
func (s *system) CommandLine() string   { return s.sys.Line }

func (s *system) Memory() machine.Memory {
	m := gate.Memory()
	return machine.Memory{Total: m.Total, Free: m.Free, LeastFree: m.LeastFree}
}

func (s *system) Hostname() string { return s.name.get() }

func (s *system) SetHostname(name string) error {
	s.name.set(name)
	return nil
}

// Threads are those of the Go runtime, among which goroutines wander, and the idle
// thread of each processor.
func (s *system) Threads() []machine.Thread {
	var out []machine.Thread
	for _, t := range gate.Threads() {
		out = append(out, thread(t, s.sys.InterruptOwner(t.Vector)))
	}
	return out
}

// thread makes a model of a thread; owner is the device whose interrupt it may wait for.
func thread(t gate.Thread, owner string) machine.Thread {
	cpu, ns := int64(t.CPU), t.Time.Nanoseconds()
	ms := ns / 1e6
	m := machine.Thread{
		ID: int64(t.ID), Name: fmt.Sprintf("go%d", t.ID), Status: "waiting", CPU: &cpu, CPUms: &ms, CPUns: &ns,
		Switches: &t.Switches, Preemptions: &t.Preemptions, Migrations: &t.Migrations,
	}
	switch {
	case t.Idle:
		m.Name = fmt.Sprintf("idle%d", t.CPU)
	case t.ID == 1:
		m.Name = "main" // the runtime's first, not more
	}
	switch t.State {
	case gate.ThreadRunning:
		m.Status = "running"
	case gate.ThreadReady:
		m.Status = "queued"
	default:
		m.WaitsFor = waits(t, owner)
	}
	return m
}

func waits(t gate.Thread, owner string) string {
	switch t.Wait {
	case gate.WaitsForFutex:
		return "futex"
	case gate.WaitsForTime:
		return "time"
	case gate.WaitsForPoller:
		return "timers"
	case gate.WaitsForInterrupt:
		if owner != "" {
			return "interrupt of " + owner
		}
		return fmt.Sprintf("interrupt %d", t.Vector)
	}
	return ""
}

// Log writes the ring of the console, which the kernel below the runtime writes to as
// well, then what was logged and not printed.
func (s *system) Log(w io.Writer) error {
	buf := make([]byte, 4096)
	for pos := uint64(0); ; {
		n, next := gate.ReadLog(pos, buf)
		if n == 0 {
			break
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		pos = next
	}
	if s.sys.Options.Verbose {
		return nil // all of it was printed
	}
	return trace.WriteLog(w, trace.LevelInfo)
}

// SetCommandLine stores the line on the disk that this guest may have booted from: the
// only one that has room for it.
func (s *system) SetCommandLine(line string) error {
	for _, d := range s.sys.Disks {
		if d.ReadOnly() {
			continue
		}
		err := imagefmt.SetCommandLine(d, line)
		if err == nil {
			return d.Flush()
		}
		if !errors.Is(err, imagefmt.ErrNoPartition) {
			return fmt.Errorf("%s: %w", d.Name(), err)
		}
	}
	return machine.Unavailable("no disk of this guest has an OSv partition to store a command line in")
}

// patience is how long a program may take to end when it is asked to.
const patience = 10 * time.Second

func (s *system) End(a machine.Action) (func(), error) {
	return func() {
		switch a {
		case machine.Shutdown:
			// The program ends the machine by ending. One that does not listen, is not
			// waited for.
			syscall.Kill(os.Getpid(), syscall.SIGTERM)
			time.Sleep(patience)
			log.Warnf("the program has not ended %v after it was asked to", patience)
		}
		if s.volumes != nil {
			if err := s.volumes.Close(); err != nil {
				log.Errorf("%v", err)
			}
		}
		if a == machine.Reboot {
			s.sys.Restart()
		}
		s.sys.Exit(0)
	}, nil
}

type hardware struct{ sys *platform.System }

func (h *hardware) CPUs() int          { return gate.CPUs() }
func (h *hardware) Flags() []string    { return cpuid.Flags() }
func (h *hardware) Hypervisor() string { return cpuid.Hypervisor() }

func (h *hardware) Processors() []machine.Processor {
	var out []machine.Processor
	for i := range gate.CPUs() {
		idle := gate.IdleTime(i)
		st := gate.CPUStats(i)
		out = append(out, machine.Processor{
			ID: int64(i), IdleMS: idle.Milliseconds(), BusyMS: max(0, (gate.SinceEntry() - idle).Milliseconds()),
			Switches: &st.Switches, Interrupts: &st.Interrupts, Timer: &st.Timer, IPIs: &st.IPIs, PageFaults: &st.PageFaults, Syscalls: &st.Syscalls,
		})
	}
	return out
}

// Firmware is what the makers of the machine call it. It is read once: the tables do
// not change.
var Firmware = sync.OnceValues(func() (smbios.Info, error) {
	b, err := gate.Physical(smbios.ScanBase, smbios.ScanBytes)
	if err != nil {
		return smbios.Info{}, err
	}
	return smbios.Find(b, gate.Physical)
})

func (h *hardware) Firmware() (string, error) {
	i, err := Firmware()
	if err != nil || i.BIOSVendor == "" {
		return "", machine.Unavailable("this machine's firmware does not tell its maker (%v)", err)
	}
	return i.BIOSVendor, nil
}

func (h *hardware) Disks() ([]machine.Disk, error) {
	var out []machine.Disk
	for _, d := range h.sys.Disks {
		id, _ := d.ID()
		out = append(out, machine.Disk{Name: d.Name(), Size: d.Size(), BlockSize: d.BlockSize(), ReadOnly: d.ReadOnly(), Model: id})
	}
	return out, nil
}

type network struct{ sys *platform.System }

func (n network) Interfaces() ([]machine.Interface, error) {
	net, err := n.sys.Net()
	if err != nil {
		return nil, err
	}
	var out []machine.Interface
	for _, i := range net.Stack().Interfaces() {
		up := i.Link().LinkUp()
		mac := ""
		if !i.IsLoopback() {
			mac = i.MAC().String()
		}
		st, c := i.Link().Stats(), i.Counters()
		m := machine.Interface{
			Config: machine.ConfigOf(i.Name(), i.Addrs(), i.MTU(), mac, up, i.IsLoopback()),
			Data: machine.InterfaceData{
				MTU: int64(i.MTU()), LinkState: machine.LinkDown,
				IPackets: st.RxFrames, IBytes: st.RxBytes, IErrors: st.RxErrors, IQDrops: st.RxNoBuf,
				OPackets: st.TxFrames, OBytes: st.TxBytes, OErrors: st.TxErrors,
				OKicks: &st.Doorbells, OQueueFull: &st.TxFull, IWakeups: &st.RxIRQs,
				IWakeupStats: &machine.Wakeups{P8: c.Wakes[0], P16: c.Wakes[1], P32: c.Wakes[2], P64: c.Wakes[3], P128: c.Wakes[4], P256: c.Wakes[5]},
			},
			Channels: &machine.Channels{Fast: c.Fast, Slow: c.Slow, Reasons: c.Reasons},
			Time:     gate.SinceEntry().Microseconds(),
		}
		if up {
			m.Data.LinkState = machine.LinkUp
		}
		out = append(out, m)
	}
	return out, nil
}

func (n network) Routes() ([]machine.Route, error) {
	net, err := n.sys.Net()
	if err != nil {
		return nil, err
	}
	var out []machine.Route
	for _, r := range net.Stack().Routes() {
		out = append(out, machine.RouteOf(r.Prefix, r.Gateway, r.Iface.Name()))
	}
	return out, nil
}

type env struct{}

func (env) List() []string                    { return os.Environ() }
func (env) Lookup(name string) (string, bool) { return os.LookupEnv(name) }
func (env) Set(name, value string) error      { return os.Setenv(name, value) }
func (env) Unset(name string) error           { return os.Unsetenv(name) }
