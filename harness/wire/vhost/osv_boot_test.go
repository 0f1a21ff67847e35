//go:build boot

package vhost

import (
	"context"
	"net/netip"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"osv/harness/image"
	"osv/harness/load/udp"
	"osv/harness/vm"
	"osv/harness/wire"
)

// Our own kernel's driver against our own back end: each datagram comes back as
// it was, whatever its size.
func TestOSvReflector(t *testing.T) {
	elf := filepath.Join(t.TempDir(), "reflector.elf")
	prog, err := filepath.Abs("../../../kernel/ktest/progs/reflector")
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Build(prog, elf); err != nil {
		t.Fatal(err)
	}
	dev, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s, err := vm.Spec{Kernel: elf, Append: "--ip=eth0,10.77.0.2,255.255.255.0", RNG: true}.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.NICs = []vm.NIC{dev.NIC(wire.GuestMAC(0), s.Accel)}
	v, err := vm.Start(t.Context(), s, vm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Kill()
	if _, err := v.WaitLine(regexp.MustCompile("^reflector: ready$"), 60*time.Second); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := dev.WaitReady(ctx); err != nil {
		t.Fatalf("%v%s", err, v.Tail(10))
	}
	t.Logf("features %#x", dev.Features())
	p, err := udp.OpenFrames(dev.Port(0), udp.FrameConfig{
		MAC: [6]byte{0x52, 0x54, 0, 0x77, 0, 1}, Local: wire.Host.Addr(), Flows: 1,
		Remote: netip.AddrPortFrom(wire.GuestIP(0).Addr(), 7),
	})
	if err != nil {
		t.Fatalf("%v; %+v%s", err, dev.Port(0).Stats(), v.Tail(10))
	}
	body := make([]byte, udp.MaxDatagram)
	for i := range body {
		body[i] = byte(i)
	}
	in := make([][]byte, 64)
	round := func(n, outstanding, size int) time.Duration {
		t.Helper()
		reqs := make([][]byte, 64)
		for i := range reqs {
			reqs[i] = body[:size]
		}
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
				if string(d) != string(body[:size]) {
					t.Fatalf("%d bytes came back as %d others", size, len(d))
				}
				quiet = time.Now()
			}
			if got += k; time.Since(quiet) > 10*time.Second {
				t.Fatalf("no reply for 10 s after %d of %d; %+v%s", got, n, dev.Port(0).Stats(), v.Tail(5))
			}
		}
		return time.Since(start)
	}
	for size := 1; size <= len(body); size += 97 {
		round(4, 2, size)
	}
	for _, c := range []struct{ n, outstanding int }{{5000, 1}, {100000, 32}, {100000, 128}} {
		before := dev.Port(0).Stats()
		took := round(c.n, c.outstanding, 64)
		after := dev.Port(0).Stats()
		t.Logf("%d outstanding: %.0f round trips/s; %.3f interrupts and %.3f doorbells each", c.outstanding, float64(c.n)/took.Seconds(),
			float64(after.Interrupts-before.Interrupts)/float64(c.n), float64(after.Doorbells-before.Doorbells)/float64(c.n))
	}
	if s := dev.Port(0).Stats(); s.GuestErrors != 0 {
		t.Errorf("%+v", s)
	}
}
