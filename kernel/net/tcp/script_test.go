package tcp

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// A packet script is a conversation with one connection, told from the wire:
// each of testdata/*.pkt shows one behaviour, and its first line names the
// section that asks for it. One command a line; # begins a comment. Numbers of
// our side are relative to our initial sequence number, those of the peer as it
// chose them, timestamps are milliseconds since the script began.
//
//	with WORD...              before the connection: sack ts ws reno mtu=N gso=N
//	                          rcvbuf=N rcvmax=N sndbuf=N iw=N delack=D msl=D
//	listen [backlog=N] [half=N]
//	connect                   active open
//	established [rtt=D] [OPTION...]
//	                          active open and the peer's answer, both numbers 1 from here
//	< FLAGS FIELD...          the peer sends; <+ does so without a Flush after it
//	> FLAGS FIELD...          we must have sent this next; fields not named are free,
//	                          but len, which is 0 then
//	none                      we must have sent nothing more (also at the end)
//	burst N len=L [seq=S]     we must have sent N segments of L octets in order
//	skip N                    N segments of ours do not matter
//	write N|"TEXT" [= N]      Send, and how much it must take
//	read N [= N|eof|error]    Recv, and what it must give
//	shutdown closeread close abort urgent
//	advance D                 time moves, timers run
//	state NAME, error TEXT|none, cwnd N, ssthresh N, inflight N, readable N, halfopen N
//	option nodelay|keepalive=IDLE,INTERVAL,COUNT|usertimeout=D
//	icmp soft|hard|toobig=N seq=S
//	accept                    the next connection of the listener
//
//	tx off|on, mem off|on     there are no transmit buffers, or no memory for octets
//	flush                     as at the end of a batch
//	newiss                    the next SYN of ours sets our initial sequence number
//
// FIELD: from=PORT (of the peer) seq=N ack=N win=N len=N urg=N mss=N ws=N sackok ts=V,E (E: last for our latest) sack=A-B,A-B
type script struct {
	t     *testing.T
	file  string
	line  int
	now   int64
	start int64

	pool, chunks *pkt.Pool
	cfg          Config
	path         Path
	tuple        Tuple
	c            *Conn
	l            *Listener
	iss          seq.Num
	issSet       bool
	tsOff        uint32
	lastTS       uint32 // of the last segment of ours
	out          []sentPacket
	txOff        bool // there is no transmit buffer
	memOff       bool // there is no memory for octets to send
}

type sentPacket struct {
	h       wire.TCP
	o       wire.TCPOptions
	payload int
	gso     int
}

func (s *script) TxBuf(*Conn) *pkt.Buf {
	if s.txOff {
		return nil
	}
	return s.pool.Get()
}

// Get is the memory of the send buffer.
func (s *script) Get() *pkt.Buf {
	if s.memOff {
		return nil
	}
	return s.chunks.Get()
}

func (s *script) TxSegment(c *Conn, b *pkt.Buf) {
	data := flatten(b)
	p := sentPacket{h: wire.TCP(data), payload: len(wire.TCP(data).Payload()), gso: int(b.GSOSize)}
	p.o.Parse(p.h.Options())
	s.out = append(s.out, p)
	s.lastTS = p.o.TSVal
	if p.h.Flags()&wire.TCPSyn != 0 && !s.issSet {
		s.iss, s.issSet, s.tsOff = seq.Num(p.h.Seq()), true, c.tsOff
	}
	b.Put()
}

func (s *script) Path(*Tuple) (Path, error) { return s.path, nil }
func (s *script) Established(c *Conn) bool  { return true }

func newScript(t *testing.T) *script {
	s := &script{t: t, now: 1e12, start: 1e12}
	var err error
	if s.pool, err = pkt.NewPool(&testMem, 256, 2048); err != nil {
		t.Fatal(err)
	}
	if s.chunks, err = pkt.NewPool(&testMem, 256, 4096); err != nil {
		t.Fatal(err)
	}
	s.cfg = Config{Out: s, Chunks: s, Key: Key{1, 2}, NoSACK: true, NoTimestamps: true, NoWindowScale: true,
		RcvBuf: 65535, RcvBufMax: 65535, NewReno: true}
	s.path = Path{MTU: 1500}
	s.tuple = newScriptTuple()
	return s
}

func newScriptTuple() Tuple {
	return Tuple{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:4000")}
}

// done checks that nothing is left: no segment, no memory.
func (s *script) done() {
	s.line = -1
	s.cmdNone()
	if s.l != nil {
		s.l.Close(s.now)
	}
	if s.c != nil {
		s.c.Abort(s.now)
		s.c.Close(s.now)
		s.c.rcv.release()
	}
	for _, p := range []*pkt.Pool{s.pool, s.chunks} {
		if err := p.Close(&testMem); err != nil {
			s.fail("%v", err)
		}
	}
}

func (s *script) fail(format string, args ...any) {
	s.t.Helper()
	where := "end"
	if s.line > 0 {
		where = strconv.Itoa(s.line)
	}
	s.t.Fatalf("%s:%s: %s", s.file, where, fmt.Sprintf(format, args...))
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.pkt")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".pkt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			runScript(t, filepath.Base(f), string(text))
		})
	}
}

func runScript(t *testing.T, file, text string) {
	s := newScript(t)
	s.file = file
	lines := strings.Split(text, "\n")
	if !strings.HasPrefix(lines[0], "# RFC ") || !strings.Contains(lines[0], "§") {
		t.Errorf("%s: the first line names no RFC section", file)
	}
	for i, l := range lines {
		s.line = i + 1
		if l, _, _ = strings.Cut(l, "#"); strings.TrimSpace(l) != "" {
			s.run(strings.TrimSpace(l))
		}
	}
	s.done()
}

func (s *script) run(line string) {
	cmd, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	switch cmd {
	case "with":
		s.cmdWith(args)
	case "listen":
		s.cmdListen(args)
	case "connect":
		s.open()
	case "established":
		s.open()
		s.pop()
		if len(args) > 0 && strings.HasPrefix(args[0], "rtt=") {
			s.advance(s.dur(args[0][4:]))
			args = args[1:]
		}
		s.inject(append([]string{"S.", "seq=0", "ack=1"}, args...), true)
		s.pop()
	case "<":
		s.inject(args, true)
	case "<+":
		s.inject(args, false)
	case ">":
		s.expect(args)
	case "none":
		s.cmdNone()
	case "burst":
		s.cmdBurst(args)
	case "skip":
		for range s.num(args[0]) {
			s.pop()
		}
	case "write":
		s.cmdWrite(rest)
	case "read":
		s.cmdRead(rest)
	case "shutdown":
		s.check(s.c.CloseWrite(s.now))
		s.c.Flush(s.now)
	case "closeread":
		s.c.CloseRead(s.now)
		s.c.Flush(s.now)
	case "close":
		s.c.Close(s.now)
		s.c.Flush(s.now)
	case "abort":
		s.c.Abort(s.now)
	case "urgent":
		s.c.MarkUrgent(s.now)
	case "advance":
		s.advance(s.dur(rest))
	case "option":
		s.cmdOption(args)
	case "icmp":
		s.cmdICMP(args)
	case "tx":
		s.txOff = rest == "off"
	case "mem":
		s.memOff = rest == "off"
	case "flush":
		s.c.Flush(s.now)
	case "newiss":
		s.issSet = false
	case "accept":
		if s.c = s.l.Accept(); s.c == nil {
			s.fail("nothing to accept")
		}
	default:
		s.cmdAssert(cmd, rest)
	}
}

func (s *script) check(err error) {
	if err != nil {
		s.fail("%v", err)
	}
}

func (s *script) num(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil {
		s.fail("number %q", v)
	}
	return n
}

func (s *script) dur(v string) int64 {
	d, err := time.ParseDuration(strings.TrimSpace(v))
	if err != nil {
		s.fail("%v", err)
	}
	return int64(d)
}

func (s *script) cmdWith(args []string) {
	for _, a := range args {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "sack":
			s.cfg.NoSACK = false
		case "ts":
			s.cfg.NoTimestamps = false
		case "ws":
			s.cfg.NoWindowScale = false
		case "cubic":
			s.cfg.NewReno = false
		case "mtu":
			s.path.MTU = s.num(val)
		case "gso":
			s.path.GSOMax, s.path.Pieces = s.num(val), 33
		case "rcvbuf":
			s.cfg.RcvBuf = s.num(val)
			s.cfg.RcvBufMax = max(s.cfg.RcvBuf, 1)
		case "rcvmax":
			s.cfg.RcvBufMax = s.num(val)
		case "sndbuf":
			s.cfg.SndBuf = s.num(val)
			s.cfg.SndBufMax = s.cfg.SndBuf
		case "iw":
			s.cfg.InitialWindow = s.num(val)
		case "delack":
			s.cfg.DelayedAck = time.Duration(s.dur(val))
		case "msl":
			s.cfg.MSL = time.Duration(s.dur(val))
		case "v6":
			s.tuple = Tuple{netip.MustParseAddrPort("[fd00::1]:80"), netip.MustParseAddrPort("[fd00::2]:4000")}
		default:
			s.fail("with %q", a)
		}
	}
}

func (s *script) setup() {
	s.cfg = s.cfg.WithDefaults()
}

func (s *script) cmdListen(args []string) {
	s.setup()
	backlog, half := 10, 10
	for _, a := range args {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "backlog":
			backlog = s.num(val)
		case "half":
			half = s.num(val)
		default:
			s.fail("listen %q", a)
		}
	}
	s.l = NewListener(&s.cfg, s, backlog, half)
}

func (s *script) open() {
	s.setup()
	s.c = New(&s.cfg, s.tuple, s.path)
	s.check(s.c.Connect(s.now))
}

// conn is the connection that segments go to; nil for the listener's.
func (s *script) conn() *Conn {
	if s.c == nil && s.l != nil && len(s.l.ready) > 0 && s.l.ready[0].tuple == s.tuple {
		return s.l.ready[0]
	}
	return s.c
}

func (s *script) inject(args []string, flush bool) {
	seg := s.segment(args)
	c := s.conn()
	switch {
	case c == nil && s.l != nil:
		s.l.Input(s.now, &s.tuple, seg)
		return
	case c == nil:
		Refuse(&s.cfg, new(Conn), s.now, &s.tuple, s.path, seg)
		seg.Drop()
		return
	case c.state == StateClosed && s.l != nil && s.c == nil:
		s.l.Input(s.now, &s.tuple, seg)
		return
	}
	c.Input(s.now, seg)
	if flush {
		c.Flush(s.now)
	}
}

// segment makes what the peer sends; it goes through the parser.
func (s *script) segment(args []string) *Segment {
	f := wire.TCPFields{SrcPort: s.tuple.Remote.Port(), DstPort: s.tuple.Local.Port(), Window: 65535, Flags: s.flags(args[0])}
	var o wire.TCPOptions
	n := 0
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "from":
			f.SrcPort = uint16(s.num(val))
			s.tuple.Remote = netip.AddrPortFrom(s.tuple.Remote.Addr(), f.SrcPort)
		case "seq":
			f.Seq = uint32(s.num(val))
		case "ack":
			f.Ack = uint32(s.iss.Add(s.num(val)))
		case "win":
			f.Window = uint16(s.num(val))
		case "len":
			n = s.num(val)
		case "urg":
			f.Urgent = uint16(s.num(val))
			f.Flags |= wire.TCPUrg
		case "mss":
			o.Have |= wire.TCPOptMSS
			o.MSS = uint16(s.num(val))
		case "ws":
			o.Have |= wire.TCPOptWScale
			o.WScale = uint8(s.num(val))
		case "sackok":
			o.Have |= wire.TCPOptSACKOK
		case "ts":
			v, e, _ := strings.Cut(val, ",")
			o.Have |= wire.TCPOptTimestamp
			o.TSVal = uint32(s.num(v))
			if e == "last" {
				o.TSEcr = s.lastTS
			} else {
				o.TSEcr = s.ts(s.num(e))
			}
		case "sack":
			o.Have |= wire.TCPOptSACK
			for _, b := range strings.Split(val, ",") {
				l, r, _ := strings.Cut(b, "-")
				o.SACK[o.NSACK] = wire.TCPSACKBlock{Left: uint32(s.iss.Add(s.num(l))), Right: uint32(s.iss.Add(s.num(r)))}
				o.NSACK++
			}
		default:
			s.fail("field %q", a)
		}
	}
	b := s.pool.Get()
	b.Append(n)
	h := b.Prepend(wire.TCPMinHeader + o.Len())
	o.Put(h[wire.TCPMinHeader:])
	wire.TCP(h).Put(&f, len(h))
	var seg Segment
	if !seg.Parse(b) {
		s.fail("does not parse")
	}
	return &seg
}

// ts turns a time since the start into a timestamp of ours.
func (s *script) ts(ms int) uint32 { return uint32(s.start/1e6) + uint32(ms) + s.tsOff }

func (s *script) flags(v string) wire.TCPFlags {
	var f wire.TCPFlags
	for _, r := range v {
		i := strings.IndexRune("FSRP.UEW", r)
		if i < 0 {
			s.fail("flags %q", v)
		}
		f |= 1 << i
	}
	return f
}

func (s *script) pop() sentPacket {
	s.t.Helper()
	if len(s.out) == 0 {
		s.fail("nothing was sent")
	}
	p := s.out[0]
	s.out = s.out[1:]
	return p
}

func (s *script) show(p sentPacket) string {
	v := fmt.Sprintf("%v seq=%d", p.h.Flags(), seq.Num(p.h.Seq()).Sub(s.iss))
	if p.h.Flags()&wire.TCPAck != 0 {
		v += fmt.Sprintf(" ack=%d", p.h.Ack())
	}
	v += fmt.Sprintf(" win=%d len=%d", p.h.Window(), p.payload)
	if p.o.Have&wire.TCPOptTimestamp != 0 {
		v += fmt.Sprintf(" ts=%d,%d", int32(p.o.TSVal-s.ts(0)), p.o.TSEcr)
	}
	for i, b := range p.o.SACK[:p.o.NSACK] {
		v += fmt.Sprintf("%s%d-%d", []string{" sack=", ",", ",", ","}[i], b.Left, b.Right)
	}
	if p.gso > 0 {
		v += fmt.Sprintf(" gso=%d", p.gso)
	}
	return v
}

func (s *script) expect(args []string) {
	p := s.pop()
	got := s.show(p)
	differ := func(what string, have any) {
		s.fail("%s is %v, want %s, in %s", what, have, strings.Join(args, " "), got)
	}
	flags, want := p.h.Flags(), s.flags(args[0])
	if flags|wire.TCPPsh != want|wire.TCPPsh || want&wire.TCPPsh != 0 && flags&wire.TCPPsh == 0 {
		differ("flags", flags)
	}
	length := 0
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		var have int
		switch key {
		case "seq":
			have = seq.Num(p.h.Seq()).Sub(s.iss)
		case "ack":
			have = int(p.h.Ack())
		case "win":
			have = int(p.h.Window())
		case "len":
			length = s.num(val)
			continue
		case "urg":
			have = int(p.h.Urgent())
		case "mss":
			have = int(p.o.MSS)
		case "ws":
			have = int(p.o.WScale)
			if p.o.Have&wire.TCPOptWScale == 0 {
				have = -1
			}
		case "gso":
			have = p.gso
		case "sackok", "nosackok":
			if (p.o.Have&wire.TCPOptSACKOK != 0) != (key == "sackok") {
				differ(key, p.o.Have)
			}
			continue
		case "nots":
			if p.o.Have&wire.TCPOptTimestamp != 0 {
				differ(key, p.o.Have)
			}
			continue
		case "ts":
			have := fmt.Sprintf("%d,%d", int32(p.o.TSVal-s.ts(0)), p.o.TSEcr)
			if p.o.Have&wire.TCPOptTimestamp == 0 || have != val {
				differ("ts", have)
			}
			continue
		case "sack", "nosack":
			have := ""
			for _, b := range p.o.SACK[:p.o.NSACK] {
				have += fmt.Sprintf(",%d-%d", b.Left, b.Right)
			}
			if strings.TrimPrefix(have, ",") != val {
				differ("sack", have)
			}
			continue
		default:
			s.fail("field %q", a)
		}
		if have != s.num(val) {
			differ(key, have)
		}
	}
	if p.payload != length {
		differ("len", p.payload)
	}
}

func (s *script) cmdNone() {
	if len(s.out) > 0 {
		s.fail("was sent: %s", s.show(s.out[0]))
	}
}

func (s *script) cmdBurst(args []string) {
	n, length, at := s.num(args[0]), 0, -1
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "len":
			length = s.num(val)
		case "seq":
			at = s.num(val)
		}
	}
	for range n {
		p := s.pop()
		have := seq.Num(p.h.Seq()).Sub(s.iss)
		if at < 0 {
			at = have
		}
		if have != at || p.payload != length || p.h.Flags()&^wire.TCPPsh != wire.TCPAck {
			s.fail("want seq=%d len=%d, sent %s", at, length, s.show(p))
		}
		at += length
	}
}

func (s *script) cmdWrite(rest string) {
	what, want, _ := strings.Cut(rest, "=")
	what = strings.TrimSpace(what)
	var p []byte
	if strings.HasPrefix(what, `"`) {
		p = []byte(strings.Trim(what, `"`))
	} else {
		p = make([]byte, s.num(what))
	}
	n, err := s.c.Send(s.now, p)
	switch want = strings.TrimSpace(want); {
	case want == "error":
		if err == nil {
			s.fail("no error")
		}
	case err != nil:
		s.fail("%v", err)
	case want != "" && n != s.num(want), want == "" && n != len(p):
		s.fail("took %d of %d", n, len(p))
	}
	s.c.Flush(s.now)
}

func (s *script) cmdRead(rest string) {
	what, want, _ := strings.Cut(rest, "=")
	p := make([]byte, s.num(strings.TrimSpace(what)))
	n, err := s.c.Recv(s.now, p)
	switch want = strings.TrimSpace(want); {
	case want == "eof":
		if err != io.EOF {
			s.fail("%d octets, %v", n, err)
		}
	case want == "error":
		if err == nil || err == io.EOF {
			s.fail("%d octets, %v", n, err)
		}
	case err != nil:
		s.fail("%v", err)
	case want != "" && n != s.num(want), want == "" && n != len(p):
		s.fail("%d octets", n)
	}
	s.c.Flush(s.now)
}

// advance moves time by d and runs the timers on the way.
func (s *script) advance(d int64) {
	end := s.now + d
	for {
		var at int64
		if s.l != nil {
			at = s.l.Deadline()
		}
		c := s.conn()
		if c != nil {
			if x := c.Deadline(); x != 0 && (at == 0 || x < at) {
				at = x
			}
		}
		if at == 0 || at > end {
			s.now = end
			return
		}
		s.now = max(s.now, at)
		if s.l != nil {
			s.l.Timer(s.now)
		}
		if c != nil {
			c.Timer(s.now)
			c.Flush(s.now)
		}
	}
}

func (s *script) cmdOption(args []string) {
	o := s.c.Options()
	for _, a := range args {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "nodelay":
			o.NoDelay = true
		case "keepalive":
			v := strings.Split(val, ",")
			o.Keepalive, o.KeepIdle, o.KeepInterval = true, time.Duration(s.dur(v[0])), time.Duration(s.dur(v[1]))
			o.KeepCount = s.num(v[2])
		case "usertimeout":
			o.UserTimeout = time.Duration(s.dur(val))
		default:
			s.fail("option %q", a)
		}
	}
	s.c.SetOptions(s.now, o)
}

func (s *script) cmdICMP(args []string) {
	var e ICMPError
	for _, a := range args {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "soft":
			e.Kind = ICMPSoft
		case "hard":
			e.Kind = ICMPHard
		case "toobig":
			e.Kind, e.MTU = ICMPTooBig, s.num(val)
		case "seq":
			e.Seq = uint32(s.iss.Add(s.num(val)))
		}
	}
	s.c.ICMP(s.now, e)
	s.c.Flush(s.now)
}

func (s *script) cmdAssert(cmd, rest string) {
	rest = strings.TrimSpace(rest)
	if cmd == "state" {
		got := StateClosed
		if c := s.conn(); c != nil {
			got = c.state
		} else if s.l != nil {
			if got = StateListen; len(s.l.half) > 0 {
				got = s.l.half[0].state
			}
		}
		if got.String() != rest {
			s.fail("state is %v, want %s", got, rest)
		}
		return
	}
	if cmd == "halfopen" {
		if got := s.l.HalfOpen(); got != s.num(rest) {
			s.fail("%d half open, want %s", got, rest)
		}
		return
	}
	c := s.conn()
	if cmd == "error" {
		if err := c.Err(); (err == nil) != (rest == "none") || err != nil && !strings.Contains(err.Error(), rest) {
			s.fail("error is %v, want %s", err, rest)
		}
		return
	}
	got, ok := map[string]int{"cwnd": c.cc.cwnd, "ssthresh": c.cc.ssthresh, "inflight": c.pipe(),
		"readable": c.Readable(), "unsent": c.Unsent(), "unacked": c.Unacked(), "urgentleft": c.Urgent()}[cmd]
	if !ok {
		s.fail("command %q", cmd)
	}
	if got != s.num(rest) {
		s.fail("%s is %d, want %s", cmd, got, rest)
	}
}
