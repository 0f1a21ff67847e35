package server

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"osv/appliances/memcached/proto"
	"osv/kernel/net/stack"
	"osv/kernel/pkt"
)

// The channel engine: requests are answered in the receive loop of our own stack,
// before the loop looks at the next packet. The reply is written over the request
// in its buffer, which goes straight to the transmit ring; the loop rings the
// doorbell once per batch.

// maxQueues is more receive queues than any device has.
const maxQueues = 256

// channelUDP answers UDP datagrams to host and port in the receive loops.
func (s *Server) channelUDP(host string, port int) error {
	var addr netip.Addr // any, of either family
	if host != "" {
		var err error
		if addr, err = netip.ParseAddr(host); err != nil {
			return fmt.Errorf("memcached: -l %s: %w", host, err)
		}
	}
	s.proven.on = s.opt.UDPFactor > 0
	h := &udpHandler{s: s}
	remove, err := s.host.Stack().HandleUDP(netip.AddrPortFrom(addr, uint16(port)), h.handle)
	if err != nil {
		return fmt.Errorf("memcached: UDP port %d: %w", port, err)
	}
	s.closers = append(s.closers, closeFunc(remove))
	// A loop may be in the handler when remove returns, so the cache's memory
	// stays mapped after Close.
	s.keepStore = true
	return nil
}

type closeFunc func()

func (f closeFunc) Close() error { f(); return nil }

// udpHandler answers datagrams in receive loops.
type udpHandler struct {
	s  *Server
	mu sync.Mutex // for adding to loops
	// loops are the protocol states by queue number. Queues of the same number
	// on several interfaces are different loops, so each has a short list.
	loops [maxQueues]atomic.Pointer[loopState]
}

// loopState is the protocol state of one receive loop, used by it alone.
type loopState struct {
	ifc  *stack.Interface
	d    *proto.Datagram
	next *loopState
}

// state finds the loop's protocol state, or makes it for its first packet.
func (h *udpHandler) state(ctx *stack.RxContext) *proto.Datagram {
	q, ifc := ctx.Queue()%maxQueues, ctx.Interface()
	for l := h.loops[q].Load(); l != nil; l = l.next {
		if l.ifc == ifc {
			return l.d
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &loopState{ifc: ifc, d: proto.NewDatagram(h.s.proto, q), next: h.loops[q].Load()}
	h.loops[q].Store(l)
	return l.d
}

func (h *udpHandler) handle(ctx *stack.RxContext, b *pkt.Buf, payload []byte) {
	d := h.state(ctx)
	proven := h.s.proven.on && h.s.proven.has(ctx.Source().Addr())
	room := ctx.Room()
	n := d.Handle(payload, room, proven)
	if n == 0 {
		return
	}
	// The rare reply of several datagrams: the others are built while the first
	// waits in the request's buffer, and it goes out last. They are numbered.
	for d.Pending() {
		r := ctx.Alloc()
		if r == nil {
			// No buffer: part of the reply is lost, as UDP may.
			h.s.stats.udpDropped.Add(1)
			break
		}
		r.Append(min(ctx.MaxReply(), r.Tailroom()))
		m := d.More(r.Bytes())
		if m == 0 {
			r.Put()
			break
		}
		r.Tail = r.Head + m
		if !ctx.Reply(r) {
			h.s.stats.udpDropped.Add(1)
		}
	}
	ctx.ReplyInPlace(b, n)
}
