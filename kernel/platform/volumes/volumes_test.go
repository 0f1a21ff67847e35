package volumes

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"osv/kernel/blk"
	"osv/kernel/blk/gpt"
	"osv/kernel/platform"
	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
	"osv/kernel/vfs/ext4"
	"osv/kernel/vfs/tmpfs"
)

// fileDisk is a disk that is a file.
type fileDisk struct {
	blk.Disk
	*os.File
	name     string
	size     int64
	readOnly bool
}

func (d *fileDisk) Name() string                             { return d.name }
func (d *fileDisk) Size() int64                              { return d.size }
func (d *fileDisk) BlockSize() int                           { return 512 }
func (d *fileDisk) ReadOnly() bool                           { return d.readOnly }
func (d *fileDisk) Flush() error                             { return d.File.Sync() }
func (d *fileDisk) ReadAt(p []byte, off int64) (int, error)  { return d.File.ReadAt(p, off) }
func (d *fileDisk) WriteAt(p []byte, off int64) (int, error) { return d.File.WriteAt(p, off) }
func (d *fileDisk) Close() error                             { return d.File.Close() }

// newDisk makes a disk of 8 MiB, with an ext4 file system where it has a label.
func newDisk(t *testing.T, name, label string) *fileDisk {
	t.Helper()
	const size = 8 << 20
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p, size); err != nil {
		t.Fatal(err)
	}
	if label != "" {
		mkfs, err := exec.LookPath("mkfs.ext4")
		if err != nil {
			if mkfs, err = exec.LookPath("/usr/sbin/mkfs.ext4"); err != nil {
				t.Skip(err)
			}
		}
		if out, err := exec.Command(mkfs, "-q", "-F", "-L", label, "-U", uuidOf(name), p).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &fileDisk{File: f, name: name, size: size}
}

// uuidOf is the UUID of the disk blkN.
func uuidOf(name string) string {
	return "0a1b2c3d-4e5f-4a6b-8c7d-00000000000" + name[len(name)-1:]
}

// newTest is volumes of these disks. opened counts how often each was.
func newTest(t *testing.T, disks ...*fileDisk) (v *Volumes, opened map[string]int) {
	opened = map[string]int{}
	pages := cache.New(cache.Config{Frames: &cache.Heap{}})
	v = newVolumes(vfs.NewTree(tmpfs.New(tmpfs.Options{Mode: 0o755})), func(d blk.Disk) (vfs.FileSystem, error) {
		opened[d.Name()]++
		return ext4.Mount(d, ext4.Options{Cache: pages, Name: d.Name()})
	})
	for i, d := range disks {
		c := candidate{disk: d, disks: i}
		if err := c.identify(); err != nil {
			t.Fatal(err)
		}
		v.disks = append(v.disks, c)
	}
	t.Cleanup(func() { v.Close() })
	return v, opened
}

// mounts is what is mounted, as "source on target".
func mounts(v *Volumes) string {
	var out []string
	for _, m := range v.tree.Mounts(v.tree.Root())[1:] {
		out = append(out, m.Source+" on "+m.Point)
	}
	return strings.Join(out, ", ")
}

func TestBoot(t *testing.T) {
	blank, one, two, seed := newDisk(t, "blk0", ""), newDisk(t, "blk1", "one"), newDisk(t, "blk2", "two"), newDisk(t, "blk3", "cidata")
	data := func(v *Volumes, name string) {
		for i := range v.disks {
			v.disks[i].data = v.disks[i].disk.Name() == name
		}
	}
	for _, c := range []struct {
		name   string
		disks  []*fileDisk
		data   string
		given  options
		want   string
		keyDir string
	}{
		{"no disks", nil, "", options{}, "", ""},
		{"the first with a file system", []*fileDisk{seed, blank, one, two}, "", options{}, "/dev/blk1 on /data", "data/osv"},
		{"the data partition", []*fileDisk{blank, one, two}, "blk2", options{}, "/dev/blk2 on /data", "data/osv"},
		{"a blank data partition", []*fileDisk{one, blank}, "blk0", options{}, "/dev/blk1 on /data", "data/osv"},
		{"nothing", []*fileDisk{one}, "", options{off: true}, "", ""},
		{"another place", []*fileDisk{one, two}, "", options{off: true, mounts: []entry{{Source: "LABEL=two", Target: "/a/b/"}}}, "/dev/blk2 on /a/b", "a/b/osv"},
		{"another disk there", []*fileDisk{one, two}, "", options{mounts: []entry{{Source: "blk2", Target: "/data"}}}, "/dev/blk2 on /data", "data/osv"},
		{"both", []*fileDisk{one, two}, "", options{mounts: []entry{{Source: "blk2", Target: "/a"}}}, "/dev/blk2 on /a, /dev/blk1 on /data", "data/osv"},
		{"one that is not there", []*fileDisk{one}, "", options{mounts: []entry{{Source: "blk9", Target: "/a"}}}, "/dev/blk1 on /data", "data/osv"},
		{"read-only", []*fileDisk{one}, "", options{mounts: []entry{{Source: "blk1", Target: "/data", Options: "ro"}}}, "/dev/blk1 on /data", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, _ := newTest(t, c.disks...)
			data(v, c.data)
			v.boot(c.given)
			if got := mounts(v); got != c.want {
				t.Errorf("mounted: %q, want %q", got, c.want)
			}
			if got := v.KeyDir(); got != c.keyDir {
				t.Errorf("keys in %q, want %q", got, c.keyDir)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMount(t *testing.T) {
	blank, disk := newDisk(t, "blk0", ""), newDisk(t, "blk1", "one")
	v, opened := newTest(t, blank, disk)
	for _, m := range []struct{ source, target, kind, options, fail string }{
		{"blk1", "/a", "", "", ""},
		{"blk1", "/a", "ext4", "defaults,nofail,x-systemd.requires=x", ""}, // again: nothing to do
		{"UUID=" + strings.ToUpper(uuidOf("blk1")), "/b", "auto", "ro", ""},
		{"blk0", "/c", "", "", "no ext4"},
		{"blk2", "/c", "", "", "no such disk (there are blk0, blk1)"},
		{"ephemeral0", "/c", "", "", "no such disk"},
		{"LABEL=", "/c", "", "", "LABEL= of what"},
		{"NAME=x", "/c", "", "", "NAME= is not known"},
		{"blk1", "/c", "xfs", "", "only ext4"},
		{"blk1", "/c", "", "ro,bind", `"bind" is not known`},
		{"blk1", "c", "", "", "path of a directory"},
		{"blk1", "/", "", "", "path of a directory"},
		{"blk1", "/../", "", "", "path of a directory"},
	} {
		err := v.Mount(m.source, m.target, m.kind, m.options)
		if (err == nil) != (m.fail == "") || err != nil && !strings.Contains(err.Error(), m.fail) {
			t.Errorf("%+v: %v", m, err)
		}
	}
	if got := mounts(v); got != "/dev/blk1 on /a, /dev/blk1 on /b" || opened["blk1"] != 1 {
		t.Errorf("mounted: %q, opened %d times", got, opened["blk1"])
	}
	if err := vfs.WriteFile(v.ctx, "/a/x", []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := vfs.ReadFile(v.ctx, "/b/x"); err != nil || string(b) != "kept" {
		t.Errorf("seen at the second place: %q, %v", b, err)
	}
	if err := vfs.WriteFile(v.ctx, "/b/y", nil, 0o644); err == nil {
		t.Error("written where it is read-only")
	}
	if err := errors.Join(v.Close(), v.Close()); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(v.ctx, "/a/z", []byte("lost"), 0o644); err == nil {
		t.Error("written after the end")
	}
	if err := v.Mount("blk1", "/d", "", ""); err == nil || v.KeyDir() != "" {
		t.Errorf("after the end: %v, keys in %q", err, v.KeyDir())
	}
	if out, err := exec.Command("/sbin/e2fsck", "-f", "-n", disk.File.Name()).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
	again, _ := newTest(t, blank, disk)
	again.boot(options{})
	if b, err := vfs.ReadFile(again.ctx, "/data/x"); err != nil || string(b) != "kept" {
		t.Errorf("after the next boot: %q, %v", b, err)
	}
}

// A disk that cannot be written to is mounted read-only.
func TestReadOnlyDisk(t *testing.T) {
	d := newDisk(t, "blk0", "one")
	d.readOnly = true
	v, _ := newTest(t, d)
	v.boot(options{})
	if got := mounts(v); got != "/dev/blk0 on /data" || v.KeyDir() != "" {
		t.Errorf("mounted: %q, keys in %q", got, v.KeyDir())
	}
	if err := vfs.WriteFile(v.ctx, "/data/x", nil, 0o644); err == nil {
		t.Error("written")
	}
}

func TestLookup(t *testing.T) {
	a, b := &fileDisk{name: "blk0"}, &fileDisk{name: "blk1"}
	id := gpt.GUID{0x0f, 0xc6, 0x3d, 0xaf, 0x84, 0x83, 0x47, 0x72, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4}
	list := []candidate{
		{disk: a},
		{disk: &fileDisk{name: "blk0p4"}, partition: 4, partLabel: "data", partUUID: id.String()},
		{disk: b, disks: 1, label: "store", uuid: "x-y"},
	}
	for source, want := range map[string]string{
		"blk0": "blk0", "/dev/blk1": "blk1", "blk0p4": "blk0p4",
		"vda": "blk0", "/dev/vdb": "blk1", "sda4": "blk0p4", "xvdb": "blk1", "nvme0n1": "blk0", "/dev/nvme0n1p4": "blk0p4",
		"LABEL=store": "blk1", "UUID=X-Y": "blk1", `PARTLABEL="data"`: "blk0p4", "PARTUUID=AF3DC60F-8384-7247-8E79-3D69D8477DE4": "blk0p4",
	} {
		c, err := lookup(list, source)
		if err != nil || c.disk.Name() != want {
			t.Errorf("%s: %v, want %s", source, err, want)
		}
	}
	for _, source := range []string{"", "vdc", "vda0", "vda5", "vdaa", "vd", "sd-1", "nvme0n2", "nvme0n1p", "nvme0n1p0", "nvmexn1", "vda9999", "LABEL=data", "/dev/disk/by-label/store"} {
		if c, err := lookup(list, source); err == nil {
			t.Errorf("%s is %s", source, c.disk.Name())
		}
	}
	if _, err := lookup(nil, "blk0"); err == nil || err.Error() != "there are no disks" {
		t.Errorf("%v", err)
	}
}

func TestOptions(t *testing.T) {
	var o options
	for _, w := range []string{"--mount-fs=ext4,blk0,/a", "--mount-fs=ext4,LABEL=x,/b,ro,noatime", "--nomount"} {
		if known, err := o.set(w); !known || err != nil {
			t.Errorf("%s: %v %v", w, known, err)
		}
	}
	if !o.off || len(o.mounts) != 2 || o.mounts[0] != (entry{"blk0", "/a", "ext4", ""}) || o.mounts[1] != (entry{"LABEL=x", "/b", "ext4", "ro,noatime"}) {
		t.Errorf("%+v", o)
	}
	for w, want := range map[string]string{
		"--mount-fs": "want TYPE,DISK", "--mount-fs=ext4,blk0": "want TYPE,DISK", "--mount-fs=ext4,,/a": "want TYPE,DISK", "--mount-fs=ext4,blk0,a": "want TYPE,DISK",
		"--mount-fs=zfs,blk0,/a": "only ext4", "--mount-fs=ext4,blk0,/a,sync": "not known", "--nomount=x": "takes no value",
	} {
		if known, err := o.set(w); !known || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v", w, known, err)
		}
	}
	if known, _ := o.set("--mount"); known {
		t.Error("--mount is known")
	}
}

// Start of a machine without disks does not wait for any.
func TestStartWithoutDisks(t *testing.T) {
	v := Start(&platform.System{}, vfs.NewTree(tmpfs.New(tmpfs.Options{})))
	if v.KeyDir() != "" || mounts(v) != "" {
		t.Errorf("mounted: %q", mounts(v))
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}
