// Command reflector answers each UDP datagram to port 7 with itself: the least
// that a run-to-completion server can do, and so the ceiling for the others.
//
//boot:skip a server; harness/cmd/bench drives it
package main

import (
	"fmt"
	"net/netip"
	"os"

	"osv/kernel/net/stack"
	"osv/kernel/pkt"
	"osv/kernel/platform"
)

func main() {
	s := platform.Start()
	st, err := s.Network()
	if err == nil {
		_, err = st.HandleUDP(netip.MustParseAddrPort("0.0.0.0:7"), func(ctx *stack.RxContext, b *pkt.Buf, payload []byte) {
			ctx.ReplyInPlace(b, len(payload))
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reflector:", err)
		os.Exit(1)
	}
	fmt.Println("reflector: ready")
	select {}
}
