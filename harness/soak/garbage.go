package soak

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// garbage makes input for a memcached that is wrong in every way we could think
// of: not the protocol at all, the protocol with octets changed, lengths that lie,
// requests that stop in the middle. Nothing of it names a key of the checking
// client or may shrink the cache; what it stores has few keys or expires within
// seconds, so that it all fits.
type garbage struct{ rng *rand.Rand }

func newGarbage(seed uint64) *garbage { return &garbage{rand.New(rand.NewPCG(seed, 0x6a7b))} }

func (g *garbage) pick(s ...string) string { return s[g.rng.IntN(len(s))] }

func (g *garbage) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.rng.Uint32())
	}
	return b
}

// key is one of a few hundred, some of them not allowed.
func (g *garbage) key() string {
	i := g.rng.IntN(64)
	switch g.rng.IntN(8) {
	case 0:
		return strings.Repeat("k", 240+i) // the limit is 250
	case 1:
		return fmt.Sprintf("\x80\xff\x01-%d", i)
	case 2:
		return g.pick("", " ", "\x00", "\t", "k\x00k")
	default:
		return fmt.Sprintf("garbage-%d", i)
	}
}

func (g *garbage) number() string {
	return g.pick("0", "1", "-1", "+5", "00", "4294967295", "4294967296", "18446744073709551615", "18446744073709551616",
		"99999999999999999999999", "0x10", "1e9", "1.5", "", "NaN", "1 1", "\x00", "2147483648", "-9223372036854775808")
}

// length is what a set says of n bytes of data, mostly not the truth.
func (g *garbage) length(n int) string {
	if g.rng.IntN(3) == 0 {
		return g.number()
	}
	return fmt.Sprint(n + g.rng.IntN(5) - 2)
}

// line is a text or meta command that is almost one.
func (g *garbage) line() string {
	data := strings.Repeat("d", g.rng.IntN(300))
	switch g.rng.IntN(14) {
	case 0:
		return fmt.Sprintf("%s %s\r\n", g.pick("get", "gets", "gat 0", "gat", "gats -1", "GET", "get get", "getx", "delete", "mn", "incr", "touch"), g.key())
	case 1, 2:
		return fmt.Sprintf("%s %s %s 2 %s\r\n%s%s", g.pick("set", "add", "replace", "append", "prepend", "cas"), g.key(), g.number(),
			g.length(len(data)), data, g.pick("\r\n", "\n", "", "\r", "xx"))
	case 3:
		return fmt.Sprintf("set %s 0 2 %d%s\r\n%s\r\n", g.key(), len(data), g.pick("", " noreply", " norepl", " noreply noreply"), data)
	case 4:
		return fmt.Sprintf("%s %s %s\r\n", g.pick("incr", "decr", "touch", "gat"), g.key(), g.number())
	case 5:
		return fmt.Sprintf("ms %s %s %s\r\n%s\r\n", g.key(), g.length(len(data)), g.flags()+" T2", data)
	case 6:
		return fmt.Sprintf("%s %s %s\r\n", g.pick("mg", "md", "ma", "me", "mx", "m"), g.key(), g.flags())
	case 7:
		return fmt.Sprintf("get%s\r\n", strings.Repeat(" "+g.key(), g.rng.IntN(200)))
	case 8:
		return strings.Repeat(g.pick("x", "get ", " ", "\x00"), g.rng.IntN(4000)) + g.pick("", "\n", "\r\n")
	case 9:
		return g.pick("stats", "stats items", "stats slabs", "stats settings", "stats conns", "stats cachedump 1 10", "stats cachedump 999 -1", "stats nothing", "stats detail dump",
			"version", "verbosity 0", "verbosity", "flush_all", "flush_all -1", "flush_all x y", "shutdown", "watch", "lru", "lru_crawler", "lru_crawler metadump all",
			"lru_crawler crawl x", "slabs", "slabs reassign 99 -5", "slabs automove 9", "cache_memlimit", "cache_memlimit x", "misbehave", "quit now") + "\r\n"
	case 10:
		return fmt.Sprintf("set %s 0 2 %s\r\n", g.key(), g.pick("1048577", "104857600", "4294967296", "-1"))
	case 11:
		return g.pick("\r\n", "\n", "\n\n\n", "\r", "\x00\r\n", "\x80", "\x81\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00")
	case 12:
		return string(g.bytes(g.rng.IntN(200)))
	default:
		return fmt.Sprintf("mn\r\nmg %s v q\r\nmn\r\nget %s\r\n", g.key(), g.key())
	}
}

func (g *garbage) flags() string {
	var b strings.Builder
	for range g.rng.IntN(12) {
		b.WriteByte(' ')
		b.WriteByte(byte(0x21 + g.rng.IntN(0x5e)))
		if g.rng.IntN(2) == 0 {
			b.WriteString(g.number())
		}
	}
	return strings.TrimSpace(b.String())
}

// frame is a binary request (memcached's binary protocol, section 2) that may lie
// about each of its lengths. FLUSH and FLUSHQ are left out: the option against
// flush_all may not cover them.
func (g *garbage) frame() []byte {
	key, extras, value := g.key(), g.rng.IntN(25), g.rng.IntN(100)
	h := make([]byte, 24, 24+extras+len(key)+value)
	h[0] = 0x80
	h[1] = byte(g.rng.IntN(0x50))
	if h[1] == 0x08 || h[1] == 0x18 {
		h[1] = 0xff
	}
	binary.BigEndian.PutUint16(h[2:], uint16(len(key)))
	h[4] = byte(extras)
	h[5] = byte(g.rng.IntN(8) / 7)
	binary.BigEndian.PutUint32(h[8:], uint32(extras+len(key)+value))
	switch g.rng.IntN(6) {
	case 0:
		binary.BigEndian.PutUint16(h[2:], uint16(g.rng.Uint32()))
	case 1:
		h[4] = byte(g.rng.Uint32())
	case 2:
		binary.BigEndian.PutUint32(h[8:], g.rng.Uint32())
	case 3:
		binary.BigEndian.PutUint32(h[8:], uint32(g.rng.IntN(64)))
	}
	ex := make([]byte, extras)
	if extras >= 8 {
		binary.BigEndian.PutUint32(ex[4:], 2) // a set's expiry
	}
	h = append(append(h, ex...), key...)
	return append(h, g.bytes(value)...)
}

// burst is what a connection sends before it is looked at again.
func (g *garbage) burst() []byte {
	var b []byte
	binaryProto := g.rng.IntN(4) == 0
	for range 1 + g.rng.IntN(8) {
		if binaryProto {
			b = append(b, g.frame()...)
		} else {
			b = append(b, g.line()...)
		}
	}
	if g.rng.IntN(4) == 0 {
		b = b[:g.rng.IntN(len(b)+1)] // stops in the middle
	}
	return b
}

// datagram is a UDP payload: frames with headers that lie, and none at all.
func (g *garbage) datagram() []byte {
	var b []byte
	if g.rng.IntN(5) == 0 {
		b = g.frame()
	} else {
		b = []byte(g.line())
	}
	h := []byte{byte(g.rng.Uint32()), byte(g.rng.Uint32()), 0, 0, 0, 1, 0, 0}
	switch g.rng.IntN(8) {
	case 0:
		return g.bytes(g.rng.IntN(64))
	case 1:
		return h[:g.rng.IntN(len(h))]
	case 2:
		copy(h[2:], g.bytes(6))
	case 3:
		h[5] = byte(g.rng.IntN(4)) // one of several that never come
	case 4:
		b = append(b, g.bytes(g.rng.IntN(8000))...) // in fragments
	}
	return append(h, b...)
}

// garbageLoad is the traffic of a garbage scenario.
type garbageLoad struct {
	p       peer
	conns   int
	seed    uint64
	pause   time.Duration // between two bursts of a connection
	bursts  atomic.Int64
	opened  atomic.Int64
	grams   atomic.Int64
	octets  atomic.Int64
	answers atomic.Int64 // octets that came back
}

// run sends until ctx ends. A connection that the server closes is opened again;
// one that it does not accept within replyTime is an error.
func (l *garbageLoad) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, l.conns+1)
	for i := range l.conns {
		wg.Go(func() {
			if err := l.stream(ctx, newGarbage(l.seed+uint64(i))); err != nil {
				errs <- err
				cancel()
			}
		})
	}
	wg.Go(func() {
		if err := l.udp(ctx, newGarbage(l.seed+1000)); err != nil {
			errs <- err
			cancel()
		}
	})
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// over reports that ctx has ended, or is about to: a dialler that was given its
// deadline gives up a moment before the context does.
func over(ctx context.Context) bool {
	end, has := ctx.Deadline()
	return ctx.Err() != nil || has && time.Until(end) < 100*time.Millisecond
}

func (l *garbageLoad) stream(ctx context.Context, g *garbage) error {
	for ctx.Err() == nil {
		cl, err := l.p.client(ctx)
		if over(ctx) {
			if err == nil {
				cl.close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("a connection for garbage: %w", err)
		}
		l.opened.Add(1)
		l.one(ctx, g, cl.nc)
	}
	return nil
}

// one is the life of one connection. What the server does to it is its own
// business.
func (l *garbageLoad) one(ctx context.Context, g *garbage, nc net.Conn) {
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	read := make(chan struct{})
	go func() {
		defer close(read)
		n, _ := io.Copy(io.Discard, nc)
		l.answers.Add(n)
	}()
	for range 1 + g.rng.IntN(20) {
		b := g.burst()
		for len(b) > 0 {
			n := len(b)
			if g.rng.IntN(3) == 0 {
				n = 1 + g.rng.IntN(len(b))
			}
			if err := nc.SetWriteDeadline(time.Now().Add(replyTime)); err != nil {
				break
			}
			m, err := nc.Write(b[:n])
			l.octets.Add(int64(m))
			if err != nil {
				b = nil
				break
			}
			b = b[n:]
		}
		l.bursts.Add(1)
		if !sleep(ctx, l.pause) {
			break
		}
		select {
		case <-read: // closed by the server
			nc.Close()
			return
		default:
		}
	}
	switch tc, is := nc.(*net.TCPConn); {
	case is && g.rng.IntN(3) == 0:
		tc.SetLinger(0) //nolint:errcheck // an RST instead of a FIN
	case is && g.rng.IntN(2) == 0:
		tc.CloseWrite() //nolint:errcheck // half-closed for a moment
		sleep(ctx, l.pause)
	}
	nc.Close()
	<-read
}

func (l *garbageLoad) udp(ctx context.Context, g *garbage) error {
	for ctx.Err() == nil {
		nc, err := l.p.dial(ctx, "udp", l.p.addr)
		if over(ctx) {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("a socket for garbage: %w", err)
		}
		read := make(chan struct{})
		go func() {
			defer close(read)
			n, _ := io.Copy(io.Discard, nc)
			l.answers.Add(n)
		}()
		for range 500 {
			n, err := nc.Write(g.datagram())
			l.octets.Add(int64(n))
			if err != nil {
				break // a port that is closed shows on the next write
			}
			l.grams.Add(1)
			if !sleep(ctx, l.pause) {
				break
			}
		}
		nc.Close()
		<-read
	}
	return nil
}

func (l *garbageLoad) report(r *Run) error {
	r.figure("garbage connections", float64(l.opened.Load()), "")
	r.figure("garbage bursts", float64(l.bursts.Load()), "")
	r.figure("garbage datagrams", float64(l.grams.Load()), "")
	r.figure("garbage octets", float64(l.octets.Load()), "")
	r.figure("octets that came back", float64(l.answers.Load()), "")
	if l.bursts.Load() == 0 || l.grams.Load() == 0 || l.answers.Load() == 0 {
		return fmt.Errorf("%d bursts and %d datagrams of garbage were sent, %d octets came back: the load did not work",
			l.bursts.Load(), l.grams.Load(), l.answers.Load())
	}
	return nil
}
