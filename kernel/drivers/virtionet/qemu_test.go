package virtionet_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtionet"
	"osv/kernel/irq"
	"osv/kernel/ktest/netns"
	"osv/kernel/ktest/qtest"
	"osv/kernel/pkt"
)

func TestMain(m *testing.M) { netns.Main(m) }

// The network cards of a real QEMU, on each transport: frames of all sizes pass
// both ways, in order and whole, and the receive loop is woken for each.
func TestOnQEMU(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		get  func(*qtest.Machine) (virtio.Transport, []irq.Line)
		cfg  virtionet.Config
	}{
		{"pci", []string{"-machine", "q35,memory-backend=ram", "-device", "virtio-net-pci,netdev=n"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 0) }, virtionet.Config{}},
		{"pci msix", []string{"-machine", "q35,memory-backend=ram", "-device", "virtio-net-pci,netdev=n"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 2) }, virtionet.Config{}},
		{"pci msix, no event index", []string{"-machine", "pc,memory-backend=ram", "-device", "virtio-net-pci,netdev=n"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 2) }, virtionet.Config{NoEventIdx: true}},
		{"pci one vector, no mergeable buffers", []string{"-machine", "pc,memory-backend=ram", "-device", "virtio-net-pci,netdev=n,mrg_rxbuf=off"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 1) }, virtionet.Config{}},
		{"pci-legacy", []string{"-machine", "pc,memory-backend=ram", "-device", "virtio-net-pci,netdev=n,disable-modern=on"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(true, 0) }, virtionet.Config{}},
		{"pci-legacy msix", []string{"-machine", "pc,memory-backend=ram", "-device", "virtio-net-pci,netdev=n,disable-modern=on"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(true, 2) }, virtionet.Config{}},
		{"pci-legacy, header apart", []string{"-machine", "pc,memory-backend=ram", "-device", "virtio-net-pci,netdev=n,disable-modern=on,any_layout=off,mrg_rxbuf=off"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(true, 0) }, virtionet.Config{}},
		{"mmio-legacy", []string{"-machine", "microvm,memory-backend=ram,ioapic2=off", "-device", "virtio-net-device,netdev=n"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.MMIO() }, virtionet.Config{}},
		{"mmio", []string{"-machine", "microvm,memory-backend=ram,ioapic2=off", "-global", "virtio-mmio.force-legacy=false", "-device", "virtio-net-device,netdev=n"},
			func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.MMIO() }, virtionet.Config{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := qtest.Start(t, append([]string{"-netdev", "dgram,id=n,local.type=unix,local.path=DIR/guest,remote.type=unix,remote.path=DIR/wire"}, c.args...)...)
			wire, err := net.DialUnix("unixgram", &net.UnixAddr{Name: filepath.Join(m.Dir, "wire"), Net: "unixgram"},
				&net.UnixAddr{Name: filepath.Join(m.Dir, "guest"), Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer wire.Close()
			d, pool := onQEMU(t, m, c.get, c.cfg)
			rnd := rand.New(rand.NewPCG(3, 3))
			for i := range 600 {
				out := frame(60+rnd.IntN(1455), i)
				b := d.TxBuf(0)
				copy(b.Append(len(out)), out)
				if d.TxBatch(0, []*pkt.Buf{b}) != 1 {
					t.Fatalf("frame %d is not taken: %v", i, d.Err())
				}
				in := make([]byte, 4096)
				n, err := wire.Read(in)
				if err != nil || !bytes.Equal(in[:n], out) {
					t.Fatalf("frame %d of %d bytes came out as %d: %v", i, len(out), n, err)
				}
				back := frame(60+rnd.IntN(1455), i+1)
				if _, err := wire.Write(back); err != nil {
					t.Fatal(err)
				}
				got := receive(t, d, 0)
				if !bytes.Equal(flat(got), back) {
					t.Fatalf("frame %d of %d bytes came in as %d", i, len(back), got.TotalLen())
				}
				got.Put()
			}
			s := d.Stats()
			if s.TxFrames != 600 || s.RxFrames != 600 || s.RxErrors+s.TxErrors+s.RxNoBuf != 0 {
				t.Errorf("%+v", s)
			}
			// On a pin each sleep ends with one interrupt: none is lost, none is stray.
			if n := m.Pin().Raised(); n > 0 && (s.RxIRQs > uint64(n)+2 || s.RxIRQs+2 < uint64(n)) {
				t.Errorf("%d interrupts ended %d sleeps", n, s.RxIRQs)
			}
			if !d.LinkUp() || d.Caps().MAC != [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56} {
				t.Error(d.LinkUp(), d.Caps())
			}
			closeOnQEMU(t, m, d, pool)
		})
	}
}

func onQEMU(t *testing.T, m *qtest.Machine, get func(*qtest.Machine) (virtio.Transport, []irq.Line), cfg virtionet.Config) (*virtionet.Device, *pkt.Pool) {
	t.Helper()
	pool, err := pkt.NewPool(m, 1024, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tr, lines := get(m)
	cfg.RxPools = []*pkt.Pool{pool}
	d, err := virtionet.New(tr, m, lines, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, pool
}

func closeOnQEMU(t *testing.T, m *qtest.Machine, d *virtionet.Device, pool *pkt.Pool) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := pool.Close(m); err != nil || m.Live() != 0 {
		t.Error(err, m.Live())
	}
}

// receive waits for one frame of queue q.
func receive(t *testing.T, d *virtionet.Device, q int) *pkt.Buf {
	t.Helper()
	var one [1]*pkt.Buf
	for d.RxBatch(q, one[:]) == 0 {
		if err := d.RxWait(q); err != nil {
			t.Fatal(err)
		}
	}
	return one[0]
}

// Two queue pairs and all offloads, on a TAP device of the host's Linux, which
// answers ARP for its address and takes a datagram whose checksum the card is to
// finish.
func TestMultiqueueAndOffloadsOnQEMU(t *testing.T) {
	netns.Require(t)
	m := qtest.Start(t, "-machine", "q35,memory-backend=ram",
		"-netdev", "tap,id=n,ifname=tap-qtest,script=no,downscript=no,queues=2,vhost=off",
		"-device", "virtio-net-pci,netdev=n,mq=on,vectors=6")
	host := netip.MustParsePrefix("10.77.0.1/24")
	netns.Up(t, "tap-qtest", host)
	d, pool := onQEMU(t, m, func(m *qtest.Machine) (virtio.Transport, []irq.Line) { return m.PCI(false, 3) }, virtionet.Config{LRO: true})
	c := d.Caps()
	if c.RxQueues != 2 || !c.TxCsum || !c.RxCsum || !c.TSO4 || !c.TSO6 || !c.LRO {
		t.Fatalf("caps %+v", c)
	}
	if err := d.SetPromiscuous(false); err != nil {
		t.Error(err)
	}
	if err := d.SetMAC(c.MAC); err != nil {
		t.Error(err)
	}
	// TAP steers answers to the queue that last sent for the flow: each receive
	// loop hands up what it gets.
	in := make(chan *pkt.Buf, 64)
	for q := range 2 {
		go func() {
			var one [1]*pkt.Buf
			for {
				for d.RxBatch(q, one[:]) == 1 {
					in <- one[0]
				}
				if d.RxWait(q) != nil {
					return
				}
			}
		}()
	}
	await := func(what string, match func([]byte) bool) (b *pkt.Buf) {
		for b = range in {
			if match(b.Bytes()) {
				return b
			}
			b.Put() // the host's own chatter
		}
		t.Fatal("no ", what)
		return nil
	}
	guest := netip.MustParseAddr("10.77.0.2")
	var hostMAC [6]byte
	for q := range 2 {
		b := d.TxBuf(q)
		copy(b.Append(42), arpRequest(c.MAC, guest, host.Addr()))
		if d.TxBatch(q, []*pkt.Buf{b}) != 1 {
			t.Fatal(d.Err())
		}
		r := await("ARP reply", func(f []byte) bool { return len(f) >= 42 && f[12] == 8 && f[13] == 6 && f[21] == 2 })
		copy(hostMAC[:], r.Bytes()[6:12])
		r.Put()
	}
	// No one listens on the port: the host answers with ICMP, if it takes the
	// checksum. In two pieces, header and payload.
	u := udpPartial(c.MAC, hostMAC, guest, host.Addr(), frame(500, 1))
	head, rest := d.TxBuf(0), d.TxBuf(0)
	copy(head.Append(42), u)
	copy(rest.Append(len(u)-42), u[42:])
	head.Next, head.Flags, head.CsumStart, head.CsumOffset = rest, pkt.CsumPartial, 34, 6
	if d.TxBatch(0, []*pkt.Buf{head}) != 1 {
		t.Fatal(d.Err())
	}
	r := await("port unreachable", func(f []byte) bool {
		if len(f) > 23 && f[12] == 8 && f[13] == 0 && f[23] == 17 {
			t.Error("the datagram came back")
		}
		if len(f) >= 42 && f[12] == 8 && f[13] == 6 && f[21] == 1 { // who has the guest?
			a := d.TxBuf(1)
			reply := a.Append(42)
			copy(reply, arpRequest(c.MAC, guest, host.Addr()))
			copy(reply, f[6:12])
			reply[21] = 2
			copy(reply[32:], f[22:32])
			d.TxBatch(1, []*pkt.Buf{a})
		}
		return len(f) >= 42 && f[12] == 8 && f[13] == 0 && f[23] == 1 && f[34] == 3 && f[35] == 3
	})
	r.Put()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	for len(in) > 0 {
		(<-in).Put()
	}
	closeOnQEMU(t, m, d, pool)
}

func arpRequest(mac [6]byte, from, to netip.Addr) []byte {
	b := make([]byte, 42)
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(b[6:], mac[:])
	copy(b[12:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1})
	copy(b[22:], mac[:])
	copy(b[28:], from.AsSlice())
	copy(b[38:], to.AsSlice())
	return b
}

// udpPartial is a datagram whose checksum field holds the pseudo-header's sum.
func udpPartial(src, dst [6]byte, from, to netip.Addr, payload []byte) []byte {
	b := make([]byte, 42, 42+len(payload))
	copy(b, dst[:])
	copy(b[6:], src[:])
	copy(b[12:], []byte{8, 0, 0x45, 0})
	n := uint16(28 + len(payload))
	binary.BigEndian.PutUint16(b[16:], n)
	copy(b[22:], []byte{64, 17})
	copy(b[26:], from.AsSlice())
	copy(b[30:], to.AsSlice())
	binary.BigEndian.PutUint16(b[24:], ^sum(b[14:34], 0))
	binary.BigEndian.PutUint16(b[34:], 4000)
	binary.BigEndian.PutUint16(b[36:], 4001)
	binary.BigEndian.PutUint16(b[38:], n-20)
	binary.BigEndian.PutUint16(b[40:], sum(b[26:34], 17+uint32(n-20)))
	return append(b, payload...)
}

func sum(b []byte, s uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
