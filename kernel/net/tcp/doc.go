// Package tcp is the Transmission Control Protocol as a pure state machine:
// segments, timers and user calls go in, segments and events come out. It starts
// no goroutine, takes no lock and reads no clock.
//
// Spec: RFC 9293 (TCP), with RFC 5681 and RFC 9438 (congestion control, CUBIC),
// RFC 6298 (retransmission timer), RFC 2018, RFC 2883 and RFC 6675 (SACK), RFC
// 6582 (NewReno without SACK), RFC 6937 (PRR), RFC 8985 (RACK-TLP), RFC 4015
// (undo), RFC 7323 (window scale, timestamps, PAWS), RFC 5961 (blind attacks),
// RFC 6528 (initial sequence numbers), RFC 4987 (SYN floods), RFC 6093 (urgent
// data), RFC 6191 (TIME-WAIT reuse), RFC 1191 and RFC 8201 (path MTU). Not
// covered: ECN (RFC 3168), Fast Open (RFC 7413), authentication (RFC 5925),
// simultaneous use of several paths.
//
// Who may use it: kernel/net/sock/tcpsock, which adds goroutines, locks and the
// net.Conn interface, and tests. May not: import anything above kernel/pkt and
// the lower parts of kernel/net; know wall-clock time; block.
//
// Concurrency: the owner of a Conn or Listener serialises all calls of it.
// Time is monotonic nanoseconds, given with each call that needs it.
//
// Memory: received octets stay in the pkt.Buf they came in; octets to send are
// copied once into chunks of Config.Chunks, and once more into each segment. On
// the established path nothing is allocated.
//
// Start reading at conn.go (the control block), then input.go and output.go;
// deps.go is what a stack below must offer. Tests: table_test.go walks every
// state with every event, testdata/*.pkt are conversations, pair_test.go joins
// two ends over a bad wire.
package tcp
