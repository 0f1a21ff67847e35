package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"osv/capstan/build"
	"osv/capstan/hypervisor"
	"osv/capstan/repo"
	"osv/harness/diskimage"
)

type buildCmd struct {
	What string `arg:"" optional:"" default:"." help:"Folder of a Capstanfile or a Go main package; or the image's name, for the Capstanfile here."`

	Tag      string   `short:"t" help:"Name of the image; the folder's if empty." placeholder:"NAME[:TAG]"`
	Platform []string `short:"p" help:"Formats: of qemu, vbox, vmw, gce, firecracker, or by name (esxi, vhd, raw, …), or all. The kernel itself is always kept, and run makes what is missing." default:"qemu" placeholder:"FORMAT"`
	Mem      string   `short:"m" help:"Memory of the machine (512M)." placeholder:"SIZE"`
	CPUs     int      `short:"c" name:"cpus" help:"vCPUs of the machine."`
	Cmdline  string   `short:"e" help:"Kernel command line." placeholder:"LINE"`
	Data     string   `help:"Size of a data partition." placeholder:"SIZE"`
	GoTags   string   `help:"Go build tags." placeholder:"TAGS"`
	Verbose  bool     `short:"v" help:"Print what the image's command line will be, and each step."`
}

func (c *buildCmd) Run(a *app) error {
	dir := c.What
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		if strings.ContainsAny(c.What, `/\`) {
			return fmt.Errorf("%s: no such folder", c.What)
		}
		dir = "."
		if c.Tag == "" {
			c.Tag = c.What
		}
		if _, err := os.Stat(build.FileName); err != nil {
			return fmt.Errorf("%s: no such folder, and no %s here", c.What, build.FileName)
		}
	}
	f, err := build.Read(dir)
	if err != nil {
		return err
	}
	c.into(&f)
	_, err = a.build(dir, c.Tag, f, c.Platform, c.Verbose)
	return err
}

// into overrides the Capstanfile by flags.
func (c *buildCmd) into(f *build.File) {
	for to, v := range map[*string]string{&f.Memory: c.Mem, &f.CmdLine: c.Cmdline, &f.Data: c.Data, &f.Tags: c.GoTags} {
		if v != "" {
			*to = v
		}
	}
	if c.CPUs != 0 {
		f.CPUs = c.CPUs
	}
}

// build makes an image and says so.
func (a *app) build(dir, tag string, f build.File, platforms []string, verbose bool) (repo.Image, error) {
	if tag == "" {
		tag = f.Name
	}
	if tag == "" {
		var err error
		if tag, err = build.Name(dir); err != nil {
			return repo.Image{}, err
		}
	}
	ref, err := repo.ParseRef(tag)
	if err != nil {
		return repo.Image{}, usage{err}
	}
	formats, err := formatsOf(platforms)
	if err != nil {
		return repo.Image{}, usage{err}
	}
	s, err := a.store()
	if err != nil {
		return repo.Image{}, err
	}
	say := a.say
	if !verbose {
		say = func(string, ...any) {}
	}
	img, err := build.Build(a.ctx, s, build.Options{Dir: dir, Ref: ref, File: f, Formats: formats, Stderr: a.err, Say: say})
	if err != nil {
		return img, err
	}
	a.say("built %s: %s, %s", img.Ref, build.Bytes(img.Size), strings.Join(img.Formats(), " "))
	return img, nil
}

// formatsOf translates hypervisors and format names into formats.
func formatsOf(platforms []string) (out []string, err error) {
	for _, p := range platforms {
		if p == "all" {
			for _, f := range diskimage.Formats {
				out = append(out, f.Name)
			}
			continue
		}
		if h, err := hypervisor.Find(p); err == nil {
			out = append(out, h.Format())
			continue
		}
		if _, err := diskimage.Find(p); err != nil {
			return nil, fmt.Errorf("-p %s: no hypervisor or format", p)
		}
		out = append(out, p)
	}
	return out, nil
}

type composeCmd struct {
	Image   string `arg:"" help:"Name of the image." placeholder:"NAME[:TAG]"`
	Package string `arg:"" help:"Folder of the Go main package." type:"existingdir"`
	Files   string `arg:"" optional:"" help:"Folder whose files the program finds at rootfs/ (//go:embed all:rootfs)." type:"existingdir"`

	Cmdline string `short:"c" help:"Kernel command line." placeholder:"LINE"`
	Data    string `short:"s" help:"Size of a data partition." placeholder:"SIZE"`
	Verbose bool   `short:"v" help:"Print each step."`
}

func (c *composeCmd) Run(a *app) error {
	f := build.File{CmdLine: c.Cmdline, Data: c.Data}
	if c.Files != "" {
		rel, err := filepath.Rel(c.Package, c.Files)
		if err != nil {
			return err
		}
		f.RootFS = rel
	}
	_, err := a.build(c.Package, c.Image, f, []string{"qemu"}, c.Verbose)
	return err
}

type importCmd struct {
	Image string `arg:"" help:"Name of the image." placeholder:"NAME[:TAG]"`
	File  string `arg:"" type:"existingfile" help:"Kernel ELF, QCOW2 or raw disk."`

	Version     string   `short:"v" help:"Version of what is in it."`
	Created     string   `short:"c" help:"When it was made, RFC 3339." placeholder:"TIME"`
	Description string   `short:"d" help:"One line about it."`
	Build       string   `short:"b" help:"What it was built on." placeholder:"TEXT"`
	Mem         string   `short:"m" help:"Memory of the machine." default:"256M" placeholder:"SIZE"`
	Port        []string `help:"Port that run forwards. May repeat." placeholder:"PORT"`
}

func (c *importCmd) Run(a *app) error {
	ref, err := repo.ParseRef(c.Image)
	if err != nil {
		return usage{err}
	}
	mem, err := build.ParseMem(c.Mem)
	if err != nil {
		return usage{err}
	}
	conf := repo.Config{Title: c.Description, Version: c.Version, Platform: c.Build, MemMiB: mem, Ports: c.Port}
	if c.Created != "" {
		if err := conf.Created.UnmarshalText([]byte(c.Created)); err != nil {
			return usagef("--created=%s: want RFC 3339, as 2026-11-24T12:00:00Z", c.Created)
		}
	}
	s, err := a.store()
	if err != nil {
		return err
	}
	img, err := build.Import(s, ref, c.File, conf)
	if err != nil {
		return err
	}
	a.say("imported %s: %s, %s", img.Ref, build.Bytes(img.Size), strings.Join(img.Formats(), " "))
	return nil
}

type packageCmd struct {
	Init packageInitCmd `cmd:"" help:"Write a Capstanfile, and a Go program where there is none."`
	List imagesCmd      `cmd:"" help:"List the images in the store (the same as capstan images)."`
}

type packageInitCmd struct {
	Dir string `arg:"" optional:"" default:"." help:"Folder, made if it is not there."`

	Name    string `short:"n" help:"Name of the image; the folder's if empty."`
	Title   string `short:"t" help:"One line about it."`
	Version string `short:"v" help:"Its version."`
	Base    string `help:"Image whose kernel is used, instead of a Go program." placeholder:"NAME"`
}

const program = `package main

import (
	"fmt"

	"osv/kernel/platform"
)

func main() {
	s := platform.Start()
	fmt.Println("hello", s.Options.Args)
}
`

func (c *packageInitCmd) Run(a *app) error {
	f := build.File{Name: c.Name, Title: c.Title, Version: c.Version, Base: c.Base}
	if f.Name == "" {
		name, err := build.Name(c.Dir)
		if err != nil {
			return err
		}
		f.Name = name
	}
	if _, err := repo.ParseRef(f.Name); err != nil {
		return usage{err}
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	b, err := yamlOf(f)
	if err != nil {
		return err
	}
	if err := create(filepath.Join(c.Dir, build.FileName), b); err != nil {
		return err
	}
	a.say("wrote %s", filepath.Join(c.Dir, build.FileName))
	if goFiles, _ := filepath.Glob(filepath.Join(c.Dir, "*.go")); len(goFiles) > 0 || c.Base != "" {
		return nil
	}
	if err := create(filepath.Join(c.Dir, "main.go"), []byte(program)); err != nil {
		return err
	}
	if err := a.module(c.Dir, f.Name); err != nil {
		return err
	}
	a.say("wrote %s; build it: capstan build %s", filepath.Join(c.Dir, "main.go"), c.Dir)
	return nil
}

// module makes a Go module of a folder that is in none, on the kernel of the module
// that this is called in.
func (a *app) module(dir, name string) error {
	in := func(dir string, args ...string) string {
		cmd := exec.CommandContext(a.ctx, "go", args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	if mod := in(dir, "env", "GOMOD"); mod != "" && mod != os.DevNull && mod != "NUL" {
		return nil
	}
	osv := in("", "list", "-m", "-f", "{{.Dir}}", "osv")
	if osv == "" {
		a.say("%s is in no Go module: make one that requires osv (go mod init), or call this in a folder of the osv module", dir)
		return nil
	}
	mod, err := os.ReadFile(filepath.Join(osv, "go.mod"))
	if err != nil {
		return err
	}
	sum, err := os.ReadFile(filepath.Join(osv, "go.sum"))
	if err != nil {
		return err
	}
	_, rest, ok := strings.Cut(string(mod), "\n") // all but the module's name
	if !ok {
		return fmt.Errorf("%s: no module", filepath.Join(osv, "go.mod"))
	}
	text := fmt.Sprintf("module %s\n%s\nrequire osv v0.0.0\n\nreplace osv => %s\n", name, rest, strconv.Quote(osv))
	return errors.Join(create(filepath.Join(dir, "go.mod"), []byte(text)), create(filepath.Join(dir, "go.sum"), sum))
}

// create writes a file that must not be there.
func create(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
	}
	return err
}
