package sock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/stack"
	"osv/kernel/pkt"
)

// pair runs f in a bubble of fake time with the sockets of two hosts, 10.0.0.1
// and 10.0.0.2, and checks that nothing is left afterwards.
func pair(t *testing.T, cfg simnet.Config, f func(t *testing.T, a, b *Net)) {
	t.Helper()
	pairOn(t, cfg, func(t *testing.T, _ *simnet.Net, a, b *Net) { f(t, a, b) })
}

// pairOn is pair, with the wire.
func pairOn(t *testing.T, cfg simnet.Config, f func(t *testing.T, sim *simnet.Net, a, b *Net)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sim, err := simnet.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		mem := &dma.Host{}
		var ns []*Net
		for i, l := range sim.Links {
			s, err := stack.New(stack.Config{Mem: mem})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.AddLink(l, stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", i+1)), netip.MustParsePrefix(fmt.Sprintf("fd00::%d/64", i+1))}}); err != nil {
				t.Fatal(err)
			}
			n, err := New(s, Config{Mem: mem, Hosts: map[string][]netip.Addr{"peer": {netip.MustParseAddr("10.0.0.2")}, "two": {netip.MustParseAddr("10.0.0.77"), netip.MustParseAddr("10.0.0.2")}}})
			if err != nil {
				t.Fatal(err)
			}
			ns = append(ns, n)
		}
		f(t, sim, ns[0], ns[1])
		for _, n := range ns {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			if err := n.Stack().Close(); err != nil {
				t.Error(err)
			}
		}
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
		if mem.Live() != 0 {
			t.Errorf("%d regions of memory left", mem.Live())
		}
	})
}

// The standard library's HTTP server and client, unmodified, by name and by
// address, over IPv4 and IPv6.
func TestHTTP(t *testing.T) {
	pair(t, simnet.Config{Caps: pkt.Caps{TxCsum: true, RxCsum: true}}, func(t *testing.T, a, b *Net) {
		l, err := b.Listen("tcp", ":http")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, strings.ToUpper(string(body)))
		})}
		go srv.Serve(l)
		tr := &http.Transport{DialContext: a.DialContext}
		client := http.Client{Transport: tr, Timeout: time.Minute}
		for _, host := range []string{"peer", "10.0.0.2", "[fd00::2]", "two"} {
			big := strings.Repeat("x", 100_000)
			resp, err := client.Post("http://"+host+"/path", "text/plain", strings.NewReader(big))
			if err != nil {
				t.Fatalf("%s: %v", host, err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(got) != "POST /path "+strings.ToUpper(big) {
				t.Errorf("%s: %d bytes, %v", host, len(got), err)
			}
		}
		tr.CloseIdleConnections()
		srv.Close()
	})
}

// As in package net, a peer that has vanished is noticed by either end, after nine
// probes 15 s apart that begin 15 s after the last segment.
func TestVanishedPeerIsNoticed(t *testing.T) {
	for _, gone := range []string{"client", "server"} {
		t.Run(gone, func(t *testing.T) {
			pairOn(t, simnet.Config{}, func(t *testing.T, sim *simnet.Net, a, b *Net) {
				l, err := b.Listen("tcp", ":80")
				if err != nil {
					t.Fatal(err)
				}
				client, err := a.Dial("tcp", "10.0.0.2:80")
				if err != nil {
					t.Fatal(err)
				}
				server, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				c := client
				if gone == "client" {
					c = server
				}
				for _, l := range sim.Links {
					l.SetUp(false)
				}
				from := time.Now()
				_, err = c.Read(make([]byte, 1))
				if d := time.Since(from); !errors.Is(err, syscall.ETIMEDOUT) || d < 140*time.Second || d > 160*time.Second {
					t.Errorf("after %v: %v", d, err)
				}
				for _, l := range sim.Links {
					l.SetUp(true)
				}
				client.Close()
				server.Close()
				l.Close()
			})
		})
	}
}

func TestUDPAndErrors(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, b *Net) {
		p, err := b.ListenPacket("udp", ":7")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for _, at := range []string{"peer:7", "[fd00::2]:7"} {
			c, err := a.Dial("udp", at)
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte("hi"))
			buf := make([]byte, 10)
			if n, from, err := p.ReadFrom(buf); err != nil || string(buf[:n]) != "hi" || from.String() != c.LocalAddr().String() {
				t.Errorf("%s: %q from %v, %v", at, buf[:n], from, err)
			}
			c.Close()
		}
		second := func(_ any, err error) error { return err }
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for what, err := range map[string]error{
			"network":          second(a.Listen("unix", "/tmp/x")),
			"udp listener":     second(a.Listen("udp", ":1")),
			"tcp packets":      second(a.ListenPacket("tcp", ":1")),
			"no port":          second(a.Listen("tcp", "10.0.0.1")),
			"unknown port":     second(a.Listen("tcp", ":gopher")),
			"name to listen":   second(a.Listen("tcp", "peer:80")),
			"name for packets": second(a.ListenPacket("udp", "peer:80")),
			"family":           second(a.Listen("tcp6", "10.0.0.1:80")),
			"another's":        second(a.Listen("tcp4", "10.0.0.9:80")),
			"another's, udp":   second(a.ListenPacket("udp4", "10.0.0.9:80")),
			"no such host":     second(a.Dial("tcp", "nowhere:80")),
			"dial network":     second(a.Dial("ip", "peer:80")),
			"no route":         second(a.Dial("udp", "8.8.8.8:53")),
			"refused":          second(a.Dial("tcp", "peer:81")),
			"refused at home":  second(a.Dial("tcp", ":81")),
			"cancelled":        second(a.DialContext(ctx, "tcp", "two:80")),
		} {
			var oe *net.OpError
			if !errors.As(err, &oe) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if a.TCP() == nil {
			t.Error("no TCP")
		}
		for network, want := range map[string]string{"tcp": "[::]", "tcp4": "0.0.0.0", "tcp6": "[::]"} {
			l, err := a.Listen(network, ":0")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(l.Addr().String(), want+":") || strings.HasSuffix(l.Addr().String(), ":0") {
				t.Errorf("%s listens on %v", network, l.Addr())
			}
			l.Close()
		}
	})
}

// A name server on the other host, over UDP and, for a long answer, TCP.
func TestNameServer(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, b *Net) {
		answer := func(q []byte, truncate bool) []byte {
			var m dnsmessage.Message
			if err := m.Unpack(q); err != nil {
				t.Error(err)
				return nil
			}
			m.Response = true
			if m.Truncated = truncate && m.Questions[0].Type == dnsmessage.TypeAAAA; !m.Truncated {
				h := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60}
				if m.Questions[0].Type == dnsmessage.TypeA {
					m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 9}}}}
				} else {
					m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AAAAResource{AAAA: [16]byte{0: 0xfd, 15: 9}}}}
				}
			}
			out, _ := m.Pack()
			return out
		}
		p, err := b.ListenPacket("udp", ":domain")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			buf := make([]byte, 1500)
			for {
				n, from, err := p.ReadFrom(buf)
				if err != nil {
					return
				}
				p.WriteTo(answer(buf[:n], true), from)
			}
		}()
		l, err := b.Listen("tcp", ":domain")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 1500)
				n, _ := io.ReadAtLeast(c, buf, 20)
				out := answer(buf[2:n], false)
				c.Write(append([]byte{byte(len(out) >> 8), byte(len(out))}, out...))
				c.Close()
			}
		}()
		a.Stack().SetDNS([]netip.Addr{netip.MustParseAddr("10.0.0.2")})
		as, err := a.Lookup(t.Context(), "host.test")
		if err != nil || len(as) != 2 || as[0].String() != "10.0.0.9" || as[1].String() != "fd00::9" {
			t.Errorf("%v %v", as, err)
		}
		l.Close()
		p.Close()
	})
}
