package udp_test

import (
	"bytes"
	"fmt"
	"net/netip"

	"osv/kernel/hw/dma"
	"osv/kernel/net/stack"
	"osv/kernel/net/udp"
	"osv/kernel/pkt"
)

// A host that talks to itself over the loopback interface.
func newStack() *stack.Stack {
	s, err := stack.New(stack.Config{Mem: &dma.Host{}})
	if err != nil {
		panic(err)
	}
	return s
}

// Run to completion: the handler answers in the receive loop, in the request's
// own buffer.
func Example_handler() {
	s := newStack()
	defer s.Close()
	remove, err := s.HandleUDP(netip.MustParseAddrPort("0.0.0.0:7"), func(ctx *stack.RxContext, b *pkt.Buf, payload []byte) {
		n := copy(ctx.Room(), bytes.ToUpper(payload))
		ctx.ReplyInPlace(b, n)
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer remove()
	c, err := udp.Dial(s, netip.AddrPort{}, netip.MustParseAddrPort("127.0.0.1:7"), udp.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	c.Write([]byte("hello"))
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	fmt.Println(string(buf[:n]), err)
	// Output: HELLO <nil>
}

// The batch interface: all that has come, with one call.
func Example_batch() {
	s := newStack()
	defer s.Close()
	l, err := udp.Listen(s, netip.MustParseAddrPort("127.0.0.1:7"), udp.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	c, err := udp.Dial(s, netip.AddrPort{}, l.LocalAddrPort(), udp.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	c.WriteBatch([]udp.Message{{Data: []byte("one")}, {Data: []byte("two")}, {Data: []byte("three")}})
	ms := make([]udp.Message, 8)
	for i := range ms {
		ms[i].Data = make([]byte, 1500)
	}
	for got := 0; got < 3; {
		n, err := l.ReadBatch(ms)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, m := range ms[:n] {
			fmt.Println(string(m.Data[:m.N]))
		}
		got += n
	}
	// Output:
	// one
	// two
	// three
}
