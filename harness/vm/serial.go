package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Line is one finished line of the serial console.
type Line struct {
	N    int       // number, from 0
	At   time.Time // when its end was read
	Text string    // without line end and terminal control sequences
}

const (
	consoleKeep = 8 << 20 // bytes of console text kept for matching
	lineMax     = 64 << 10
)

// console collects the serial port's output: to a file and an echo as it comes,
// and as lines for the matcher.
type console struct {
	file io.Writer
	echo io.Writer
	now  func() time.Time

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each new line, and at the end
	lines   []Line
	base    int // number of lines[0]
	bytes   int // of text in lines
	partial []byte
	err     error // first failure to write the log
	closed  bool
}

func newConsole(file, echo io.Writer) *console {
	return &console{file: file, echo: echo, now: time.Now, changed: make(chan struct{})}
}

// Write takes the next bytes of the console; it never fails, so that a full
// disk does not stop the guest.
func (c *console) Write(p []byte) (int, error) {
	if c.echo != nil {
		c.echo.Write(p) //nolint:errcheck // the reader of the echo may go away
	}
	at := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil && c.err == nil {
		_, c.err = c.file.Write(p)
	}
	rest := p
	for {
		line, tail, found := bytes.Cut(rest, []byte{'\n'})
		if len(c.partial)+len(line) <= lineMax {
			c.partial = append(c.partial, line...)
		}
		if !found {
			break
		}
		c.endLine(at)
		rest = tail
	}
	return len(p), nil
}

// endLine makes the partial line a finished one. Caller must hold mu.
func (c *console) endLine(at time.Time) {
	text := cleanLine(c.partial)
	c.partial = c.partial[:0]
	c.lines = append(c.lines, Line{N: c.base + len(c.lines), At: at, Text: text})
	c.bytes += len(text)
	if c.bytes > consoleKeep {
		half := len(c.lines) / 2
		for _, l := range c.lines[:half] {
			c.bytes -= len(l.Text)
		}
		c.base += half
		c.lines = append([]Line(nil), c.lines[half:]...)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// finish ends the console: a last line without line end counts as one.
func (c *console) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if len(c.partial) > 0 {
		c.endLine(c.now())
	}
	c.closed = true
	close(c.changed)
}

// errConsoleClosed: the machine is gone and the line did not come.
var errConsoleClosed = errors.New("the console ended")

// wait returns the first line numbered from or more that matches re.
func (c *console) wait(re *regexp.Regexp, from int, timeout <-chan time.Time) (Line, error) {
	for {
		c.mu.Lock()
		lines, base, changed, closed := c.lines, c.base, c.changed, c.closed
		c.mu.Unlock()
		for i := max(from-base, 0); i < len(lines); i++ {
			if re.MatchString(lines[i].Text) {
				return lines[i], nil
			}
		}
		from = base + len(lines)
		if closed {
			return Line{}, errConsoleClosed
		}
		select {
		case <-changed:
		case <-timeout:
			return Line{}, errTimeout
		}
	}
}

var errTimeout = errors.New("timed out")

// snapshot returns the lines kept so far.
func (c *console) snapshot() []Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Line(nil), c.lines...)
}

// tail is the last n lines for an error text.
func (c *console) tail(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := c.lines[max(len(c.lines)-n, 0):]
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "\n  | %s", l.Text)
	}
	if len(c.partial) > 0 {
		fmt.Fprintf(&b, "\n  | %s", cleanLine(c.partial))
	}
	if b.Len() == 0 {
		return "\n  | (nothing on the console)"
	}
	return b.String()
}

// ecma48 matches the control sequences that firmware and Linux send to a
// terminal: CSI sequences and two-character escapes (ECMA-48 §5.3, §5.4).
var ecma48 = regexp.MustCompile("\x1b(\\[[0-?]*[ -/]*[@-~]|[@-Z\\\\-_a-z])")

func cleanLine(b []byte) string {
	s := strings.TrimRight(string(b), "\r")
	if strings.IndexByte(s, 0x1b) >= 0 {
		s = ecma48.ReplaceAllString(s, "")
	}
	if i := strings.LastIndexByte(s, '\r'); i >= 0 {
		s = s[i+1:]
	}
	return s
}
