//go:build boot

package main

import (
	"context"
	"encoding/binary"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"osv/harness/vm"
	"osv/harness/wire"
)

// dhcpServer gives the guest its address and offers it a name, in the wire's namespace
// (RFC 2131, RFC 2132). It sends the names that the guest tells to told.
func dhcpServer(t *testing.T, w *wire.Wire, device, offer string, told chan<- string) {
	t.Helper()
	type result struct {
		c   net.PacketConn
		err error
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends in that namespace
		if err := w.Enter(); err != nil {
			got <- result{nil, err}
			return
		}
		// Broadcasts need no route on a socket that is bound to a device.
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			c.Control(func(fd uintptr) { err = syscall.BindToDevice(int(fd), device) })
			return err
		}}
		c, err := lc.ListenPacket(context.Background(), "udp4", ":67")
		got <- result{c, err}
	}()
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.c.Close() })
	go func() {
		for b := make([]byte, 1500); ; {
			n, from, err := r.c.ReadFrom(b)
			if err != nil {
				return
			}
			if n < 241 {
				continue
			}
			opts := dhcpOptions(b[240:n])
			if name, ok := opts[12]; ok {
				told <- string(name)
			}
			kind := byte(2) // DHCPOFFER
			if k := opts[53]; len(k) == 1 && k[0] == 3 {
				kind = 5 // DHCPACK
			}
			ip := wire.GuestIP(0)
			a := append([]byte(nil), b[:240]...)
			a[0] = 2 // BOOTREPLY
			copy(a[16:], ip.Addr().AsSlice())
			a = append(a, 53, 1, kind, 54, 4)
			a = append(a, wire.Host.Addr().AsSlice()...)
			a = append(a, 51, 4)
			a = binary.BigEndian.AppendUint32(a, 3600)
			a = append(a, 1, 4)
			a = append(a, net.CIDRMask(ip.Bits(), 32)...)
			a = append(a, 12, byte(len(offer)))
			a = append(append(a, offer...), 255)
			to := from
			if from.(*net.UDPAddr).IP.IsUnspecified() {
				to = &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
			}
			r.c.WriteTo(a, to)
		}
	}()
}

// dhcpOptions reads options up to the end.
func dhcpOptions(b []byte) map[byte][]byte {
	out := map[byte][]byte{}
	for len(b) >= 2 && b[0] != 255 {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		n := min(int(b[1]), len(b)-2)
		out[b[0]] = append([]byte(nil), b[2:2+n]...)
		b = b[2+n:]
	}
	return out
}

// A guest takes the name that DHCP offers where nobody gives it one, and tells the
// server the one that it is given.
func TestBootHostname(t *testing.T) {
	e, err := elf()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, args, first string }{
		{"offered", "", "from-dhcp"},
		{"given", "--hostname=from-line ", "from-line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			told := make(chan string, 100)
			g := bootBeside(t, vm.Spec{CPUs: 1, MemMiB: 64, Kernel: e, Append: c.args + "--rest-token=" + token}, func(w *wire.Wire, n vm.NIC) {
				dhcpServer(t, w, n.IfName, "from-dhcp.example", told)
			})
			if code, b := g.get("/os/hostname"); code != 200 || string(b) != `"`+c.first+`"` {
				t.Errorf("at first: %d %s", code, b)
			}
			if c.args != "" {
				wantTold(t, told, c.first)
			}
			if code, b := g.call("POST", "/os/hostname?name=db-1", nil); code != 200 {
				t.Errorf("%d %s", code, b)
			}
			wantTold(t, told, "db-1")
			if code, b := g.get("/os/hostname"); code != 200 || string(b) != `"db-1"` {
				t.Errorf("then: %d %s", code, b)
			}
		})
	}
}

// wantTold waits for the guest to tell a name.
func wantTold(t *testing.T, told <-chan string, want string) {
	t.Helper()
	var other []string
	for end := time.After(30 * time.Second); ; {
		select {
		case n := <-told:
			if n == want {
				return
			}
			other = append(other, n)
		case <-end:
			t.Errorf("the server was not told %s, but %s", want, strings.Join(other, ", "))
			return
		}
	}
}
