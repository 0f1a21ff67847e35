package iperf3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"osv/appliances/iperf/host"
	"osv/appliances/iperf/units"
)

// Client runs one test against a server.
type Client struct {
	Host           host.Host
	Target         string // name or address
	Port           uint16
	Family         int        // 4 or 6: addresses of that family only
	Bind           netip.Addr // to connect from; zero: the host chooses
	ClientPort     uint16     // of the first stream; 0: the host chooses
	Params         Params
	Interval       time.Duration // between reports; 0: none
	Idle           time.Duration // without a received octet, that ends the test; 0: none
	ConnectTimeout time.Duration // 0: the host's
	JSON           bool
	Verbose        bool
	Format         byte
	Out            io.Writer

	c      host.Conn
	out    reporter
	cookie cookie
	remote netip.AddrPort
	t      *test
	ctl    <-chan control
}

// Run runs the test and reports it. The error was reported too.
func (c *Client) Run(ctx context.Context) error {
	o := textOptions{format: units.Format(c.Format), verbose: c.Verbose, client: true, title: c.Params.Title, system: c.Host.System()}
	if c.JSON {
		c.out = newJSON(c.Out, o)
	} else {
		c.out = newText(c.Out, o)
	}
	defer c.out.output()
	err := c.run(ctx)
	if c.t != nil {
		c.t.haltAll()
		c.t.close()
	}
	if c.c != nil {
		c.c.Close()
	}
	if err != nil {
		c.out.fail(err)
	}
	return err
}

func (c *Client) socket() host.Socket {
	p := &c.Params
	return host.Socket{Window: p.Window, MSS: p.MSS, NoDelay: p.NoDelay, TOS: p.TOS, Congestion: p.Congestion}
}

// run is the protocol: it follows the server's states.
func (c *Client) run(ctx context.Context) error {
	if err := c.connect(ctx); err != nil {
		return fmt.Errorf("unable to connect to server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		writeState(c.c, clientTerminate)
		c.c.SetDeadline(time.Now())
	})
	defer stop()
	err := c.follow()
	if ctx.Err() != nil {
		if c.t != nil && c.t.final != nil {
			c.out.end(c.t.ending(nil))
		}
		return &Error{Code: codeClientTerm}
	}
	return err
}

func (c *Client) connect(ctx context.Context) error {
	if c.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.ConnectTimeout)
		defer cancel()
	}
	c.out.connecting(c.Target, c.Port)
	addrs, err := c.Host.Lookup(ctx, c.Target)
	if err != nil {
		return err
	}
	err = fmt.Errorf("%s has no address of IPv%d", c.Target, c.Family)
	for _, a := range addrs {
		if c.Family == 4 && !a.Is4() || c.Family == 6 && a.Is4() || c.Bind.IsValid() && c.Bind.Is4() != a.Is4() {
			continue
		}
		c.remote = netip.AddrPortFrom(a, c.Port)
		if c.c, err = c.Host.Dial(ctx, c.local(0), c.remote, host.Socket{NoDelay: true, MSS: c.Params.MSS, TOS: c.Params.TOS}); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	c.c.SetKeepAlive(true)
	mss := 0
	if i, ok := c.c.Info(); ok {
		mss = i.MSS
	}
	c.Params.ClientVersion = clientVersion
	c.Params.fill(mss)
	if err := c.Params.check(); err != nil {
		return err
	}
	missing(c.Host, c.socket(), c.out)
	c.cookie = newCookie()
	_, err = c.c.Write(c.cookie[:])
	return err
}

// clientVersion is what servers are told: the version whose ways are followed.
const clientVersion = "3.12"

func (c *Client) local(port uint16) netip.AddrPort {
	if !c.Bind.IsValid() && port == 0 {
		return netip.AddrPort{}
	}
	bind := c.Bind
	if !bind.IsValid() {
		bind = netip.IPv4Unspecified()
		if !c.remote.Addr().Is4() {
			bind = netip.IPv6Unspecified()
		}
	}
	return netip.AddrPortFrom(bind, port)
}

// follow does what the server's states ask for.
func (c *Client) follow() error {
	for {
		s, err := c.next()
		if err != nil {
			return failed(codeCtrlClose, err)
		}
		switch s {
		case paramExchange:
			err = writeJSON(c.c, c.Params)
		case createStreams:
			err = c.create()
		case testStart:
			c.greet()
		case testRunning:
			err = c.data()
		case exchangeResults:
			err = c.exchange()
		case displayResults:
			return writeState(c.c, iperfDone)
		case accessDenied:
			return &Error{Code: codeDenied}
		case serverTerminate:
			return &Error{Code: codeServerTerm}
		case serverError:
			return readError(c.c)
		default:
			err = failed(codeMessage, fmt.Errorf("%v", s))
		}
		if err != nil {
			return err
		}
	}
}

// next is the server's next state; data has a reader on the way.
func (c *Client) next() (state, error) {
	if c.ctl == nil {
		return readState(c.c)
	}
	n := <-c.ctl
	c.ctl = nil
	return n.state, n.err
}

// helloWait is how long the server may take to answer a UDP stream's hello.
const helloWait = 30 * time.Second

var errAnswered = errors.New("answered")

// create opens the streams: those that send first.
func (c *Client) create() error {
	if c.t != nil {
		return failed(codeMessage, fmt.Errorf("%v again", createStreams))
	}
	p := &c.Params
	c.t = newTest(c.Host, *p, true, c.out)
	c.t.interval, c.t.idle, c.t.verbose = c.Interval, c.Idle, c.Verbose
	n := p.Parallel
	if p.Bidir {
		n *= 2
	}
	for i := range n {
		port := c.ClientPort
		if port != 0 {
			port += uint16(i)
		}
		s := &stream{sender: !p.Reverse && i < p.Parallel}
		var err error
		if p.Protocol == UDP {
			s.udp, err = c.openUDP(port)
		} else {
			s.tcp, err = c.openTCP(port)
		}
		if err != nil {
			return fmt.Errorf("unable to connect stream: %w", err)
		}
		c.t.add(s)
	}
	return nil
}

func (c *Client) openTCP(port uint16) (host.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), helloWait)
	defer cancel()
	conn, err := c.Host.Dial(ctx, c.local(port), c.remote, c.socket())
	if err != nil {
		return nil, err
	}
	if _, err = conn.Write(c.cookie[:]); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c *Client) openUDP(port uint16) (host.PacketConn, error) {
	conn, err := c.Host.DialPacket(c.local(port), c.remote, c.socket())
	if err != nil {
		return nil, err
	}
	if _, err = conn.Write(udpHello[:]); err == nil {
		conn.SetReadDeadline(time.Now().Add(helloWait))
		err = conn.Receive(func(d *host.Datagram) error {
			if len(d.Data) == 4 {
				return errAnswered
			}
			return nil
		})
	}
	if err != errAnswered {
		conn.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("the server does not answer by UDP: %w", err)
		}
		return nil, err
	}
	conn.SetReadDeadline(time.Time{})
	return conn, nil
}

func (c *Client) greet() {
	if c.t == nil {
		return
	}
	g := &greeting{Params: &c.t.p, Cookie: c.cookie.String(), Streams: c.t.endpoints()}
	if i, ok := c.c.Info(); ok {
		g.MSS = i.MSS
	}
	c.out.start(g)
}

// data lets the streams run and tells the server of the end.
func (c *Client) data() error {
	if c.t == nil || c.ctl != nil || c.t.final != nil {
		return failed(codeMessage, fmt.Errorf("%v out of turn", testRunning))
	}
	c.ctl = readControl(c.c)
	n, err := c.t.run(c.ctl)
	if err != nil {
		writeState(c.c, clientTerminate)
		return err
	}
	if n != (control{}) { // the server's end came first
		done := make(chan control, 1)
		done <- n
		c.ctl = done
		return nil
	}
	c.c.SetReadDeadline(time.Now().Add(resultWait))
	return writeState(c.c, testEnd)
}

// resultWait is how long the server may take to end a test: its streams may have
// full buffers.
const resultWait = 60 * time.Second

func (c *Client) exchange() error {
	if c.t == nil || c.t.final == nil {
		return failed(codeMessage, fmt.Errorf("%v out of turn", exchangeResults))
	}
	if err := writeJSON(c.c, c.t.results()); err != nil {
		return err
	}
	text, err := readText(c.c, maxResults)
	if err != nil {
		return failed(codeRecvResults, err)
	}
	r, err := parseResults(text)
	if err != nil {
		return err
	}
	c.out.end(c.t.ending(&r))
	return nil
}
