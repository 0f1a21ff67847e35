package trace

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLogTextAndConsole(t *testing.T) {
	var c fakeClock
	var con bytes.Buffer
	l := NewLog(c.now, 16)
	l.SetConsole(&con, LevelWarn)
	pci, net := l.For("pci"), l.For("virtio-net")

	c.set(1234567 * time.Nanosecond)
	pci.Infof("%d functions", 7)
	pci.Debugf("dropped: below the log's level")
	c.set(2 * time.Second)
	net.Warnf("queue %d: device offers %d descriptors\n", 1, 0)
	c.set(12345 * time.Second)
	net.Errorf("first\nsecond \x1b[31m\x00\u0085 tab\there caf\u00e9 \xff.")
	l.SetLevel(LevelDebug)
	net.Debugf("now kept")

	var text bytes.Buffer
	if err := l.WriteText(&text, LevelDebug); err != nil {
		t.Fatal(err)
	}
	golden(t, "log.golden", text.Bytes())
	golden(t, "console.golden", con.Bytes())

	text.Reset()
	l.WriteText(&text, LevelError)
	if n := strings.Count(text.String(), "\n"); n != 2 {
		t.Errorf("%d lines of level error, want 2:\n%s", n, text.String())
	}
}

func TestLogKeepsTheLastLines(t *testing.T) {
	var c fakeClock
	l := NewLog(c.now, 4)
	g := l.For("x")
	for i := range 10 {
		g.Infof("line %d", i)
	}
	texts := func(from uint64) (s []string) {
		for _, r := range l.Records(from) {
			s = append(s, fmt.Sprint(r.Seq, r.Text))
		}
		return s
	}
	for from, want := range map[uint64]string{
		0:  "[6line 6 7line 7 8line 8 9line 9]",
		8:  "[8line 8 9line 9]",
		10: "[]",
		99: "[]",
	} {
		if got := fmt.Sprint(texts(from)); got != want {
			t.Errorf("Records(%d) = %s, want %s", from, got, want)
		}
	}
}

func TestLogLineIsBounded(t *testing.T) {
	var c fakeClock
	l := NewLog(c.now, 4)
	l.For("x").Infof("%s", strings.Repeat("a", 5000))
	// A cut inside a rune leaves no broken rune.
	l.For("x").Infof("%s", strings.Repeat("\u00e9", 3000))
	for _, r := range l.Records(0) {
		if len(r.Text) > maxLine || !strings.HasSuffix(r.Text, "...") {
			t.Errorf("a line of %d bytes ends in %q", len(r.Text), r.Text[len(r.Text)-3:])
		}
	}
}

func TestConsoleRepeats(t *testing.T) {
	var c fakeClock
	var con bytes.Buffer
	l := NewLog(c.now, 16)
	l.SetConsole(&con, LevelInfo)
	g := l.For("nic")
	g.Infof("link down")
	for range 3 {
		c.advance(time.Second)
		g.Infof("link down")
	}
	c.advance(time.Second)
	g.Warnf("link down") // another level is another message
	c.advance(time.Second)
	g.Warnf("link down")
	l.Flush()
	l.Flush() // says nothing twice
	g.Infof("link up")
	for range 12 { // 12 s: said every 5 s while it lasts
		c.advance(time.Second)
		g.Infof("link up")
	}
	g.Infof("done")
	golden(t, "repeats.golden", con.Bytes())

	r := l.Records(0)
	if len(r) != 4 || r[0].Repeats != 3 || r[0].Last != 3*time.Second || r[1].Repeats != 1 || r[2].Repeats != 12 || r[3].Repeats != 0 {
		t.Errorf("records: %+v", r)
	}
	var text bytes.Buffer
	l.WriteText(&text, LevelInfo)
	golden(t, "repeats-log.golden", text.Bytes())
}

// A line that the console did not show has no repeats there either.
func TestConsoleHiddenRepeats(t *testing.T) {
	var c fakeClock
	var con bytes.Buffer
	l := NewLog(c.now, 16)
	l.SetConsole(&con, LevelError)
	g := l.For("nic")
	for range 3 {
		c.advance(10 * time.Second)
		g.Infof("link down")
	}
	g.Infof("other")
	if con.Len() != 0 {
		t.Errorf("console shows %q", con.String())
	}
}

func TestConsoleBudget(t *testing.T) {
	var c fakeClock
	var con bytes.Buffer
	l := NewLog(c.now, 4*burst)
	l.SetConsole(&con, LevelInfo)
	flood, calm := l.For("flood"), l.For("calm")
	for i := range burst + 50 {
		flood.Infof("line %d", i)
	}
	calm.Infof("not affected")
	if n := strings.Count(con.String(), "flood:"); n != burst {
		t.Errorf("%d lines printed, want %d", n, burst)
	}
	if !strings.Contains(con.String(), "calm: not affected") {
		t.Error("another component's line is missing")
	}
	if n := len(l.Records(0)); n != burst+51 {
		t.Errorf("the log holds %d lines, want %d", n, burst+51)
	}
	con.Reset()
	c.advance(window)
	flood.Infof("later")
	want := "[    5.000000] warn  flood: 50 lines not printed (see the log)\n[    5.000000] info  flood: later\n"
	if con.String() != want {
		t.Errorf("console shows %q, want %q", con.String(), want)
	}
}

func TestConsoleOff(t *testing.T) {
	var c fakeClock
	var con bytes.Buffer
	l := NewLog(c.now, 4)
	g := l.For("x")
	g.Errorf("no console yet")
	l.SetConsole(&con, LevelOff)
	g.Errorf("switched off")
	l.SetConsole(nil, LevelDebug)
	g.Errorf("no writer")
	if con.Len() != 0 {
		t.Errorf("console shows %q", con.String())
	}
	if n := len(l.Records(0)); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
}

func TestLevels(t *testing.T) {
	for l := LevelDebug; l <= LevelOff; l++ {
		if got, err := ParseLevel(l.String()); got != l || err != nil {
			t.Errorf("ParseLevel(%q) = %v, %v", l, got, err)
		}
	}
	if _, err := ParseLevel("loud"); err == nil || !strings.Contains(err.Error(), `"loud"`) {
		t.Errorf("ParseLevel(loud): %v", err)
	}
	if s := Level(9).String(); s != "level 9" {
		t.Errorf("Level(9) = %q", s)
	}
}

func TestLogEnabled(t *testing.T) {
	var c fakeClock
	l := NewLog(c.now, 4)
	g := l.For("x")
	if g.Enabled(LevelDebug) || !g.Enabled(LevelInfo) {
		t.Error("a new log wants LevelInfo and above")
	}
	l.SetLevel(LevelOff)
	g.Errorf("dropped")
	if len(l.Records(0)) != 0 {
		t.Error("LevelOff keeps a line")
	}
}

type failing struct{ after int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteTextReportsErrors(t *testing.T) {
	var c fakeClock
	l := NewLog(c.now, 4)
	l.For("x").Infof("a")
	if err := l.WriteText(&failing{}, LevelInfo); err != errFull {
		t.Errorf("log: %v", err)
	}
	tr := NewTracer(c.now, 4)
	p := tr.NewPoint("p", "")
	tr.Enable("*")
	p.Emit()
	if err := tr.WriteText(&failing{}); err != errFull {
		t.Errorf("events: %v", err)
	}
	var s Counters
	s.New("n")
	if err := s.WriteText(&failing{}); err != errFull {
		t.Errorf("counters: %v", err)
	}
	for n := range 3 {
		if err := Dump(&failing{after: n}); err != errFull {
			t.Errorf("Dump into a writer that fails after %d: %v", n, err)
		}
	}
}

// Lines of several goroutines come out whole, once, and in the log's order.
func TestLogConcurrent(t *testing.T) {
	var c fakeClock
	var con bytes.Buffer
	l := NewLog(c.now, 1000)
	l.SetConsole(&con, LevelInfo)
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			g := l.For(fmt.Sprint("c", k))
			for i := range burst {
				g.Infof("line %d", i)
				l.Records(0)
			}
		})
	}
	wg.Wait()
	var text bytes.Buffer
	l.WriteText(&text, LevelInfo)
	if con.String() != text.String() || strings.Count(text.String(), "\n") != 4*burst {
		t.Errorf("console and log differ, or lines are missing:\n%s\n---\n%s", con.String(), text.String())
	}
}
