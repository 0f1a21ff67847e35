package tcp

// The user of a packet script, its clock, and what it looks at.

import (
	"io"
	"strings"
	"time"
)

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
