package diskimage

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"osv/kernel/imagefmt"
)

func untar(t testing.TB, r io.Reader) (names []string, files map[string][]byte) {
	t.Helper()
	files = map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s: time %v, user %d %q", h.Name, h.ModTime, h.Uid, h.Uname)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		files[h.Name] = b
	}
}

var machine = Machine{Name: "test", About: "a <test> & more", CPUs: 2, MemMiB: 64}

// qemu-img reads each disk format back as the raw disk, and finds nothing to mend. With
// a data partition the disk has large gaps and several tables.
func TestQEMUReadsEveryFormat(t *testing.T) {
	for _, o := range []Options{{CommandLine: "x"}, {DataBytes: 1200 << 20}} {
		d := testDisk(t, o)
		rawPath := file(t, "raw", d.writeSparse)
		for name, test := range map[string]struct {
			driver string
			check  bool
			write  func(io.Writer) error
		}{
			"qcow2":       {"qcow2", true, d.WriteQCOW2},
			"vmdk stream": {"vmdk", true, func(w io.Writer) error { return d.WriteVMDKStream(w, "vmdk") }},
			"vmdk sparse": {"vmdk", true, func(w io.Writer) error { return d.WriteVMDKSparse(w, "vmdk", "lsilogic") }},
			"vhd":         {"vpc", false, d.WriteVHD},
			"vhd fixed":   {"vpc", false, d.WriteVHDFixed},
		} {
			if name == "vhd fixed" && o.DataBytes > 0 {
				continue // a GiB of zeros
			}
			path := file(t, strings.ReplaceAll(name, " ", "."), func(f *os.File) error { return test.write(f) })
			if test.check {
				tool(t, "qemu-utils", "qemu-img", "check", "-f", test.driver, path)
			}
			tool(t, "qemu-utils", "qemu-img", "compare", "-f", test.driver, "-F", "raw", path, rawPath)
			if info := tool(t, "qemu-utils", "qemu-img", "info", "--output=json", "-f", test.driver, path); !strings.Contains(info, fmt.Sprintf(`"virtual-size": %d,`, d.Size())) {
				t.Errorf("%s: want %d bytes, have %s", name, d.Size(), info)
			}
		}
	}
}

func TestQCOW2(t *testing.T) {
	d := testDisk(t, Options{CommandLine: "old", DataBytes: 600 << 20})
	path := file(t, "a.qcow2", func(f *os.File) error { return d.WriteQCOW2(f) })
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	q, err := OpenQCOW2(f)
	if err != nil {
		t.Fatal(err)
	}
	if q.Size() != d.Size() {
		t.Errorf("size %d, want %d", q.Size(), d.Size())
	}
	a, b := make([]byte, 100000), make([]byte, 100000)
	for at := int64(0); at < 16<<20; at += int64(len(a)) {
		if _, err := q.ReadAt(a, at); err != nil {
			t.Fatal(err)
		}
		d.ReadAt(b, at)
		if !bytes.Equal(a, b) {
			t.Fatalf("differs in the %d bytes at %d", len(a), at)
		}
	}
	if n, err := q.ReadAt(a, q.Size()-10); n != 10 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if err := imagefmt.SetCommandLine(q, "new line"); err != nil {
		t.Fatal(err)
	}
	if err := imagefmt.SetCommandLine(d, "new line"); err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-utils", "qemu-img", "check", path)
	tool(t, "qemu-utils", "qemu-img", "compare", path, file(t, "raw", d.writeSparse))
	for _, at := range []int64{0, d.Size() / 2, kernelFirst*512 + qcowCluster - 1} {
		if _, err := q.WriteAt([]byte{1, 2}, at); err == nil {
			t.Errorf("wrote in place at %d", at)
		}
	}
	ro, err := OpenQCOW2(bytes.NewReader(make([]byte, 200)))
	if err == nil || ro != nil {
		t.Error("zeros are an image")
	}
}

func FuzzQCOW2(f *testing.F) {
	d, err := Build(kernel(0x400000, load{0x400000, 10, []byte("0123456789")}), Options{})
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := d.WriteQCOW2(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), int64(512))
	f.Add(b.Bytes(), int64(kernelFirst*512))
	f.Fuzz(func(t *testing.T, img []byte, at int64) {
		q, err := OpenQCOW2(bytes.NewReader(img))
		if err != nil {
			return
		}
		n, err := q.ReadAt(make([]byte, 1000), at)
		if n < 0 || n > 1000 || n < 1000 && err == nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if _, err := q.WriteAt([]byte{1}, at); err == nil {
			t.Fatal("wrote to a reader")
		}
	})
}

// DSP0243 §5.3: descriptor, manifest, disk; the manifest's digests are right.
func TestOVA(t *testing.T) {
	d := testDisk(t, Options{})
	for _, h := range []Hypervisor{VirtualBox, ESXi} {
		var b bytes.Buffer
		if err := d.WriteOVA(&b, machine, h); err != nil {
			t.Fatal(err)
		}
		if string(b.Bytes()[257:265]) != "ustar\x0000" {
			t.Errorf("%s: not ustar: %q", h, b.Bytes()[257:265])
		}
		names, files := untar(t, &b)
		if strings.Join(names, " ") != "test.ovf test.mf test-disk1.vmdk" {
			t.Errorf("%s: %q", h, names)
		}
		want := fmt.Sprintf("SHA256(test.ovf)= %x\nSHA256(test-disk1.vmdk)= %x\n", sha256.Sum256(files["test.ovf"]), sha256.Sum256(files["test-disk1.vmdk"]))
		if got := string(files["test.mf"]); got != want {
			t.Errorf("%s: manifest %q, want %q", h, got, want)
		}
	}
	if err := d.WriteOVA(io.Discard, machine, "vpc"); err == nil {
		t.Error("an unknown hypervisor")
	}
}

func TestVMwareZip(t *testing.T) {
	d := testDisk(t, Options{})
	var b bytes.Buffer
	if err := d.WriteVMwareZip(&b, machine); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if len(z.File) != 2 || z.File[0].Name != "test/test.vmx" || z.File[1].Name != "test/test.vmdk" {
		t.Fatalf("%v", z.File)
	}
	r, _ := z.File[0].Open()
	vmx, _ := io.ReadAll(r)
	seen := map[string]bool{}
	for l := range strings.Lines(string(vmx)) {
		key, value, ok := strings.Cut(strings.TrimSpace(l), " = ")
		if !ok || seen[key] || len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
			t.Errorf("line %q", l)
		}
		seen[key] = true
	}
	for _, want := range []string{`numvcpus = "2"`, `memsize = "64"`, `scsi0:0.fileName = "test.vmdk"`, `scsi0.virtualDev = "pvscsi"`, `ethernet0.virtualDev = "vmxnet3"`} {
		if !strings.Contains(string(vmx), want+"\n") {
			t.Errorf("no %s in\n%s", want, vmx)
		}
	}
}

// Compute Engine wants one member, disk.raw, of whole GiB, in a GNU tar without
// sparse members.
func TestGCE(t *testing.T) {
	if testing.Short() {
		t.Skip("a GiB")
	}
	d := testDisk(t, Options{AlignBytes: GCEAlign})
	var b bytes.Buffer
	if err := d.WriteGCE(&b); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(z)
	h, err := tr.Next()
	if err != nil || h.Name != "disk.raw" || h.Size != 1<<30 || h.Format != tar.FormatGNU || h.Typeflag != tar.TypeReg {
		t.Fatalf("%+v, %v", h, err)
	}
	want, got := sha256.New(), sha256.New()
	d.WriteTo(want)
	if _, err := io.Copy(got, tr); err != nil || !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
		t.Errorf("disk.raw is not the disk: %v", err)
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("a second member: %v", err)
	}
}

func TestGCERefusesOddSizes(t *testing.T) {
	if err := testDisk(t, Options{}).WriteGCE(io.Discard); err == nil {
		t.Error("no error")
	}
}

// Every format, twice, from two sources: equal bytes; and the index tells the truth.
func TestFormatsAreReproducible(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	all := make([][]File, 2)
	for i, dir := range dirs {
		s := Source{Kernel: testKernel(), Machine: machine, Options: Options{CommandLine: "--verbose"}}
		for _, f := range Formats {
			if f.Name == "gce" && testing.Short() {
				continue
			}
			out, err := s.Write(f, dir)
			if err != nil {
				t.Fatal(err)
			}
			all[i] = append(all[i], out)
		}
		if err := WriteIndex(dir, all[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range all[0] {
		if a != all[1][i] {
			t.Errorf("%s: %+v and %+v", a.Format, a, all[1][i])
		}
		b, err := os.ReadFile(filepath.Join(dirs[0], a.File))
		if err != nil || int64(len(b)) != a.Bytes || fmt.Sprintf("%x", sha256.Sum256(b)) != a.SHA256 {
			t.Errorf("%s: the index is wrong: %v", a.File, err)
		}
	}
	// Merging: a replaced entry, a vanished file.
	os.Remove(filepath.Join(dirs[0], "test.raw"))
	changed := all[0][0]
	changed.CmdLine = "other"
	if err := WriteIndex(dirs[0], []File{changed}); err != nil {
		t.Fatal(err)
	}
	got, err := ReadIndex(dirs[0])
	if err != nil || len(got) != len(all[0])-1 {
		t.Errorf("%d entries, %v", len(got), err)
	}
	for _, f := range got {
		if f.Format == "raw" || f.File == changed.File && f.CmdLine != "other" {
			t.Errorf("%+v", f)
		}
	}
}

func TestFind(t *testing.T) {
	if f, err := Find("esxi"); err != nil || f.Suffix != "-esxi.ova" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := Find("vdi"); err == nil || !strings.Contains(err.Error(), "qcow2, virtualbox") {
		t.Errorf("%v", err)
	}
}

func TestWriteLeavesNothingHalf(t *testing.T) {
	dir := t.TempDir()
	s := Source{Kernel: []byte("no ELF"), Machine: machine}
	for _, f := range Formats {
		if f.Name == "elf" {
			continue
		}
		if _, err := s.Write(f, dir); err == nil {
			t.Errorf("%s: no error", f.Name)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, m := range []Machine{{}, {Name: "a/b"}, {Name: ".."}, {Name: "a", CPUs: 65}, {Name: "a", MemMiB: 1}, {Name: "a", About: "x\ny"}} {
		s := Source{Kernel: testKernel(), Machine: m}
		if _, err := s.Write(Formats[0], dir); err == nil {
			t.Errorf("%+v: no error", m)
		}
	}
}

func TestReadIndexRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"{", `{"schema":2}`} {
		if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadIndex(dir); err == nil {
			t.Errorf("%s: no error", text)
		}
		if err := WriteIndex(dir, nil); err == nil {
			t.Errorf("%s: overwritten", text)
		}
	}
}

// full fails after some bytes, as a full disk does.
type full struct{ left int }

var errFull = errors.New("no space left on device")

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.left {
		n := f.left
		f.left = 0
		return n, errFull
	}
	f.left -= len(p)
	return len(p), nil
}

func TestFullDisk(t *testing.T) {
	d := testDisk(t, Options{})
	for name, write := range map[string]func(io.Writer) error{
		"qcow2": d.WriteQCOW2, "vhd": d.WriteVHD, "fixed vhd": d.WriteVHDFixed,
		"stream": func(w io.Writer) error { return d.WriteVMDKStream(w, "x") },
		"sparse": func(w io.Writer) error { return d.WriteVMDKSparse(w, "x", "ide") },
		"ova":    func(w io.Writer) error { return d.WriteOVA(w, machine, ESXi) },
		"zip":    func(w io.Writer) error { return d.WriteVMwareZip(w, machine) },
		"raw":    func(w io.Writer) error { _, err := d.WriteTo(w); return err },
	} {
		for _, n := range []int{0, 100, 100000} {
			if err := write(&full{n}); !errors.Is(err, errFull) {
				t.Errorf("%s, %d bytes: %v", name, n, err)
			}
		}
	}
}
