//go:build boot

package soak

import (
	"flag"
	"testing"
)

// The scenarios as tests of the real guests, as short as they make sense:
//
//	go test -tags boot -run 'TestBoot/mc-garbage' ./harness/soak
//	go test -tags boot -timeout 30m ./harness/soak -soak.duration=10m -run TestBoot/mc-garbage
//
// harness/cmd/soak runs them in full and prints the figures as they come.
var duration = flag.Duration("soak.duration", 0, "length of each load that lasts; 0 = seconds")

func TestBoot(t *testing.T) {
	runner := NewRunner(Config{Module: "../..", Cache: t.TempDir(), Logs: t.ArtifactDir(), Short: *duration == 0, Duration: *duration, Log: t.Logf})
	for _, s := range Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			if s.LongOnly && *duration == 0 {
				t.Skip("only in a long run: -soak.duration")
			}
			res, err := runner.Run(t.Context(), s)
			for _, f := range res.Figures {
				t.Logf("%s: %g %s", f.Name, f.Value, f.Unit)
			}
			switch {
			case err != nil:
				t.Fatal(err)
			case res.Skipped != "":
				t.Skip(res.Skipped)
			case res.Failed != "":
				t.Error(res.Failed)
			}
		})
	}
}
