package procfs

import (
	"encoding/hex"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"osv/kernel/vfs/pseudo"
)

// Sysctl is a file of /proc/sys; the newline is added and taken away here.
type Sysctl struct {
	Path string // "vm/swappiness"
	Get  func() string
	Set  func(s string) error // nil: read only
}

// SystemLimits are numbers that /proc/sys tells.
type SystemLimits struct {
	PIDMax, ThreadsMax int
	FileMax, NrOpen    uint64
	MaxMapCount        int
	SoMaxConn          int
	PipeMax            int
	// Handles are how many files are open, for fs/file-nr.
	Handles func() int
}

func (l *SystemLimits) defaults() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&l.PIDMax, 32768)
	def(&l.ThreadsMax, 32768)
	def(&l.MaxMapCount, 1048576) // Cassandra warns below
	def(&l.SoMaxConn, 4096)
	def(&l.PipeMax, 1<<20)
	if l.FileMax == 0 {
		l.FileMax = 1<<63 - 1
	}
	if l.NrOpen == 0 {
		l.NrOpen = 1 << 20
	}
}

// knob is a number that can be written and is only remembered.
func knob(path, value string) Sysctl {
	var mu sync.Mutex
	return Sysctl{path, func() string {
		mu.Lock()
		defer mu.Unlock()
		return value
	}, func(s string) error {
		for _, w := range strings.Fields(s) {
			if _, err := strconv.ParseInt(w, 10, 64); err != nil {
				return syscall.EINVAL
			}
		}
		mu.Lock()
		defer mu.Unlock()
		value = strings.Join(strings.Fields(s), "\t")
		return nil
	}}
}

// sysctls fills /proc/sys.
func (f *FS) sysctls(dir *pseudo.Dir) {
	l := f.cfg.Limits
	num := func(n int) func() string { return func() string { return strconv.Itoa(n) } }
	list := []Sysctl{
		{"kernel/pid_max", num(l.PIDMax), nil},
		{"kernel/threads-max", num(l.ThreadsMax), nil},
		{"kernel/cap_last_cap", num(40), nil},
		{"kernel/ngroups_max", num(65536), nil},
		{"kernel/pty/max", num(0), nil},
		{"kernel/sem", func() string { return "32000\t1024000000\t500\t32000" }, nil},
		{"kernel/shmmax", func() string { return "18446744073692774399" }, nil},
		{"kernel/shmall", func() string { return "18446744073692774399" }, nil},
		{"kernel/msgmax", num(8192), nil},
		{"kernel/tainted", num(0), nil},
		knob("kernel/randomize_va_space", "2"),
		knob("kernel/perf_event_paranoid", "4"),
		knob("kernel/yama/ptrace_scope", "1"),
		knob("kernel/dmesg_restrict", "1"),
		knob("kernel/core_uses_pid", "0"),
		{"kernel/core_pattern", func() string { return "core" }, func(string) error { return nil }},
		knob("vm/overcommit_memory", "0"),
		knob("vm/overcommit_ratio", "50"),
		{"vm/max_map_count", num(l.MaxMapCount), func(string) error { return nil }},
		knob("vm/swappiness", "60"),
		knob("vm/dirty_ratio", "20"),
		knob("vm/dirty_background_ratio", "10"),
		knob("vm/nr_hugepages", "0"),
		knob("vm/mmap_min_addr", "65536"),
		knob("vm/zone_reclaim_mode", "0"),
		knob("vm/drop_caches", "0"),
		{"fs/file-max", func() string { return strconv.FormatUint(l.FileMax, 10) }, func(string) error { return nil }},
		{"fs/nr_open", func() string { return strconv.FormatUint(l.NrOpen, 10) }, nil},
		{"fs/file-nr", func() string {
			n := 0
			if l.Handles != nil {
				n = l.Handles()
			}
			return strconv.Itoa(n) + "\t0\t" + strconv.FormatUint(l.FileMax, 10)
		}, nil},
		{"fs/pipe-max-size", num(l.PipeMax), nil},
		knob("fs/aio-max-nr", "65536"),
		knob("fs/inotify/max_user_watches", "524288"),
		knob("fs/inotify/max_user_instances", "8192"),
		knob("fs/inotify/max_queued_events", "16384"),
		knob("fs/epoll/max_user_watches", "1000000"),
		knob("fs/protected_hardlinks", "0"),
		knob("fs/protected_symlinks", "0"),
		knob("net/core/somaxconn", strconv.Itoa(l.SoMaxConn)),
		knob("net/core/rmem_max", "212992"),
		knob("net/core/wmem_max", "212992"),
		knob("net/core/rmem_default", "212992"),
		knob("net/core/wmem_default", "212992"),
		knob("net/core/netdev_max_backlog", "1000"),
		knob("net/ipv4/ip_local_port_range", "32768\t60999"),
		knob("net/ipv4/ip_forward", "0"),
		knob("net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
		knob("net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
		knob("net/ipv4/tcp_keepalive_time", "7200"),
		knob("net/ipv4/tcp_keepalive_intvl", "75"),
		knob("net/ipv4/tcp_keepalive_probes", "9"),
		knob("net/ipv4/tcp_fin_timeout", "60"),
		knob("net/ipv4/tcp_max_syn_backlog", "4096"),
		knob("net/ipv4/tcp_syncookies", "1"),
		knob("net/ipv4/tcp_tw_reuse", "2"),
		{"net/ipv4/tcp_congestion_control", func() string { return "cubic" }, nil},
		{"net/ipv4/tcp_available_congestion_control", func() string { return "cubic" }, nil},
		knob("net/unix/max_dgram_qlen", "512"),
	}
	if s := f.cfg.System; s != nil {
		list = append(list,
			Sysctl{"kernel/ostype", func() string { return s.Release().Sysname }, nil},
			Sysctl{"kernel/osrelease", func() string { return s.Release().Release }, nil},
			Sysctl{"kernel/version", func() string { return s.Release().Version }, nil},
			Sysctl{"kernel/hostname", func() string { return s.Release().Nodename }, s.SetHostname},
			Sysctl{"kernel/domainname", func() string { return s.Release().Domain }, s.SetDomain},
			Sysctl{"kernel/random/boot_id", func() string { return uuid(s.BootID()) }, nil},
			Sysctl{"kernel/random/uuid", func() string {
				var b [16]byte
				s.Random(b[:])
				b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
				return uuid(b)
			}, nil},
			Sysctl{"kernel/random/entropy_avail", num(256), nil},
			Sysctl{"kernel/random/poolsize", num(256), nil},
		)
	}
	for _, s := range append(list, f.cfg.Sysctl...) {
		f.sysctl(dir, s)
	}
}

func (f *FS) sysctl(dir *pseudo.Dir, s Sysctl) {
	parts := strings.Split(s.Path, "/")
	for _, p := range parts[:len(parts)-1] {
		dir = dir.Dir(p)
	}
	mode := uint32(0o444)
	var set func(p []byte) error
	if s.Set != nil {
		mode = 0o644
		set = func(p []byte) error { return s.Set(strings.TrimRight(string(p), "\n\x00")) }
	}
	dir.Add(parts[len(parts)-1], f.NewFile(mode, func() ([]byte, error) { return []byte(s.Get() + "\n"), nil }, set))
}

// uuid is the text of RFC 4122.
func uuid(b [16]byte) string {
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
