package iperf2

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"osv/appliances/iperf/host"
)

// output is a Writer that tests may read while others write.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// wait waits until text was written n times.
func (o *output) wait(t *testing.T, text string, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); strings.Count(o.String(), text) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q was not printed %d times, but\n%s", text, n, o.String())
		}
	}
}

type running struct {
	*Server
	out  output
	stop context.CancelFunc
}

func serve(t *testing.T, change func(*Server)) *running {
	t.Helper()
	r := new(running)
	r.Server = &Server{Host: host.Hosted{Out: io.Discard}, Local: netip.MustParseAddrPort("127.0.0.1:0"), Verbose: true, Out: &r.out}
	if change != nil {
		change(r.Server)
	}
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("server: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the server does not end")
		}
	})
	return r
}

func (r *running) dial(t *testing.T, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// header makes a 2.1.8 header: flags, where the client listens, how much.
func clientHeader(flags uint32, upper uint16, port uint16, amount int32) []byte {
	b := words(flags, 1, uint32(port), 1000, 0, uint32(amount))
	return append(b, words(0, 0, uint32(upper)<<16, 0x20001, 0x80000, 0, 0, 0, 0)...)
}

func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the server does not close: %d, %v", n, err)
	}
}

func TestTCP(t *testing.T) {
	r := serve(t, func(s *Server) { s.Interval = 50 * time.Millisecond })
	for name, first := range map[string][]byte{
		"2.0.5": append(make([]byte, 4), strings.Repeat("4567890123", 100)...), "text": []byte(strings.Repeat("0123456789", 100)),
		"three octets": []byte("012"), "2.1.8": clientHeader(flagExtend, 0, 5001, -100),
	} {
		c := r.dial(t, "tcp")
		rest := 1<<20 - len(first)
		c.Write(first)
		c.Write(make([]byte, rest))
		c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		if want := map[bool]int{true: ackLen, false: 0}[name == "2.1.8"]; err != nil || len(got) != want {
			t.Errorf("%s: %d octets, %v", name, len(got), err)
		}
	}
	r.out.wait(t, "1.00 MBytes", 4)
	r.dial(t, "tcp").Close() // a probe of the port
	c := r.dial(t, "tcp")
	c.Write(make([]byte, 100000))
	r.out.wait(t, "97.7 KBytes", 1) // an interval
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	r.out.wait(t, "reset", 1)
}

func TestTCPReverse(t *testing.T) {
	r := serve(t, nil)
	for _, both := range []bool{false, true} {
		upper := uint16(extReverse)
		if both {
			upper = extFullDuplex
		}
		// By octets.
		c := r.dial(t, "tcp")
		c.Write(clientHeader(flagExtend|flagVersion2, upper, 5001, 50000))
		if both {
			c.Write(make([]byte, 30000-60))
		}
		c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); err != nil || len(got) != 50000 {
			t.Errorf("%d octets, %v", len(got), err)
		}
		r.out.wait(t, "48.8 KBytes", 1)
		// By time: 0.2 s.
		c = r.dial(t, "tcp")
		c.Write(clientHeader(flagExtend|flagVersion2|flagPeerDetect, upper, 5001, -20))
		if !both {
			c.(*net.TCPConn).CloseWrite()
		}
		if got, err := io.ReadAll(c); err != nil || len(got) < 10000 {
			t.Errorf("%d octets, %v", len(got), err)
		}
	}
	r.out.wait(t, "29.3 KBytes", 1) // what came in the full-duplex test
}

// -d and -r: the server connects back and sends.
func TestTCPBack(t *testing.T) {
	r := serve(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	for _, flags := range []uint32{flagVersion1 | flagRunNow, flagVersion1} {
		c := r.dial(t, "tcp")
		c.Write(words(flags, 1, uint32(port), 1000, 0, 20000))
		if flags&flagRunNow == 0 {
			c.Close()
		}
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); err != nil || len(got) != 20000 {
			t.Errorf("%d octets, %v", len(got), err)
		}
		b.Close()
		c.Close()
	}
	r.out.wait(t, "19.5 KBytes", 2)
	l.Close()
	c := r.dial(t, "tcp")
	c.Write(words(flagVersion1|flagRunNow, 1, uint32(port), 0, 0, 5))
	r.out.wait(t, "connection back", 1)
}

// udpClient is a client of one of the two kinds.
type udpClient struct {
	t *testing.T
	net.Conn
	wide  bool
	flags []byte // behind the sequence
}

func (c *udpClient) send(ids ...int64) {
	for _, id := range ids {
		b := make([]byte, 100)
		at := oldSeqLen
		if c.wide {
			at = seqLen
		}
		copy(b[at:], c.flags)
		putSequence(b[:at], id, time.Now())
		c.Write(b)
	}
}

// end sends the last datagram until the report is there.
func (c *udpClient) end(id int64) report {
	c.t.Helper()
	b := make([]byte, 2000)
	for range 100 {
		c.send(-id)
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Read(b)
		if err != nil {
			continue
		}
		if r, ok := parseReport(b[:n], c.wide); ok {
			return r
		}
	}
	c.t.Fatal("no report")
	return report{}
}

func TestUDP(t *testing.T) {
	r := serve(t, func(s *Server) { s.Interval = 100 * time.Millisecond })
	for _, wide := range []bool{false, true} {
		c := &udpClient{t, r.dial(t, "udp"), wide, nil}
		first := int64(0)
		if wide {
			first = 1
			c.flags = words(flagExtend | flagSeq64)
		}
		c.send(-5) // the end of another test is no beginning
		c.send(first)
		r.out.wait(t, fmt.Sprintf("connected with 127.0.0.1 port %d\n", c.LocalAddr().(*net.UDPAddr).Port), 1)
		c.send(first+1, first+2, first+4, first+3, first+6)
		r.out.wait(t, "600 Bytes", 1+int(first)) // all are counted: an interval says so
		got := c.end(first + 7)
		if got.bytes != 600 || got.packets != 7 || got.lost != 1 || got.outOfOrder != 1 || got.span <= 0 {
			t.Errorf("wide %v: %+v", wide, got)
		}
		c.send(first + 7) // too late to count
		if again := c.end(first + 8); again != got {
			t.Errorf("wide %v: %+v, then %+v", wide, got, again)
		}
	}
	if n := strings.Count(r.out.String(), "connected with"); n != 2 {
		t.Errorf("%d tests, want 2", n)
	}
	r.out.wait(t, "1 datagrams received out-of-order", 2)
}

func TestUDPSilent(t *testing.T) {
	r := serve(t, nil)
	c := &udpClient{t, r.dial(t, "udp"), true, words(flagExtend | flagSeq64)}
	c.send(1, 2, 3)
	c.Write([]byte("x")) // too short
	r.out.wait(t, "connected with", 1)
	// The server's end is the test's: it is reported.
	time.Sleep(20 * time.Millisecond)
	r.stop()
	r.out.wait(t, "/3 (0%)", 1)
}

// The sweep gives up who is silent, and forgets who has ended.
func TestSweep(t *testing.T) {
	r := serve(t, nil)
	c := &udpClient{t, r.dial(t, "udp"), true, words(flagExtend | flagSeq64)}
	c.send(1)
	r.out.wait(t, "connected with", 1)
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.flows)
	}
	for count() == 0 {
		time.Sleep(time.Millisecond)
	}
	r.mu.Lock()
	var f *flow
	for _, f = range r.flows {
	}
	r.mu.Unlock()
	for range idleSweeps + 2 {
		f.sweep(time.Now(), true, false)
	}
	for end := time.Now().Add(20 * time.Second); count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the flow stays")
		}
	}
	r.out.wait(t, "0/1 (0%)", 1)
}

func TestUDPReverse(t *testing.T) {
	r := serve(t, nil)
	for _, upper := range []uint16{extReverse, extFullDuplex | extNoFin} {
		h := clientHeader(flagExtend|flagSeq64|flagVersion2, upper, 5001, 20000)
		binary.BigEndian.PutUint32(h[24+24:], 50e6)
		c := &udpClient{t, r.dial(t, "udp"), true, h}
		c.send(1)
		b := make([]byte, 2000)
		sum, highest := 0, int64(0)
		for {
			n, err := c.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			s, ok := parseSequence(b[:n], true)
			if !ok {
				t.Fatalf("a datagram of %d octets", n)
			}
			if s.id < 0 {
				break
			}
			sum += n
			highest = max(highest, s.id)
		}
		if highest != 20 || sum != 20000 {
			t.Errorf("%d octets, %d datagrams", sum, highest)
		}
		c.send(-2)
	}
	r.out.wait(t, "Sent 20 datagrams", 2)
}

// -d and -r by UDP: the server sends to where the client listens, and prints the
// report that it gets.
func TestUDPBack(t *testing.T) {
	r := serve(t, nil)
	other := serve(t, nil)
	for _, flags := range []uint32{flagVersion1 | flagRunNow, flagVersion1} {
		c := &udpClient{t, r.dial(t, "udp"), false, words(flags, 1, uint32(other.Addr().Port()), 500, 0, 5000)}
		c.send(0, 1)
		if flags&flagRunNow != 0 {
			r.out.wait(t, "Server Report", 1)
		}
		c.end(2)
	}
	r.out.wait(t, "Server Report", 2)
	r.out.wait(t, "Sent 10 datagrams", 2)
	other.out.wait(t, "0/10 (0%)", 2)
}
