package null

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"osv/harness/load/dist"
	"osv/harness/load/mctext"
)

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

func testItems(t testing.TB, value string) *mctext.Items {
	t.Helper()
	k, _ := dist.Parse("20")
	v, err := dist.Parse(value)
	if err != nil {
		t.Fatal(err)
	}
	it, err := mctext.NewItems(50, k, v, 100000, 3)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func dial(t *testing.T, network string, addr netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTCPAnswersPipelinedAndSplitCommands(t *testing.T) {
	it := testItems(t, "300")
	s, err := ListenTCP(anyPort, it)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := dial(t, "tcp", s.Addr)
	req := it.AppendGet(nil, 1)
	req = it.AppendSet(req, 1, 1)
	req = it.AppendGet(req, 1)
	req = append(req, "get nothing\r\n"...)
	req = it.AppendSet(req, 1, 0)
	want := it.AppendValue(nil, 1, 0)
	want = append(want, "STORED\r\n"...)
	want = it.AppendValue(want, 1, 1)
	want = append(want, "END\r\nSTORED\r\n"...)
	for _, piece := range [][]byte{req[:5], req[5:200], req[200:]} {
		if _, err := c.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%q (%v)\nwant %q", got, err, want)
	}
}

// A reply backlog larger than the socket buffers is delivered in full.
func TestTCPSlowReader(t *testing.T) {
	it := testItems(t, "90000")
	s, err := ListenTCP(anyPort, it)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := dial(t, "tcp", s.Addr)
	const n = 60
	var req []byte
	for range n {
		req = it.AppendGet(req, 2)
	}
	if _, err := c.Write(req); err != nil {
		t.Fatal(err)
	}
	want := it.AppendValue(nil, 2, 0)
	r := bufio.NewReader(c)
	got := make([]byte, len(want))
	for i := range n {
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("reply %d: %v", i, err)
		}
	}
}

func TestTCPEndsOnWhatIsNotOurs(t *testing.T) {
	it := testItems(t, "10")
	s, err := ListenTCP(anyPort, it)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, bad := range []string{"\n", "delete x\r\n", "set x\r\n", "set unknown 0 0 1\r\na\r\n", "get " + string(make([]byte, 400)),
		fmt.Sprintf("set %s 0 0 10\r\n0123456789xx", it.Key(1)), fmt.Sprintf("set %s 0 0 10\r\n0123456789\r\n", it.Key(1))} {
		c := dial(t, "tcp", s.Addr)
		if _, err := c.Write([]byte(bad)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 10)); err == nil {
			t.Errorf("%q: %d bytes in answer", bad, n)
		}
	}
}

func TestUDPSplitsLargeReplies(t *testing.T) {
	it := testItems(t, "3000")
	s, err := ListenUDP(anyPort, it)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := dial(t, "udp", s.Addr)
	for _, junk := range []string{"short", "\x00\x00\x00\x00\x00\x01\x00\x00no such command\r\n"} {
		if _, err := c.Write([]byte(junk)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write(it.AppendGet([]byte{0x12, 0x34, 0, 0, 0, 1, 0, 0}, 7)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for seq := 0; seq < 3; seq++ {
		b := make([]byte, 2000)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if n > datagramBytes || !bytes.Equal(b[:8], []byte{0x12, 0x34, 0, byte(seq), 0, 3, 0, 0}) {
			t.Fatalf("datagram %d: %d bytes, header %x", seq, n, b[:8])
		}
		got = append(got, b[8:n]...)
	}
	if want := it.AppendValue(nil, 7, 0); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
}

func TestAddressInUse(t *testing.T) {
	it := testItems(t, "1")
	s, err := ListenTCP(anyPort, it)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s2, err := ListenTCP(s.Addr, it); err == nil {
		s2.Close()
		t.Error("two servers on one port")
	}
	six, err := ListenUDP(netip.MustParseAddrPort("[::1]:0"), it)
	if err != nil {
		t.Skipf("no IPv6 loopback: %v", err)
	}
	six.Close()
}
