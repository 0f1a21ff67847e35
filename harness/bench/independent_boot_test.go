//go:build boot

package bench

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/load"
	"osv/harness/vm"
)

// independentRounds is how often each of two generators measures, in turns A B B A;
// the median of the ratios of neighbours counts.
const independentRounds = 8

// agreement is how far apart two generators may be on the same guest and wire.
const agreement = 0.15

// rival is a generator that shares nothing with our engines.
type rival struct {
	name    string
	service string
	port    string
	engine  load.Spec // what ours does
	// ask is what the other does.
	ask func(t *testing.T, r *Runner, g Guest, client []int) seen
}

// seen is what a generator found: requests/s, and the share of the time that it ran.
type seen struct{ rate, cpu float64 }

// rivals are package plain, blocking sockets and not a line of the engines, and
// Debian's memcslap and wrk.
func rivals() []rival {
	const d, warm = time.Second, 200 * time.Millisecond
	spec := func(k load.Kind, conns, outstanding int) load.Spec {
		return load.Spec{Kind: k, Mode: load.Closed, Conns: conns, Outstanding: outstanding, Keys: 480, KeySize: "32", ValueSize: "32", Path: "/n/7",
			Warmup: load.Duration(warm), Duration: load.Duration(d)}
	}
	plain := func(k load.Kind, port string) func(*testing.T, *Runner, Guest, []int) seen {
		return func(t *testing.T, r *Runner, g Guest, client []int) seen {
			return measured(t, r, g, port, spec(k, 16, 1), client)
		}
	}
	memcslap := regexp.MustCompile(`Time to get\s+(\d+) keys by\s+\d+ threads:\s+([0-9.]+) seconds`)
	slap := spec(load.MemcachedTCP, 16, 1)
	slap.KeySize, slap.ValueSize = "uniform:20,60", "uniform:50,5000" // as memcslap's are (1.1.4)
	return []rival{
		{"plain, UDP", "memcached", design.MemcachedUDPPort, spec(load.MemcachedUDP, 16, 16), plain(load.PlainUDP, design.MemcachedUDPPort)},
		{"plain, TCP", "memcached", design.MemcachedTCPPort, spec(load.MemcachedTCP, 16, 1), plain(load.PlainTCP, design.MemcachedTCPPort)},
		{"memcslap, TCP", "memcached", design.MemcachedTCPPort, slap, func(t *testing.T, _ *Runner, g Guest, client []int) seen {
			host, port := target(t, g, design.MemcachedTCPPort)
			out, cpu := program(t, g, client, "memcslap", "--servers="+host+":"+port, "--concurrency=16", "--execute-number=400", "--test=get", "--tcp-nodelay")
			m := memcslap.FindStringSubmatch(out)
			if m == nil {
				t.Fatalf("memcslap said %q", out)
			}
			return seen{number(t, m[1]) / number(t, m[2]), cpu}
		}},
		{"wrk, HTTP", "http", design.HTTPPort, spec(load.HTTP, 16, 1), func(t *testing.T, _ *Runner, g Guest, client []int) seen {
			host, port := target(t, g, design.HTTPPort)
			out, cpu := program(t, g, client, "wrk", "-t1", "-c16", "-d1s", "http://"+host+":"+port+"/n/7")
			m := regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`).FindStringSubmatch(out)
			if m == nil || strings.Contains(out, "Non-2xx") {
				t.Fatalf("wrk said %q", out)
			}
			return seen{number(t, m[1]), cpu}
		}},
	}
}

// Our engines and generators that share nothing with them see the same rate of the
// same guest over the same wire, within 15 %, where the guest is the limit. It wants a
// host with little else to do.
func TestIndependentGeneratorsAgree(t *testing.T) {
	q := &QEMU{Cache: t.TempDir(), Base: vm.Spec{Accel: vm.TCG}}
	if err := q.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &Runner{LoadCommand: loadCommand}
	kinds := map[string]Kind{"linux": &Linux{QEMU: q, Module: "../.."}, "osv": &OSv{QEMU: q, Module: "../.."}}
	for _, sys := range []design.System{osvSystem(), {Name: "linux-stock", Title: "Linux", Guest: "linux", Profile: "stock", Role: design.Baseline}} {
		for _, service := range []string{"memcached", "http"} {
			var of []rival
			var ports []string
			for _, v := range rivals() {
				if v.service == service {
					of = append(of, v)
					if !slices.Contains(ports, v.port) {
						ports = append(ports, v.port)
					}
				}
			}
			g, err := r.startKind(t.Context(), kinds[sys.Guest], Config{System: sys, Service: service, CPUs: 1, MemMiB: 256, Ports: ports})
			if err != nil {
				t.Fatal(err)
			}
			client, err := g.Place(design.OneCore)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range of {
				t.Run(sys.Name+"/"+v.name, func(t *testing.T) { compareGenerators(t, r, g, v, client) })
			}
			if err := g.Stop(); err != nil {
				t.Error(err)
			}
		}
	}
}

func (r *Runner) startKind(ctx context.Context, k Kind, cfg Config) (Guest, error) {
	r.Kinds = map[string]Kind{cfg.System.Guest: k}
	return r.start(ctx, cfg)
}

func compareGenerators(t *testing.T, r *Runner, g Guest, v rival, client []int) {
	var ratios, ours, theirs, cpu []float64
	for i := range independentRounds {
		var a, b seen
		for n := range 2 {
			if (i+n)%2 == 0 {
				a = measured(t, r, g, v.port, v.engine, client)
			} else {
				b = v.ask(t, r, g, client)
			}
		}
		ours, theirs, ratios, cpu = append(ours, a.rate), append(theirs, b.rate), append(ratios, b.rate/a.rate), append(cpu, max(a.cpu, b.cpu))
	}
	mid := func(x []float64) float64 {
		s := slices.Sorted(slices.Values(x))
		return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
	}
	t.Logf("engine %.0f/s, %s %.0f/s, ratio %.3f (%d rounds, %.2f to %.2f), the busier of the two ran %.0f %% of the time", mid(ours), v.name, mid(theirs), mid(ratios), len(ratios), slices.Min(ratios), slices.Max(ratios), 100*mid(cpu))
	switch m := mid(ratios); {
	case mid(cpu) > load.MaxClientCPU:
		t.Logf("a generator was the limit, not the guest: no comparison")
	case m < 1-agreement || m > 1+agreement:
		t.Errorf("%s sees %.3f of the engine's rate, want within %.0f %%", v.name, m, agreement*100)
	}
}

// measured is what one of our generators sees.
func measured(t *testing.T, r *Runner, g Guest, port string, spec load.Spec, client []int) seen {
	t.Helper()
	res, err := r.measure(t.Context(), g, design.Workload{Port: port, Spec: spec}, client, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if res.Wrong+res.Errors > 0 || res.Rate <= 0 {
		t.Fatalf("%s: %+v", spec.Kind, res)
	}
	return seen{res.Rate, res.ClientCPU}
}

func target(t *testing.T, g Guest, port string) (host, number string) {
	t.Helper()
	addr, err := g.Addr(port)
	if err != nil {
		t.Fatal(err)
	}
	host, number, _ = strings.Cut(addr, ":")
	return host, number
}

// program runs one of Debian's generators on the client's cores, and says which share
// of the time it ran.
func program(t *testing.T, g Guest, client []int, name string, args ...string) (string, float64) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	var cores []string
	for _, c := range client {
		cores = append(cores, strconv.Itoa(c))
	}
	cmd := exec.Command("taskset", append([]string{"-c", strings.Join(cores, ","), name}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := g.Run(t.Context(), cmd); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out.String())
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return out.String(), cpu.Seconds() / time.Since(began).Seconds()
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
