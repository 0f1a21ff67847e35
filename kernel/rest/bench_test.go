package rest

import "testing"

// BenchmarkCalls is the cost of the calls that pollers make, without a network.
func BenchmarkCalls(b *testing.B) {
	s := newServer(b, func(c *Config) { c.Machine.Network = busyNetwork{} })
	for _, target := range []string{"/os/version", "/os/memory", "/metrics", "/network/ifconfig"} {
		b.Run(target, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if w := send(s, "GET", target, nil); w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
