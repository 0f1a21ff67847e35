package host

import (
	"encoding/binary"
	"syscall"
	"time"
	"unsafe"
)

// Offsets in Linux's struct tcp_info (include/uapi/linux/tcp.h), which only grows.
const (
	tiSndMSS       = 16
	tiPMTU         = 60
	tiRTT          = 68 // µs
	tiRTTVar       = 72
	tiSndCwnd      = 80  // segments
	tiTotalRetrans = 100 // segments
	tiSndWnd       = 228 // bytes; since 5.4
	tiLen          = 232
)

// tcpInfo asks for TCP_INFO.
func tcpInfo(fd uintptr) (TCPInfo, bool) {
	var b [256]byte
	n := uint32(len(b))
	_, _, e := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 || n < tiTotalRetrans+4 {
		return TCPInfo{}, false
	}
	u32 := func(at int) int { return int(binary.NativeEndian.Uint32(b[at:])) }
	t := TCPInfo{
		MSS: u32(tiSndMSS), Cwnd: u32(tiSndCwnd) * u32(tiSndMSS), PMTU: u32(tiPMTU),
		RTT: time.Duration(u32(tiRTT)) * time.Microsecond, RTTVar: time.Duration(u32(tiRTTVar)) * time.Microsecond,
		Retransmits: int64(u32(tiTotalRetrans)),
	}
	if n >= tiLen {
		t.PeerWindow = u32(tiSndWnd)
	}
	return t, true
}
