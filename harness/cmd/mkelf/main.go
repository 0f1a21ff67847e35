// Command mkelf builds a Go main package as a bootable ELF: go build with the
// kernel's link flags plus the post-link step (harness/image).
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"osv/harness/image"
)

type cli struct {
	Package string `arg:"" help:"Main package, as for go build (./appliances/memcached)."`
	Out     string `short:"o" required:"" help:"Where the ELF goes." placeholder:"FILE"`
	Strip   bool   `short:"s" help:"Drop symbols and DWARF; FILE.sym keeps them for GDB."`
	Tags    string `help:"Build tags."`
}

func main() {
	var c cli
	kong.Parse(&c, kong.Name("mkelf"), kong.Description("Build a Go main package as a bootable OSv ELF."))
	o := image.Options{Strip: c.Strip, Tags: c.Tags}
	if c.Strip {
		o.KeepSymbols = c.Out + ".sym"
	}
	if err := image.BuildWith(c.Package, c.Out, o); err != nil {
		fmt.Fprintln(os.Stderr, "mkelf:", err)
		os.Exit(1)
	}
}
