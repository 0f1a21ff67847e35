package design

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"osv/harness/load"
)

func TestBuiltInPlansAreSoundAndSurviveYAML(t *testing.T) {
	for name, p := range Plans() {
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		y, err := p.YAML()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Read(bytes.NewReader(y))
		if err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("%s does not survive YAML: %v\n%s", name, err, y)
		}
	}
	if !Default().Claims() || Quick().Claims() {
		t.Error("the default plan claims, the quick one does not")
	}
	// The bar is 15 minutes from cold caches: a busy host repeats a fifth of the
	// windows, which are half of the time, and builds take less than a minute.
	if d := Default().Estimate(SeenCosts, nil); d > 12*time.Minute+45*time.Second || d < 5*time.Minute {
		t.Errorf("the default plan takes about %v", d)
	}
}

// Every block has each system twice for each service, the second half mirrors
// the first, and the seed fixes the order.
func TestScheduleIsInterleaved(t *testing.T) {
	p := Default()
	s := p.Schedule()
	if len(s) != 36 {
		t.Fatalf("%d boots", len(s))
	}
	reps := map[string]int{}
	for i, b := range s {
		k := b.System + b.Service
		if b.Index != i || b.Pair != i/6 || b.Block != i/12 || b.Replicate != reps[k] {
			t.Errorf("boot %d: %+v", i, b)
		}
		reps[k]++
	}
	for block := range 3 {
		for svc := range 2 {
			first, second := s[block*12+svc*3:][:3], s[block*12+6+svc*3:][:3]
			for i := range 3 {
				if first[i].System != second[2-i].System || first[i].Service != second[i].Service || first[i].Service != first[0].Service {
					t.Errorf("block %d, service %d is no palindrome: %v %v", block, svc, first, second)
				}
			}
			if reflect.DeepEqual(first[0].Placements, second[0].Placements) {
				t.Error("the order of placements does not alternate")
			}
		}
	}
	first := map[string]bool{}
	for seed := range uint64(20) {
		p.Seed = seed
		first[p.Schedule()[0].System] = true
	}
	if len(first) != 3 {
		t.Errorf("only %v ever come first", first)
	}
	if !reflect.DeepEqual(Default().Schedule(), s) {
		t.Error("the same seed gives another order")
	}
	p.Boots = 3
	p.Workloads = p.Workloads[:4]
	if n := len(p.Schedule()); n != 9 {
		t.Errorf("%d boots for 3 a side", n)
	}
	p = Default()
	for i := range p.Workloads {
		if Service(p.Workloads[i].Port) == "iperf3" {
			p.Workloads[i].Systems = []string{"osv"}
		}
	}
	if n := len(p.Schedule()); n != 6*4 {
		t.Errorf("%d boots where one system alone runs iperf3", n)
	}
}

func TestServices(t *testing.T) {
	if got := fmt.Sprint(Default().Services()); got != "[memcached iperf3]" {
		t.Error(got)
	}
	for port, want := range map[string]string{"tcp:80": "http", "tcp:9042": "cassandra", "udp:53": "udp:53"} {
		if got := Service(port); got != want {
			t.Errorf("%s: %s", port, got)
		}
	}
}

func TestCells(t *testing.T) {
	p := Default()
	p.Workloads[0].Systems = []string{"osv"}
	b := p.Schedule()[0]
	b.System = "linux-stock"
	cells := p.Cells(b)
	if want := 2*2 + 3; len(cells) != want {
		t.Errorf("%d cells, want %d: %v", len(cells), want, cells)
	}
	var names []string
	for _, w := range p.Expanded() {
		names = append(names, w.Name)
		if w.Family != "" && (w.Spec.Mode != load.Open || !strings.HasSuffix(w.Name, fmt.Sprintf("@%.0f", w.Spec.Rate))) {
			t.Errorf("%+v", w)
		}
	}
	if got := strings.Join(names, " "); got != "udp-get udp-set tcp-get udp-get-open@1000 udp-get-open@4000 udp-get-open@16000 iperf-in iperf-out" {
		t.Error(got)
	}
}

func TestAA(t *testing.T) {
	p, err := AA(Default())
	if err != nil || p.Check() != nil || len(p.Systems) != 2 || !p.AA {
		t.Fatalf("%+v %v", p, err)
	}
	if a, b := p.Systems[0], p.Systems[1]; a.Profile != b.Profile || a.Guest != b.Guest || a.Name == b.Name {
		t.Errorf("%+v %+v", a, b)
	}
	if _, err := AA(Plan{}); err == nil {
		t.Error("no baseline, no error")
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(p *Plan){
		"name":          func(p *Plan) { p.Name = "No Good" },
		"boots":         func(p *Plan) { p.Boots = 0 },
		"vCPUs":         func(p *Plan) { p.CPUs = 0 },
		"at least one":  func(p *Plan) { p.Workloads = nil },
		"used twice":    func(p *Plan) { p.Systems[1].Name = p.Systems[0].Name },
		"role":          func(p *Plan) { p.Systems[1].Role = "judge" },
		"no guest":      func(p *Plan) { p.Systems[1].Guest = "" },
		"at most one":   func(p *Plan) { p.Systems[1].Role = Baseline },
		"placement":     func(p *Plan) { p.Placements = []Placement{"anywhere"} },
		"workload name": func(p *Plan) { p.Workloads[1].Name = p.Workloads[0].Name },
		"unknown kind":  func(p *Plan) { p.Workloads[1].Spec.Kind = "?" },
		"profile":       func(p *Plan) { p.Profiles = []string{"nothing"} },
		"101 windows":   func(p *Plan) { p.Workloads[1].Windows = 101 },
		"no placement":  func(p *Plan) { p.Workloads[1].Placements = []Placement{Free} },
		"no system":     func(p *Plan) { p.Workloads[1].Systems = []string{"vms"} },
	} {
		p := Default()
		change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	if _, err := Read(strings.NewReader("name: x\nbotts: 3\n")); err == nil || !strings.Contains(err.Error(), "botts") {
		t.Errorf("a misspelt key is not named: %v", err)
	}
}

func TestLookups(t *testing.T) {
	p := Default()
	if s, ok := p.System("osv"); !ok || s.Role != Subject {
		t.Error(s)
	}
	if _, ok := p.System("vms"); ok {
		t.Error("found a system that is not there")
	}
	if s, ok := p.WithRole(Baseline); !ok || s.Name != "linux-stock" {
		t.Error(s)
	}
	if _, ok := p.WithRole(Variant); ok {
		t.Error("found a role that is not there")
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		v    float64
		d    int
		want string
	}{{0, 3, "0"}, {6424, 4, "6,424"}, {1234567.8, 4, "1,234,568"}, {0.0123456, 3, "0.0123"}, {9.87654, 3, "9.88"}, {100, 3, "100"},
		{-4321.5, 3, "-4,322"}, {999.96, 4, "1,000.0"}, {1e-20, 3, "0.000000000000"}} {
		if got := Number(c.v, c.d); got != c.want {
			t.Errorf("Number(%v, %d) = %q, want %q", c.v, c.d, got, c.want)
		}
	}
	if got := MetricByName("p99").FormatUnit(9_400_000); got != "9,400 µs" {
		t.Error(got)
	}
	if got := MetricByName("bit_rate").FormatUnit(1060e6); got != "1,060 Mbit/s" {
		t.Error(got)
	}
	if got := MetricByName("odd").FormatUnit(2); got != "2.000" {
		t.Error(got)
	}
	if got := Number(0/zero, 3); got != "NaN" {
		t.Error(got)
	}
}

var zero float64

func TestLimit(t *testing.T) {
	p, why := Default().Limit(func(s System, service string) error {
		if s.Guest == "osv" && service == "iperf3" {
			return fmt.Errorf("no appliance")
		}
		return nil
	})
	if len(why) != 1 || why[0] != "OSv does not run iperf3: no appliance" || p.Check() != nil {
		t.Errorf("%q %v", why, p.Check())
	}
	for _, b := range p.Schedule() {
		if b.System == "osv" && b.Service == "iperf3" {
			t.Fatal("booted all the same")
		}
	}
	if p, why := Default().Limit(func(System, string) error { return fmt.Errorf("no") }); len(p.Workloads) != 0 || len(why) != 6 {
		t.Errorf("%v %v", p.Workloads, why)
	}
	if p, why := Default().Limit(func(System, string) error { return nil }); len(why) != 0 || !reflect.DeepEqual(p, Default()) {
		t.Error("a plan without limits changes")
	}
}

// Windows of a cell alternate between the guests that are alive at once, each round
// in the reverse order of the one before.
func TestWindowsAlternate(t *testing.T) {
	p := Default()
	groups := p.Groups()
	if len(groups) != 12 {
		t.Fatalf("%d groups for 6 half blocks of 2 services", len(groups))
	}
	g := groups[0]
	ws := p.Windows(g)
	if want := 3 * (2*3*6 + 3); len(ws) != want {
		t.Errorf("%d windows, want %d", len(ws), want)
	}
	seen := map[Window]bool{}
	for i, w := range ws {
		if seen[w] {
			t.Errorf("%+v comes twice", w)
		}
		seen[w] = true
		if i < 3 && (w.Boot != g[i].Index || ws[5-i].Boot != w.Boot || ws[5-i].N != 1 || w.N != 0 || ws[5-i].Cell != w.Cell) {
			t.Errorf("window %d of A B C C B A: %+v and %+v", i, w, ws[5-i])
		}
	}
	p.Together = false
	if n := len(p.Groups()); n != 36 {
		t.Errorf("%d groups where each boot is alone", n)
	}
	if p.Windows(nil) != nil {
		t.Error("windows of nothing")
	}
}

func TestEstimate(t *testing.T) {
	p := Default()
	all := p.Estimate(SeenCosts, nil)
	g := p.Groups()[0]
	less := p.Estimate(SeenCosts, func(w Window) bool { return w.Boot >= 0 && w.Boot <= g[2].Index })
	var want time.Duration
	loads := map[string]Workload{}
	for _, w := range p.Expanded() {
		loads[w.Name] = w
	}
	for _, w := range p.Windows(g) {
		want += SeenCosts.Window(loads[w.Cell.Workload])
	}
	for _, b := range g {
		s, _ := p.System(b.System)
		want += of(SeenCosts.Boot, s.Guest) + p.Idle.Std()
	}
	if all-less != want {
		t.Errorf("a group less is %v less, want %v", all-less, want)
	}
	if d := p.Estimate(SeenCosts, func(Window) bool { return true }); d != 0 {
		t.Errorf("%v left of a run that is done", d)
	}
	if d := of(SeenCosts.Boot, "local"); d <= 0 || d >= time.Second {
		t.Errorf("a process takes %v to start", d)
	}
}
