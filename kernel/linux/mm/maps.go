package mm

import (
	"fmt"
	"strings"

	"osv/kernel/vfs"
)

// Map is one mapping as /proc/PID/maps and smaps tell it.
type Map struct {
	Start, End uint64
	Prot       Prot
	Shared     bool
	Offset     uint64
	File       vfs.File // nil for anonymous memory; only to be compared
	Node       vfs.Node // of the file, nil where there is none
	Name       string   // "[heap]", a path, or empty

	GrowsDown, Locked, NoReserve, DontFork, DontDump, WipeOnFork, Huge, NoHuge bool
	MaxProt                                                                    Prot

	Usage Usage // filled by MapsUsage only
}

// Usage is what of a mapping is in memory, in bytes.
type Usage struct {
	RSS          uint64
	Anonymous    uint64 // of RSS: private memory
	Shared       uint64 // of RSS: with further owners
	Dirty        uint64
	Accessed     uint64
	AnonHuge     uint64 // in 2 MiB pages
	Proportional uint64 // RSS with shared frames divided among their owners
}

// Maps lists the mappings in order.
func (s *Space) Maps() []Map { return s.list(false) }

// MapsUsage lists them with what is in memory: it looks at every page.
func (s *Space) MapsUsage() []Map { return s.list(true) }

func (s *Space) list(usage bool) []Map {
	type pathOf struct {
		i    int
		back *backing
	}
	var paths []pathOf
	s.mu.RLock()
	out := make([]Map, 0, s.tree.n)
	for v := s.tree.first; v != nil; v = v.next {
		m := Map{Start: v.start, End: v.end, Prot: v.prot, MaxProt: v.max, Offset: v.off, Name: v.name,
			Shared: v.flags&vmShared != 0, GrowsDown: v.flags&vmGrowsDown != 0,
			Locked: v.flags&vmLocked != 0, NoReserve: v.flags&vmNoReserve != 0,
			DontFork: v.flags&vmDontFork != 0, DontDump: v.flags&vmDontDump != 0,
			WipeOnFork: v.flags&vmWipeOnFork != 0,
			Huge:       v.flags&vmHuge != 0, NoHuge: v.flags&vmNoHuge != 0}
		switch b, l := v.back, &s.layout; {
		case b != nil && b.file != nil:
			m.File = b.file
			b.hold()
			paths = append(paths, pathOf{len(out), b})
		case b != nil && m.Name == "":
			m.Name = "/dev/zero (deleted)" // as Linux names shared anonymous memory
		case m.Name != "":
		case v.start <= l.brk && v.end > l.brkStart && l.brk > l.brkStart:
			m.Name = "[heap]"
		case l.startStack != 0 && v.start <= l.startStack && l.startStack < v.end:
			m.Name = "[stack]"
		}
		if usage {
			m.Usage = s.usage(v)
		}
		out = append(out, m)
	}
	s.mu.RUnlock()
	for _, p := range paths {
		m := &out[p.i]
		m.Node = p.back.file.Node()
		if p.back.path != nil {
			m.Name = p.back.path()
		}
		p.back.drop()
	}
	return out
}

// usage looks at v's pages. Caller holds mu for reading.
func (s *Space) usage(v *vma) (u Usage) {
	s.table.Walk(v.start, v.end, func(_ uint64, e PTE) bool {
		n := uint64(PageSize) << e.Order
		u.RSS += n
		if e.Dirty {
			u.Dirty += n
		}
		if e.Accessed {
			u.Accessed += n
		}
		if e.Order != 0 {
			u.AnonHuge += n
		}
		owners := s.refs.owners(e.Frame)
		if owners > 1 {
			u.Shared += n
		}
		u.Proportional += n / owners
		if v.back == nil || s.refs.page(e.Frame) == nil {
			u.Anonymous += n
		}
		return true
	})
	return u
}

// Stat are the figures of /proc/PID/status and statm, in bytes.
type Stat struct {
	VM, PeakVM      uint64 // size of all mappings
	RSS, PeakRSS    uint64
	RSSAnon         uint64
	RSSFile         uint64 // pages of files and of shared memory
	Locked          uint64
	Data, Stack     uint64
	Text            uint64 // executable
	Committed       uint64 // Committed_AS
	Maps            int
	Faults, IOWaits uint64 // minor faults; those that asked a file
	BrkStart, Brk   uint64
	StartStack      uint64
}

// Stat returns the figures.
func (s *Space) Stat() Stat {
	s.mu.RLock()
	defer s.mu.RUnlock()
	anon, files := s.anon.Load(), s.files.Load()
	return Stat{
		VM: s.total, PeakVM: s.peakVM,
		RSS: uint64(anon+files) * PageSize, PeakRSS: uint64(s.peak.Load()) * PageSize,
		RSSAnon: uint64(anon) * PageSize, RSSFile: uint64(files) * PageSize,
		Locked: s.locked, Data: s.data, Stack: s.stack, Text: s.exec, Committed: s.commit,
		Maps: s.tree.n, Faults: s.faults.Load(), IOWaits: s.waits.Load(),
		BrkStart: s.layout.brkStart, Brk: s.layout.brk, StartStack: s.layout.startStack,
	}
}

// String is a mapping's line of /proc/PID/maps without device and inode.
func (m *Map) String() string {
	var b strings.Builder
	letters := []byte("---p")
	for i, p := range []Prot{ProtRead, ProtWrite, ProtExec} {
		if m.Prot&p != 0 {
			letters[i] = "rwx"[i]
		}
	}
	if m.Shared {
		letters[3] = 's'
	}
	fmt.Fprintf(&b, "%08x-%08x %s %08x %s", m.Start, m.End, letters, m.Offset, m.Name)
	return strings.TrimRight(b.String(), " ")
}
