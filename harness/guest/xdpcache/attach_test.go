package xdpcache

import (
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// On a pair of virtual cards in a network of its own the programs stay attached
// after Close, natively, and can be attached again.
func TestAttach(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread, and the network with it, ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); errors.Is(err, unix.EPERM) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "in"}, PeerName: "out"}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Skip(err)
	}
	if _, err := Address("in"); err == nil || !strings.Contains(err.Error(), "no IPv4 address") {
		t.Errorf("an address of a card without one: %v", err)
	}
	addr, err := netlink.ParseAddr(server.String() + "/24")
	if err == nil {
		err = netlink.AddrAdd(pair, addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	ip, err := Address("in")
	if err != nil || ip != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("address %v %v", ip, err)
	}
	for range 2 {
		c, err := Load(Config{IP: ip, Port: 11211})
		if err != nil {
			t.Fatal(Explain(err))
		}
		mode, why, err := c.Attach("in", 1)
		c.Close()
		if err != nil {
			if strings.Contains(err.Error(), "clsact") || strings.Contains(err.Error(), "filter") {
				t.Skipf("this kernel lacks sch_ingress or cls_bpf: %v", err)
			}
			t.Fatal(err)
		}
		if mode != Native || why != nil {
			t.Errorf("mode %s: %v", mode, why)
		}
	}
	link, err := netlink.LinkByName("in")
	if err != nil || link.Attrs().Xdp == nil || !link.Attrs().Xdp.Attached {
		t.Errorf("no XDP on %+v: %v", link.Attrs().Xdp, err)
	}
	filters, err := netlink.FilterList(link, netlink.HANDLE_MIN_EGRESS)
	if err != nil || len(filters) != 1 {
		t.Errorf("%d filters, %v", len(filters), err)
	}
	c, err := Load(Config{IP: ip, Port: 11211})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.Attach("nothing", 1); err == nil {
		t.Error("a card that is not there is taken")
	}
}
