package oracle

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// ErrAbsent says that the real memcached is not installed.
var ErrAbsent = errors.New("oracle: no memcached in the path (Debian package memcached)")

// Upstream is a running real memcached.
type Upstream struct {
	Addr string // TCP and UDP
	cmd  *exec.Cmd
}

// freePort is a TCP port on the loopback address that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// StartUpstream starts memcached with args added, on a free loopback port.
func StartUpstream(args ...string) (*Upstream, error) {
	path, err := exec.LookPath("memcached")
	if err != nil {
		return nil, ErrAbsent
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := strconv.Itoa(port)
	all := []string{"-l", "127.0.0.1", "-p", p, "-U", p, "-t", "1"}
	if os.Getuid() == 0 {
		all = append(all, "-u", "root")
	}
	u := &Upstream{Addr: "127.0.0.1:" + p, cmd: exec.Command(path, append(all, args...)...)}
	// A test that is killed must not leave it behind.
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := u.cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		c, err := net.Dial("tcp", u.Addr)
		if err == nil {
			c.Close()
			return u, nil
		}
		// The process has no way to say that it listens, but for listening.
		time.Sleep(20 * time.Millisecond)
	}
	u.Close()
	return nil, fmt.Errorf("oracle: memcached does not listen on %s", u.Addr)
}

// Close stops it.
func (u *Upstream) Close() error {
	u.cmd.Process.Kill()
	u.cmd.Wait()
	return nil
}

// Talk sends the parts of a stream one after the other over a new connection,
// ends it, and returns all that came back.
func Talk(addr string, parts []string) ([]byte, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		for _, p := range parts {
			if _, err := io.WriteString(nc, p); err != nil {
				break // closed by the server: what it said is being read
			}
		}
		nc.(*net.TCPConn).CloseWrite()
	}()
	b, err := io.ReadAll(nc)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return b, err
	}
	// A reset after the last reply is an end too.
	return b, nil
}
