package procfs

import (
	"strings"

	"osv/kernel/vfs"
)

// stat is /proc/PID/stat, proc(5): 52 fields.
func (f *FS) stat(t Task) ([]byte, error) {
	s, m := t.Stat(), t.Memory()
	var o text
	pid := s.TID
	o.f("%d (%s) %c %d %d %d %d %d %d", pid, s.Comm, s.State, s.PPID, s.PGRP, s.Session,
		int32(s.TTY), s.TPGID, 0x00400000) // PF_RANDOMIZE
	o.f(" %d %d %d %d %d %d %d %d", s.MinFlt, 0, s.MajFlt, 0,
		ticks(s.User), ticks(s.System), ticks(s.Children[0]), ticks(s.Children[1]))
	o.f(" %d %d %d 0 %d %d %d %d", s.Priority, s.Nice, s.Threads, ticks(s.Start),
		m.Size, m.Resident>>12, Infinity)
	o.f(" %d %d %d 0 0", m.StartCode, m.EndCode, s.StartStack)
	o.f(" %d %d %d %d 0 0 0", s.Pending&(1<<31-1), s.Blocked&(1<<31-1), s.SigIgnored&(1<<31-1), s.SigCaught&(1<<31-1))
	o.f(" %d %d %d %d 0 0 0", s.ExitSignal, s.CPU, s.RTPriority, s.Policy)
	o.f(" %d %d %d %d %d %d %d %d\n", 0, 0, m.StartBrk, m.ArgStart, m.ArgEnd, m.EnvStart, m.EnvEnd, s.ExitCode)
	return o.b, nil
}

// states are the names of states in status.
var states = map[byte]string{'R': "running", 'S': "sleeping", 'D': "disk sleep", 'T': "stopped",
	't': "tracing stop", 'Z': "zombie", 'X': "dead"}

// status is /proc/PID/status.
func (f *FS) status(t Task) ([]byte, error) {
	s, m := t.Stat(), t.Memory()
	var o text
	o.f("Name:\t%s\nUmask:\t%04o\nState:\t%c (%s)\n", s.Comm, s.Umask, s.State, states[s.State])
	o.f("Tgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n", s.PID, s.TID, s.PPID)
	o.f("Uid:\t%d\t%d\t%d\t%d\nGid:\t%d\t%d\t%d\t%d\nFDSize:\t%d\nGroups:\t",
		s.UID[0], s.UID[1], s.UID[2], s.UID[3], s.GID[0], s.GID[1], s.GID[2], s.GID[3], s.FDSize)
	for _, g := range s.Groups {
		o.f("%d ", g)
	}
	o.f("\nNStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\n", s.PID, s.TID, s.PGRP, s.Session)
	if m.Size != 0 {
		for _, l := range []struct {
			n string
			v uint64
		}{{"VmPeak", m.Peak}, {"VmSize", m.Size}, {"VmLck", m.Locked}, {"VmPin", m.Pinned}, {"VmHWM", m.HighWater},
			{"VmRSS", m.Resident}, {"RssAnon", m.Anon}, {"RssFile", m.File}, {"RssShmem", m.Shared},
			{"VmData", m.Data}, {"VmStk", m.Stack}, {"VmExe", m.Text}, {"VmLib", m.Library}, {"VmPTE", m.PTEs},
			{"VmSwap", m.Swap}} {
			o.f("%s:\t%8d kB\n", l.n, kb(l.v))
		}
		o.f("HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t1\n")
	}
	o.f("Threads:\t%d\nSigQ:\t%d/%d\n", s.Threads, s.SigQueued, s.SigLimit)
	o.f("SigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t%016x\nSigIgn:\t%016x\nSigCgt:\t%016x\n",
		s.Pending, s.SharedPending, s.Blocked, s.SigIgnored, s.SigCaught)
	o.f("CapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t%016x\nCapAmb:\t%016x\n",
		s.Caps[0], s.Caps[1], s.Caps[2], s.Caps[3], s.Caps[4])
	o.f("NoNewPrivs:\t%d\nSeccomp:\t0\nSeccomp_filters:\t0\n", b2i(s.NoNew))
	o.f("Cpus_allowed:\t%s\nCpus_allowed_list:\t%s\nMems_allowed:\t1\nMems_allowed_list:\t0\n",
		maskOf(s.CPUs), listOf(s.CPUs))
	o.f("voluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t%d\n", s.Voluntary, s.Involuntary)
	return o.b, nil
}

// maskOf is the first n processors as a mask, "3" or "1,ffffffff".
func maskOf(n int) string {
	if n <= 0 {
		return "0"
	}
	var o text
	if n%32 != 0 {
		o.f("%x", uint32(1)<<(n%32)-1)
	}
	for ; n >= 32; n -= 32 {
		if len(o.b) > 0 {
			o.f(",")
		}
		o.f("ffffffff")
	}
	return string(o.b)
}

// listOf is the first n processors as a list, "0-1".
func listOf(n int) string {
	if n <= 1 {
		return "0"
	}
	var o text
	o.f("0-%d", n-1)
	return string(o.b)
}

// statm is /proc/PID/statm, in pages.
func (f *FS) statm(t Task) ([]byte, error) {
	m := t.Memory()
	var o text
	o.f("%d %d %d %d 0 %d 0\n", m.Size>>12, m.Resident>>12, (m.File+m.Shared)>>12, m.Text>>12, (m.Data+m.Stack)>>12)
	return o.b, nil
}

func (o *text) mapLine(m *Map) {
	perm := []byte("---p")
	if m.Read {
		perm[0] = 'r'
	}
	if m.Write {
		perm[1] = 'w'
	}
	if m.Exec {
		perm[2] = 'x'
	}
	if m.Shared {
		perm[3] = 's'
	}
	from := len(o.b)
	o.f("%08x-%08x %s %08x %02x:%02x %d ", m.Start, m.End, perm, m.Offset, vfs.Major(m.Dev), vfs.Minor(m.Dev), m.Ino)
	if m.Name != "" {
		for len(o.b)-from < 73 {
			o.b = append(o.b, ' ')
		}
		o.f("%s", escape(m.Name, "\n"))
	}
	o.f("\n")
}

// maps is /proc/PID/maps.
func (f *FS) maps(t Task) ([]byte, error) {
	var o text
	t.Maps(func(m Map) bool {
		o.mapLine(&m)
		return true
	})
	return o.b, nil
}

func (o *text) mapSizes(m *Map) {
	clean := m.Resident - min(m.Dirty, m.Resident)
	var priv, shared [2]uint64 // clean, dirty
	if m.Shared {
		shared = [2]uint64{clean, m.Dirty}
	} else {
		priv = [2]uint64{clean, m.Dirty}
	}
	for _, l := range []struct {
		n string
		v uint64
	}{{"Rss", m.Resident}, {"Pss", m.Resident}, {"Pss_Dirty", m.Dirty}, {"Shared_Clean", shared[0]}, {"Shared_Dirty", shared[1]},
		{"Private_Clean", priv[0]}, {"Private_Dirty", priv[1]}, {"Referenced", m.Resident}, {"Anonymous", m.Anon},
		{"LazyFree", 0}, {"AnonHugePages", m.Huge}, {"ShmemPmdMapped", 0}, {"FilePmdMapped", 0},
		{"Shared_Hugetlb", 0}, {"Private_Hugetlb", 0}, {"Swap", 0}, {"SwapPss", 0}, {"Locked", m.Locked}} {
		o.f("%-16s%8d kB\n", l.n+":", kb(l.v))
	}
}

// smaps is /proc/PID/smaps.
func (f *FS) smaps(t Task) ([]byte, error) {
	var o text
	t.Maps(func(m Map) bool {
		o.mapLine(&m)
		o.f("%-16s%8d kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n", "Size:", kb(m.End-m.Start))
		o.mapSizes(&m)
		o.f("THPeligible:    %d\nVmFlags:", b2i(m.HugePage))
		for _, x := range []struct {
			on bool
			s  string
		}{{m.Read, " rd"}, {m.Write, " wr"}, {m.Exec, " ex"}, {m.Shared, " sh"}, {true, " mr mw me"},
			{m.NoReserve, " nr"}, {m.HugePage, " hg"}} {
			if x.on {
				o.f("%s", x.s)
			}
		}
		o.f(" \n")
		return true
	})
	return o.b, nil
}

// smapsRollup is the sum of smaps.
func (f *FS) smapsRollup(t Task) ([]byte, error) {
	var sum Map
	first := true
	t.Maps(func(m Map) bool {
		if first {
			sum.Start, first = m.Start, false
		}
		sum.End = m.End
		sum.Resident += m.Resident
		sum.Dirty += m.Dirty
		sum.Anon += m.Anon
		sum.Locked += m.Locked
		sum.Huge += m.Huge
		return true
	})
	sum.Name = "[rollup]"
	var o text
	o.mapLine(&sum)
	o.mapSizes(&sum)
	return o.b, nil
}

// limits is /proc/PID/limits.
func (f *FS) limits(t Task) ([]byte, error) {
	var o text
	show := func(v uint64) string {
		if v == Infinity {
			return "unlimited"
		}
		var n text
		n.f("%d", v)
		return string(n.b)
	}
	o.f("%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units")
	for _, l := range t.Limits() {
		o.f("%-25s %-20s %-20s %-10s\n", l.Name, show(l.Soft), show(l.Hard), l.Unit)
	}
	return o.b, nil
}

// io is /proc/PID/io.
func (f *FS) io(t Task) ([]byte, error) {
	i := t.IO()
	var o text
	o.f("rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d\nread_bytes: %d\nwrite_bytes: %d\ncancelled_write_bytes: 0\n",
		i.RChar, i.WChar, i.SyscR, i.SyscW, i.ReadBytes, i.WriteBytes)
	return o.b, nil
}

// schedstat is the time on a processor, waiting for one, and turns.
func (f *FS) schedstat(t Task) ([]byte, error) {
	s := t.Stat()
	var o text
	o.f("%d 0 %d\n", (s.User + s.System).Nanoseconds(), s.Voluntary+s.Involuntary)
	return o.b, nil
}

// fdinfo is /proc/PID/fdinfo/N.
func fdinfo(d FD) []byte {
	var o text
	o.f("pos:\t%d\nflags:\t0%o\n", d.Pos, uint32(d.Flags))
	if d.Path.M != nil {
		o.f("mnt_id:\t%d\n", d.Path.M.ID())
		if a, err := d.Path.Node().Attr(); err == nil {
			o.f("ino:\t%d\n", a.Ino)
		}
	}
	o.f("%s", d.Extra)
	return o.b
}

// mountsOf is /proc/PID/mounts, as fstab.
func (f *FS) mountsOf(t Task) ([]byte, error) {
	var o text
	for _, m := range f.mountList(t) {
		o.f("%s %s %s %s 0 0\n", escape(m.Source, " \t\n\\#"), escape(m.Point, " \t\n\\#"), m.Type, m.Flags.Options())
	}
	return o.b, nil
}

// mountinfo is /proc/PID/mountinfo.
func (f *FS) mountinfo(t Task) ([]byte, error) {
	var o text
	for _, m := range f.mountList(t) {
		super := "rw"
		if strings.HasPrefix(m.Flags.Options(), "ro") {
			super = "ro"
		}
		o.f("%d %d %d:%d %s %s %s - %s %s %s\n", m.ID, m.Parent, vfs.Major(m.Dev), vfs.Minor(m.Dev),
			escape(m.Root, " \t\n\\"), escape(m.Point, " \t\n\\"), m.Flags.Options(),
			m.Type, escape(m.Source, " \t\n\\"), super)
	}
	return o.b, nil
}

// mountList is what the task sees.
func (f *FS) mountList(t Task) []vfs.MountInfo {
	if f.cfg.Tree == nil {
		return nil
	}
	root := f.cfg.Tree.Root()
	if p, ok := t.Root(); ok {
		root = p
	}
	return f.cfg.Tree.Mounts(root)
}
