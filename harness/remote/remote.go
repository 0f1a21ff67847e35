// Package remote runs a program of this module on another machine by the system's
// ssh, and brings its results back. The other machine needs a shell, tar and what
// the program itself needs; nothing is installed on it but the program, under
// ~/.cache/osv/remote.
//
// How a run ends: its standard input is this side's connection. When that closes,
// because the run here is interrupted, killed or cut off, the shell over there
// sends the program SIGTERM and waits for it, so that it takes its guests away.
//
// Spec: OpenSSH's command line (ssh(1)), POSIX sh and tar's ustar and pax formats.
// Who may use it: the command line. May not: ask for passwords (BatchMode), write
// outside the folders that it is given. Start reading at Host.
package remote

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Host is another machine.
type Host struct {
	// Target is what ssh takes: user@host, or a name from its configuration.
	Target string
	// SSH is the program with its options; nil = ssh that never asks.
	SSH []string
}

// targetForm keeps a target from being taken for an option or a shell word.
var targetForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@:\[\]%-]*$`)

// Check reports a target that is none.
func (h Host) Check() error {
	if !targetForm.MatchString(h.Target) {
		return fmt.Errorf("remote: host %q: want user@host", h.Target)
	}
	return nil
}

// Quote is s as one word of a POSIX shell.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (h Host) command(ctx context.Context, script string) *exec.Cmd {
	ssh := h.SSH
	if len(ssh) == 0 {
		ssh = []string{"ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"}
	}
	cmd := exec.CommandContext(ctx, ssh[0], append(append([]string{}, ssh[1:]...), "-T", h.Target, script)...)
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Do runs a script over there and returns what it wrote; the error has the end of
// what it complained of.
func (h Host) Do(ctx context.Context, script string, in io.Reader) (string, error) {
	if err := h.Check(); err != nil {
		return "", err
	}
	cmd := h.command(ctx, script)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errs
	if err := cmd.Run(); err != nil {
		return "", h.failed(ctx, err, errs.String())
	}
	return out.String(), nil
}

func (h Host) failed(ctx context.Context, err error, said string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("remote: %w (Debian: apt-get install openssh-client)", err)
	}
	said = strings.TrimSpace(said)
	if i := strings.LastIndexByte(said, '\n'); i >= 0 {
		said = said[i+1:]
	}
	if said == "" {
		said = err.Error()
	}
	return fmt.Errorf("remote: %s: %s", h.Target, said)
}

// Put copies files into a folder over there: name there → file here. Files keep
// their mode; the folder is made.
func (h Host) Put(ctx context.Context, dir string, files map[string]string) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(pack(w, files)) }()
	defer r.Close()
	_, err := h.Do(ctx, "mkdir -p "+Quote(dir)+" && tar -x -f - -C "+Quote(dir), r)
	return err
}

func pack(w io.Writer, files map[string]string) error {
	tw := tar.NewWriter(w)
	for name, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		st, err := f.Stat()
		if err == nil {
			err = tw.WriteHeader(&tar.Header{Name: name, Mode: int64(st.Mode().Perm()), Size: st.Size(), ModTime: st.ModTime()})
		}
		if err == nil {
			_, err = io.Copy(tw, f)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return tw.Close()
}

// maxFetched bounds what Fetch takes from a machine that need not be trusted.
const maxFetched = 4 << 30

// Fetch copies a folder from over there. It takes plain files and folders only,
// and none whose name leads out of dir.
func (h Host) Fetch(ctx context.Context, from, dir string) error {
	if err := h.Check(); err != nil {
		return err
	}
	cmd := h.command(ctx, "tar -c -f - -C "+Quote(from)+" .")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("remote: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return h.failed(ctx, err, "")
	}
	unpackErr := unpack(out, dir)
	_, _ = io.Copy(io.Discard, out) // so that tar can end
	if err := cmd.Wait(); err != nil {
		return h.failed(ctx, err, errs.String())
	}
	return unpackErr
}

func unpack(r io.Reader, dir string) error {
	tr := tar.NewReader(io.LimitReader(r, maxFetched))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remote: results: %w", err)
		}
		name := path.Clean(h.Name)
		if !filepath.IsLocal(name) {
			return fmt.Errorf("remote: results: name %q leads out of the folder", h.Name)
		}
		to := filepath.Join(dir, name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(to, 0o755)
		case tar.TypeReg:
			if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
				err = writeFile(to, tr)
			}
		default:
			err = fmt.Errorf("%q is neither a file nor a folder", h.Name)
		}
		if err != nil {
			return fmt.Errorf("remote: results: %w", err)
		}
	}
}

func writeFile(name string, r io.Reader) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Run runs a command over there, its output coming here, and returns its exit
// status. When ctx ends, the command gets SIGTERM and as long as grace to end.
func (h Host) Run(ctx context.Context, command []string, stdout, stderr io.Writer, grace time.Duration) (int, error) {
	if err := h.Check(); err != nil {
		return -1, err
	}
	words := make([]string, len(command))
	for i, w := range command {
		words[i] = Quote(w)
	}
	// The reader of standard input ends with the connection and terminates the
	// command; it is ended itself when the command is done. Not by SIGINT: a shell
	// has its commands in the background ignore that.
	script := strings.Join(words, " ") + ` </dev/null & pid=$!
exec 3<&0
(cat <&3 >/dev/null; kill -TERM $pid) >/dev/null 2>&1 & guard=$!
exec 3<&-
wait $pid; code=$?
kill $guard 2>/dev/null
exit $code`
	// The connection outlives ctx: only its input is closed.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	cmd := h.command(run, script)
	in, err := cmd.StdinPipe()
	if err != nil {
		return -1, fmt.Errorf("remote: %w", err)
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		return -1, h.failed(ctx, err, "")
	}
	stop := context.AfterFunc(ctx, func() {
		in.Close()
		time.AfterFunc(grace, cancel)
	})
	defer stop()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() == 255:
		return -1, fmt.Errorf("remote: the connection to %s broke", h.Target)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	}
	return -1, h.failed(ctx, err, "")
}
