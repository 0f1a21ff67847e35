package instance

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"osv/capstan/build"
	"osv/capstan/hypervisor"
	"osv/capstan/internal/fixture"
	"osv/harness/diskimage"
	"osv/kernel/imagefmt"
)

// TestMain plays QEMU where FAKE says so.
func TestMain(m *testing.M) {
	if os.Getenv("FAKE") == "qemu" {
		fixture.FakeQEMU()
	}
	os.Exit(m.Run())
}

func TestLifeOfAnInstance(t *testing.T) {
	t.Setenv("FAKE", "qemu")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := manager(t)
	m.Host.Look = func(string) (string, error) { return self, nil }
	s := fixture.Store(t)
	opts := Options{Machine: hypervisor.Machine{Name: "a", NoKVM: true}}
	i, err := m.Create(t.Context(), s, fixture.Image(t, s, "a", 10), hypervisor.QEMU{}, opts)
	if err != nil {
		t.Fatal(err)
	}
	if wait, err := m.Start(t.Context(), i, nil); err != nil || wait != nil {
		t.Fatal(err)
	}
	defer m.Stop(t.Context(), i, true)
	if mac := i.Machine.MAC; len(mac) != 17 || mac == macOf("another") || !strings.HasPrefix(mac, "52:54:00:") {
		t.Errorf("MAC %s", mac)
	}
	got, err := m.Get(t.Context(), "a")
	if err != nil || got.State != hypervisor.Running || got.Machine.Dir != i.Machine.Dir {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := m.Start(t.Context(), got, nil); err == nil || err.Error() != "instance a runs already" {
		t.Error(err)
	}
	if err := m.Delete(t.Context(), got); err == nil || err.Error() != "instance a runs: stop it first (capstan stop a)" {
		t.Error(err)
	}
	if _, err := m.Create(t.Context(), s, fixture.Image(t, s, "a", 10), hypervisor.QEMU{}, opts); err == nil || err.Error() != "instance a is running: stop it (capstan stop a) or choose another name (-i NAME)" {
		t.Error(err)
	}
	if err := m.Stop(t.Context(), got, false); err != nil {
		t.Error(err)
	}
	if got, err = m.Get(t.Context(), "a"); err != nil || got.State != hypervisor.Stopped {
		t.Errorf("%+v, %v", got, err)
	}
	got.Hypervisor = "xen"
	if _, err := m.Start(t.Context(), got, nil); err == nil {
		t.Error("started by a hypervisor that there is not")
	}
	if err := m.Stop(t.Context(), got, false); err == nil {
		t.Error("stopped by a hypervisor that there is not")
	}
	// A description that is damaged is named.
	if err := os.WriteFile(filepath.Join(i.Machine.Dir, "instance.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := m.List(t.Context()); err == nil || !strings.Contains(err.Error(), "instance.json: unexpected end of JSON input") {
		t.Error(err)
	}
}

func manager(t *testing.T) *Manager {
	h := hypervisor.Local()
	h.Look = func(string) (string, error) { return "tool", nil }
	return &Manager{Dir: t.TempDir(), Host: h}
}

// The copy-on-write disk is what QEMU takes it for, and reads as the base with another
// command line.
func TestOverlayByQEMUImg(t *testing.T) {
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("qemu-img is not installed (Debian: apt-get install qemu-utils)")
	}
	s := fixture.Store(t)
	img := fixture.Image(t, s, "a", 300000)
	line := "--env=A=B -- other arguments"
	i, err := manager(t).Create(t.Context(), s, img, hypervisor.QEMU{}, Options{CommandLine: &line, Machine: hypervisor.Machine{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := i.Machine.Dir
	qemu := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(tool, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	qemu("check", "disk.qcow2")
	if got := qemu("info", "disk.qcow2"); !strings.Contains(got, "backing file: base.qcow2") || !strings.Contains(got, "backing file format: qcow2") {
		t.Error(got)
	}
	qemu("convert", "-O", "raw", "disk.qcow2", "disk.raw")
	qemu("convert", "-O", "raw", "base.qcow2", "base.raw")
	if got, err := diskimage.ReadCommandLine(filepath.Join(dir, "disk.raw")); err != nil || got != line {
		t.Errorf("%q, %v", got, err)
	}
	// Nothing else has changed.
	if err := diskimage.SetCommandLine(filepath.Join(dir, "base.raw"), line); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(filepath.Join(dir, "disk.raw"))
	b, _ := os.ReadFile(filepath.Join(dir, "base.raw"))
	if !bytes.Equal(a, b) {
		t.Error("the disk is not the base with another command line")
	}
}

func TestVolumes(t *testing.T) {
	dir := t.TempDir()
	for _, format := range []string{"raw", "qcow2"} {
		path := filepath.Join(dir, format)
		if err := CreateVolume(path, format, 3<<30); err != nil {
			t.Fatal(err)
		}
		if tool, err := exec.LookPath("qemu-img"); err == nil {
			out, err := exec.Command(tool, "info", "-f", format, path).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "virtual size: 3 GiB") {
				t.Errorf("%v\n%s", err, out)
			}
		}
		if err := CreateVolume(path, format, 512); err == nil || err.Error() != "volume "+path+": there is a file" {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		format string
		size   int64
	}{{"vdi", 512}, {"raw", 0}, {"raw", 100}, {"qcow2", maxOverlay + 512}} {
		if err := CreateVolume(filepath.Join(dir, "x"), c.format, c.size); err == nil {
			t.Errorf("%v: made", c)
		}
	}
	if err := CreateVolume(filepath.Join(dir, "no", "x"), "qcow2", 512); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// What each hypervisor gets of an image.
func TestFilesOfInstances(t *testing.T) {
	s := fixture.Store(t)
	img := fixture.Image(t, s, "app", 1000)
	m := manager(t)
	for _, c := range []struct {
		h       hypervisor.Hypervisor
		machine hypervisor.Machine
		direct  bool
		files   string
	}{
		{hypervisor.QEMU{}, hypervisor.Machine{}, false, "base.qcow2 disk.qcow2 instance.json"},
		{hypervisor.QEMU{}, hypervisor.Machine{}, true, "base.elf instance.json"},
		{hypervisor.VirtualBox{}, hypervisor.Machine{}, false, "base.ova instance.json"},
		{hypervisor.VMware{}, hypervisor.Machine{}, false, "base.zip instance.json"},
		{hypervisor.GCE{}, hypervisor.Machine{UploadDir: "gs://b"}, false, "base.gz instance.json"},
		{hypervisor.Firecracker{}, hypervisor.Machine{Net: hypervisor.TAP, Link: "t0"}, false, "base.elf instance.json"},
	} {
		c.machine.Name = "x-" + c.h.Name()
		if c.direct {
			c.machine.Name += "-direct"
		}
		line := "--verbose"
		i, err := m.Create(t.Context(), s, img, c.h, Options{Machine: c.machine, Direct: c.direct, CommandLine: &line})
		if err != nil {
			t.Errorf("%s: %v", c.h.Name(), err)
			continue
		}
		var names []string
		list, _ := os.ReadDir(i.Machine.Dir)
		for _, e := range list {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != c.files {
			t.Errorf("%s: %s, want %s", c.h.Name(), got, c.files)
		}
		if i.Machine.MemMiB != 128 || i.Machine.CPUs != 1 || i.Machine.CommandLine != line {
			t.Errorf("%+v", i.Machine)
		}
	}
}

// An image with another format only: as it is, and its command line stays.
func TestImageWithoutKernel(t *testing.T) {
	s := fixture.Store(t)
	m := manager(t)
	q, _ := fixture.Image(t, s, "a", 1000).Layer("qcow2")
	img, err := build.Import(s, fixture.Ref(t, "b"), s.Path(q), fixture.Image(t, s, "c", 10).Config)
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Machine: hypervisor.Machine{Name: "b"}}
	if _, err := m.Create(t.Context(), s, img, hypervisor.QEMU{}, opts); err != nil {
		t.Error(err)
	}
	// Again, and the stopped one makes room.
	if _, err := m.Create(t.Context(), s, img, hypervisor.QEMU{}, opts); err != nil {
		t.Error(err)
	}
	_, err = m.Create(t.Context(), s, img, hypervisor.VMware{}, Options{Machine: hypervisor.Machine{Name: "c"}})
	if err == nil || err.Error() != "instance c: image b:latest has no vmware (it has qcow2)" {
		t.Error(err)
	}
	line := "x"
	_, err = m.Create(t.Context(), s, img, hypervisor.VMware{}, Options{Machine: hypervisor.Machine{Name: "c"}, CommandLine: &line})
	if err == nil || err.Error() != "instance c: vmware: the command line can be changed only where the image has its kernel (elf)" {
		t.Error(err)
	}
	// A raw disk of somebody else's.
	raw := filepath.Join(t.TempDir(), "d")
	disk := make([]byte, 1<<20)
	disk[510], disk[511] = 0x55, 0xaa
	if err := os.WriteFile(raw, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	other, err := build.Import(s, fixture.Ref(t, "o"), raw, img.Config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Create(t.Context(), s, other, hypervisor.QEMU{}, Options{Machine: hypervisor.Machine{Name: "o"}}); err != nil {
		t.Error(err)
	}
	if _, err := m.Create(t.Context(), s, other, hypervisor.QEMU{}, Options{Machine: hypervisor.Machine{Name: "p"}, CommandLine: &line}); !errors.Is(err, diskimage.ErrFormat) {
		t.Error(err)
	}
	list, err := m.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if left, _ := filepath.Glob(filepath.Join(m.Dir, "*", ".new-*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	for _, i := range list {
		if err := m.Delete(t.Context(), i); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.Get(t.Context(), "b"); err == nil || err.Error() != "instance b: there is none (there are no instances)" {
		t.Error(err)
	}
}

// Writing through the overlay is the same as writing to the disk.
func TestOverlayReadsAndWrites(t *testing.T) {
	base := bytes.Repeat([]byte("0123456789abcdef"), 3*clusterBytes/16)
	base = base[:2*clusterBytes+1000]
	o := newOverlay(bytes.NewReader(base), int64(len(base)))
	want := bytes.Clone(base)
	text := []byte("over the border of two clusters")
	copy(want[clusterBytes-10:], text)
	if n, err := o.WriteAt(text, clusterBytes-10); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
	got := make([]byte, len(base))
	if _, err := o.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Error("reads otherwise than written:", err)
	}
	if _, err := o.ReadAt(got, int64(3*clusterBytes)); err == nil {
		t.Error("read beyond the end")
	}
	if _, err := o.WriteAt(got, int64(3*clusterBytes)); err == nil {
		t.Error("wrote beyond the end")
	}
	if _, err := o.encode(strings.Repeat("x", 2000), "raw"); err == nil {
		t.Error("a name of 2000 bytes")
	}
	if _, err := newOverlay(nil, 0).encode("", ""); err == nil {
		t.Error("a disk of no bytes")
	}
	if err := imagefmt.SetCommandLine(o, "x"); !errors.Is(err, imagefmt.ErrNoPartition) {
		t.Error(err)
	}
}

func TestControlAddressIsShort(t *testing.T) {
	long := "/" + strings.Repeat("x", 200)
	a, err := controlAddress(long)
	b, _ := controlAddress(long + "y")
	if err != nil || len(a) > 105 || a == b {
		t.Errorf("%s %s %v", a, b, err)
	}
	if a, _ := controlAddress("/x"); a != "unix:/x/control.sock" {
		t.Error(a)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "a-b1": true, "-a": false, "a-": false, "A": false, "": false, "../x": false, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
