package trace

import (
	"fmt"
	"io"
	"time"
)

// A serial line takes about 90 µs per byte, and the log keeps everything anyway:
// so the console gets neither the same line twice in a row nor more than a
// budget of lines of one component.
const (
	repeatEvery = 5 * time.Second // while a line repeats, say so this often
	burst       = 100             // lines that a component may print …
	window      = 5 * time.Second // … in this time
)

// console is where a log's lines are printed. Guarded by Log.mu.
type console struct {
	w   io.Writer
	min Level

	shown   bool          // the newest record was printed
	repeats uint64        // of it, since it or its count was printed last
	saidAt  time.Duration // when that was
}

// budget counts what one component printed in the current window.
type budget struct {
	since   time.Duration
	printed int
	dropped uint64
}

// SetConsole prints lines of level min and above on w from now on, each with one
// Write. w must not log. A nil w or LevelOff ends printing.
func (l *Log) SetConsole(w io.Writer, min Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushRepeats()
	if w == nil {
		min = LevelOff
	}
	l.console = console{w: w, min: min}
}

// Flush prints the pending count of repeats, if any.
func (l *Log) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushRepeats()
}

// print shows a new record on the console. Caller holds mu.
func (l *Log) print(c *component, r *Record) {
	t := &l.console
	t.shown = false
	if r.Level < t.min || r.Level >= LevelOff || t.w == nil {
		return
	}
	b := &c.budget
	if r.At-b.since >= window {
		if b.dropped > 0 {
			l.write(r.At, LevelWarn, c.name, fmt.Sprintf("%d lines not printed (see the log)", b.dropped))
		}
		*b = budget{since: r.At}
	}
	if b.printed >= burst {
		b.dropped++
		return
	}
	b.printed++
	t.shown, t.repeats, t.saidAt = true, 0, r.At
	l.write(r.At, r.Level, r.Component, r.Text)
}

// repeat notes that the newest record came again. Caller holds mu.
func (l *Log) repeat(r *Record) {
	t := &l.console
	if !t.shown {
		return
	}
	t.repeats++
	if r.Last-t.saidAt >= repeatEvery {
		l.flushRepeats()
	}
}

// flushRepeats says how often the newest record came again since that was said
// last. Caller holds mu.
func (l *Log) flushRepeats() {
	t := &l.console
	if !t.shown || t.repeats == 0 {
		return
	}
	r := &l.ring[(l.next-1)%uint64(l.size)]
	l.write(r.Last, r.Level, r.Component, repeated(t.repeats))
	t.repeats, t.saidAt = 0, r.Last
}

// write prints one line. There is nobody to tell of an error. Caller holds mu.
func (l *Log) write(at time.Duration, level Level, component, text string) {
	l.buf = appendLine(l.buf[:0], at, level, component, text)
	l.console.w.Write(l.buf)
}
