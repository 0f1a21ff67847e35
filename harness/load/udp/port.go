// Package udp is the datagram engine: memcached's UDP framing, open and closed
// loop, from one thread without allocation.
//
// Spec: protocol.txt of memcached 1.6, "UDP protocol": an 8-byte header of
// request id, sequence number, number of datagrams and a zero, each 16 bits
// big-endian; one request per datagram; a large reply spans several datagrams.
//
// The engine moves bytes through a Port: kernel sockets (socket.go, by sendmmsg
// and recvmmsg) or raw Ethernet frames (frames.go, over a vhost-user ring, say).
//
// Who may use it: drive and tests. It knows nothing of guests. Start reading at
// engine.go, whose loop is in the order in which a request lives.
package udp

import "time"

// Port moves datagrams between the engine and one server. It belongs to the
// engine's thread.
type Port interface {
	// Send transmits datagrams in order and returns how many it took; fewer than
	// all means "try again later". It does not keep the slices.
	Send(dgrams [][]byte) (int, error)
	// Recv sets each slice to a received datagram, at most len(dgrams), and
	// returns how many. It never blocks; the bytes are valid until the next Recv.
	Recv(dgrams [][]byte) (int, error)
	// Wait returns when a datagram may be there or after d at the latest.
	Wait(d time.Duration) error
	// Polls reports whether Wait spins, so that CPU time says nothing of load.
	Polls() bool
	Close() error
}

// MaxDatagram is the largest payload that a port has to take, in bytes: an
// Ethernet frame's worth. Larger requests would be IP fragments.
const MaxDatagram = 1472
