package sshd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"osv/kernel/rest/hosted"
	"osv/kernel/rest/machine"
)

// world is a server on loopback, of the process's own machine with files in a folder.
type world struct {
	*Server
	addr    string
	dir     string
	files   machine.Files
	key     ssh.Signer
	private ed25519.PrivateKey
	ended   chan machine.Action
}

// endless is a System that does not end the test.
type endless struct {
	machine.System
	ended chan machine.Action
}

func (e endless) End(a machine.Action) (func(), error) {
	return func() { e.ended <- a }, nil
}

func newKey(t *testing.T) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, p, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(p)
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

func start(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), ended: make(chan machine.Action, 1)}
	m, err := hosted.New(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	m.System = endless{m.System, w.ended}
	w.files = m.Files
	w.key, w.private = newKey(t)
	host, made, err := HostKey(m.Files, HostKeyFile)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	keys := &Keys{}
	if n, err := keys.Add([]string{"# mine", string(ssh.MarshalAuthorizedKey(w.key.PublicKey()))}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	cfg := Config{HostKey: host, Keys: keys, Machine: &m, Greeting: "hello from the guest"}
	if change != nil {
		change(&cfg)
	}
	if w.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	done := make(chan error)
	go func() { done <- w.Serve(l) }()
	t.Cleanup(func() {
		w.Close()
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return w
}

func (w *world) dial(t *testing.T) *ssh.Client {
	t.Helper()
	c, err := ssh.Dial("tcp", w.addr, &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(w.key)}, HostKeyCallback: ssh.FixedHostKey(w.cfg.HostKey.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exec runs a command and returns what it printed and its status.
func run(t *testing.T, c *ssh.Client, line string) (out, errs string, status int) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var o, e bytes.Buffer
	s.Stdout, s.Stderr = &o, &e
	err = s.Run(line)
	var x *ssh.ExitError
	if errors.As(err, &x) {
		status = x.ExitStatus()
	} else if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return o.String(), e.String(), status
}

func TestExec(t *testing.T) {
	w := start(t, nil)
	c := w.dial(t)
	os.WriteFile(filepath.Join(w.dir, "a.txt"), []byte("hello\n"), 0o644)
	for line, want := range map[string]string{
		"cat a.txt": "hello\n", "version": "OSv in Go " + machine.Version + "\n", "pwd": "/\n", "ls": "a.txt\netc\n",
		"cd etc; pwd; cd ssh; pwd": "/etc\n/etc/ssh\n",
	} {
		if out, errs, status := run(t, c, line); out != want || errs != "" || status != 0 {
			t.Errorf("%s: %q, %q, %d", line, out, errs, status)
		}
	}
	if out, errs, status := run(t, c, "mkdir -p x/y; ls x"); out != "y\n" || errs != "" || status != 0 { // last: ls shows it
		t.Errorf("mkdir: %q, %q, %d", out, errs, status)
	}
	for line, want := range map[string]int{"cat nothing": 1, "nonsense": 127, "ls -z": 2, "exit": 0, "cat a.txt | cat": 2, "scp -t /x": 127} {
		if out, errs, status := run(t, c, line); status != want || want != 0 && errs == "" {
			t.Errorf("%s: %q, %q, %d", line, out, errs, status)
		}
	}
}

// Keys that are not authorized, passwords, and clients that say nothing stay outside.
func TestLogin(t *testing.T) {
	w := start(t, func(c *Config) { c.HandshakeTime = 200 * time.Millisecond })
	other, _ := newKey(t)
	for name, auth := range map[string][]ssh.AuthMethod{"other key": {ssh.PublicKeys(other)}, "password": {ssh.Password("secret")}, "nothing": nil} {
		c, err := ssh.Dial("tcp", w.addr, &ssh.ClientConfig{User: "root", Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err == nil {
			c.Close()
			t.Errorf("%s logs in", name)
		}
	}
	silent, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	silent.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, silent); err != nil {
		t.Errorf("a silent client is not dropped: %v", err)
	}
}

// Forwarding, agents and unknown subsystems are refused; keepalives are answered.
func TestRefusals(t *testing.T) {
	w := start(t, nil)
	c := w.dial(t)
	if _, err := c.Dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "nothing is forwarded") {
		t.Errorf("forwarding: %v", err)
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("remote forwarding is granted")
	}
	if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); !ok || err != nil {
		t.Errorf("keepalive: %v %v", ok, err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.RequestSubsystem("netconf"); err == nil {
		t.Error("an unknown subsystem is granted")
	}
	if err := s.Setenv("LD_PRELOAD", "x"); err == nil {
		t.Error("the environment is taken")
	}
	if err := s.Start("version"); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"version"})); ok && err == nil {
		t.Error("a second program on one channel")
	}
}

func TestLimits(t *testing.T) {
	w := start(t, func(c *Config) { c.MaxConns, c.MaxSessions = 1, 2 })
	c := w.dial(t)
	for range 2 {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("a third session of two")
	}
	if x, err := ssh.Dial("tcp", w.addr, &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()}); err == nil {
		x.Close()
		t.Error("a second connection of one")
	}
}

// screen collects what a terminal shows, and waits for texts.
type screen struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.b.Write(p)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *screen) wait(t *testing.T, want string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		text := s.b.String()
		if i := strings.Index(text, want); i >= 0 {
			s.b.Next(i + len(want))
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-late:
			t.Fatalf("no %q in %q", want, text)
		}
	}
}

func TestTerminal(t *testing.T) {
	w := start(t, nil)
	c := w.dial(t)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	scr := &screen{more: make(chan struct{}, 1)}
	s.Stdout = scr
	in, _ := s.StdinPipe()
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	scr.wait(t, "hello from the guest")
	scr.wait(t, ":/# ")
	fmt.Fprint(in, "vers\t\r") // completed
	scr.wait(t, machine.Version)
	fmt.Fprint(in, "mkdir d\rcd d\r")
	scr.wait(t, ":/d# ")
	if err := s.WindowChange(40, 100); err != nil {
		t.Error(err)
	}
	fmt.Fprint(in, "top\r") // runs until it is interrupted
	scr.wait(t, "memory")
	fmt.Fprint(in, "\x03")
	scr.wait(t, ":/d# ")
	fmt.Fprint(in, "not this\x03pwd\r")
	scr.wait(t, "/d")
	fmt.Fprint(in, "\x04")
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// Lines from a pipe; the status is that of the last.
func TestScript(t *testing.T) {
	w := start(t, nil)
	s, err := w.dial(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out bytes.Buffer
	s.Stdout, s.Stdin = &out, strings.NewReader("mkdir q\ncd q\npwd\ncat none\n")
	err = s.Run("")
	_ = err
	s2, _ := w.dial(t).NewSession()
	s2.Stdout, s2.Stdin = &out, strings.NewReader("pwd\ncat none\n")
	if err := s2.Shell(); err != nil {
		t.Fatal(err)
	}
	var x *ssh.ExitError
	if err := s2.Wait(); !errors.As(err, &x) || x.ExitStatus() != 1 || !strings.Contains(out.String(), "/\n") {
		t.Errorf("%v, %q", err, out.String())
	}
}

// Powering off answers the client before the machine ends.
func TestEnd(t *testing.T) {
	w := start(t, nil)
	c := w.dial(t)
	if _, errs, status := run(t, c, "reboot"); status != 0 || errs != "" {
		t.Errorf("%d %q", status, errs)
	}
	c.Close()
	if a := <-w.ended; a != machine.Reboot {
		t.Errorf("action %v", a)
	}
}

func TestSFTP(t *testing.T) {
	w := start(t, nil)
	c, err := sftp.NewClient(w.dial(t), sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := make([]byte, 3<<20+17)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	f, err := c.Create("/big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFrom(bytes.NewReader(data)); err != nil { // several requests under way
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	onDisk, err := os.ReadFile(filepath.Join(w.dir, "big"))
	if err != nil || !bytes.Equal(onDisk, data) {
		t.Errorf("%d of %d bytes, %v", len(onDisk), len(data), err)
	}
	g, err := c.Open("/big")
	if err != nil {
		t.Fatal(err)
	}
	var back bytes.Buffer
	if _, err := g.WriteTo(&back); err != nil || !bytes.Equal(back.Bytes(), data) {
		t.Errorf("%d bytes back, %v", back.Len(), err)
	}
	g.Close()
	if err := c.Mkdir("/d"); err != nil {
		t.Error(err)
	}
	if err := c.Rename("/big", "/d/small"); err != nil {
		t.Error(err)
	}
	if err := c.Chmod("/d/small", 0o600); err != nil {
		t.Error(err)
	}
	if i, err := c.Stat("/d/small"); err != nil || i.Size() != int64(len(data)) || i.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", i, err)
	}
	list, err := c.ReadDir("/d")
	if err != nil || len(list) != 1 || list[0].Name() != "small" {
		t.Errorf("%v %v", list, err)
	}
	os.Symlink("d/small", filepath.Join(w.dir, "link"))
	if to, err := c.ReadLink("/link"); err != nil || to != "d/small" {
		t.Errorf("link %q %v", to, err)
	}
	if i, err := c.Stat("/link"); err != nil || i.Size() != int64(len(data)) {
		t.Errorf("through the link: %v %v", i, err)
	}
	if err := c.Rename("/link", "/d/small"); err == nil {
		t.Error("a plain rename replaces")
	}
	if err := c.PosixRename("/link", "/d/small"); err != nil {
		t.Error(err)
	}
	if _, err := c.Open("/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := c.RemoveDirectory("/d"); err == nil {
		t.Error("a full directory is removed")
	}
	if err := c.Remove("/d/small"); err != nil {
		t.Error(err)
	}
	if err := c.RemoveDirectory("/d"); err != nil {
		t.Error(err)
	}
	os.Symlink("/etc/passwd", filepath.Join(w.dir, "out"))
	if f, err := c.Open("/out"); err == nil {
		b, _ := io.ReadAll(f)
		f.Close()
		if len(b) > 0 {
			t.Error("a link leads out of the tree")
		}
	}
	for _, p := range []string{"/../../etc/passwd", "../../../etc/passwd"} {
		if _, err := c.Open(p); err == nil {
			t.Errorf("%s opens", p)
		}
	}
}

// The host key stays the same, is private, and a broken one is not replaced.
func TestHostKey(t *testing.T) {
	w := start(t, nil)
	again, made, err := HostKey(w.files, HostKeyFile)
	if err != nil || made || !bytes.Equal(again.PublicKey().Marshal(), w.cfg.HostKey.PublicKey().Marshal()) {
		t.Errorf("made %v, %v", made, err)
	}
	p := filepath.Join(w.dir, HostKeyFile)
	if i, err := os.Stat(p); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", i, err)
	}
	os.WriteFile(p, []byte("junk"), 0o600)
	if _, _, err := HostKey(w.files, HostKeyFile); err == nil || !strings.Contains(err.Error(), HostKeyFile) {
		t.Errorf("a broken key: %v", err)
	}
	if k, made, err := HostKey(nil, HostKeyFile); k == nil || !made || err != nil {
		t.Errorf("without files: %v %v", made, err)
	}
}

func TestKeys(t *testing.T) {
	var k Keys
	a, _ := newKey(t)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(a.PublicKey())))
	n, err := k.Add([]string{line + " ann@host", "", "# comment", line, "junk", `command="ls" ` + line})
	if n != 1 || err == nil || !strings.Contains(err.Error(), `"junk"`) || !strings.Contains(err.Error(), "options (command=") {
		t.Errorf("%d %v", n, err)
	}
	if _, ok := k.Has(a.PublicKey()); !ok || k.Len() != 1 {
		t.Error("the key is not there")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a server without keys")
	}
}

// OpenSSH's own programs.
func TestOpenSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("needs openssh-client")
	}
	w := start(t, nil)
	home := t.TempDir()
	block, err := ssh.MarshalPrivateKey(w.private, "")
	if err != nil {
		t.Fatal(err)
	}
	id := filepath.Join(home, "id")
	os.WriteFile(id, pem.EncodeToMemory(block), 0o600)
	host, port, _ := net.SplitHostPort(w.addr)
	os.WriteFile(filepath.Join(home, "known"), []byte(fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(w.cfg.HostKey.PublicKey()))), 0o600)
	opts := []string{"-F", "none", "-i", id, "-o", "UserKnownHostsFile=" + filepath.Join(home, "known"), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"}
	do := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	if out := do("ssh", append(opts, "-p", port, "root@"+host, "version")...); !strings.Contains(out, machine.Version) {
		t.Errorf("ssh: %q", out)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	src := filepath.Join(home, "src")
	os.WriteFile(src, data, 0o644)
	do("scp", append(opts, "-P", port, src, "root@"+host+":/copied")...)
	do("scp", append(opts, "-P", port, "root@"+host+":/copied", filepath.Join(home, "back"))...)
	if b, err := os.ReadFile(filepath.Join(home, "back")); err != nil || !bytes.Equal(b, data) {
		t.Errorf("scp: %d bytes, %v", len(b), err)
	}
	batch := filepath.Join(home, "batch")
	os.WriteFile(batch, []byte("mkdir up\ncd up\nput "+src+" one\nrename one two\nls -l\n"), 0o644)
	if out := do("sftp", append(opts, "-P", port, "-b", batch, "root@"+host)...); !strings.Contains(out, "two") {
		t.Errorf("sftp: %q", out)
	}
}
