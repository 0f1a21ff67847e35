package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sort"
	"text/tabwriter"

	"osv/harness/design"
	"osv/harness/report"
)

type reportCmd struct {
	Dir  string `arg:"" help:"Results folder." type:"existingdir"`
	JSON bool   `help:"Print the summary as JSON instead of a table."`
}

func (c *reportCmd) Run(io streams) error {
	s, err := report.Write(c.Dir)
	if err != nil {
		return err
	}
	return printSummary(io.out, c.Dir, s, c.JSON)
}

type verifyCmd struct {
	Dir []string `arg:"" help:"Results folders." type:"existingdir"`
}

func (c *verifyCmd) Run(io streams) error {
	bad := false
	for _, dir := range c.Dir {
		problems, err := report.Verify(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if len(problems) == 0 {
			fmt.Fprintf(io.out, "%s: verified: hashes match, and every chart drawn again from the raw data is the same to the byte\n", dir)
			continue
		}
		bad = true
		for _, p := range problems {
			fmt.Fprintf(io.out, "%s: %s\n", dir, p)
		}
	}
	if bad {
		return failure{exitFailed}
	}
	return nil
}

type compareCmd struct {
	Old  string `arg:"" help:"Results folder of the earlier run." type:"existingdir"`
	New  string `arg:"" help:"Results folder of the later run." type:"existingdir"`
	All  bool   `help:"Every figure, not only those that changed."`
	JSON bool   `help:"As JSON."`
}

func (c *compareCmd) Run(io streams) error {
	old, err := report.Load(c.Old)
	if err != nil {
		return err
	}
	later, err := report.Load(c.New)
	if err != nil {
		return err
	}
	rs, err := report.Compare(old, later)
	if err != nil {
		return err
	}
	worse, better := 0, 0
	for _, r := range rs {
		if r.Worse {
			worse++
		}
		if r.Better {
			better++
		}
	}
	if c.JSON {
		enc := json.NewEncoder(io.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(rs); err != nil {
			return err
		}
	} else if err := c.table(io, rs, worse, better); err != nil {
		return err
	}
	if worse > 0 {
		return failure{exitFailed}
	}
	return nil
}

func (c *compareCmd) table(io streams, rs []report.Regression, worse, better int) error {
	tw := tabwriter.NewWriter(io.out, 0, 8, 2, ' ', 0)
	shown := 0
	sort.SliceStable(rs, func(i, j int) bool { return rs[i].Worse && !rs[j].Worse })
	for _, r := range rs {
		if !c.All && !r.Worse && !r.Better {
			continue
		}
		if shown == 0 {
			fmt.Fprintln(tw, "\tSYSTEM\tWORKLOAD\tPLACEMENT\tMETRIC\tOLD\tNEW\tCHANGE\t95 % CI\tCOUNTS FROM")
		}
		shown++
		m := design.MetricByName(r.Metric)
		verdict := "same"
		switch {
		case r.Worse:
			verdict = "WORSE"
		case r.Better:
			verdict = "better"
		}
		ci := r.Note
		if r.CI != nil {
			ci = fmt.Sprintf("[%+.1f, %+.1f] %%", (r.CI.Lo-1)*100, (r.CI.Hi-1)*100)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%+.1f %%\t%s\t%.1f %%\n", verdict, r.System, r.Workload, r.Placement, r.Metric, m.FormatUnit(r.Old), m.FormatUnit(r.New), (r.Change-1)*100, ci, r.Threshold*100)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(io.out, "%d figures compared: %d worse, %d better\n", len(rs), worse, better)
	return err
}

type publishCmd struct {
	Dir []string `arg:"" optional:"" help:"Results folders (default: every finished run in results/)." type:"existingdir"`
	Out string   `help:"Folder of the site." default:"results/site" type:"path"`
}

func (c *publishCmd) Run(io streams) error {
	dirs := c.Dir
	if len(dirs) == 0 {
		found, err := filepath.Glob("results/*/SHA256SUMS")
		if err != nil {
			return err
		}
		for _, f := range found {
			dirs = append(dirs, filepath.Dir(f))
		}
	}
	if err := report.Publish(dirs, c.Out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(io.out, "%d runs in %s\n", len(dirs), filepath.Join(c.Out, "index.html"))
	return err
}
