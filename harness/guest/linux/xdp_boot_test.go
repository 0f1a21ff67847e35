//go:build boot

package linux

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"osv/harness/guest/xdpcache"
	"osv/harness/vm"
	"osv/harness/wire"
)

// xdpGuest is a booted guest with the cache and one client of each protocol.
type xdpGuest struct {
	t   *testing.T
	w   *wire.Wire
	udp net.Conn
	tcp net.Conn
	in  *bufio.Reader
	id  byte
}

func bootXDP(t *testing.T) *xdpGuest {
	img, err := Ensure(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	loader := filepath.Join(t.TempDir(), "xdpload")
	if err := BuildXDP(t.Context(), "../../..", loader); err != nil {
		t.Fatal(err)
	}
	if img, err = img.WithXDP(loader); err != nil {
		t.Fatal(err)
	}
	w, err := wire.Open(wire.Options{Kind: wire.TAP})
	if errors.Is(err, wire.ErrPrivilege) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	g := Guest{Image: img, Profile: XDP, Service: Memcached, IP: wire.GuestIP(0), Gateway: wire.Host.Addr()}
	s, err := g.Spec(vm.Spec{CPUs: 1, NICs: []vm.NIC{w.NIC(0)}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := vm.Start(t.Context(), s, vm.Options{Enter: w.Enter})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Kill() })
	if _, err := WaitReady(v, 60*time.Second); err != nil {
		t.Fatal(err)
	}
	if m := XDPMode(v.Lines()); m != string(xdpcache.Native) {
		t.Errorf("XDP is %q", m)
	}
	x := &xdpGuest{t: t, w: w}
	x.udp, x.tcp = x.dial("udp4"), x.dial("tcp4")
	x.in = bufio.NewReader(x.tcp)
	return x
}

func (x *xdpGuest) dial(network string) net.Conn {
	x.t.Helper()
	c, err := x.w.DialContext(x.t.Context(), network, wire.GuestIP(0).Addr().String()+":11211")
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	return c
}

// ask sends commands in one datagram and returns the reply's text.
func (x *xdpGuest) ask(commands string) string {
	x.t.Helper()
	x.id++
	head := "\x00" + string([]byte{x.id}) + "\x00\x00\x00\x01\x00\x00"
	if _, err := x.udp.Write([]byte(head + commands)); err != nil {
		x.t.Fatal(err)
	}
	b := make([]byte, 2000)
	for {
		n, err := x.udp.Read(b)
		if err != nil {
			x.t.Fatalf("%.40q: %v", commands, err)
		}
		if string(b[:2]) == head[:2] { // a reply of its own
			if string(b[:8]) != head {
				x.t.Errorf("%.40q: frame header % x", commands, b[:8])
			}
			return string(b[8:n])
		}
	}
}

// line sends commands over TCP and returns the reply's first line.
func (x *xdpGuest) line(commands string) string {
	x.t.Helper()
	if _, err := x.tcp.Write([]byte(commands)); err != nil {
		x.t.Fatal(err)
	}
	s, err := x.in.ReadString('\n')
	if err != nil {
		x.t.Fatal(err)
	}
	return strings.TrimRight(s, "\r\n")
}

// seen is how many keys memcached itself was asked for.
func (x *xdpGuest) seen() int {
	x.t.Helper()
	n := -1
	for s := x.line("stats\r\n"); s != "END"; {
		if v, ok := strings.CutPrefix(s, "STAT cmd_get "); ok {
			n, _ = strconv.Atoi(v)
		}
		next, err := x.in.ReadString('\n')
		if err != nil {
			x.t.Fatal(err)
		}
		s = strings.TrimRight(next, "\r\n")
	}
	return n
}

// cached asks for a key until the cache answers, and reports whether it did
// before the longest time that it may take to settle was over. Each answer must be
// right, whoever gives it.
func (x *xdpGuest) cached(key, value string) bool {
	x.t.Helper()
	want := "END\r\n"
	if value != "" {
		want = fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", key, len(value), value)
	}
	for end := time.Now().Add(4 * xdpcache.DefaultSettle); time.Now().Before(end); {
		before := x.seen()
		if got := x.ask("get " + key + "\r\n"); got != want {
			x.t.Fatalf("get %s: %.60q, want %.60q", key, got, want)
		}
		if x.seen() == before {
			return true
		}
	}
	return false
}

func (x *xdpGuest) want(got, want string) {
	x.t.Helper()
	if got != want {
		x.t.Fatalf("%.80q, want %.80q", got, want)
	}
}

// The cache in a guest answers what it may and is coherent with memcached: sets
// over both protocols, deletes, expiry, flush_all, misses, and requests that are
// memcached's alone.
func TestXDPCoherent(t *testing.T) {
	x := bootXDP(t)
	has := func(key, value string) {
		t.Helper()
		if !x.cached(key, value) {
			t.Fatalf("%s is not cached", key)
		}
	}
	hasNot := func(key, value string) {
		t.Helper()
		if x.cached(key, value) {
			t.Fatalf("%s is cached", key)
		}
	}
	hasNot("none", "")
	x.want(x.ask("set k 0 0 3\r\none\r\n"), "STORED\r\n")
	has("k", "one")
	x.want(x.ask("set k 0 0 5\r\ntwo22\r\n"), "STORED\r\n")
	has("k", "two22")
	x.want(x.line("set k 0 0 5\r\nthree\r\n"), "STORED")
	has("k", "three")
	// memcached sends each key's part in a datagram of its own.
	asked := x.seen()
	x.want(x.ask("get k none\r\n"), "VALUE k 0 5\r\nthree\r\n")
	if n := x.seen() - asked; n != 2 {
		t.Errorf("memcached saw %d of 2 keys", n)
	}
	has("k", "three")
	x.want(x.line("append k 0 0 1\r\n!\r\n"), "STORED")
	hasNot("k", "three!")
	x.want(x.ask("set k 0 0 4\r\nfour\r\n"), "STORED\r\n")
	has("k", "four")
	x.want(x.ask("delete k\r\n"), "DELETED\r\n")
	hasNot("k", "")

	for _, n := range []int{1, 999, 1000} {
		v := strings.Repeat("v", n)
		key := strings.Repeat("K", xdpcache.MaxKey)
		x.want(x.ask(fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", key, n, v)), "STORED\r\n")
		has(key, v)
	}
	long := strings.Repeat("L", xdpcache.MaxKey+1)
	x.want(x.ask("set "+long+" 0 0 1\r\nx\r\n"), "STORED\r\n")
	hasNot(long, "x")
	big := strings.Repeat("b", 1200)
	x.want(x.ask("set big 0 0 1200\r\n"+big+"\r\n"), "STORED\r\n")
	hasNot("big", big)

	x.want(x.ask("set k 0 3600 4\r\nfive\r\n"), "STORED\r\n")
	hasNot("k", "five")
	x.want(x.ask("set k 0 0 3\r\nsix\r\n"), "STORED\r\n")
	has("k", "six")
	x.want(x.ask("touch k 3600\r\n"), "TOUCHED\r\n")
	hasNot("k", "six")
	x.want(x.ask("set k 0 0 5\r\nseven\r\n"), "STORED\r\n")
	has("k", "seven")
	x.want(x.ask("flush_all\r\n"), "OK\r\n")
	hasNot("k", "")

	// A value over several segments: the cache is emptied, and of a key that such
	// a connection wrote nothing is kept.
	x.want(x.ask("set k 0 0 3\r\nold\r\n"), "STORED\r\n")
	has("k", "old")
	other := x.dial("tcp4")
	if _, err := other.Write([]byte("set k 0 0 6\r\nne")); err != nil {
		t.Fatal(err)
	}
	hasNot("k", "old") // its replies may be kept no more
	if _, err := other.Write([]byte("wer!\r\n")); err != nil {
		t.Fatal(err)
	}
	x.want(readLine(t, other), "STORED\r\n")
	hasNot("k", "newer!")
}

func readLine(t *testing.T, c net.Conn) string {
	t.Helper()
	s, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Writers over UDP and TCP while 16 GETs are always on their way: what a GET sees is
// never older than what was acknowledged before it was sent. Without Config.Settle a
// reply that leaves after the next write came in is kept, and this fails.
func TestXDPNeverStale(t *testing.T) {
	x := bootXDP(t)
	value := func(n int) string { return fmt.Sprintf("%08d", n) }
	x.want(x.ask("set k 0 0 8\r\n"+value(0)+"\r\n"), "STORED\r\n")
	asked := x.seen()
	var acked, gets atomic.Int64
	stop, flooded := make(chan struct{}), make(chan error, 1)
	flood := x.dial("udp4")
	go func() { flooded <- floodGets(flood, stop, &acked, &gets) }()
	for n := 1; n <= 400; n++ {
		set := "set k 0 0 8\r\n" + value(n) + "\r\n"
		if n%2 == 0 {
			x.want(x.ask(set), "STORED\r\n")
		} else {
			x.want(x.line(set), "STORED")
		}
		acked.Store(int64(n))
		// Now and then for long enough that the cache answers.
		for end := time.Now().Add(time.Duration(n%20/19) * 2 * xdpcache.DefaultSettle); ; {
			gets.Add(1)
			x.want(x.ask("get k\r\n"), "VALUE k 0 8\r\n"+value(n)+"\r\nEND\r\n")
			if !time.Now().Before(end) {
				break
			}
		}
	}
	close(stop)
	if err := <-flooded; err != nil {
		t.Error(err)
	}
	if asked = x.seen() - asked; int64(asked) >= gets.Load() {
		t.Errorf("of %d GETs the cache answered none", gets.Load())
	} else {
		t.Logf("%d GETs, of which the cache answered %d", gets.Load(), gets.Load()-int64(asked))
	}
}

// floodGets sends GETs of key k by sixteens, waits for their replies, and ends with
// an error at one that holds less than *acked before it was sent.
func floodGets(c net.Conn, stop <-chan struct{}, acked, gets *atomic.Int64) error {
	b := make([]byte, 2000)
	for id := byte(0); ; id++ {
		select {
		case <-stop:
			return nil
		default:
		}
		least := acked.Load()
		for range 16 {
			if _, err := c.Write([]byte("\x01" + string([]byte{id}) + "\x00\x00\x00\x01\x00\x00get k\r\n")); err != nil {
				return err
			}
			gets.Add(1)
		}
		for left := 16; left > 0; {
			c.SetReadDeadline(time.Now().Add(time.Second))
			n, err := c.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break // a datagram is lost
			}
			if err != nil {
				return err
			}
			if b[1] != id {
				continue
			}
			left--
			const head = 8 + len("VALUE k 0 8\r\n")
			if n < head+8 {
				return fmt.Errorf("reply %q", b[:n])
			}
			got, err := strconv.ParseInt(string(b[head:head+8]), 10, 64)
			if err != nil || got < least {
				return fmt.Errorf("reply %q, when %d was stored", b[8:n], least)
			}
		}
	}
}
