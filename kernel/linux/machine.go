package linux

import (
	"crypto/rand"
	"time"

	"osv/kernel/linux/sys/proc"
	"osv/kernel/vfs/procfs"
	"osv/kernel/vfs/sysfs"
)

// CPU is one processor as /proc/cpuinfo and /sys tell it.
type CPU struct {
	Info procfs.CPU
	Sys  sysfs.CPU
}

// machine shows the machine in /proc.
type machine struct{ s *System }

func (m machine) Release() procfs.Release {
	k := m.s.Kernel
	return procfs.Release{Sysname: "Linux", Nodename: k.Hostname(), Release: proc.Release, Version: proc.Version, Machine: "x86_64", Domain: k.Domain()}
}

func (m machine) SetHostname(name string) error { m.s.Kernel.SetHostname(name); return nil }
func (m machine) SetDomain(name string) error   { m.s.Kernel.SetDomain(name); return nil }

func (m machine) CPUs() []procfs.CPU {
	out := make([]procfs.CPU, len(m.s.cfg.CPUs))
	for i, c := range m.s.cfg.CPUs {
		out[i] = c.Info
		out[i].ID = i
		if c.Info.Vendor == "" {
			out[i] = procfs.CPU{ID: i, Core: i, APICID: i, Siblings: len(out), Cores: len(out), Vendor: "GenuineIntel",
				Name: "virtual processor", Family: 6, CPUIDLevel: 13, CacheLine: 64, PhysBits: 40, VirtBits: 48}
		}
	}
	return out
}

func (m machine) Meminfo() procfs.Meminfo {
	k := m.s.Kernel
	free := k.Machine().FreeBytes()
	out := procfs.Meminfo{Total: k.TotalMemory(), Free: free, Available: free, CommitLimit: k.TotalMemory()}
	for _, p := range k.Processes() {
		if s := p.ShareMem(); s != nil {
			st := s.Stat()
			out.AnonPages += st.RSSAnon
			out.Mapped += st.RSSFile
			out.Committed += st.Committed
			s.Close()
		}
	}
	out.Active = out.AnonPages
	return out
}

func (m machine) Times() []procfs.CPUTime {
	out := make([]procfs.CPUTime, len(m.s.cfg.CPUs))
	var user, system time.Duration
	for _, p := range m.s.Kernel.Processes() {
		u := p.Usage()
		user, system = user+u.User, system+u.Sys
	}
	n := time.Duration(len(out))
	up := m.s.Kernel.Uptime()
	for i := range out {
		out[i] = procfs.CPUTime{User: user / n, System: system / n, Idle: max(0, up-(user+system)/n)}
	}
	return out
}

func (m machine) Counts() procfs.Counts {
	k := m.s.Kernel
	c := procfs.Counts{Forks: k.Forks(), Running: k.Running()}
	for _, p := range k.Processes() {
		u := p.Usage()
		c.Switches += uint64(u.Voluntary + u.Involuntary)
		c.PageFaults += uint64(u.MinorFaults)
		c.MajorFaults += uint64(u.MajorFaults)
	}
	return c
}

func (m machine) Load() procfs.Load {
	k := m.s.Kernel
	return procfs.Load{Avg: k.Load(), Running: max(1, k.Running()), Total: k.Live(), LastPID: k.LastID()}
}

func (m machine) Uptime() (up, idle time.Duration) {
	up = m.s.Kernel.Uptime()
	for _, t := range m.Times() {
		idle += t.Idle
	}
	return up, idle
}

func (m machine) Boot() time.Time  { return m.s.Kernel.Started() }
func (m machine) Cmdline() string  { return m.s.cfg.Cmdline }
func (m machine) BootID() [16]byte { return m.s.bootID }
func (m machine) Random(p []byte)  { _, _ = rand.Read(p) } // never fails

// sysfs is what /sys shows.
func (s *System) sysfs() sysfs.Config {
	c := sysfs.Config{MemTotal: s.cfg.Memory, MemFree: s.cfg.Machine.FreeBytes}
	for i, p := range s.cfg.CPUs {
		if p.Info.Vendor == "" {
			p.Sys.Core = i
		}
		c.CPUs = append(c.CPUs, p.Sys)
	}
	if net := s.cfg.Net; net != nil {
		c.Net = func() []sysfs.Interface {
			var out []sysfs.Interface
			for _, i := range net.Interfaces() {
				out = append(out, sysfs.Interface{
					Name: i.Name, Index: i.Index, Loopback: i.Loopback, MAC: i.MAC, MTU: i.MTU, Up: true, TxQueueLength: 1000,
					Stats: map[string]uint64{
						"rx_bytes": i.RxBytes, "rx_packets": i.RxPackets, "rx_errors": i.RxErrors, "rx_dropped": i.RxDropped,
						"tx_bytes": i.TxBytes, "tx_packets": i.TxPackets, "tx_errors": i.TxErrors, "tx_dropped": i.TxDropped,
					},
				})
			}
			return out
		}
	}
	return c
}
