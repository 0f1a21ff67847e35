package iperf3

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
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

// wait waits until text was written.
func (o *output) wait(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(o.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q was not printed, but\n%s", text, o.String())
		}
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

// running is a server under test.
type running struct {
	*Server
	out  output
	stop context.CancelFunc
	done chan error
}

// serve starts a server on a port of its own; the end of the test ends it.
func serve(t *testing.T, change func(*Server)) *running {
	t.Helper()
	r := &running{done: make(chan error, 1)}
	r.Server = &Server{Host: host.Hosted{Out: io.Discard}, Local: netip.AddrPortFrom(loopback, 0), Interval: 100 * time.Millisecond, Format: 'a', Out: &r.out}
	if change != nil {
		change(r.Server)
	}
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.done <- r.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-r.done:
			if err != nil {
				t.Errorf("server: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the server does not end")
		}
	})
	return r
}

// peer is a client that does as the test says.
type peer struct {
	t *testing.T
	net.Conn
	r *running
	k cookie
}

func (r *running) peer(t *testing.T) *peer {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return &peer{t: t, Conn: c, r: r, k: newCookie()}
}

func (p *peer) want(states ...state) {
	p.t.Helper()
	for _, want := range states {
		if got, err := readState(p); got != want || err != nil {
			p.t.Fatalf("got %v, %v, want %v; the server said\n%s", got, err, want, p.r.out.String())
		}
	}
}

func (p *peer) wantError(code int) {
	p.t.Helper()
	p.want(serverError)
	if e := readError(p); e.Code != code {
		p.t.Fatalf("error %d, want %d", e.Code, code)
	}
}

func (p *peer) send(b string) {
	p.t.Helper()
	if _, err := p.Write([]byte(b)); err != nil {
		p.t.Fatal(err)
	}
}

// frame is a text behind its length.
func frame(text string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(text)))) + text
}

// open goes as far as CREATE_STREAMS with params.
func (p *peer) open(params string) {
	p.t.Helper()
	p.send(string(p.k[:]))
	p.want(paramExchange)
	p.send(frame(params))
	p.want(createStreams)
}

// stream opens a TCP stream.
func (p *peer) stream(k cookie) net.Conn {
	p.t.Helper()
	c, err := net.Dial("tcp", p.r.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(k[:]); err != nil {
		p.t.Fatal(err)
	}
	return c
}

// finish ends a test and returns the server's results.
func (p *peer) finish() Results {
	p.t.Helper()
	writeState(p, testEnd)
	p.want(exchangeResults)
	p.send(frame(`{"cpu_util_total":1,"cpu_util_user":1,"cpu_util_system":0,"sender_has_retransmits":1,"streams":[]}`))
	text, err := readText(p, maxResults)
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := parseResults(text)
	if err != nil {
		p.t.Fatal(err)
	}
	p.want(displayResults)
	writeState(p, iperfDone)
	return r
}

// idle waits until the server takes the next test.
func (r *running) idle(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		busy := r.cur != nil
		r.mu.Unlock()
		if !busy {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the server stays busy:\n%s", r.out.String())
		}
	}
}

const plain = `{"tcp":true,"omit":0,"time":1,"parallel":1,"len":1000}`

func TestServesScriptedClient(t *testing.T) {
	r := serve(t, nil)
	for range 3 {
		p := r.peer(t)
		p.open(`{"tcp":true,"num":5000,"parallel":2,"len":1000,"get_server_output":1}`)
		a, b := p.stream(p.k), p.stream(p.k)
		p.want(testStart, testRunning)
		a.Write(make([]byte, 4000))
		b.Write(make([]byte, 1000))
		res := p.finish()
		if len(res.Streams) != 2 || res.Streams[0].ID != 1 || res.Streams[1].ID != 3 || res.Streams[0].Bytes != 4000 || res.Streams[1].Bytes != 1000 ||
			res.Retransmits != -1 || !strings.Contains(res.OutputText, "receiver") || res.Congestion == "" {
			t.Errorf("%+v", res)
		}
		r.idle(t)
	}
	if !strings.Contains(r.out.String(), "(test #4)") {
		t.Error(r.out.String())
	}
}

// A sender's stream: the server's own count is what it gave to the host.
func TestServesReverse(t *testing.T) {
	r := serve(t, func(s *Server) { s.Verbose = true })
	p := r.peer(t)
	p.open(`{"tcp":true,"blockcount":20,"parallel":1,"len":1000,"reverse":true,"nodelay":true,"window":65536}`)
	a := p.stream(p.k)
	p.want(testStart, testRunning)
	if n, err := io.ReadFull(a, make([]byte, 20000)); err != nil {
		t.Fatal(n, err)
	}
	res := p.finish()
	if s := res.Streams; len(s) != 1 || s[0].Bytes != 20000 || s[0].Retransmits < 0 || res.Retransmits != 1 {
		t.Errorf("%+v", res)
	}
	if n, err := a.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the stream goes on: %d %v", n, err)
	}
}

func TestBusy(t *testing.T) {
	r := serve(t, nil)
	p := r.peer(t)
	p.open(plain)
	for _, when := range []string{"before the streams", "while data flows"} {
		q := r.peer(t)
		q.send(string(q.k[:]))
		q.want(accessDenied)
		if n, err := q.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: the denied connection stays: %d %v", when, n, err)
		}
		if when == "before the streams" {
			p.stream(p.k)
			p.want(testStart, testRunning)
		}
	}
	// The same client's third stream is one too many as well.
	c := p.stream(p.k)
	if s, err := readState(c); s != accessDenied || err != nil {
		t.Errorf("%v %v", s, err)
	}
	p.finish()
}

func TestWrongCookie(t *testing.T) {
	r := serve(t, nil)
	p := r.peer(t)
	p.open(plain)
	bad := p.stream(newCookie())
	if s, err := readState(bad); s != accessDenied || err != nil {
		t.Errorf("%v %v", s, err)
	}
	p.stream(p.k) // the right one still comes in
	p.want(testStart, testRunning)
	p.finish()
}

func TestParamsThatAreNone(t *testing.T) {
	r := serve(t, nil)
	for name, c := range map[string]struct {
		text string
		code int
	}{
		"no JSON":       {frame("{{{"), codeRecvParams},
		"too many":      {frame(`{"tcp":true,"parallel":1000000}`), codeNumStreams},
		"too long":      {frame(`{"title":"` + strings.Repeat("x", 9000) + `"}`), codeRecvParams},
		"absurd length": {"\xff\xff\xff\xff", codeRecvParams},
		"SCTP":          {frame(`{"sctp":true}`), codeProtocol},
	} {
		p := r.peer(t)
		p.send(string(p.k[:]))
		p.want(paramExchange)
		p.send(c.text)
		if c.code != 0 {
			p.wantError(c.code)
		}
		p.Close()
		r.idle(t)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	// A text just short enough is taken.
	p := r.peer(t)
	p.open(`{"tcp":true,"title":"` + strings.Repeat("x", 8000) + `"}`)
}

// A client that goes away frees the server, wherever it was.
func TestClientVanishes(t *testing.T) {
	r := serve(t, nil)
	for name, f := range map[string]func(p *peer){
		"in the cookie": func(p *peer) { p.send("short") },
		"before the parameters": func(p *peer) {
			p.send(string(p.k[:]))
			p.want(paramExchange)
		},
		"in the parameters": func(p *peer) {
			p.send(string(p.k[:]))
			p.want(paramExchange)
			p.send("\x00\x00\x01\x00{")
		},
		"before the streams": func(p *peer) { p.open(plain) },
		"between streams": func(p *peer) {
			p.open(`{"tcp":true,"time":1,"parallel":2}`)
			p.stream(p.k)
		},
		"in the test": func(p *peer) {
			p.open(plain)
			c := p.stream(p.k)
			p.want(testStart, testRunning)
			c.Write(make([]byte, 3000))
		},
		"while it is sent to": func(p *peer) {
			p.open(`{"tcp":true,"time":1,"parallel":1,"reverse":true}`)
			c := p.stream(p.k)
			p.want(testStart, testRunning)
			c.Read(make([]byte, 10))
		},
		"before the results": func(p *peer) {
			p.open(plain)
			p.stream(p.k)
			p.want(testStart, testRunning)
			writeState(p, testEnd)
			p.want(exchangeResults)
		},
		"after the results": func(p *peer) {
			p.open(plain)
			p.stream(p.k)
			p.want(testStart, testRunning)
			writeState(p, testEnd)
			p.want(exchangeResults)
			p.send(frame(`{"cpu_util_total":1,"cpu_util_user":1,"cpu_util_system":0,"sender_has_retransmits":1,"streams":[]}`))
			p.want(state(0)) // the first octet of a length
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, abort := range []bool{false, true} {
				p := r.peer(t)
				f(p)
				if abort {
					p.Conn.(*net.TCPConn).SetLinger(0)
				}
				p.Close()
				r.idle(t)
			}
		})
	}
	// The next client is served.
	p := r.peer(t)
	p.open(plain)
	p.stream(p.k)
	p.want(testStart, testRunning)
	p.finish()
}

func TestClientTerminates(t *testing.T) {
	r := serve(t, nil)
	p := r.peer(t)
	p.open(plain)
	c := p.stream(p.k)
	p.want(testStart, testRunning)
	c.Write(make([]byte, 2000))
	r.out.wait(t, "sec  1.95 KBytes")
	writeState(p, clientTerminate)
	r.idle(t)
	r.out.wait(t, "the client has terminated")
}

func TestUnknownMessage(t *testing.T) {
	r := serve(t, nil)
	p := r.peer(t)
	p.open(plain)
	p.stream(p.k)
	p.want(testStart, testRunning)
	writeState(p, 99)
	p.wantError(codeMessage)
	r.idle(t)

	p = r.peer(t)
	p.open(plain)
	p.stream(p.k)
	p.want(testStart, testRunning)
	writeState(p, testEnd)
	p.want(exchangeResults)
	p.send(frame(`{"no":"results"}`))
	p.wantError(codeRecvResults)
}

func TestServerEnds(t *testing.T) {
	r := serve(t, nil)
	p := r.peer(t)
	p.open(plain)
	c := p.stream(p.k)
	p.want(testStart, testRunning)
	c.Write(make([]byte, 1000))
	r.stop()
	p.want(serverTerminate)
	r.out.wait(t, "the server has terminated")
}

// One that says nothing does not keep others away.
func TestSilentConnections(t *testing.T) {
	r := serve(t, nil)
	for range 20 {
		r.peer(t)
	}
	p := r.peer(t)
	p.open(plain)
	p.stream(p.k)
	p.want(testStart, testRunning)
	p.finish()
}

func TestOneOff(t *testing.T) {
	r := serve(t, func(s *Server) { s.OneOff, s.JSON = true, true })
	p := r.peer(t)
	p.open(plain)
	p.stream(p.k)
	p.want(testStart, testRunning)
	p.finish()
	select {
	case err := <-r.done:
		r.done <- err
	case <-time.After(20 * time.Second):
		t.Fatal("the server goes on")
	}
	var doc document
	if err := json.Unmarshal([]byte(r.out.String()), &doc); err != nil || doc.Start.Accepted == nil || doc.End.SumReceived == nil || doc.Error != "" {
		t.Errorf("%v\n%s", err, r.out.String())
	}
}

// A datagram opens a stream only in a UDP test, from the client's host, while
// streams are wanted. A hello that is repeated is answered again.
func TestUDPHello(t *testing.T) {
	r := serve(t, nil)
	hello := func(local string) net.Conn {
		t.Helper()
		a, _ := net.ResolveUDPAddr("udp", local)
		c, err := net.DialUDP("udp", a, net.UDPAddrFromAddrPort(r.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.Write(udpHello[:])
		return c
	}
	answered := func(c net.Conn, wait time.Duration) bool {
		c.SetReadDeadline(time.Now().Add(wait))
		b := make([]byte, 100)
		n, err := c.Read(b)
		return err == nil && string(b[:n]) == string(udpAnswer[:])
	}
	early := hello("127.0.0.1:0") // no test at all
	p := r.peer(t)
	p.open(`{"udp":true,"time":1,"parallel":1,"len":100,"omit":0}`)
	stranger := hello("127.0.0.2:0")
	c := hello("127.0.0.1:0")
	if !answered(c, 20*time.Second) {
		t.Fatal("no answer")
	}
	p.want(testStart, testRunning)
	late := hello("127.0.0.1:0")
	c.Write(udpHello[:])
	if !answered(c, 20*time.Second) {
		t.Error("a repeated hello is not answered")
	}
	for i, n := range []uint64{1, 2, 5} {
		c.Write(datagram(n, time.Now().Add(time.Duration(i)), false))
	}
	c.Write([]byte("short")) // none of the test's
	r.out.wait(t, "2/5 (40%)")
	res := p.finish()
	if s := res.Streams; len(s) != 1 || s[0].Packets != 5 || s[0].Errors != 2 || s[0].Bytes != 3*64 {
		t.Errorf("%+v", res)
	}
	for name, c := range map[string]net.Conn{"early": early, "stranger": stranger, "late": late} {
		if answered(c, time.Millisecond) {
			t.Errorf("%s: answered", name)
		}
	}
}

// scripted is a server that does as the test says to one client.
func scripted(t *testing.T, c *Client, f func(p net.Conn)) (error, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p, err := l.Accept()
		if err != nil {
			return
		}
		defer p.Close()
		p.SetDeadline(time.Now().Add(20 * time.Second))
		io.ReadFull(p, make([]byte, 37))
		f(p)
	}()
	var out output
	c.Host, c.Target, c.Port, c.Out, c.Format = host.Hosted{Out: io.Discard}, "127.0.0.1", l.Addr().(*net.TCPAddr).AddrPort().Port(), &out, 'a'
	err = c.Run(context.Background())
	<-done
	return err, out.String()
}

func TestClientAgainstScriptedServers(t *testing.T) {
	say := func(b string) func(net.Conn) { return func(p net.Conn) { p.Write([]byte(b)); io.Copy(io.Discard, p) } }
	for name, c := range map[string]struct {
		f    func(net.Conn)
		code int
	}{
		"busy":             {say("\xff"), codeDenied},
		"server ends":      {say("\x0b"), codeServerTerm},
		"error":            {say("\xfe\x00\x00\x00\x06\x00\x00\x00\x00"), codeNumStreams},
		"error, cut short": {func(p net.Conn) { p.Write([]byte("\xfe\x00")) }, codeServerTerm},
		"closes":           {func(net.Conn) {}, codeCtrlClose},
		"unknown state":    {say("\x63"), codeMessage},
		"runs at once":     {say("\x02"), codeMessage},
		"results at once":  {say("\x0d"), codeMessage},
	} {
		err, out := scripted(t, &Client{Params: Params{Protocol: TCP, Time: time.Second}}, c.f)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(out, "iperf3: error - "+e.Error()) {
			t.Errorf("%s: %v, want code %d, printed\n%s", name, err, c.code, out)
		}
	}
	// In JSON the error is a member.
	err, out := scripted(t, &Client{JSON: true, Params: Params{Protocol: TCP, Time: time.Second}}, say("\xff"))
	var doc document
	if jerr := json.Unmarshal([]byte(out), &doc); err == nil || jerr != nil || !strings.Contains(doc.Error, "busy") {
		t.Errorf("%v %v\n%s", err, jerr, out)
	}
}

func TestClientCannotConnect(t *testing.T) {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	l.Close()
	for name, c := range map[string]*Client{
		"refused":        {Target: "127.0.0.1"},
		"wrong family":   {Target: "127.0.0.1", Family: 6},
		"bad parameters": {Target: "127.0.0.1", Params: Params{Parallel: 1000}},
		"bind elsewhere": {Target: "127.0.0.1", Bind: netip.MustParseAddr("192.0.2.1")},
		"late":           {Target: "127.0.0.1", ConnectTimeout: time.Nanosecond},
	} {
		var out output
		c.Host, c.Port, c.Out = host.Hosted{Out: io.Discard}, port, &out
		if err := c.Run(context.Background()); err == nil || !strings.Contains(out.String(), "iperf3: error - ") {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
}
