package udp

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"osv/harness/load"
)

// segment is a wire with one host on it: it answers ARP and, by serve, UDP.
type segment struct {
	t        *testing.T
	mac      [6]byte
	ip       [4]byte
	silent   int // ARP requests to ignore
	back     [][]byte
	serve    func(req []byte) []byte
	ports    map[uint16]int
	askedUs  bool
	answered bool
	limit    int // frames taken per Send, 0 = all
}

func (s *segment) Send(frames [][]byte) (int, error) {
	if s.limit > 0 && len(frames) > s.limit {
		frames = frames[:s.limit]
	}
	for _, f := range frames {
		s.input(f)
	}
	return len(frames), nil
}

func (s *segment) input(f []byte) {
	eth := binary.BigEndian.Uint16(f[12:])
	if eth == etherARP {
		a := f[14:]
		if op := binary.BigEndian.Uint16(a[6:]); op == 2 {
			s.answered = [6]byte(f[0:6]) == s.mac && [4]byte(a[14:18]) == [4]byte{10, 0, 0, 1}
			return
		}
		if s.silent--; s.silent >= 0 || [4]byte(a[24:28]) != s.ip {
			return
		}
		r := make([]byte, 42)
		copy(r[0:6], f[6:12])
		copy(r[6:12], s.mac[:])
		copy(r[12:], "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02")
		copy(r[22:], s.mac[:])
		copy(r[28:], s.ip[:])
		copy(r[32:], a[8:18])
		s.back = append(s.back, r)
		return
	}
	ip := f[14:]
	if fold(sum(0, ip[:20])) != 0xffff {
		s.t.Errorf("IP header checksum is wrong: % x", ip[:20])
	}
	pseudo := append(append([]byte{}, ip[12:20]...), 0, protoUDP, ip[24], ip[25])
	if fold(sum(sum(0, pseudo), ip[20:])) != 0xffff {
		s.t.Errorf("UDP checksum is wrong")
	}
	if [6]byte(f[0:6]) != s.mac || [4]byte(ip[16:20]) != s.ip {
		s.t.Errorf("frame to % x %v", f[0:6], ip[16:20])
	}
	s.ports[binary.BigEndian.Uint16(ip[20:])]++
	body := s.serve(ip[28:])
	if body == nil {
		return
	}
	r := make([]byte, 42+len(body), 46+len(body))
	copy(r[0:6], f[6:12])
	copy(r[6:12], s.mac[:])
	r[12], r[14], r[22], r[23] = 8, 0x45, 64, protoUDP
	binary.BigEndian.PutUint16(r[16:], uint16(28+len(body)))
	copy(r[26:30], s.ip[:])
	copy(r[30:34], ip[12:16])
	copy(r[34:], ip[22:24])
	copy(r[36:], ip[20:22])
	binary.BigEndian.PutUint16(r[38:], uint16(8+len(body)))
	copy(r[42:], body)
	s.back = append(s.back, append(r, 0, 0, 0, 0)) // Ethernet padding is not payload
}

func (s *segment) Recv(frames [][]byte) (int, error) {
	n := copy(frames, s.back)
	s.back = s.back[n:]
	return n, nil
}

func (s *segment) Wait(time.Duration) error { return nil }
func (s *segment) Close() error             { return nil }

func segmentConfig(flows int) FrameConfig {
	return FrameConfig{MAC: [6]byte{2, 0, 0, 0, 0, 9}, Local: netip.MustParseAddr("10.0.0.1"),
		Remote: netip.MustParseAddrPort("10.0.0.2:11211"), Flows: flows, Spins: true}
}

// RFC 1071 §3: the bytes 00 01 f2 03 f4 f5 f6 f7 sum to ddf2.
func TestChecksumRFC1071(t *testing.T) {
	if got := fold(sum(0, []byte{0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7})); got != 0xddf2 {
		t.Errorf("%#x", got)
	}
	if got := fold(sum(0, []byte{1, 2, 3})); got != 0x0402 {
		t.Errorf("odd length: %#x", got)
	}
	zero := make([]byte, 28)
	zero[24], zero[25] = 0, 8
	binary.BigEndian.PutUint16(zero[20:], 0xffff-8-8-17)
	if udpSum(zero) != 0xffff {
		t.Error("a zero sum must be sent as all ones, RFC 768")
	}
}

func TestFramesCarryALoad(t *testing.T) {
	it := testItems(t, 100, "32")
	s := &segment{t: t, mac: [6]byte{2, 0, 0, 0, 0, 2}, ip: [4]byte{10, 0, 0, 2}, silent: 1, ports: map[uint16]int{}, limit: 5}
	s.serve = func(req []byte) []byte { return frame(req, 0, 1, answerOf(it, req)) }
	p, err := OpenFrames(s, segmentConfig(3))
	if err != nil {
		t.Fatal(err)
	}
	// The host asks for us: we answer.
	ask := make([]byte, 42)
	copy(ask, "\xff\xff\xff\xff\xff\xff")
	copy(ask[6:], s.mac[:])
	copy(ask[12:], "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01")
	copy(ask[22:], s.mac[:])
	copy(ask[28:], s.ip[:])
	copy(ask[38:], []byte{10, 0, 0, 1})
	s.back = append(s.back, ask)

	sp := spec(load.Closed, 16, 50*time.Millisecond)
	e, err := Run(context.Background(), sp, mix(t, it, 0), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := e.Result()
	if ok, why := r.Clean(); !ok || r.Completed < 50 {
		t.Fatalf("%s; %d completed", why, r.Completed)
	}
	if !s.answered {
		t.Error("an ARP request for us had no answer")
	}
	lo, hi := 1<<30, 0
	for port := range s.ports {
		if port < BasePort || port > BasePort+2 {
			t.Errorf("source port %d", port)
		}
		lo, hi = min(lo, s.ports[port]), max(hi, s.ports[port])
	}
	if len(s.ports) != 3 || lo < hi*9/10 {
		t.Errorf("flows are uneven: %v", s.ports)
	}
	if r.ClientCPU <= 0 || r.ClientCPU > 1.1 {
		t.Errorf("a polling port's client CPU is its busy share, not %v", r.ClientCPU)
	}
}

func TestFramesIgnoreWhatIsNotOurs(t *testing.T) {
	s := &segment{t: t, mac: [6]byte{2, 0, 0, 0, 0, 2}, ip: [4]byte{10, 0, 0, 2}, ports: map[uint16]int{}}
	s.serve = func(req []byte) []byte { return []byte("reply to us") }
	port, err := OpenFrames(s, segmentConfig(1))
	if err != nil {
		t.Fatal(err)
	}
	p := port.(*framePort)
	if n, err := p.Send([][]byte{[]byte("hello")}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	good := s.back[0]
	if d, ok := p.payload(good); !ok || string(d) != "reply to us" {
		t.Fatalf("%q %v", d, ok)
	}
	for name, change := range map[string]func(f []byte) []byte{
		"short":            func(f []byte) []byte { return f[:30] },
		"ethertype":        func(f []byte) []byte { f[12] = 0x86; return f },
		"version":          func(f []byte) []byte { f[14] = 0x65; return f },
		"header length":    func(f []byte) []byte { f[14] = 0x44; return f },
		"header beyond":    func(f []byte) []byte { f[14] = 0x4f; return f },
		"total length":     func(f []byte) []byte { f[16] = 0xff; return f },
		"fragment":         func(f []byte) []byte { f[20] = 0x20; return f },
		"protocol":         func(f []byte) []byte { f[23] = 6; return f },
		"source":           func(f []byte) []byte { f[29] = 99; return f },
		"destination":      func(f []byte) []byte { f[33] = 99; return f },
		"source port":      func(f []byte) []byte { f[35]++; return f },
		"destination port": func(f []byte) []byte { f[37] += 50; return f },
		"UDP length":       func(f []byte) []byte { f[38] = 0xff; return f },
		"UDP length 7":     func(f []byte) []byte { f[38], f[39] = 0, 7; return f },
		"ARP of tokens":    func(f []byte) []byte { f[13] = 6; return f },
	} {
		if d, ok := p.payload(change(bytes.Clone(good))); ok {
			t.Errorf("%s: accepted %q", name, d)
		}
	}
	if _, err := p.Send([][]byte{make([]byte, MaxDatagram+1)}); err == nil {
		t.Error("a datagram larger than a frame is taken")
	}
	if p.Close() != nil {
		t.Error("close")
	}
}

func TestFramesConfigErrors(t *testing.T) {
	s := &segment{t: t, silent: 1 << 30, ports: map[uint16]int{}}
	cfg := segmentConfig(1)
	cfg.Patience = 20 * time.Millisecond
	if _, err := OpenFrames(s, cfg); err == nil || !strings.Contains(err.Error(), "no ARP reply from 10.0.0.2") {
		t.Error(err)
	}
	cfg.Local = netip.MustParseAddr("::1")
	if _, err := OpenFrames(s, cfg); err == nil {
		t.Error("IPv6 accepted")
	}
	if _, err := OpenFrames(s, segmentConfig(0)); err == nil {
		t.Error("no flows accepted")
	}
}

func TestFullPortIsTriedAgain(t *testing.T) {
	it := testItems(t, 100, "32")
	p := &fakePort{delay: 1e5, full: true, serve: func(p *fakePort, req []byte) { p.reply(0, frame(req, 0, 1, answerOf(it, req))) }}
	base, err := load.NewEngine(spec(load.Closed, 8, 100*time.Millisecond), mix(t, it, 0), false)
	if err != nil {
		t.Fatal(err)
	}
	base.Now = func() int64 {
		p.now += 200
		p.full = p.now < 60e6
		return p.now
	}
	if err := runOn(context.Background(), base, p); err != nil {
		t.Fatal(err)
	}
	if r := base.Result(); r.Completed == 0 || r.Lost != 0 {
		t.Errorf("%+v", r)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(make([]byte, 60))
	f.Add([]byte("\x02\x00\x00\x00\x00\x09\x02\x00\x00\x00\x00\x02\x08\x00\x45\x00\x00\x1d\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x02\x0a\x00\x00\x01\x2b\xcb\x4e\x20\x00\x09\x00\x00x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &framePort{fr: &segment{ports: map[uint16]int{}}, cfg: segmentConfig(4), local4: [4]byte{10, 0, 0, 1}, remote4: [4]byte{10, 0, 0, 2}}
		if d, ok := p.payload(b[:len(b):len(b)]); ok && len(d) > len(b)-hdrBytes {
			t.Fatalf("payload of %d bytes from a frame of %d", len(d), len(b))
		}
	})
}
