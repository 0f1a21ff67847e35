package design

import "osv/harness/load"

// ReflectorPort is a guest's that sends datagrams back and does nothing else.
const ReflectorPort = "udp:7"

// Flagship measures memcached in the ways that its bars are stated in: peaks over
// UDP and TCP, p99 at half of what stock Linux can do at most, the four steps from
// stock Linux to run-to-completion, two vCPUs against one, 10,000 connections
// against 64, and the reflector that bounds it all. The rival is Linux that bypasses
// its own stack where a published design lets it: over UDP. Tuned Linux is in the
// other plans.
func Flagship() Plan {
	const measure = 1.5
	batch, socket, two := osv(), osv(), osv()
	batch.Name, batch.Title, batch.Role, batch.Options = "osv-batch", "OSv, batches", Variant, map[string]string{"args": "-engine=batch"}
	socket.Name, socket.Title, socket.Role, socket.Options = "osv-socket", "OSv, sockets", Variant, map[string]string{"args": "-engine=socket"}
	two.Name, two.Title, two.Role, two.CPUs = "osv-2cpu", "OSv, 2 vCPUs", Variant, 2
	debian := OSvUnmodified(Variant)
	subject := osv()
	subject.Options = map[string]string{"args": "-c 16384"}

	mem := func(name, title, port string, s load.Spec, systems ...string) Workload {
		if s.Mode == "" {
			s.Mode = load.Closed
		}
		s.Warmup, s.Duration = seconds(measure/4), seconds(measure)
		s.Keys, s.KeySize, s.ValueSize = 1000, "32", "32"
		return Workload{Name: name, Title: title, Port: port, Spec: s, Systems: systems}
	}
	get := load.Spec{Kind: load.MemcachedUDP, Outstanding: 32, Conns: 1}
	set, echo, half := get, get, get
	set.SetRatio = 1
	echo.Echo = true
	half.Mode, half.Outstanding = load.Open, 0
	tcp := load.Spec{Kind: load.MemcachedTCP, Conns: 64, Outstanding: 1}
	pipe, tcpHalf, many := tcp, tcp, tcp
	pipe.Conns, pipe.Outstanding = 16, 32
	tcpHalf.Mode, tcpHalf.Outstanding = load.Open, 0
	many.Conns, many.Idle = 100, 9900

	atHalf := func(w Workload, of string) Workload {
		w.RateOf, w.RateShare = of, 0.5
		return w
	}
	both := []string{"linux-stock", "osv"}
	systems := []System{linuxStock(), linuxXDP(), subject, batch, socket, two, debian}
	var tcpSystems []string // the rival is for UDP
	for _, s := range systems {
		if s.Name != linuxXDP().Name {
			tcpSystems = append(tcpSystems, s.Name)
		}
	}
	return Plan{Name: "flagship", Systems: systems,
		Workloads: []Workload{
			mem("udp-get", "memcached UDP GET, 32 outstanding", MemcachedUDPPort, get),
			mem("udp-set", "memcached UDP SET, 32 outstanding", MemcachedUDPPort, set),
			mem("tcp-get-64", "memcached TCP GET, 64 connections", MemcachedTCPPort, tcp, tcpSystems...),
			mem("tcp-get-pipe", "memcached TCP GET, 16 connections, 32 pipelined", MemcachedTCPPort, pipe, tcpSystems...),
			atHalf(mem("udp-get-half", "memcached UDP GET at half of stock Linux's peak", MemcachedUDPPort, half, both...), "udp-get"),
			atHalf(mem("tcp-get-half", "memcached TCP GET, 64 connections, at half of stock Linux's peak", MemcachedTCPPort, tcpHalf, both...), "tcp-get-64"),
			mem("tcp-get-10k", "memcached TCP GET, 10,000 connections, 1 % active", MemcachedTCPPort, many, "osv"),
			mem("udp-echo", "UDP reflector, 32 outstanding", ReflectorPort, echo, "osv"),
		},
		Placements: []Placement{OneCore}, Boots: 6, Starts: 6, Together: true, CPUs: 1, MemMiB: 1024, Seed: 1,
		Instructions: true, Allow: withXDP(withVCPUs(allowed()))}
}

// linuxXDP is tuned Linux whose kernel answers UDP GETs of cached keys itself, before
// its network stack and memcached: the design of BMC (NSDI 2021), for this service
// alone.
func linuxXDP() System {
	return System{Name: "linux-xdp", Title: "Linux (XDP cache)", Guest: "linux", Profile: "xdp", Role: Rival}
}

func withXDP(m map[string]string) map[string]string {
	m["XDP cache"] = "the rival's: a program for this one service in front of Linux's network stack; all keys of the load fit, none expires, and nothing but its GETs over UDP gains"
	return m
}

func withVCPUs(m map[string]string) map[string]string {
	m["vCPUs"] = "a variant with two shows what a second one costs"
	return m
}
