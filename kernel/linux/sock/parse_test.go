package sock

import (
	"bytes"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"osv/kernel/linux/abi"
)

func TestAddrRoundTrip(t *testing.T) {
	for _, a := range []Addr{
		*in4(80), {Family: syscall.AF_INET6, Inet: netip.MustParseAddrPort("[fe80::1]:53"), Scope: 2, Flow: 7},
		{Family: syscall.AF_UNIX}, {Family: syscall.AF_UNIX, Path: "/run/x"}, {Family: syscall.AF_UNIX, Path: "\x00abc\x00d"},
		{Family: syscall.AF_NETLINK, PID: 5, Groups: 3},
	} {
		var b [abi.SizeofSockaddrMax]byte
		got, err := ParseAddr(b[:a.Put(b[:])])
		if err != nil || got != a {
			t.Errorf("%+v became %+v, %v", a, got, err)
		}
	}
	for _, bad := range []string{"", "\x02", "\x02\x00\x00\x50\x7f\x00\x00\x01", "\x0a\x00" + string(make([]byte, 20)), "\x01\x00" + string(make([]byte, 120)), "\x10\x00\x00"} {
		if _, err := ParseAddr([]byte(bad)); err != syscall.EINVAL {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseAddr(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x50\x7f\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x01\x00/run/s\x00"))
	f.Add([]byte("\x01\x00\x00name"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAddr(b)
		if err != nil {
			return
		}
		var out [abi.SizeofSockaddrMax]byte
		n := a.Put(out[:])
		if n == 0 || n > abi.SizeofSockaddrUn && a.Family == syscall.AF_UNIX { // a path without its NUL
			return
		}
		if again, err := ParseAddr(out[:n]); err != nil || again != a {
			t.Errorf("%+v became %+v, %v", a, again, err)
		}
	})
}

// cmsg is one control message.
func cmsg(level, kind int, v []byte) []byte {
	b := make([]byte, align8(16+len(v)))
	ne.PutUint64(b, uint64(16+len(v)))
	ne.PutUint32(b[8:], uint32(level))
	ne.PutUint32(b[12:], uint32(kind))
	copy(b[16:], v)
	return b
}

func TestParseControl(t *testing.T) {
	var c Control
	b := cmsg(syscall.IPPROTO_IP, syscall.IP_PKTINFO, []byte{1, 0, 0, 0, 10, 0, 0, 2, 0, 0, 0, 0})
	b = append(b, cmsg(syscall.IPPROTO_IP, syscall.IP_TTL, []byte{9, 0, 0, 0})...)
	b = append(b, cmsg(syscall.IPPROTO_IP, syscall.IP_TOS, []byte{16})...)
	b = append(b, cmsg(abi.SOL_UDP, abi.UDP_SEGMENT, []byte{100, 0})...)
	if err := ParseControl(syscall.AF_INET, syscall.SOCK_DGRAM, b, &c); err != nil {
		t.Fatal(err)
	}
	if c.If != 1 || c.Local != netip.MustParseAddr("10.0.0.2") || c.TTL != 9 || c.TOS != 16 || c.Segment != 100 || c.Have != HasPktInfo|HasTTL|HasTOS|HasSegment {
		t.Errorf("%+v", c)
	}
	c = Control{}
	b = cmsg(syscall.IPPROTO_IPV6, abi.IPV6_PKTINFO, append(netip.MustParseAddr("::1").AsSlice(), 2, 0, 0, 0))
	b = append(b, cmsg(syscall.IPPROTO_IPV6, abi.IPV6_HOPLIMIT, []byte{9, 0, 0, 0})...)
	b = append(b, cmsg(syscall.IPPROTO_IPV6, abi.IPV6_TCLASS, []byte{8, 0, 0, 0})...)
	if err := ParseControl(syscall.AF_INET6, syscall.SOCK_DGRAM, b, &c); err != nil || c.If != 2 || c.TTL != 9 || c.TOS != 8 {
		t.Errorf("%+v %v", c, err)
	}
	c = Control{}
	b = cmsg(syscall.SOL_SOCKET, abi.SCM_RIGHTS, []byte{3, 0, 0, 0, 4, 0, 0, 0})
	b = append(b, cmsg(syscall.SOL_SOCKET, abi.SCM_CREDENTIALS, []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0})...)
	if err := ParseControl(syscall.AF_UNIX, syscall.SOCK_STREAM, b, &c); err != nil || len(c.FDs) != 2 || c.FDs[1] != 4 || c.Cred != (Cred{1, 2, 3}) {
		t.Errorf("%+v %v", c, err)
	}
	for i, bad := range [][]byte{
		cmsg(syscall.SOL_SOCKET, 99, nil), cmsg(syscall.SOL_SOCKET, abi.SCM_CREDENTIALS, make([]byte, 8)),
		cmsg(syscall.SOL_SOCKET, abi.SCM_RIGHTS, make([]byte, 4*254)), append(make([]byte, 8), make([]byte, 8)...),
	} {
		if err := ParseControl(syscall.AF_UNIX, syscall.SOCK_STREAM, bad, &c); err != syscall.EINVAL {
			t.Errorf("bad %d: %v", i, err)
		}
	}
	for i, bad := range [][]byte{
		cmsg(syscall.IPPROTO_IP, 99, nil), cmsg(syscall.IPPROTO_IP, syscall.IP_TTL, []byte{0, 1, 0, 0}), cmsg(syscall.IPPROTO_IP, syscall.IP_PKTINFO, nil),
		cmsg(syscall.IPPROTO_IP, syscall.IP_TOS, []byte{1, 2}), cmsg(syscall.SOL_SOCKET, 99, nil), cmsg(abi.SOL_UDP, 1, nil),
	} {
		if err := ParseControl(syscall.AF_INET, syscall.SOCK_DGRAM, bad, &c); err != syscall.EINVAL {
			t.Errorf("bad %d of IPv4: %v", i, err)
		}
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add(1, 1, cmsg(syscall.SOL_SOCKET, abi.SCM_RIGHTS, make([]byte, 12)))
	f.Add(2, 2, cmsg(syscall.IPPROTO_IP, syscall.IP_PKTINFO, make([]byte, 12)))
	f.Add(10, 2, append(cmsg(syscall.IPPROTO_IPV6, abi.IPV6_PKTINFO, make([]byte, 20)), 1, 2, 3))
	f.Fuzz(func(t *testing.T, domain, typ int, b []byte) {
		var c Control
		if ParseControl(domain, typ, b, &c) != nil {
			return
		}
		if len(c.FDs) > abi.SCM_MAX_FD {
			t.Errorf("%d descriptors", len(c.FDs))
		}
		// What is told never goes beyond its room, whatever that is.
		for room := range 64 {
			e := Encoder{B: make([]byte, room)}
			c.Time = time.Unix(1, 2)
			e.Put(&c)
			if n := e.RightsRoom(); n < len(c.FDs) {
				e.PutRights(c.FDs[:n])
			} else {
				e.PutRights(c.FDs)
			}
			if e.N > room {
				t.Fatalf("%d bytes in %d", e.N, room)
			}
		}
	})
}

func TestEncoder(t *testing.T) {
	c := Control{
		Have: HasTime | HasTimeNS | HasCred | HasPktInfo | HasPktInfo6 | HasTTL | HasTOS | HasHops | HasTClass | HasInq,
		Cred: Cred{1, 2, 3}, If: 4, Local: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), TTL: 64, TOS: 8, Time: time.Unix(5, 6000),
	}
	e := Encoder{B: make([]byte, 4096)}
	e.Put(&c)
	e.PutRights([]int32{7, 8})
	msgs, err := syscall.ParseSocketControlMessage(e.B[:e.N])
	if err != nil || len(msgs) != 11 || e.Trunc {
		t.Fatal(len(msgs), err, e.Trunc)
	}
	if fds, err := syscall.ParseUnixRights(&msgs[10]); err != nil || len(fds) != 2 || fds[1] != 8 {
		t.Error(fds, err)
	}
	if !bytes.Equal(msgs[3].Data, []byte{4, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}) {
		t.Errorf("pktinfo %x", msgs[3].Data)
	}
	small := Encoder{B: make([]byte, 20)}
	small.Put(&Control{Have: HasCred, Cred: Cred{1, 2, 3}})
	if !small.Trunc || small.N != 20 {
		t.Errorf("%+v", small)
	}
}
