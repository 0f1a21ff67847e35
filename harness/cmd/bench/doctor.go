package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"osv/harness/doctor"
)

type doctorCmd struct {
	JSON bool `help:"As JSON."`
}

// examine looks at the host; tests replace it.
var examine = func(ctx context.Context) []doctor.Check { return doctor.Examine(ctx, hostOf(true)) }

func (c *doctorCmd) Run(ctx context.Context, io streams) error {
	checks := examine(ctx)
	if c.JSON {
		enc := json.NewEncoder(io.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(checks); err != nil {
			return err
		}
	} else {
		tw := tabwriter.NewWriter(io.out, 0, 8, 2, ' ', 0)
		for _, k := range checks {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", k.Level, k.Name, k.Value, k.Advice)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	if doctor.Worst(checks) == doctor.Fail {
		return failure{exitFailed}
	}
	return nil
}
