package design

import (
	"fmt"
	"time"

	"osv/harness/load"
)

// The ports of the services under test.
const (
	MemcachedUDPPort = "udp:11211"
	MemcachedTCPPort = "tcp:11211"
	IperfPort        = "tcp:5201"
	HTTPPort         = "tcp:80"
)

// knee is the search for the highest rate of UDP GET within the plan's limit of p99
// latency.
func knee(measure float64) Workload {
	return Workload{Name: "udp-get-knee", Title: "memcached UDP GET, as much as p99 permits", Port: MemcachedUDPPort,
		Knee: &Knee{Low: 500, High: 256000, Tolerance: 0.05, Repeats: 3},
		Spec: load.Spec{Kind: load.MemcachedUDP, Mode: load.Open, Conns: 1, Outstanding: 8192, Keys: 1000, KeySize: "32", ValueSize: "32",
			Warmup: seconds(measure / 4), Duration: seconds(measure)}}
}

func seconds(s float64) load.Duration { return load.Duration(s * float64(time.Second)) }

// workloads of the default plan. 32 outstanding over UDP, since memcached on
// Linux loses datagrams above that (harness.md §2.6). measure is the time of all
// windows of a boot together.
func workloads(measure float64, windows int) []Workload {
	mem := func(name, title, port string, s load.Spec) Workload {
		each := measure / float64(windows)
		s.Warmup, s.Duration, s.Mode = seconds(each/4), seconds(each), load.Closed
		s.Keys, s.KeySize, s.ValueSize = 1000, "32", "32"
		return Workload{Name: name, Title: title, Port: port, Spec: s, Windows: windows}
	}
	return []Workload{
		mem("udp-get", "memcached UDP GET, 32 outstanding", MemcachedUDPPort, load.Spec{Kind: load.MemcachedUDP, Outstanding: 32, Conns: 1}),
		mem("udp-set", "memcached UDP SET, 32 outstanding", MemcachedUDPPort, load.Spec{Kind: load.MemcachedUDP, Outstanding: 32, Conns: 1, SetRatio: 1}),
		mem("tcp-get", "memcached TCP GET, 16 connections", MemcachedTCPPort, load.Spec{Kind: load.MemcachedTCP, Outstanding: 1, Conns: 16}),
	}
}

// curve is the open-loop latency curve of UDP GET.
func curve(measure float64, rates ...float64) Workload {
	return Workload{Name: "udp-get-open", Title: "memcached UDP GET at a fixed rate", Port: MemcachedUDPPort, Rates: rates,
		Spec: load.Spec{Kind: load.MemcachedUDP, Mode: load.Open, Conns: 1, Keys: 1000, KeySize: "32", ValueSize: "32",
			Warmup: seconds(measure / 4), Duration: seconds(measure)}}
}

// iperfBoth is bulk TCP in both directions; iperf3 takes whole seconds.
func iperfBoth(measure float64, windows int) []Workload {
	in := Workload{Name: "iperf-in", Title: "iperf3 TCP, into the guest", Port: IperfPort, Windows: windows,
		Spec: load.Spec{Kind: load.Iperf, Mode: load.Closed, Conns: 1, Duration: seconds(measure / float64(windows))}}
	out := in
	out.Name, out.Title = "iperf-out", "iperf3 TCP, out of the guest"
	out.Spec.IperfReverse = true
	return []Workload{in, out}
}

// The systems of the default plan.
func linuxStock() System {
	return System{Name: "linux-stock", Title: "Linux (stock)", Guest: "linux", Profile: "stock", Role: Baseline}
}

func linuxTuned() System {
	return System{Name: "linux-tuned", Title: "Linux (tuned)", Guest: "linux", Profile: "tuned", Role: Rival}
}

func osv() System {
	return System{Name: "osv", Title: "OSv", Guest: "osv", Profile: "memcached", Role: Subject}
}

// Default is the plan of "make bench": at most 15 minutes on two cores under
// TCG, six boots a side. The latency curve is measured in one placement; Full has
// time for both.
func Default() Plan {
	open := curve(0.8, 1000, 4000, 16000)
	open.Placements = []Placement{OneCore}
	return Plan{Name: "default", Systems: []System{linuxStock(), linuxTuned(), osv()},
		Workloads:  append(append(workloads(1.5, 6), open), iperfBoth(1, 1)...),
		Placements: []Placement{OneCore, Split}, Boots: 6, Starts: 6, Together: true, CPUs: 1, MemMiB: 256, Seed: 1, Idle: seconds(1), RAMFloor: true,
		Instructions: true, Profiles: []string{"udp-get"}, SLO: seconds(0.010), Allow: allowed()}
}

// allowed are the differences between the guests that are what is compared.
func allowed() map[string]string {
	return map[string]string{
		"kernel":       "the kernels are what is compared",
		"command line": "each kernel has its own options",
		"service":      "each guest runs its own server, with the threads its profile gives",
		"mitigations":  "stock Linux has its defaults, tuned has none; OSv has no boundary to protect",
		"profile":      "stock and tuned are both shown",
	}
}

// Full takes its time: ten boots a side, five seconds a load, more rates and
// shapes of load, among them Facebook's ETC mix (30 GETs to one SET) and the
// client that a Go program would use; the knee, and HTTP.
func Full() Plan {
	p := Default()
	p.Name, p.Boots = "full", 10
	p.Profiles = []string{"udp-get", "udp-set", "tcp-get"}
	p.Workloads = append(append(workloads(5, 10), shapes(5)...), curve(5, 1000, 2000, 4000, 6000, 8000, 16000, 32000))
	p.Workloads = append(p.Workloads, knee(0.5))
	p.Workloads = append(p.Workloads, iperfBoth(5, 5)...)
	p.Workloads = append(p.Workloads, http(2, 4)...)
	return p
}

// shapes are the loads that only the full plan has time for.
func shapes(measure float64) []Workload {
	tcp := func(name, title string, s load.Spec) Workload {
		s.Warmup, s.Duration, s.Mode, s.Seed = seconds(measure/4), seconds(measure), load.Closed, 1
		if s.Keys == 0 {
			s.Keys, s.KeySize, s.ValueSize = 1000, "32", "32"
		}
		return Workload{Name: name, Title: title, Port: MemcachedTCPPort, Spec: s}
	}
	etc := load.Spec{Keys: 5000, KeySize: "fb_key", ValueSize: "fb_value", Popularity: "zipf:0.99", SetRatio: 1.0 / 31}
	tcpETC, udpETC := etc, etc
	tcpETC.Kind, tcpETC.Conns, tcpETC.Outstanding = load.MemcachedTCP, 16, 1
	udpETC.Kind, udpETC.Conns, udpETC.Outstanding = load.MemcachedUDP, 1, 32
	u := tcp("udp-etc", "memcached UDP, Facebook ETC, values up to 1 KiB, 32 outstanding", udpETC)
	u.Port = MemcachedUDPPort
	return []Workload{
		tcp("tcp-get-64", "memcached TCP GET, 64 connections", load.Spec{Kind: load.MemcachedTCP, Conns: 64, Outstanding: 1}),
		tcp("tcp-get-pipe", "memcached TCP GET, 16 connections, 32 pipelined", load.Spec{Kind: load.MemcachedTCP, Conns: 16, Outstanding: 32}),
		tcp("tcp-set-pipe", "memcached TCP SET, 16 connections, 32 pipelined", load.Spec{Kind: load.MemcachedTCP, Conns: 16, Outstanding: 32, SetRatio: 1}),
		tcp("tcp-etc", "memcached TCP, Facebook ETC, 16 connections", tcpETC),
		u,
		tcp("go-client", "memcached TCP GET by gomemcache, 16 workers", load.Spec{Kind: load.GoMemcache, Conns: 16}),
	}
}

// http loads one Go program, built from the same source for both systems, so that
// only what is below the program differs. Small replies cost packets and wake-ups,
// large ones copies too.
func http(measure float64, windows int) []Workload {
	get := func(name, what, path string) Workload {
		each := measure / float64(windows)
		return Workload{Name: name, Title: "HTTP GET of " + what + " from one Go program on both systems, 16 connections", Port: HTTPPort, Windows: windows,
			Spec: load.Spec{Kind: load.HTTP, Mode: load.Closed, Conns: 16, Outstanding: 1, Path: path, Warmup: seconds(each / 4), Duration: seconds(each)}}
	}
	return []Workload{get("http-get", "2 bytes", "/n/7"), get("http-get-16k", "16 KiB", "/bytes/16384")}
}

// Quick is a look, not a claim: two boots a side, one placement, UDP only, no
// intervals.
func Quick() Plan {
	return Plan{Name: "quick", Systems: []System{linuxStock(), osv()}, Workloads: workloads(1.2, 4)[:2],
		Placements: []Placement{OneCore}, Boots: 2, Together: true, CPUs: 1, MemMiB: 256, Seed: 1, Instructions: true, Allow: allowed()}
}

// Iperf is bulk TCP alone, into the guest and out of it.
func Iperf() Plan {
	p := Default()
	p.Name, p.Workloads, p.Placements, p.RAMFloor = "iperf", iperfBoth(3, 3), []Placement{Split}, false
	p.Idle, p.Starts, p.Profiles = 0, 0, nil
	return p
}

// AA runs a plan's baseline against itself: the ratio must be 1, and how far it
// strays is the noise of the rig.
func AA(p Plan) (Plan, error) {
	base, ok := p.WithRole(Baseline)
	if !ok {
		return p, fmt.Errorf("plan %s: no baseline to run against itself", p.Name)
	}
	a, b := base, base
	a.Name, a.Title, a.Role = base.Name+".a", base.Title+" (A)", Baseline
	b.Name, b.Title, b.Role = base.Name+".b", base.Title+" (A again)", Subject
	p.Name += "-aa"
	p.Systems, p.AA, p.RAMFloor, p.Profiles = []System{a, b}, true, false, nil
	for i := range p.Workloads {
		p.Workloads[i].Systems = nil
	}
	return p, nil
}

// Dry is a plan on processes of this machine instead of guests, to try the
// harness itself: its figures mean nothing.
func Dry() Plan {
	p := Quick()
	p.Name = "dry"
	p.Systems = []System{
		{Name: "local-a", Title: "memcached process A", Guest: "local", Role: Baseline},
		{Name: "local-b", Title: "memcached process B", Guest: "local", Role: Subject},
	}
	p.Instructions = false
	return p
}

// Plans are the plans that come with the program, by name.
func Plans() map[string]Plan {
	return map[string]Plan{"default": Default(), "full": Full(), "quick": Quick(), "flagship": Flagship(), "iperf": Iperf(), "unmodified": Unmodified(), "dry": Dry()}
}
