package trace

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Level says how much a log line matters.
type Level uint32

const (
	LevelDebug Level = iota // for whoever looks for a fault
	LevelInfo               // what the machine is and did
	LevelWarn               // something is wrong, and was worked around
	LevelError              // something failed
	LevelOff                // as a threshold: nothing passes
)

var levelNames = [...]string{"debug", "info", "warn", "error", "off"}

// String returns the level's name as ParseLevel takes it.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level %d", uint32(l))
}

// ParseLevel returns the level of that name.
func ParseLevel(name string) (Level, error) {
	for i, n := range levelNames {
		if n == name {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("log level %q is none of %s", name, strings.Join(levelNames[:], ", "))
}

// maxLine is how many bytes of a line are kept.
const maxLine = 1024

// Record is one line of the log.
type Record struct {
	Seq       uint64        // 0 for the first line since boot, then one more each
	At        time.Duration // since boot
	Level     Level
	Component string
	Text      string        // one line, printable
	Repeats   uint64        // how often the same line came again right after
	Last      time.Duration // when it came last
}

// Log is a bounded log: it holds the last lines, and copies those that matter to
// a console. Create one with NewLog.
type Log struct {
	now func() time.Duration
	min atomic.Uint32 // lines below this level are dropped

	mu      sync.Mutex // guards all below; held while the console is written to
	ring    []Record   // record n is at n % cap
	size    int
	next    uint64 // Seq of the next record
	comps   map[string]*component
	console console
	buf     []byte
}

type component struct {
	name   string
	budget budget
}

// NewLog returns a log that holds size lines, takes their time from clock, drops
// those below LevelInfo, and has no console.
func NewLog(clock func() time.Duration, size int) *Log {
	l := &Log{now: clock, size: max(size, 1), comps: map[string]*component{}}
	l.console.min = LevelOff
	l.SetLevel(LevelInfo)
	return l
}

// SetLevel drops lines below min from now on.
func (l *Log) SetLevel(min Level) { l.min.Store(uint32(min)) }

// Logger writes the lines of one component. It may be used by any number of
// goroutines.
type Logger struct {
	log  *Log
	comp *component
}

// For returns the logger of a component. Components are few and named in code:
// each is remembered for good.
func (l *Log) For(name string) *Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.comps[name]
	if c == nil {
		c = &component{name: name, budget: budget{since: -window}}
		l.comps[name] = c
	}
	return &Logger{l, c}
}

// Enabled says whether a line of this level would be kept: ask before preparing
// what only such a line needs.
func (g *Logger) Enabled(l Level) bool { return uint32(l) >= g.log.min.Load() }

// Debugf logs a line for whoever looks for a fault. Formats are those of fmt.
func (g *Logger) Debugf(format string, args ...any) { g.logf(LevelDebug, format, args...) }

// Infof logs what the machine is or did.
func (g *Logger) Infof(format string, args ...any) { g.logf(LevelInfo, format, args...) }

// Warnf logs what is wrong and was worked around.
func (g *Logger) Warnf(format string, args ...any) { g.logf(LevelWarn, format, args...) }

// Errorf logs what failed.
func (g *Logger) Errorf(format string, args ...any) { g.logf(LevelError, format, args...) }

func (g *Logger) logf(l Level, format string, args ...any) {
	if !g.Enabled(l) {
		return
	}
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	for line := range strings.SplitSeq(text, "\n") {
		g.log.add(g.comp, l, clean(line))
	}
}

// clean makes a line safe to print: what a peer or a device wrote may be in it.
func clean(s string) string {
	if len(s) > maxLine {
		s = s[:maxLine-3] + "..."
	}
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ' || r >= 0x7f && r < 0xa0: // C0, DEL, C1
			return '?'
		}
		return r
	}, s)
}

func (l *Log) add(c *component, level Level, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.now()
	if l.next > 0 {
		if r := &l.ring[(l.next-1)%uint64(l.size)]; r.Level == level && r.Component == c.name && r.Text == text {
			r.Repeats++
			r.Last = at
			l.repeat(r)
			return
		}
		l.flushRepeats()
	}
	r := Record{Seq: l.next, At: at, Level: level, Component: c.name, Text: text, Last: at}
	if len(l.ring) < l.size {
		l.ring = append(l.ring, r)
	} else {
		l.ring[l.next%uint64(l.size)] = r
	}
	l.next++
	l.print(c, &r)
}

// Records returns the lines from sequence number from on that are still held, in
// order.
func (l *Log) Records(from uint64) []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	from = max(from, l.next-uint64(len(l.ring)))
	var out []Record
	for ; from < l.next; from++ {
		out = append(out, l.ring[from%uint64(l.size)])
	}
	return out
}

// WriteText prints the lines of level min and above, as the console shows them.
func (l *Log) WriteText(w io.Writer, min Level) error {
	var b []byte
	for _, r := range l.Records(0) {
		if r.Level < min {
			continue
		}
		b = appendLine(b[:0], r.At, r.Level, r.Component, r.Text)
		if r.Repeats > 0 {
			b = appendLine(b, r.Last, r.Level, r.Component, repeated(r.Repeats))
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func appendLine(b []byte, at time.Duration, l Level, component, text string) []byte {
	b = appendStamp(b, at)
	return fmt.Appendf(b, "%-5s %s: %s\n", l, component, text)
}

func repeated(n uint64) string {
	if n == 1 {
		return "last message repeated once"
	}
	return fmt.Sprintf("last message repeated %d times", n)
}
