package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"osv/capstan/repo"
	"osv/harness/diskimage"
	"osv/harness/image"
	"osv/kernel/imagefmt"
)

// Options say what Build makes.
type Options struct {
	Dir     string   // of the Capstanfile, the Go package, or both
	Ref     repo.Ref // name of the image
	File    File     // Read(Dir), and what the caller changed in it
	Formats []string // of harness/diskimage; elf, from which all others can be made, is always there

	Stderr io.Writer                        // of the build command; nil = none
	Say    func(format string, args ...any) // is told each step; nil = nobody
}

// DefaultFormats are what an image has if nothing else is asked for.
var DefaultFormats = []string{"qcow2"}

// defaults of the machine.
const (
	defaultMem  = 256
	defaultCPUs = 1
)

// Name is the image name that goes with a folder.
func Name(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	name := strings.Trim(notName.ReplaceAllString(strings.ToLower(filepath.Base(abs)), "-"), "-")
	if name == "" {
		return "", fmt.Errorf("folder %s makes no image name: give one (-t NAME)", abs)
	}
	return name, nil
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// Build makes an image and names it in the store. Where it fails, the store names
// what it named before.
func Build(ctx context.Context, s *repo.Store, o Options) (repo.Image, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if err := o.File.check(); err != nil {
		return repo.Image{}, err
	}
	if o.File.Build != "" {
		o.Say("build command: %s", o.File.Build)
		if err := o.shell(ctx); err != nil {
			return repo.Image{}, err
		}
	}
	c, kernel, err := o.kernel(ctx, s)
	if err != nil {
		return repo.Image{}, err
	}
	if err := o.machine(&c); err != nil {
		return repo.Image{}, err
	}
	return Assemble(ctx, s, o.Ref, c, kernel, o.Formats, o.Say)
}

// Assemble makes an image of a linked kernel in each format, and names it.
func Assemble(ctx context.Context, s *repo.Store, ref repo.Ref, c repo.Config, kernel []byte, formats []string, say func(string, ...any)) (repo.Image, error) {
	src := Source(c, kernel)
	var layers []v1.Descriptor
	wanted := map[string]bool{"elf": true}
	for _, f := range formats {
		if _, err := diskimage.Find(f); err != nil {
			return repo.Image{}, err
		}
		wanted[f] = true
	}
	for _, f := range diskimage.Formats {
		if !wanted[f.Name] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return repo.Image{}, err
		}
		d, err := AddFormat(s, src, f)
		if err != nil {
			return repo.Image{}, err
		}
		say("%s: %s", f.Name, Bytes(d.Size))
		layers = append(layers, d)
	}
	m, err := s.Compose(c, layers)
	if err != nil {
		return repo.Image{}, err
	}
	return s.Tag(ref, m, nil)
}

// Source is what harness/diskimage makes an image's formats from.
func Source(c repo.Config, kernel []byte) *diskimage.Source {
	return &diskimage.Source{
		Kernel:  kernel,
		Machine: diskimage.Machine{Name: c.Name, About: c.Title, CPUs: c.CPUs, MemMiB: c.MemMiB},
		Options: diskimage.Options{CommandLine: c.CommandLine, DataBytes: c.DataBytes},
	}
}

// AddFormat makes one format as a layer in the store.
func AddFormat(s *repo.Store, src *diskimage.Source, f diskimage.Format) (v1.Descriptor, error) {
	dir, err := os.MkdirTemp(s.Dir(), ".build-")
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer os.RemoveAll(dir)
	out, err := src.Write(f, dir)
	if err != nil {
		return v1.Descriptor{}, err
	}
	file, err := os.Open(filepath.Join(dir, out.File))
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer file.Close()
	d, err := s.Add(repo.LayerPrefix+f.Name, file)
	d.Annotations = map[string]string{v1.AnnotationTitle: out.File}
	return d, err
}

// machine completes the configuration from the Capstanfile.
func (o *Options) machine(c *repo.Config) error {
	f := o.File
	set := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	c.Architecture, c.OS = "amd64", "osv"
	c.Name = f.Name
	if c.Name == "" {
		c.Name = o.Ref.Base()
	}
	set(&c.Title, f.Title)
	set(&c.Version, f.Version)
	set(&c.CommandLine, f.CmdLine)
	if len(c.CommandLine) > imagefmt.MaxCommandLine {
		return fmt.Errorf("command line of %d bytes: at most %d fit", len(c.CommandLine), imagefmt.MaxCommandLine)
	}
	if f.Memory != "" {
		mib, err := ParseMem(f.Memory)
		if err != nil {
			return err
		}
		c.MemMiB = mib
	}
	if f.CPUs != 0 {
		c.CPUs = f.CPUs
	}
	if f.Data != "" {
		n, err := ParseSize(f.Data)
		if err != nil {
			return err
		}
		c.DataBytes = n
	}
	if f.Ports != nil {
		c.Ports = f.Ports
	}
	if c.MemMiB == 0 {
		c.MemMiB = defaultMem
	}
	if c.CPUs == 0 {
		c.CPUs = defaultCPUs
	}
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		n, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH: %q: want seconds", epoch)
		}
		c.Created = time.Unix(n, 0).UTC()
	}
	return nil
}

// kernel takes the base image's kernel, with the base's configuration to begin from,
// or links the package.
func (o *Options) kernel(ctx context.Context, s *repo.Store) (repo.Config, []byte, error) {
	if o.File.Base != "" {
		ref, err := repo.ParseRef(o.File.Base)
		if err != nil {
			return repo.Config{}, nil, err
		}
		base, err := s.Get(ref)
		if err != nil {
			return repo.Config{}, nil, fmt.Errorf("base: %w", err)
		}
		d, err := base.Layer("elf")
		if err != nil {
			return repo.Config{}, nil, fmt.Errorf("base: %w", err)
		}
		c := base.Config
		c.Created, c.Version, c.Platform = time.Time{}, "", ""
		b, err := s.Bytes(d)
		return c, b, err
	}
	b, err := o.link(ctx)
	return repo.Config{}, b, err
}

// link compiles the Go package with the kernel.
func (o *Options) link(ctx context.Context) ([]byte, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	pkg := o.File.Package
	if pkg == "" {
		pkg = "."
	}
	tmp, err := os.MkdirTemp("", "capstan-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	files, err := o.File.rootFiles(dir)
	if err != nil {
		return nil, err
	}
	main, imports, err := o.list(ctx, dir, pkg)
	if err != nil {
		return nil, err
	}
	replace := map[string]string{}
	for guest, host := range files {
		replace[filepath.Join(main.Dir, "rootfs", filepath.FromSlash(guest))] = host
	}
	if !imports {
		start := filepath.Join(tmp, "capstan_kernel.go")
		if err := os.WriteFile(start, []byte("package main\n\nimport _ \""+bootPackage+"\"\n"), 0o644); err != nil {
			return nil, err
		}
		replace[filepath.Join(main.Dir, "capstan_kernel.go")] = start
	}
	var flags []string
	if len(replace) > 0 {
		b, err := json.Marshal(map[string]any{"Replace": replace})
		overlay := filepath.Join(tmp, "overlay.json")
		if err == nil {
			err = os.WriteFile(overlay, b, 0o644)
		}
		if err != nil {
			return nil, err
		}
		flags = append(flags, "-overlay="+overlay)
	}
	if len(files) > 0 && !main.embedsRoot() {
		return nil, fmt.Errorf("%s: files or rootfs given, and %s embeds none: add //go:embed all:rootfs and a variable of type embed.FS", FileName, main.ImportPath)
	}
	o.Say("link %s with the kernel", main.ImportPath)
	out := filepath.Join(tmp, "kernel.elf")
	if err := image.BuildWith(pkg, out, image.Options{Dir: dir, Tags: o.File.Tags, Strip: true, Flags: flags}); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// bootPackage makes a kernel of a program that imports it.
const bootPackage = "osv/kernel/platform"

// goPackage is what go list says.
type goPackage struct {
	Dir, ImportPath, Name string
	EmbedPatterns         []string
	Deps                  []string
}

func (p goPackage) embedsRoot() bool {
	for _, e := range p.EmbedPatterns {
		if e == "all:rootfs" || e == "rootfs" {
			return true
		}
	}
	return false
}

// list asks Go about the main package. A missing rootfs is no error here.
func (o *Options) list(ctx context.Context, dir, pkg string) (p goPackage, kernel bool, err error) {
	args := []string{"list", "-e", "-pgo=off", "-json=Dir,ImportPath,Name,EmbedPatterns,Deps"}
	if o.File.Tags != "" {
		args = append(args, "-tags", o.File.Tags)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "--", pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return p, false, errors.New("the go command is not in PATH: install Go 1.26 or newer from https://go.dev/dl/")
		}
		return p, false, fmt.Errorf("go list %s: %w\n%s", pkg, err, bytes.TrimSpace(errs.Bytes()))
	}
	if err := json.NewDecoder(&out).Decode(&p); err != nil {
		return p, false, fmt.Errorf("go list %s: no package", pkg)
	}
	if p.Name != "main" {
		what := "no Go package"
		if p.Name != "" {
			what = "package " + p.Name
		}
		return p, false, fmt.Errorf("%s is %s: an image is made of a main package (or a %s with base)", filepath.Join(dir, pkg), what, FileName)
	}
	for _, d := range p.Deps {
		if d == bootPackage || d == "osv/kernel/metal/boot" {
			return p, true, nil
		}
	}
	return p, false, nil
}

// shell runs the Capstanfile's build command.
func (o *Options) shell(ctx context.Context) error {
	argv := []string{"/bin/sh", "-c", o.File.Build}
	if runtime.GOOS == "windows" {
		argv = []string{"cmd", "/c", o.File.Build}
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.Dir, o.Stderr, o.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: build: %s: %w", FileName, o.File.Build, err)
	}
	return nil
}

// Bytes writes a size for people: 4.1 MB.
func Bytes(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
