package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"sort"
	"strings"

	"osv/harness/design"
	"osv/harness/load"
	"osv/harness/plot"
	"osv/harness/stats"
)

//go:embed report.html.tmpl
var reportTemplate string

var page = template.Must(template.New("report").Parse(reportTemplate))

type htmlChart struct {
	ID, Short, Title, Subtitle, File, PNG string
	SVG                                   template.HTML
	Table                                 plot.Table
}

type parityRow struct {
	Name, Class, Reason string
	Values              []string
}

// htmlProfile is a table of functions.
type htmlProfile struct {
	Caption string
	Rows    []profileRow
}

type profileRow struct{ Function, Share, Each string }

// profiles shows where instructions go, in the order of the plan.
func (d *Data) profiles() []htmlProfile {
	var out []htmlProfile
	for _, p := range d.Profiles {
		w, _ := d.workload(p.Workload)
		h := htmlProfile{Caption: fmt.Sprintf("%s, %s, %s: %s instructions a request, from one boot of its own with %s requests; %d smaller functions are left out",
			d.title(p.System), w.Title, placementText(p.Placement), design.Number(p.Instructions, 4), design.Number(float64(p.Requests), 1), p.Others)}
		if g := p.Guest; g != nil {
			h.Caption += fmt.Sprintf("; the guest itself counted (REST API): processors %.0f %% busy, %s of %s MiB free, %s frames by net channels or handlers, %s by the slow path",
				100*g.CPU, design.Number(float64(g.MemFree)/(1<<20), 3), design.Number(float64(g.MemTotal)/(1<<20), 3), design.Number(float64(g.FastFrames), 1), design.Number(float64(g.SlowFrames), 1))
		}
		for _, f := range p.Functions {
			h.Rows = append(h.Rows, profileRow{f.Function, fmt.Sprintf("%.1f %%", 100*f.Share), design.Number(f.Share*p.Instructions, 3)})
		}
		out = append(out, h)
	}
	return out
}

type named struct{ Name, Text, Value string }

// inks maps the inks of package plot to the page's variables, so that inlined
// charts follow light and dark.
var inks = map[string]string{
	"#1F2328": "--ink", "#57606A": "--muted", "#8C959F": "--axis", "#E5E8EB": "--grid", "#FFFFFF": "--paper", "#ECEEF1": "--mark",
	"#F6F7F9": "--shade", "#8A9099": "--unsure", "#0072B2": "--ours", "#D55E00": "--base", "#B37400": "--rival", "#009E73": "--variant", "#A65D8C": "--other",
}

var hexColor = regexp.MustCompile(`#[0-9A-Fa-f]{6}\b`)
var svgSize = regexp.MustCompile(`<svg width="[^"]*" height="[^"]*"`)

// inline prepares a chart's SVG for the page: no prolog, sized by the page, in
// the page's inks.
func inline(svg []byte) template.HTML {
	s := string(svg)
	if i := strings.Index(s, "<svg"); i > 0 {
		s = s[i:]
	}
	s = svgSize.ReplaceAllString(s, `<svg aria-hidden="true"`)
	s = hexColor.ReplaceAllStringFunc(s, func(c string) string {
		if v := inks[strings.ToUpper(c)]; v != "" {
			return "var(" + v + ")"
		}
		return c
	})
	return template.HTML(s) // made by package plot, which escapes its texts
}

// html renders report.html.
func (d *Data) html(charts []drawn, claims string) ([]byte, error) {
	v := struct {
		Title, Lead      string
		Banners          []string
		Charts           []htmlChart
		Claims, Unclaims []string
		Systems          []string
		Parity           []parityRow
		Lines            []named
		Method           []string
		Host             []named
		Failures         []string
		HDRCount         int
		Profiles         []htmlProfile
	}{Title: "Benchmark " + d.Plan.Name, Lead: d.lead(), Banners: d.banners(), Parity: d.parity(), Method: d.method(), Profiles: d.profiles()}
	for _, c := range charts {
		v.Charts = append(v.Charts, htmlChart{ID: c.Name, Short: strings.ReplaceAll(c.Name, "-", " "), Title: c.Title, Subtitle: c.Subtitle,
			File: chartsDir + "/" + c.Name + ".svg", PNG: chartsDir + "/" + c.Name + ".png", SVG: inline(c.svg), Table: c.Table})
	}
	section := ""
	for _, l := range strings.Split(claims, "\n") {
		if strings.HasPrefix(l, "## ") {
			section = l
		}
		if item, ok := strings.CutPrefix(l, "- "); ok && section == claimsHeading {
			v.Claims = append(v.Claims, item)
		} else if ok {
			v.Unclaims = append(v.Unclaims, item)
		}
	}
	for _, s := range d.Plan.Systems {
		v.Systems = append(v.Systems, s.Title)
		for _, b := range d.Boots {
			if b.Boot.System == s.Name {
				v.Lines = append(v.Lines, named{Name: s.Title, Text: b.Line})
				break
			}
		}
	}
	for k, x := range d.Meta.Host {
		v.Host = append(v.Host, named{Name: k, Value: x})
	}
	sort.Slice(v.Host, func(i, j int) bool { return v.Host[i].Name < v.Host[j].Name })
	for _, f := range d.Failures {
		where := fmt.Sprintf("boot %d, attempt %d", f.Boot+1, f.Attempt)
		if f.Cell != nil {
			where += ", " + f.Cell.Workload + " on " + f.Cell.System
		}
		end := ""
		if f.Final {
			end = " (given up)"
		}
		v.Failures = append(v.Failures, where+": "+f.Error+end)
	}
	v.Failures = append(v.Failures, d.disturbances()...)
	for _, s := range d.Samples {
		if s.HDR != "" {
			v.HDRCount++
		}
	}
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return b.Bytes(), nil
}

func (d *Data) lead() string {
	var names []string
	for _, s := range d.Plan.Systems {
		names = append(names, s.Title)
	}
	return fmt.Sprintf("%s. %d boots a side, begun %s. Accelerator: %s. Commit %s.", strings.Join(names, ", "), d.Plan.Boots,
		d.Meta.Started.UTC().Format("2006-01-02 15:04 UTC"), d.accelText(), firstOf(d.Meta.Commit, "unknown"))
}

// banners are what a reader must know before any figure.
func (d *Data) banners() []string {
	var out []string
	switch d.Accelerator() {
	case "tcg":
		out = append(out, "Measured under TCG, QEMU's emulation of a processor. The figures compare how much work each guest makes for an emulator. They are not hardware performance, and no ratio of them is a headline.")
	case "none":
		out = append(out, "No guest was booted: these are processes of this machine, run to try the harness. The figures mean nothing.")
	case "mixed":
		out = append(out, "The boots of this run used different accelerators. Nothing here can be compared.")
	}
	if !d.Plan.Claims() {
		out = append(out, fmt.Sprintf("%d boots a side are a look, not a measurement: intervals need %d.", d.Plan.Boots, stats.MinBoots))
	}
	if d.Plan.AA {
		out = append(out, "A run of one system against itself, to measure the noise of the rig.")
	}
	if d.Meta.Dirty {
		out = append(out, "The work tree had changes that are in no commit.")
	}
	notes := map[string]bool{}
	for _, b := range d.Boots {
		if b.WireNote != "" && !notes[b.WireNote] {
			notes[b.WireNote] = true
			out = append(out, "Wire: "+b.WireNote+".")
		}
	}
	for _, w := range d.Meta.Warnings {
		out = append(out, "Host: "+w)
	}
	return out
}

// parity sets what the guests were given side by side.
func (d *Data) parity() []parityRow {
	values := map[string]map[string]string{}
	var names []string
	for _, b := range d.Boots {
		for k, v := range b.Parity {
			if values[k] == nil {
				values[k] = map[string]string{}
				names = append(names, k)
			}
			values[k][b.Boot.System] = v
		}
	}
	sort.Strings(names)
	var out []parityRow
	for _, n := range names {
		r := parityRow{Name: n, Reason: d.Plan.Allow[n]}
		same := true
		for i, s := range d.Plan.Systems {
			v := values[n][s.Name]
			r.Values = append(r.Values, v)
			same = same && (i == 0 || v == r.Values[0])
		}
		switch {
		case same:
			r.Reason = ""
		case r.Reason != "":
			r.Class = "allowed"
		default:
			r.Class, r.Reason = "differs", "not allowed for: a difference in what was given"
		}
		out = append(out, r)
	}
	return out
}

// method describes the run in sentences.
func (d *Data) method() []string {
	var order []string
	for _, b := range d.Plan.Schedule() {
		order = append(order, d.title(b.System))
	}
	if len(order) > 12 {
		order = append(order[:12], "…")
	}
	var where []string
	for _, p := range d.Plan.Placements {
		where = append(where, placementText(string(p)))
	}
	out := []string{
		"A replicate is a boot. Boots are interleaved, each block in a random order and then in the reverse one: " + strings.Join(order, ", ") + ".",
		"Every boot measures every cell, with the guest's threads placed in each of these ways: " + strings.Join(where, "; ") + ".",
		"Ratios are geometric means of paired boots; their 95 % intervals are paired t intervals on logarithms, checked by Welch's t and a bootstrap. Medians have distribution-free intervals. Fewer than six boots give no interval.",
		"Latency counts from the intended send time. Closed-loop loads find a ceiling; their latency is not shown.",
		"Every reply is compared with what the request must give. Samples with a lost, late or wrong reply are left out and listed.",
		"A figure is client-bound, drawn hollow and never claimed, when the p99 of the generator's send lag is over 10 % of p99 latency, its CPU time over 80 %, or over 50 % at a rate of more than 90 % of what it reaches against a null server.",
	}
	if d.Plan.Together {
		out = append(out, "The guests of a half block are alive at once, all but the one under load stopped by the hypervisor; windows of a cell go round the guests, and back in the next round. A boot's value is the median of its windows, and a pair's ratio the median of the ratios of neighbouring windows.")
	}
	if d.Repeat != nil {
		out = append(out, d.repeats())
	}
	for _, s := range d.Samples {
		if _, ok := s.Metrics["interrupts"]; ok {
			out = append(out, "Interrupts (with exceptions) are counted by the guest's returns from them, queue notifications by its 16-bit stores to a device, halts by its hlt instructions, within the measured windows.")
			break
		}
	}
	var ceilings []string
	for w, r := range d.Ceilings {
		ceilings = append(ceilings, w+" "+design.Number(r, 4)+"/s")
	}
	slices.Sort(ceilings)
	if len(ceilings) > 0 {
		out = append(out, "The generator against the null server on loopback: "+strings.Join(ceilings, ", ")+".")
	}
	return append(out, d.Notes...)
}

// repeats states the rule by which windows were measured again, and how often it
// struck each system.
func (d *Data) repeats() string {
	p := func(v float64) string { return design.Number(v*100, 2) + " %" }
	r := d.Repeat
	again, all := map[string]int{}, map[string]int{}
	for _, s := range d.Samples {
		all[s.Cell.System]++
		if len(s.Again) > 0 {
			again[s.Cell.System]++
		}
	}
	var counts []string
	for _, s := range d.Plan.Systems {
		if n := all[s.Name]; n > 0 {
			counts = append(counts, fmt.Sprintf("%s %d of %d", s.Title, again[s.Name], n))
		}
	}
	return fmt.Sprintf("A window is measured again, at most %d times, where requests were lost, where the host kept the vCPU waiting more than %s of the time or was itself kept from more than %s of its cores' time, and where the vCPU executed fewer than %s of the instructions per nanosecond of its time that are usual (the median) for this cell in this run: its core was slow. One rule holds for all systems, and repeats for a busy host are at most %s of the run's windows. Windows that were measured again: %s.",
		r.Tries-1, p(r.Wait), p(r.Steal), p(r.Speed), p(r.Share), strings.Join(counts, ", "))
}

// disturbed is the share of a window in which the host kept a vCPU waiting from
// which on a sample is listed.
const disturbed = 0.10

// disturbances lists the samples in which the host was busy with something else,
// or the guest stood still.
func (d *Data) disturbances() []string {
	var out []string
	for _, s := range d.Samples {
		where := fmt.Sprintf("boot %d, %s on %s, %s: ", s.Boot+1, s.Cell.Workload, s.Cell.System, s.Cell.Placement)
		if w := s.Metrics["host_wait"]; w > disturbed {
			out = append(out, fmt.Sprintf("%sthe host kept the vCPU waiting %.0f %% of the time", where, w*100))
		}
		if v := s.Metrics["host_steal"]; v > disturbed/2 {
			out = append(out, fmt.Sprintf("%sthe host's own hypervisor took %.0f %% of its cores' time", where, v*100))
		}
		still := 0
		for _, n := range s.Result.Timeline {
			if n == 0 {
				still++
			}
		}
		if still > 0 && s.Result.Rate*load.TimelineStep/1e9 > 20 {
			out = append(out, fmt.Sprintf("%sno reply in %d of %d tenths of a second", where, still, len(s.Result.Timeline)))
		}
	}
	return out
}
