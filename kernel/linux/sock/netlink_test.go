package sock

import (
	"net/netip"
	"syscall"
	"testing"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/simnet"
	"osv/kernel/linux/abi"
	netsock "osv/kernel/net/sock"
	"osv/kernel/net/stack"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// newWired is sockets on a stack with loopback and one card, sim0.
func newWired(t *testing.T) *Net {
	t.Helper()
	wire, err := simnet.New(simnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	mem := new(dma.Host)
	st, err := stack.New(stack.Config{Mem: mem, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.AddLink(wire.Links[0], stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}, Gateway: netip.MustParseAddr("10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	n, err := netsock.New(st, netsock.Config{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		st.Close()
		wire.Close()
	})
	return New(Config{Net: n})
}

// ask sends a dump request and returns all messages of the answer but the last.
func ask(t *testing.T, s Socket, kind uint16, flags uint16, body []byte) []syscall.NetlinkMessage {
	t.Helper()
	req := make([]byte, nlHeader, nlHeader+len(body))
	req = append(req, body...)
	ne.PutUint32(req, uint32(len(req)))
	ne.PutUint16(req[4:], kind)
	ne.PutUint16(req[6:], flags)
	ne.PutUint32(req[8:], 77)
	if k, err := s.Send(newCaller(), &vfs.Bytes{B: req}, &Message{Addr: Addr{Family: syscall.AF_NETLINK}}, 0); k != len(req) || err != nil {
		t.Fatal(k, err)
	}
	var all []syscall.NetlinkMessage
	for s.Ready()&poll.In != 0 {
		d := vfs.Bytes{B: make([]byte, 65536)}
		if k, err := s.Recv(&vfs.Bytes{}, nil, syscall.MSG_PEEK|syscall.MSG_TRUNC); k == 0 || err != nil {
			t.Fatal(k, err)
		}
		k, err := s.Recv(&d, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ms, err := syscall.ParseNetlinkMessage(d.B[:k])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ms...)
	}
	for _, m := range all {
		if m.Header.Seq != 77 {
			t.Errorf("sequence number %d", m.Header.Seq)
		}
	}
	return all
}

const dump = syscall.NLM_F_REQUEST | syscall.NLM_F_DUMP

func TestNetlinkDumps(t *testing.T) {
	n := newWired(t)
	s := must(n.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW, syscall.NETLINK_ROUTE))
	defer s.Close()
	if err := s.Bind(newCaller(), &Addr{Family: syscall.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	if s.LocalAddr().PID == 0 {
		t.Error("no number")
	}
	links := ask(t, s, syscall.RTM_GETLINK, dump, make([]byte, 16))
	if len(links) != 3 || links[2].Header.Type != syscall.NLMSG_DONE {
		t.Fatalf("%d messages", len(links))
	}
	for i, want := range []string{"lo", "sim0"} {
		attrs, err := syscall.ParseNetlinkRouteAttr(&links[i])
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, a := range attrs {
			found = found || a.Attr.Type == syscall.IFLA_IFNAME && string(a.Value) == want+"\x00"
		}
		if !found || ne.Uint32(links[i].Data[4:]) != uint32(i+1) {
			t.Errorf("link %d is not %s: %q", i, want, links[i].Data)
		}
	}
	addrs := ask(t, s, syscall.RTM_GETADDR, dump, []byte{syscall.AF_INET})
	if len(addrs) != 3 {
		t.Errorf("%d addresses of IPv4", len(addrs)-1)
	}
	if all := ask(t, s, syscall.RTM_GETADDR, dump, []byte{0}); len(all) != 4 {
		t.Errorf("%d addresses", len(all)-1)
	}
	routes := ask(t, s, syscall.RTM_GETROUTE, dump, []byte{syscall.AF_INET})
	gateway := false
	for i := range routes[:len(routes)-1] {
		attrs, err := syscall.ParseNetlinkRouteAttr(&routes[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range attrs {
			gateway = gateway || a.Attr.Type == syscall.RTA_GATEWAY && string(a.Value) == "\x0a\x00\x00\x01"
		}
	}
	if !gateway {
		t.Error("no gateway among the routes")
	}
	one := make([]byte, 16)
	ne.PutUint32(one[4:], 2)
	if ms := ask(t, s, syscall.RTM_GETLINK, syscall.NLM_F_REQUEST|syscall.NLM_F_ACK, one); len(ms) != 2 || ms[1].Header.Type != syscall.NLMSG_ERROR || ne.Uint32(ms[1].Data) != 0 {
		t.Errorf("one link: %+v", ms)
	}
	ne.PutUint32(one[4:], 9)
	for _, x := range []struct {
		kind uint16
		want syscall.Errno
	}{{syscall.RTM_GETLINK, syscall.ENODEV}, {syscall.RTM_NEWADDR, syscall.EPERM}, {syscall.RTM_GETADDR, syscall.EOPNOTSUPP}, {syscall.RTM_GETNEIGH, syscall.EOPNOTSUPP}} {
		if ms := ask(t, s, x.kind, syscall.NLM_F_REQUEST, one); len(ms) != 1 || int32(ne.Uint32(ms[0].Data)) != -int32(x.want) {
			t.Errorf("kind %d: %+v", x.kind, ms)
		}
	}
	if _, err := s.Recv(&vfs.Bytes{B: make([]byte, 1)}, nil, 0); err != syscall.EAGAIN {
		t.Error(err)
	}
	if err := s.SetOption(270, 1, []byte{1, 0, 0, 0}); err != nil {
		t.Error(err)
	}
	if err := s.Connect(newCaller(), &Addr{Family: syscall.AF_NETLINK}); err != nil {
		t.Error(err)
	}
	if err := s.Listen(nil, 1); err != syscall.EOPNOTSUPP {
		t.Error(err)
	}
}

func FuzzNetlink(f *testing.F) {
	n := New(Config{})
	st, err := stack.New(stack.Config{Mem: new(dma.Host), Manual: true})
	if err != nil {
		f.Fatal(err)
	}
	n.stack = st
	f.Add([]byte("\x20\x00\x00\x00\x12\x00\x01\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range n.route(b, 1) {
			if _, err := syscall.ParseNetlinkMessage(p); err != nil {
				t.Errorf("%x: %v", p, err)
			}
		}
	})
}

func TestInterfaceIoctls(t *testing.T) {
	n := newWired(t)
	s := must(n.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0))
	defer s.Close()
	m := make(sliceMemory, 512)
	ifreq := func(req uint32, name string, index uint32) ([]byte, error) {
		clear(m)
		copy(m, name)
		ne.PutUint32(m[16:], index)
		_, err := s.Control(m, req, 0)
		return m[16:32], err
	}
	for _, x := range []struct {
		req  uint32
		name string
		want []byte
		err  error
	}{
		{abi.SIOCGIFADDR, "sim0", []byte{2, 0, 0, 0, 10, 0, 0, 2}, nil},
		{abi.SIOCGIFADDR, "lo", []byte{2, 0, 0, 0, 127, 0, 0, 1}, nil},
		{abi.SIOCGIFNETMASK, "sim0", []byte{2, 0, 0, 0, 255, 255, 255, 0}, nil},
		{abi.SIOCGIFBRDADDR, "sim0", []byte{2, 0, 0, 0, 10, 0, 0, 255}, nil},
		{abi.SIOCGIFFLAGS, "lo", []byte{0x49, 0}, nil},
		{abi.SIOCGIFMTU, "sim0", []byte{0xdc, 5, 0, 0}, nil},
		{abi.SIOCGIFINDEX, "sim0", []byte{2, 0, 0, 0}, nil},
		{abi.SIOCGIFHWADDR, "sim0", []byte{1, 0, 2, 0, 0, 0, 0, 1}, nil},
		{abi.SIOCGIFHWADDR, "lo", []byte{4, 3, 0, 0}, nil},
		{abi.SIOCGIFMETRIC, "lo", []byte{0, 0, 0, 0}, nil},
		{abi.SIOCGIFTXQLEN, "lo", []byte{0xe8, 3, 0, 0}, nil},
		{abi.SIOCGIFMAP, "lo", []byte{0, 0}, nil},
		{abi.SIOCGIFADDR, "eth9", nil, syscall.ENODEV},
		{abi.SIOCETHTOOL, "lo", nil, syscall.EOPNOTSUPP},
		{abi.SIOCSIFFLAGS, "lo", nil, syscall.EPERM},
		{0x1234, "lo", nil, syscall.ENOTTY},
		{abi.SIOCGSTAMP, "lo", nil, syscall.ENOENT},
	} {
		got, err := ifreq(x.req, x.name, 0)
		if err != x.err || err == nil && string(got[:len(x.want)]) != string(x.want) {
			t.Errorf("%#x of %s: % x, %v, want % x, %v", x.req, x.name, got, err, x.want, x.err)
		}
	}
	if _, err := ifreq(abi.SIOCGIFNAME, "", 2); err != nil || string(m[:5]) != "sim0\x00" {
		t.Error(err, m[:16])
	}
	clear(m)
	ne.PutUint32(m, 80)
	ne.PutUint64(m[8:], 100)
	if _, err := s.Control(m, abi.SIOCGIFCONF, 0); err != nil || ne.Uint32(m) != 80 || string(m[100:103]) != "lo\x00" || string(m[140:144]) != "sim0" {
		t.Error(err, m[:200])
	}
}

func TestTCPInfo(t *testing.T) {
	w := newOurs(t)
	a, b := connectOurs(t, w)
	send(t, a, "hello")
	w.settle()
	info := make([]byte, 300)
	k, err := a.Option(syscall.IPPROTO_TCP, syscall.TCP_INFO, info)
	if k != abi.SizeofTCPInfo || err != nil || info[0] != 1 || ne.Uint32(info[16:]) == 0 || ne.Uint32(info[80:]) == 0 || ne.Uint32(info[60:]) == 0 {
		t.Errorf("%d %v % x", k, err, info[:k])
	}
	if k, err := w.s[0].Option(syscall.IPPROTO_TCP, syscall.TCP_INFO, info); k != abi.SizeofTCPInfo || err != nil || info[0] != 10 {
		t.Errorf("%d %v, state %d", k, err, info[0])
	}
	m := make(sliceMemory, 8)
	for _, req := range []uint32{abi.SIOCOUTQ, abi.SIOCOUTQNSD, abi.SIOCATMARK} {
		if _, err := b.Control(m, req, 0); err != nil || ne.Uint32(m) != 0 {
			t.Error(err, m)
		}
	}
	if n, err := w.getInt(2, syscall.IPPROTO_IP, syscall.IP_MTU); n != 8192 || err != nil {
		t.Error(n, err)
	}
	// Options reach what is open already.
	for _, x := range [][3]int{
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1}, {syscall.SOL_SOCKET, syscall.SO_RCVBUF, 10000}, {syscall.SOL_SOCKET, syscall.SO_SNDBUF, 10000},
		{syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1}, {syscall.IPPROTO_IP, syscall.IP_TOS, 16}, {syscall.IPPROTO_TCP, abi.TCP_INQ, 1},
	} {
		if err := w.setInt(2, x[0], x[1], x[2]); err != nil {
			t.Error(x, err)
		}
	}
	var msg Message
	if k, err := b.Recv(&vfs.Bytes{B: make([]byte, 2)}, &msg, 0); k != 2 || err != nil || msg.Control.Have != HasInq || msg.Control.Inq != 3 {
		t.Errorf("%d %v %+v", k, err, msg)
	}
	if _, err := b.Recv(&vfs.Bytes{B: make([]byte, 2)}, nil, msgErrQueue); err != syscall.EAGAIN {
		t.Error(err)
	}
	if _, err := b.Recv(&vfs.Bytes{B: make([]byte, 2)}, nil, msgOOB); err != syscall.EINVAL {
		t.Error(err)
	}
	if k, err := a.Send(nil, &vfs.Bytes{B: []byte("!")}, nil, msgOOB); k != 1 || err != nil {
		t.Error(k, err)
	}
	w.settle()
	if b.Ready()&poll.Pri == 0 {
		t.Error("urgent octets are not told")
	}
}

func TestWhatThereIsNot(t *testing.T) {
	n := newWorld(t)
	for _, x := range []struct {
		domain, typ, proto int
		err                error
	}{
		{syscall.AF_PACKET, syscall.SOCK_RAW, 0, syscall.EAFNOSUPPORT}, {99, 1, 0, syscall.EAFNOSUPPORT}, {syscall.AF_INET, 99, 0, syscall.EINVAL},
		{syscall.AF_INET, syscall.SOCK_RAW, 1, syscall.EPERM}, {syscall.AF_INET, syscall.SOCK_STREAM, 17, syscall.EPROTONOSUPPORT},
		{syscall.AF_INET, syscall.SOCK_DGRAM, 6, syscall.EPROTONOSUPPORT}, {syscall.AF_INET, syscall.SOCK_SEQPACKET, 0, syscall.ESOCKTNOSUPPORT},
		{syscall.AF_UNIX, syscall.SOCK_RDM, 0, syscall.ESOCKTNOSUPPORT}, {syscall.AF_UNIX, syscall.SOCK_STREAM, 5, syscall.EPROTONOSUPPORT},
		{syscall.AF_NETLINK, syscall.SOCK_RAW, 9, syscall.EPROTONOSUPPORT}, {syscall.AF_NETLINK, syscall.SOCK_STREAM, 0, syscall.ESOCKTNOSUPPORT},
	} {
		if _, err := n.Socket(x.domain, x.typ, x.proto); err != x.err {
			t.Errorf("socket(%d, %d, %d): %v, want %v", x.domain, x.typ, x.proto, err, x.err)
		}
	}
	if _, _, err := n.Pair(newCaller(), syscall.AF_INET, syscall.SOCK_STREAM, 0); err != syscall.EOPNOTSUPP {
		t.Error(err)
	}
	bare := New(Config{})
	for _, d := range []int{syscall.AF_INET, syscall.AF_INET6, syscall.AF_NETLINK} {
		if _, err := bare.Socket(d, syscall.SOCK_STREAM, 0); err != syscall.EAFNOSUPPORT {
			t.Error(d, err)
		}
	}
	s := must(n.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0))
	defer s.Close()
	if s.Node() != nil || s.Seekable() || s.Sync(false) != syscall.EINVAL {
		t.Error("a socket is no file on a disk")
	}
	if d, ty, p := s.Kind(); d != 2 || ty != 1 || p != 6 {
		t.Error(d, ty, p)
	}
}
