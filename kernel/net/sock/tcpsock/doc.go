// Package tcpsock is TCP for applications: net.Conn and net.Listener on net
// channels, and flows whose handler runs in the receive loop.
//
// Spec: RFC 9293 §3.9.1 as the Go package net shapes it; the protocol itself is
// kernel/net/tcp. Who may use it: kernel/net/sock, kernel/linux, appliances. May
// not: look into segments; know Linux constants.
//
// Where the work is done: the receive loop only puts a connection's segments
// into its channel. Whoever reads or writes the connection takes them out and
// does all protocol work, in its own goroutine, under the connection's lock. If
// nobody comes, segments wait for a few milliseconds (Host.later), and then a
// timer does the work, so that the peer never stalls. A connection that the
// application has closed goes through the stack's slow path until it is over.
//
//	h, err := tcpsock.New(stack, tcpsock.Config{Mem: dmaAllocator})
//	l, err := h.Listen(netip.MustParseAddrPort("0.0.0.0:80"), tcpsock.ListenConfig{})
//	http.Serve(l, handler)
//	c, err := h.Dial(ctx, netip.AddrPort{}, netip.MustParseAddrPort("10.0.0.2:80"))
//	l, err := h.Serve(netip.MustParseAddrPort("0.0.0.0:11211"), cfg, open) // flow.go
//
// Lock order: Listener.mu, Conn.mu, then Host.mu or timeWaits.mu, which are held
// only inside this package. Callbacks of the stack's receive loop (Conn.wake)
// take no lock; Deliver and Flush of a flow take Conn.mu.
//
// Start reading at conn.go; host.go holds what connections share.
package tcpsock
