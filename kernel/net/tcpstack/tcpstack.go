// Package tcpstack is what package tcp needs of the layers below (tcp.Stack),
// by way of kernel/net/stack.
//
// Packet path, receive, step 3 of 5, the TCP side.
// From: stack/rx.go.  To: the flow's channel, or tcp.Inline in the receive loop.
// May not: parse TCP beyond its ports, allocate on the way of a segment.
//
// Who may use it: kernel/net/sock/tcpsock. Start reading at New.
package tcpstack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"osv/kernel/net/clock"
	"osv/kernel/net/demux"
	"osv/kernel/net/netchan"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcp"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// channelSize is the number of segments that wait in a flow's channel: with
// segments that the device has joined, several MB. More take the slow path.
const channelSize = 512

const sumOff = 16 // of the checksum in a TCP header

// Stack implements tcp.Stack.
type Stack struct {
	s      *stack.Stack
	noFlow atomic.Pointer[tcp.Endpoint]

	mu        sync.Mutex // guards listeners
	listeners map[listenKey]*stack.Sink
}

type listenKey struct {
	local netip.AddrPort
	e     tcp.Endpoint
}

var _ tcp.Stack = (*Stack)(nil)

// New makes the adapter and registers it as the stack's TCP.
func New(s *stack.Stack) *Stack {
	t := &Stack{s: s, listeners: map[listenKey]*stack.Sink{}}
	s.Register(wire.ProtoTCP, t)
	return t
}

// SetNoFlow makes e the receiver of segments that belong to no flow and no
// listener: the place that answers them with RST (RFC 9293 §3.10.7.1). Without
// one they are dropped.
func (t *Stack) SetNoFlow(e tcp.Endpoint) { t.noFlow.Store(&e) }

// Clock is the stack's.
func (t *Stack) Clock() clock.Clock { return t.s.Clock() }

// Route finds the way; Path.Link is the *stack.Route.
func (t *Stack) Route(local, remote netip.Addr) (netip.Addr, tcp.Path, error) {
	r, err := t.s.Route(local, remote)
	if err != nil {
		return netip.Addr{}, tcp.Path{}, err
	}
	if r.Remote().IsMulticast() {
		return netip.Addr{}, tcp.Path{}, fmt.Errorf("tcp: %v: %w", remote, stack.ErrNoRoute)
	}
	c := r.Caps()
	p := tcp.Path{MTU: r.MTU(), Pieces: c.TxScatter, Link: r}
	if r.Remote().Is4() && c.TSO4 || r.Remote().Is6() && c.TSO6 {
		p.GSOMax = c.GSOMax
	}
	return r.Local(), p, nil
}

// TxBuf is an empty transmit buffer.
func (t *Stack) TxBuf(p *tcp.Path) *pkt.Buf { return p.Link.(*stack.Route).Alloc() }

// Output sends segments.
func (t *Stack) Output(_ *tcp.Tuple, p *tcp.Path, segs []*pkt.Buf) int {
	return p.Link.(*stack.Route).Send(wire.ProtoTCP, sumOff, segs)
}

// NewChannel makes a net channel.
func (t *Stack) NewChannel(wake func()) tcp.Channel { return netchan.NewEvery(channelSize, wake) }

// flow is a Sink's owner.
type flow struct {
	sink  stack.Sink
	tuple tcp.Tuple
	f     tcp.Flow
}

func tuple(t *tcp.Tuple) demux.Tuple {
	return demux.Tuple{Proto: wire.ProtoTCP, Local: t.Local, Remote: t.Remote}
}

func newFlow(t *tcp.Tuple, f tcp.Flow) *flow {
	fl := &flow{tuple: *t, f: f}
	fl.sink.Owner = fl
	fl.sink.OnError = fl.icmp
	switch {
	case f.Inline != nil:
		fl.sink.Segment = fl.segment
	case f.Chan != nil:
		fl.sink.Chan = f.Chan.(*netchan.Chan)
	}
	return fl
}

// segment runs in the receive loop.
func (fl *flow) segment(ctx *stack.RxContext, b *pkt.Buf) {
	fl.f.Inline.Deliver(b)
	ctx.AtEnd(fl)
}

// EndBatch ends a batch of segments.
func (fl *flow) EndBatch(ctx *stack.RxContext) { fl.f.Inline.Flush(ctx.Now()) }

func (fl *flow) icmp(e *stack.ICMPError) {
	if len(e.Transport) < 8 {
		return
	}
	fl.f.Slow.ICMP(&fl.tuple, convert(e))
}

func convert(e *stack.ICMPError) tcp.ICMPError {
	k := tcp.ICMPSoft
	switch e.Kind {
	case stack.HardError:
		k = tcp.ICMPHard
	case stack.TooBig:
		k = tcp.ICMPTooBig
	}
	return tcp.ICMPError{Kind: k, MTU: e.MTU, Seq: binary.BigEndian.Uint32(e.Transport[4:]), Err: e.Err}
}

// InsertFlow makes f the receiver of t's segments.
func (t *Stack) InsertFlow(tu *tcp.Tuple, f tcp.Flow) error {
	return t.s.Insert(tuple(tu), &newFlow(tu, f).sink)
}

// ReplaceFlow changes the receiver of t.
func (t *Stack) ReplaceFlow(tu *tcp.Tuple, f tcp.Flow) {
	d := tuple(tu)
	fl := newFlow(tu, f)
	for {
		old := t.s.Lookup(d)
		if old == nil || t.s.Replace(d, old, &fl.sink) {
			return
		}
	}
}

// RemoveFlow ends t.
func (t *Stack) RemoveFlow(tu *tcp.Tuple) {
	d := tuple(tu)
	for {
		old := t.s.Lookup(d)
		if old == nil || t.s.Remove(d, old) {
			return
		}
	}
}

// Listen makes e the receiver of segments to local that belong to no flow.
func (t *Stack) Listen(local netip.AddrPort, dual bool, e tcp.Endpoint) error {
	bind := local
	if a := local.Addr(); a.IsValid() && a.IsUnspecified() && dual {
		bind = netip.AddrPortFrom(netip.Addr{}, local.Port())
	} else if a.IsValid() && !a.IsUnspecified() && !t.s.IsLocal(a) {
		return fmt.Errorf("tcp: listen %v: not an address of this host", local)
	}
	k := &stack.Sink{Owner: e}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.s.Bind(wire.ProtoTCP, bind, k); err != nil {
		return err
	}
	t.listeners[listenKey{local, e}] = k
	return nil
}

// Unlisten ends what Listen began.
func (t *Stack) Unlisten(local netip.AddrPort, e tcp.Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := listenKey{local, e}
	if k := t.listeners[key]; k != nil {
		t.s.Unbind(wire.ProtoTCP, local.Port(), k)
		delete(t.listeners, key)
	}
}

// FreePort is a local port that nothing uses; 0 where there is none.
func (t *Stack) FreePort() uint16 { return t.s.FreePort(wire.ProtoTCP) }

// Segment takes what came by the slow path.
func (t *Stack) Segment(ifc *stack.Interface, b *pkt.Buf, m *demux.Meta, sink *stack.Sink) {
	f := b.Bytes()
	tu := tcp.Tuple{Local: m.Dst(f), Remote: m.Src(f)}
	var e tcp.Endpoint
	switch o := owner(sink).(type) {
	case *flow:
		o.f.Slow.Segment(&o.tuple, b)
		return
	case tcp.Endpoint:
		e = o
	default:
		if p := t.noFlow.Load(); p != nil {
			e = *p
		}
	}
	if e == nil || tu.Remote.Port() == 0 {
		b.Put()
		return
	}
	if a := tu.Remote.Addr(); a.IsLinkLocalUnicast() && a.Is6() {
		// Where a link-local peer is to be found is part of its name.
		tu.Remote = netip.AddrPortFrom(a.WithZone(ifc.Name()), tu.Remote.Port())
	}
	e.Segment(&tu, b)
}

func owner(k *stack.Sink) any {
	if k == nil {
		return nil
	}
	return k.Owner
}

// ICMP takes errors about segments of no flow: none is of interest.
func (t *Stack) ICMP(*stack.ICMPError, *stack.Sink) {}
