package tcp

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// The table of every state with every event: testdata/states.txt. A row is
//
//	event | state | section | new state | what is sent, and what a call returns
//
// where sections are of RFC 9293 unless another is named. SYN-RECEIVED/p is
// SYN-RECEIVED by a passive OPEN. A cell without a row must be in notYet.

// notYet names the cells that have no row, with the reason.
var notYet = map[string]string{
	"OPEN|LISTEN":            "a listener never turns into an active opener here; the two are different objects",
	"SEND|LISTEN":            "a listener has no Send",
	"RECEIVE|LISTEN":         "a listener has no Recv",
	"OPEN|SYN-RECEIVED/p":    "a half-open connection belongs to the listener; no user has it",
	"SEND|SYN-RECEIVED/p":    "a half-open connection belongs to the listener; no user has it",
	"RECEIVE|SYN-RECEIVED/p": "a half-open connection belongs to the listener; no user has it",
}

var tableStates = []string{"CLOSED", "LISTEN", "SYN-SENT", "SYN-RECEIVED", "SYN-RECEIVED/p", "ESTABLISHED",
	"FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT"}

// tableEvents are in terms of $r, RCV.NXT, and $s, SND.NXT.
var tableEvents = []struct{ name, do string }{
	{"OPEN", "call open"},
	{"SEND", "call send"},
	{"RECEIVE", "call receive"},
	{"CLOSE", "call close"},
	{"ABORT", "call abort"},
	{"SYN", "< S seq=$r"},
	{"SYN again", "< S seq=0 mss=1460"},
	{"SYN ACK", "< S. seq=0 ack=1 mss=1460"},
	{"ACK", "< . seq=$r ack=$s"},
	{"ACK unsent", "< . seq=$r ack=$s+1"},
	{"ACK old", "< . seq=$r ack=$s-70000"},
	{"ACK outside", "< . seq=$r+70000 ack=$s"},
	{"no ACK", "< P seq=$r len=10"},
	{"RST", "< R seq=$r"},
	{"RST ACK", "< R. seq=$r ack=$s"},
	{"RST in window", "< R seq=$r+100"},
	{"RST outside", "< R seq=$r+70000"},
	{"FIN", "< F. seq=$r ack=$s"},
	{"FIN unACKed", "< F. seq=$r ack=1"},
	{"FIN again", "< F. seq=1 ack=$s"},
	{"data", "< P. seq=$r ack=$s len=10"},
	{"data outside", "< P. seq=$r+70000 ack=$s len=10"},
	{"data beyond hole", "< P. seq=$r+100 ack=$s len=10"},
	{"data again", "< P. seq=$r-10 ack=$s len=10"},
	{"RTO", "rto"},
	{"user timeout", "advance 5m"},
	{"2 MSL", "advance 1m"},
}

// reach brings a script to a state, with nothing sent left over. It returns the
// values of $r and $s.
func reach(s *script, state string) (r, sn int) {
	steps := map[string][]string{
		"CLOSED":         {},
		"LISTEN":         {"listen"},
		"SYN-SENT":       {"connect"},
		"SYN-RECEIVED":   {"connect", "< S seq=0 mss=1460"},
		"SYN-RECEIVED/p": {"listen", "< S seq=0 mss=1460"},
		"ESTABLISHED":    {"established mss=1460"},
		"FIN-WAIT-1":     {"established mss=1460", "shutdown"},
		"FIN-WAIT-2":     {"established mss=1460", "shutdown", "< . seq=1 ack=2"},
		"CLOSE-WAIT":     {"established mss=1460", "< F. seq=1 ack=1"},
		"CLOSING":        {"established mss=1460", "shutdown", "< F. seq=1 ack=1"},
		"LAST-ACK":       {"established mss=1460", "< F. seq=1 ack=1", "shutdown"},
		"TIME-WAIT":      {"established mss=1460", "shutdown", "< F. seq=1 ack=2"},
	}
	for _, l := range steps[state] {
		s.run(l)
	}
	if state == "CLOSED" {
		s.setup()
	} else if s.c != nil {
		s.c.TakeEvents()
	}
	s.out = nil
	s.run("state " + strings.TrimSuffix(state, "/p"))
	r, sn = 1, 1
	switch state {
	case "FIN-WAIT-1", "FIN-WAIT-2":
		sn = 2
	case "CLOSE-WAIT":
		r = 2
	case "CLOSING", "LAST-ACK", "TIME-WAIT":
		r, sn = 2, 2
	}
	return r, sn
}

// play makes an event happen and tells the new state and the reply.
func play(s *script, state, do string) (string, string) {
	r, sn := reach(s, state)
	var words []string
	for _, w := range strings.Fields(do) {
		key, v, ok := strings.Cut(w, "=")
		if ok && strings.HasPrefix(v, "$") {
			base, off := sn, 0
			if v[1] == 'r' {
				base = r
			}
			if len(v) > 2 {
				fmt.Sscanf(v[2:], "%d", &off)
			}
			w = fmt.Sprintf("%s=%d", key, base+off)
		}
		words = append(words, w)
	}
	result := ""
	switch words[0] {
	case "call":
		result = call(s, state, words[1])
	case "rto":
		if s.c != nil && s.c.rtx.kind == rtxRTO {
			s.advance(s.c.rtx.at - s.now)
		} else if s.l != nil && s.l.next != 0 {
			s.advance(s.l.next - s.now)
		} else {
			result = "no timer"
		}
	default:
		s.run(strings.Join(words, " "))
	}
	var sent []string
	for i, p := range s.out {
		if i > 0 && state != "" && words[0] == "advance" {
			continue // the first and the last will do
		}
		sent = append(sent, shortShow(s, p))
	}
	if n := len(s.out); words[0] == "advance" && n > 1 {
		sent = append(sent, shortShow(s, s.out[n-1]))
	}
	if result != "" {
		sent = append(sent, result)
	}
	s.out = nil
	now := "CLOSED"
	switch c := s.conn(); {
	case c != nil:
		now = c.state.String()
	case s.l != nil && len(s.l.half) > 0:
		now = s.l.half[0].state.String() + "/p"
	case s.l != nil && s.l.index != nil:
		now = "LISTEN"
	}
	if len(sent) == 0 {
		sent = []string{"-"}
	}
	return now, strings.Join(sent, "; ")
}

func shortShow(s *script, p sentPacket) string {
	v, _, _ := strings.Cut(s.show(p), " win=")
	if p.payload > 0 {
		v += fmt.Sprintf(" len=%d", p.payload)
	}
	return v
}

func call(s *script, state, what string) string {
	var err error
	if s.l != nil {
		switch what {
		case "close", "abort":
			s.l.Close(s.now)
			s.l = nil
		}
		return ""
	}
	if s.c == nil {
		s.c = New(&s.cfg, s.tuple, s.path)
	}
	switch what {
	case "open":
		err = s.c.Connect(s.now)
	case "send":
		_, err = s.c.Send(s.now, make([]byte, 10))
	case "receive":
		var n int
		if n, err = s.c.Recv(s.now, make([]byte, 10)); n == 0 && err == nil {
			return "waits"
		}
	case "close":
		err = s.c.CloseWrite(s.now)
	case "abort":
		s.c.Abort(s.now)
	}
	s.c.Flush(s.now)
	if err != nil {
		return strings.TrimPrefix(err.Error(), "tcp: ")
	}
	return "ok"
}

func TestStateTable(t *testing.T) {
	text, err := os.ReadFile("testdata/states.txt")
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ section, state, reply string }
	rows := map[string]row{}
	for i, l := range strings.Split(string(text), "\n") {
		if l, _, _ = strings.Cut(l, "#"); strings.TrimSpace(l) == "" {
			continue
		}
		f := strings.Split(l, "|")
		if len(f) != 5 {
			t.Fatalf("states.txt:%d: %d fields", i+1, len(f))
		}
		for j := range f {
			f[j] = strings.TrimSpace(f[j])
		}
		key := f[0] + "|" + f[1]
		if _, ok := rows[key]; ok {
			t.Errorf("states.txt:%d: %s is there twice", i+1, key)
		}
		if !strings.HasPrefix(f[2], "§") && !strings.HasPrefix(f[2], "RFC ") {
			t.Errorf("states.txt:%d: no section", i+1)
		}
		rows[key] = row{f[2], f[3], f[4]}
	}
	for _, ev := range tableEvents {
		for _, st := range tableStates {
			key := ev.name + "|" + st
			want, ok := rows[key]
			delete(rows, key)
			if _, later := notYet[key]; later == ok {
				t.Errorf("%s: a row %v, in notYet %v: it must be one of them", key, ok, later)
				continue
			}
			if !ok {
				continue
			}
			s := newScript(t)
			s.file = key
			s.cfg.UserTimeout, s.cfg.MSL = 5*time.Minute, 30*time.Second
			state, reply := play(s, st, ev.do)
			s.done()
			if state != want.state || reply != want.reply {
				t.Errorf("%-16s | %-14s | %-10s | %-14s | %s\n\twant %s | %s", ev.name, st, want.section, state, reply, want.state, want.reply)
			}
		}
	}
	for key := range rows {
		t.Errorf("%s: no such cell", key)
	}
}
