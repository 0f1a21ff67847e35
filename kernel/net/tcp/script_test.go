package tcp

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"osv/kernel/net/seq"
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
