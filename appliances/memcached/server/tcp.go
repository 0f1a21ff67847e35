package server

import (
	"errors"
	"net"
	"sync"
	"time"

	"osv/appliances/memcached/proto"
)

// The socket engine for streams: a goroutine per connection, which reads what is
// there, runs it, and writes all replies with one Write.
//
// Memory: an idle connection holds its small read buffer and its goroutine.
// Large buffers come from a pool while there is something to do. A client that
// does not read blocks its goroutine in Write, with one reply buffer and at most
// one pinned item: there is no queue that could grow.

const (
	smallRead = 512
	bigRead   = 16 << 10
	replyBuf  = 16 << 10
)

// buffers are what a connection works with while it is busy.
type buffers struct {
	in  [bigRead]byte
	out [replyBuf]byte
	o   proto.Out
}

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// Serve serves the connections that l accepts, until the server is closed, and
// closes l then.
func (s *Server) Serve(l net.Listener) { s.serveTCP(l) }

func (s *Server) serveTCP(l net.Listener) {
	s.closers = append(s.closers, l)
	s.wg.Add(1)
	go s.accept(l)
}

func (s *Server) accept(l net.Listener) {
	defer s.wg.Done()
	for fails := 0; ; {
		nc, err := l.Accept()
		if err != nil {
			if s.closing() || errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.printf(1, "accept: %v", err)
			time.Sleep(backoff(fails))
			fails++
			continue
		}
		fails = 0
		s.open(nc)
	}
}

const tooManyConns = "ERROR Too many open connections\r\n"

// open starts to serve nc, or turns it away.
func (s *Server) open(nc net.Conn) {
	c := &conn{nc: nc, id: s.id(), kill: func() { nc.Close() }}
	s.begin(c, nc.LocalAddr(), nc.RemoteAddr())
	if !s.conns.add(c) {
		if s.opt.MaxConnsFast || s.closing() {
			s.refuse(nc)
			return
		}
		// Without maxconns_fast the client waits, and so do those behind it.
		from := time.Now()
		s.stats.listenDisabled.Add(1)
		for !s.conns.add(c) {
			if s.closing() {
				nc.Close()
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		s.stats.disabledNS.Add(int64(time.Since(from)))
	}
	s.opened(c)
	s.wg.Add(1)
	go s.run(c)
}

// begin fills in what all engines' connections have.
func (s *Server) begin(c *conn, local, remote net.Addr) {
	c.last.Store(int64(s.store.Now()))
	c.local, c.remote, c.peer = local.String(), remote.String(), addrOf(remote)
	c.proto.Init(s.proto, c.id)
}

// opened counts a registered connection, ended the end of one.
func (s *Server) opened(c *conn) {
	s.stats.total.Add(1)
	s.proven.add(c.peer, 1)
	s.log.printf(2, "%d: new connection from %s", c.id, c.remote)
}

func (s *Server) ended(c *conn) {
	c.proto.End()
	s.conns.remove(c)
	s.proven.add(c.peer, -1)
	s.log.printf(2, "%d: connection closed", c.id)
}

func (s *Server) refuse(nc net.Conn) {
	s.stats.rejected.Add(1)
	nc.SetWriteDeadline(time.Now().Add(time.Second))
	nc.Write([]byte(tooManyConns))
	nc.Close()
}

// connSink writes a full reply buffer.
type connSink struct{ c *conn }

func (w *connSink) Flush(b []byte) ([]byte, error) {
	w.c.state.Store(int32(connWrite))
	_, err := w.c.nc.Write(b)
	w.c.state.Store(int32(connParse))
	return b[:0], err
}

// run is the life of a connection.
func (s *Server) run(c *conn) {
	defer s.wg.Done()
	defer func() {
		c.nc.Close()
		s.ended(c)
	}()
	sink := connSink{c}
	small := make([]byte, smallRead)
	for {
		c.state.Store(int32(connRead))
		n, err := c.nc.Read(small)
		if n > 0 {
			c.last.Store(int64(s.store.Now()))
			if !s.busy(c, &sink, small[:n]) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// busy runs input in, and, while reads fill their buffer, what follows; then it
// writes the replies. It reports whether the connection stays.
func (s *Server) busy(c *conn, sink *connSink, in []byte) bool {
	c.state.Store(int32(connParse))
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	o := &b.o
	*o = proto.Out{B: b.out[:0], Sink: sink}
	full := len(in) == smallRead
	for {
		st := c.proto.Feed(in, o)
		if len(o.B) > 0 && o.Err == nil {
			_, o.Err = sink.Flush(o.B)
			o.B = o.B[:0]
		}
		if st == proto.Close || o.Err != nil {
			return false
		}
		if !full {
			return true
		}
		// More is likely there. If it is not, this read blocks with the big
		// buffer in hand, so look first whether it would.
		c.nc.SetReadDeadline(time.Now().Add(lingering))
		n, err := c.nc.Read(b.in[:])
		c.nc.SetReadDeadline(time.Time{})
		if n > 0 {
			c.last.Store(int64(s.store.Now()))
			in, full = b.in[:n], n == len(b.in)
			continue
		}
		var ne net.Error
		return errors.As(err, &ne) && ne.Timeout()
	}
}

// lingering is how long a busy connection waits for more with its large buffer.
const lingering = 2 * time.Millisecond
