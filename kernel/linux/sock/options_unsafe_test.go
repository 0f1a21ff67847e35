package sock

import (
	"fmt"
	"syscall"
	"testing"
	"unsafe"

	"osv/kernel/linux/abi"
)

// Every option is set to several values, and read before and after, on the host's
// Linux and here.
func TestLinuxOptions(t *testing.T) {
	socketOptions := []int{
		syscall.SO_REUSEADDR, abi.SO_REUSEPORT, syscall.SO_KEEPALIVE, syscall.SO_BROADCAST, syscall.SO_OOBINLINE, syscall.SO_DONTROUTE,
		syscall.SO_TYPE, syscall.SO_DOMAIN, syscall.SO_PROTOCOL, syscall.SO_ACCEPTCONN, syscall.SO_ERROR, syscall.SO_RCVBUF, syscall.SO_SNDBUF,
		syscall.SO_RCVLOWAT, syscall.SO_SNDLOWAT, syscall.SO_TIMESTAMP, syscall.SO_TIMESTAMPNS, abi.SO_BUSY_POLL,
		abi.SO_RXQ_OVFL, abi.SO_SELECT_ERR_QUEUE, abi.SO_NOFCS, abi.SO_LOCK_FILTER, syscall.SO_NO_CHECK, 1000,
	}
	tcpOptions := []int{
		syscall.TCP_NODELAY, syscall.TCP_CORK, syscall.TCP_MAXSEG, syscall.TCP_KEEPIDLE, syscall.TCP_KEEPINTVL, syscall.TCP_KEEPCNT, syscall.TCP_SYNCNT,
		abi.TCP_USER_TIMEOUT, syscall.TCP_QUICKACK, abi.TCP_NOTSENT_LOWAT, abi.TCP_THIN_LINEAR_TIMEOUTS, abi.TCP_INQ, 1000,
	}
	ipOptions := []int{
		syscall.IP_TOS, syscall.IP_TTL, syscall.IP_PKTINFO, syscall.IP_RECVTTL, syscall.IP_RECVTOS, syscall.IP_RECVERR, syscall.IP_MTU_DISCOVER,
		syscall.IP_MULTICAST_TTL, syscall.IP_MULTICAST_LOOP, abi.IP_MULTICAST_ALL, syscall.IP_FREEBIND, abi.IP_BIND_ADDRESS_NO_PORT, syscall.IP_MINTTL, syscall.IP_MTU, 1000,
	}
	ip6Options := []int{
		syscall.IPV6_V6ONLY, syscall.IPV6_UNICAST_HOPS, syscall.IPV6_MULTICAST_HOPS, syscall.IPV6_MULTICAST_LOOP, abi.IPV6_RECVPKTINFO, abi.IPV6_RECVHOPLIMIT,
		abi.IPV6_RECVTCLASS, abi.IPV6_TCLASS, abi.IPV6_RECVERR, syscall.IPV6_MTU_DISCOVER, abi.IPV6_MULTICAST_ALL, 1000,
	}
	udpOptions := []int{abi.UDP_CORK, abi.UDP_SEGMENT, abi.UDP_GRO, 1000}
	for _, k := range []struct {
		domain, typ int
		levels      map[int][]int
	}{
		{syscall.AF_INET, syscall.SOCK_STREAM, map[int][]int{syscall.SOL_SOCKET: socketOptions, syscall.IPPROTO_TCP: tcpOptions, syscall.IPPROTO_IP: ipOptions, 999: {1}}},
		{syscall.AF_INET6, syscall.SOCK_STREAM, map[int][]int{syscall.SOL_SOCKET: socketOptions, syscall.IPPROTO_TCP: tcpOptions, syscall.IPPROTO_IPV6: ip6Options}},
		{syscall.AF_INET, syscall.SOCK_DGRAM, map[int][]int{syscall.SOL_SOCKET: socketOptions, syscall.IPPROTO_IP: ipOptions, abi.SOL_UDP: udpOptions, 999: {1}}},
		{syscall.AF_INET6, syscall.SOCK_DGRAM, map[int][]int{syscall.SOL_SOCKET: socketOptions, syscall.IPPROTO_IPV6: ip6Options}},
		{syscall.AF_UNIX, syscall.SOCK_STREAM, map[int][]int{syscall.SOL_SOCKET: append(socketOptions[:len(socketOptions):len(socketOptions)], abi.SO_PASSCRED, abi.SO_PEEK_OFF), syscall.IPPROTO_TCP: {1}}},
	} {
		for level, names := range k.levels {
			for _, name := range names {
				w := newTwin(t)
				w.same("socket", w.h.socket(k.domain, k.typ), w.o.socket(k.domain, k.typ))
				w.added(1, k.domain, k.typ)
				get := func(when string) {
					hn, herr := w.h.getInt(0, level, name)
					on, oerr := w.o.getInt(0, level, name)
					w.same(fmt.Sprintf("domain %d type %d: get %d %d %s", k.domain, k.typ, level, name, when), fmt.Sprint(hn, herr), fmt.Sprint(on, oerr))
				}
				get("at first")
				for _, v := range values(level, name) {
					w.same(fmt.Sprintf("domain %d type %d: set %d %d = %d", k.domain, k.typ, level, name, v), w.h.setInt(0, level, name, v), w.o.setInt(0, level, name, v))
					get("after")
				}
				if w.bad {
					t.Error(w.said)
				}
			}
		}
	}
}

// values are those to try. How large buffers may be is the host's own affair.
func values(level, name int) []int {
	if level == syscall.SOL_SOCKET && (name == syscall.SO_RCVBUF || name == syscall.SO_SNDBUF || name == syscall.SO_RCVLOWAT) {
		return []int{1, 0, 5, 1000, 70000}
	}
	return []int{1, 0, 5, 1000, -1, 70000, 1 << 30}
}

// raw is an option as bytes, on the host.
func (w *host) raw(s, level, name int, v []byte) (int, error) {
	n := uint32(len(v))
	_, _, e := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(w.fds[s]), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v[0])), uintptr(unsafe.Pointer(&n)), 0)
	return int(n), fail(e)
}

func TestLinuxStructOptions(t *testing.T) {
	w := newTwin(t)
	w.same("socket", w.h.socket(syscall.AF_INET, syscall.SOCK_STREAM), w.o.socket(syscall.AF_INET, syscall.SOCK_STREAM))
	w.added(1, syscall.AF_INET, syscall.SOCK_STREAM)
	tv := func(sec, usec uint64) []byte {
		return ne.AppendUint64(ne.AppendUint64(nil, sec), usec)
	}
	linger := func(on, sec uint32) []byte { return ne.AppendUint32(ne.AppendUint32(nil, on), sec) }
	for _, x := range []struct {
		level, name int
		v           []byte
	}{
		{syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, tv(5, 0)}, {syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, tv(0, 1e6)},
		{syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, tv(1, 0)[:8]}, {syscall.SOL_SOCKET, syscall.SO_LINGER, linger(1, 7)},
		{syscall.SOL_SOCKET, syscall.SO_LINGER, linger(0, 3)}, {syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, []byte("lo\x00")},
		{syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, []byte("nosuch\x00")}, {syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, []byte{0}},
		{syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, []byte("cubic")}, {syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, []byte("nosuch")},
		{syscall.IPPROTO_IP, syscall.IP_TOS, []byte{16}}, {syscall.IPPROTO_IP, syscall.IP_ADD_MEMBERSHIP, []byte{224, 0, 0, 5, 0, 0, 0, 0}},
	} {
		_, _, e := syscall.Syscall6(syscall.SYS_SETSOCKOPT, uintptr(w.h.fds[0]), uintptr(x.level), uintptr(x.name), uintptr(unsafe.Pointer(&x.v[0])), uintptr(len(x.v)), 0)
		w.same(fmt.Sprintf("set %d %d %q", x.level, x.name, x.v), fail(e), w.o.s[0].SetOption(x.level, x.name, x.v))
		hv, ov := make([]byte, 16), make([]byte, 16)
		hn, herr := w.h.raw(0, x.level, x.name, hv)
		on, oerr := w.o.s[0].Option(x.level, x.name, ov)
		if herr != nil {
			hn = 0
		}
		w.same(fmt.Sprintf("get %d %d", x.level, x.name), fmt.Sprintf("%q %v", hv[:hn], herr), fmt.Sprintf("%q %v", ov[:on], oerr))
	}
	if w.bad {
		t.Error(w.said)
	}
}
