package fd

import (
	"encoding/binary"
	"sync"
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Line is the hardware behind a terminal: the machine's console.
type Line interface {
	Write(p []byte) (int, error)
}

// TTY is the console as a terminal: termios(3) with canonical and raw input, echo,
// the signals of control characters, and output with ONLCR. One process group is in
// the foreground; groups in the background are not stopped.
type TTY struct {
	line Line
	// Signal sends a signal to a process group: what ^C does. Nil: nobody gets it.
	Signal func(pgrp int, sig syscall.Signal)

	mu      sync.Mutex
	t       termios
	input   []byte // lines that are complete, or in raw mode all
	edit    []byte // the line that is being typed
	eofs    []int  // where in input a ^D ends a read
	winsize [8]byte
	pgrp    int
	session int
	column  int
	list    poll.List
}

// termios is struct termios of the kernel, 36 bytes.
type termios struct {
	iflag, oflag, cflag, lflag uint32
	line                       byte
	cc                         [19]byte
}

const termiosSize = 36

// Bits and characters of termios that count here.
const (
	inlcr, igncr, icrnl, istrip                 = 0o100, 0o200, 0o400, 0o40
	opost, onlcr                                = 1, 4
	isig, icanon, echo, echoe, echok, echonl    = 1, 2, 0o10, 0o20, 0o40, 0o100
	echoctl, iexten, noflsh                     = 0o1000, 0o100000, 0o200
	vintr, vquit, verase, vkill, veof           = 0, 1, 2, 3, 4
	vtime, vmin, vsusp, veol, vwerase, veol2    = 5, 6, 10, 11, 14, 16
	ttyInput                                    = 4096 // bytes that are kept of what nobody reads
	tcgets, tcsets, tcsetsw, tcsetsf            = 0x5401, 0x5402, 0x5403, 0x5404
	tcsbrk, tcxonc, tcflsh                      = 0x5409, 0x540a, 0x540b
	tiocsctty, tiocgpgrp, tiocspgrp, tiocoutq   = 0x540e, 0x540f, 0x5410, 0x5411
	tiocgwinsz, tiocswinsz, fionread, tiocnotty = 0x5413, 0x5414, 0x541b, 0x5422
	tiocgsid, tiocgetd, tiocsetd, tcsbrkp       = 0x5429, 0x5424, 0x5423, 0x5425
)

// NewTTY is a terminal on line, as a new one on Linux is set: 38400 baud, cooked. It
// has 24 rows and 80 columns.
func NewTTY(line Line) *TTY {
	t := &TTY{line: line}
	t.t = termios{iflag: icrnl | 0o2000, oflag: opost | onlcr, cflag: 0o17 | 0o60 | 0o200 | 0o2000,
		lflag: isig | icanon | echo | echoe | echok | echoctl | 0o4000 | iexten}
	t.t.cc = [19]byte{3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0}
	binary.LittleEndian.PutUint16(t.winsize[0:], 24)
	binary.LittleEndian.PutUint16(t.winsize[2:], 80)
	return t
}

// Opener opens the terminal as what is at p.
func (t *TTY) Opener() vfs.Opener {
	return func(p vfs.Path, flags int) (vfs.File, error) { return &ttyFile{t, p.Node()}, nil }
}

// OpenFile is the terminal as a description without a path: a program's standard
// descriptors before there is a /dev.
func (t *TTY) OpenFile(flags int) *Open { return NewOpen(&ttyFile{t, nil}, flags) }

// TTY is the terminal that o is, nil if it is none.
func (o *Open) TTY() *TTY {
	if f, ok := o.file.(*ttyFile); ok {
		return f.TTY
	}
	return nil
}

// ttyFile is one open of the terminal.
type ttyFile struct {
	*TTY
	node vfs.Node
}

func (f *ttyFile) Node() vfs.Node  { return f.node }
func (f *ttyFile) Seekable() bool  { return false }
func (f *ttyFile) Sync(bool) error { return syscall.EINVAL }
func (f *ttyFile) Close() error    { return nil }

// Attr is fstat of a terminal without a node: /dev/console.
func (f *ttyFile) Attr() (vfs.Attr, error) {
	return vfs.Attr{Dev: anonDev, Ino: anonIno, Type: vfs.TypeChar, Mode: 0o620, Nlink: 1, Rdev: vfs.Mkdev(5, 1), BlockSize: 1024}, nil
}

// Describe is its name.
func (f *ttyFile) Describe() string { return "/dev/console" }

// Session and Foreground are the session that it controls, 0 for none, and the
// foreground process group.
func (t *TTY) Session() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.session
}

// Take makes it the controlling terminal of a session, whose leader's group comes to
// the foreground; false where it has one already.
func (t *TTY) Take(session, pgrp int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session != 0 && t.session != session {
		return false
	}
	if t.session == 0 {
		t.session, t.pgrp = session, pgrp
	}
	return true
}

// Leave ends that.
func (t *TTY) Leave(session int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session == session {
		t.session, t.pgrp = 0, 0
	}
}

// Foreground is the foreground process group.
func (t *TTY) Foreground() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pgrp
}

// SetForeground sets it.
func (t *TTY) SetForeground(pgrp int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pgrp = pgrp
}

// Input is what has been typed.
func (t *TTY) Input(p []byte) {
	var sig syscall.Signal
	t.mu.Lock()
	for _, c := range p {
		if s := t.typed(c); s != 0 {
			sig = s
		}
	}
	ready, pgrp, f := t.readable(), t.pgrp, t.Signal
	t.mu.Unlock()
	if ready {
		t.list.Notify(poll.In)
	}
	if sig != 0 && f != nil && pgrp != 0 {
		f(pgrp, sig)
	}
}

// typed takes one character. Caller must hold mu.
func (t *TTY) typed(c byte) syscall.Signal {
	k := &t.t
	if k.iflag&istrip != 0 {
		c &= 0x7f
	}
	switch {
	case c == '\r' && k.iflag&igncr != 0:
		return 0
	case c == '\r' && k.iflag&icrnl != 0:
		c = '\n'
	case c == '\n' && k.iflag&inlcr != 0:
		c = '\r'
	}
	if k.lflag&isig != 0 {
		for _, s := range [...]struct {
			i   int
			sig syscall.Signal
		}{{vintr, syscall.SIGINT}, {vquit, syscall.SIGQUIT}, {vsusp, syscall.SIGTSTP}} {
			if c != 0 && c == k.cc[s.i] {
				t.echo(c)
				if k.lflag&noflsh == 0 {
					t.edit, t.input, t.eofs = t.edit[:0], t.input[:0], t.eofs[:0]
				}
				return s.sig
			}
		}
	}
	if k.lflag&icanon == 0 {
		if len(t.input) < ttyInput {
			t.input = append(t.input, c)
		}
		t.echo(c)
		return 0
	}
	switch {
	case c != 0 && c == k.cc[verase]:
		if n := len(t.edit); n > 0 {
			t.rubOut(1)
		}
	case c != 0 && c == k.cc[vwerase] && k.lflag&iexten != 0:
		n := len(t.edit)
		for n > 0 && t.edit[n-1] == ' ' {
			n--
		}
		for n > 0 && t.edit[n-1] != ' ' {
			n--
		}
		t.rubOut(len(t.edit) - n)
	case c != 0 && c == k.cc[vkill]:
		t.rubOut(len(t.edit))
	case c != 0 && c == k.cc[veof]:
		t.commit()
		t.eofs = append(t.eofs, len(t.input))
	case c == '\n', c != 0 && (c == k.cc[veol] || c == k.cc[veol2]):
		t.edit = append(t.edit, c)
		if k.lflag&(echo|echonl) != 0 {
			t.out([]byte{c})
		}
		t.commit()
	default:
		if len(t.edit)+len(t.input) < ttyInput-1 {
			t.edit = append(t.edit, c)
			t.echo(c)
		}
	}
	return 0
}

func (t *TTY) commit() {
	t.input = append(t.input, t.edit...)
	t.edit = t.edit[:0]
}

// rubOut takes n characters off the line, on the screen too.
func (t *TTY) rubOut(n int) {
	for ; n > 0; n-- {
		c := t.edit[len(t.edit)-1]
		t.edit = t.edit[:len(t.edit)-1]
		if t.t.lflag&(echo|echoe) == echo|echoe {
			t.out([]byte("\b \b"))
			if c < ' ' && t.t.lflag&echoctl != 0 {
				t.out([]byte("\b \b"))
			}
		}
	}
}

// echo shows a character, control characters as ^X.
func (t *TTY) echo(c byte) {
	if t.t.lflag&echo == 0 {
		return
	}
	if t.t.lflag&echoctl != 0 && (c < ' ' && c != '\n' && c != '\t' || c == 0x7f) {
		t.out([]byte{'^', c ^ 0x40})
		return
	}
	t.out([]byte{c})
}

// out writes p to the line with the output flags. Caller must hold mu.
func (t *TTY) out(p []byte) {
	if t.t.oflag&opost == 0 || t.t.oflag&onlcr == 0 {
		_, _ = t.line.Write(p)
		return
	}
	start := 0
	for i, c := range p {
		if c == '\n' {
			_, _ = t.line.Write(p[start:i])
			_, _ = t.line.Write([]byte("\r\n"))
			start = i + 1
		}
	}
	if start < len(p) {
		_, _ = t.line.Write(p[start:])
	}
}

// readable says whether a read would return something. Caller must hold mu.
func (t *TTY) readable() bool {
	if t.t.lflag&icanon != 0 {
		return len(t.input) > 0 || len(t.eofs) > 0
	}
	return len(t.input) >= max(int(t.t.cc[vmin]), 1)
}

// Read returns at most a line in canonical mode.
func (f *ttyFile) Read(d vfs.Dst, _ int64) (int, error) {
	t := f.TTY
	if d.Room() == 0 {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	canonical := t.t.lflag&icanon != 0
	if len(t.input) == 0 && len(t.eofs) == 0 || !canonical && !t.readable() {
		if !canonical && t.t.cc[vmin] == 0 {
			// No timer between characters: a read that may return nothing does so at once.
			if len(t.input) == 0 {
				return 0, nil
			}
		} else {
			return 0, syscall.EAGAIN
		}
	}
	n := min(len(t.input), d.Room())
	if canonical {
		line := false
		for i, c := range t.input[:n] {
			if line = c == '\n' || c != 0 && (c == t.t.cc[veol] || c == t.t.cc[veol2]); line {
				n = i + 1
				break
			}
		}
		// A ^D ends a line like a newline that is not there; right after one it is the
		// end of the file, told by the next read.
		if len(t.eofs) > 0 && (t.eofs[0] < n || t.eofs[0] == n && !line) {
			n = t.eofs[0]
			t.eofs = t.eofs[:copy(t.eofs, t.eofs[1:])]
		}
	}
	k, err := d.Put(t.input[:n])
	t.input = t.input[:copy(t.input, t.input[k:])]
	for i := range t.eofs {
		t.eofs[i] -= k
	}
	if k > 0 {
		err = nil
	}
	return k, err
}

// Write writes to the console.
func (f *ttyFile) Write(s vfs.Src, off int64, _ bool) (int, int64, error) {
	b := pipePages.Get().(*page)
	defer pipePages.Put(b)
	total := 0
	for s.Left() > 0 {
		n, err := s.Take(b[:])
		f.mu.Lock()
		f.out(b[:n])
		f.mu.Unlock()
		total += n
		if err != nil {
			if total > 0 {
				err = nil
			}
			return total, off, err
		}
	}
	return total, off, nil
}

// Ready is what can be done: writing always.
func (t *TTY) Ready() poll.Events {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readable() {
		return poll.In | poll.Out
	}
	return poll.Out
}

// Watch has w told of input.
func (t *TTY) Watch(w *poll.Waiter) { t.list.Add(w) }

// Unwatch ends that.
func (t *TTY) Unwatch(w *poll.Waiter) { t.list.Remove(w) }
