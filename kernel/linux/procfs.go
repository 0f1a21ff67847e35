package linux

import (
	"slices"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/signal"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/procfs"
)

// tasks shows processes in /proc.
type tasks struct{ s *System }

func (ts tasks) PIDs() []int {
	var out []int
	for _, p := range ts.s.Kernel.Processes() {
		out = append(out, p.PID())
	}
	slices.Sort(out)
	return out
}

func (ts tasks) Process(n int) (procfs.Task, bool) {
	k := ts.s.Kernel
	if p := k.Process(n); p != nil {
		return &entry{s: ts.s, p: p, t: p.Leader(), whole: true}, true
	}
	if t := k.Task(n); t != nil {
		return &entry{s: ts.s, p: t.Proc(), t: t.Proc().Leader(), whole: true}, true
	}
	return nil, false
}

func (ts tasks) TIDs(pid int) []int {
	p := ts.s.Kernel.Process(pid)
	if p == nil {
		return nil
	}
	ids := p.TIDs()
	slices.Sort(ids)
	return ids
}

func (ts tasks) Thread(pid, tid int) (procfs.Task, bool) {
	t := ts.s.Kernel.Task(tid)
	if t == nil || t.Proc().PID() != pid {
		return nil, false
	}
	return &entry{s: ts.s, p: t.Proc(), t: t}, true
}

// entry is a process (whole) or a thread in /proc. t is nil for init.
type entry struct {
	s     *System
	p     *task.Process
	t     *task.Task
	whole bool
}

func (e *entry) Stat() procfs.Stat {
	p, t := e.p, e.t
	st := procfs.Stat{
		PID: p.PID(), TID: p.PID(), PPID: p.PPID(), Comm: "init", State: p.State(), PGRP: p.PGID(), Session: p.SID(),
		TPGID: -1, Priority: 20, Threads: len(p.TIDs()), Start: p.Started(), ExitSignal: int(syscall.SIGCHLD),
		CPUs: e.s.Kernel.CPUs(),
	}
	if t == nil {
		return st
	}
	u := p.Usage()
	if !e.whole {
		st.TID, u = t.TID(), t.Usage()
		if st.State != 'Z' && st.State != 'T' {
			st.State = 'R'
			if t.Sleeping() {
				st.State = 'S'
			}
		}
	}
	c := p.ChildUsage()
	st.Comm = t.Comm()
	st.MinFlt, st.MajFlt = uint64(u.MinorFaults), uint64(u.MajorFaults)
	st.User, st.System = u.User, u.Sys
	st.Children = [2]time.Duration{c.User, c.Sys}
	st.Voluntary, st.Involuntary = uint64(u.Voluntary), uint64(u.Involuntary)
	policy, priority, _ := t.Policy()
	st.Nice, st.Policy, st.RTPriority = int(t.Nice()), uint(policy), uint(priority)
	if st.Priority = 20 + st.Nice; priority > 0 {
		st.Priority = -1 - int(priority)
	}
	if i := p.Image(); i != nil {
		st.StartStack = i.StackTop
	}
	if f := t.Files(); f != nil {
		st.FDSize = 64
	}
	st.Umask = t.Umask()
	cr := t.Creds()
	st.UID = [4]uint32{cr.UID, cr.EUID, cr.SUID, cr.FSUID}
	st.GID = [4]uint32{cr.GID, cr.EGID, cr.SGID, cr.FSGID}
	st.Groups = cr.Groups
	st.Caps = [5]uint64{cr.Inheritable, cr.Permitted, cr.Effective, cr.Bounding, cr.Ambient}
	st.NoNew = p.Flag(task.NoNewPrivs)
	own, shared, mask, queued := t.SignalState()
	st.Pending, st.SharedPending, st.Blocked = uint64(own), uint64(shared), uint64(mask)
	st.SigQueued, st.SigLimit = queued, int(min(p.Limit(abi.RLIMIT_SIGPENDING).Cur, 1<<31))
	for sig := 1; sig <= abi.NSIG; sig++ {
		switch a := p.Action(sig); a.Handler {
		case abi.SIG_DFL:
		case abi.SIG_IGN:
			st.SigIgnored |= uint64(signal.Bit(sig))
		default:
			st.SigCaught |= uint64(signal.Bit(sig))
		}
	}
	return st
}

// memory calls f with the address space, if there still is one.
func (e *entry) memory(f func(m *mm.Space)) {
	if m := e.p.ShareMem(); m != nil {
		defer m.Close()
		f(m)
	}
}

func (e *entry) Memory() (out procfs.Memory) {
	e.memory(func(m *mm.Space) {
		s := m.Stat()
		out = procfs.Memory{
			Size: s.VM, Peak: s.PeakVM, Locked: s.Locked, Resident: s.RSS, HighWater: s.PeakRSS, Anon: s.RSSAnon,
			File: s.RSSFile, Data: s.Data, Stack: s.Stack, Text: s.Text, StartBrk: s.BrkStart,
		}
		if i := e.p.Image(); i != nil {
			out.ArgStart, out.ArgEnd, out.EnvStart, out.EnvEnd = i.ArgStart, i.ArgEnd, i.EnvStart, i.EnvEnd
		}
	})
	return out
}

func (e *entry) Maps(f func(m procfs.Map) bool) {
	e.memory(func(s *mm.Space) {
		for _, m := range s.MapsUsage() {
			x := procfs.Map{
				Start: m.Start, End: m.End, Read: m.Prot&mm.ProtRead != 0, Write: m.Prot&mm.ProtWrite != 0,
				Exec: m.Prot&mm.ProtExec != 0, Shared: m.Shared, Offset: m.Offset, Name: m.Name,
				Resident: m.Usage.RSS, Dirty: m.Usage.Dirty, Anon: m.Usage.Anonymous, Huge: m.Usage.AnonHuge,
				NoReserve: m.NoReserve, HugePage: m.Huge,
			}
			if m.Locked {
				x.Locked = x.Resident
			}
			if m.Node != nil {
				if a, err := m.Node.Attr(); err == nil {
					x.Dev, x.Ino = a.Dev, a.Ino
				}
			}
			if !f(x) {
				return
			}
		}
	})
}

// limitNames are the lines of /proc/PID/limits.
var limitNames = [abi.RLIM_NLIMITS][2]string{
	abi.RLIMIT_CPU: {"Max cpu time", "seconds"}, abi.RLIMIT_FSIZE: {"Max file size", "bytes"},
	abi.RLIMIT_DATA: {"Max data size", "bytes"}, abi.RLIMIT_STACK: {"Max stack size", "bytes"},
	abi.RLIMIT_CORE: {"Max core file size", "bytes"}, abi.RLIMIT_RSS: {"Max resident set", "bytes"},
	abi.RLIMIT_NPROC: {"Max processes", "processes"}, abi.RLIMIT_NOFILE: {"Max open files", "files"},
	abi.RLIMIT_MEMLOCK: {"Max locked memory", "bytes"}, abi.RLIMIT_AS: {"Max address space", "bytes"},
	abi.RLIMIT_LOCKS: {"Max file locks", "locks"}, abi.RLIMIT_SIGPENDING: {"Max pending signals", "signals"},
	abi.RLIMIT_MSGQUEUE: {"Max msgqueue size", "bytes"}, abi.RLIMIT_NICE: {"Max nice priority", ""},
	abi.RLIMIT_RTPRIO: {"Max realtime priority", ""}, abi.RLIMIT_RTTIME: {"Max realtime timeout", "us"},
}

func (e *entry) Limits() (out []procfs.Limit) {
	for n, name := range limitNames {
		l := e.p.Limit(n)
		out = append(out, procfs.Limit{Name: name[0], Unit: name[1], Soft: l.Cur, Hard: l.Max})
	}
	return out
}

// maxArea bounds what is read of arguments and environment.
const maxArea = 1 << 21

// area reads memory between two addresses.
func (e *entry) area(from, to uint64) (b []byte) {
	e.memory(func(m *mm.Space) {
		if to > from && to-from <= maxArea {
			b = make([]byte, to-from)
			n, _ := m.ReadAt(b, from) // what can be read
			b = b[:n]
		}
	})
	return b
}

func (e *entry) Cmdline() []byte {
	if i := e.p.Image(); i != nil {
		return e.area(i.ArgStart, i.ArgEnd)
	}
	return nil
}

func (e *entry) Environ() []byte {
	if i := e.p.Image(); i != nil {
		return e.area(i.EnvStart, i.EnvEnd)
	}
	return nil
}

func (e *entry) Auxv() []byte {
	if i := e.p.Image(); i != nil {
		return i.Auxv
	}
	return nil
}

func (e *entry) Exe() (vfs.Path, bool) {
	if i := e.p.Image(); i != nil {
		return i.File, true
	}
	return vfs.Path{}, false
}

func (e *entry) Root() (vfs.Path, bool) {
	if e.t == nil {
		return vfs.Path{}, false
	}
	return e.t.Dirs().Root(), true
}

func (e *entry) Cwd() (vfs.Path, bool) {
	if e.t == nil {
		return vfs.Path{}, false
	}
	return e.t.Dirs().Cwd(), true
}

func (e *entry) FDs() (out []int) {
	if e.t == nil {
		return nil
	}
	if f := e.p.Files(); f != nil {
		f.Each(func(n int, _ *fd.Open) bool { out = append(out, n); return true })
	}
	return out
}

func (e *entry) FD(n int) (procfs.FD, bool) {
	f := e.p.Files()
	if f == nil {
		return procfs.FD{}, false
	}
	o, err := f.GetAny(n)
	if err != nil {
		return procfs.FD{}, false
	}
	defer o.Release()
	out := procfs.FD{Path: o.Where(), Flags: o.Flags(), Read: o.CanRead(), Write: o.CanWrite()}
	out.Pos, out.Extra = o.Pos(), o.Info()
	if out.Path.IsZero() {
		out.Name = o.Describe()
		if node := o.File().Node(); node != nil {
			if p, err := e.s.Tree.Anon(node, out.Name); err == nil {
				out.Path = p
			}
		}
	}
	return out, true
}

func (e *entry) SetComm(name string) error {
	if e.t == nil {
		return syscall.EINVAL
	}
	e.t.SetComm(name)
	return nil
}

func (e *entry) OOMScoreAdj() int           { return e.p.OOMScoreAdj() }
func (e *entry) SetOOMScoreAdj(n int) error { return e.p.SetOOMScoreAdj(n) }
func (e *entry) IO() procfs.IO              { return procfs.IO{} }
