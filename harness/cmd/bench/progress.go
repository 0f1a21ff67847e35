package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/bench"
)

// progress shows where a run is: one line that is written over on a terminal,
// plain lines elsewhere.
type progress struct {
	w       io.Writer
	tty     bool
	verbose bool
	began   time.Time
	first   int           // windows that were done when it began, by a run before
	left    time.Duration // estimate of the rest at that moment
	started bool
	open    bool // an unfinished line is on the screen
	width   int
}

func newProgress(w io.Writer, verbose bool) *progress {
	p := &progress{w: w, verbose: verbose, began: now()}
	if f, ok := w.(*os.File); ok {
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			p.tty, p.width = true, int(ws.Col)
		}
	}
	return p
}

// note writes a line that stays.
func (p *progress) note(s string) {
	p.clear()
	fmt.Fprintln(p.w, s)
}

func (p *progress) clear() {
	if p.open {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.open = false
	}
}

// event shows a step with the time that is left, as far as the past tells.
func (p *progress) event(e bench.Event) {
	if !p.started && !e.Preparing {
		p.started, p.first, p.left, p.began = true, e.Done, e.Left, now()
	}
	line := fmt.Sprintf("[%d/%d", e.Done, e.Total)
	if left, ok := p.eta(e); ok {
		line += ", " + left.Round(time.Second).String() + " left"
	}
	line += "] " + e.Text
	switch {
	case e.Problem:
		p.note("problem: " + e.Text)
	case p.tty && !p.verbose:
		if p.width > 1 && len(line) > p.width-1 {
			line = line[:p.width-1]
		}
		fmt.Fprint(p.w, "\r\x1b[K"+line)
		p.open = true
	default:
		fmt.Fprintln(p.w, line)
	}
}

// eta is the estimate of what is left, scaled by how this machine has kept to the
// estimate of what is behind.
func (p *progress) eta(e bench.Event) (time.Duration, bool) {
	if e.Left <= 0 {
		return 0, false
	}
	if e.Done-p.first < 2 || p.left <= e.Left {
		return e.Left, true
	}
	pace := float64(now().Sub(p.began)) / float64(p.left-e.Left)
	return time.Duration(pace * float64(e.Left)), true
}

func (p *progress) done() { p.clear() }
