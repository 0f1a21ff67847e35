// Package server runs the memcached appliance: a store, the protocol, and an
// engine that carries bytes between clients and protocol.
//
// Spec: memcached(1) of 1.6.18 for what connections may do and what `stats` and
// `stats settings` say of them.
//
// Engines: socket (tcp.go, udp.go) on anything that is a net.Listener or a
// net.PacketConn; channel (channel.go) in the receive loops of kernel/net/stack,
// where a request is answered in the buffer that it came in.
//
// Who may use it: main of this appliance. May not: know a device or a platform;
// what it needs of either comes as a Host. Start reading at server.go.
package server
