// Command images builds appliances as disk images in every format, with an index and
// SHA-256 sums, and reads or changes the command line in an image:
//
//	images build ./appliances/memcached --format all --out build/images
//	images cmdline build/images/memcached.qcow2 --set '--ip=eth0,10.0.0.2,24 -- -m 64'
//
// Exit status: 0 done, 1 failed, 2 wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	flags "osv/harness/internal/cli"

	"osv/harness/diskimage"
	"osv/harness/image"
)

type cli struct {
	Build   buildCmd   `cmd:"" help:"Build appliances as images; the index in the output folder is kept up to date."`
	Cmdline cmdlineCmd `cmd:"" help:"Print the command line in a raw or QCOW2 image, or change it."`
	Formats formatsCmd `cmd:"" help:"List the formats."`

	out, err io.Writer
	ctx      context.Context
}

type buildCmd struct {
	Packages []string `arg:"" name:"package" help:"Main packages, as for go build (./appliances/memcached), or kernel ELF files."`
	Format   []string `help:"Formats, or all." default:"all" short:"f"`
	Out      string   `help:"Folder for the images, index.json and SHA256SUMS." default:"build/images" short:"o" type:"path"`
	Name     string   `help:"Name of the appliance; the last element of the package if empty. Only with one package."`
	Cmdline  string   `help:"Kernel command line in the image." short:"a"`
	Mem      int      `help:"Memory of the machine, MiB." default:"256" short:"m"`
	CPUs     int      `help:"vCPUs of the machine." default:"1" name:"cpus" short:"c"`
	Data     int      `help:"Size of a data partition, MiB; 0 is none." default:"0"`
	Tags     string   `help:"Build tags."`
}

type cmdlineCmd struct {
	Image string  `arg:"" type:"existingfile" help:"Image: raw or QCOW2."`
	Set   *string `help:"The new command line; '' is none." placeholder:"LINE"`
}

type formatsCmd struct{}

func main() { flags.Main(run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := cli{out: stdout, err: stderr, ctx: ctx}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	if code, done := flags.Parse("images", "Build appliances as disk images.", &c, args, stdout, stderr); done {
		return code
	}
	err := c.do()
	var u usage
	switch {
	case err == nil:
		return 0
	case errors.As(err, &u):
		fmt.Fprintf(stderr, "images: %v (images --help)\n", err)
		return flags.Usage
	}
	fmt.Fprintf(stderr, "images: %v\n", err)
	return 1
}

// usage is an error of the command line.
type usage struct{ error }

func (c *cli) do() error {
	switch {
	case len(c.Build.Packages) > 0:
		return c.build()
	case c.Cmdline.Image != "":
		return c.cmdline()
	}
	return c.formats()
}

func (c *cli) formats() error {
	for _, f := range diskimage.Formats {
		fmt.Fprintf(c.out, "%-12s NAME%-15s %s\n", f.Name, f.Suffix, f.For)
	}
	return nil
}

func (c *cli) cmdline() error {
	if c.Cmdline.Set != nil {
		return diskimage.SetCommandLine(c.Cmdline.Image, *c.Cmdline.Set)
	}
	line, err := diskimage.ReadCommandLine(c.Cmdline.Image)
	if err == nil {
		fmt.Fprintln(c.out, line)
	}
	return err
}

// wanted are the formats asked for, in their own order and once each.
func (b *buildCmd) wanted() (list []diskimage.Format, err error) {
	asked := map[string]bool{}
	for _, name := range b.Format {
		if name != "all" {
			if _, err := diskimage.Find(name); err != nil {
				return nil, usage{err}
			}
		}
		asked[name] = true
	}
	for _, f := range diskimage.Formats {
		if asked["all"] || asked[f.Name] {
			list = append(list, f)
		}
	}
	return list, nil
}

func (c *cli) build() error {
	b := &c.Build
	formats, err := b.wanted()
	if err != nil {
		return err
	}
	if b.Name != "" && len(b.Packages) > 1 {
		return usage{fmt.Errorf("--name=%s for %d packages", b.Name, len(b.Packages))}
	}
	if b.Data < 0 {
		return usage{fmt.Errorf("--data=%d", b.Data)}
	}
	if err := os.MkdirAll(b.Out, 0o755); err != nil {
		return err
	}
	total := len(b.Packages) * (1 + len(formats))
	step := 0
	progress := func(format string, args ...any) {
		step++
		fmt.Fprintf(c.err, "[%d/%d] %s\n", step, total, fmt.Sprintf(format, args...))
	}
	var files []diskimage.File
	for _, pkg := range b.Packages {
		name := b.Name
		if name == "" {
			name = strings.TrimSuffix(path.Base(filepath.ToSlash(filepath.Clean(pkg))), ".elf")
		}
		progress("%s: kernel", name)
		elf, err := b.kernel(pkg)
		if err != nil {
			return err
		}
		s := diskimage.Source{
			Kernel:  elf,
			Machine: diskimage.Machine{Name: name, MemMiB: b.Mem, CPUs: b.CPUs},
			Options: diskimage.Options{CommandLine: b.Cmdline, DataBytes: int64(b.Data) << 20},
		}
		for _, f := range formats {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			start := time.Now()
			out, err := s.Write(f, b.Out)
			if err != nil {
				return err
			}
			progress("%s: %d bytes, %.1f s", out.File, out.Bytes, time.Since(start).Seconds())
			files = append(files, out)
		}
	}
	if err := diskimage.WriteIndex(b.Out, files); err != nil {
		return err
	}
	for _, f := range files {
		fmt.Fprintf(c.out, "%-28s %12d  %s\n", f.File, f.Bytes, f.SHA256)
	}
	return nil
}

// kernel links a package without symbols, or reads an ELF file.
func (b *buildCmd) kernel(pkg string) ([]byte, error) {
	if st, err := os.Stat(pkg); err == nil && st.Mode().IsRegular() {
		return os.ReadFile(pkg)
	}
	dir, err := os.MkdirTemp(b.Out, ".kernel-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	elf := filepath.Join(dir, "kernel.elf")
	if err := image.BuildWith(pkg, elf, image.Options{Strip: true, Tags: b.Tags}); err != nil {
		return nil, err
	}
	return os.ReadFile(elf)
}
