package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Frames moves raw Ethernet frames in batches, as Port moves datagrams; a
// vhost-user backend is one.
type Frames interface {
	Send(frames [][]byte) (int, error)
	Recv(frames [][]byte) (int, error)
	Wait(d time.Duration) error
	Close() error
}

// FrameConfig places the generator on the guest's network segment.
type FrameConfig struct {
	MAC    [6]byte
	Local  netip.Addr     // our IPv4 address
	Remote netip.AddrPort // the guest's
	Flows  int            // source ports, from BasePort on
	// Spins says that Frames.Wait polls.
	Spins bool
	// Patience bounds the search for the guest's MAC address; 0 = 10 s.
	Patience time.Duration
}

// BasePort is the first source port of a frame port.
const BasePort = 20000

const (
	ethBytes = 14
	ipBytes  = 20
	udpBytes = 8
	hdrBytes = ethBytes + ipBytes + udpBytes

	etherIPv4 = 0x0800
	etherARP  = 0x0806
	protoUDP  = 17
)

// framePort is a Port over raw frames: Ethernet II, IPv4 without options (RFC
// 791), UDP with checksum (RFC 768), and as much ARP (RFC 826) as it takes to be
// found and to find the guest. Fragments are not reassembled.
type framePort struct {
	fr      Frames
	cfg     FrameConfig
	peer    [6]byte
	local4  [4]byte
	remote4 [4]byte
	next    uint16 // flow of the next datagram
	id      uint16
	tx      [][]byte
	txBuf   [][]byte
	rx      [][]byte
	one     [1][]byte
	arp     [60]byte
}

// OpenFrames makes a port and resolves the guest's MAC address.
func OpenFrames(fr Frames, cfg FrameConfig) (Port, error) {
	if !cfg.Local.Is4() || !cfg.Remote.Addr().Is4() {
		return nil, fmt.Errorf("udp: frames need IPv4 addresses, not %v and %v", cfg.Local, cfg.Remote)
	}
	if cfg.Flows < 1 || cfg.Flows > 1<<15 {
		return nil, fmt.Errorf("udp: %d flows", cfg.Flows)
	}
	p := &framePort{fr: fr, cfg: cfg, local4: cfg.Local.As4(), remote4: cfg.Remote.Addr().As4(),
		tx: make([][]byte, batch), rx: make([][]byte, batch)}
	for range batch {
		p.txBuf = append(p.txBuf, make([]byte, hdrBytes+MaxDatagram))
	}
	patience := cfg.Patience
	if patience == 0 {
		patience = 10 * time.Second
	}
	drop := make([][]byte, batch)
	for end := time.Now().Add(patience); p.peer == [6]byte{}; {
		if time.Now().After(end) {
			return nil, fmt.Errorf("udp: no ARP reply from %v within %v", cfg.Remote.Addr(), patience)
		}
		p.sendARP(1, [6]byte{}, p.remote4)
		for again := time.Now().Add(200 * time.Millisecond); p.peer == [6]byte{} && time.Now().Before(again); {
			if err := fr.Wait(5 * time.Millisecond); err != nil {
				return nil, err
			}
			if _, err := p.Recv(drop); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// Send frames the datagrams, one flow after the other.
func (p *framePort) Send(dgrams [][]byte) (int, error) {
	n := min(len(dgrams), batch)
	for i, d := range dgrams[:n] {
		if len(d) > MaxDatagram {
			return 0, errors.New("udp: datagram larger than a frame")
		}
		b := p.txBuf[i][:hdrBytes+len(d)]
		p.header(b, BasePort+p.next, len(d))
		copy(b[hdrBytes:], d)
		binary.BigEndian.PutUint16(b[40:], udpSum(b[ethBytes:]))
		p.tx[i] = b
		if p.next++; int(p.next) == p.cfg.Flows {
			p.next = 0
		}
	}
	took, err := p.fr.Send(p.tx[:n])
	if back := n - took; back > 0 { // the flow order goes on with the first one not taken
		p.next = uint16((int(p.next) + p.cfg.Flows - back%p.cfg.Flows) % p.cfg.Flows)
	}
	return took, err
}

func (p *framePort) header(b []byte, sport uint16, payload int) {
	copy(b[0:6], p.peer[:])
	copy(b[6:12], p.cfg.MAC[:])
	binary.BigEndian.PutUint16(b[12:], etherIPv4)
	ip := b[ethBytes:]
	p.id++
	ip[0], ip[1] = 0x45, 0
	binary.BigEndian.PutUint16(ip[2:], uint16(ipBytes+udpBytes+payload))
	binary.BigEndian.PutUint16(ip[4:], p.id)
	binary.BigEndian.PutUint16(ip[6:], 0x4000) // don't fragment
	ip[8], ip[9] = 64, protoUDP
	ip[10], ip[11] = 0, 0
	copy(ip[12:16], p.local4[:])
	copy(ip[16:20], p.remote4[:])
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip[:ipBytes])))
	u := ip[ipBytes:]
	binary.BigEndian.PutUint16(u[0:], sport)
	binary.BigEndian.PutUint16(u[2:], p.cfg.Remote.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(udpBytes+payload))
	u[6], u[7] = 0, 0
}

// sum adds big-endian 16-bit words, RFC 1071; an odd last byte is padded.
func sum(acc uint32, b []byte) uint32 {
	for len(b) >= 2 {
		acc += uint32(b[0])<<8 | uint32(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return acc
}

func fold(acc uint32) uint16 {
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc)
}

// udpSum is the UDP checksum of an IPv4 packet whose checksum field is 0; a sum
// of 0 is sent as all ones.
func udpSum(ip []byte) uint16 {
	acc := sum(protoUDP, ip[12:20]) // pseudo-header: addresses, protocol, length
	acc += uint32(len(ip) - ipBytes)
	if c := ^fold(sum(acc, ip[ipBytes:])); c != 0 {
		return c
	}
	return 0xffff
}

// Recv takes frames, answers ARP, and returns the payloads that are the
// server's.
func (p *framePort) Recv(dgrams [][]byte) (int, error) {
	n, err := p.fr.Recv(p.rx[:min(len(dgrams), batch)])
	out := 0
	for _, f := range p.rx[:n] {
		if d, ok := p.payload(f); ok {
			dgrams[out] = d
			out++
		}
	}
	return out, err
}

// payload gives the UDP payload of a frame from the server, and handles ARP.
// Every length comes from the guest and is checked.
func (p *framePort) payload(f []byte) ([]byte, bool) {
	if len(f) < ethBytes+28 {
		return nil, false
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case etherARP:
		p.handleARP(f[ethBytes:])
		return nil, false
	case etherIPv4:
	default:
		return nil, false
	}
	ip := f[ethBytes:]
	ihl := int(ip[0]&15) * 4
	total := int(binary.BigEndian.Uint16(ip[2:]))
	fragment := binary.BigEndian.Uint16(ip[6:])&0x3fff != 0
	if ip[0]>>4 != 4 || ihl < ipBytes || total > len(ip) || total < ihl+udpBytes || ip[9] != protoUDP || fragment ||
		[4]byte(ip[12:16]) != p.remote4 || [4]byte(ip[16:20]) != p.local4 {
		return nil, false
	}
	u := ip[ihl:total]
	size := int(binary.BigEndian.Uint16(u[4:]))
	dport := int(binary.BigEndian.Uint16(u[2:]))
	if size < udpBytes || size > len(u) || binary.BigEndian.Uint16(u) != p.cfg.Remote.Port() ||
		dport < BasePort || dport >= BasePort+p.cfg.Flows {
		return nil, false
	}
	return u[udpBytes:size], true
}

// handleARP answers requests for us and learns the server's address.
func (p *framePort) handleARP(a []byte) {
	if binary.BigEndian.Uint32(a) != 0x00010800 || a[4] != 6 || a[5] != 4 {
		return
	}
	op := binary.BigEndian.Uint16(a[6:])
	mac, from, to := [6]byte(a[8:14]), [4]byte(a[14:18]), [4]byte(a[24:28])
	if from == p.remote4 {
		p.peer = mac
	}
	if op == 1 && to == p.local4 {
		p.sendARP(2, mac, from)
	}
}

func (p *framePort) sendARP(op uint16, mac [6]byte, to [4]byte) {
	f := p.arp[:]
	clear(f)
	if op == 1 {
		copy(f[0:6], "\xff\xff\xff\xff\xff\xff")
	} else {
		copy(f[0:6], mac[:])
	}
	copy(f[6:12], p.cfg.MAC[:])
	binary.BigEndian.PutUint16(f[12:], etherARP)
	a := f[ethBytes:]
	binary.BigEndian.PutUint32(a, 0x00010800) // Ethernet, IPv4
	a[4], a[5] = 6, 4
	binary.BigEndian.PutUint16(a[6:], op)
	copy(a[8:14], p.cfg.MAC[:])
	copy(a[14:18], p.local4[:])
	copy(a[18:24], mac[:])
	copy(a[24:28], to[:])
	p.one[0] = f
	_, _ = p.fr.Send(p.one[:]) // a lost ARP message is asked for again
}

func (p *framePort) Wait(d time.Duration) error { return p.fr.Wait(d) }

func (p *framePort) Polls() bool { return p.cfg.Spins }

func (p *framePort) Close() error { return p.fr.Close() }
