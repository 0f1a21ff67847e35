package procfs

import (
	"fmt"
	"strings"

	"osv/kernel/vfs/pseudo"
)

// globals are the files about the machine.
func (f *FS) globals(top *pseudo.Dir) {
	top.Symlink("mounts", "self/mounts")
	top.File("filesystems", f.filesystems)
	s := f.cfg.System
	if s == nil {
		return
	}
	top.File("cpuinfo", f.cpuinfo)
	top.File("meminfo", f.meminfo)
	top.File("stat", f.machineStat)
	top.File("vmstat", f.vmstat)
	top.File("loadavg", func() []byte {
		l := s.Load()
		return fmt.Appendf(nil, "%.2f %.2f %.2f %d/%d %d\n", l.Avg[0], l.Avg[1], l.Avg[2], l.Running, l.Total, l.LastPID)
	})
	top.File("uptime", func() []byte {
		up, idle := s.Uptime()
		return fmt.Appendf(nil, "%.2f %.2f\n", up.Seconds(), idle.Seconds())
	})
	top.File("version", func() []byte {
		r := s.Release()
		return fmt.Appendf(nil, "%s version %s (osv@go) (go) %s\n", r.Sysname, r.Release, r.Version)
	})
	top.File("cmdline", func() []byte { return []byte(s.Cmdline() + "\n") })
	top.Text("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
	top.Text("devices", "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n\nBlock devices:\n254 virtblk\n")
	top.Text("modules", "")
	top.Text("partitions", "major minor  #blocks  name\n\n")
	top.Text("diskstats", "")
	top.Text("interrupts", "")
}

// filesystems is /proc/filesystems.
func (f *FS) filesystems() []byte {
	var o text
	for _, n := range f.cfg.Filesystems {
		if t, ok := strings.CutPrefix(n, "nodev"); ok {
			o.f("nodev\t%s\n", strings.TrimSpace(t))
		} else {
			o.f("\t%s\n", strings.TrimSpace(n))
		}
	}
	return o.b
}

// cpuinfo is /proc/cpuinfo of x86.
func (f *FS) cpuinfo() []byte {
	var o text
	for _, c := range f.cfg.System.CPUs() {
		o.f("processor\t: %d\nvendor_id\t: %s\ncpu family\t: %d\nmodel\t\t: %d\nmodel name\t: %s\nstepping\t: %d\n",
			c.ID, c.Vendor, c.Family, c.Model, c.Name, c.Stepping)
		if c.Microcode != 0 {
			o.f("microcode\t: %#x\n", c.Microcode)
		}
		o.f("cpu MHz\t\t: %.3f\ncache size\t: %d KB\n", float64(c.Hz)/1e6, c.CacheKB)
		o.f("physical id\t: %d\nsiblings\t: %d\ncore id\t\t: %d\ncpu cores\t: %d\napicid\t\t: %d\ninitial apicid\t: %d\n",
			c.Package, c.Siblings, c.Core, c.Cores, c.APICID, c.APICID)
		o.f("fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: %d\nwp\t\t: yes\nflags\t\t: %s\nbugs\t\t:\n",
			c.CPUIDLevel, strings.Join(c.Flags, " "))
		o.f("bogomips\t: %.2f\nclflush size\t: %d\ncache_alignment\t: %d\naddress sizes\t: %d bits physical, %d bits virtual\npower management:\n\n",
			float64(c.Hz)/5e5, c.CacheLine, c.CacheLine, c.PhysBits, c.VirtBits)
	}
	return o.b
}

// meminfo is /proc/meminfo.
func (f *FS) meminfo() []byte {
	m := f.cfg.System.Meminfo()
	var o text
	for _, l := range []struct {
		n string
		v uint64
	}{{"MemTotal", m.Total}, {"MemFree", m.Free}, {"MemAvailable", m.Available}, {"Buffers", m.Buffers},
		{"Cached", m.Cached}, {"SwapCached", m.SwapCached}, {"Active", m.Active}, {"Inactive", m.Inactive},
		{"Unevictable", 0}, {"Mlocked", 0}, {"SwapTotal", 0}, {"SwapFree", 0}, {"Dirty", m.Dirty},
		{"Writeback", m.Writeback}, {"AnonPages", m.AnonPages}, {"Mapped", m.Mapped}, {"Shmem", m.Shmem},
		{"KReclaimable", m.SReclaimable}, {"Slab", m.Slab}, {"SReclaimable", m.SReclaimable},
		{"SUnreclaim", m.Slab - min(m.Slab, m.SReclaimable)}, {"KernelStack", m.KernelStack},
		{"PageTables", m.PageTables}, {"NFS_Unstable", 0}, {"Bounce", 0}, {"WritebackTmp", 0},
		{"CommitLimit", m.CommitLimit}, {"Committed_AS", m.Committed}, {"VmallocTotal", 34359738367 << 10},
		{"VmallocUsed", 0}, {"VmallocChunk", 0}, {"Percpu", 0}, {"AnonHugePages", m.AnonHuge},
		{"ShmemHugePages", 0}, {"ShmemPmdMapped", 0}} {
		o.f("%-16s%8d kB\n", l.n+":", kb(l.v))
	}
	o.f("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n")
	o.f("Hugepagesize:       2048 kB\nHugetlb:               0 kB\n")
	return o.b
}

// machineStat is /proc/stat.
func (f *FS) machineStat() []byte {
	s := f.cfg.System
	times := s.Times()
	var sum CPUTime
	for _, c := range times {
		sum.User += c.User
		sum.Nice += c.Nice
		sum.System += c.System
		sum.Idle += c.Idle
		sum.IOWait += c.IOWait
		sum.IRQ += c.IRQ
		sum.SoftIRQ += c.SoftIRQ
		sum.Steal += c.Steal
	}
	var o text
	line := func(name string, c CPUTime) {
		o.f("%s %d %d %d %d %d %d %d %d 0 0\n", name, ticks(c.User), ticks(c.Nice), ticks(c.System), ticks(c.Idle),
			ticks(c.IOWait), ticks(c.IRQ), ticks(c.SoftIRQ), ticks(c.Steal))
	}
	line("cpu ", sum)
	for i, c := range times {
		line(fmt.Sprint("cpu", i), c)
	}
	n := s.Counts()
	o.f("intr %d\nctxt %d\nbtime %d\nprocesses %d\nprocs_running %d\nprocs_blocked %d\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
		n.Interrupts, n.Switches, s.Boot().Unix(), n.Forks, n.Running, n.Blocked)
	return o.b
}

// vmstat is the part of /proc/vmstat that means anything here.
func (f *FS) vmstat() []byte {
	m, n := f.cfg.System.Meminfo(), f.cfg.System.Counts()
	var o text
	for _, l := range []struct {
		n string
		v uint64
	}{{"nr_free_pages", m.Free >> 12}, {"nr_anon_pages", m.AnonPages >> 12}, {"nr_mapped", m.Mapped >> 12},
		{"nr_file_pages", m.Cached >> 12}, {"nr_dirty", m.Dirty >> 12}, {"nr_writeback", m.Writeback >> 12},
		{"nr_shmem", m.Shmem >> 12}, {"pgpgin", n.PagesIn}, {"pgpgout", n.PagesOut}, {"pswpin", 0}, {"pswpout", 0},
		{"pgfault", n.PageFaults}, {"pgmajfault", n.MajorFaults}} {
		o.f("%s %d\n", l.n, l.v)
	}
	return o.b
}
