package iperf3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"osv/appliances/iperf/host"
	"osv/appliances/iperf/units"
)

// Version is how both ends name themselves.
const Version = "iperf 3.12 (OSv in Go)"

// DefaultPort is where a server listens, by TCP and UDP.
const DefaultPort = 5201

// Server serves tests, one at a time.
type Server struct {
	Host     host.Host
	Local    netip.AddrPort // without an address: any
	Interval time.Duration  // between reports; 0: none
	Idle     time.Duration  // without a received octet, that ends a test; 0: none
	JSON     bool
	Verbose  bool
	OneOff   bool // Serve returns after one test
	Format   byte // of rates: 'a', or one of kmgtKMGT
	Title    string
	Out      io.Writer

	tcp host.Listener
	udp host.PacketConn

	slots chan struct{} // connections that have not sent their cookie
	mu    sync.Mutex    // guards what follows
	cur   *session
	tests int
	once  bool // a test of OneOff has begun
}

// Limits on who has said nothing yet, so that they cannot use up the host.
const (
	cookieWait = 5 * time.Second
	maxSilent  = 4 * maxStreams
)

// Listen opens the ports.
func (s *Server) Listen() error {
	l, err := s.Host.Listen(s.Local, host.Socket{})
	if err != nil {
		return err
	}
	u, err := s.Host.ListenPacket(netip.AddrPortFrom(s.Local.Addr(), l.Addr().Port()), host.Socket{})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	s.tcp, s.udp = l, u
	s.slots = make(chan struct{}, maxSilent)
	return nil
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.tcp.Addr() }

// Serve serves tests until ctx ends, or one test with OneOff. The ports are
// closed when it returns.
func (s *Server) Serve(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		<-ctx.Done()
		s.tcp.Close()
		s.udp.Close()
	})
	wg.Go(func() { s.udp.Receive(s.datagram) })
	s.announce()
	for seq := 0; ; seq++ {
		c, err := s.tcp.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if temporary(err) {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		select {
		case s.slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		wg.Go(func() {
			if s.connection(ctx, c, seq) && s.OneOff {
				stop()
			}
		})
	}
}

// temporary reports an error of Accept that passes, such as a peer that has gone
// again.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func (s *Server) announce() {
	if s.JSON {
		return
	}
	s.mu.Lock()
	s.tests++
	n := s.tests
	s.mu.Unlock()
	fmt.Fprintf(s.Out, "%s\nServer listening on %d (test #%d)\n%[1]s\n", dashes, s.Addr().Port(), n)
}

const dashes = "-----------------------------------------------------------"

// connection finds out what a new connection is: a test's control connection, one
// of its streams, or one too many. It reports that it was the first and the test
// is over.
func (s *Server) connection(ctx context.Context, c host.Conn, seq int) bool {
	release := context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })
	c.SetReadDeadline(time.Now().Add(cookieWait))
	var k cookie
	_, err := io.ReadFull(c, k[:])
	<-s.slots
	if err != nil {
		release()
		c.Close()
		return false
	}
	c.SetReadDeadline(time.Time{}) // session.until heeds ctx from here on
	release()
	n, cur := s.claim(ctx, c, k)
	if n != nil {
		n.serve()
		s.mu.Lock()
		s.cur = nil
		s.mu.Unlock()
		close(n.over)
		if !s.OneOff && ctx.Err() == nil {
			s.announce()
		}
		return true
	}
	if cur != nil && cur.offer(k, c, seq) {
		return false
	}
	// Only now: a close with octets unread would be a reset, which can overtake
	// the answer.
	writeState(c, accessDenied)
	c.Close()
	return false
}

// claim makes a session of c where none runs, else it returns the one that does. A
// client that has its results may start the next test at once: that waits until
// the session is over.
func (s *Server) claim(ctx context.Context, c host.Conn, k cookie) (mine, cur *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.cur != nil && s.cur.ending {
		cur := s.cur
		s.mu.Unlock()
		<-cur.over
		s.mu.Lock()
	}
	if s.cur != nil || s.once {
		return nil, s.cur
	}
	n := newSession(ctx, s, c, k)
	s.cur, s.once = n, s.OneOff
	return n, nil
}

// datagram takes what comes to the UDP port and belongs to no stream yet.
func (s *Server) datagram(d *host.Datagram) error {
	s.mu.Lock()
	cur := s.cur
	s.mu.Unlock()
	if cur != nil {
		cur.hello(s.udp, d)
	}
	return nil
}

// session is one client's test at the server.
type session struct {
	s      *Server
	ctx    context.Context
	c      host.Conn
	cookie cookie
	peer   netip.AddrPort
	out    reporter
	t      *test
	ending bool          // the client has its results; guarded by s.mu
	over   chan struct{} // closed when serve has returned

	streams chan offered // capacity for all
	mu      sync.Mutex   // guards what follows
	want    int          // streams still to come
	udp     bool         // of datagrams
	socket  host.Socket
	greeted map[netip.AddrPort]host.PacketConn
}

// offered is a stream's socket, with its place in the order of arrival.
type offered struct {
	seq int
	tcp host.Conn
	udp host.PacketConn
}

func newSession(ctx context.Context, s *Server, c host.Conn, k cookie) *session {
	n := &session{
		s: s, ctx: ctx, c: c, cookie: k, peer: addrPort(c.RemoteAddr()),
		over: make(chan struct{}), streams: make(chan offered, 2*maxStreams), greeted: map[netip.AddrPort]host.PacketConn{},
	}
	o := textOptions{format: units.Format(s.Format), verbose: s.Verbose, title: s.Title, system: s.Host.System(), capture: true}
	if s.JSON {
		n.out = newJSON(s.Out, o)
	} else {
		n.out = newText(s.Out, o)
	}
	return n
}

// offer takes c as a stream of this test; false: it is none, or not wanted.
func (n *session) offer(k cookie, c host.Conn, seq int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.want == 0 || n.udp || k != n.cookie {
		return false
	}
	n.want--
	n.streams <- offered{seq: seq, tcp: c}
	return true
}

// hello takes the sender of d as a stream of this test. Only the client's own
// host may open one: a datagram carries no cookie.
func (n *session) hello(l host.PacketConn, d *host.Datagram) {
	answer, ok := answerTo(d.Data)
	if !ok || d.From.Addr() != n.peer.Addr() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.greeted[d.From]
	if c == nil {
		if n.want == 0 || !n.udp {
			return
		}
		var err error
		if c, err = l.Connect(d, n.socket); err != nil {
			return // the client asks for as long as it likes
		}
		n.greeted[d.From] = c
		n.want--
		// The answer comes first: data of the test that begins with the last stream
		// must not.
		c.Write(answer[:])
		n.streams <- offered{seq: len(n.greeted), udp: c}
		return
	}
	c.Write(answer[:])
}

// How long the client may take for its next step, and for opening its streams.
const (
	stepWait   = 10 * time.Second
	streamWait = 30 * time.Second
	doneWait   = time.Second
)

// serve runs the test and reports it.
func (n *session) serve() {
	defer n.c.Close()
	defer n.out.output()
	interrupt := context.AfterFunc(n.ctx, func() {
		writeState(n.c, serverTerminate)
		n.c.SetDeadline(time.Now())
	})
	defer interrupt()
	n.c.SetKeepAlive(true)
	n.c.Configure(host.Socket{NoDelay: true})
	n.out.accepted(n.peer)
	err := n.test()
	n.mu.Lock()
	n.want = 0
	n.mu.Unlock()
	for {
		select {
		case o := <-n.streams: // of a test that did not begin
			o.close()
			continue
		default:
		}
		break
	}
	if n.t != nil {
		n.t.haltAll()
		n.t.close()
	}
	if err == nil {
		return
	}
	if n.ctx.Err() != nil {
		err = &Error{Code: codeServerTerm}
	}
	n.out.fail(err)
	var e *Error
	if errors.As(err, &e) && e.Code != codeClientTerm && e.Code != codeCtrlClose && e.Code != codeServerTerm {
		writeError(n.c, e)
	}
}

func (o offered) close() {
	if o.udp != nil {
		o.udp.Close()
	} else {
		o.tcp.Close()
	}
}

// until gives the client d for its next step, 0 for no limit.
func (n *session) until(d time.Duration) {
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	n.c.SetDeadline(t)
	if n.ctx.Err() != nil {
		n.c.SetDeadline(time.Now()) // its end may have come before the line above
	}
}

// test is the protocol, step by step.
func (n *session) test() error {
	n.until(stepWait)
	if err := writeState(n.c, paramExchange); err != nil {
		return failed(codeCtrlClose, err)
	}
	text, err := readText(n.c, maxParams)
	if err != nil {
		return failed(codeRecvParams, err)
	}
	n.until(0)
	p, err := parseParams(text)
	if err != nil {
		return err
	}
	ctl, err := n.create(p)
	if err != nil {
		return err
	}
	n.greet()
	if _, err := n.c.Write([]byte{byte(testStart), byte(testRunning)}); err != nil {
		return failed(codeCtrlClose, err)
	}
	c, err := n.t.run(ctl)
	switch {
	case err != nil:
		n.out.end(n.t.ending(nil))
		return err
	case c.err != nil:
		n.out.end(n.t.ending(nil))
		return failed(codeCtrlClose, c.err)
	case c.state == clientTerminate:
		n.out.end(n.t.ending(nil))
		return &Error{Code: codeClientTerm}
	case c.state != testEnd:
		return failed(codeMessage, fmt.Errorf("%v", c.state))
	}
	return n.exchange()
}

// create has the client open its streams. The channel brings what comes next on
// the control connection.
func (n *session) create(p Params) (<-chan control, error) {
	t := newTest(n.s.Host, p, false, n.out)
	t.interval, t.idle, t.verbose = n.s.Interval, n.s.Idle, n.s.Verbose
	receivers, senders := p.Parallel, 0
	switch {
	case p.Bidir:
		senders = p.Parallel
	case p.Reverse:
		receivers, senders = 0, p.Parallel
	}
	n.mu.Lock()
	n.want, n.udp = receivers+senders, p.Protocol == UDP
	n.socket = host.Socket{Window: p.Window, MSS: p.MSS, NoDelay: p.NoDelay, TOS: p.TOS, Congestion: p.Congestion}
	n.mu.Unlock()
	if err := writeState(n.c, createStreams); err != nil {
		return nil, failed(codeCtrlClose, err)
	}
	ctl := readControl(n.c)
	timeout := time.After(streamWait)
	var got []offered
	abandon := func(err error) (<-chan control, error) {
		for _, o := range got {
			o.close()
		}
		return nil, err
	}
	for len(got) < receivers+senders {
		select {
		case o := <-n.streams:
			got = append(got, o)
		case c := <-ctl:
			if c.err == nil {
				c.err = fmt.Errorf("%v instead of streams", c.state)
			}
			return abandon(failed(codeCtrlClose, c.err))
		case <-timeout:
			return abandon(failed(codeAccept, fmt.Errorf("%d of %d streams came", len(got), receivers+senders)))
		}
	}
	// Each connection's cookie was read by a goroutine of its own: what counts is
	// the order in which they were opened.
	slices.SortFunc(got, func(a, b offered) int { return a.seq - b.seq })
	n.t = t
	for i, o := range got {
		t.add(&stream{tcp: o.tcp, udp: o.udp, sender: i >= receivers})
	}
	for _, o := range got {
		if o.tcp == nil {
			continue
		}
		if err := o.tcp.Configure(n.socket); err != nil {
			if p.Congestion == "" {
				return nil, failed(codeBufSize, err)
			}
			t.p.Congestion, n.socket.Congestion = "", "" // this host does not have it
		}
	}
	return ctl, nil
}

// readControl reads the next state in the background.
func readControl(c io.Reader) <-chan control {
	ch := make(chan control, 1)
	go func() {
		s, err := readState(c)
		if err == io.EOF {
			err = errors.New("the other end has closed the control connection")
		}
		ch <- control{s, err}
	}()
	return ch
}

func (n *session) greet() {
	g := &greeting{Params: &n.t.p, Cookie: n.cookie.String()}
	if i, ok := n.c.Info(); ok {
		g.MSS = i.MSS
	}
	g.Streams = n.t.endpoints()
	n.out.start(g)
	if n.s.Verbose {
		missing(n.s.Host, n.socket, n.out)
	}
}

func (t *test) endpoints() (out []endpoints) {
	for _, s := range t.streams {
		local, remote := s.ends()
		out = append(out, endpoints{s.id, s.sender, local, remote})
	}
	return out
}

// exchange ends a test that went well.
func (n *session) exchange() error {
	n.out.end(n.t.ending(nil))
	n.t.close()
	n.until(stepWait)
	if err := writeState(n.c, exchangeResults); err != nil {
		return failed(codeCtrlClose, err)
	}
	text, err := readText(n.c, maxResults/16)
	if err != nil {
		return failed(codeRecvResults, err)
	}
	if _, err := parseResults(text); err != nil {
		return err
	}
	r := n.t.results()
	if n.t.p.ServerOutput {
		r.OutputText, r.OutputJSON = n.out.output()
	}
	if err := writeJSON(n.c, r); err != nil {
		return failed(codeCtrlClose, err)
	}
	n.s.mu.Lock()
	n.ending = true
	n.s.mu.Unlock()
	if err := writeState(n.c, displayResults); err != nil {
		return failed(codeCtrlClose, err)
	}
	// Some clients close instead of saying that they are done.
	n.until(doneWait)
	if s, err := readState(n.c); err == nil && s != iperfDone {
		return failed(codeMessage, fmt.Errorf("%v", s))
	}
	return nil
}
