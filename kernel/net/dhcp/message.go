package dhcp

import (
	"encoding/binary"
	"net/netip"
	"time"

	"osv/kernel/net/wire"
)

// Message types (RFC 2132 §9.6).
const (
	msgDiscover = 1
	msgOffer    = 2
	msgRequest  = 3
	msgDecline  = 4
	msgACK      = 5
	msgNAK      = 6
	msgRelease  = 7
)

// Options (RFC 2132 unless said otherwise).
const (
	optPad         = 0
	optMask        = 1
	optRouter      = 3
	optDNS         = 6
	optHostname    = 12
	optDomain      = 15
	optMTU         = 26
	optRequestedIP = 50
	optLeaseTime   = 51
	optOverload    = 52
	optMessageType = 53
	optServerID    = 54
	optParams      = 55
	optMaxSize     = 57
	optT1          = 58
	optT2          = 59
	optClientID    = 61
	optRoutes      = 121 // RFC 3442
	optEnd         = 255
)

// Layout of a message (RFC 2131 §2).
const (
	offXID    = 4
	offSecs   = 8
	offFlags  = 10
	offCIAddr = 12
	offYIAddr = 16
	offChaddr = 28
	offSname  = 44
	offFile   = 108
	offMagic  = 236
	offOpts   = 240
	minLen    = 300 // BOOTP's: some relays drop shorter ones (RFC 951 §3)

	opRequest     = 1
	opReply       = 2
	magic         = 0x63825363
	flagBroadcast = 0x8000
)

var be = binary.BigEndian

// Route is one classless static route (RFC 3442). The zero Router means that
// the prefix is on the link.
type Route struct {
	Prefix netip.Prefix
	Router netip.Addr
}

// Lease is what a server granted.
type Lease struct {
	Addr     netip.Prefix // address and mask
	Server   netip.Addr
	Routers  []netip.Addr
	Routes   []Route // if any, Routers is to be ignored (RFC 3442)
	DNS      []netip.Addr
	Domain   string
	Hostname string
	MTU      int           // 0: not said
	Time     time.Duration // of the lease; wire.Forever for one without end
	Renew    time.Duration // T1
	Rebind   time.Duration // T2
	obtained int64         // ns
}

// message is what parse finds in a packet.
type message struct {
	kind   byte
	xid    uint32
	chaddr wire.MAC
	lease  Lease
	text   string
}

// parse reads a server's message. It reports false for what is not one.
func parse(b []byte) (m message, ok bool) {
	if len(b) < offOpts || b[0] != opReply || b[1] != 1 || b[2] != 6 || be.Uint32(b[offMagic:]) != magic {
		return m, false
	}
	m.xid = be.Uint32(b[offXID:])
	m.chaddr = wire.MAC(b[offChaddr : offChaddr+6])
	l := &m.lease
	addr := netip.AddrFrom4([4]byte(b[offYIAddr : offYIAddr+4]))
	bits := -1
	overload := byte(0)
	// Options that come in several parts are joined (RFC 3396 §7).
	var joined [256][]byte
	collect := func(o []byte) bool {
		for len(o) > 0 {
			switch o[0] {
			case optPad:
				o = o[1:]
				continue
			case optEnd:
				return true
			}
			if len(o) < 2 {
				return false
			}
			n := 2 + int(o[1])
			if len(o) < n {
				return false
			}
			joined[o[0]] = append(joined[o[0]], o[2:n]...)
			o = o[n:]
		}
		return true
	}
	if !collect(b[offOpts:]) {
		return m, false
	}
	if v := joined[optOverload]; len(v) == 1 {
		overload = v[0]
	}
	if overload&1 != 0 && !collect(b[offFile:offMagic]) || overload&2 != 0 && !collect(b[offSname:offFile]) {
		return m, false
	}
	for code, v := range joined {
		if v == nil {
			continue
		}
		switch code {
		case optMessageType:
			if len(v) != 1 {
				return m, false
			}
			m.kind = v[0]
		case optMask:
			if bits = maskBits(v); bits < 0 {
				return m, false
			}
		case optRouter:
			l.Routers = addrs(v)
		case optDNS:
			l.DNS = addrs(v)
		case optHostname:
			l.Hostname = text(v)
		case optDomain:
			l.Domain = text(v)
		case 56: // message
			m.text = text(v)
		case optMTU:
			if len(v) == 2 && be.Uint16(v) >= 68 {
				l.MTU = int(be.Uint16(v))
			}
		case optServerID:
			if len(v) == 4 {
				l.Server = netip.AddrFrom4([4]byte(v))
			}
		case optLeaseTime:
			l.Time = seconds(v)
		case optT1:
			l.Renew = seconds(v)
		case optT2:
			l.Rebind = seconds(v)
		case optRoutes:
			if l.Routes, ok = routes(v); !ok {
				return m, false
			}
		}
	}
	if bits < 0 {
		bits = classBits(addr)
	}
	l.Addr = netip.PrefixFrom(addr, bits)
	l.timers()
	return m, m.kind != 0
}

// timers fills in T1 and T2 where the server left them out or they make no
// sense (RFC 2131 §4.4.5).
func (l *Lease) timers() {
	if l.Time == wire.Forever {
		l.Renew, l.Rebind = wire.Forever, wire.Forever
		return
	}
	if l.Rebind <= 0 || l.Rebind >= l.Time {
		l.Rebind = l.Time / 8 * 7
	}
	if l.Renew <= 0 {
		l.Renew = l.Time / 2
	}
	if l.Renew >= l.Rebind {
		l.Renew = l.Rebind / 2
	}
}

// maskBits is the length of a subnet mask, -1 for one with holes.
func maskBits(v []byte) int {
	if len(v) != 4 {
		return -1
	}
	m := ^be.Uint32(v)
	if m&(m+1) != 0 {
		return -1
	}
	n := 32
	for ; m != 0; m >>= 1 {
		n--
	}
	return n
}

// classBits is the mask of an address's old class, for servers that give none.
func classBits(a netip.Addr) int {
	switch b := a.As4()[0]; {
	case b < 128:
		return 8
	case b < 192:
		return 16
	}
	return 24
}

func addrs(v []byte) []netip.Addr {
	var as []netip.Addr
	for ; len(v) >= 4; v = v[4:] {
		if a := netip.AddrFrom4([4]byte(v[:4])); !a.IsUnspecified() && !a.IsMulticast() {
			as = append(as, a)
		}
	}
	return as
}

// text is a string option without what some servers pad it with.
func text(v []byte) string {
	for len(v) > 0 && v[len(v)-1] == 0 {
		v = v[:len(v)-1]
	}
	return string(v)
}

func seconds(v []byte) time.Duration {
	if len(v) != 4 {
		return 0
	}
	if s := be.Uint32(v); s != 0xffffffff {
		return time.Duration(s) * time.Second
	}
	return wire.Forever
}

// routes reads classless static routes (RFC 3442): length of prefix, its
// significant bytes, router.
func routes(v []byte) (rs []Route, ok bool) {
	for len(v) > 0 {
		bits := int(v[0])
		n := (bits + 7) / 8
		if bits > 32 || len(v) < 1+n+4 {
			return nil, false
		}
		var p [4]byte
		copy(p[:], v[1:1+n])
		r := Route{Prefix: netip.PrefixFrom(netip.AddrFrom4(p), bits).Masked()}
		if gw := netip.AddrFrom4([4]byte(v[1+n : 5+n])); !gw.IsUnspecified() {
			r.Router = gw
		}
		rs = append(rs, r)
		v = v[5+n:]
	}
	return rs, true
}

// builder writes a client's message.
type builder struct{ b []byte }

func newMessage(kind byte, xid uint32, secs uint16, mac wire.MAC, ciaddr netip.Addr) *builder {
	b := make([]byte, offOpts, minLen)
	b[0], b[1], b[2] = opRequest, 1, 6
	be.PutUint32(b[offXID:], xid)
	be.PutUint16(b[offSecs:], secs)
	if ciaddr.IsValid() {
		a := ciaddr.As4()
		copy(b[offCIAddr:], a[:])
	} else {
		// Without an address we could not take a unicast reply (RFC 2131 §4.1).
		be.PutUint16(b[offFlags:], flagBroadcast)
	}
	copy(b[offChaddr:], mac[:])
	be.PutUint32(b[offMagic:], magic)
	m := &builder{b}
	m.option(optMessageType, kind)
	m.option(optClientID, append([]byte{1}, mac[:]...)...)
	return m
}

func (m *builder) option(code byte, v ...byte) {
	m.b = append(append(m.b, code, byte(len(v))), v...)
}

func (m *builder) addr(code byte, a netip.Addr) {
	v := a.As4()
	m.option(code, v[:]...)
}

func (m *builder) done() []byte {
	m.b = append(m.b, optEnd)
	for len(m.b) < minLen {
		m.b = append(m.b, optPad)
	}
	return m.b
}
