package soak

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/wire"
)

// countedByCache are the counters of a cache that a request changes.
var countedByCache = []string{"cmd_get", "cmd_set", "cmd_touch", "cmd_meta", "get_hits", "get_misses", "total_items", "total_connections",
	"rejected_connections", "udp_replies_dropped", "bytes_read"}

// mcWrong sends good requests where the cache is not: other ports of the guest, other
// addresses at the guest's card, another card. The stack answers as RFC 9293
// (section 3.10.7.1) and RFC 1122 (3.2.2.1) want it, or not at all, and the
// cache's counters stay.
func mcWrong(ctx context.Context, r *Run) error {
	const n = 200
	g, err := r.boot(ctx, memcachedApp, "tcp:11211", bootOptions{args: "-p 11211 -U 11211"})
	if err != nil {
		return err
	}
	p := g.peer(11211)
	cl, err := p.client(ctx)
	if err != nil {
		return err
	}
	defer cl.close()
	if err := cl.set("here", "value"); err != nil {
		return err
	}
	before, err := cl.stats("")
	if err != nil {
		return err
	}
	ip := wire.Guest.Addr().String()

	resets := 0
	for port := range n {
		if port+1 == 11211 {
			continue
		}
		if err := refused(ctx, p, net.JoinHostPort(ip, fmt.Sprint(port+1))); err != nil {
			return err
		}
		resets++
	}
	r.figure("wrong TCP ports, refused", float64(resets), "")

	unreachable, asked := 0, 0
	for port := 20000; port < 20000+n && ctx.Err() == nil; port++ {
		asked++
		said, err := portUnreachable(ctx, p, net.JoinHostPort(ip, fmt.Sprint(port)))
		if err != nil {
			return err
		}
		if said {
			unreachable++
		}
	}
	r.figure("wrong UDP ports, asked", float64(asked), "")
	r.figure("wrong UDP ports, ICMP said so", float64(unreachable), "")
	if unreachable == 0 { // the stack may limit their rate (RFC 1812, 4.3.2.8)
		return fmt.Errorf("none of %d datagrams to ports that are not open was answered by ICMP", asked)
	}
	if err := wrongAddresses(g, n); err != nil {
		return err
	}
	r.figure("frames to wrong addresses", 3*n, "")

	v, ok, err := cl.get("here") // all of the above has been worked off before it
	if err != nil || !ok || v != "value" {
		return fmt.Errorf("get afterwards: %q, found %v, error %v", v, ok, err)
	}
	after, err := cl.stats("")
	if err != nil {
		return err
	}
	// Our own get, and its octets, are known.
	for _, name := range countedByCache {
		want := counter(before, name)
		switch name {
		case "cmd_get", "get_hits":
			want++
		case "bytes_read":
			if _, has := before[name]; has {
				want += float64(len("stats\r\n") + len("get here\r\n"))
			}
		}
		if got := counter(after, name); got != want {
			return fmt.Errorf("counter %s of the cache is %.0f, want %.0f", name, got, want)
		}
	}
	return g.trouble()
}

// refused wants a reset at once.
func refused(ctx context.Context, p peer, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, replyTime)
	defer cancel()
	nc, err := p.dial(ctx, "tcp", addr)
	if err == nil {
		nc.Close()
		return fmt.Errorf("a connection to %s was accepted", addr)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("a connection to %s: %w, want a reset", addr, err)
	}
	return nil
}

// portUnreachable sends a good request to a UDP port that nobody listens at. A
// reply is an error; said is whether ICMP reported the port.
func portUnreachable(ctx context.Context, p peer, addr string) (said bool, err error) {
	nc, err := p.dial(ctx, "udp", addr)
	if err != nil {
		return false, err
	}
	defer nc.Close()
	if _, err := nc.Write([]byte("\x00\x01\x00\x00\x00\x01\x00\x00get here\r\n")); err != nil {
		return false, err
	}
	nc.SetReadDeadline(time.Now().Add(30 * time.Millisecond)) //nolint:errcheck // an open socket
	var b [1500]byte
	k, err := nc.Read(b[:])
	if err == nil {
		return false, fmt.Errorf("%s answered: %s", addr, abridge(string(b[:k])))
	}
	return errors.Is(err, unix.ECONNREFUSED), nil
}

// wrongAddresses sends good requests and SYNs to addresses that are not the
// guest's, and to a card that is not: nothing may come of them.
func wrongAddresses(g *guest, n int) error {
	s, err := openRaw(g)
	if err != nil {
		return err
	}
	defer s.close()
	src := netip.AddrPortFrom(netip.MustParseAddr("198.18.0.1"), 4711)
	right := netip.AddrPortFrom(wire.Guest.Addr(), 11211)
	wrong := netip.AddrPortFrom(netip.MustParseAddr("10.77.0.200"), 11211)
	other := net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, 0xee}
	get := []byte("\x00\x01\x00\x00\x00\x01\x00\x00get here\r\n")
	for i := range n {
		for _, f := range [][]byte{
			ipFrame(s.hw, s.host, src.Addr(), wrong.Addr(), 17, udpDatagram(src, wrong, get)),
			ipFrame(s.hw, s.host, src.Addr(), wrong.Addr(), 6, synSegment(src, wrong, uint32(i))),
			ipFrame(other, s.host, src.Addr(), right.Addr(), 17, udpDatagram(src, right, get)),
		} {
			if err := s.send(f); err != nil {
				return err
			}
		}
	}
	return nil
}
