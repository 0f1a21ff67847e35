package linux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// makeELF is a 64-bit ELF with an interpreter, a dynamic section that needs libs,
// and a .modinfo section; each only where given.
func makeELF(interp string, libs []string, modinfo string) []byte {
	type section struct {
		name       string
		typ, link  uint32
		data       []byte
		nameOffset uint32
	}
	dynstr := []byte{0}
	var dyn []byte
	for _, l := range libs {
		dyn = binary.LittleEndian.AppendUint64(dyn, 1) // DT_NEEDED
		dyn = binary.LittleEndian.AppendUint64(dyn, uint64(len(dynstr)))
		dynstr = append(append(dynstr, l...), 0)
	}
	dyn = append(dyn, make([]byte, 16)...) // DT_NULL
	secs := []section{{}, {name: ".dynstr", typ: 3, data: dynstr}, {name: ".dynamic", typ: 6, link: 1, data: dyn}}
	if modinfo != "" {
		secs = append(secs, section{name: ".modinfo", typ: 1, data: []byte(modinfo)})
	}
	names := []byte{0}
	secs = append(secs, section{name: ".shstrtab", typ: 3})
	for i := range secs[1:] {
		secs[i+1].nameOffset = uint32(len(names))
		names = append(append(names, secs[i+1].name...), 0)
	}
	secs[len(secs)-1].data = names

	var body []byte
	const start = 64 + 56
	interpOff := uint64(start)
	if interp != "" {
		body = append(append(body, interp...), 0)
	}
	var b bytes.Buffer
	le := func(vs ...any) {
		for _, v := range vs {
			binary.Write(&b, binary.LittleEndian, v)
		}
	}
	offs := make([]uint64, len(secs))
	for i, s := range secs {
		offs[i] = start + uint64(len(body))
		body = append(body, s.data...)
	}
	phnum := uint16(0)
	if interp != "" {
		phnum = 1
	}
	le([]byte("\x7fELF\x02\x01\x01"), [9]byte{}, uint16(3), uint16(62), uint32(1), uint64(0), uint64(64),
		uint64(start+len(body)), uint32(0), uint16(64), uint16(56), phnum, uint16(64), uint16(len(secs)), uint16(len(secs)-1))
	le(uint32(3), uint32(4), interpOff, uint64(0), uint64(0), uint64(len(interp)+1), uint64(len(interp)+1), uint64(1))
	b.Write(body)
	for i, s := range secs {
		le(s.nameOffset, s.typ, uint64(0), uint64(0), offs[i], uint64(len(s.data)), s.link, uint32(0), uint64(1), uint64(0))
	}
	return b.Bytes()
}

const loader = "/lib64/ld-linux-x86-64.so.2"

// goodTree is what the user packages would give.
func goodTree() tree {
	return tree{
		"bin/busybox":                                        {data: []byte("BUSYBOX")},
		"usr/bin/memcached":                                  {data: makeELF(loader, []string{"libevent.so.7", "libc.so.6"}, "")},
		"usr/bin/iperf3":                                     {data: makeELF(loader, []string{"libc.so.6"}, "")},
		"usr/lib/x86_64-linux-gnu/libevent.so.7":             {link: "libevent.so.7.0"},
		"usr/lib/x86_64-linux-gnu/libevent.so.7.0":           {data: makeELF("", []string{"libc.so.6"}, "")},
		"lib/x86_64-linux-gnu/libc.so.6":                     {data: makeELF(loader, []string{"ld-linux-x86-64.so.2"}, "")},
		"lib/x86_64-linux-gnu/ld-linux-x86-64.so.2":          {data: makeELF("", nil, "")},
		"lib64/ld-linux-x86-64.so.2":                         {link: "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"},
		"usr/lib/x86_64-linux-gnu/libunused.so.1":            {data: []byte("not linked")},
		"usr/lib/x86_64-linux-gnu/engines/not-a-library.txt": {data: []byte("x")},
	}
}

func TestLinkClosure(t *testing.T) {
	tr := goodTree()
	files, err := linkClosure(tr, programs)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(sortedKeys(files), " ")
	want := "bin/iperf3 bin/memcached lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6 lib/x86_64-linux-gnu/libevent.so.7 lib64/ld-linux-x86-64.so.2"
	if got != want {
		t.Errorf("files %s\nwant  %s", got, want)
	}
	for name, breakIt := range map[string]func(){
		"library libevent.so.7, needed by usr/bin/memcached": func() { delete(tr, "usr/lib/x86_64-linux-gnu/libevent.so.7.0") },
		"program usr/bin/iperf3 is in none":                  func() { delete(tr, "usr/bin/iperf3") },
		"usr/bin/memcached: ":                                func() { tr["usr/bin/memcached"] = entry{data: []byte("#!/bin/sh")} },
		"program usr/bin/memcached":                          func() { tr["usr/bin/memcached"] = entry{link: "memcached"} },
	} {
		tr = goodTree()
		breakIt()
		if _, err := linkClosure(tr, programs); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one with %q", err, name)
		}
	}
}

func module(depends string) entry {
	return entry{data: makeELF("", nil, "license=GPL\x00depends="+depends+"\x00name=x\x00")}
}

var testKernel = makeBzImage(packLiterals([]byte("\x7fELF vmlinux of the test")), len("\x7fELF vmlinux of the test"))

// goodKernel is what the kernel package would give.
func goodKernel() tree {
	const d = "lib/modules/6.1/kernel/"
	return tree{
		"boot/vmlinuz-6.1-cloud":                   {data: testKernel},
		"lib/modules/6.1/modules.builtin":          {data: []byte("kernel/drivers/virtio/virtio_anchor.ko\nkernel/x/rng-core.ko\n")},
		d + "drivers/virtio/virtio.ko":             module("virtio_anchor"),
		d + "drivers/virtio/virtio_ring.ko":        module("virtio"),
		d + "drivers/virtio/virtio_pci.ko":         module("virtio_ring,virtio"),
		d + "drivers/virtio/virtio_mmio.ko":        module("virtio_ring"),
		d + "drivers/net/virtio_net.ko":            module("net_failover,virtio"),
		d + "drivers/net/net_failover.ko":          module("failover"),
		d + "net/core/failover.ko":                 module(""),
		d + "drivers/char/hw_random/virtio-rng.ko": module("rng-core"),
		d + "drivers/net/wireless/other.ko":        module(""),
		d + "net/sched/sch_ingress.ko":             module("sch_anchor"),
		d + "net/sched/sch_anchor.ko":              module("failover"),
		d + "net/sched/cls_bpf.ko":                 module(""),
	}
}

func TestModuleOrder(t *testing.T) {
	tr := goodKernel()
	paths, err := moduleOrder(tr, kernelModules)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(p), ".ko"))
	}
	if got, want := strings.Join(names, " "), "virtio virtio_ring virtio_pci virtio_mmio failover net_failover virtio_net virtio-rng"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	for want, m := range map[string]entry{
		"depends on itself":                module("virtio_net"),
		"module nowhere, needed by":        module("nowhere"),
		"no .modinfo section":              {data: makeELF("", nil, "")},
		"drivers/net/net_failover.ko: EOF": {},
	} {
		tr := goodKernel()
		tr["lib/modules/6.1/kernel/drivers/net/net_failover.ko"] = m
		if _, err := moduleOrder(tr, kernelModules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// readCPIO parses a newc archive.
func readCPIO(t *testing.T, b []byte) map[string]node {
	t.Helper()
	out := map[string]node{}
	for {
		if string(b[:6]) != "070701" {
			t.Fatalf("magic %q", b[:6])
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		size, nameSize := field(6), field(11)
		name := string(b[110 : 110+nameSize-1])
		at := (110 + nameSize + 3) &^ 3
		if name == "TRAILER!!!" {
			return out
		}
		out[name] = node{mode: uint32(field(1)), data: b[at : at+size], rmaj: uint32(field(9)), rmin: uint32(field(10))}
		b = b[(at+size+3)&^3:]
	}
}

func TestCPIO(t *testing.T) {
	write := func() []byte {
		r := newRoot([]byte("BB"))
		r.file("a/b/c", []byte("12345"), 0o644)
		var b bytes.Buffer
		if err := r.write(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	b := write()
	if !bytes.Equal(b, write()) {
		t.Error("two writes differ")
	}
	got := readCPIO(t, b)
	for name, want := range map[string]node{
		"a":           {mode: cpioDir | 0o755},
		"a/b":         {mode: cpioDir | 0o755},
		"a/b/c":       {mode: cpioReg | 0o644, data: []byte("12345")},
		"bin/sh":      {mode: cpioLink | 0o777, data: []byte("busybox")},
		"bin/busybox": {mode: cpioReg | 0o755, data: []byte("BB")},
		"dev/console": {mode: cpioChar | 0o600, rmaj: 5, rmin: 1},
	} {
		n := got[name]
		if n.mode != want.mode || !bytes.Equal(n.data, want.data) || n.rmaj != want.rmaj || n.rmin != want.rmin {
			t.Errorf("%s: %o %q %d:%d", name, n.mode, n.data, n.rmaj, n.rmin)
		}
	}
}

// fakeArchive serves packages made by the test with dpkg-deb.
type fakeArchive struct {
	dir       string
	kernel    tree
	user      tree
	resolves  int
	downloads int
	corrupt   bool
	fail      error
}

func (a *fakeArchive) kernelPackage(context.Context, string) (string, error) {
	return "linux-image-6.1-cloud", a.fail
}

// pack makes a .deb of files.
func pack(t *testing.T, dir, name string, files tree) {
	t.Helper()
	src := filepath.Join(dir, name+".d")
	control := "Package: " + name + "\nVersion: 1\nArchitecture: amd64\nMaintainer: T <t@example.org>\nDescription: t\n"
	files["DEBIAN/control"] = entry{data: []byte(control)}
	for n, e := range files {
		p := filepath.Join(src, n)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		if err == nil && e.link != "" {
			err = os.Symlink(e.link, p)
		} else if err == nil {
			err = os.WriteFile(p, e.data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "-b", src, filepath.Join(dir, name+".deb")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func (a *fakeArchive) resolve(_ context.Context, names []string) ([]Package, error) {
	a.resolves++
	var out []Package
	for i, n := range names {
		file := "user.deb"
		if i == 0 {
			file = "kernel.deb"
		}
		sum, err := fileDigest(filepath.Join(a.dir, file))
		if err != nil {
			return nil, err
		}
		out = append(out, Package{Name: n, Version: "1", File: n + ".deb", SHA256: sum})
	}
	return out, nil
}

func (a *fakeArchive) download(_ context.Context, p Package, dir string) error {
	a.downloads++
	src := "user.deb"
	if strings.HasPrefix(p.Name, "linux-image") {
		src = "kernel.deb"
	}
	b, err := os.ReadFile(filepath.Join(a.dir, src))
	if err != nil {
		return err
	}
	if a.corrupt {
		b[len(b)-1] ^= 1
	}
	return os.WriteFile(filepath.Join(dir, p.File), b, 0o644)
}

func newFakeArchive(t *testing.T, kernel, user tree) *fakeArchive {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is not installed")
	}
	a := &fakeArchive{dir: t.TempDir()}
	pack(t, a.dir, "kernel", kernel)
	pack(t, a.dir, "user", user)
	return a
}

func TestEnsure(t *testing.T) {
	a := newFakeArchive(t, goodKernel(), goodTree())
	cache := t.TempDir()
	var log []string
	c := Config{CacheDir: cache, archive: a, Log: func(s string) { log = append(log, s) }}
	img, err := Ensure(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if img.KernelVersion != "6.1-cloud" || len(img.Packages) != 1+len(userPackages) || img.Modules[0] != "virtio" || len(log) < 3 {
		t.Errorf("image %+v, log %q", img, log)
	}
	if k, err := os.ReadFile(img.Kernel); err != nil || !bytes.Equal(k, testKernel) {
		t.Errorf("kernel %q %v", k, err)
	}
	if u, err := os.ReadFile(img.Unpacked); err != nil || !bytes.HasPrefix(u, []byte("\x7fELF vmlinux")) || img.Note != "" {
		t.Errorf("unpacked kernel %q %v, note %q", u, err, img.Note)
	}
	first, err := os.ReadFile(img.Initrd)
	if err != nil {
		t.Fatal(err)
	}
	full := readCPIO(t, first)
	for _, want := range []string{"init", "bin/memcached", "lib64/ld-linux-x86-64.so.2", "lib/modules/virtio_net.ko"} {
		if _, ok := full[want]; !ok {
			t.Errorf("no %s in the root", want)
		}
	}
	if got := string(full["lib/modules/order"].data); !strings.HasPrefix(got, "virtio.ko\nvirtio_ring.ko\n") {
		t.Errorf("module order %q", got)
	}
	bare, _ := os.ReadFile(img.BareInitrd)
	if got := readCPIO(t, bare); string(got["init"].data) != bareInit || len(got["bin/memcached"].data) != 0 {
		t.Errorf("bare root: %v", sortedKeys(got))
	}

	// The second time needs no archive at all.
	again, err := Ensure(t.Context(), Config{CacheDir: cache, archive: &fakeArchive{fail: errors.New("no network")}})
	if err != nil || again.Digest != img.Digest {
		t.Errorf("from the cache: %v", err)
	}
	if a.resolves != 1 || a.downloads != 2 {
		t.Errorf("%d resolves, %d downloads, want 1 and 2 (one a digest)", a.resolves, a.downloads)
	}
	// A damaged image is made again, the same, from the stored packages.
	os.Remove(img.Initrd)
	if _, err := Ensure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(img.Initrd); !bytes.Equal(first, second) || a.downloads != 2 {
		t.Errorf("made again: equal=%v, %d downloads", bytes.Equal(first, second), a.downloads)
	}
	c.Refresh = true
	if _, err := Ensure(t.Context(), c); err != nil || a.resolves != 2 {
		t.Errorf("refresh: %v, %d resolves", err, a.resolves)
	}
}

func TestEnsureFailures(t *testing.T) {
	a := newFakeArchive(t, goodKernel(), goodTree())
	a.corrupt = true
	if _, err := Ensure(t.Context(), Config{CacheDir: t.TempDir(), archive: a}); err == nil || !strings.Contains(err.Error(), "SHA-256 is") {
		t.Errorf("corrupt download: %v", err)
	}
	if _, err := Ensure(t.Context(), Config{CacheDir: t.TempDir(), archive: &fakeArchive{fail: errors.New("no network")}}); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("no archive: %v", err)
	}
	noKernel := goodKernel()
	delete(noKernel, "boot/vmlinuz-6.1-cloud")
	noBusybox := goodTree()
	delete(noBusybox, "bin/busybox")
	oddKernel := goodKernel()
	oddKernel["boot/vmlinuz-6.1-cloud"] = entry{data: []byte("packed some other way")}
	img, err := Ensure(t.Context(), Config{CacheDir: t.TempDir(), archive: newFakeArchive(t, oddKernel, goodTree())})
	if err != nil || img.Unpacked != "" || !strings.Contains(img.Note, "no unpacked kernel") {
		t.Errorf("odd kernel: %+v, %v", img, err)
	}
	noModule := goodKernel()
	delete(noModule, "lib/modules/6.1/kernel/drivers/net/virtio_net.ko")
	noProgram := goodTree()
	delete(noProgram, "usr/bin/iperf3")
	for _, c := range []struct {
		kernel, user tree
		want         string
	}{
		{noKernel, goodTree(), "no boot/vmlinuz-*"},
		{goodKernel(), noBusybox, "no bin/busybox"},
		{noModule, goodTree(), "module virtio_net"},
		{goodKernel(), noProgram, "usr/bin/iperf3"},
	} {
		cache := t.TempDir()
		if _, err := Ensure(t.Context(), Config{CacheDir: cache, archive: newFakeArchive(t, c.kernel, c.user)}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
		left, _ := filepath.Glob(filepath.Join(cache, "*", "images", "*"))
		if len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o644)
	if _, err := Ensure(t.Context(), Config{CacheDir: file}); err == nil {
		t.Error("cache folder is a file: no error")
	}
}

// Two runs do not make one image at a time; one that waits can be interrupted.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockDir(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("second lock: %v", err)
	}
	unlock()
	unlock, err = lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestReadDebFailures(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is not installed")
	}
	bad := filepath.Join(t.TempDir(), "bad.deb")
	os.WriteFile(bad, []byte("not an archive"), 0o644)
	if _, err := readDeb(t.Context(), bad, func(string) bool { return true }); err == nil || !strings.Contains(err.Error(), "bad.deb") {
		t.Errorf("%v", err)
	}
	if _, err := readTar(strings.NewReader(strings.Repeat("x", 1024)), nil); err == nil {
		t.Error("nonsense for a tar: no error")
	}
}

func TestDefaultCache(t *testing.T) {
	t.Setenv("OSV_CACHE", "/x/y")
	if d, err := DefaultCache(); d != "/x/y" || err != nil {
		t.Errorf("%s %v", d, err)
	}
	t.Setenv("OSV_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "/x")
	if d, err := DefaultCache(); d != "/x/osv" || err != nil {
		t.Errorf("%s %v", d, err)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	if _, err := DefaultCache(); err == nil || !strings.Contains(err.Error(), "OSV_CACHE") {
		t.Errorf("no home: %v", err)
	}
	if _, err := Ensure(t.Context(), Config{}); err == nil {
		t.Error("no home: no error")
	}
}
