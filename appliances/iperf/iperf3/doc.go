// Package iperf3 is the protocol of iperf3, both ends of it: server and client,
// over TCP and UDP, in either direction or both, with the reports that its users
// and their scripts know.
//
// Spec: there is no written one. What iperf3 3.12 (Debian 12) and 3.16 send and
// accept was taken from their traffic and manual page; the numbers of states and
// errors are theirs. Not covered: SCTP, authentication, -F, -A, fq-rate, flow
// labels. A test runs like this (C the client, S the server):
//
//	C→S  TCP connect to port 5201: the control connection; 37 bytes of cookie
//	S→C  9 PARAM_EXCHANGE             C→S  parameters, JSON
//	S→C  10 CREATE_STREAMS            C→S  per stream: TCP connect and the cookie,
//	                                       or a UDP hello, which S answers
//	S→C  1 TEST_START, 2 TEST_RUNNING      data flows
//	C→S  4 TEST_END                        when its time or its octets are over
//	S→C  13 EXCHANGE_RESULTS          C→S  results, JSON; S→C its own
//	S→C  14 DISPLAY_RESULTS           C→S  16 IPERF_DONE
//
// A state is one signed byte; JSON comes behind its length, 32 bits, big-endian.
// One test runs at a time: who comes meanwhile is told -1 ACCESS_DENIED.
//
// Who may use it: main of the appliance. May not: know which host it runs on;
// sockets come from a host.Host.
//
// Files: control.go, params.go, results.go are the wire. test.go is what both ends
// do while data flows, with stream.go, tcp.go, udp.go and pace.go. server.go and
// client.go are the two ends. model.go, text.go, json.go, units.go are the reports.
// Start reading at server.go or client.go, then test.go.
package iperf3
