package trace

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestEventText(t *testing.T) {
	var c fakeClock
	tr := NewTracer(c.now, 16)
	rx := tr.NewPoint("net.rx", "queue %d frames %u")
	odd := tr.NewPoint("all.verbs", "%d %u %x %#x")
	more := tr.NewPoint("more.verbs", "100%% %t from %a")
	if _, err := tr.Enable("*"); err != nil {
		t.Fatal(err)
	}
	const minusOne = ^uint64(0)
	c.set(1500 * time.Microsecond)
	rx.Emit(1, 64)
	odd.Emit(minusOne, minusOne, 0xbeef, 0xbeef)
	c.set(61 * time.Second)
	more.Emit(1500000, 0x0a000205)
	more.Emit(0) // an argument is missing
	rx.Emit(1, 2, 3, 4)
	rx.Emit(1, 2, 3, 4, 5) // one more than an event carries
	var text bytes.Buffer
	if err := tr.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "events.golden", text.Bytes())
	e := tr.Snapshot()[0]
	if e.Text() != "queue 1 frames 64" || e.Point != rx || e.N != 2 || e.At != 1500*time.Microsecond {
		t.Errorf("first event: %+v", e)
	}
	if rx.Name() != "net.rx" || rx.Format() != "queue %d frames %u" {
		t.Errorf("point: %q %q", rx.Name(), rx.Format())
	}
}

func TestEnableByPattern(t *testing.T) {
	var c fakeClock
	tr := NewTracer(c.now, 16)
	names := []string{"net.rx", "net.tx", "net.tcp.rto", "blk.rw"}
	for _, n := range names {
		tr.NewPoint(n, "")
	}
	on := func() string {
		var s []string
		for _, p := range tr.Points() {
			if p.On() {
				s = append(s, p.Name())
			}
		}
		return strings.Join(s, " ")
	}
	for _, step := range []struct {
		do   string // + enable, - disable
		want string
	}{
		{"+", ""},
		{"+net.?x", "net.rx net.tx"},
		{"-net.t*", "net.rx"},
		{"+ blk.* , net.tcp.*,", "blk.rw net.rx net.tcp.rto"},
		{"+nothing", "blk.rw net.rx net.tcp.rto"},
		{"-*", ""},
		{"+net.*", "net.rx net.tcp.rto net.tx"},
	} {
		var err error
		n := -1
		if step.do[0] == '+' {
			n, err = tr.Enable(step.do[1:])
		} else {
			err = tr.Disable(step.do[1:])
		}
		if got := on(); got != step.want || err != nil || n >= 0 && n != len(strings.Fields(step.want)) {
			t.Errorf("%q: on are %q (%d), %v; want %q", step.do, got, n, err, step.want)
		}
	}
	if !tr.NewPoint("net.later", "").On() || tr.NewPoint("blk.later", "").On() {
		t.Error("a point registered later does not follow the patterns")
	}
	for range 100 {
		tr.Disable("net.later")
		tr.Enable("net.later")
	}
	if len(tr.rules) > 8 {
		t.Errorf("%d rules for the same few patterns", len(tr.rules))
	}
	before := on()
	if _, err := tr.Enable("blk.*,net.[a"); err == nil || !strings.Contains(err.Error(), "net.[a") {
		t.Errorf("malformed pattern: %v", err)
	}
	if err := tr.Disable("[]"); err == nil {
		t.Error("malformed pattern accepted")
	}
	if on() != before {
		t.Error("a malformed pattern changed something")
	}
}

// A point that is off records nothing, guarded or not, before and after the ring
// exists.
func TestPointOff(t *testing.T) {
	var c fakeClock
	tr := NewTracer(c.now, 4)
	p, q := tr.NewPoint("p", ""), tr.NewPoint("q", "")
	p.Emit()
	if tr.Snapshot() != nil || tr.Emitted() != 0 || tr.Lost() != 0 || tr.ring.Load() != nil {
		t.Error("an event, or a ring, without a point that is on")
	}
	tr.Enable("q")
	p.Emit()
	q.Emit()
	if n := len(tr.Snapshot()); n != 1 || tr.Emitted() != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestNewPointTwice(t *testing.T) {
	var c fakeClock
	tr := NewTracer(c.now, 4)
	if tr.NewPoint("p", "%d") != tr.NewPoint("p", "%d") {
		t.Error("two points of one name")
	}
	for format, want := range map[string]string{
		"%u":             "registered with format",
		"%s":             `no such verb at "%s"`,
		"trailing %":     `no such verb at "%"`,
		"%#d":            `no such verb at "%#d"`,
		"%d %d %d %d %d": "5 arguments",
	} {
		msg := func() (msg string) {
			defer func() { msg = fmt.Sprint(recover()) }()
			tr.NewPoint("p", format)
			return ""
		}()
		if !strings.Contains(msg, want) || !strings.Contains(msg, "point p") {
			t.Errorf("NewPoint(p, %q) panics with %q, want %q", format, msg, want)
		}
	}
}

// What a point that is off costs rests on On being inlined.
func TestOnIsInlined(t *testing.T) {
	out, err := exec.Command("go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, f := range []string{"(*Point).On", "(*Counter).Add", "(*Cell).Add"} {
		if !strings.Contains(string(out), "can inline "+f+"\n") {
			t.Errorf("%s is not inlined", f)
		}
	}
}

func TestNoAllocs(t *testing.T) {
	tr := NewTracer(now, 64)
	off, on := tr.NewPoint("off", "%d"), tr.NewPoint("on", "%d %d %d %d")
	tr.Enable("on")
	var s Counters
	counter := s.New("n")
	cell := counter.Cell()
	log := NewLog(now, 4).For("x")
	i := uint64(0)
	for _, test := range []struct {
		name string
		f    func()
	}{
		{"off", func() {
			if off.On() {
				off.Emit(i)
			}
		}},
		{"off, not guarded", func() { off.Emit(i) }},
		{"Emit", func() { on.Emit(i, i, i, i) }},
		{"Counter.Add", func() { counter.Add(i) }},
		{"Cell.Add", func() { cell.Add(i) }},
		{"Enabled", func() { log.Enabled(LevelDebug) }},
	} {
		if n := testing.AllocsPerRun(1000, func() { test.f(); i += 12345 }); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

var sink uint64

func BenchmarkPointOff(b *testing.B) {
	p := NewTracer(now, 64).NewPoint("p", "%d")
	for i := range b.N {
		if p.On() {
			p.Emit(uint64(i))
		}
		sink++
	}
}

// The loop of BenchmarkPointOff without the point.
func BenchmarkNothing(b *testing.B) {
	for range b.N {
		sink++
	}
}

func BenchmarkEmit(b *testing.B) {
	tr := NewTracer(now, 4096)
	p := tr.NewPoint("p", "%d %d")
	tr.Enable("*")
	b.ReportAllocs()
	for i := range b.N {
		if p.On() {
			p.Emit(uint64(i), 1)
		}
	}
}

func BenchmarkEmitParallel(b *testing.B) {
	tr := NewTracer(now, 4096)
	p := tr.NewPoint("p", "%d %d")
	tr.Enable("*")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.Emit(1, 2)
		}
	})
}

func TestCounting(t *testing.T) {
	tr := NewTracer(now, 64)
	p := tr.NewPoint("p", "%d")
	emit := func(n int) {
		for range n {
			p.Emit(1)
		}
	}
	p.SetCounting(true)
	emit(3) // the point is off
	if p.Counted() != 0 {
		t.Errorf("off: %d counted", p.Counted())
	}
	tr.Enable("p")
	emit(100) // more than the ring holds
	p.SetCounting(true)
	emit(5)
	if p.Counted() != 105 {
		t.Errorf("%d counted, want 105", p.Counted())
	}
	p.SetCounting(false)
	emit(5)
	if p.Counted() != 105 {
		t.Errorf("%d counted after the end, want 105", p.Counted())
	}
	p.SetCounting(true)
	if p.Counted() != 0 {
		t.Errorf("%d at the start", p.Counted())
	}
}
