package drive

import (
	"net/netip"
	"testing"
	"time"

	"osv/harness/load"
	"osv/harness/load/null"
)

// Idle connections are there while the load runs, and are gone afterwards.
func TestIdleConnections(t *testing.T) {
	spec := load.Spec{Kind: load.MemcachedTCP, Conns: 2, Idle: 50, Keys: 10, NoPopulate: true,
		Duration: load.Duration(50 * time.Millisecond)}.WithDefaults()
	it, err := Items(spec)
	if err != nil {
		t.Fatal(err)
	}
	s, err := null.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"), it)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	spec.Target = s.Addr.String()
	r, err := Run(t.Context(), spec, Options{NoReadback: true})
	if err != nil || r.Completed == 0 {
		t.Errorf("%d completed, %v", r.Completed, err)
	}
	if _, err := openIdle(t.Context(), netip.MustParseAddrPort("127.0.0.1:1"), 3); err == nil {
		t.Error("no error where nobody listens")
	}
	spec.Kind = load.MemcachedUDP
	if spec.Check() == nil {
		t.Error("idle connections over UDP are taken")
	}
}
