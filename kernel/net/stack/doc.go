// Package stack joins the parts of the network stack: links, classifier,
// channels, ARP and neighbour discovery, IP, ICMP, DHCP, and what transports
// and sockets hang on.
//
// Spec: RFC 1122 (hosts), RFC 826 and RFC 5227 (ARP), RFC 791, RFC 792, RFC
// 1191, RFC 8200, RFC 8201, RFC 4443, RFC 4861, RFC 4862 (IPv6). Not covered:
// forwarding, redirects, multicast group membership for IPv4 (IGMP), IPsec.
//
// Who may use it: kernel/platform (New, AddLink), kernel/net/udp and the TCP
// glue (Route, Insert, Bind, Register), appliances (HandleUDP). May not: know a
// driver; see a wall clock.
//
// # For the platform
//
//	s, err := stack.New(stack.Config{Mem: dmaAllocator})
//	ifc, err := s.AddLink(link, stack.IfConfig{DHCP: true})
//	ifc, err := s.AddLink(link, stack.IfConfig{
//		Addrs:   []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")},
//		Gateway: netip.MustParseAddr("10.0.0.1"),
//	})
//	err = s.Close()
//
// AddLink starts one receive loop and one slow-path goroutine per receive queue.
// ParseIP and its like turn OSv's --ip, --defaultgw and --nameserver into
// configurations.
//
// # Run to completion
//
// A handler is called in the receive loop and answers in the request's own
// buffer; all answers of a batch go out with one doorbell:
//
//	remove, err := s.HandleUDP(netip.MustParseAddrPort("0.0.0.0:11211"),
//		func(ctx *stack.RxContext, b *pkt.Buf, payload []byte) {
//			n := answer(ctx.Room(), payload) // Room overlaps payload
//			ctx.ReplyInPlace(b, n)
//		})
//
// For answers of several datagrams, ctx.Alloc, Append and ctx.Reply, as often as
// needed, before ReplyInPlace if that is used at all. Without either, nothing is
// sent. ctx.Source, ctx.Local, ctx.Queue and ctx.Now tell more.
//
// # For transports
//
// A Sink is where packets of a flow (Insert) or local port (Bind) go: into a net
// channel (Chan), to a handler in the receive loop (Segment), or, without either
// and where the channel has no room, to Transport.Segment in the slow path, in
// order. Route is the way out: it chooses the source address, resolves the next
// hop, knows the path MTU, and Send puts checksum, IP and Ethernet headers in
// front.
//
// # Goroutines
//
//	receive loop (one per queue)   rx.go: RxBatch, classify, push, handlers
//	slow path    (one per queue)   slow.go: ARP, ICMP, fragments, unknown flows
//	timers                         neighbour ageing, reassembly, DHCP, ND
//	readers                        whoever owns a channel
//
// The receive loop takes no lock. The slow path and the transports send straight
// to the link, which locks its transmit queue.
//
// Start reading at config.go, then rx.go (the fast path), slow.go, output.go.
package stack
