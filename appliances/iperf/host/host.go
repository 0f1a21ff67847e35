// Package host is what iperf runs on: sockets, time used, a console. One
// implementation uses the sockets of the operating system (Hosted), one our own
// stack (Stack), in a booted guest or over a TAP device.
//
// Who may use it: iperf3, iperf2, main. May not: know a protocol of iperf.
// Start reading at Host.
package host

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Host makes sockets. An AddrPort without a valid address means any address of
// either family, an unspecified one any of its family.
type Host interface {
	// Listen waits for TCP connections.
	Listen(local netip.AddrPort, o Socket) (Listener, error)
	// Dial connects by TCP. The zero local leaves the choice to the host.
	Dial(ctx context.Context, local, remote netip.AddrPort, o Socket) (Conn, error)
	// ListenPacket makes a UDP socket for anyone.
	ListenPacket(local netip.AddrPort, o Socket) (PacketConn, error)
	// DialPacket makes a UDP socket for one peer.
	DialPacket(local, remote netip.AddrPort, o Socket) (PacketConn, error)
	// Lookup finds the addresses of a name; literal addresses are their own.
	Lookup(ctx context.Context, name string) ([]netip.Addr, error)

	// Missing names the options of o that this host leaves out, "" for none.
	Missing(o Socket) string

	NumCPU() int
	// CPUTime is the processor time used so far.
	CPUTime() (user, system time.Duration)
	// Counters are the network's since its start: frames, bytes, interrupts.
	Counters() []Counter
	// System describes the machine in one line.
	System() string
	// Congestion is the name of the congestion control of new connections.
	Congestion() string
	// Console is where reports go.
	Console() io.Writer
}

// Socket holds what a user can ask of a socket. What a host cannot do it leaves
// out; Host.Missing says what that is.
type Socket struct {
	Window     int    // size of the send and of the receive buffer, bytes; 0: the host's
	MSS        int    // largest TCP segment, bytes; 0: the path's
	NoDelay    bool   // TCP without the Nagle algorithm
	TOS        uint8  // type of service, or traffic class
	Congestion string // TCP congestion control; "": the host's
}

// Listener accepts TCP connections, in the order in which they were established.
type Listener interface {
	Accept() (Conn, error)
	Addr() netip.AddrPort
	Close() error
}

// Conn is a TCP connection.
type Conn interface {
	net.Conn
	// Sink reads and forgets until the end of the stream, which is no error, or
	// the read deadline. It adds to n what came, as it comes.
	Sink(n *atomic.Uint64) error
	CloseWrite() error
	// Configure applies o, as far as that is possible after the handshake.
	Configure(o Socket) error
	SetKeepAlive(on bool) error
	// Info tells how the connection is doing; false where the host does not know.
	Info() (TCPInfo, bool)
}

// TCPInfo is what a host knows of a connection.
type TCPInfo struct {
	MSS         int
	Cwnd        int // bytes
	PeerWindow  int // bytes
	RTT, RTTVar time.Duration
	PMTU        int
	Retransmits int64 // segments or ranges sent again, since the start
}

// PacketConn is a UDP socket. One goroutine at a time may Receive, and one may
// WriteBatch; any may Write.
type PacketConn interface {
	// Receive calls f for each datagram until f returns an error, which it then
	// returns, or the socket has one: os.ErrDeadlineExceeded, net.ErrClosed. The
	// datagram is valid during the call only.
	Receive(f func(*Datagram) error) error
	// Write sends a datagram to the peer of a dialled socket.
	Write(p []byte) (int, error)
	// WriteBatch sends datagrams to that peer and returns how many were taken;
	// fewer than all, without an error, say that there is no room now.
	WriteBatch(ps [][]byte) (int, error)
	// Connect makes a socket with o for the sender of d, on the port of this one. What
	// d's sender sends from now on goes there; what was on its way may still come
	// here.
	Connect(d *Datagram, o Socket) (PacketConn, error)
	SetReadDeadline(t time.Time) error
	Local() netip.AddrPort
	Remote() netip.AddrPort // zero unless connected
	// Drops counts datagrams that found no room, where the host knows.
	Drops() uint64
	Close() error
}

// Datagram is one as it came in.
type Datagram struct {
	Data []byte // its payload, at least the first 512 bytes of it
	Len  int    // of the whole payload
	From netip.AddrPort
	To   netip.Addr // the address it was sent to; zero where the host does not know
	Time int64      // when it came in, ns of some clock that does not jump
}

// Counter is one of a host's counters.
type Counter struct {
	Name string
	N    uint64
}

// blockSize is how much is read at once from a TCP connection, and the largest
// datagram that Hosted reads in one piece.
const blockSize = 256 << 10
