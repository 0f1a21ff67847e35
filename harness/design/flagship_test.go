package design

import (
	"slices"
	"strings"
	"testing"
)

// In the flagship plan a workload that is a share of another comes after it, and the
// reflector is a boot of its own that Linux has no part in.
func TestFlagship(t *testing.T) {
	p := Flagship()
	if !p.Claims() || !slices.Equal(p.Services(), []string{"memcached", "reflector"}) {
		t.Errorf("%d boots, services %v", p.Boots, p.Services())
	}
	for _, g := range p.Groups() {
		seen := map[string]bool{}
		for _, w := range p.Windows(g) {
			load := p.Workloads[slices.IndexFunc(p.Workloads, func(l Workload) bool { return l.Name == w.Cell.Workload })]
			if load.RateOf != "" && !seen["linux-stock/"+load.RateOf] {
				t.Errorf("%s on %s has no rate to be a share of", w.Cell.Workload, w.Cell.System)
			}
			seen[w.Cell.System+"/"+w.Cell.Workload] = true
			if g[0].Service == "reflector" && w.Cell.System != "osv" {
				t.Errorf("%s runs the reflector", w.Cell.System)
			}
		}
	}
	// The XDP cache has a part in UDP alone, and no other system lost a workload to it.
	for _, w := range p.Workloads {
		if w.Runs("linux-xdp") != (w.Name == "udp-get" || w.Name == "udp-set") || w.Name == "tcp-get-64" && len(w.Systems) != len(p.Systems)-1 {
			t.Errorf("%s runs on %v", w.Name, w.Systems)
		}
	}
	for want, change := range map[string]func(w *Workload){
		"earlier": func(w *Workload) { w.RateOf = "none" },
		"share":   func(w *Workload) { w.RateShare = 0 },
	} {
		p := Flagship()
		change(&p.Workloads[4])
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
