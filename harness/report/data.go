// Package report turns the raw data of a run into what people read: summary.json,
// claims.md, charts, and one report.html that works offline.
//
// Everything it writes follows from the files that the run left (plan.yaml,
// meta.json, raw/) and from nothing else: no clock, no random numbers but seeded
// ones, no look at this machine. So "bench verify" can draw it all again and
// compare to the byte, and a manifest of hashes guards the raw data.
//
// What may be said is decided here, in one place: a figure counts when its
// samples are clean (no loss, no wrong reply), a ratio is claimed when both sides
// have enough boots and the client was not the limit, and a sentence is published
// when the linter (lint.go) finds n, interval, absolute values and accelerator in
// it.
//
// Who may use it: the command line. May import: design, journal, load (to read
// histograms), plot, stats. Start reading at data.go, then summary.go, charts.go.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"osv/harness/design"
	"osv/harness/journal"
	"osv/harness/load"
)

// Files of a results folder, beside those of package bench.
const (
	metaFile     = "meta.json"
	planFile     = "plan.yaml"
	journalFile  = "raw/journal.jsonl"
	summaryFile  = "summary.json"
	claimsFile   = "claims.md"
	htmlFile     = "report.html"
	chartsDir    = "charts"
	manifestFile = "SHA256SUMS"
)

// Meta is what a run knows of its surroundings, written when it ends.
type Meta struct {
	Format   int               `json:"format"`
	Name     string            `json:"name"`
	Commit   string            `json:"commit"`
	Dirty    bool              `json:"dirty"` // the work tree had changes
	Started  time.Time         `json:"started"`
	Finished time.Time         `json:"finished"`
	Command  string            `json:"command"`
	Tool     string            `json:"tool"` // Go version and module
	Host     map[string]string `json:"host"` // facts of the host, by name
	Warnings []string          `json:"warnings,omitempty"`
}

// MetaFormat is the version of meta.json.
const MetaFormat = 1

// WriteMeta writes meta.json into a results folder.
func WriteMeta(dir string, m Meta) error {
	m.Format = MetaFormat
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, metaFile), append(b, '\n'), 0o644)
}

// Data is the raw data of one run.
type Data struct {
	Dir      string
	Plan     design.Plan
	Meta     Meta
	Boots    []journal.Boot // the last good attempt of each
	Samples  []journal.Sample
	Facts    []journal.Fact
	Ceilings map[string]float64 // by workload
	Failures []journal.Failure
	Profiles []journal.Profile
	Notes    []string
	Repeat   *journal.Repeat // the rule for busy windows; nil in runs of before it was stated

	figs map[key]*Figure // see figures
}

// Load reads a results folder.
func Load(dir string) (*Data, error) {
	d := &Data{Dir: dir, Ceilings: map[string]float64{}}
	y, err := os.ReadFile(filepath.Join(dir, planFile))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if d.Plan, err = design.Read(bytes.NewReader(y)); err != nil {
		return nil, err
	}
	m, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(m))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d.Meta); err != nil {
		return nil, fmt.Errorf("report: %s: %w", metaFile, err)
	}
	entries, err := journal.Read(filepath.Join(dir, journalFile))
	if err != nil {
		return nil, err
	}
	d.collect(entries)
	if len(d.Samples) == 0 && len(d.Boots) == 0 {
		return nil, fmt.Errorf("report: %s holds no samples", dir)
	}
	return d, nil
}

func (d *Data) collect(entries []journal.Entry) {
	last := map[int]int{}
	for _, e := range entries {
		switch {
		case e.Header != nil:
			d.Repeat = e.Header.Repeat
		case e.Boot != nil:
			if i, ok := last[e.Boot.Boot.Index]; ok {
				d.Boots[i] = *e.Boot
				continue
			}
			last[e.Boot.Boot.Index] = len(d.Boots)
			d.Boots = append(d.Boots, *e.Boot)
		case e.Sample != nil:
			d.Samples = append(d.Samples, *e.Sample)
		case e.Fact != nil:
			d.Facts = append(d.Facts, *e.Fact)
		case e.Profile != nil:
			d.Profiles = append(d.Profiles, *e.Profile)
		case e.Ceiling != nil:
			d.Ceilings[e.Ceiling.Workload] = e.Ceiling.Rate
		case e.Failure != nil:
			d.Failures = append(d.Failures, *e.Failure)
		case e.Note != nil:
			d.Notes = append(d.Notes, e.Time.Format(time.RFC3339)+" "+e.Note.Text)
		}
	}
	slices.SortFunc(d.Boots, func(a, b journal.Boot) int { return a.Boot.Index - b.Boot.Index })
}

// Accelerator is how the guests of the run were executed: kvm, tcg, none (local
// processes), or mixed.
func (d *Data) Accelerator() string {
	accel := ""
	for _, b := range d.Boots {
		switch {
		case accel == "":
			accel = b.Accel
		case accel != b.Accel:
			return "mixed"
		}
	}
	return accel
}

// Hardware reports whether the figures are those of virtualised hardware, the
// only ones that may have a ratio in a headline.
func (d *Data) Hardware() bool { return d.Accelerator() == "kvm" }

// accelText is the accelerator as sentences name it.
func (d *Data) accelText() string {
	switch a := d.Accelerator(); a {
	case "kvm":
		return "KVM"
	case "tcg":
		return "TCG (emulation)"
	case "none":
		return "none (local processes, not guests)"
	default:
		return a
	}
}

// watermark is what charts carry.
func (d *Data) watermark() string {
	switch d.Accelerator() {
	case "kvm":
		return ""
	case "tcg":
		return "TCG EMULATION"
	case "none":
		return "NO GUESTS: TEST"
	}
	return "MIXED ACCELERATORS"
}

// workload finds an expanded workload by name.
func (d *Data) workload(name string) (design.Workload, bool) {
	for _, w := range d.Plan.Expanded() {
		if w.Name == name {
			return w, true
		}
	}
	return design.Workload{}, false
}

// guard applies the client guard to a sample, with the ceiling of its workload. A
// knee is bound by the client also where the client was the limit at the rate that
// was too much.
func (d *Data) guard(s journal.Sample) load.Guard {
	if s.Knee != nil {
		for _, p := range s.Knee.Points {
			if p.Rate == s.Knee.High && p.Bound {
				return load.Guard{ClientBound: true, Reason: fmt.Sprintf("at %.0f/s, the lowest rate that was too much, the client may have been the limit", p.Rate)}
			}
		}
	}
	return load.Judge(s.Result, d.Ceilings[s.Cell.Workload])
}
