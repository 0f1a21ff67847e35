// Package sysfs is /sys as far as programs look: processors, the one memory node,
// sizes of huge pages, network interfaces, block devices.
//
// Spec: Documentation/ABI/{stable,testing}/sysfs-* of Linux 6.1 for each file. Not
// covered: uevents, drivers, buses; fs/cgroup is absent, so that programs which look
// for limits there find that there are none. Who may use it: kernel/linux and
// kernel/platform, which provide what it shows. Start reading at New.
package sysfs

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/pseudo"
)

// Magic is SYSFS_MAGIC.
const Magic = 0x62656572

// Config is what a /sys shows.
type Config struct {
	CPUs []CPU
	// MemTotal and MemFree are of the one node, in bytes.
	MemTotal uint64
	MemFree  func() uint64
	// Net are the interfaces now; nil: none ever.
	Net func() []Interface
	// Blocks are the disks.
	Blocks []Block
	// HugePages says that transparent huge pages are used for all memory.
	HugePages bool
}

// CPU is one processor.
type CPU struct {
	Package, Core int
	Caches        []Cache
	// KHz are the lowest and highest frequency; 0: not known, and no cpufreq.
	MinKHz, MaxKHz int
}

// Cache is one cache of a processor.
type Cache struct {
	Level      int
	Type       string // "Data", "Instruction", "Unified"
	Size       int    // bytes
	Line, Ways int
	Sets       int
	Shared     []int // processors, ascending
}

// Interface is one network interface.
type Interface struct {
	Name          string
	Index         int
	Loopback      bool
	MAC           [6]byte
	MTU           int
	SpeedMbit     int // 0: not known
	Up            bool
	TxQueueLength int
	// Stats are files of statistics/ by name, such as rx_bytes.
	Stats map[string]uint64
}

// Block is one disk.
type Block struct {
	Name       string // "vda"
	Major      uint32
	Minor      uint32
	Size       int64 // bytes
	BlockSize  int
	ReadOnly   bool
	Rotational bool
}

// New makes it.
func New(cfg Config) *pseudo.FS {
	f := pseudo.New("sysfs", Magic, 4096)
	s := &sys{f, cfg}
	top := f.Top()
	s.cpus(top.Dir("devices").Dir("system").Dir("cpu"))
	s.nodes(top.Dir("devices").Dir("system").Dir("node"))
	s.kernel(top.Dir("kernel"))
	top.Dir("fs")
	top.Dir("class").Dir("net").More = nets{s}
	s.blocks(top)
	return f
}

type sys struct {
	*pseudo.FS
	cfg Config
}

// list is processors as "0-3,6".
func list(ids []int) string {
	var b strings.Builder
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if j > i {
			fmt.Fprintf(&b, "%d-%d", ids[i], ids[j])
		} else {
			fmt.Fprint(&b, ids[i])
		}
		i = j + 1
	}
	return b.String()
}

// mask is processors as "00000000,0000000f": words of 32 bits, highest first.
func mask(ids []int) string {
	words := []uint32{0}
	for _, i := range ids {
		for len(words) <= i/32 {
			words = append(words, 0)
		}
		words[i/32] |= 1 << (i % 32)
	}
	out := make([]string, 0, len(words))
	for i := len(words) - 1; i >= 0; i-- {
		out = append(out, fmt.Sprintf("%08x", words[i]))
	}
	if len(out) == 1 {
		return strconv.FormatUint(uint64(words[0]), 16)
	}
	return strings.Join(out, ",")
}

func (s *sys) all() []int {
	ids := make([]int, len(s.cfg.CPUs))
	for i := range ids {
		ids[i] = i
	}
	return ids
}

// where are the processors for which f is true.
func (s *sys) where(f func(c *CPU) bool) []int {
	var ids []int
	for i := range s.cfg.CPUs {
		if f(&s.cfg.CPUs[i]) {
			ids = append(ids, i)
		}
	}
	return ids
}

func line(d *pseudo.Dir, name string, v any) { d.Text(name, fmt.Sprintln(v)) }

func (s *sys) cpus(d *pseudo.Dir) {
	all := list(s.all())
	line(d, "possible", all)
	line(d, "present", all)
	line(d, "online", all)
	d.Text("offline", "\n")
	d.Text("isolated", "\n")
	line(d, "kernel_max", max(len(s.cfg.CPUs), 1)-1)
	smt := false
	for i := range s.cfg.CPUs {
		c := &s.cfg.CPUs[i]
		n := d.Dir("cpu" + strconv.Itoa(i))
		if i > 0 {
			line(n, "online", 1)
		}
		t := n.Dir("topology")
		core := s.where(func(o *CPU) bool { return o.Package == c.Package && o.Core == c.Core })
		pack := s.where(func(o *CPU) bool { return o.Package == c.Package })
		smt = smt || len(core) > 1
		line(t, "physical_package_id", c.Package)
		line(t, "die_id", 0)
		line(t, "core_id", c.Core)
		for _, x := range []struct {
			name string
			ids  []int
		}{{"thread_siblings", core}, {"core_cpus", core}, {"core_siblings", pack}, {"package_cpus", pack}, {"die_cpus", pack}} {
			line(t, x.name, mask(x.ids))
			line(t, x.name+"_list", list(x.ids))
		}
		cd := n.Dir("cache")
		for k, h := range c.Caches {
			x := cd.Dir("index" + strconv.Itoa(k))
			line(x, "level", h.Level)
			line(x, "type", h.Type)
			line(x, "size", fmt.Sprint(h.Size>>10, "K"))
			line(x, "coherency_line_size", h.Line)
			line(x, "ways_of_associativity", h.Ways)
			line(x, "number_of_sets", h.Sets)
			line(x, "shared_cpu_list", list(h.Shared))
			line(x, "shared_cpu_map", mask(h.Shared))
		}
		if c.MaxKHz != 0 {
			q := n.Dir("cpufreq")
			line(q, "cpuinfo_max_freq", c.MaxKHz)
			line(q, "cpuinfo_min_freq", c.MinKHz)
			line(q, "scaling_max_freq", c.MaxKHz)
			line(q, "scaling_min_freq", c.MinKHz)
			line(q, "scaling_cur_freq", c.MaxKHz)
			line(q, "scaling_governor", "performance")
		}
	}
	active := 0
	if smt {
		active = 1
	}
	line(d.Dir("smt"), "active", active)
}

func (s *sys) nodes(d *pseudo.Dir) {
	for _, n := range []string{"possible", "online", "has_cpu", "has_memory", "has_normal_memory"} {
		line(d, n, 0)
	}
	n := d.Dir("node0")
	line(n, "cpulist", list(s.all()))
	line(n, "cpumap", mask(s.all()))
	line(n, "distance", 10)
	n.File("meminfo", func() []byte {
		free := uint64(0)
		if s.cfg.MemFree != nil {
			free = s.cfg.MemFree()
		}
		return fmt.Appendf(nil, "Node 0 MemTotal:       %8d kB\nNode 0 MemFree:        %8d kB\nNode 0 MemUsed:        %8d kB\n",
			s.cfg.MemTotal>>10, free>>10, (s.cfg.MemTotal-min(free, s.cfg.MemTotal))>>10)
	})
	n.Text("numastat", "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n")
	for i := range s.cfg.CPUs {
		name := "cpu" + strconv.Itoa(i)
		n.Symlink(name, "../../cpu/"+name)
	}
}

func (s *sys) kernel(d *pseudo.Dir) {
	mm := d.Dir("mm")
	thp := mm.Dir("transparent_hugepage")
	choice := "always [madvise] never\n"
	if s.cfg.HugePages {
		choice = "[always] madvise never\n"
	}
	thp.Add("enabled", s.NewFile(0o644, func() ([]byte, error) { return []byte(choice), nil }, func([]byte) error { return nil }))
	thp.Text("defrag", "always defer defer+madvise [madvise] never\n")
	thp.Text("shmem_enabled", "always within_size advise [never] deny force\n")
	thp.Text("use_zero_page", "1\n")
	line(thp, "hpage_pmd_size", 2<<20)
	h := mm.Dir("hugepages").Dir("hugepages-2048kB")
	for _, n := range []string{"nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "nr_overcommit_hugepages"} {
		line(h, n, 0)
	}
	d.Dir("security")
	d.Dir("debug")
}

// nets is class/net: interfaces come and go.
type nets struct{ s *sys }

func (n nets) ifs() []Interface {
	if n.s.cfg.Net == nil {
		return nil
	}
	return n.s.cfg.Net()
}

// inoNet is where inode numbers of interfaces begin.
const inoNet = 1 << 40

// Find is an interface's directory.
func (n nets) Find(name string) (vfs.Node, error) {
	for _, i := range n.ifs() {
		if i.Name == name {
			return n.dir(i), nil
		}
	}
	return nil, syscall.ENOENT
}

// Each tells the interfaces by number.
func (n nets) Each(off int64, f func(e vfs.DirEntry, next int64) bool) {
	for _, i := range n.ifs() {
		if int64(i.Index) <= off {
			continue
		}
		if !f(vfs.DirEntry{Name: i.Name, Ino: inoNet + uint64(i.Index)<<8, Type: vfs.TypeDir}, int64(i.Index)) {
			return
		}
	}
}

func (n nets) dir(i Interface) *pseudo.Dir {
	d := n.s.NewDir(0o755)
	d.Ino = inoNet + uint64(i.Index)<<8
	typ, flags, state := 1, 0x1002, "down"
	if i.Loopback {
		typ, flags = 772, 0x8
	}
	if i.Up {
		flags |= 1
		state = "up"
		if i.Loopback {
			state = "unknown"
		}
	}
	line(d, "address", fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", i.MAC[0], i.MAC[1], i.MAC[2], i.MAC[3], i.MAC[4], i.MAC[5]))
	line(d, "addr_len", 6)
	broadcast := "ff:ff:ff:ff:ff:ff"
	if i.Loopback {
		broadcast = "00:00:00:00:00:00"
	}
	line(d, "broadcast", broadcast)
	line(d, "mtu", i.MTU)
	line(d, "ifindex", i.Index)
	line(d, "iflink", i.Index)
	line(d, "type", typ)
	line(d, "flags", fmt.Sprintf("%#x", flags))
	line(d, "operstate", state)
	line(d, "tx_queue_len", i.TxQueueLength)
	line(d, "dormant", 0)
	up := i.Up
	d.Add("carrier", n.s.NewFile(0o644, func() ([]byte, error) {
		if !up {
			return nil, syscall.EINVAL
		}
		return []byte("1\n"), nil
	}, nil))
	speed := i.SpeedMbit
	d.Add("speed", n.s.NewFile(0o444, func() ([]byte, error) {
		if i.Loopback {
			return nil, syscall.EINVAL
		}
		if speed == 0 {
			return []byte("-1\n"), nil
		}
		return fmt.Appendf(nil, "%d\n", speed), nil
	}, nil))
	st := d.Dir("statistics")
	for _, k := range []string{"rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors",
		"tx_dropped", "multicast", "collisions"} {
		line(st, k, i.Stats[k])
	}
	// The inode numbers of the files follow the directory's.
	d.Renumber(d.Ino + 1)
	return d
}

func (s *sys) blocks(top *pseudo.Dir) {
	dirs := top.Dir("block")
	class := top.Dir("class").Dir("block")
	dev := top.Dir("dev").Dir("block")
	for _, b := range s.cfg.Blocks {
		d := dirs.Dir(b.Name)
		line(d, "size", b.Size/512)
		line(d, "dev", fmt.Sprintf("%d:%d", b.Major, b.Minor))
		line(d, "ro", b2i(b.ReadOnly))
		line(d, "removable", 0)
		q := d.Dir("queue")
		line(q, "logical_block_size", b.BlockSize)
		line(q, "physical_block_size", b.BlockSize)
		line(q, "hw_sector_size", b.BlockSize)
		line(q, "rotational", b2i(b.Rotational))
		line(q, "read_ahead_kb", 128)
		line(q, "scheduler", "[none]")
		class.Symlink(b.Name, "../../block/"+b.Name)
		dev.Symlink(fmt.Sprintf("%d:%d", b.Major, b.Minor), "../../block/"+b.Name)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
