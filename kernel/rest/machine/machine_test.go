package machine

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

func TestUnavailable(t *testing.T) {
	err := fmt.Errorf("call: %w", Unavailable("no %s", "disk"))
	if !errors.Is(err, ErrUnavailable) || err.Error() != "call: no disk" {
		t.Errorf("%v", err)
	}
	if errors.Is(errors.New("no disk"), ErrUnavailable) {
		t.Error("another error is one too")
	}
}

func TestConfigOf(t *testing.T) {
	p := netip.MustParsePrefix
	for _, test := range []struct {
		addrs        []netip.Prefix
		up, loopback bool
		want         InterfaceConfig
	}{
		{[]netip.Prefix{p("fe80::1/64"), p("10.0.0.5/20")}, true, false,
			InterfaceConfig{Name: "eth0", Addr: "10.0.0.5", Mask: "255.255.240.0", Broadcast: "10.0.15.255", Flags: "UP RUNNING BROADCAST", MTU: "1500", PhysAddr: "m", Addrs: []string{"fe80::1/64", "10.0.0.5/20"}}},
		{[]netip.Prefix{p("fd00::1/64")}, false, false, InterfaceConfig{Name: "eth0", Addr: "fd00::1", Mask: "ffff:ffff:ffff:ffff::", Flags: "BROADCAST", MTU: "1500", PhysAddr: "m", Addrs: []string{"fd00::1/64"}}},
		{[]netip.Prefix{p("127.0.0.1/8")}, true, true, InterfaceConfig{Name: "eth0", Addr: "127.0.0.1", Mask: "255.0.0.0", Flags: "UP RUNNING LOOPBACK", MTU: "1500", PhysAddr: "m", Addrs: []string{"127.0.0.1/8"}}},
		{nil, true, false, InterfaceConfig{Name: "eth0", Flags: "UP RUNNING BROADCAST", MTU: "1500", PhysAddr: "m", Addrs: []string{}}},
	} {
		got := ConfigOf("eth0", test.addrs, 1500, "m", test.up, test.loopback)
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", test.want) {
			t.Errorf("got  %+v\nwant %+v", got, test.want)
		}
	}
}

func TestRouteOf(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for want, got := range map[Route]Route{
		{"default", "10.0.0.1", "UG", "eth0", false}:    RouteOf(p("0.0.0.0/0"), a("10.0.0.1"), "eth0"),
		{"default", "fe80::1", "UG", "eth0", true}:      RouteOf(p("::/0"), a("fe80::1"), "eth0"),
		{"10.0.0.0/24", "", "U", "eth0", false}:         RouteOf(p("10.0.0.0/24"), netip.Addr{}, "eth0"),
		{"10.0.0.0/24", "", "U", "eth1", false}:         RouteOf(p("10.0.0.0/24"), a("0.0.0.0"), "eth1"),
		{"10.0.0.9/32", "10.0.0.1", "UGH", "lo", false}: RouteOf(p("10.0.0.9/32"), a("10.0.0.1"), "lo"),
	} {
		if got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
