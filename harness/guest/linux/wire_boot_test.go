//go:build boot

package linux

import (
	"bufio"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"osv/harness/vm"
	"osv/harness/wire"
)

// memcached in the guest answers over TCP and UDP on every wire.
func TestMemcachedOnEachWire(t *testing.T) {
	img, err := Ensure(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]wire.Options{
		"tap":          {Kind: wire.TAP},
		"tap 2 queues": {Kind: wire.TAP, Queues: 2},
		"no offloads":  {Kind: wire.TAP, NoVNetHdr: true, Off: vm.OffloadsOff},
		"bridge":       {Kind: wire.TAP, Bridge: true, Named: true},
		"user":         {Kind: wire.User, Ports: Memcached.Ports},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := wire.Open(o)
			if errors.Is(err, wire.ErrPrivilege) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			g := Guest{Image: img, Profile: Tuned, Service: Memcached, IP: wire.GuestIP(0), Gateway: wire.Host.Addr()}
			s, err := g.Spec(vm.Spec{CPUs: 2, NICs: []vm.NIC{w.NIC(0)}})
			if err != nil {
				t.Fatal(err)
			}
			v, err := vm.Start(t.Context(), s, vm.Options{Enter: w.Enter})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			if _, err := WaitReady(v, 60*time.Second); err != nil {
				t.Fatal(err)
			}
			guest := wire.GuestIP(0).Addr().String() + ":11211"
			c, err := w.DialContext(t.Context(), "tcp4", guest)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ask(t, c, "set k 0 0 5\r\nhello\r\nget k\r\n", "STORED\r\nVALUE k 0 5\r\nhello\r\nEND\r\n")
			u, err := w.DialContext(t.Context(), "udp4", guest)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			// The frame header of memcached's UDP: request id, sequence, count, 0.
			ask(t, u, "\x00\x07\x00\x00\x00\x01\x00\x00get k\r\n", "\x00\x07\x00\x00\x00\x01\x00\x00VALUE k 0 5\r\nhello\r\nEND\r\n")
			facts, err := Measured(v, 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			queues := 0
			for _, f := range facts {
				if strings.HasPrefix(f.Name, "queue.rx-") {
					queues++
				}
			}
			if want := max(o.Queues, 1); queues != want {
				t.Errorf("%d receive queues, want %d", queues, want)
			}
		})
	}
}

func ask(t *testing.T, c net.Conn, req, want string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte(req)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	r := bufio.NewReaderSize(c, 64<<10)
	for n := 0; n < len(want); {
		m, err := r.Read(got[n:])
		if err != nil {
			t.Fatalf("%q then %v", got[:n], err)
		}
		n += m
	}
	if string(got) != want {
		t.Errorf("answer %q, want %q", got, want)
	}
}
