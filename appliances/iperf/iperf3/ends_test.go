package iperf3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"osv/appliances/iperf/host"
)

// client is one of ours for the server r.
func (r *running) client(p Params) (*Client, *output) {
	out := new(output)
	if p.Protocol == "" {
		p.Protocol = TCP
	}
	return &Client{
		Host: host.Hosted{Out: io.Discard}, Target: "127.0.0.1", Port: r.Addr().Port(), Params: p,
		Interval: 100 * time.Millisecond, Idle: 20 * time.Second, Format: 'a', Out: out, JSON: true,
	}, out
}

// run runs a test and returns the client's report.
func (r *running) run(t *testing.T, p Params) *document {
	t.Helper()
	c, out := r.client(p)
	if err := c.Run(context.Background()); err != nil {
		t.Fatalf("%v\n%s", err, r.out.String())
	}
	var doc document
	if err := json.Unmarshal([]byte(out.String()), &doc); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return &doc
}

// Both of our ends, in each mode.
func TestModes(t *testing.T) {
	r := serve(t, nil)
	const d = 300 * time.Millisecond
	for _, c := range []struct {
		name string
		p    Params
	}{
		{"TCP", Params{Time: d}},
		{"reverse", Params{Time: d, Reverse: true}},
		{"bidir", Params{Time: d, Bidir: true, Parallel: 2}},
		{"parallel", Params{Time: d, Parallel: 16}},
		{"omit", Params{Time: d, Omit: 200 * time.Millisecond}},
		{"omit, reverse", Params{Time: d, Omit: 200 * time.Millisecond, Reverse: true}},
		{"paced", Params{Time: d, Bitrate: 20e6, Block: 1000}},
		{"paced, reverse", Params{Time: d, Bitrate: 20e6, Block: 1000, Reverse: true, Burst: 5}},
		{"options", Params{Time: d, Window: 65536, MSS: 1000, NoDelay: true, TOS: 8}},
		{"UDP", Params{Protocol: UDP, Time: d, Bitrate: 20e6}},
		{"UDP reverse", Params{Protocol: UDP, Time: d, Bitrate: 20e6, Block: 1000, Reverse: true, UDP64: true}},
		{"UDP bidir", Params{Protocol: UDP, Time: d, Bitrate: 5e6, Block: 1000, Bidir: true, Parallel: 3}},
		{"UDP omit", Params{Protocol: UDP, Time: d, Omit: 200 * time.Millisecond, Bitrate: 5e6, Block: 1000}},
		{"UDP at once", Params{Protocol: UDP, Time: d, Block: 1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := r.run(t, c.p)
			streams := max(c.p.Parallel, 1)
			if c.p.Bidir {
				streams *= 2
			}
			if doc.Error != "" || len(doc.Start.Connected) != streams || len(doc.End.Streams) != streams || len(doc.Intervals) < 2 {
				t.Fatalf("%+v", doc)
			}
			sums := map[string]*sampleDoc{"sent": doc.End.SumSent, "received": doc.End.SumReceived}
			if c.p.Bidir {
				sums["sent back"], sums["received back"] = doc.End.SumSentReverse, doc.End.SumReceivedReverse
			}
			for name, s := range sums {
				if s == nil || s.Bytes == 0 || s.Seconds <= 0 || s.Seconds > 20 || s.Bitrate <= 0 {
					t.Fatalf("%s: %+v", name, s)
				}
				if c.p.Protocol == UDP && (s.Packets == nil || *s.Packets == 0 || *s.Lost < 0 || *s.Lost > *s.Packets) {
					t.Errorf("%s: %+v", name, s)
				}
			}
			sent, received := doc.End.SumSent.Bytes, doc.End.SumReceived.Bytes
			if received > sent+(64<<20) || c.p.Bitrate > 0 && received < sent/4 {
				t.Errorf("sent %d, received %d", sent, received)
			}
			if c.p.Bitrate > 0 {
				// The whole of a second that was missed on a busy machine is made up for.
				want := c.p.Bitrate * uint64(max(c.p.Parallel, 1))
				if got := uint64(doc.End.SumSent.Bitrate); got > want*2 {
					t.Errorf("%d bit/s, asked for %d", got, want)
				}
			}
			if c.p.Protocol != UDP && !c.p.Reverse && (doc.End.SumSent.Retransmits == nil || doc.Intervals[0].Streams[0].Cwnd == nil) {
				t.Error("nothing of the sender's TCP")
			}
			if c.p.Omit > 0 && (!*doc.Intervals[0].Sum.Omitted || *doc.Intervals[len(doc.Intervals)-1].Sum.Omitted) {
				t.Errorf("omitted: first %v, last %v", *doc.Intervals[0].Sum.Omitted, *doc.Intervals[len(doc.Intervals)-1].Sum.Omitted)
			}
		})
	}
}

// Octets and blocks are exact, at both ends.
func TestBounded(t *testing.T) {
	r := serve(t, nil)
	for _, c := range []struct {
		p    Params
		want uint64
	}{
		{Params{Bytes: 1 << 20}, 1 << 20},
		{Params{Bytes: 100_001, Block: 1000}, 100_001},
		{Params{Bytes: 3 << 20, Parallel: 3}, 3 << 20},
		{Params{Blocks: 10, Block: 1000}, 10_000},
		{Params{Bytes: 1 << 20, Reverse: true}, 1 << 20},
		{Params{Blocks: 100, Block: 1000, Reverse: true, Parallel: 2}, 100_000},
		{Params{Protocol: UDP, Blocks: 50, Block: 1000, Bitrate: 10e6}, 50_000},
		{Params{Protocol: UDP, Bytes: 50_000, Block: 1000, Bitrate: 10e6, Reverse: true}, 50_000},
	} {
		t.Run(fmt.Sprintf("%+v", c.p), func(t *testing.T) {
			doc := r.run(t, c.p)
			sent, received := doc.End.SumSent.Bytes, doc.End.SumReceived.Bytes
			if sent != c.want || received != c.want {
				t.Errorf("sent %d, received %d, want %d", sent, received, c.want)
			}
		})
	}
}

// What is sent at the end of the omitted part is not the same at both ends.
func TestBoundedWithOmission(t *testing.T) {
	r := serve(t, nil)
	doc := r.run(t, Params{Bytes: 500_000, Block: 1000, Omit: 100 * time.Millisecond, Bitrate: 100e6})
	if n := doc.End.SumSent.Bytes; n < 500_000 || n > 510_000 {
		t.Errorf("sent %d", n)
	}
}

func TestServerOutput(t *testing.T) {
	r := serve(t, nil)
	if doc := r.run(t, Params{Bytes: 1000, ServerOutput: true, Title: "T", ExtraData: "E"}); !strings.Contains(doc.ServerText, "Accepted connection") || doc.Title != "T" || doc.ExtraData != "E" {
		t.Errorf("%+v", doc)
	}
	r = serve(t, func(s *Server) { s.JSON = true })
	doc := r.run(t, Params{Bytes: 1000, ServerOutput: true})
	var inner document
	if err := json.Unmarshal(doc.ServerJSON, &inner); err != nil || inner.End.SumReceived.Bytes != 1000 {
		t.Errorf("%v: %s", err, doc.ServerJSON)
	}
	c, out := r.client(Params{Bytes: 1000, ServerOutput: true, Title: "T"})
	c.JSON = false
	if err := c.Run(context.Background()); err != nil || !strings.Contains(out.String(), "Server JSON output:") || !strings.HasPrefix(out.String(), "T:  Connecting to host") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// The client's text, line by line, with what differs from run to run struck out.
func TestClientText(t *testing.T) {
	r := serve(t, nil)
	for _, c := range []struct {
		name    string
		p       Params
		verbose bool
		want    []string // each is in the text, in this order
	}{
		{"TCP", Params{Bytes: 1 << 20}, true, []string{
			"iperf 3.12 (OSv in Go)\n", "Time: ", "Connecting to host 127.0.0.1, port ", "      Cookie: ", "      TCP MSS: ", "[  1] local 127.0.0.1 port ", " connected to 127.0.0.1 port ",
			"Starting Test: protocol: TCP, 1 streams, 131072 byte blocks, omitting 0 seconds, 1048576 bytes to send, tos 0\n",
			"[ ID] Interval           Transfer     Bitrate         Retr  Cwnd\n", "[  1]   0.00-", "sec  1.00 MBytes",
			"Test Complete. Summary Results:\n", "[ ID] Interval           Transfer     Bitrate         Retr\n", "             sender\n", "                  receiver\n",
			"CPU Utilization: local/sender ", "snd_tcp_congestion ", "rcv_tcp_congestion ", "\niperf Done.\n"}},
		{"reverse", Params{Bytes: 1 << 20, Reverse: true, Parallel: 2, MSS: 1000}, false, []string{
			"Reverse mode, remote host 127.0.0.1 is sending\n", "[  1] local", "[  3] local", "[ ID] Interval           Transfer     Bitrate\n", "[SUM]   0.00-", "- - - -",
			"Retr\n", " sender\n", " receiver\n", "[SUM]", " sender\n", " receiver\n", "iperf Done."}},
		{"bidir", Params{Time: 200 * time.Millisecond, Bidir: true}, false, []string{
			"[ ID][Role] Interval", "[  1][TX-C]", "[  3][RX-C]", "[ ID][Role] Interval", "[  1][TX-C]", "sender\n", "[  1][TX-C]", "receiver\n", "[  3][RX-C]", "sender\n", "[  3][RX-C]", "receiver\n"}},
		{"UDP", Params{Protocol: UDP, Blocks: 10, Block: 1000, Bitrate: 10e6}, true, []string{
			"      Target Bitrate: 10000000\n", "10 blocks to send", "Total Datagrams\n", "Kbits/sec"[4:], "  10  \n",
			"Jitter    Lost/Total Datagrams\n", "0.000 ms  0/10 (0%)  sender\n", " ms  0/10 (0%)  receiver\n", "CPU Utilization"}},
		{"UDP reverse", Params{Protocol: UDP, Time: 300 * time.Millisecond, Omit: 100 * time.Millisecond, Block: 1000, Bitrate: 10e6, Reverse: true, Parallel: 2}, false, []string{
			"Jitter    Lost/Total Datagrams\n", "%)  (omitted)\n", "[SUM]", "(omitted)\n", "%)  \n", "sender\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, out := r.client(c.p)
			cl.JSON, cl.Verbose = false, c.verbose
			if err := cl.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			rest := out.String()
			for _, w := range c.want {
				_, after, ok := strings.Cut(rest, w)
				if !ok {
					t.Fatalf("%q is not in\n%s\nof\n%s", w, rest, out.String())
				}
				rest = after
			}
		})
	}
}

// No lost datagram may hold up a client that waits for a number of octets.
func TestBoundedReverseWithLoss(t *testing.T) {
	r := serve(t, nil)
	p := r.peer(t) // keeps the server busy until the client is told so
	p.open(plain)
	c, _ := r.client(Params{Bytes: 1})
	var e *Error
	if err := c.Run(context.Background()); !errors.As(err, &e) || e.Code != codeDenied {
		t.Errorf("%v", err)
	}
	p.Close()
	r.idle(t)
	// A budget that the server does not send: it counts other blocks than the client.
	cl, out := r.client(Params{Protocol: UDP, Blocks: 20, Block: 1000, Bitrate: 10e6, Reverse: true})
	cl.Host = lossy{cl.Host}
	start := time.Now()
	if err := cl.Run(context.Background()); err != nil || time.Since(start) > 15*time.Second {
		t.Errorf("%v after %v\n%s", err, time.Since(start), out.String())
	}
}

// lossy is a host whose UDP sockets lose each third datagram.
type lossy struct{ host.Host }

func (l lossy) DialPacket(local, remote netip.AddrPort, o host.Socket) (host.PacketConn, error) {
	c, err := l.Host.DialPacket(local, remote, o)
	return &lossyConn{PacketConn: c}, err
}

type lossyConn struct {
	host.PacketConn
	n int
}

func (c *lossyConn) Receive(f func(*host.Datagram) error) error {
	return c.PacketConn.Receive(func(d *host.Datagram) error {
		if c.n++; c.n%3 == 0 {
			return nil
		}
		return f(d)
	})
}

// A user's interrupt ends the test and is told to the server.
func TestInterrupt(t *testing.T) {
	r := serve(t, nil)
	c, out := r.client(Params{Time: time.Hour})
	c.JSON = false
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		for !strings.Contains(out.String(), "Bytes") {
			time.Sleep(time.Millisecond)
		}
		stop()
	}()
	var e *Error
	if err := c.Run(ctx); !errors.As(err, &e) || e.Code != codeClientTerm || !strings.Contains(out.String(), "sender\n") || strings.Contains(out.String(), "Done") {
		t.Errorf("%v\n%s", err, out.String())
	}
	r.out.wait(t, "the client has terminated")
}

// Nothing received for the idle time ends a test at either end.
func TestIdle(t *testing.T) {
	r := serve(t, func(s *Server) { s.Idle = 300 * time.Millisecond })
	p := r.peer(t)
	p.open(`{"tcp":true,"time":100,"parallel":1}`)
	p.stream(p.k)
	p.want(testStart, testRunning)
	p.wantError(codeStreamRead)
	r.out.wait(t, "nothing received for 300ms")
}

// A client that stays beyond its time is given up.
func TestOverTime(t *testing.T) {
	defer func(d time.Duration) { grace = d }(grace)
	grace = 100 * time.Millisecond
	r := serve(t, nil)
	p := r.peer(t)
	p.open(`{"tcp":true,"time":0.1,"parallel":1,"reverse":true}`)
	c := p.stream(p.k)
	p.want(testStart, testRunning)
	io.Copy(io.Discard, c)
	r.out.wait(t, "did not end the test in time")
}

// modest is a host that leaves something out.
type modest struct{ host.Host }

func (modest) Missing(host.Socket) string { return "the segment size" }

func TestWarnings(t *testing.T) {
	r := serve(t, func(s *Server) { s.Host, s.Verbose = modest{s.Host}, true })
	for _, asJSON := range []bool{false, true} {
		c, out := r.client(Params{Bytes: 1000})
		c.Host, c.JSON = modest{c.Host}, asJSON
		if err := c.Run(context.Background()); err != nil || !strings.Contains(out.String(), "this host does not set the segment size") {
			t.Errorf("%v\n%s", err, out.String())
		}
	}
	r.out.wait(t, "warning: this host does not set the segment size")
}
