package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"osv/appliances/memcached/options"
)

func TestServes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.connect()
		c.ask("set a 1 0 3\r\nabc\r\n", "STORED\r\n")
		c.ask("get a\r\n", "VALUE a 1 3\r\nabc\r\nEND\r\n")
		big := bigValue(900000)
		c.ask("set big 0 0 900000\r\n"+big+"\r\nget big a\r\nmg big v k\r\nmn\r\n",
			"STORED\r\nVALUE big 0 900000\r\n"+big+"\r\nVALUE a 1 3\r\nabc\r\nEND\r\nVA 900000 kbig\r\n"+big+"\r\nMN\r\n")
		// Byte by byte.
		for _, b := range "get a\r" {
			c.ask(string(b), "")
		}
		c.ask("\n", "VALUE a 1 3\r\nabc\r\nEND\r\n")
		// Pipelined.
		c.ask(strings.Repeat("get a\r\n", 2000), strings.Repeat("VALUE a 1 3\r\nabc\r\nEND\r\n", 2000))
		c.ask("get"+strings.Repeat(" a", 3000)+"\r\n", strings.Repeat("VALUE a 1 3\r\nabc\r\n", 3000)+"END\r\n")
		// The same cache by UDP.
		for req, want := range map[string]string{
			"get a\r\n":              "VALUE a 1 3\r\nabc\r\nEND\r\n",
			"get a b a\r\n":          "VALUE a 1 3\r\nabc\r\nVALUE a 1 3\r\nabc\r\nEND\r\n",
			"set u 0 0 1\r\nx\r\n":   "STORED\r\n",
			"bogus\r\n":              "ERROR\r\n",
			"mg a v\r\n":             "VA 3\r\nabc\r\n",
			"set m 0 0 5000\r\n\r\n": "CLIENT_ERROR bad data chunk\r\n",
		} {
			if got := w.exchange(req); got != want {
				t.Errorf("UDP %q: %q, want %q", req, got, want)
			}
		}
		c.ask("set medium 0 0 9000\r\n"+big[:9000]+"\r\n", "STORED\r\n")
		if got := w.exchange("get medium\r\n"); got != "VALUE medium 0 9000\r\n"+big[:9000]+"\r\nEND\r\n" {
			t.Errorf("UDP reply of several datagrams: %d bytes", len(got))
		}
		c.ask("get a\r\nquit\r\nget a\r\n", "VALUE a 1 3\r\nabc\r\nEND\r\n")
		c.closed()
	})
}

func TestStatsTellTheEngine(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		name := w.s.opt.Engine
		if got := w.stat("engine"); got != string(name) {
			t.Errorf("engine %q", got)
		}
		c := w.connect()
		for _, group := range []string{"settings", "conns", "items", "slabs"} {
			c.ask("stats "+group+"\r\n", "")
			n := 0
			for {
				line, err := c.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if line == "END\r\n" {
					break
				}
				if !strings.HasPrefix(line, "STAT ") || len(strings.Fields(line)) < 3 {
					t.Errorf("stats %s: %q", group, line)
				}
				n++
			}
			if want := map[string]int{"settings": 40, "conns": 4, "items": 0, "slabs": 2}[group]; n < want {
				t.Errorf("stats %s: %d lines", group, n)
			}
		}
		if w.stat("max_connections") != "1024" || w.stat("threads") != "2" || w.stat("rejected_connections") != "0" {
			t.Error("wrong statistics")
		}
		c.ask("stats reset\r\n", "RESET\r\n")
		if !strings.Contains(w.s.Banner(), "engine "+string(name)) {
			t.Error(w.s.Banner())
		}
	})
}

func TestConnectionLimit(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.connect(), w.connect()
		a.ask("mn\r\n", "MN\r\n")
		b.ask("mn\r\n", "MN\r\n")
		c := w.connect()
		c.expect("a third connection", tooManyConns)
		c.closed()
		a.Conn.Close()
		settles(t, "room for another", func() bool { n, _ := w.s.conns.len(); return n == 1 })
		d := w.connect()
		d.ask("mn\r\n", "MN\r\n")
		d.Conn.Close()
		settles(t, "room for another", func() bool { n, _ := w.s.conns.len(); return n == 1 })
		if got := w.stat("rejected_connections"); got != "1" {
			t.Errorf("%s rejected", got)
		}
	}, "-c", "2")
}

func TestSlowConnectionLimit(t *testing.T) {
	w := newWorld(t, "linux", "-c", "1", "-o", "no_maxconns_fast")
	a := w.connect()
	a.ask("mn\r\n", "MN\r\n")
	b := w.connect()
	io.WriteString(b.Conn, "mn\r\n")
	settles(t, "the second waits", func() bool { return w.s.stats.listenDisabled.Load() == 1 })
	a.Conn.Close()
	b.expect("mn", "MN\r\n")
}

// TestSlowReaders: clients that ask for much and read nothing hold one reply
// buffer and one item each, and harm nobody.
func TestSlowReaders(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.connect()
		big := bigValue(500000)
		c.ask("set big 0 0 500000\r\n"+big+"\r\nset a 0 0 1\r\nx\r\n", "STORED\r\nSTORED\r\n")
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var slow []*client
		for range 8 {
			s := w.connect()
			slow = append(slow, s)
			// 50 MB of replies each, of which none is read.
			io.WriteString(s.Conn, strings.Repeat("get big big big big big\r\n", 20))
		}
		for _, s := range slow {
			// The first bytes are there, so the server is at it.
			if b, err := s.Peek(6); err != nil {
				t.Fatalf("%q %v", b, err)
			}
		}
		for range 200 {
			c.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n")
			if got := w.exchange("get a\r\n"); got != "VALUE a 0 1\r\nx\r\nEND\r\n" {
				t.Fatalf("UDP: %q", got)
			}
		}
		// Replacing the value while it is being read.
		c.ask("set big 0 0 1\r\ny\r\nget big\r\n", "STORED\r\nVALUE big 0 1\r\ny\r\nEND\r\n")
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8*(2*replyBuf+1<<20) {
			t.Errorf("the heap grew by %d bytes", grown)
		}
		// One of them reads on: what it got first is the old value, whole.
		slow[0].expect("get big", "VALUE big 0 500000\r\n"+big+"\r\n")
		for _, s := range slow {
			s.Conn.Close()
		}
		settles(t, "the slow readers are gone", func() bool { n, _ := w.s.conns.len(); return n == 1 })
		c.ask("flush_all\r\n", "OK\r\n")
		settles(t, "all memory is free", func() bool {
			w.s.store.Maintain(nil)
			used := 0
			for _, ci := range w.s.store.Info().Classes {
				used += ci.Used
			}
			return used == 0
		})
	})
}

// TestHalfOpen: connections that send part of a request and no more hold what
// that takes, and let go of it when they end.
func TestHalfOpen(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.connect()
		var half []*client
		for i, part := range []string{"g", "get a", "set x 0 0 100000\r\nabc", "set x 0 0 3\r\nabc\r", "ms x 9999999\r\nabc", "\x80", "\x80\x01\x00\x01\x08\x00\x00\x00\x00\x10\x00\x00", ""} {
			h := w.connect()
			io.WriteString(h.Conn, part)
			half = append(half, h)
			c.ask(fmt.Sprintf("set k%d 0 0 1\r\nx\r\n", i), "STORED\r\n")
		}
		settles(t, "the parts have come", func() bool { return w.s.store.Info().TooLarge == 1 })
		for _, h := range half {
			h.Conn.Close()
		}
		settles(t, "they are gone", func() bool { n, _ := w.s.conns.len(); return n == 1 })
		c.ask("get x\r\nflush_all\r\n", "END\r\nOK\r\n")
		w.s.store.Maintain(nil)
		w.s.store.Maintain(nil)
		for _, ci := range w.s.store.Info().Classes {
			if ci.Used != 0 {
				t.Errorf("class %d: %d chunks used", ci.Class, ci.Used)
			}
		}
	})
}

// TestMalformedBesideGood: while several connections and datagrams send garbage,
// a checking client reads its own keys.
func TestMalformedBesideGood(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for id := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				x := uint64(id + 1)
				for {
					select {
					case <-stop:
						return
					default:
					}
					nc, err := w.dial()
					if err != nil {
						continue
					}
					var b []byte
					for range 2000 {
						x = x*6364136223846793005 + 1442695040888963407
						switch x >> 60 {
						case 0:
							b = append(b, "\r\nget "...)
						case 1:
							b = append(b, "\r\nset bad 0 0 "...)
						case 2:
							b = append(b, "\r\nms bad "...)
						case 3:
							b = append(b, 0x80)
						case 4:
							b = append(b, "\r\nmg bad v"...)
						default:
							b = append(b, byte(x>>33))
						}
					}
					nc.SetDeadline(time.Now().Add(time.Second))
					nc.Write(b)
					nc.Close()
				}
			}()
		}
		c := w.connect()
		for i := range 300 {
			k, v := fmt.Sprint("mine", i%50), bigValue(i*37%5000)
			c.ask(fmt.Sprintf("set %s 0 0 %d\r\n%s\r\nget %s\r\n", k, len(v), v, k), fmt.Sprintf("STORED\r\nVALUE %s 0 %d\r\n%s\r\nEND\r\n", k, len(v), v))
		}
		close(stop)
		wg.Wait()
	})
}

func TestIdleTimeout(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.connect()
		c.ask("mn\r\n", "MN\r\n")
		w.s.store.Tick(time.Now().Unix() + 100)
		w.s.conns.kickIdle(w.s)
		if _, err := c.ReadByte(); err == nil {
			t.Error("it says something")
		}
		settles(t, "it is gone", func() bool { n, _ := w.s.conns.len(); return n == 0 })
		if n := w.s.stats.idleKicks.Load(); n != 1 {
			t.Errorf("%d kicked", n)
		}
	}, "-o", "idle_timeout=10")
}

func TestShutdownByClient(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.connect()
		c.ask("shutdown\r\n", "")
		c.closed()
		switch h := w.s.host.(type) {
		case *Hosted:
			<-h.Stopped()
		case *OnStack:
			<-h.Stopped()
		}
	}, "-A")
}

func TestAmplificationCap(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.connect()
		c.ask("set a 0 0 3000\r\n"+bigValue(3000)+"\r\n", "STORED\r\n")
		c.Conn.Close()
		settles(t, "the connection is gone", func() bool { n, _ := w.s.conns.len(); return n == 0 })
		if got := w.exchange("get a\r\n"); got != "SERVER_ERROR reply too long for UDP\r\n" {
			t.Errorf("unproven: %.60q", got)
		}
		c = w.connect()
		c.ask("mn\r\n", "MN\r\n")
		if got := w.exchange("get a\r\n"); len(got) < 3000 {
			t.Errorf("proven: %.60q", got)
		}
	}, "-o", "udp_amplification=5")
}

func TestManyConnections(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		n := 300
		if testing.Short() {
			n = 100
		}
		var cs []*client
		for i := range n {
			c := w.connect()
			c.ask(fmt.Sprintf("set k%d 0 0 1\r\nx\r\n", i), "STORED\r\n")
			cs = append(cs, c)
		}
		var wg sync.WaitGroup
		for i, c := range cs {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for j := range 20 {
					k := fmt.Sprint("k", (i+j)%n)
					c.ask("get "+k+"\r\n", "VALUE "+k+" 0 1\r\nx\r\nEND\r\n")
				}
			}()
		}
		wg.Wait()
		if got, peak := w.s.conns.len(); got != n || peak != n {
			t.Errorf("%d connections, at most %d", got, peak)
		}
	})
}

// TestTenThousandConnections: they are all served, by each engine of ours, and
// an idle one holds little.
func TestTenThousandConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: takes seconds; run without -short")
	}
	const n = 10000
	for _, engine := range []string{"batch", "channel"} {
		t.Run(engine, func(t *testing.T) {
			w := newWorld(t, engine, "-c", "20000")
			w.limit = 5 * time.Minute
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			cs := make([]net.Conn, n)
			for i := range cs {
				nc, err := w.dial()
				if err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
				cs[i] = nc
			}
			settles(t, "all are open", func() bool { got, _ := w.s.conns.len(); return got == n })
			runtime.GC()
			runtime.ReadMemStats(&after)
			// Both ends are in this process.
			per := int64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse) / n
			t.Logf("%d bytes per idle connection, both ends", per)
			if per > 24<<10 {
				t.Errorf("%d bytes per idle connection", per)
			}
			b := make([]byte, 4)
			for i := 0; i < n; i += 7 {
				if _, err := io.WriteString(cs[i], "mn\r\n"); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(cs[i], b); err != nil || string(b) != "MN\r\n" {
					t.Fatalf("connection %d: %q %v", i, b, err)
				}
			}
			for _, c := range cs {
				c.Close()
			}
			settles(t, "all are gone", func() bool { got, _ := w.s.conns.len(); return got == 0 })
		})
	}
}

// TestCloseUnderLoad: Close returns while clients are busy, and everything ends.
func TestCloseUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		var wg sync.WaitGroup
		for range 8 {
			c := w.connect()
			wg.Add(1)
			go func() {
				defer wg.Done()
				b := make([]byte, 100)
				for {
					if _, err := io.WriteString(c.Conn, "set a 0 0 1\r\nx\r\nget a\r\n"); err != nil {
						return
					}
					if _, err := c.Conn.Read(b); err != nil {
						return
					}
				}
			}()
		}
		settles(t, "it is under load", func() bool { return w.s.store.Info().GetHits > 100 })
		if err := w.s.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mc")
	for range 2 { // the second time over the stale socket
		o := parse(t, "-s", path, "-a", "600", "-v", "-v")
		h := NewHosted(o, 1)
		h.Out = io.Discard
		s, err := New(o, h)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", fi.Mode(), err)
		}
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, "stats conns\r\nquit\r\n")
		b, _ := io.ReadAll(nc)
		if !strings.Contains(string(b), ":addr unix:") {
			t.Errorf("%q", b)
		}
		nc.Close()
		s.Close()
		if f, err := os.Create(path + ".x"); err == nil {
			f.Close()
		}
	}
}

func TestStartErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	for _, args := range [][]string{
		{"-l", "127.0.0.1", "-p", port},
		{"-l", "127.0.0.1:" + port},
		{"-l", "no.such.host.invalid"},
		{"-s", "/nonexistent/dir/socket"},
		{"-engine=channel"},
		{"-engine=batch"},
	} {
		o := parse(t, args...)
		h := NewHosted(o, 1)
		h.Out = io.Discard
		s, err := New(o, h)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err == nil || !strings.HasPrefix(err.Error(), "memcached: ") {
			t.Errorf("%v: %v", args, err)
			s.Close()
		}
	}
	o := options.Defaults()
	o.MemoryMB = 1
	if _, err := New(o, NewHosted(o, 1)); err == nil {
		t.Error("-m 1: no error")
	}
	o = parse(t, "-m", "all")
	s, err := New(o, NewHosted(o, 1))
	if err != nil || s.Store().Limit() < 10<<20 {
		t.Errorf("-m all: %v", err)
	}
	s.store.Close()
}

// TestCapable runs libmemcached's conformance test.
func TestCapable(t *testing.T) {
	path, err := exec.LookPath("memccapable")
	if err != nil {
		t.Skip("skipped: no memccapable in the path (Debian package libmemcached-tools)")
	}
	o := parse(t, "-p", "0", "-l", "127.0.0.1")
	h := NewHosted(o, 2)
	s, err := New(o, h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "-h", "127.0.0.1", "-p", fmt.Sprint(l.Addr().(*net.TCPAddr).Port), "-t", "10").CombinedOutput()
	if pass := strings.Count(string(out), "[pass]"); err != nil || pass != 54 {
		t.Errorf("%d of 54 pass, %v:\n%s", pass, err, out)
	}
}

// TestGomemcache uses the server as a Go program would, with 16 connections.
func TestGomemcache(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		mc := memcache.New("10.0.0.1:11211")
		mc.MaxIdleConns = 16
		mc.Timeout = w.limit
		mc.DialContext = func(context.Context, string, string) (net.Conn, error) { return w.dial() }
		var wg sync.WaitGroup
		for id := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := useClient(mc, id); err != nil {
					t.Errorf("client %d: %v", id, err)
				}
			}()
		}
		wg.Wait()
		if err := mc.FlushAll(); err != nil {
			t.Error(err)
		}
		if err := mc.Ping(); err != nil {
			t.Error(err)
		}
	})
}

func useClient(mc *memcache.Client, id int) error {
	for i := range 30 {
		key := fmt.Sprintf("c%d-%d", id, i)
		val := []byte(bigValue(1 + i*300))
		if err := mc.Set(&memcache.Item{Key: key, Value: val, Flags: uint32(i), Expiration: 100}); err != nil {
			return fmt.Errorf("set: %w", err)
		}
		it, err := mc.Get(key)
		if err != nil || string(it.Value) != string(val) || it.Flags != uint32(i) {
			return fmt.Errorf("get: %v", err)
		}
		it.Value = []byte("new")
		if err := mc.CompareAndSwap(it); err != nil {
			return fmt.Errorf("cas: %w", err)
		}
		if err := mc.CompareAndSwap(it); !errors.Is(err, memcache.ErrCASConflict) {
			return fmt.Errorf("second cas: %v", err)
		}
		if err := mc.Add(&memcache.Item{Key: key, Value: val}); !errors.Is(err, memcache.ErrNotStored) {
			return fmt.Errorf("add: %v", err)
		}
		if err := mc.Append(&memcache.Item{Key: key, Value: []byte("+")}); err != nil {
			return fmt.Errorf("append: %w", err)
		}
		if err := mc.Prepend(&memcache.Item{Key: key, Value: []byte("-")}); err != nil {
			return fmt.Errorf("prepend: %w", err)
		}
		m, err := mc.GetMulti([]string{key, "none", key + "x"})
		if err != nil || len(m) != 1 || string(m[key].Value) != "-new+" {
			return fmt.Errorf("multi: %v %v", m, err)
		}
		if it, err := mc.GetAndTouch(key, 50); err != nil || string(it.Value) != "-new+" {
			return fmt.Errorf("get and touch: %v", err)
		}
		if err := mc.Touch(key, 10); err != nil {
			return fmt.Errorf("touch: %w", err)
		}
		if err := mc.Replace(&memcache.Item{Key: key, Value: []byte("10")}); err != nil {
			return fmt.Errorf("replace: %w", err)
		}
		if n, err := mc.Increment(key, 5); err != nil || n != 15 {
			return fmt.Errorf("increment: %d %v", n, err)
		}
		if n, err := mc.Decrement(key, 100); err != nil || n != 0 {
			return fmt.Errorf("decrement: %d %v", n, err)
		}
		if err := mc.Delete(key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if _, err := mc.Get(key); !errors.Is(err, memcache.ErrCacheMiss) {
			return fmt.Errorf("get after delete: %v", err)
		}
	}
	return nil
}
