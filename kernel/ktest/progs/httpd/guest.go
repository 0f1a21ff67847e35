//go:build !hosted

package main

import (
	"net"

	"osv/kernel/hw/gate"
	"osv/kernel/platform"
)

func listen(addr string) (net.Listener, error) { return platform.Start().Listen("tcp", addr) }

// machine fills in what the kernel knows of its memory.
func (m *memory) machine() {
	g := gate.Memory()
	m.Total, m.Free, m.LeastFree = g.Total, g.Free, g.LeastFree
}
