package route

import (
	"net/netip"
	"testing"
)

func TestLongestPrefixThenMetric(t *testing.T) {
	var tb Table[string]
	if _, ok := tb.Lookup(netip.MustParseAddr("10.0.0.1")); ok || tb.All() != nil {
		t.Error("empty table has a route")
	}
	add := func(p, gw, ifc string, metric int) {
		t.Helper()
		r := Route[string]{Prefix: netip.MustParsePrefix(p), Iface: ifc, Metric: metric}
		if gw != "" {
			r.Gateway = netip.MustParseAddr(gw)
		}
		gen := tb.Generation()
		if err := tb.Add(r); err != nil {
			t.Fatal(err)
		}
		if tb.Generation() == gen {
			t.Error("generation unchanged")
		}
	}
	add("0.0.0.0/0", "10.0.0.1", "eth0", 10)
	add("10.0.0.7/24", "", "eth0", 0) // host bits are masked
	add("0.0.0.0/0", "10.1.0.1", "eth1", 5)
	add("::/0", "fe80::1", "eth0", 0)
	add("10.0.0.128/25", "", "eth1", 0)
	for dst, want := range map[string]string{
		"8.8.8.8":         "0.0.0.0/0 via 10.1.0.1 metric 5",
		"10.0.0.5":        "10.0.0.0/24 on link metric 0",
		"10.0.0.200":      "10.0.0.128/25 on link metric 0",
		"::ffff:10.0.0.5": "10.0.0.0/24 on link metric 0",
		"fe80::5%eth0":    "::/0 via fe80::1 metric 0",
	} {
		if r, ok := tb.Lookup(netip.MustParseAddr(dst)); !ok || r.String() != want {
			t.Errorf("%s: %v, want %s", dst, r, want)
		}
	}
	if r, ok := tb.LookupIf(netip.MustParseAddr("8.8.8.8"), func(r *Route[string]) bool { return r.Iface == "eth0" }); !ok || r.Metric != 10 {
		t.Error(r)
	}
	add("0.0.0.0/0", "10.0.0.1", "eth0", 1) // replaces
	if r, _ := tb.Lookup(netip.MustParseAddr("8.8.8.8")); r.Metric != 1 || len(tb.All()) != 5 {
		t.Errorf("%v of %d", r, len(tb.All()))
	}
	if n := tb.Remove(func(r Route[string]) bool { return r.Iface == "eth1" }); n != 2 || len(tb.All()) != 3 {
		t.Errorf("removed %d", n)
	}
	gen := tb.Generation()
	tb.Bump()
	if tb.Generation() == gen {
		t.Error("Bump")
	}
	for _, bad := range []Route[string]{{}, {Prefix: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("1.2.3.4")}} {
		if tb.Add(bad) == nil {
			t.Errorf("%v accepted", bad)
		}
	}
	if n := testing.AllocsPerRun(100, func() { tb.Lookup(netip.AddrFrom4([4]byte{10, 0, 0, 5})) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
