//go:build boot

package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"osv/harness/image"
	"osv/harness/vm"
	"osv/kernel/ktest/netns"
)

// Segments that the host's kernel did not cut come up through a card that merges them:
// values of 1 MB are stored and come back, byte for byte, in frames that are on average
// far larger than a packet.
//
//	go test -tags boot -run TestBootMergedSegments ./appliances/memcached
func TestBootMergedSegments(t *testing.T) {
	netns.Require(t)
	elf := filepath.Join(t.TempDir(), "memcached.elf")
	if err := image.Build(".", elf); err != nil {
		t.Fatal(err)
	}
	for i, model := range []string{"vmxnet3", "virtio-net"} {
		t.Run(model, func(t *testing.T) {
			name := fmt.Sprint("merged", i)
			la := netlink.NewLinkAttrs()
			la.Name = name
			if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: la, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_DEFAULTS | netlink.TUNTAP_VNET_HDR}); err != nil {
				t.Fatal(err)
			}
			netns.Up(t, name, netip.MustParsePrefix(fmt.Sprintf("10.9.%d.1/24", i)))
			guest := fmt.Sprintf("10.9.%d.2", i)
			v, err := vm.Start(t.Context(), vm.Spec{Machine: vm.Q35, CPUs: 2, MemMiB: 256, Kernel: elf, RNG: true,
				NICs:   []vm.NIC{{Kind: vm.NetTAP, IfName: name, Model: model}},
				Append: "--verbose --ip=eth0," + guest + ",24 -- -A"}, vm.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			say(t, guest+":11211", "version\r\n", "VERSION")
			c, err := net.Dial("tcp", guest+":11211")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute))
			before := counters(t, name)
			value := make([]byte, 1<<20-100)
			r := rand.NewChaCha8([32]byte{1, 2, 3})
			const values = 40
			for n := range values {
				r.Read(value)
				msg := fmt.Appendf(nil, "set k%d 0 0 %d\r\n%s\r\nget k%d\r\n", n, len(value), value, n)
				want := fmt.Appendf(nil, "STORED\r\nVALUE k%d 0 %d\r\n%s\r\nEND\r\n", n, len(value), value)
				sent := make(chan error, 1)
				go func() {
					_, err := c.Write(msg)
					sent <- err
				}()
				got := make([]byte, len(want))
				if _, err := io.ReadFull(c, got); err != nil {
					t.Fatalf("value %d: %v\n%s", n, err, v.Tail(20))
				}
				if err := <-sent; err != nil || !bytes.Equal(got, want) {
					t.Fatalf("value %d came back otherwise (%v)", n, err)
				}
			}
			after := counters(t, name)
			frames, total := after.TxPackets-before.TxPackets, after.TxBytes-before.TxBytes
			t.Logf("%d bytes in %d frames of %d bytes on average, %d dropped", total, frames, total/frames, after.TxDropped-before.TxDropped)
			if total/frames < 4000 {
				t.Errorf("frames of %d bytes on average: nothing was merged", total/frames)
			}
		})
	}
}

func counters(t *testing.T, name string) *netlink.LinkStatistics {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Statistics
}
