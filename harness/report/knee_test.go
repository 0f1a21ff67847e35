package report

import (
	"strings"
	"testing"

	"osv/harness/design"
	"osv/harness/journal"
	"osv/harness/load"
	"osv/harness/load/search"
)

// A knee has a chart with the limit in it, a ratio and a claim; where the client may
// have been the limit at the rate that was too much, it is drawn hollow, and not
// claimed.
func TestKnee(t *testing.T) {
	for _, bound := range []bool{false, true} {
		w := reference()
		w.light = true
		w.plan.Placements = w.plan.Placements[:1]
		w.plan.Workloads = []design.Workload{w.plan.Workloads[0], {Name: "udp-get-knee", Title: "memcached UDP GET, as much as p99 permits", Port: design.MemcachedUDPPort,
			Knee: &design.Knee{Low: 500, High: 256000, Tolerance: 0.05, Repeats: 3}, Spec: load.Spec{Kind: load.MemcachedUDP, Mode: load.Open, Rate: 500}}}
		w.plan.Profiles = nil
		w.edit = func(s *journal.Sample) {
			if s.Cell.Workload != "udp-get-knee" {
				return
			}
			low := 0.8 * w.capacity(s.Cell.System) * (1 + 0.01*float64(s.Pair))
			s.Metrics = map[string]float64{"knee": low}
			s.Knee = &search.Knee{Low: low, High: low * 1.04, Points: []search.Point{{Rate: low, Passed: true}, {Rate: low * 1.04, Bound: bound && s.Cell.System == "osv"}}}
		}
		w.osv = 1
		dir := t.TempDir()
		w.write(t, dir)
		withoutPictures(t)
		s, err := Write(dir)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		c, ok := d.knees(s)
		if !ok || !strings.Contains(c.Subtitle, "within 10ms") || !strings.Contains(strings.ReplaceAll(c.Title, "\u00a0", " "), "OSv 50,020 req/s") {
			t.Errorf("chart %v: %q, %q", ok, c.Title, c.Subtitle)
		}
		found := false
		for _, r := range s.Cells {
			if r.Metric != "knee" || r.Profile != "stock" {
				continue
			}
			found = true
			if r.Claimable == bound || r.Unit != "req/s" || !r.Higher || bound && !strings.Contains(r.Why, "too much") || r.OSv.ClientBound != bound {
				t.Errorf("bound %v: %+v", bound, r)
			}
		}
		claims := d.Claims(s)
		at, split := strings.Index(claims, "highest rate within the limit of p99 latency"), strings.Index(claims, unclaimsHeading)
		if !found || at < 0 {
			t.Fatalf("row %v, claims %s", found, claims)
		}
		if bound && !strings.Contains(claims[split:], "as much as p99 permits") || !bound && at > split {
			t.Errorf("bound %v: %s", bound, claims)
		}
	}
}
