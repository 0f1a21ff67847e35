package build_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"osv/capstan/build"
	"osv/capstan/internal/fixture"
	"osv/capstan/repo"
	"osv/harness/diskimage"
)

func TestCapstanfile(t *testing.T) {
	f, err := build.Parse(strings.NewReader("package: ./x\ncmdline: --verbose -- -p 1\nmemory: 1G\nports: [80, 53/udp]\nfiles:\n  /etc/a: &\n"))
	if err == nil {
		t.Error("& alone is no YAML string: it must be quoted")
	}
	f, err = build.Parse(strings.NewReader("package: ./x\ncmdline: --verbose -- -p 1\nmemory: 1G\nports: [80, 53/udp]\nfiles:\n  /etc/a: '&'\n"))
	if err != nil || f.Ports[0] != "80" || f.Files["/etc/a"] != "&" {
		t.Errorf("%+v, %v", f, err)
	}
	for in, want := range map[string]string{
		"frob: 1":                      "Capstanfile: yaml: unmarshal errors:\n  line 1: field frob not found",
		"rpm-base: x":                  `Capstanfile: rpm-base: "x": RPM packages hold no Go programs; use package or base`,
		"base: a\npackage: b":          `Capstanfile: base: "a": with package: an image has one kernel`,
		"base: a\nrootfs: b":           `Capstanfile: base: "a": with files or rootfs: `,
		"cpus: 300":                    `Capstanfile: cpus: "300": want 1 to 255`,
		"memory: lots":                 `Capstanfile: memory: "lots": size "lots": want a number with K, M, G or T (512M)`,
		"ports: [x]":                   `Capstanfile: ports: "x": want NUMBER or NUMBER/udp`,
		"ports: [70000]":               `Capstanfile: ports: "70000": want 1 to 65535`,
		"files: {../../etc/passwd: a}": `Capstanfile: files: "../../etc/passwd": is no path of a file in the guest`,
		"files: {/a: ''}":              `Capstanfile: files: "/a": has no source (& for the file of the same name here)`,
	} {
		if _, err := build.Parse(strings.NewReader(in)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	if f, err := build.Read(t.TempDir()); err != nil || f.Package != "" {
		t.Error("no Capstanfile is an empty one:", err)
	}
}

func FuzzCapstanfile(f *testing.F) {
	f.Add([]byte("base: a\nfiles: {/a: b}\nports: [80]\n"))
	f.Fuzz(func(t *testing.T, b []byte) { build.Parse(bytes.NewReader(b)) })
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{"1": 1, "2K": 2048, "512M": 512 << 20, "1G": 1 << 30, "1GiB": 1 << 30, "3mb": 3 << 20, "2T": 2 << 40, "": 0, "M": 0, "-1": 0, "9999999999T": 0} {
		if n, err := build.ParseSize(in); n != want || (want == 0) != (err != nil) {
			t.Errorf("%q: %d, %v", in, n, err)
		}
	}
	for n, want := range map[int64]string{5: "5 B", 1500: "1.5 kB", 4100000: "4.1 MB", 2500000000: "2.50 GB"} {
		if got := build.Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if name, err := build.Name("/x/My App_2"); err != nil || name != "my-app-2" {
		t.Errorf("%s, %v", name, err)
	}
	if _, err := build.Name("/"); err == nil {
		t.Error("/ has a name")
	}
}

// A program that does not know the kernel, with files from a Capstanfile, in this
// module, in one step.
func TestBuildAProgram(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Join(root, "capstan", "build"), "prog-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	const marker = "what the guest finds in its file"
	write("main.go", "package main\n\nimport \"embed\"\n\n//go:embed all:rootfs\nvar fs embed.FS\n\nfunc main() { b, _ := fs.ReadFile(\"rootfs/etc/conf\"); println(string(b)) }\n")
	write("conf", marker)
	write("Capstanfile", "title: a test\nversion: '3'\nbuild: echo made > made.txt\ncmdline: --verbose\nmemory: 64M\nports: [80]\nfiles:\n  /etc/conf: conf\n  /made.txt: '&'\n")
	f, err := build.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	s := fixture.Store(t)
	var said []string
	img, err := build.Build(t.Context(), s, build.Options{Dir: dir, Ref: fixture.Ref(t, "prog"), File: f, Formats: []string{"qcow2"}, Say: func(x string, _ ...any) { said = append(said, x) }})
	if err != nil {
		t.Fatal(err)
	}
	c := img.Config
	if c.Title != "a test" || c.Version != "3" || c.MemMiB != 64 || c.CPUs != 1 || c.Created.Unix() != 1700000000 || c.Ports[0] != "80" || len(said) < 4 {
		t.Errorf("%+v, said %q", c, said)
	}
	d, err := img.Layer("elf")
	if err != nil {
		t.Fatal(err)
	}
	elf, err := s.Bytes(d)
	if err != nil || !bytes.Contains(elf, []byte(marker)) || !bytes.Contains(elf, []byte("osv/kernel/platform")) {
		t.Errorf("the file or the kernel is not in the program: %v", err)
	}
	q, err := img.Layer("qcow2")
	if err != nil {
		t.Fatal(err)
	}
	if line, err := diskimage.ReadCommandLine(s.Path(q)); err != nil || line != "--verbose" {
		t.Errorf("%q, %v", line, err)
	}

	// Another image on its kernel.
	t.Setenv("SOURCE_DATE_EPOCH", "")
	derived, err := build.Build(t.Context(), s, build.Options{Dir: dir, Ref: fixture.Ref(t, "derived"), File: build.File{Base: "prog", CmdLine: "-- other", CPUs: 2, Data: "1M"}, Formats: []string{"raw"}})
	if err != nil || derived.Config.CommandLine != "-- other" || derived.Config.Title != "a test" || derived.Config.CPUs != 2 || derived.Config.Version != "" {
		t.Errorf("%+v, %v", derived.Config, err)
	}
	if e, err := derived.Layer("elf"); err != nil || e.Digest != d.Digest {
		t.Error("another kernel")
	}

	// What goes wrong names nothing.
	for want, f := range map[string]build.File{
		"base: image none:latest: not in the store (there are derived:latest, prog:latest)":                         {Base: "none"},
		"Capstanfile: build: exit 3: exit status 3":                                                                 {Build: "exit 3"},
		"Capstanfile: files: stat " + dir + "/none: no such file or directory":                                      {Files: map[string]string{"/a": "none"}},
		"command line of 5000 bytes: at most 4096 fit":                                                              {Base: "prog", CmdLine: strings.Repeat("x", 5000)},
		filepath.Join(dir, "../../repo") + " is package repo: an image is made of a main package (or a Capstanfile": {Package: "../../repo"},
	} {
		_, err := build.Build(t.Context(), s, build.Options{Dir: dir, Ref: fixture.Ref(t, "bad"), File: f})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	write("main.go", "package main\n\nfunc main() {}\n")
	_, err = build.Build(t.Context(), s, build.Options{Dir: dir, Ref: fixture.Ref(t, "bad"), File: f})
	if err == nil || !strings.Contains(err.Error(), "embeds none: add //go:embed all:rootfs and a variable of type embed.FS") {
		t.Error(err)
	}
	if _, err := build.Build(t.Context(), s, build.Options{Dir: dir, Ref: fixture.Ref(t, "bad"), File: build.File{Base: "prog"}, Formats: []string{"vdi"}}); err == nil {
		t.Error("a format that there is not")
	}
	if _, err := s.Get(fixture.Ref(t, "bad")); err == nil {
		t.Error("a failed build has a name")
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir(), ".build-*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestImport(t *testing.T) {
	s := fixture.Store(t)
	img := fixture.Image(t, s, "a", 1000)
	q, err := img.Layer("qcow2")
	if err != nil {
		t.Fatal(err)
	}
	got, err := build.Import(s, fixture.Ref(t, "b"), s.Path(q), repo.Config{})
	if err != nil || got.Config.CommandLine != "--verbose" || got.Formats()[0] != "qcow2" {
		t.Errorf("%+v, %v", got, err)
	}
	raw := filepath.Join(t.TempDir(), "d.raw")
	disk := make([]byte, 4096)
	disk[510], disk[511] = 0x55, 0xaa
	if err := os.WriteFile(raw, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := build.Import(s, fixture.Ref(t, "c"), raw, repo.Config{}); err != nil || got.Formats()[0] != "raw" {
		t.Error(err)
	}
	for text, want := range map[string]string{"x": ": not an image: 1 bytes", "hello, this is text": ": not an image: want a kernel ELF, QCOW2 or a raw disk with a boot sector", "\x7fELF and no more of it": ": "} {
		if err := os.WriteFile(raw, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := build.Import(s, fixture.Ref(t, "d"), raw, repo.Config{}); err == nil || !strings.HasPrefix(err.Error(), raw+want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := s.Get(fixture.Ref(t, "d")); err == nil {
		t.Error("what is no image has a name")
	}
}
