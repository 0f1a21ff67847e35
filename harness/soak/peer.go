package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// peer is a memcached that a scenario talks to: a guest, or in the hosted tests a
// process on loopback.
type peer struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	addr string                   // of both TCP and UDP
	do   func(func() error) error // runs on a thread where sockets reach addr
	// lend gives the n-th of 10 addresses to connect from, and what takes it away
	// again, so that nothing answers for it any more; nil = not possible.
	lend func(n int) (from netip.Addr, takeAway func() error, err error)
	rss  func() (float64, error) // resident memory of the server; nil = not known
}

// replyTime is how long a client waits for one reply: far longer than any delay of
// a machine that others use too.
const replyTime = 20 * time.Second

// client is one connection that speaks memcached's text protocol.
type client struct {
	nc net.Conn
	r  *bufio.Reader
}

func (p peer) client(ctx context.Context) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, replyTime)
	defer cancel()
	nc, err := p.dial(ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	return &client{nc, bufio.NewReaderSize(nc, 64<<10)}, nil
}

func (c *client) close() { c.nc.Close() }

// say sends a request and returns the first line of the reply, without its end.
func (c *client) say(req string) (string, error) {
	if err := c.nc.SetDeadline(time.Now().Add(replyTime)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c.nc, req); err != nil {
		return "", err
	}
	return c.line()
}

func (c *client) line() (string, error) {
	l, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(l, "\r\n"), nil
}

// set stores a value; another answer than STORED is an error.
func (c *client) set(key, value string) error {
	l, err := c.say(fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", key, len(value), value))
	if err == nil && l != "STORED" {
		err = fmt.Errorf("set %s: %q", key, l)
	}
	return err
}

// get returns a value; ok is false for a miss.
func (c *client) get(key string) (value string, ok bool, err error) {
	l, err := c.say("get " + key + "\r\n")
	if err != nil || l == "END" {
		return "", false, err
	}
	var k string
	var flags, n int
	if _, err := fmt.Sscanf(l, "VALUE %s %d %d", &k, &flags, &n); err != nil || k != key || n < 0 || n > 64<<20 {
		return "", false, fmt.Errorf("get %s: %q", key, l)
	}
	b := make([]byte, n+len("\r\nEND\r\n"))
	if _, err := io.ReadFull(c.r, b); err != nil {
		return "", false, err
	}
	if string(b[n:]) != "\r\nEND\r\n" {
		return "", false, fmt.Errorf("get %s: value ends with %q", key, b[n:])
	}
	return string(b[:n]), true, nil
}

// stats reads one group of counters, "" for the general ones.
func (c *client) stats(group string) (map[string]string, error) {
	l, err := c.say(strings.TrimSpace("stats "+group) + "\r\n")
	m := map[string]string{}
	for ; err == nil && l != "END"; l, err = c.line() {
		w := strings.SplitN(l, " ", 3)
		if len(w) < 2 || w[0] != "STAT" {
			return nil, fmt.Errorf("stats %s: %q", group, l)
		}
		m[w[1]] = strings.Join(w[2:], " ")
	}
	return m, err
}

// counter is a stat as a number; one that is not there is 0, as Debian's server
// lacks ours.
func counter(m map[string]string, name string) float64 {
	v, _ := strconv.ParseFloat(m[name], 64)
	return v
}

// datagrams is one UDP socket that speaks memcached's text protocol. Replies of one
// datagram only.
type datagrams struct {
	nc   net.Conn
	id   uint16
	buf  []byte
	Lost int
}

func (p peer) datagrams(ctx context.Context) (*datagrams, error) {
	nc, err := p.dial(ctx, "udp", p.addr)
	if err != nil {
		return nil, err
	}
	return &datagrams{nc: nc, buf: make([]byte, 64<<10)}, nil
}

// udpWait is how long a reply is waited for before the request is sent again.
const udpWait = time.Second

// errLost: no reply to a request that was sent several times.
var errLost = errors.New("no reply by UDP to 20 requests in a row")

// say sends a request until its reply is there. Requests must be idempotent.
func (d *datagrams) say(ctx context.Context, req string) (string, error) {
	for range 20 {
		d.id++
		frame := append([]byte{byte(d.id >> 8), byte(d.id), 0, 0, 0, 1, 0, 0}, req...)
		if err := d.nc.SetDeadline(time.Now().Add(udpWait)); err != nil {
			return "", err
		}
		if _, err := d.nc.Write(frame); err != nil {
			return "", err
		}
		for {
			n, err := d.nc.Read(d.buf)
			if ne, is := errors.AsType[net.Error](err); is && ne.Timeout() {
				break
			}
			if err != nil {
				return "", err
			}
			b := d.buf[:n]
			if n >= 8 && (b[0] != frame[0] || b[1] != frame[1]) {
				continue // late, to a request that was given up
			}
			if n < 8 || b[2] != 0 || b[3] != 0 || b[4] != 0 || b[5] != 1 {
				return "", fmt.Errorf("UDP frame header % x", b[:min(n, 8)])
			}
			return string(b[8:]), nil
		}
		d.Lost++
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
	}
	return "", errLost
}
