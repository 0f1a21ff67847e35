package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"osv/harness/internal/ownthread"
)

// ErrPrivilege: this process may not make a network namespace or an interface.
var ErrPrivilege = errors.New("no right to make a network namespace with a TAP interface")

// Space is a network namespace made by this process. Methods may be called from
// several goroutines.
type Space struct {
	mu   sync.Mutex
	ns   netns.NsHandle // keeps the namespace alive
	name string         // under runNetns, or ""
}

// runNetns is where ip(8) looks for named namespaces.
const runNetns = "/run/netns"

// namePrefix marks names as ours; the process id follows.
const namePrefix = "osv-bench-"

var spaceCount atomic.Int64

// NewSpace makes a namespace with its loopback interface up and without IPv6, so
// that nothing but the guest speaks on its wires.
func NewSpace(named bool) (*Space, error) {
	s := &Space{ns: -1}
	err := ownthread.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			if errors.Is(err, unix.EPERM) {
				return fmt.Errorf("%w (run as root, or allow user namespaces)", ErrPrivilege)
			}
			return fmt.Errorf("unshare: %w", err)
		}
		ns, err := netns.Get()
		if err != nil {
			return err
		}
		s.ns = ns
		// Read-only where /proc/sys is a container's; then IPv6 stays on.
		os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0) //nolint:errcheck // see above
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
		if named {
			s.name = fmt.Sprintf("%s%d-%d", namePrefix, os.Getpid(), spaceCount.Add(1))
			return bindName(s.name)
		}
		return nil
	})
	if err != nil {
		s.name = ""
		s.Close() //nolint:errcheck // the first error counts
		return nil, fmt.Errorf("wire: %w", err)
	}
	return s, nil
}

// bindName makes the calling thread's namespace visible under runNetns.
func bindName(name string) error {
	if err := os.MkdirAll(runNetns, 0o755); err != nil {
		return err
	}
	path := filepath.Join(runNetns, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	src := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	if err := unix.Mount(src, path, "", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		if errors.Is(err, unix.EPERM) {
			return errors.New("only root can name a namespace")
		}
		return fmt.Errorf("name %s: %w", name, err)
	}
	return nil
}

func unbindName(name string) error {
	path := filepath.Join(runNetns, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("wire: unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("wire: %w", err)
	}
	return nil
}

// Name is the namespace's name, "" without one.
func (s *Space) Name() string { return s.name }

// Path is a path of the namespace while this process lives, for nsenter(1).
func (s *Space) Path() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(s.ns))
}

// Enter moves the calling thread, which must be locked to its goroutine and end
// with it, into the namespace.
func (s *Space) Enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ns < 0 {
		return errors.New("wire: the namespace is closed")
	}
	if err := unix.Setns(int(s.ns), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("wire: enter namespace: %w", err)
	}
	return nil
}

// Do runs f on a thread inside the namespace. Sockets that f opens stay in the
// namespace wherever they are used; goroutines that f starts are not inside.
func (s *Space) Do(f func() error) error {
	return ownthread.Do(func() error {
		if err := s.Enter(); err != nil {
			return err
		}
		return f()
	})
}

func (s *Space) dial(ctx context.Context, d *net.Dialer, network, addr string) (net.Conn, error) {
	// A name would be looked up, and two addresses dialled at once, by
	// goroutines on other threads.
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("wire: dial %s: want an IP address with a port: %w", addr, err)
	}
	var c net.Conn
	err := s.Do(func() (err error) {
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// Run runs cmd inside the namespace and waits for it. It gets its own process
// group, which is killed when ctx ends and when the command does; the command
// itself also dies with this process.
func (s *Space) Run(ctx context.Context, cmd *exec.Cmd) error {
	return runCommand(ctx, cmd, s.Enter)
}

func runCommand(ctx context.Context, cmd *exec.Cmd, enter func() error) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // of this thread: it waits below
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = 2 * time.Second // for output held open by strangers
	}
	return ownthread.Do(func() error {
		if err := enter(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		pgid := cmd.Process.Pid
		stop := context.AfterFunc(ctx, func() { unix.Kill(-pgid, unix.SIGKILL) })
		err := cmd.Wait()
		stop()
		unix.Kill(-pgid, unix.SIGKILL) //nolint:errcheck // as a rule nobody is left
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	})
}

// Close gives the namespace up. It is gone when the last process in it is.
func (s *Space) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ns < 0 {
		return nil
	}
	err := s.ns.Close()
	s.ns = -1
	if s.name != "" {
		err = errors.Join(err, unbindName(s.name))
	}
	return err
}

// Reap removes named namespaces left by processes of ours that were killed, and
// returns their names.
func Reap() ([]string, error) {
	ents, err := os.ReadDir(runNetns)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	var gone []string
	var errs []error
	for _, e := range ents {
		pid, ok := ownerOf(e.Name())
		if !ok || alive(pid) {
			continue
		}
		if err := unbindName(e.Name()); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, e.Name())
	}
	return gone, errors.Join(errs...)
}

// ownerOf is the process id in a name of ours.
func ownerOf(name string) (int, bool) {
	rest, ok := strings.CutPrefix(name, namePrefix)
	if !ok {
		return 0, false
	}
	digits, _, ok := strings.Cut(rest, "-")
	if !ok {
		return 0, false
	}
	pid, err := strconv.Atoi(digits)
	return pid, err == nil && pid > 0
}

// alive reports whether process pid exists; in doubt it does.
func alive(pid int) bool {
	return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}
