package procfs

import (
	"encoding/binary"
	"strings"

	"osv/kernel/vfs/pseudo"
)

// newNet is /proc/PID/net.
func (f *FS) newNet() *pseudo.Dir {
	d := f.NewDir(0o555)
	n := f.cfg.Net
	if n == nil {
		return d
	}
	d.File("dev", f.netDev)
	d.File("route", f.netRoute)
	d.File("snmp", f.netSNMP)
	d.File("sockstat", f.netSockstat)
	d.File("unix", f.netUnix)
	d.Text("arp", "IP address       HW type     Flags       HW address            Mask     Device\n")
	for _, p := range []string{"tcp", "udp", "raw", "tcp6", "udp6", "raw6"} {
		d.File(p, func() []byte { return f.netSockets(p) })
	}
	// The JVM takes the absence of if_inet6 for that of IPv6.
	for _, i := range n.Interfaces() {
		if len(i.Addr6) > 0 {
			d.File("if_inet6", f.netInet6)
			d.Text("ipv6_route", "")
			break
		}
	}
	return d
}

// netDev is /proc/net/dev.
func (f *FS) netDev() []byte {
	var o text
	o.f("Inter-|   Receive                                                |  Transmit\n")
	o.f(" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n")
	for _, i := range f.cfg.Net.Interfaces() {
		o.f("%6s: %7d %7d %4d %4d    0     0          0         0 %8d %7d %4d %4d    0     0       0          0\n",
			i.Name, i.RxBytes, i.RxPackets, i.RxErrors, i.RxDropped, i.TxBytes, i.TxPackets, i.TxErrors, i.TxDropped)
	}
	return o.b
}

// addr4 is an IPv4 address as the files of /proc/net write it: the word as a little
// endian processor sees it.
func addr4(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// netRoute is /proc/net/route.
func (f *FS) netRoute() []byte {
	var o text
	line := func(s string) { o.f("%-127s\n", s) }
	line("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT")
	for _, r := range f.cfg.Net.Routes() {
		flags := 1 // RTF_UP
		if r.Router != [4]byte{} {
			flags |= 2 // RTF_GATEWAY
		}
		if r.Mask == [4]byte{255, 255, 255, 255} {
			flags |= 4 // RTF_HOST
		}
		var l text
		l.f("%s\t%08X\t%08X\t%04X\t0\t0\t%d\t%08X\t%d\t0\t0", r.Interface, addr4(r.Dst[:]), addr4(r.Router[:]),
			flags, r.Metric, addr4(r.Mask[:]), r.MTU)
		line(string(l.b))
	}
	return o.b
}

// netInet6 is /proc/net/if_inet6.
func (f *FS) netInet6() []byte {
	var o text
	for _, i := range f.cfg.Net.Interfaces() {
		for k, a := range i.Addr6 {
			scope := 0
			switch {
			case a == [16]byte{15: 1}:
				scope = 0x10
			case a[0] == 0xfe && a[1]&0xc0 == 0x80:
				scope = 0x20
			}
			bits := 128
			if k < len(i.Bits6) {
				bits = i.Bits6[k]
			}
			o.f("%x %02x %02x %02x 80 %8s\n", a[:], i.Index, bits, scope, i.Name)
		}
	}
	return o.b
}

// netSockets is /proc/net/tcp and its kin.
func (f *FS) netSockets(proto string) []byte {
	var o text
	six := strings.HasSuffix(proto, "6")
	width, tail := 8, ""
	if proto != "tcp6" {
		tail = " ref pointer drops"
	}
	switch {
	case six:
		width = 32
		o.f("  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode%s\n", tail)
	case proto == "tcp":
		o.f("%-149s\n", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode")
	default:
		o.f("%-127s\n", "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops")
	}
	end := func(addr []byte, port uint16) string {
		var e text
		for i := 0; i+4 <= len(addr); i += 4 {
			e.f("%08X", addr4(addr[i:]))
		}
		for len(e.b) < width {
			e.f("0")
		}
		e.f(":%04X", port)
		return string(e.b)
	}
	for i, s := range f.cfg.Net.Sockets(proto) {
		o.f("%4d: %s %s %02X %08X:%08X 00:00000000 00000000 %5d        0 %d 1 0000000000000000",
			i, end(s.Local, s.LocalPort), end(s.Remote, s.RemotePort), s.State, s.TxQueue, s.RxQueue, s.UID, s.Ino)
		if strings.HasPrefix(proto, "tcp") {
			o.f(" 100 0 0 10 0\n")
		} else {
			o.f(" 0\n")
		}
	}
	return o.b
}

// netUnix is /proc/net/unix.
func (f *FS) netUnix() []byte {
	var o text
	o.f("Num       RefCount Protocol Flags    Type St Inode Path\n")
	for _, s := range f.cfg.Net.Sockets("unix") {
		o.f("0000000000000000: %08X 00000000 %08X %04X %02X %5d", s.Refs, s.Flags, s.Type, s.State, s.Ino)
		if s.Path != "" {
			o.f(" %s", s.Path)
		}
		o.f("\n")
	}
	return o.b
}

// netSNMP is /proc/net/snmp.
func (f *FS) netSNMP() []byte {
	var o text
	for _, c := range f.cfg.Net.SNMP() {
		o.f("%s: %s\n%s:", c.Proto, strings.Join(c.Names, " "), c.Proto)
		for _, v := range c.Values {
			o.f(" %d", v)
		}
		o.f("\n")
	}
	return o.b
}

// netSockstat is /proc/net/sockstat.
func (f *FS) netSockstat() []byte {
	n := f.cfg.Net
	tcp, udp := n.InUse("tcp"), n.InUse("udp")
	var o text
	o.f("sockets: used %d\nTCP: inuse %d orphan 0 tw 0 alloc %d mem 0\nUDP: inuse %d mem 0\nUDPLITE: inuse 0\nRAW: inuse %d\nFRAG: inuse 0 memory 0\n",
		tcp+udp+n.InUse("unix")+n.InUse("raw"), tcp, tcp, udp, n.InUse("raw"))
	return o.b
}
