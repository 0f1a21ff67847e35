package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"osv/harness/deploy"
)

type manifestsCmd struct {
	Registry string `help:"Where the container images are." default:"registry.example/osv" placeholder:"REGISTRY"`
	Out      string `help:"Folder to write to." default:"kubevirt" type:"path" placeholder:"DIR"`
	CPUs     int    `help:"vCPUs of each guest." default:"1" name:"cpus"`
	MemMiB   int    `help:"Memory of each guest." default:"256" name:"mem" placeholder:"MIB"`
}

func (c *manifestsCmd) Run(io streams) error {
	files, err := deploy.Default(c.Registry, c.CPUs, c.MemMiB).Files()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return err
	}
	var names []string
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(c.Out, name), b, 0o644); err != nil {
			return err
		}
		names = append(names, filepath.Join(c.Out, name))
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintln(io.out, n)
	}
	return nil
}
