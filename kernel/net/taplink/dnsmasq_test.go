package taplink_test

import (
	"bytes"
	"context"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/netns"
	"osv/kernel/net/sock"
	"osv/kernel/net/stack"
	"osv/kernel/net/taplink"
)

// A real server for DHCP, router advertisements and names: dnsmasq, on Linux's
// side of the TAP device.
func TestDnsmasq(t *testing.T) {
	netns.Require(t)
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Skip("needs dnsmasq (package dnsmasq-base)")
	}
	mem := &dma.Host{}
	l, err := taplink.Open("osvd", taplink.Options{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	netns.Up(t, "osvd", netip.MustParsePrefix("10.5.0.254/24"), netip.MustParsePrefix("fd05::fe/64"), netip.MustParsePrefix("fe80::fe/64"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, path, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=", "--group=",
		"--pid-file="+dir+"/pid", "--dhcp-leasefile="+dir+"/leases", "--interface=osvd", "--bind-interfaces", "--except-interface=lo",
		"--dhcp-range=10.5.0.100,10.5.0.110,255.255.255.0,2m", "--dhcp-range=fd05::,ra-only,64", "--enable-ra", "--dhcp-option=option:mtu,1400",
		"--address=/host.test/10.9.9.9", "--address=/host.test/fd09::9", "--cname=alias.test,host.test", "--log-dhcp", "--log-facility=-")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s, err := stack.New(stack.Config{Mem: mem, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	ifc, err := s.AddLink(l, stack.IfConfig{DHCP: true, Hostname: "guest", ProbeAddrs: false})
	if err != nil {
		t.Fatal(err)
	}
	n, err := sock.New(s, sock.Config{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		n.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		cmd.Wait()
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("dnsmasq:\n%s", log.String())
		}
	}()
	a, err := ifc.WaitAddr(ctx)
	if err != nil || a.Bits() != 24 || !netip.MustParsePrefix("10.5.0.0/24").Contains(a.Addr()) {
		t.Fatalf("address %v, %v", a, err)
	}
	lease, ok := ifc.Lease()
	if !ok || lease.Time != 2*time.Minute || lease.Server != netip.MustParseAddr("10.5.0.254") || !slices.Equal(lease.Routers, []netip.Addr{lease.Server}) || ifc.MTU() != 1400 {
		t.Errorf("lease %v, MTU %d", lease, ifc.MTU())
	}
	if dns := s.DNS(); !slices.Equal(dns, []netip.Addr{lease.Server}) {
		t.Errorf("name servers %v", dns)
	}
	as, err := n.Lookup(ctx, "host.test")
	if err != nil || len(as) != 2 || as[0].String() != "10.9.9.9" || as[1].String() != "fd09::9" {
		t.Errorf("host.test: %v, %v", as, err)
	}
	if as, err := n.Lookup(ctx, "nowhere.test"); err == nil {
		t.Errorf("nowhere.test: %v", as)
	}
	// By router advertisement: an address of fd05::/64 and a default route.
	want := netip.MustParseAddr("fd05::6f:73ff:fe76:1")
	for !s.IsLocal(want) {
		select {
		case <-ctx.Done():
			t.Fatalf("no address by router advertisement: %v", ifc.Addrs())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if r, err := s.Route(netip.Addr{}, netip.MustParseAddr("2001:4860::8888")); err != nil || r.Local() != want {
		t.Errorf("default route of IPv6: %v", err)
	}
}
