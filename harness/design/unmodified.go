package design

import (
	"strings"

	"osv/harness/load"
)

// OSvUnmodified is OSv that runs the server that the Linux guest runs: Debian's
// binary, from an ext4 disk.
func OSvUnmodified(role Role) System {
	s := osv()
	s.Name, s.Title, s.Profile, s.Role = "osv-unmodified", "OSv, Debian's server", "Debian's binary", role
	s.Options = map[string]string{"program": "unmodified"}
	return s
}

// Unmodified compares the kernels under one and the same binary: Debian's memcached
// and iperf3 in a Linux guest and in an OSv guest.
func Unmodified() Plan {
	mem := func(name, title, port string, s load.Spec) Workload {
		s.Mode, s.Warmup, s.Duration = load.Closed, seconds(0.1), seconds(0.35)
		s.Keys, s.KeySize, s.ValueSize = 1000, "32", "32"
		return Workload{Name: name, Title: title, Port: port, Spec: s, Windows: 6}
	}
	udp := load.Spec{Kind: load.MemcachedUDP, Outstanding: 32, Conns: 1}
	set := udp
	set.SetRatio = 1
	tcp := load.Spec{Kind: load.MemcachedTCP, Conns: 16, Outstanding: 1}
	bulk := iperfBoth(2, 2)
	for i := range bulk {
		bulk[i].Name = strings.Replace(bulk[i].Name, "iperf", "iperf3-unmodified", 1)
	}
	return Plan{Name: "unmodified", Systems: []System{linuxStock(), OSvUnmodified(Subject)},
		Workloads: append([]Workload{
			mem("memcached-unmodified-udp-get", "Debian's memcached, UDP GET, 32 outstanding", MemcachedUDPPort, udp),
			mem("memcached-unmodified-udp-set", "Debian's memcached, UDP SET, 32 outstanding", MemcachedUDPPort, set),
			mem("memcached-unmodified-tcp-get", "Debian's memcached, TCP GET, 16 connections", MemcachedTCPPort, tcp),
		}, bulk...),
		Placements: []Placement{OneCore}, Boots: 6, Starts: 6, Together: true, CPUs: 1, MemMiB: 256, Seed: 1,
		Instructions: true, Profiles: []string{"memcached-unmodified-udp-get"}, Allow: withProgram(allowed())}
}

// withProgram allows what differs where both run the same program.
func withProgram(m map[string]string) map[string]string {
	m["service"] = "the same Debian binary with the same arguments"
	return m
}
