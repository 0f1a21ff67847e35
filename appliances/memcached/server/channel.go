package server

import (
	"sync"
	"sync/atomic"

	"osv/appliances/memcached/proto"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcp"
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
	addr, err := localAddr(host, port)
	if err != nil {
		return err
	}
	h := &udpHandler{s: s}
	remove, err := s.host.Stack().HandleUDP(addr, h.handler())
	if err != nil {
		return err
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
	q, ifc := uint(ctx.Queue())%maxQueues, ctx.Interface()
	for l := h.loops[q].Load(); l != nil; l = l.next {
		if l.ifc == ifc {
			return l.d
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &loopState{ifc: ifc, d: proto.NewDatagram(h.s.proto, int(q)), next: h.loops[q].Load()}
	h.loops[q].Store(l)
	return l.d
}

// handler returns what the loops call: a function literal, since a method value
// costs a call more. It is not inlined because the compiler inlines nothing into
// the copy of a literal that comes with it.
//
//go:noinline
func (h *udpHandler) handler() stack.UDPHandler {
	return func(ctx *stack.RxContext, b *pkt.Buf, payload []byte) {
		var d *proto.Datagram
		if l := h.loops[uint(ctx.Queue())%maxQueues].Load(); l != nil && l.ifc == ctx.Interface() {
			d = l.d
		} else {
			d = h.state(ctx)
		}
		proven := h.s.proven.on && h.s.proven.has(ctx.Source().Addr())
		// What ctx.Room would say.
		room := payload[:min(ctx.MaxReply(), cap(payload))]
		n := d.Handle(payload, room, proven)
		if n == 0 {
			return
		}
		if d.Pending() {
			h.others(ctx, d)
		}
		ctx.ReplyInPlace(b, n)
	}
}

// others sends the rare reply of several datagrams, but for the first, which
// waits in the request's buffer and goes out last. They are numbered.
func (h *udpHandler) others(ctx *stack.RxContext, d *proto.Datagram) {
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
}

// channelTCP serves connections to host and port in the receive loops.
func (s *Server) channelTCP(host string, port int) error {
	addr, err := localAddr(host, port)
	if err != nil {
		return err
	}
	l, err := s.host.TCP().Serve(addr, tcpsock.ListenConfig{Backlog: s.opt.Backlog, Options: tcp.Options{Keepalive: true}}, s.openFlow)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, l)
	s.keepStore = true
	return nil
}

// flow is a connection whose requests are answered in the receive loop.
type flow struct {
	stream
	s    *Server
	f    *tcpsock.Flow
	over bool // ended is done
}

// openFlow makes the handler of a new connection. It is called in the receive
// loop.
func (s *Server) openFlow(f *tcpsock.Flow) tcpsock.Handler {
	h := &flow{s: s, f: f}
	h.id = s.id()
	h.write = f.Write
	h.kill = func() { f.Do(h.abort) }
	nc := f.Conn()
	s.begin(&h.conn, nc.LocalAddr(), nc.RemoteAddr())
	if !s.conns.add(&h.conn) {
		s.stats.rejected.Add(1)
		h.over = true
		// The flow is not open for writing before openFlow returns.
		go f.Do(func() {
			f.Write([]byte(tooManyConns))
			f.Close()
		})
		return h
	}
	s.opened(&h.conn)
	return h
}

func (h *flow) abort() {
	if !h.over {
		h.f.Abort()
		h.end()
	}
}

func (h *flow) end() {
	if !h.over {
		h.over = true
		h.s.ended(&h.conn)
	}
}

// Data takes requests and writes replies: the receive loop sends all of a batch
// with one doorbell.
func (h *flow) Data(f *tcpsock.Flow, p []byte) int {
	if h.over {
		return len(p)
	}
	n, open := h.step(p, h.s)
	if !open {
		f.Close()
		h.end()
	}
	return n
}

// End is called at the end of the peer's requests.
func (h *flow) End(f *tcpsock.Flow, _ error) {
	f.Close()
	h.end()
}
