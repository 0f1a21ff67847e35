//go:build boot

package vhost

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"osv/harness/guest/linux"
	"osv/harness/load/udp"
	"osv/harness/vm"
	"osv/harness/wire"
)

// memcached in a real guest answers over rings that this process serves, with
// and without offloads, and after any number of requests.
func TestLinuxMemcached(t *testing.T) {
	img, err := linux.Ensure(t.Context(), linux.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{"offloads": {}, "no offloads": {NoOffloads: true}, "2 queues": {Queues: 2}} {
		t.Run(name, func(t *testing.T) {
			dev, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			g := linux.Guest{Image: img, Profile: linux.Tuned, Service: linux.Memcached, IP: wire.GuestIP(0)}
			base := vm.Spec{CPUs: max(o.Queues, 1)}
			if base, err = base.Resolve(t.Context()); err != nil {
				t.Fatal(err)
			}
			base.NICs = []vm.NIC{dev.NIC(wire.GuestMAC(0), base.Accel)}
			s, err := g.Spec(base)
			if err != nil {
				t.Fatal(err)
			}
			v, err := vm.Start(t.Context(), s, vm.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			if err := dev.WaitReady(ctx); err != nil {
				t.Fatalf("%v%s", err, v.Tail(10))
			}
			if _, err := linux.WaitReady(v, 60*time.Second); err != nil {
				t.Fatal(err)
			}
			if f := dev.Features(); f&featEventIdx == 0 || f&featVersion1 == 0 || (f&featCsum != 0) == o.NoOffloads {
				t.Errorf("features %#x", f)
			}
			p, err := udp.OpenFrames(dev.Joined(), udp.FrameConfig{
				MAC: [6]byte{0x52, 0x54, 0, 0x77, 0, 1}, Local: wire.Host.Addr(), Flows: 1,
				Remote: netip.AddrPortFrom(wire.GuestIP(0).Addr(), 11211),
			})
			if err != nil {
				t.Fatal(err)
			}
			const head = "\x00\x01\x00\x00\x00\x01\x00\x00"
			value := strings.Repeat("v", 32)
			ask := func(req, want string, n, outstanding int) time.Duration {
				t.Helper()
				reqs := make([][]byte, 64)
				for i := range reqs {
					reqs[i] = []byte(head + req)
				}
				in := make([][]byte, 64)
				start, quiet := time.Now(), time.Now()
				for sent, got := 0, 0; got < n; {
					if room := min(outstanding-(sent-got), n-sent, len(reqs)); room > 0 {
						k, err := p.Send(reqs[:room])
						if err != nil {
							t.Fatal(err)
						}
						sent += k
					}
					if err := p.Wait(10 * time.Millisecond); err != nil {
						t.Fatal(err)
					}
					k, err := p.Recv(in)
					if err != nil {
						t.Fatal(err)
					}
					for _, d := range in[:k] {
						if string(d[8:]) != want {
							t.Fatalf("reply %q", d)
						}
						quiet = time.Now()
					}
					if got += k; time.Since(quiet) > 10*time.Second {
						t.Fatalf("no reply for 10 s after %d of %d; %+v%s", got, n, dev.Joined().Stats(), v.Tail(5))
					}
				}
				return time.Since(start)
			}
			ask("set key 0 0 32\r\n"+value+"\r\n", "STORED\r\n", 1, 1)
			hit := "VALUE key 0 32\r\n" + value + "\r\nEND\r\n"
			for _, c := range []struct{ n, outstanding int }{{2000, 1}, {20000, 32}} {
				before := dev.Joined().Stats()
				took := ask("get key\r\n", hit, c.n, c.outstanding)
				after := dev.Joined().Stats()
				t.Logf("%d outstanding: %.0f requests/s, %.1f µs a request; %.2f interrupts and %.2f doorbells a request", c.outstanding,
					float64(c.n)/took.Seconds(), took.Seconds()*1e6/float64(c.n),
					float64(after.Interrupts-before.Interrupts)/float64(c.n), float64(after.Doorbells-before.Doorbells)/float64(c.n))
			}
			if s := dev.Joined().Stats(); s.GuestErrors != 0 {
				t.Errorf("%+v", s)
			}
			v.Kill()
			if err := dev.Port(0).Wait(20 * time.Second); err == nil {
				t.Error("QEMU is gone: no error")
			}
		})
	}
}
