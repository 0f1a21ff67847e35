package procfs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"osv/kernel/vfs"
	"osv/kernel/vfs/devfs"
	"osv/kernel/vfs/tmpfs"
)

// fake is a machine with one process of two threads.
type fake struct {
	tree *vfs.Tree
	exe  vfs.Path
	comm string
	adj  int
	host string
	gone bool
}

func (f *fake) PIDs() []int { return []int{2, 7} }
func (f *fake) Process(n int) (Task, bool) {
	if n == 8 {
		n = 7 // a thread's number leads to its process
	}
	return &fakeTask{f, n, n}, n == 2 || n == 7
}
func (f *fake) TIDs(pid int) []int { return []int{pid, 8} }
func (f *fake) Thread(pid, tid int) (Task, bool) {
	return &fakeTask{f, pid, tid}, pid == 7 && (tid == 7 || tid == 8)
}

type fakeTask struct {
	f        *fake
	pid, tid int
}

func (t *fakeTask) Stat() Stat {
	return Stat{PID: t.pid, TID: t.tid, PPID: 1, Comm: t.f.comm, State: 'S', PGRP: 7, Session: 7, TPGID: -1,
		User: 1230 * time.Millisecond, System: 20 * time.Millisecond, Priority: 20, Threads: 2, Start: 5 * time.Second,
		CPUs: 2, FDSize: 64, Umask: 0o22, UID: [4]uint32{1, 2, 3, 4}, GID: [4]uint32{5, 6, 7, 8}, Groups: []uint32{5, 9},
		Blocked: 1 << 10, SigCaught: 0x1800, Voluntary: 11, ExitSignal: 17}
}
func (t *fakeTask) Memory() Memory {
	return Memory{Size: 8 << 20, Peak: 9 << 20, Resident: 4 << 20, Anon: 3 << 20, File: 1 << 20, Text: 1 << 20, Data: 2 << 20, Stack: 136 << 10, StartBrk: 0x1000}
}
func (t *fakeTask) Maps(f func(m Map) bool) {
	_ = f(Map{Start: 0x400000, End: 0x401000, Read: true, Exec: true, Dev: vfs.Mkdev(254, 1), Ino: 77, Name: "/bin/a\nb", Resident: 4096}) &&
		f(Map{Start: 0x7ffff7a00000, End: 0x7ffff7c00000, Read: true, Write: true, Resident: 8192, Dirty: 8192, Anon: 8192})
}
func (t *fakeTask) Limits() []Limit {
	return []Limit{{"Max open files", "files", 1024, 4096}, {"Max stack size", "bytes", 8 << 20, Infinity}}
}
func (t *fakeTask) Cmdline() []byte        { return []byte("a\x00b\x00") }
func (t *fakeTask) Environ() []byte        { return []byte("X=1\x00") }
func (t *fakeTask) Auxv() []byte           { return make([]byte, 16) }
func (t *fakeTask) Exe() (vfs.Path, bool)  { return t.f.exe, t.pid == 7 }
func (t *fakeTask) Root() (vfs.Path, bool) { return t.f.tree.Root(), true }
func (t *fakeTask) Cwd() (vfs.Path, bool)  { return t.f.tree.Root(), true }
func (t *fakeTask) FDs() []int             { return []int{0, 3} }
func (t *fakeTask) FD(n int) (FD, bool) {
	switch n {
	case 0:
		return FD{Name: "socket:[5]", Read: true, Write: true}, true
	case 3:
		return FD{Path: t.f.exe, Pos: 12, Flags: 0o100002, Read: true, Extra: "eventfd-count: 1\n"}, true
	}
	return FD{}, false
}
func (t *fakeTask) SetComm(s string) error     { t.f.comm = s; return nil }
func (t *fakeTask) OOMScoreAdj() int           { return t.f.adj }
func (t *fakeTask) SetOOMScoreAdj(n int) error { t.f.adj = n; return nil }
func (t *fakeTask) IO() IO                     { return IO{RChar: 1, WChar: 2} }
func (f *fake) Release() Release {
	return Release{"Linux", f.host, "6.1.0-osv", "#1 SMP", "x86_64", "(none)"}
}
func (f *fake) SetHostname(s string) error { f.host = s; return nil }
func (f *fake) SetDomain(s string) error   { return nil }
func (f *fake) CPUs() []CPU {
	return []CPU{{Vendor: "V", Hz: 2e9, Cores: 1}, {ID: 1, Hz: 2e9, Flags: []string{"fpu", "sse2"}}}
}
func (f *fake) Meminfo() Meminfo { return Meminfo{Total: 1 << 30, Free: 1 << 29, Available: 1 << 29} }
func (f *fake) Times() []CPUTime {
	return []CPUTime{{User: time.Second}, {User: time.Second, Idle: 3 * time.Second}}
}
func (f *fake) Counts() Counts { return Counts{Switches: 5} }
func (f *fake) Load() Load {
	return Load{Avg: [3]float64{.5, .25, 1}, Running: 1, Total: 9, LastPID: 8}
}
func (f *fake) Uptime() (a, b time.Duration) { return 12340 * time.Millisecond, 5 * time.Second }
func (f *fake) Boot() time.Time              { return time.Unix(1000, 0) }
func (f *fake) Cmdline() string              { return "run=/bin/a" }
func (f *fake) Random(p []byte)              {}
func (f *fake) BootID() [16]byte             { return [16]byte{1, 2, 15: 255} }
func (f *fake) Interfaces() []Interface {
	return []Interface{{Name: "lo", Index: 1, Addr6: [][16]byte{{15: 1}}}, {Name: "eth0", Index: 2, RxBytes: 123, Addr6: [][16]byte{{0: 0xfe, 1: 0x80}}, Bits6: []int{64}}}
}
func (f *fake) Routes() []Route {
	return []Route{{Interface: "eth0", Router: [4]byte{10, 0, 0, 1}}, {Interface: "eth0", Dst: [4]byte{10}, Mask: [4]byte{255, 255, 255, 0}}}
}
func (f *fake) Sockets(p string) []Socket {
	switch p {
	case "tcp":
		return []Socket{{Local: []byte{127, 0, 0, 1}, LocalPort: 80, Remote: make([]byte, 4), State: 10, Ino: 5}}
	case "udp6":
		return []Socket{{Local: make([]byte, 16), State: 7}}
	case "unix":
		return []Socket{{Type: 1, Path: "/run/x", Ino: 9}}
	}
	return nil
}
func (f *fake) SNMP() []Counters {
	return []Counters{{"Ip", []string{"Forwarding", "InReceives"}, []uint64{2, 7}}}
}
func (f *fake) InUse(string) int { return 3 }

func world(t *testing.T) (*fake, *vfs.Context) {
	t.Helper()
	f := &fake{comm: "prog (x)", host: "guest"}
	f.tree = vfs.NewTreeOptions(tmpfs.New(tmpfs.Options{Mode: 0o755}), vfs.Options{Source: "/dev/vda"})
	c := vfs.NewContext(f.tree, vfs.RootCreds())
	c.PID, c.TID = 7, 8
	for _, d := range []string{"/proc", "/bin"} {
		if err := vfs.MkdirAt(c, vfs.Path{}, d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := vfs.WriteFile(c, "/bin/a", []byte("ELF"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.exe, _ = vfs.Walk(c, vfs.Path{}, "/bin/a", 0)
	fs := New(Config{Tasks: f, System: f, Net: f, Tree: f.tree, Filesystems: []string{"nodev proc", "ext4"},
		Limits: SystemLimits{Handles: func() int { return 3 }}})
	at, _ := vfs.Walk(c, vfs.Path{}, "/proc", 0)
	if _, err := f.tree.Mount("proc", fs, at, 0); err != nil {
		t.Fatal(err)
	}
	return f, c
}

func read(t *testing.T, c *vfs.Context, path string) string {
	t.Helper()
	b, err := vfs.ReadFile(c, path)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return string(b)
}

func TestProcessFiles(t *testing.T) {
	f, c := world(t)
	st := read(t, c, "/proc/self/stat")
	// 52 fields, as many as the host's; the name may hold blanks and parentheses.
	rest := st[strings.LastIndex(st, ")")+1:]
	if n := len(strings.Fields(rest)) + 2; n != 52 || !strings.HasPrefix(st, "7 (prog (x)) S 1 7 7 0 -1 ") {
		t.Errorf("stat has %d fields: %s", n, st)
	}
	host, err := os.ReadFile("/proc/self/stat")
	if err == nil {
		if n := len(strings.Fields(string(host[strings.LastIndex(string(host), ")")+1:]))) + 2; n != 52 {
			t.Errorf("the host's stat has %d fields", n)
		}
	}
	if !strings.Contains(rest, " 123 2 0 0 20 0 2 0 500 8388608 1024 18446744073709551615 ") {
		t.Errorf("stat: %s", rest)
	}
	status := read(t, c, "/proc/7/status")
	for _, l := range []string{"Name:\tprog (x)", "Umask:\t0022", "State:\tS (sleeping)", "Tgid:\t7", "Uid:\t1\t2\t3\t4",
		"Groups:\t5 9 ", "VmRSS:\t    4096 kB", "Threads:\t2", "SigCgt:\t0000000000001800", "Cpus_allowed:\t3", "Cpus_allowed_list:\t0-1"} {
		if !strings.Contains(status, l+"\n") {
			t.Errorf("status lacks %q:\n%s", l, status)
		}
	}
	for path, want := range map[string]string{
		"/proc/7/statm":                          "2048 1024 256 256 0 546 0\n",
		"/proc/7/cmdline":                        "a\x00b\x00",
		"/proc/7/environ":                        "X=1\x00",
		"/proc/7/comm":                           "prog (x)\n",
		"/proc/7/oom_score_adj":                  "0\n",
		"/proc/7/io":                             "rchar: 1\nwchar: 2\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n",
		"/proc/7/fdinfo/3":                       fmt.Sprintf("pos:\t12\nflags:\t0100002\nmnt_id:\t%d\nino:\t4\neventfd-count: 1\n", f.exe.M.ID()),
		"/proc/7/mounts":                         "/dev/vda / tmpfs rw 0 0\nproc /proc proc rw 0 0\n",
		"/proc/mounts":                           "/dev/vda / tmpfs rw 0 0\nproc /proc proc rw 0 0\n",
		"/proc/self/exe":                         "ELF",
		"/proc/7/fd/3":                           "ELF",
		"/proc/7/schedstat":                      "1250000000 0 11\n",
		"/proc/thread-self/comm":                 "prog (x)\n",
		"/proc/7/task/8/comm":                    "prog (x)\n",
		"/proc/8/comm":                           "prog (x)\n",
		"/proc/loadavg":                          "0.50 0.25 1.00 1/9 8\n",
		"/proc/uptime":                           "12.34 5.00\n",
		"/proc/version":                          "Linux version 6.1.0-osv (osv@go) (go) #1 SMP\n",
		"/proc/cmdline":                          "run=/bin/a\n",
		"/proc/filesystems":                      "nodev\tproc\n\text4\n",
		"/proc/sys/kernel/pid_max":               "32768\n",
		"/proc/sys/kernel/hostname":              "guest\n",
		"/proc/sys/kernel/random/boot_id":        "01020000-0000-0000-0000-0000000000ff\n",
		"/proc/sys/kernel/random/uuid":           "00000000-0000-4000-8000-000000000000\n",
		"/proc/sys/fs/file-nr":                   "3\t0\t9223372036854775807\n",
		"/proc/sys/net/core/somaxconn":           "4096\n",
		"/proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
		"/proc/net/snmp":                         "Ip: Forwarding InReceives\nIp: 2 7\n",
	} {
		if got := read(t, c, path); got != want {
			t.Errorf("%s:\n%q, want\n%q", path, got, want)
		}
	}
	maps := read(t, c, "/proc/7/maps")
	if maps != "00400000-00401000 r-xp 00000000 fe:01 77                                 /bin/a\\012b\n7ffff7a00000-7ffff7c00000 rw-p 00000000 00:00 0 \n" {
		t.Errorf("maps:\n%s", maps)
	}
	if s := read(t, c, "/proc/7/smaps"); !strings.Contains(s, "Rss:                   8 kB\n") || !strings.Contains(s, "VmFlags: rd wr mr mw me \n") {
		t.Errorf("smaps:\n%s", s)
	}
	if s := read(t, c, "/proc/7/smaps_rollup"); !strings.Contains(s, "[rollup]\nRss:                  12 kB\n") {
		t.Errorf("smaps_rollup:\n%s", s)
	}
	if s := read(t, c, "/proc/7/limits"); !strings.Contains(s, "Max open files            1024                 4096                 files     \n") ||
		!strings.Contains(s, "unlimited") {
		t.Errorf("limits:\n%s", s)
	}
	if s := read(t, c, "/proc/7/mountinfo"); !strings.Contains(s, " / /proc rw - proc proc rw\n") {
		t.Errorf("mountinfo:\n%s", s)
	}
}

func TestLinksAndWrites(t *testing.T) {
	f, c := world(t)
	for path, want := range map[string]string{
		"/proc/self": "7", "/proc/thread-self": "7/task/8", "/proc/self/exe": "/bin/a", "/proc/self/cwd": "/",
		"/proc/7/root": "/", "/proc/7/fd/0": "socket:[5]", "/proc/7/fd/3": "/bin/a", "/proc/net": "self/net",
	} {
		if s, err := vfs.ReadlinkAt(c, vfs.Path{}, path); s != want || err != nil {
			t.Errorf("readlink %s: %q %v", path, s, err)
		}
	}
	if err := vfs.UnlinkAt(c, vfs.Path{}, "/bin/a", false); err != nil {
		t.Fatal(err)
	}
	if s, _ := vfs.ReadlinkAt(c, vfs.Path{}, "/proc/self/exe"); s != "/bin/a (deleted)" {
		t.Errorf("exe of a removed program: %q", s)
	}
	// A magic link leads to the file itself, whatever became of its name.
	p, err := vfs.Walk(c, vfs.Path{}, "/proc/self/exe", vfs.Follow)
	if err != nil || p != f.exe {
		t.Errorf("%v %v", p, err)
	}
	if _, err := vfs.Walk(c, vfs.Path{}, "/proc/self/exe", vfs.Follow|vfs.NoMagic); err != syscall.ELOOP {
		t.Errorf("NoMagic: %v", err)
	}
	if _, err := vfs.OpenAt(c, vfs.Path{}, "/proc/self/fd/0", 0, 0, 0); err != syscall.ENXIO {
		t.Errorf("open of a socket: %v", err)
	}
	for path, e := range map[string]syscall.Errno{
		"/proc/2/exe": syscall.ENOENT, "/proc/99/stat": syscall.ENOENT, "/proc/07": syscall.ENOENT, "/proc/7/fd/5": syscall.ENOENT,
		"/proc/7/task/9": syscall.ENOENT, "/proc/7/cgroup": syscall.ENOENT, "/proc/7/fdinfo/x": syscall.ENOENT,
	} {
		if _, err := vfs.Walk(c, vfs.Path{}, path, vfs.Follow); err != e {
			t.Errorf("%s: %v, want %v", path, err, e)
		}
	}
	write := func(path, s string) error { return vfs.WriteFile(c, path, []byte(s), 0) }
	if err := write("/proc/self/task/8/comm", "worker\n"); err != nil || f.comm != "worker" {
		t.Errorf("comm: %v %q", err, f.comm)
	}
	if err := write("/proc/self/oom_score_adj", "-5\n"); err != nil || f.adj != -5 {
		t.Errorf("oom_score_adj: %v %d", err, f.adj)
	}
	if err := write("/proc/self/oom_score_adj", "2000"); err != syscall.EINVAL {
		t.Errorf("oom_score_adj out of range: %v", err)
	}
	if err := write("/proc/sys/kernel/hostname", "other\n"); err != nil || f.host != "other" {
		t.Errorf("hostname: %v %q", err, f.host)
	}
	if err := write("/proc/sys/vm/swappiness", "10\n"); err != nil || read(t, c, "/proc/sys/vm/swappiness") != "10\n" {
		t.Errorf("swappiness: %v", err)
	}
	if err := write("/proc/sys/vm/swappiness", "much\n"); err != syscall.EINVAL {
		t.Errorf("swappiness: %v", err)
	}
	if err := write("/proc/self/coredump_filter", "0x3f"); err != nil {
		t.Error(err)
	}
	if err := write("/proc/7/stat", "x"); err != syscall.EINVAL && err != syscall.EACCES {
		t.Errorf("write of stat: %v", err)
	}
	if err := vfs.MkdirAt(c, vfs.Path{}, "/proc/x", 0o755); err == nil {
		t.Error("mkdir in /proc")
	}
	if err := vfs.UnlinkAt(c, vfs.Path{}, "/proc/7/stat", false); err != syscall.EPERM {
		t.Errorf("unlink in /proc: %v", err)
	}
	// Others may not look at the environment.
	c.Creds = vfs.UserCreds(55, 55)
	if _, err := vfs.ReadFile(c, "/proc/7/environ"); err != syscall.EACCES {
		t.Errorf("environ of another: %v", err)
	}
	k := vfs.NewContext(f.tree, vfs.RootCreds())
	if _, err := vfs.ReadFile(k, "/proc/self/stat"); err != syscall.ENOENT {
		t.Errorf("self of the kernel: %v", err)
	}
}

func TestDirectories(t *testing.T) {
	_, c := world(t)
	list := func(path string) (names []string, inos []uint64) {
		p, err := vfs.Walk(c, vfs.Path{}, path, vfs.Follow)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for pos := int64(2); ; {
			got := false
			vfs.ReadDir(p, pos, func(e vfs.DirEntry, next int64) bool {
				if got {
					return false
				}
				got, pos = true, next
				names, inos = append(names, e.Name), append(inos, e.Ino)
				// What is listed is there, with the same number and type.
				a, _, err := vfs.StatAt(c, p, e.Name, 0)
				if err != nil || a.Ino != e.Ino || a.Type != e.Type {
					t.Errorf("%s/%s: listed as %+v, is %d %o %v", path, e.Name, e, a.Ino, a.Type, err)
				}
				return true
			})
			if !got {
				return
			}
		}
	}
	top, _ := list("/proc")
	for _, n := range []string{"self", "thread-self", "2", "7", "cpuinfo", "meminfo", "sys", "net"} {
		if !slices.Contains(top, n) {
			t.Errorf("/proc lacks %s: %q", n, top)
		}
	}
	seen := map[uint64]string{}
	for _, d := range []string{"/proc", "/proc/7", "/proc/2", "/proc/7/task", "/proc/7/task/8", "/proc/7/fd", "/proc/7/fdinfo", "/proc/sys/kernel"} {
		names, inos := list(d)
		for i, n := range inos {
			p := d + "/" + names[i]
			if o := seen[n]; o != "" && names[i] != "net" {
				t.Errorf("%s and %s have one inode number", o, p)
			}
			seen[n] = p
		}
	}
	if names, _ := list("/proc/7/task"); !slices.Equal(names, []string{"7", "8"}) {
		t.Errorf("task: %q", names)
	}
	if names, _ := list("/proc/7/fd"); !slices.Equal(names, []string{"0", "3"}) {
		t.Errorf("fd: %q", names)
	}
	if names, _ := list("/proc/7/task/8"); slices.Contains(names, "task") {
		t.Error("a thread has threads")
	}
}

// The lines of the global files have the form that the host's have.
func TestFormsAgainstHost(t *testing.T) {
	_, c := world(t)
	for _, name := range []string{"meminfo", "net/dev", "net/tcp", "net/udp6", "net/route", "net/if_inet6", "net/sockstat", "net/unix", "self/limits", "cpuinfo", "stat"} {
		h, err := os.ReadFile("/proc/" + name)
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		ours := strings.Split(read(t, c, "/proc/"+name), "\n")
		host := strings.Split(string(h), "\n")
		switch name {
		case "net/dev", "net/tcp", "net/udp6", "net/route", "net/unix", "self/limits":
			if ours[0] != host[0] {
				t.Errorf("%s:\n%q, the host has\n%q", name, ours[0], host[0])
			}
			if len(host) > 2 && len(ours) > 2 && name != "net/unix" && name != "self/limits" &&
				len(strings.Fields(ours[1])) != len(strings.Fields(host[1])) && !strings.HasPrefix(name, "net/tcp") {
				t.Errorf("%s: %q, the host has %q", name, ours[1], host[1])
			}
		case "meminfo":
			for i, l := range ours[:3] {
				if len(l) != len(host[i]) || strings.Fields(l)[0] != strings.Fields(host[i])[0] {
					t.Errorf("%s: %q, the host has %q", name, l, host[i])
				}
			}
		case "cpuinfo":
			for _, k := range []string{"processor\t:", "vendor_id\t:", "model\t\t:", "flags\t\t:", "cpu MHz\t\t:"} {
				if !strings.Contains(strings.Join(ours, "\n"), k) || !strings.Contains(string(h), k) {
					t.Errorf("%s lacks %q", name, k)
				}
			}
		case "stat":
			if len(strings.Fields(ours[0])) != len(strings.Fields(host[0])) || !strings.HasPrefix(ours[0], "cpu  200 0 0 300 ") {
				t.Errorf("%q, the host has %q", ours[0], host[0])
			}
		}
	}
	if s := read(t, c, "/proc/net/if_inet6"); s != "00000000000000000000000000000001 01 80 10 80       lo\nfe800000000000000000000000000000 02 40 20 80     eth0\n" {
		t.Errorf("if_inet6: %q", s)
	}
	if s := read(t, c, "/proc/net/route"); !strings.Contains(s, "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0") {
		t.Errorf("route: %q", s)
	}
	if s := read(t, c, "/proc/net/tcp"); !strings.Contains(s, "   0: 0100007F:0050 00000000:0000 0A ") {
		t.Errorf("tcp: %q", s)
	}
	read(t, c, "/proc/vmstat")
	if maskOf(32) != "ffffffff" || maskOf(33) != "1,ffffffff" || maskOf(0) != "0" || listOf(1) != "0" {
		t.Error("masks of processors")
	}
}

// /dev/stdin leads by /proc/self/fd/0 to what is open there.
func TestStdinLink(t *testing.T) {
	f, c := world(t)
	dev, err := devfs.New(f.tree, devfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	vfs.MkdirAt(c, vfs.Path{}, "/dev", 0o755)
	at, _ := vfs.Walk(c, vfs.Path{}, "/dev", 0)
	if _, err := f.tree.Mount("dev", dev, at, 0); err != nil {
		t.Fatal(err)
	}
	if s := read(t, c, "/dev/fd/3"); s != "ELF" {
		t.Errorf("/dev/fd/3: %q", s)
	}
}
