// Package proto is the memcached protocol: bytes in, bytes out, nothing else. It
// knows no socket, so that every engine runs the same code.
//
// Spec: doc/protocol.txt of memcached 1.6.18 (text, meta, UDP frames), the
// "Binary Protocol Revamped" document of its wiki, and where those are silent,
// what memcached 1.6.18 answers: the differential tests in ../oracle compare.
//
// The way of a request:
//
//	engine   → Conn.Feed(bytes, out)        conn.go, for a stream
//	           Datagram.Handle(bytes, out)  datagram.go, for UDP
//	line     → text.go → text_get.go, text_store.go, text_misc.go, meta*.go
//	0x80…    → binary*.go
//	replies  → Out (out.go), in the caller's buffer
//
// A request is parsed where it lies; a value is copied once, from the slab to the
// reply or from the request to the slab. Nothing is allocated per request.
//
// Who may use it: server of this appliance, and engines of the guest. May not:
// block, except in Sink.Flush, or read a clock. Not safe for concurrent use: a
// Conn belongs to one goroutine at a time.
package proto
