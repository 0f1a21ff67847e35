// Command rootfs makes the ext4 root disk of a guest that runs a Linux program
// (harness/rootfs).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"osv/harness/rootfs"
)

type cli struct {
	Spec     string        `arg:"" optional:"" help:"Description, appliances/linux/NAME.yaml; options add to it." type:"existingfile"`
	Packages []string      `short:"p" help:"Debian packages; what they depend on comes along." placeholder:"NAME,…"`
	Without  []string      `help:"Packages to leave out, in place of the usual ones." placeholder:"NAME,…"`
	File     []string      `short:"f" sep:"none" help:"A file or directory of this host: SRC:DST[:MODE]." placeholder:"SRC:DST"`
	Link     []string      `sep:"none" help:"A symbolic link: TEXT:DST." placeholder:"TEXT:DST"`
	Dir      []string      `sep:"none" help:"An empty directory: DST[:MODE]." placeholder:"DST"`
	Size     string        `help:"Size of the image, as 64M; without it what is needed and a quarter." placeholder:"SIZE"`
	Free     string        `help:"Free space besides, without --size." placeholder:"SIZE"`
	Out      string        `short:"o" required:"" help:"Where the image goes." placeholder:"FILE"`
	Cache    string        `help:"Where downloaded packages are kept." placeholder:"DIR"`
	Timeout  time.Duration `default:"20m" help:"Longest time for it all."`
	Quiet    bool          `short:"q" help:"Print nothing but errors."`
}

const help = `Make the ext4 root disk of a guest that runs a Linux program.

  rootfs appliances/linux/linux-memcached.yaml -o memcached.img
  rootfs --packages memcached --file ./my.conf:/etc/memcached.conf --size 64M -o out.img
  rootfs --file ./hello:/hello:755 -o hello.img`

func main() {
	var c cli
	kong.Parse(&c, kong.Name("rootfs"), kong.Description(help))
	if err := c.run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (c *cli) run() error {
	s, err := c.spec()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cfg := rootfs.Config{Cache: c.Cache}
	if !c.Quiet {
		cfg.Log = os.Stderr
	}
	_, err = rootfs.Build(ctx, s, c.Out, cfg)
	return err
}

// spec is the description with what the options add.
func (c *cli) spec() (rootfs.Spec, error) {
	var s rootfs.Spec
	if c.Spec != "" {
		var err error
		if s, err = rootfs.Load(c.Spec); err != nil {
			return s, err
		}
	}
	s.Packages = append(s.Packages, c.Packages...)
	if c.Without != nil {
		s.Without = c.Without
	}
	for _, f := range c.File {
		x, err := rootfs.ParseFile(f)
		if err != nil {
			return s, err
		}
		s.Files = append(s.Files, x)
	}
	for _, l := range c.Link {
		i := strings.LastIndexByte(l, ':')
		if i <= 0 || i == len(l)-1 {
			return s, fmt.Errorf("rootfs: link %q: want TEXT:DST", l)
		}
		s.Files = append(s.Files, rootfs.File{Link: l[:i], Dst: l[i+1:]})
	}
	for _, d := range c.Dir {
		dst, mode, _ := strings.Cut(d, ":")
		s.Files = append(s.Files, rootfs.File{Dst: dst, Dir: true, Mode: mode})
	}
	if c.Size != "" {
		s.Size = c.Size
	}
	if c.Free != "" {
		s.Free = c.Free
	}
	return s, nil
}
