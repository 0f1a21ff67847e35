package plain

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// store is a memcached of a page: get and set over TCP or UDP.
type store struct {
	mu sync.Mutex
	m  map[string]string
}

func (s *store) answer(line string, body func(n int) string) string {
	f := strings.Fields(line)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f[0] == "get" {
		v := s.m[f[1]]
		return fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", f[1], len(v), v)
	}
	n := 0
	fmt.Sscan(f[4], &n)
	s.m[f[1]] = body(n)
	return "STORED\r\n"
}

func serve(t *testing.T, network string, spoil func(n int, reply string) string) string {
	t.Helper()
	s := &store{m: map[string]string{}}
	n := 0
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 4096)
			for {
				k, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				line, rest, _ := strings.Cut(string(b[8:k]), "\r\n")
				n++
				if r := spoil(n, s.answer(line, func(n int) string { return rest[:n] })); r != "" {
					c.WriteTo(append(append([]byte{}, b[:8]...), r...), from)
				}
			}
		}()
		return c.LocalAddr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					s.mu.Lock()
					n++
					k := n
					s.mu.Unlock()
					c.Write([]byte(spoil(k, s.answer(line, func(n int) string {
						b := make([]byte, n+2)
						for i := range b {
							b[i], _ = r.ReadByte()
						}
						return string(b[:n])
					}))))
				}
			}()
		}
	}()
	return l.Addr().String()
}

func same(_ int, r string) string { return r }

func config(network, addr string, set bool) Config {
	return Config{Network: network, Addr: addr, Workers: 3, Keys: 10, Value: 40, Set: set, Warmup: 20 * time.Millisecond, Duration: 80 * time.Millisecond}
}

func TestMeasures(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		for _, set := range []bool{false, true} {
			r, err := Run(context.Background(), config(network, serve(t, network, same), set))
			if err != nil || r.Completed < 30 || r.Failed != 0 || r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Max {
				t.Errorf("%s set=%v: %+v %v", network, set, r, err)
			}
		}
	}
}

func TestCountsWrongReplies(t *testing.T) {
	spoil := func(n int, r string) string {
		if n > 100 && n%7 == 0 {
			return "SERVER_ERROR\r\n"
		}
		return r
	}
	r, err := Run(context.Background(), config("udp", serve(t, "udp", spoil), false))
	if err != nil || r.Failed == 0 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := Run(context.Background(), config("tcp", serve(t, "tcp", spoil), false)); err == nil {
		t.Error("a wrong reply over TCP is not an error")
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []Config{{}, {Network: "udp", Workers: 1, Keys: 1, Value: 5000}, {Network: "sctp", Workers: 1, Keys: 1, Value: 1}} {
		if _, err := Run(context.Background(), c); err == nil {
			t.Errorf("%+v accepted", c)
		}
	}
	if _, err := Run(context.Background(), config("tcp", "127.0.0.1:1", false)); err == nil {
		t.Error("connected to nothing")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, config("udp", serve(t, "udp", same), false)); err == nil {
		t.Error("a cancelled run has a result")
	}
}

func TestAgainstMemcached(t *testing.T) {
	bin, err := exec.LookPath("memcached")
	if err != nil {
		t.Skip("memcached is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := exec.Command(bin, "-u", "nobody", "-l", "127.0.0.1", "-p", fmt.Sprint(port), "-U", fmt.Sprint(port), "-t", "1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for i := 0; ; i++ {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if i > 200 {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // until the server listens
	}
	for _, network := range []string{"udp", "tcp"} {
		if r, err := Run(context.Background(), config(network, addr, false)); err != nil || r.Failed != 0 || r.Completed == 0 {
			t.Errorf("%s: %+v %v", network, r, err)
		}
	}
}
