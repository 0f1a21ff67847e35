package bench

import (
	"bytes"
	"context"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"osv/harness/design"
	"osv/harness/load"
	"osv/harness/load/udp"
)

func TestBusyHost(t *testing.T) {
	r := &Runner{speeds: map[design.Cell][]float64{}}
	c := design.Cell{System: "a"}
	at := func(insn float64) load.Result {
		return load.Result{Seconds: 1, Completed: 1, Probes: map[string]float64{"insn": insn, "vcpu": 1e9}}
	}
	for i := range usualFrom { // one that is far faster is not what is usual
		if s := r.hostSpeed(c, at([]float64{2e8, 9e8}[i&1&(i>>1)])); s != 1 {
			t.Errorf("window %d has speed %v", i, s)
		}
	}
	slow := at(1e8)
	if s := r.hostSpeed(c, slow); s != 0.5 || !strings.Contains(busyHost(slow, design.Split, s), "50 %") {
		t.Errorf("speed %v: %q", s, busyHost(slow, design.Split, s))
	}
	if s := r.hostSpeed(c, load.Result{}); s != 1 {
		t.Errorf("speed %v where nothing is counted", s)
	}
	// A slow window is measured again twice, in all a fifth of the run's windows.
	r.total, r.speeds[c] = 20, slices.Repeat([]float64{0.2}, 40)
	for i, want := range []bool{true, true, false, true, true} {
		try := i%3 + 1
		if why := r.onceMore(c, slow, try); (why != "") != want {
			t.Errorf("window %d, try %d: %q", i/3, try, why)
		}
	}
	if why := r.onceMore(c, slow, 1); why != "" || r.again != 4 {
		t.Errorf("after %d repeats of 20 windows: %q", r.again, why)
	}
	if why := r.onceMore(c, load.Result{Lost: 1}, 1); why == "" || r.again != 4 {
		t.Errorf("a lost request: %q, %d repeats for a busy host", why, r.again)
	}
	waits := load.Result{Seconds: 1, Probes: map[string]float64{"vcpu_wait": 0.3e9, "main": 0.1e9}}
	if s := busyHost(waits, design.OneCore, 1); !strings.Contains(s, "20 %") {
		t.Error(s)
	}
	stolen := load.Result{Probes: map[string]float64{"seconds": 2, "steal": 0.2e9 * float64(runtime.NumCPU())}}
	if s := busyHost(stolen, design.OneCore, 1); !strings.Contains(s, "took 10 %") {
		t.Error(s)
	}
	if s := busyHost(load.Result{Seconds: 1}, design.OneCore, 1); s != "" {
		t.Error(s)
	}
}

type frameGuest struct{ *nullGuest }

func (g frameGuest) Frames(port string) (udp.Port, error) { return udp.OpenSocket(g.udp.Addr, 1) }

type frameKind struct{ *nullKind }

func (k frameKind) Boot(ctx context.Context, cfg Config) (Guest, error) {
	g, err := k.nullKind.Boot(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return frameGuest{g.(*nullGuest)}, nil
}

// A guest whose wire is in this process is loaded from this process.
func TestFrameGuest(t *testing.T) {
	r := runner(t, t.TempDir(), nil)
	r.Kinds["null"] = frameKind{&nullKind{}}
	r.LoadCommand = []string{"false"}
	r.Plan.Workloads = r.Plan.Workloads[:1]
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, samples, _, _ := entries(t, r.Dir); len(samples) != 8 {
		t.Errorf("%d samples", len(samples))
	}
}

func TestServeLoadRefusals(t *testing.T) {
	for _, in := range []string{"", "{", `{"spec":{},"what":1}`, `{"spec":{"kind":"nope"}}`, `{"spec":{"kind":"memcached-udp"},"cpus":[9999]}`} {
		if err := ServeLoad(context.Background(), strings.NewReader(in), &bytes.Buffer{}); err == nil {
			t.Errorf("%q accepted", in)
		}
	}
}

func TestVerdict(t *testing.T) {
	open := load.Result{Spec: load.Spec{Kind: load.MemcachedUDP, Mode: load.Open}, Seconds: 1, Offered: 1000, Rate: 700, Lost: 200}
	kept := open
	kept.Rate = 990
	noisy := open
	noisy.Probes = map[string]float64{"vcpu_wait": 0.5e9}
	closed := open
	closed.Spec.Mode = load.Closed
	wrong := open
	wrong.Wrong = 1
	iperf := load.Result{Spec: load.Spec{Kind: load.Iperf, IperfUDP: true}, Lost: 5}
	for name, c := range map[string]struct {
		r    load.Result
		want bool
	}{"overload": {open, true}, "loss at a rate that was kept": {kept, false}, "overload of a starved vCPU": {noisy, false}, "closed loop": {closed, false},
		"wrong replies": {wrong, false}, "iperf over UDP": {iperf, true}, "clean": {load.Result{Completed: 1}, true}, "silence": {load.Result{}, false}} {
		if got, why := verdict(c.r, design.Split); got != c.want || got != (why == "") {
			t.Errorf("%s: %v %q", name, got, why)
		}
	}
}

func TestMetrics(t *testing.T) {
	m := Metrics(load.Result{Spec: load.Spec{Kind: load.Iperf}, BitRate: 1e9}, design.Split)
	if !reflect.DeepEqual(m, map[string]float64{"bit_rate": 1e9}) {
		t.Errorf("%v", m)
	}
	m = Metrics(load.Result{Spec: load.Spec{Kind: load.MemcachedUDP}, Rate: 50, Completed: 100, Seconds: 2, ClientCPU: 0.5,
		Probes: map[string]float64{"interrupts": 50, "doorbells": 0, "halts": 20, "sensitive": 100, "exits": 300, "insn": 2.3e6, "vcpu": 1e7, "main": 2e6, "vcpu_wait": 1.002e9}, Latency: load.Quantiles{P50: 1, P99: 2, P999: 3}}, design.OneCore)
	want := map[string]float64{"interrupts": 0.5, "doorbells": 0, "halts": 0.2, "sensitive": 1, "exits": 3, "rate": 50, "p50": 1, "p99": 2, "p999": 3, "instructions": 23000, "vcpu_ns": 1e5, "main_ns": 2e4, "client_ns": 1e7, "host_wait": 0.5}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("%v", m)
	}
}
