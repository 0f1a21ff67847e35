package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtionet"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcpstack"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// The whole path of a request as a guest runs it: used ring of the card, driver,
// classifier, protocol, store, reply, available ring. The profile that the
// appliance is built with, default.pgo beside its main.go, comes from these
// benchmarks. After a change of the path, make it anew (`make pgo`, or by hand):
//
//	go test -run '^$' -bench Path/UDP -benchtime 6s -cpuprofile build/udp.prof -o build/path.test ./appliances/memcached/server
//	go test -run '^$' -bench Path/TCP -benchtime 2s -cpuprofile build/tcp.prof -o build/path.test ./appliances/memcached/server
//	go tool pprof -proto build/udp.prof build/tcp.prof > appliances/memcached/default.pgo

// card is a server of UDP datagrams behind a fake network card, all in one
// goroutine.
type card struct {
	mem   fakedev.Mem
	nic   *fakedev.NIC
	dev   *virtionet.Device
	stack *stack.Stack
	tcp   *tcpsock.Host
	s     *Server
	next  int // request
}

const (
	cardKeys  = 1000
	cardBatch = 32
)

func newCard(t testing.TB, args ...string) *card {
	t.Helper()
	c := &card{}
	c.nic = fakedev.NewNIC(&c.mem, fakedev.NetAll, 1, 256)
	c.nic.MSIX = true
	pool, err := pkt.NewPool(&c.mem, 1024, 2048)
	if err != nil {
		t.Fatal(err)
	}
	lines := []irq.Line{&fakedev.Line{}, &fakedev.Line{}}
	f := c.nic.PCI()
	tr, err := virtio.NewPCI(virtio.DeviceID(c.nic.ID), virtio.PCIWindows{Common: f.Common, Notify: f.Notify,
		NotifyMultiplier: f.NotifyMultiplier, ISR: f.ISR, Device: f.Config}, true)
	if err != nil {
		t.Fatal(err)
	}
	if c.dev, err = virtionet.New(tr, &c.mem, lines, virtionet.Config{RxPools: []*pkt.Pool{pool}}); err != nil {
		t.Fatal(err)
	}
	if c.stack, err = stack.New(stack.Config{Mem: &c.mem, Manual: true}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.stack.AddLink(c.dev, stack.IfConfig{Addrs: []netip.Prefix{stackAddr[0]}, NoIPv6: true}); err != nil {
		t.Fatal(err)
	}
	ts := tcpstack.New(c.stack)
	if c.tcp, err = tcpsock.New(ts, tcpsock.Config{Mem: &c.mem}); err != nil {
		t.Fatal(err)
	}
	o := parse(t, append([]string{"-m", "64", "-t", "1", "-p", "0", "-U", "11211", "-engine=channel"}, args...)...)
	h := &OnStack{Hosted: NewHosted(o, 1), stack: c.stack, tcp: c.tcp, link: c.dev}
	h.Out = io.Discard
	if c.s, err = New(o, h); err != nil {
		t.Fatal(err)
	}
	if err = c.s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, e := range []error{c.s.Close(), c.tcp.Close(), c.stack.Close(), c.dev.Close(), pool.Close(&c.mem)} {
			if e != nil {
				t.Error(e)
			}
		}
		if n := c.mem.Live(); n != 0 {
			t.Errorf("%d regions of memory left", n)
		}
	})
	return c
}

// request is the frame of a request number i, with the header that Linux's tap
// gives it: the checksum is left to whoever wants it.
func request(i int, text string) []byte {
	p := append([]byte{byte(i >> 8), byte(i), 0, 0, 0, 1, 0, 0}, text...)
	b := make([]byte, 12+wire.EthLen+wire.IPv4MinLen+wire.UDPLen, 12+wire.EthLen+wire.IPv4MinLen+wire.UDPLen+len(p))
	b[0], b[6], b[8], b[10] = 1, wire.EthLen+wire.IPv4MinLen, 6, 1 // NEEDS_CSUM, csum_start, csum_offset, num_buffers
	e := b[12:]
	copy(e, []byte{0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 2, 8, 0})
	n := wire.UDPLen + len(p)
	src, dst := stackAddr[1].Addr(), stackAddr[0].Addr()
	wire.PutIPv4(e[wire.EthLen:], &wire.IPv4Fields{TotalLen: wire.IPv4MinLen + n, ID: uint16(i), DF: true, TTL: 64, Proto: wire.ProtoUDP, Src: wire.U32(src), Dst: wire.U32(dst)})
	sum := wire.Fold(wire.PseudoSum4(wire.U32(src), wire.U32(dst), wire.ProtoUDP, n))
	wire.PutUDP(e[wire.EthLen+wire.IPv4MinLen:], uint16(40000+i%4), 11211, n, sum)
	return append(b, p...)
}

// turn puts a batch of frames, all of one length, into the card's ring and lets
// the server answer.
func (c *card) turn(frames [][]byte) int {
	rx := c.nic.RxQueue(0)
	rx.Answer = func(first, _ []byte) {
		copy(first, frames[c.next%len(frames)])
		c.next++
	}
	rx.Complete(cardBatch, len(frames[0]))
	c.stack.Poll()
	return c.nic.TxQueue(0).Complete(1<<16, 0)
}

func cardFrames(set bool) (frames [][]byte) {
	for i := range cardKeys {
		text := fmt.Sprintf("get k%06x_%08d\r\n", i, i)
		if set {
			text = fmt.Sprintf("set k%06x_%08d %5d 0 32\r\n%032d\r\n", i, i, 10000+i, i)
		}
		frames = append(frames, request(i, text))
	}
	return frames
}

// TestPathAnswers: what goes in by the ring of the card comes back by it.
func TestPathAnswers(t *testing.T) {
	c := newCard(t)
	for _, set := range []bool{true, false} {
		for i, f := range cardFrames(set)[:100] {
			c.nic.Deliver(0, fakedev.Frame{Hdr: fakedev.NetHdr{Flags: 1, CsumStart: 34, CsumOffs: 6}, Data: f[12:]})
			c.nic.Step()
			c.stack.Poll()
			c.nic.Sent[0] = nil
			c.nic.Step()
			if len(c.nic.Sent[0]) != 1 {
				t.Fatalf("%d replies", len(c.nic.Sent[0]))
			}
			r := c.nic.Sent[0][0]
			want := "STORED\r\n"
			if !set {
				want = fmt.Sprintf("VALUE k%06x_%08d %d 32\r\n%032d\r\nEND\r\n", i, i, 10000+i, i)
			}
			u := r.Data[wire.EthLen+wire.IPv4MinLen:]
			if r.Hdr.Flags != 1 || r.Hdr.CsumStart != 34 || r.Hdr.CsumOffs != 6 || !bytes.Equal(u[wire.UDPLen:], append([]byte{byte(i >> 8), byte(i), 0, 0, 0, 1, 0, 0}, want...)) ||
				binary.BigEndian.Uint16(u[2:]) != uint16(40000+i%4) {
				t.Fatalf("reply %+v %q", r.Hdr, r.Data)
			}
		}
	}
}

// TestPathDoesNotAllocate holds the whole path of a datagram to that.
func TestPathDoesNotAllocate(t *testing.T) {
	c := newCard(t)
	for _, set := range []bool{true, false} {
		frames := cardFrames(set)
		for range 2 * cardKeys / cardBatch {
			c.turn(frames)
		}
		rx := c.nic.RxQueue(0)
		sent := 0
		if n := testing.AllocsPerRun(100, func() {
			rx.Complete(cardBatch, len(frames[0]))
			c.stack.Poll()
			sent += c.nic.TxQueue(0).Complete(1<<16, 0)
		}); n != 0 {
			t.Errorf("set %v: %v allocations in a batch", set, n)
		}
		if sent != 101*cardBatch {
			t.Errorf("set %v: %d replies", set, sent)
		}
	}
}

func BenchmarkPath(b *testing.B) {
	run := func(name string, set bool) {
		b.Run(name, func(b *testing.B) {
			c := newCard(b)
			for range 2 * cardKeys / cardBatch {
				c.turn(cardFrames(true))
			}
			frames := cardFrames(set)
			b.ReportAllocs()
			b.ResetTimer()
			sent := 0
			for left := b.N; left > 0; left -= cardBatch {
				sent += c.turn(frames)
			}
			if sent < b.N {
				b.Fatalf("%d replies to %d requests", sent, b.N)
			}
		})
	}
	run("UDPGet", false)
	run("UDPSet", true)
	value := strings.Repeat("v", 32)
	b.Run("TCPGet", func(b *testing.B) {
		benchTCP(b, "get k0000_00000000\r\n", "VALUE k0000_00000000 7 32\r\n"+value+"\r\nEND\r\n", "set k0000_00000000 7 0 32\r\n"+value+"\r\n")
	})
	b.Run("TCPSet", func(b *testing.B) {
		set := "set k0000_00000000 7 0 32\r\n" + value + "\r\n"
		benchTCP(b, set, "STORED\r\n", set)
	})
}

// benchTCP sends set once, then requests in turn over connections of our own
// stack, so that its client side is in the numbers.
func benchTCP(b *testing.B, req, reply, set string) {
	n, err := simnet.New(simnet.Config{Bufs: 4096, Ring: 1024, Caps: pkt.Caps{TxCsum: true, RxCsum: true}})
	if err != nil {
		b.Fatal(err)
	}
	o := parse(b, "-m", "64", "-t", "1", "-p", "11211", "-engine=channel")
	var hosts [2]*OnStack
	for i := range hosts {
		if hosts[i], err = NewOnStack(o, 1, n.Links[i], stackAddr[i]); err != nil {
			b.Fatal(err)
		}
		hosts[i].Out = io.Discard
	}
	s, err := New(o, hosts[0])
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		for _, e := range []error{s.Close(), hosts[1].Close(), hosts[0].Close(), n.Close()} {
			if e != nil {
				b.Error(e)
			}
		}
	}()
	var conns [8]net.Conn
	for i := range conns {
		if conns[i], err = hosts[1].Dial(b.Context(), netip.AddrPortFrom(stackAddr[0].Addr(), 11211)); err != nil {
			b.Fatal(err)
		}
		defer conns[i].Close()
	}
	ask := func(c net.Conn, req, reply string) {
		if _, err := io.WriteString(c, req); err != nil {
			b.Fatal(err)
		}
		got := make([]byte, len(reply))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != reply {
			b.Fatalf("%q, %v", got, err)
		}
	}
	ask(conns[0], set, "STORED\r\n")
	for _, c := range conns {
		ask(c, req, reply)
	}
	out, got := []byte(req), make([]byte, len(reply))
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= len(conns) {
		for _, c := range conns {
			if _, err := c.Write(out); err != nil {
				b.Fatal(err)
			}
		}
		for _, c := range conns {
			if _, err := io.ReadFull(c, got); err != nil {
				b.Fatal(err)
			}
		}
	}
}
