package sock

import (
	"net/netip"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
)

// ControlSet says which fields of a Control mean something.
type ControlSet uint16

// The control messages that there are, by direction.
const (
	HasRights   ControlSet = 1 << iota // SCM_RIGHTS
	HasCred                            // SCM_CREDENTIALS
	HasPktInfo                         // IP_PKTINFO
	HasPktInfo6                        // IPV6_PKTINFO
	HasTTL                             // IP_TTL
	HasTOS                             // IP_TOS
	HasHops                            // IPV6_HOPLIMIT
	HasTClass                          // IPV6_TCLASS
	HasTime                            // SO_TIMESTAMP; Recv only
	HasTimeNS                          // SO_TIMESTAMPNS; Recv only
	HasSegment                         // UDP_SEGMENT; Send only
	HasInq                             // TCP_INQ; Recv only
)

// Control is the control messages of one send or receive.
type Control struct {
	Have   ControlSet
	FDs    []int32 // Send: of SCM_RIGHTS as the program gave them; whoever decodes fills Rights
	Rights []Right
	Cred   Cred

	If    int        // interface of HasPktInfo, HasPktInfo6; 0 for none
	Local netip.Addr // Send: address to send from; Recv: ipi_spec_dst
	Dst   netip.Addr // Recv: destination of the datagram

	TTL, TOS int // also of the IPv6 ones
	Segment  int // bytes
	Inq      int // bytes
	Time     time.Time
}

func align8(n int) int { return (n + 7) &^ 7 }

// ParseControl reads the control messages b of a send on a socket of the domain and
// type. Those that mean nothing there are left out, as Linux does, or EINVAL, as Linux
// does. It appends to the FDs that c has, and changes nothing else but what it finds.
func ParseControl(domain, typ int, b []byte, c *Control) error {
	for len(b) >= abi.SizeofCmsghdr {
		n := ne.Uint64(b)
		if n < abi.SizeofCmsghdr || n > uint64(len(b)) {
			return syscall.EINVAL
		}
		level, kind := int(int32(ne.Uint32(b[8:]))), int(int32(ne.Uint32(b[12:])))
		if err := c.parse(domain, typ, level, kind, b[abi.SizeofCmsghdr:n]); err != nil {
			return err
		}
		b = b[min(align8(int(n)), len(b)):]
	}
	return nil
}

func (c *Control) parse(domain, typ, level, kind int, v []byte) error {
	inet := domain == syscall.AF_INET || domain == syscall.AF_INET6
	switch {
	case level == syscall.SOL_SOCKET && domain == syscall.AF_UNIX:
		return c.parseUnix(kind, v)
	case level == syscall.SOL_SOCKET && inet:
		switch kind {
		case abi.SCM_RIGHTS, abi.SCM_CREDENTIALS:
			return nil
		case abi.SO_MARK, abi.SO_TIMESTAMPING:
			if len(v) != 4 {
				return syscall.EINVAL
			}
			return nil
		}
		return syscall.EINVAL
	case typ != syscall.SOCK_DGRAM:
		return nil
	case level == syscall.IPPROTO_IP && domain == syscall.AF_INET:
		return c.parseIP(kind, v)
	case level == syscall.IPPROTO_IPV6 && domain == syscall.AF_INET6:
		return c.parseIPv6(kind, v)
	case level == abi.SOL_UDP && inet:
		if kind != abi.UDP_SEGMENT || len(v) != 2 {
			return syscall.EINVAL
		}
		c.Segment = int(ne.Uint16(v))
		c.Have |= HasSegment
	}
	return nil
}

func (c *Control) parseUnix(kind int, v []byte) error {
	switch kind {
	case abi.SCM_RIGHTS:
		n := len(v) / 4
		if n > abi.SCM_MAX_FD || len(c.FDs)+n > abi.SCM_MAX_FD {
			return syscall.EINVAL
		}
		for i := range n {
			c.FDs = append(c.FDs, int32(ne.Uint32(v[4*i:])))
		}
		c.Have |= HasRights
		return nil
	case abi.SCM_CREDENTIALS:
		if len(v) != abi.SizeofUcred {
			return syscall.EINVAL
		}
		c.Cred = Cred{ne.Uint32(v), ne.Uint32(v[4:]), ne.Uint32(v[8:])}
		c.Have |= HasCred
		return nil
	}
	return syscall.EINVAL
}

func (c *Control) parseIP(kind int, v []byte) error {
	switch kind {
	case syscall.IP_PKTINFO:
		if len(v) != abi.SizeofInPktinfo {
			return syscall.EINVAL
		}
		c.If = int(int32(ne.Uint32(v)))
		c.Local = netip.AddrFrom4([4]byte(v[4:8]))
		c.Have |= HasPktInfo
	case syscall.IP_TTL:
		if len(v) != 4 {
			return syscall.EINVAL
		}
		if c.TTL = int(int32(ne.Uint32(v))); c.TTL < 1 || c.TTL > 255 {
			return syscall.EINVAL
		}
		c.Have |= HasTTL
	case syscall.IP_TOS:
		switch len(v) {
		case 4:
			c.TOS = int(int32(ne.Uint32(v)))
		case 1:
			c.TOS = int(v[0])
		default:
			return syscall.EINVAL
		}
		if c.TOS < 0 || c.TOS > 255 {
			return syscall.EINVAL
		}
		c.Have |= HasTOS
	default:
		return syscall.EINVAL
	}
	return nil
}

func (c *Control) parseIPv6(kind int, v []byte) error {
	switch kind {
	case abi.IPV6_PKTINFO:
		if len(v) < abi.SizeofIn6Pktinfo {
			return syscall.EINVAL
		}
		c.Local = netip.AddrFrom16([16]byte(v[:16])).Unmap()
		c.If = int(int32(ne.Uint32(v[16:])))
		c.Have |= HasPktInfo6
	case abi.IPV6_HOPLIMIT, abi.IPV6_TCLASS:
		if len(v) != 4 {
			return syscall.EINVAL
		}
		n := int(int32(ne.Uint32(v)))
		if n < -1 || n > 255 {
			return syscall.EINVAL
		}
		if kind == abi.IPV6_HOPLIMIT {
			c.TTL = n
			c.Have |= HasHops
		} else {
			c.TOS = n
			c.Have |= HasTClass
		}
	case abi.IPV6_DONTFRAG:
		if len(v) != 4 {
			return syscall.EINVAL
		}
	default:
		return syscall.EINVAL
	}
	return nil
}

// Encoder writes control messages of a receive into B, as far as they fit.
type Encoder struct {
	B     []byte // msg_control
	N     int    // bytes written: msg_controllen
	Trunc bool   // something did not fit: MSG_CTRUNC
}

// head begins a message of n bytes and returns where its data goes: less than n bytes
// where that is all that fits, nil where nothing does.
func (e *Encoder) head(level, kind, n int) []byte {
	room := len(e.B) - e.N
	if room < abi.SizeofCmsghdr {
		e.Trunc = true
		return nil
	}
	total := abi.SizeofCmsghdr + n
	if total > room {
		e.Trunc = true
		total = room
	}
	b := e.B[e.N : e.N+total]
	ne.PutUint64(b, uint64(total))
	ne.PutUint32(b[8:], uint32(level))
	ne.PutUint32(b[12:], uint32(kind))
	pad := min(align8(total), room)
	clear(e.B[e.N+total : e.N+pad])
	e.N += pad
	return b[abi.SizeofCmsghdr:]
}

func (e *Encoder) put(level, kind int, v []byte) { copy(e.head(level, kind, len(v)), v) }

func (e *Encoder) putInt(level, kind, v int) {
	var b [4]byte
	ne.PutUint32(b[:], uint32(int32(v)))
	e.put(level, kind, b[:])
}

// RightsRoom is how many descriptors still fit into an SCM_RIGHTS message.
func (e *Encoder) RightsRoom() int {
	return max(0, (len(e.B)-e.N-abi.SizeofCmsghdr)/4)
}

// PutRights writes an SCM_RIGHTS message.
func (e *Encoder) PutRights(fds []int32) {
	b := e.head(syscall.SOL_SOCKET, abi.SCM_RIGHTS, 4*len(fds))
	for i, fd := range fds {
		if 4*i+4 > len(b) {
			return
		}
		ne.PutUint32(b[4*i:], uint32(fd))
	}
}

// Put writes all of c but the rights, whose descriptors only the caller knows.
func (e *Encoder) Put(c *Control) {
	if c.Have&HasTime != 0 {
		var b [16]byte
		ne.PutUint64(b[:], uint64(c.Time.Unix()))
		ne.PutUint64(b[8:], uint64(c.Time.Nanosecond()/1000))
		e.put(syscall.SOL_SOCKET, syscall.SO_TIMESTAMP, b[:])
	}
	if c.Have&HasTimeNS != 0 {
		var b [16]byte
		ne.PutUint64(b[:], uint64(c.Time.Unix()))
		ne.PutUint64(b[8:], uint64(c.Time.Nanosecond()))
		e.put(syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, b[:])
	}
	if c.Have&HasCred != 0 {
		var b [abi.SizeofUcred]byte
		ne.PutUint32(b[:], c.Cred.PID)
		ne.PutUint32(b[4:], c.Cred.UID)
		ne.PutUint32(b[8:], c.Cred.GID)
		e.put(syscall.SOL_SOCKET, abi.SCM_CREDENTIALS, b[:])
	}
	if c.Have&HasPktInfo != 0 {
		var b [abi.SizeofInPktinfo]byte
		ne.PutUint32(b[:], uint32(c.If))
		if a := c.Local.Unmap(); a.Is4() {
			*(*[4]byte)(b[4:]) = a.As4()
		}
		if a := c.Dst.Unmap(); a.Is4() {
			*(*[4]byte)(b[8:]) = a.As4()
		}
		e.put(syscall.IPPROTO_IP, syscall.IP_PKTINFO, b[:])
	}
	if c.Have&HasPktInfo6 != 0 {
		var b [abi.SizeofIn6Pktinfo]byte
		*(*[16]byte)(b[:]) = c.Dst.As16()
		ne.PutUint32(b[16:], uint32(c.If))
		e.put(syscall.IPPROTO_IPV6, abi.IPV6_PKTINFO, b[:])
	}
	if c.Have&HasTTL != 0 {
		e.putInt(syscall.IPPROTO_IP, syscall.IP_TTL, c.TTL)
	}
	if c.Have&HasTOS != 0 {
		b := [1]byte{byte(c.TOS)}
		e.put(syscall.IPPROTO_IP, syscall.IP_TOS, b[:])
	}
	if c.Have&HasHops != 0 {
		e.putInt(syscall.IPPROTO_IPV6, abi.IPV6_HOPLIMIT, c.TTL)
	}
	if c.Have&HasTClass != 0 {
		e.putInt(syscall.IPPROTO_IPV6, abi.IPV6_TCLASS, c.TOS)
	}
	if c.Have&HasInq != 0 {
		e.putInt(syscall.IPPROTO_TCP, abi.TCP_INQ, c.Inq)
	}
}
