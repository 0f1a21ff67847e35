package wire

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"osv/harness/vm"
)

// openTAP makes a namespace with one TAP for each guest. With one guest the
// host's address is the TAP's own; with several, or where asked, it is a bridge's.
func openTAP(o Options) (*Wire, error) {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return nil, fmt.Errorf("wire: %w: no /dev/net/tun", ErrPrivilege)
	}
	s, err := NewSpace(o.Named)
	if err != nil {
		return nil, err
	}
	w := &Wire{Kind: TAP, Space: s}
	err = s.Do(func() error {
		var bridge netlink.Link
		if o.Bridge || o.Guests > 1 {
			bridge, err = addBridge()
			if err != nil {
				return err
			}
		}
		for i := range o.Guests {
			tap, err := addTAP(fmt.Sprintf("tap%d", i), bridge, o)
			if err != nil {
				return err
			}
			if bridge == nil {
				if err := setAddr(tap); err != nil {
					return err
				}
			}
			// A fixed neighbour: ARP would be traffic of its own and could
			// expire in the middle of a measurement.
			if err := addNeighbour(tap, bridge, i); err != nil {
				return err
			}
			w.nics = append(w.nics, vm.NIC{
				Kind: vm.NetTAP, IfName: tap.Attrs().Name, MAC: GuestMAC(i), Queues: o.Queues,
				VHost: o.VHost, NoVNetHdr: o.NoVNetHdr, Off: o.Off,
			})
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wire: %w", err), s.Close())
	}
	return w, nil
}

func addBridge() (netlink.Link, error) {
	a := netlink.NewLinkAttrs()
	a.Name = "br0"
	// Fixed: a bridge without an address of its own takes that of a port, and
	// every change of it would flush the neighbours.
	a.HardwareAddr = net.HardwareAddr{0x52, 0x54, 0x00, 0x77, 0x00, 0x01}
	off := false
	br := &netlink.Bridge{LinkAttrs: a, MulticastSnooping: &off}
	if err := netlink.LinkAdd(br); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", a.Name, err)
	}
	return br, setAddr(br)
}

func addTAP(name string, bridge netlink.Link, o Options) (netlink.Link, error) {
	a := netlink.NewLinkAttrs()
	a.Name = name
	t := &netlink.Tuntap{LinkAttrs: a, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI}
	if !o.NoVNetHdr {
		t.Flags |= netlink.TUNTAP_VNET_HDR
	}
	if o.Queues > 1 {
		// QEMU opens a queue each; a TAP made without the flag takes only one.
		t.Flags |= netlink.TUNTAP_MULTI_QUEUE
		t.Queues = 1
	}
	err := netlink.LinkAdd(t)
	for _, f := range t.Fds {
		f.Close()
	}
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("%w: TAP %s: %v", ErrPrivilege, name, err)
		}
		return nil, fmt.Errorf("TAP %s: %w", name, err)
	}
	if bridge != nil {
		if err := netlink.LinkSetMaster(t, bridge); err != nil {
			return nil, fmt.Errorf("TAP %s to bridge: %w", name, err)
		}
	}
	if err := netlink.LinkSetUp(t); err != nil {
		return nil, fmt.Errorf("TAP %s: %w", name, err)
	}
	return t, nil
}

// setAddr gives l the host's address and brings it up.
func setAddr(l netlink.Link) error {
	ip := net.IPNet{IP: Host.Addr().AsSlice(), Mask: net.CIDRMask(Host.Bits(), 32)}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &ip}); err != nil {
		return fmt.Errorf("address %s of %s: %w", Host, l.Attrs().Name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("%s: %w", l.Attrs().Name, err)
	}
	return nil
}

func addNeighbour(tap, bridge netlink.Link, i int) error {
	via := tap
	if bridge != nil {
		via = bridge
	}
	mac, err := net.ParseMAC(GuestMAC(i))
	if err != nil {
		return err
	}
	err = netlink.NeighSet(&netlink.Neigh{
		LinkIndex: via.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: GuestIP(i).Addr().AsSlice(), HardwareAddr: mac,
	})
	if err != nil {
		return fmt.Errorf("neighbour %s: %w", GuestIP(i).Addr(), err)
	}
	return nil
}
