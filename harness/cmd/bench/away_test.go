package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// otherMachine makes a stand-in for ssh: a shell with a home folder of its own.
func otherMachine(t *testing.T) (ssh, home string) {
	t.Helper()
	home = t.TempDir()
	ssh = filepath.Join(t.TempDir(), "ssh")
	script := "#!/bin/sh\nwhile [ \"$1\" != there ]; do shift; done\nexport HOME=" + home + "\ncd\nexec sh -c \"$2\"\n"
	if err := os.WriteFile(ssh, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	old := awayCommand
	awayCommand = func(program string) []string { return []string{"env", "OSV_TEST_BENCH=1", program} }
	t.Cleanup(func() { awayCommand = old })
	return ssh, home
}

// A run on another machine leaves the same folder here as a run here, and nothing
// of it there.
func TestRunOnAnotherMachine(t *testing.T) {
	ssh, home := otherMachine(t)
	awayLife(t, []string{"--host", "there", "--ssh", ssh}, home)
}

func awayLife(t *testing.T, where []string, home string) {
	t.Helper()
	cfg, dir := dryConfig(t, 2), filepath.Join(t.TempDir(), "r")
	args := append([]string{"run", "--config", cfg, "--out", dir, "--module", t.TempDir()}, where...)
	// Interrupted first: the same command goes on.
	ctx, cancel := context.WithCancel(context.Background())
	var out, errs bytes.Buffer
	w := writerFunc(func(b []byte) (int, error) {
		if strings.Contains(string(b), "boot 2") {
			cancel()
		}
		return errs.Write(b)
	})
	if code := run(ctx, args, streams{strings.NewReader(""), &out, w}); code != exitInterrupted || !strings.Contains(errs.String(), "the same command goes on") {
		t.Fatalf("status %d: %s", code, errs.String())
	}
	code, o, e := call(context.Background(), args...)
	if code != exitOK || !strings.Contains(o, "report: "+filepath.Join(dir, "report.html")) || strings.Contains(e, "boot 1:") {
		t.Fatalf("status %d: %s\n%s", code, o, e)
	}
	if code, o, _ := call(context.Background(), "verify", dir); code != exitOK {
		t.Error(o)
	}
	if left, _ := filepath.Glob(filepath.Join(home, ".cache/osv/remote/*/results")); home != "" && len(left) > 0 {
		t.Errorf("left over there: %v", left)
	}
}

func TestRunOnAnotherMachineRefusals(t *testing.T) {
	ssh, _ := otherMachine(t)
	cfg := dryConfig(t, 1)
	for want, args := range map[string][]string{
		"want user@host": {"--host=-oProxyCommand=x"},
		"no such file":   {"--host=there", "--ssh=/nonexistent/ssh"},
		"status 3":       {"--host=there", "--ssh=" + ssh},
	} {
		awayCommand = func(string) []string { return []string{"sh", "-c", "exit 3"} }
		code, _, e := call(context.Background(), append([]string{"run", "--config", cfg, "--out", filepath.Join(t.TempDir(), "r"), "--module", t.TempDir()}, args...)...)
		if code != exitFailed || !strings.Contains(e, want) {
			t.Errorf("want %q: status %d, %s", want, code, e)
		}
	}
}

// The same through OpenSSH, client and server, on loopback.
func TestRunOverOpenSSH(t *testing.T) {
	for _, p := range []string{"/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"} {
		if _, err := os.Stat(p); err != nil {
			t.Skip(p + " is not installed")
		}
	}
	if os.Getuid() != 0 {
		t.Skip("sshd as a user cannot switch to one")
	}
	dir := t.TempDir()
	for _, k := range []string{"host", "user"} {
		if b, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, k)).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, b)
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Skip(err)
	}
	// Sessions begin in a home folder of their own.
	conf := fmt.Sprintf("ListenAddress 127.0.0.1\nPort %d\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\nForceCommand cd %s && HOME=%s sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
		port, dir, dir, home, home)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	sshd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "conf"))
	var said bytes.Buffer
	sshd.Stderr = &said
	sshd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := sshd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sshd.Process.Kill(); _ = sshd.Wait() }()
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Skipf("sshd does not listen: %s", said.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	old := awayCommand
	awayCommand = func(program string) []string { return []string{"env", "OSV_TEST_BENCH=1", program} }
	defer func() { awayCommand = old }()
	ssh := fmt.Sprintf("ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR -o UserKnownHostsFile=%s/known -i %s/user -p %d", dir, dir, port)
	awayLife(t, []string{"--host", "root@127.0.0.1", "--ssh", ssh}, home)
}
