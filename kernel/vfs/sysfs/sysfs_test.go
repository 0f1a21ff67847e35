package sysfs

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"osv/kernel/vfs"
	"osv/kernel/vfs/pseudo"
)

func world(t *testing.T) (*pseudo.FS, *vfs.Context, *[]Interface) {
	t.Helper()
	ifs := &[]Interface{{Name: "lo", Index: 1, Loopback: true, Up: true, MTU: 65536},
		{Name: "eth0", Index: 2, MAC: [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}, MTU: 1500, Up: true, SpeedMbit: 10000, Stats: map[string]uint64{"rx_bytes": 9}}}
	fs := New(Config{
		CPUs:     []CPU{{Caches: []Cache{{Level: 1, Type: "Data", Size: 32 << 10, Line: 64, Ways: 8, Sets: 64, Shared: []int{0, 1}}}}, {}, {Core: 1, MaxKHz: 2}, {Core: 1}},
		MemTotal: 1 << 30, MemFree: func() uint64 { return 1 << 29 },
		Net:       func() []Interface { return *ifs },
		Blocks:    []Block{{Name: "vda", Major: 254, Size: 1 << 20, BlockSize: 512, ReadOnly: true}},
		HugePages: true,
	})
	return fs, vfs.NewContext(vfs.NewTree(fs), vfs.RootCreds()), ifs
}

func TestFiles(t *testing.T) {
	_, c, ifs := world(t)
	for path, want := range map[string]string{
		"devices/system/cpu/online":                             "0-3\n",
		"devices/system/cpu/possible":                           "0-3\n",
		"devices/system/cpu/cpu0/topology/thread_siblings_list": "0-1\n",
		"devices/system/cpu/cpu2/topology/core_siblings":        "f\n",
		"devices/system/cpu/cpu0/cache/index0/size":             "32K\n",
		"devices/system/cpu/smt/active":                         "1\n",
		"devices/system/node/node0/cpulist":                     "0-3\n",
		"devices/system/node/node0/cpu1/topology/core_id":       "0\n",
		"kernel/mm/transparent_hugepage/enabled":                "[always] madvise never\n",
		"kernel/mm/transparent_hugepage/hpage_pmd_size":         "2097152\n",
		"kernel/mm/hugepages/hugepages-2048kB/nr_hugepages":     "0\n",
		"class/net/eth0/address":                                "52:54:00:12:34:56\n",
		"class/net/eth0/speed":                                  "10000\n",
		"class/net/eth0/flags":                                  "0x1003\n",
		"class/net/eth0/statistics/rx_bytes":                    "9\n",
		"class/net/lo/operstate":                                "unknown\n",
		"class/block/vda/queue/read_ahead_kb":                   "128\n",
		"dev/block/254:0/size":                                  "2048\n",
	} {
		b, err := vfs.ReadFile(c, "/"+path)
		if err != nil || string(b) != want {
			t.Errorf("%s: %q %v, want %q", path, b, err, want)
		}
	}
	if b, _ := vfs.ReadFile(c, "/devices/system/node/node0/meminfo"); !strings.Contains(string(b), "Node 0 MemFree:          524288 kB\n") {
		t.Errorf("meminfo: %q", b)
	}
	for path, e := range map[string]syscall.Errno{"class/net/lo/speed": syscall.EINVAL, "class/net/eth9": syscall.ENOENT, "fs/cgroup": syscall.ENOENT} {
		if _, err := vfs.ReadFile(c, "/"+path); err != e {
			t.Errorf("%s: %v, want %v", path, err, e)
		}
	}
	if err := vfs.WriteFile(c, "/kernel/mm/transparent_hugepage/enabled", []byte("never"), 0); err != nil {
		t.Error(err)
	}
	// An interface that has gone is gone, though it was looked at before.
	(*ifs)[1] = Interface{Name: "eth1", Index: 3}
	if _, err := vfs.ReadFile(c, "/class/net/eth0/mtu"); err != syscall.ENOENT {
		t.Errorf("eth0 after it went: %v", err)
	}
	if b, err := vfs.ReadFile(c, "/class/net/eth1/speed"); string(b) != "-1\n" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if _, err := vfs.ReadFile(c, "/class/net/eth1/carrier"); err != syscall.EINVAL {
		t.Errorf("carrier: %v", err)
	}
}

// Numbers of inodes stay the same from one look to the next.
func TestInodesStay(t *testing.T) {
	_, c, _ := world(t)
	p, err := vfs.Walk(c, vfs.Path{}, "/class/net", 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	vfs.ReadDir(p, 2, func(e vfs.DirEntry, _ int64) bool {
		names = append(names, e.Name)
		a, _, err := vfs.StatAt(c, p, e.Name, 0)
		if err != nil || a.Ino != e.Ino {
			t.Errorf("%s: %d and %d, %v", e.Name, a.Ino, e.Ino, err)
		}
		return true
	})
	if !slices.Equal(names, []string{"lo", "eth0"}) {
		t.Errorf("%q", names)
	}
	a, _, _ := vfs.StatAt(c, p, "eth0/statistics/rx_bytes", 0)
	b, _, _ := vfs.StatAt(c, p, "eth0/statistics/rx_bytes", 0)
	d, _, _ := vfs.StatAt(c, p, "eth0/statistics/tx_bytes", 0)
	if a.Ino != b.Ino || a.Ino == d.Ino {
		t.Errorf("%d %d %d", a.Ino, b.Ino, d.Ino)
	}
}

// What the host's /sys says of the same things has the same form.
func TestFormsAgainstHost(t *testing.T) {
	if list([]int{0, 1, 2, 5, 7, 8}) != "0-2,5,7-8" || list(nil) != "" || mask([]int{0, 33}) != "00000002,00000001" || mask([]int{1}) != "2" {
		t.Error("lists of processors")
	}
	_, c, _ := world(t)
	for _, f := range []string{"devices/system/cpu/online", "class/net/lo/mtu", "class/net/lo/address", "class/net/lo/flags", "class/net/lo/type", "kernel/mm/transparent_hugepage/hpage_pmd_size"} {
		h, err := os.ReadFile("/sys/" + f)
		if err != nil {
			continue
		}
		b, err := vfs.ReadFile(c, "/"+f)
		if err != nil || f != "devices/system/cpu/online" && string(b) != string(h) {
			t.Errorf("%s: %q %v, the host has %q", f, b, err, h)
		}
	}
}

func TestRefusals(t *testing.T) {
	fs, c, _ := world(t)
	if s, err := fs.StatFS(); err != nil || s.Magic != Magic || fs.Type() != "sysfs" || fs.Sync() != nil || fs.Unmount() != nil || fs.Dev() == 0 {
		t.Errorf("%+v %v", s, err)
	}
	none := vfs.Path{}
	if err := vfs.MkdirAt(c, none, "/x", 0o755); err != syscall.EPERM {
		t.Errorf("mkdir: %v", err)
	}
	if err := vfs.UnlinkAt(c, none, "/fs", true); err != syscall.EPERM {
		t.Errorf("rmdir: %v", err)
	}
	if err := vfs.RenameAt(c, none, "/fs", none, "/x", 0); err != syscall.EPERM {
		t.Errorf("rename: %v", err)
	}
	p, _ := vfs.Walk(c, none, "/fs", 0)
	if err := vfs.Chmod(c, p, 0); err != syscall.EPERM {
		t.Errorf("chmod: %v", err)
	}
	o, err := vfs.OpenAt(c, none, "/devices/system/cpu/online", syscall.O_RDONLY, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if a, _ := o.Path.Node().Attr(); a.Size != 4096 || a.Mode != 0o444 {
		t.Errorf("%+v", a)
	}
	if _, _, err := o.File.Write(&vfs.Bytes{B: []byte("x")}, 0, false); err != syscall.EINVAL {
		t.Errorf("write: %v", err)
	}
	if _, err := o.File.Read(&vfs.Bytes{B: make([]byte, 1)}, -1); err != syscall.EINVAL {
		t.Errorf("read before the start: %v", err)
	}
	var b [2]byte
	if n, err := o.File.Read(&vfs.Bytes{B: b[:]}, 1); n != 2 || string(b[:]) != "-3" || err != nil {
		t.Errorf("read from the middle: %d %q %v", n, b, err)
	}
	if !o.File.Seekable() || o.File.Sync(true) != nil || o.File.Node() != o.Path.Node() {
		t.Error("not a file")
	}
}
