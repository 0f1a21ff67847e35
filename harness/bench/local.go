package bench

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/design"
	"osv/harness/internal/ownthread"
)

// Local is the kind "local": memcached as a process of this machine, on
// loopback. It exists to try the harness and for its tests. No hypervisor is
// involved, so its figures are marked and never claimed.
type Local struct {
	// Binary is the server, "" = memcached from PATH.
	Binary string
}

type localGuest struct {
	cmd   *exec.Cmd
	done  chan struct{}
	port  string
	facts Facts
}

// freePort finds a port that is free for TCP and UDP at this moment.
func freePort() (int, error) {
	for range 50 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp4", "127.0.0.1:"+strconv.Itoa(port))
		l.Close()
		if err != nil {
			continue
		}
		u.Close()
		return port, nil
	}
	return 0, fmt.Errorf("bench: no free port")
}

// Can reports whether memcached is there.
func (k Local) Can(_ design.System, service string) error {
	if service != "memcached" {
		return fmt.Errorf("a local guest serves memcached only")
	}
	bin := k.Binary
	if bin == "" {
		bin = "memcached"
	}
	if _, err := exec.LookPath(bin); err != nil {
		return fmt.Errorf("local guest: %w (Debian: apt-get install memcached)", err)
	}
	return nil
}

// Boot starts memcached.
func (k Local) Boot(ctx context.Context, cfg Config) (Guest, error) {
	bin := k.Binary
	if bin == "" {
		bin = "memcached"
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := strconv.Itoa(port)
	threads := max(1, cfg.CPUs)
	// As the same user: a change of user would cancel the signal that ends the
	// server with this process.
	args := []string{"-u", "root", "-l", "127.0.0.1", "-p", p, "-U", p, "-t", strconv.Itoa(threads), "-m", strconv.Itoa(max(8, cfg.MemMiB/2))}
	g := &localGuest{cmd: exec.Command(bin, args...), done: make(chan struct{}), port: p}
	began := time.Now()
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // of the thread that waits
	started := make(chan error, 1)
	ownthread.Go(func() {
		err := g.cmd.Start()
		started <- err
		if err == nil {
			_ = g.cmd.Wait()
			close(g.done)
		}
	})
	if err := <-started; err != nil {
		return nil, fmt.Errorf("bench: local guest: %w", err)
	}
	var d net.Dialer
	var first time.Time
	for _, want := range cfg.Ports {
		network, addr, err := g.split(want)
		if err == nil {
			var at time.Time
			at, err = WaitReply(ctx, d.DialContext, want, network, addr, g.Alive)
			if first.IsZero() {
				first = at
			}
		}
		if err != nil {
			_ = g.Stop()
			return nil, fmt.Errorf("bench: local guest: %w", err)
		}
	}
	g.facts = Facts{FirstReply: first.Sub(began).Seconds(), Accel: "none", Wire: "loopback", WireNote: "a process on this machine, not a guest",
		Line: strings.Join(g.cmd.Args, " "), Parity: map[string]string{"threads": strconv.Itoa(threads), "memory": fmt.Sprintf("%d MiB", cfg.MemMiB)}}
	if out, err := exec.Command(bin, "-V").Output(); err == nil {
		g.facts.Kernel = strings.TrimSpace(string(out))
	}
	return g, nil
}

func (g *localGuest) split(port string) (network, addr string, err error) {
	network, n, _ := strings.Cut(port, ":")
	if n != "11211" || network != "udp" && network != "tcp" {
		return "", "", fmt.Errorf("bench: a local guest serves memcached only, not %s", port)
	}
	return network, "127.0.0.1:" + g.port, nil
}

func (g *localGuest) Facts() Facts { return g.facts }

func (g *localGuest) Addr(port string) (string, error) {
	_, addr, err := g.split(port)
	return addr, err
}

func (g *localGuest) Run(ctx context.Context, cmd *exec.Cmd) error { return runCommand(ctx, cmd) }

// runCommand runs a command that ends with ctx, and with this process.
func runCommand(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // of the thread that waits
	return ownthread.Do(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		defer stop()
		return cmd.Wait()
	})
}

func (g *localGuest) Place(p design.Placement) ([]int, error) {
	if p == design.Free {
		return nil, nil
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || set.Count() < 2 {
		return nil, err
	}
	var cores []int
	for i := 0; len(cores) < 2; i++ {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	var one unix.CPUSet
	one.Set(cores[0])
	if err := unix.SchedSetaffinity(g.cmd.Process.Pid, &one); err != nil {
		return nil, fmt.Errorf("bench: place local guest: %w", err)
	}
	return cores[1:], nil
}

func (g *localGuest) Probes() []string {
	pid := g.cmd.Process.Pid
	return []string{fmt.Sprintf("main=cpu:%d/%d", pid, pid), "steal=steal:"}
}

func (g *localGuest) Alive() error {
	select {
	case <-g.done:
		return fmt.Errorf("memcached ended: %v", g.cmd.ProcessState)
	default:
		return nil
	}
}

// Pause stops the process; a signal is enough, it has no clock of its own.
func (g *localGuest) Pause() error { return g.cmd.Process.Signal(unix.SIGSTOP) }

// Resume lets it run again.
func (g *localGuest) Resume() error { return g.cmd.Process.Signal(unix.SIGCONT) }

func (g *localGuest) Stop() error {
	_ = g.cmd.Process.Kill()
	<-g.done
	return nil
}
