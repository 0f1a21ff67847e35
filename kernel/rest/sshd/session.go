package sshd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"osv/kernel/rest/machine"
	"osv/kernel/rest/shell"
)

// session is one channel of type session (RFC 4254 §6).
type session struct {
	s    *Server
	conn *ssh.ServerConn
	ch   ssh.Channel

	pty           bool
	width, height atomic.Int32
	terminal      atomic.Pointer[term.Terminal]

	mu        sync.Mutex
	interrupt context.CancelFunc // of the command that runs; guarded by mu
}

func newSession(s *Server, conn *ssh.ServerConn, ch ssh.Channel) *session {
	return &session{s: s, conn: conn, ch: ch}
}

// serve answers the requests of the channel. The first of shell, exec and subsystem
// is served beside them, as the channel's one program.
func (n *session) serve(ctx context.Context, reqs <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	var program sync.WaitGroup
	defer program.Wait()
	defer cancel()
	started := false
	start := func(run func(ctx context.Context) int) bool {
		if started {
			return false
		}
		started = true
		program.Go(func() {
			status := run(ctx)
			n.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
			n.ch.Close()
		})
		return true
	}
	defer n.ch.Close()
	for r := range reqs {
		ok := false
		switch r.Type {
		case "pty-req":
			var p struct {
				Term                 string
				Cols, Rows, PxW, PxH uint32
				Modes                string
			}
			if ok = ssh.Unmarshal(r.Payload, &p) == nil && !started; ok {
				n.pty = true
				n.resize(p.Cols, p.Rows)
			}
		case "window-change":
			var p struct{ Cols, Rows, PxW, PxH uint32 }
			if ok = ssh.Unmarshal(r.Payload, &p) == nil; ok {
				n.resize(p.Cols, p.Rows)
			}
		case "signal":
			var p struct{ Name string }
			if ok = ssh.Unmarshal(r.Payload, &p) == nil; ok && (p.Name == "INT" || p.Name == "TERM" || p.Name == "HUP") {
				n.cancel()
			}
		case "shell":
			ok = start(n.shell)
		case "exec":
			var p struct{ Command string }
			if ssh.Unmarshal(r.Payload, &p) == nil {
				ok = start(func(ctx context.Context) int { return n.exec(ctx, p.Command) })
			}
		case "subsystem":
			var p struct{ Name string }
			if ssh.Unmarshal(r.Payload, &p) == nil && p.Name == "sftp" && n.s.cfg.Machine.Files != nil {
				ok = start(n.sftp)
			}
		}
		if r.WantReply {
			r.Reply(ok, nil)
		}
	}
}

// Sizes of a terminal that are believed.
const maxSide = 1000

func (n *session) resize(cols, rows uint32) {
	w, h := int(min(cols, maxSide)), int(min(rows, maxSide))
	if w == 0 || h == 0 {
		w, h = 80, 24
	}
	n.width.Store(int32(w))
	n.height.Store(int32(h))
	if t := n.terminal.Load(); t != nil {
		t.SetSize(w, h)
	}
}

// endPatience is how long a machine that is to end waits for the client to go.
const endPatience = 2 * time.Second

// cancel ends the command that runs.
func (n *session) cancel() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.interrupt != nil {
		n.interrupt()
	}
}

func (n *session) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.interrupt != nil
}

// run runs a line so that cancel ends it.
func (n *session) run(ctx context.Context, sh *shell.Shell, line string) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.mu.Lock()
	n.interrupt = cancel
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.interrupt = nil
		n.mu.Unlock()
	}()
	return sh.Run(ctx, line)
}

func (n *session) newShell(out, err io.Writer) *shell.Shell {
	sh := &shell.Shell{Machine: n.s.cfg.Machine, Out: out, Err: err}
	sh.End = func(a machine.Action) error {
		end, err := n.s.cfg.Machine.System.End(a)
		if err != nil {
			return err
		}
		log.Infof("%v: %s ends the machine", n.conn.RemoteAddr(), n.conn.User())
		go func() { // once the client has its status, or does not care to go
			gone := make(chan struct{})
			go func() { n.conn.Wait(); close(gone) }()
			select {
			case <-gone:
			case <-time.After(endPatience):
			}
			end()
		}()
		return nil
	}
	if n.pty {
		sh.Width = func() int { return int(n.width.Load()) }
	}
	return sh
}

// exec serves one command line.
func (n *session) exec(ctx context.Context, line string) int {
	if line == "scp" || strings.HasPrefix(line, "scp ") {
		fmt.Fprintln(n.ch.Stderr(), "scp: this guest speaks SFTP (scp of OpenSSH 9 does; before that scp -s)")
		return shell.NotFound
	}
	var out, errs io.Writer = n.ch, n.ch.Stderr()
	if n.pty {
		t := n.newTerminal(n.ch, "")
		out, errs = t, t
		go n.pump(nil) // for ^C
	}
	status, err := n.run(ctx, n.newShell(out, errs), line)
	if errors.Is(err, shell.ErrExit) {
		return shell.OK
	}
	return status
}

// shell serves an interactive session, or lines from a pipe.
func (n *session) shell(ctx context.Context) int {
	if !n.pty {
		return n.script(ctx)
	}
	r, w := io.Pipe()
	defer r.Close()
	go n.pump(w)
	sh := n.newShell(nil, nil)
	t := n.newTerminal(readWriter{r, n.ch}, n.prompt(sh))
	t.AutoCompleteCallback = complete
	sh.Out, sh.Err = t, t
	if n.s.cfg.Greeting != "" {
		fmt.Fprintln(t, n.s.cfg.Greeting)
	}
	status := shell.OK
	for {
		t.SetPrompt(n.prompt(sh))
		line, err := t.ReadLine()
		if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
			return status
		}
		if status, err = n.run(ctx, sh, line); err != nil || ctx.Err() != nil {
			return status
		}
	}
}

func (n *session) prompt(sh *shell.Shell) string {
	return fmt.Sprintf("%s:%s# ", n.s.cfg.Machine.System.Hostname(), sh.Dir())
}

func (n *session) newTerminal(rw io.ReadWriter, prompt string) *term.Terminal {
	t := term.NewTerminal(rw, prompt)
	t.SetSize(int(n.width.Load()), int(n.height.Load()))
	n.terminal.Store(t)
	return t
}

type readWriter struct {
	io.Reader
	io.Writer
}

// complete finishes the name of a command at Tab.
func complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' || strings.ContainsAny(line[:pos], " ;") {
		return "", 0, false
	}
	var only string
	for _, n := range shell.Names() {
		if strings.HasPrefix(n, line[:pos]) {
			if only != "" {
				return "", 0, false
			}
			only = n
		}
	}
	if only == "" {
		return "", 0, false
	}
	return only + " " + line[pos:], len(only) + 1, true
}

// Control characters of a terminal.
const (
	ctrlC = 3
	ctrlE = 5  // to the end of the line
	ctrlU = 21 // kill to the start
)

// pump passes on what the user types. ^C ends the command that runs; at the prompt it
// clears the line.
func (n *session) pump(w *io.PipeWriter) {
	b := make([]byte, 1024)
	for {
		k, err := n.ch.Read(b)
		var out []byte
		for _, c := range b[:k] {
			switch {
			case c == ctrlC && n.running():
				n.cancel()
			case c == ctrlC:
				out = append(out, ctrlE, ctrlU)
			default:
				out = append(out, c)
			}
		}
		if w != nil && len(out) > 0 {
			if _, werr := w.Write(out); werr != nil {
				return
			}
		}
		if err != nil {
			n.cancel()
			if w != nil {
				w.Close()
			}
			return
		}
	}
}

// maxLine is the longest line from a pipe, in bytes.
const maxLine = 64 << 10

// script serves lines without a terminal: ssh host < file.
func (n *session) script(ctx context.Context) int {
	sh := n.newShell(n.ch, n.ch.Stderr())
	in := bufio.NewScanner(n.ch)
	in.Buffer(make([]byte, 4096), maxLine)
	status := shell.OK
	for in.Scan() {
		var err error
		if status, err = n.run(ctx, sh, in.Text()); err != nil || ctx.Err() != nil {
			return status
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(n.ch.Stderr(), err)
		return shell.Usage
	}
	return status
}
