package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"osv/harness/bench"
	"osv/harness/design"
	"osv/harness/guest/linux"
	"osv/harness/vm"
	"osv/harness/wire"
)

// planFlags choose a plan; commands embed them.
type planFlags struct {
	Plan   string `help:"A plan that comes with the program: default, quick, full, flagship, iperf, unmodified or dry." default:"default" enum:"default,quick,full,flagship,iperf,unmodified,dry" placeholder:"NAME"`
	Config string `help:"Read the plan from this YAML file instead." type:"existingfile" placeholder:"FILE"`
	Quick  bool   `help:"Short for --plan=quick: two boots a side, no intervals."`
	Dry    bool   `help:"Short for --plan=dry: processes of this machine instead of guests; figures mean nothing."`
	AA     bool   `help:"Run the baseline against itself, to measure the noise." name:"aa"`
	Boots  int    `help:"Boots of each system; 6 or more give intervals." placeholder:"N"`
	Seed   uint64 `help:"Seed of the order of boots." placeholder:"N"`
}

// choose gives the plan that the flags ask for.
func (f planFlags) choose() (design.Plan, error) {
	name := f.Plan
	if f.Quick {
		name = "quick"
	}
	if f.Dry {
		name = "dry"
	}
	p := design.Plans()[name]
	if f.Config != "" {
		file, err := os.Open(f.Config)
		if err != nil {
			return p, err
		}
		defer file.Close()
		if p, err = design.Read(file); err != nil {
			return p, fmt.Errorf("%s: %w", f.Config, err)
		}
	}
	if f.Boots > 0 {
		p.Boots = f.Boots
	}
	if f.Seed > 0 {
		p.Seed = f.Seed
	}
	if f.AA {
		var err error
		if p, err = design.AA(p); err != nil {
			return p, err
		}
	}
	return p, p.Check()
}

// kindFlags say how guests are run.
type kindFlags struct {
	Accel  string `help:"Accelerator: auto (KVM where a guest really boots, else TCG), kvm or tcg." default:"auto" enum:"auto,kvm,tcg"`
	Wire   string `help:"Wire: auto, tap, user (QEMU's own network, slow, needs no privilege), or vhost-user (rings served by this program; UDP only)." default:"auto" enum:"auto,tap,user,vhost-user"`
	Module string `help:"Folder of the OSv module, for building appliances (default: found upwards from here)." type:"path" placeholder:"DIR"`
	Images string `help:"Folder of appliances that were built elsewhere; nothing is built then." type:"path" placeholder:"DIR"`
	Cache  string `help:"Folder of built images (default: osv/bench in the user's cache)." type:"path" placeholder:"DIR"`
}

// kinds makes the kinds of guests.
func (f kindFlags) kinds(log func(string)) (map[string]bench.Kind, *bench.QEMU, error) {
	cache := f.Cache
	if cache == "" {
		d, err := linux.DefaultCache()
		if err != nil {
			return nil, nil, err
		}
		cache = filepath.Join(d, "bench")
	}
	q := &bench.QEMU{Cache: cache, Log: log}
	if f.Accel != "auto" {
		q.Base.Accel = vm.Accel(f.Accel)
	}
	switch f.Wire {
	case "", "auto":
	case "vhost-user":
		q.VHost = true
	default:
		q.Wire.Kind = wire.Kind(f.Wire)
	}
	module := f.Module
	if module == "" {
		module = findModule()
	}
	return map[string]bench.Kind{"local": bench.Local{}, "linux": &bench.Linux{QEMU: q, Module: module, Images: f.Images}, "osv": &bench.OSv{QEMU: q, Module: module, Images: f.Images}}, q, nil
}

// findModule looks upwards for the module's root; "." where there is none.
func findModule() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := dir; ; d = filepath.Dir(d) {
		b, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module osv\n") {
			return d
		}
		if d == filepath.Dir(d) {
			return "."
		}
	}
}

type planCmd struct{ planFlags }

func (c *planCmd) Run(io streams) error {
	p, err := c.choose()
	if err != nil {
		return err
	}
	y, err := p.YAML()
	if err != nil {
		return err
	}
	_, err = io.out.Write(y)
	return err
}

type workloadsCmd struct {
	planFlags
	JSON bool `help:"As JSON."`
}

func (c *workloadsCmd) Run(io streams) error {
	p, err := c.choose()
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(io.out)
		enc.SetIndent("", "  ")
		return enc.Encode(p.Expanded())
	}
	tw := tabwriter.NewWriter(io.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tPORT\tMODE\tLOAD\tWINDOW\tWHAT")
	for _, w := range p.Expanded() {
		s := w.Spec.WithDefaults()
		how := fmt.Sprintf("%d outstanding, %d connections", s.Outstanding, s.Conns)
		if s.Rate > 0 {
			how = design.Number(s.Rate, 6) + " req/s"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%v\t%s\n", w.Name, w.Port, s.Mode, how, s.Duration, w.Title)
	}
	return tw.Flush()
}

type guestsCmd struct {
	planFlags
	kindFlags
	JSON bool `help:"As JSON."`
}

// guestLine is one system and what it can run here.
type guestLine struct {
	Name    string   `json:"name"`
	Guest   string   `json:"guest"`
	Profile string   `json:"profile"`
	Role    string   `json:"role"`
	Title   string   `json:"title"`
	Missing []string `json:"missing,omitempty"`
}

func (c *guestsCmd) Run(_ context.Context, io streams) error {
	p, err := c.choose()
	if err != nil {
		return err
	}
	kinds, _, err := c.kinds(nil)
	if err != nil {
		return err
	}
	var lines []guestLine
	for _, s := range p.Systems {
		l := guestLine{s.Name, s.Guest, s.Profile, string(s.Role), s.Title, nil}
		for _, svc := range p.Services() {
			k := kinds[s.Guest]
			if k == nil {
				l.Missing = append(l.Missing, "no guest of kind "+s.Guest)
				break
			}
			if err := k.Can(s, svc); err != nil {
				l.Missing = append(l.Missing, err.Error())
			}
		}
		lines = append(lines, l)
	}
	if c.JSON {
		enc := json.NewEncoder(io.out)
		enc.SetIndent("", "  ")
		return enc.Encode(lines)
	}
	tw := tabwriter.NewWriter(io.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tGUEST\tPROFILE\tROLE\tTITLE\tMISSING HERE")
	for _, l := range lines {
		missing := "-"
		if len(l.Missing) > 0 {
			missing = strings.Join(l.Missing, "; ")
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.Guest, l.Profile, l.Role, l.Title, missing)
	}
	return tw.Flush()
}
