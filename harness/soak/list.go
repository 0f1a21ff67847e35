package soak

import "time"

// The images. Paths are of the module.
const (
	iperfApp     = "appliances/iperf"
	memcachedApp = "appliances/memcached"
	httpdProg    = "kernel/ktest/progs/httpd"
)

// Scenarios lists all, in the order in which they run.
func Scenarios() []Scenario {
	const (
		s = time.Second
		m = time.Minute
	)
	return []Scenario{
		{Name: "ping", About: "ping -f of three sizes", Short: 3 * s, Usual: 20 * s, Patience: 3 * m, run: pingFlood},
		{Name: "iperf-long", About: "Debian's iperf3, TCP with -P 8, to the guest and from it", Short: 4 * s, Usual: 60 * s, Patience: 4 * m, run: iperfLong},
		{Name: "iperf-modes", About: "Debian's iperf3 and iperf in every mode (the boot test of appliances/iperf)", Patience: 15 * m, LongOnly: true, run: iperfModes},
		{Name: "http", About: "curl: 10,000 requests on one connection, 2,000 connections; wrk", Short: 3 * s, Usual: 20 * s, Patience: 5 * m, run: httpClients},
		{Name: "http-idle", About: "10,000 idle connections (2,000 in a short run) to net/http while one client works", Short: 3 * s, Usual: 20 * s, Patience: 5 * m, run: httpIdle},
		{Name: "synflood", About: "SYNs from random addresses while a client works and others connect", Short: 5 * s, Usual: 30 * s, Patience: 3 * m, run: synFlood},
		{Name: "mc-garbage", About: "memcached: malformed input on 8 connections, by UDP and as raw frames, while a client checks its keys", Short: 15 * s, Usual: 60 * s, Patience: 3 * m, run: mcGarbage},
		{Name: "mc-slow", About: "memcached: readers that do not read, requests that stop in the middle, hosts that vanish", Short: 3 * s, Usual: 10 * s, Patience: 4 * m, run: mcSlow},
		{Name: "mc-wrong", About: "memcached: wrong ports and addresses reach the stack, not the cache", Patience: 3 * m, run: mcWrong},
		{Name: "mc-reboot", About: "memcached: power cuts under load; afterwards misses, nothing stale", Patience: 4 * m, run: mcReboot},
		{Name: "mc-small", About: "memcached: boots and serves with 48 MiB, and stays up when it is filled", Patience: 4 * m, run: mcSmall},
		{Name: "mc-idle", About: "memcached: 10,000 connections of which 1 % are active against 64", Short: 2 * s, Usual: 4 * s, Patience: 8 * m, LongOnly: true, run: mcIdle},
	}
}
