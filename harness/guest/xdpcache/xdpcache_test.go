package xdpcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

var server = netip.MustParseAddr("10.0.0.2")

// loaded are the programs of this test binary by Config.Settle.
var loaded = map[time.Duration]*Cache{}

// reset empties all maps.
func (c *Cache) reset() error {
	for _, name := range []string{mapCache, mapOdd} {
		m := c.coll.Maps[name]
		for {
			k, err := m.NextKeyBytes(nil)
			if err != nil {
				return err
			}
			if k == nil {
				break
			}
			if err := m.Delete(k); err != nil {
				return err
			}
		}
	}
	return c.coll.Maps[mapWork].Put(uint32(0), make([]byte, workSize))
}

// rig is the two programs in this machine's kernel, with no interface: frames are
// given to them by BPF_PROG_TEST_RUN.
type rig struct {
	t *testing.T
	*Cache
	id uint16
}

func newRig(t *testing.T, settle time.Duration) *rig {
	t.Helper()
	if c := loaded[settle]; c != nil { // the verifier takes a second
		if err := c.reset(); err != nil {
			t.Fatal(err)
		}
		return &rig{t: t, Cache: c, id: 7}
	}
	c, err := Load(Config{IP: server, Port: 11211, Settle: settle})
	if errors.Is(err, unix.EPERM) || errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(Explain(err))
	}
	loaded[settle] = c
	return &rig{t: t, Cache: c, id: 7}
}

// packet is a frame from the client to the server, or back.
type packet struct {
	proto   byte
	port    uint16 // the client's
	payload string
	back    bool
	flags   byte // TCP
	edit    func(frame []byte)
}

const clientPort = 40000

func (p packet) frame() []byte {
	if p.port == 0 {
		p.port = clientPort
	}
	head := 8
	if p.proto == protoTCP {
		head = 20
	}
	f := make([]byte, l4+head, l4+head+len(p.payload))
	f = append(f, p.payload...)
	copy(f, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00\x45")
	be := binary.BigEndian
	be.PutUint16(f[ipTotal:], uint16(len(f)-ipStart))
	f[ipStart+8], f[ipProto] = 64, p.proto
	client, port := netip.MustParseAddr("10.0.0.1").As4(), server.As4()
	copy(f[ipSrc:], client[:])
	copy(f[ipDst:], port[:])
	be.PutUint16(f[l4Src:], p.port)
	be.PutUint16(f[l4Dst:], 11211)
	if p.back {
		copy(f[ipSrc:], port[:])
		copy(f[ipDst:], client[:])
		be.PutUint16(f[l4Src:], 11211)
		be.PutUint16(f[l4Dst:], p.port)
	}
	if p.proto == protoTCP {
		f[tcpOff], f[tcpFlags] = 5<<4, 0x18|p.flags
	} else {
		be.PutUint16(f[udpLen:], uint16(len(f)-l4))
	}
	be.PutUint16(f[ipSum:], ^onesSum(f[ipStart:l4]))
	if p.edit != nil {
		p.edit(f)
	}
	return f
}

func onesSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// in gives a frame to the XDP program; out is the frame after it.
func (r *rig) in(frame []byte) (verdict uint32, out []byte) {
	r.t.Helper()
	opt := ebpf.RunOptions{Data: frame, DataOut: make([]byte, 4096)}
	verdict, err := r.coll.Programs[progXDP].Run(&opt)
	if err != nil {
		r.t.Fatal(err)
	}
	return verdict, opt.DataOut
}

func (r *rig) header() string {
	r.id++
	return string(binary.BigEndian.AppendUint16(nil, r.id)) + "\x00\x00\x00\x01\x00\x00"
}

// pass sends commands that must go on to memcached.
func (r *rig) pass(p packet) {
	r.t.Helper()
	f := p.frame()
	if v, out := r.in(f); v != xdpPass || string(out) != string(f) {
		r.t.Fatalf("%q: verdict %d, %d bytes of %d", p.payload, v, len(out), len(f))
	}
}

func (r *rig) udp(text string) {
	r.t.Helper()
	r.pass(packet{proto: protoUDP, payload: r.header() + text})
}

func (r *rig) tcp(text string) { r.t.Helper(); r.pass(packet{proto: protoTCP, payload: text}) }

func reply(key, value string) string {
	return fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", key, len(value), value)
}

// out lets memcached's datagram leave.
func (r *rig) out(p packet) {
	r.t.Helper()
	p.back = true
	if p.proto == 0 {
		p.proto = protoUDP
	}
	f := p.frame()
	if v, err := r.coll.Programs[progEgress].Run(&ebpf.RunOptions{Data: f}); err != nil || v != 0 {
		r.t.Fatalf("egress: %d %v", v, err)
	}
}

// get asks for a key: the cache's answer, "" where it goes to memcached.
func (r *rig) get(key string) string {
	r.t.Helper()
	f := packet{proto: protoUDP, payload: r.header() + "get " + key + "\r\n"}.frame()
	v, out := r.in(f)
	if v == xdpPass {
		return ""
	}
	if v != xdpTx || len(out) < mcText {
		r.t.Fatalf("get %s: verdict %d, %d bytes", key, v, len(out))
	}
	be := binary.BigEndian
	if s := onesSum(out[ipStart:l4]); s != 0xffff {
		r.t.Errorf("get %s: the IP header sums to %#x", key, s)
	}
	if int(be.Uint16(out[ipTotal:])) != len(out)-ipStart || int(be.Uint16(out[udpLen:])) != len(out)-l4 || be.Uint16(out[udpSum:]) != 0 {
		r.t.Errorf("get %s: lengths in % x", key, out[:mcText])
	}
	want := packet{proto: protoUDP, back: true, payload: string(f[mcFrame:mcText])}.frame()
	for _, span := range [][2]int{{ipSrc, l4}, {l4, udpLen}, {mcFrame, mcText}} {
		if got := out[span[0]:span[1]]; string(got) != string(want[span[0]:span[1]]) {
			r.t.Errorf("get %s: bytes %d on are % x, want % x", key, span[0], got, want[span[0]:span[1]])
		}
	}
	if string(out[:6]) != string(f[6:12]) || string(out[6:12]) != string(f[:6]) {
		r.t.Errorf("get %s: addresses % x", key, out[:12])
	}
	return string(out[mcText:])
}

// fill makes the cache hold a key.
func (r *rig) fill(key, value string) {
	r.t.Helper()
	r.udp(fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", key, len(value), value))
	r.reply(key, value)
	if got := r.get(key); got != reply(key, value) {
		r.t.Fatalf("get %s after its fill: %.80q", key, got)
	}
}

func (r *rig) reply(key, value string) {
	r.t.Helper()
	r.out(packet{payload: "\x00\x01\x00\x00\x00\x01\x00\x00" + reply(key, value)})
}

func (r *rig) stats() Stats {
	r.t.Helper()
	s, err := r.Stats()
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// A key is answered once it was set and memcached's reply has left, with values
// from none to the largest, and not before.
func TestAnswers(t *testing.T) {
	r := newRig(t, 0)
	r.reply("alone", "never set")
	if got := r.get("alone"); got != "" {
		t.Errorf("a key that nobody set is answered: %q", got)
	}
	for _, n := range []int{0, 1, 5, 32, 500, 1000} {
		for _, k := range []string{"k", "a-key-of-32-bytes-0123456789abcd", strings.Repeat("K", MaxKey)} {
			r.fill(k, strings.Repeat("v", n))
		}
	}
	r.udp("set big 0 0 1100\r\n" + strings.Repeat("v", 1100) + "\r\n")
	r.reply("big", strings.Repeat("v", 1100))
	if r.get("big") != "" {
		t.Error("a reply over MaxReply is answered")
	}
	long := strings.Repeat("L", MaxKey+1)
	r.udp("set " + long + " 0 0 1\r\nx\r\n")
	r.reply(long, "x")
	if r.get(long) != "" {
		t.Error("a key over MaxKey is answered")
	}
	if s := r.stats(); s.Hits != 18 || s.Fills != 18 || s.Flushes != 0 || s.Writes != 19 {
		t.Errorf("%+v", s)
	}
	// A padded frame: the UDP length counts.
	f := packet{proto: protoUDP, payload: "\x00\x09\x00\x00\x00\x01\x00\x00get k\r\n"}.frame()
	if v, out := r.in(append(f, make([]byte, 9)...)); v != xdpTx || string(out[mcText:]) != reply("k", strings.Repeat("v", 1000)) {
		t.Errorf("padded frame: %d, %d bytes", v, len(out))
	}
}

// Every write of a key keeps its old value from being answered.
func TestWritesInvalidate(t *testing.T) {
	for name, write := range map[string]func(r *rig){
		"udp set":                func(r *rig) { r.udp("set k 0 0 3\r\nnew\r\n") },
		"tcp set":                func(r *rig) { r.tcp("set k 0 0 3\r\nnew\r\n") },
		"set noreply":            func(r *rig) { r.tcp("set k 0 0 3 noreply\r\nnew\r\n") },
		"set that expires":       func(r *rig) { r.udp("set k 0 60 3\r\nnew\r\n") },
		"set already over":       func(r *rig) { r.udp("set k 0 -1 3\r\nnew\r\n") },
		"add":                    func(r *rig) { r.tcp("add k 0 0 3\r\nnew\r\n") },
		"replace":                func(r *rig) { r.udp("replace k 0 0 3\r\nnew\r\n") },
		"append":                 func(r *rig) { r.udp("append k 0 0 3\r\nnew\r\n") },
		"prepend":                func(r *rig) { r.udp("prepend k 0 0 3\r\nnew\r\n") },
		"cas":                    func(r *rig) { r.udp("cas k 0 0 3 17\r\nnew\r\n") },
		"delete":                 func(r *rig) { r.udp("delete k\r\n") },
		"incr":                   func(r *rig) { r.tcp("incr k 1\r\n") },
		"decr":                   func(r *rig) { r.tcp("decr k 1 noreply\r\n") },
		"touch":                  func(r *rig) { r.udp("touch k 60\r\n") },
		"gat":                    func(r *rig) { r.udp("gat 60 k\r\n") },
		"meta set":               func(r *rig) { r.tcp("ms k 3\r\nnew\r\n") },
		"flush_all":              func(r *rig) { r.udp("flush_all\r\n") },
		"two commands":           func(r *rig) { r.udp("get a\r\nset k 0 0 3\r\nnew\r\n") },
		"three commands":         func(r *rig) { r.tcp("set a 0 0 1\r\na\r\nset k 0 0 3\r\nnew\r\nget a\r\n") },
		"two spaces":             func(r *rig) { r.udp("set  k 0 0 3\r\nnew\r\n") },
		"space at the end":       func(r *rig) { r.udp("set k 0 0 3 \r\nnew\r\n") },
		"space at the beginning": func(r *rig) { r.udp(" set k 0 0 3\r\nnew\r\n") },
		"bare line feeds":        func(r *rig) { r.udp("set k 0 0 3\nnew\r\n") },
		"half a command":         func(r *rig) { r.tcp("set k 0 0 3\r\nn") },
		"half a line":            func(r *rig) { r.tcp("set k") },
		"too long a key, whose value is a command": func(r *rig) {
			r.udp("set " + strings.Repeat("x", 251) + " 0 0 14\r\nset k 0 0 1\r\nx\r\n")
		},
		"bad flags, whose value is a command": func(r *rig) { r.udp("set a b 0 16\r\nset k 0 0 1\r\nx\r\n") },
		"binary":                              func(r *rig) { r.tcp("\x80\x01\x00\x01\x08" + strings.Repeat("\x00", 19)) },
		"two lines, the first long":           func(r *rig) { r.tcp("get " + strings.Repeat("k ", 600) + "\r\ndelete k\r\n") },
		"long line without its end":           func(r *rig) { r.tcp("get " + strings.Repeat("k ", 600)) },
		"fragment": func(r *rig) {
			r.pass(packet{proto: protoUDP, payload: "xx", edit: func(f []byte) { f[ipFrag+1] = 9 }})
		},
		"more fragments": func(r *rig) {
			r.pass(packet{proto: protoUDP, payload: "xx", edit: func(f []byte) { f[ipFrag] = 0x20 }})
		},
		"IP options": func(r *rig) {
			r.pass(packet{proto: protoTCP, payload: "xx", edit: func(f []byte) { f[ipStart] = 0x46 }})
		},
		"broadcast": func(r *rig) {
			r.pass(packet{proto: protoUDP, payload: r.header() + "set k 0 0 3\r\nnew\r\n", edit: func(f []byte) { f[ipDst+3] = 255 }})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 0)
			r.fill("k", "old")
			write(r)
			if got := r.get("k"); got != "" {
				t.Fatalf("answered %q", got)
			}
		})
	}
}

// What may expire, or was written in a way that could not be read, is not kept
// when its reply leaves.
func TestNotKept(t *testing.T) {
	for name, write := range map[string]func(r *rig){
		"expires":             func(r *rig) { r.udp("set k 0 60 1\r\nv\r\n") },
		"set, then touched":   func(r *rig) { r.udp("set k 0 0 1\r\nv\r\n"); r.tcp("touch k 60\r\n") },
		"set, then gat":       func(r *rig) { r.udp("set k 0 0 1\r\nv\r\n"); r.udp("gat 60 k\r\n") },
		"added":               func(r *rig) { r.udp("add k 0 0 1\r\nv\r\n") },
		"incremented":         func(r *rig) { r.udp("set k 0 0 1\r\n1\r\n"); r.udp("incr k 1\r\n") },
		"set without its end": func(r *rig) { r.udp("set k 0 0 1\r\nvxx") },
		"delayed flush_all":   func(r *rig) { r.tcp("flush_all 10\r\n"); r.udp("set k 0 0 1\r\nv\r\n") },
		"wrong datagram": func(r *rig) {
			r.pass(packet{proto: protoUDP, payload: "\x00\x00\x00\x00\x00\x02\x00\x00set k 0 0 1\r\nv\r\n"})
		},
		"odd connection": func(r *rig) { r.tcp("set a 0 0 9\r\nab"); r.udp("set k 0 0 1\r\nv\r\n"); r.tcp("get k\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 0)
			write(r)
			r.reply("k", "v")
			if got := r.get("k"); got != "" {
				t.Fatalf("answered %q", got)
			}
			if off := r.stats().Off; off != (name == "delayed flush_all") {
				t.Errorf("off: %v", off)
			}
		})
	}
}

// Reads, whole commands and what is not memcached's leave the cache as it is.
func TestHarmless(t *testing.T) {
	r := newRig(t, 0)
	r.fill("k", "v")
	r.tcp("get k\r\n")
	r.tcp("gets k other\r\n")
	r.udp("get k other\r\n")
	r.udp("get " + strings.Repeat("k ", 700) + "k\r\n")
	r.udp("get \x01\r\n")
	r.tcp("stats\r\n")
	r.tcp("version\r\n")
	r.tcp("quit\r\n")
	r.udp("set other 0 60 1\r\nx\r\n")
	r.tcp("set " + strings.Repeat("x", 250) + " 0 0 1\r\nx\r\n")
	r.tcp("delete other\r\n")
	r.tcp("")
	r.pass(packet{proto: protoUDP, payload: "short"})
	r.pass(packet{proto: protoUDP, payload: r.header()})
	r.pass(packet{proto: protoUDP, payload: "set k 0 0 1\r\nx\r\n", edit: func(f []byte) { f[l4Dst] = 0 }})
	r.pass(packet{proto: 1, payload: "set k 0 0 1\r\nx\r\n"})
	r.pass(packet{proto: protoUDP, payload: "ARP", edit: func(f []byte) { f[etherType+1] = 6 }})
	r.pass(packet{proto: protoUDP, payload: "\x00\x00\x00\x00\x00\x02\x00\x00get k\r\n"})
	if got := r.get("k"); got != reply("k", "v") {
		t.Errorf("%q", got)
	}
	// The request's key is not what pads the cache's.
	if got := r.get("k\x00"); got != "" {
		t.Errorf("a key with a zero byte is answered with %q", got)
	}
	if s := r.stats(); s.Flushes != 0 {
		t.Errorf("%+v", s)
	}
}

// Of what leaves, only a single value's reply in one datagram is kept.
func TestEgressKeeps(t *testing.T) {
	head := "\x00\x01\x00\x00\x00\x01\x00\x00"
	for name, p := range map[string]packet{
		"two values":        {payload: head + "VALUE k 0 1\r\nv\r\nVALUE l 0 1\r\nw\r\nEND\r\n"},
		"cas unique":        {payload: head + "VALUE k 0 1 17\r\nv\r\nEND\r\n"},
		"one of two":        {payload: "\x00\x01\x00\x00\x00\x02\x00\x00" + reply("k", "v")},
		"second of two":     {payload: "\x00\x01\x00\x01\x00\x02\x00\x00" + reply("k", "v")},
		"no end":            {payload: head + "VALUE k 0 8\r\nvvvvvvvvEND__\r\n"},
		"miss":              {payload: head + "END\r\n"},
		"stored":            {payload: head + "STORED\r\n"},
		"TCP":               {proto: protoTCP, payload: reply("k", "v")},
		"another service's": {payload: head + reply("k", "v"), edit: func(f []byte) { f[l4Src] = 0 }},
		"fragment":          {payload: head + reply("k", "v"), edit: func(f []byte) { f[ipFrag] = 0x20 }},
		"size not a number": {payload: head + "VALUE k 0 1x\r\nv\r\nEND\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 0)
			r.udp("set k 0 0 1\r\nv\r\n")
			r.out(p)
			if got := r.get("k"); got != "" {
				t.Errorf("answered %q", got)
			}
			r.reply("k", "v")
			if got := r.get("k"); got == "" {
				t.Error("the right reply is not kept")
			}
		})
	}
}

// A reply that leaves before Settle is over may be older than the write.
func TestSettle(t *testing.T) {
	r := newRig(t, 2*time.Second)
	r.udp("set k 0 0 3\r\nnew\r\n")
	r.reply("k", "old")
	if got := r.get("k"); got != "" {
		t.Errorf("answered %q", got)
	}
}

// An odd connection empties the cache with every segment until its port begins a
// new one; others do not.
func TestOddConnection(t *testing.T) {
	r := newRig(t, 0)
	r.tcp("set a 0 0 2000\r\nxxx")
	r.fill("k", "v")
	r.pass(packet{proto: protoTCP, port: 40001, payload: "get k\r\n"})
	if r.get("k") == "" {
		t.Error("another connection empties the cache")
	}
	r.tcp("get k\r\n")
	if r.get("k") != "" {
		t.Error("the odd connection does not empty the cache")
	}
	r.pass(packet{proto: protoTCP, flags: tcpSYN})
	r.fill("k", "v")
	r.tcp("get k\r\n")
	if r.get("k") == "" {
		t.Error("a new connection of the same port is odd")
	}
	// More odd connections than can be remembered end caching.
	for i := range maxOdd + 1 {
		r.pass(packet{proto: protoTCP, port: uint16(1 + i), payload: "what"})
	}
	if !r.stats().Off {
		t.Error("caching goes on with unknown odd connections")
	}
}

func TestNewChecks(t *testing.T) {
	good := Config{IP: server, Port: 11211, Settle: DefaultSettle}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*Config){
		func(c *Config) { c.IP = netip.MustParseAddr("::1") },
		func(c *Config) { c.Port = 0 },
		func(c *Config) { c.Settle = 3 * time.Second },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
		if _, err := Load(c); err == nil {
			t.Errorf("%+v is loaded", c)
		}
	}
	if _, _, err := (&Cache{}).Attach("lo", 2); err == nil {
		t.Error("two processors are taken")
	}
}
