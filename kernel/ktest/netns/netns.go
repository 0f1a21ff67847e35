// Package netns runs a package's tests inside a network namespace of their own,
// so that they may make interfaces and send what they like without touching the
// machine.
//
// Who may use it: TestMain of test packages. Start reading at Main.
package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

const marker = "OSV_TEST_NETNS" // set in the child

// Main runs the tests of m in a child in a new network namespace (and, for an
// ordinary user, a new user namespace) and exits. Where the system does not
// allow that they run here, and tests that call Require skip.
func Main(m *testing.M) {
	if os.Getenv(marker) != "" || isFuzzWorker() {
		if os.Getenv(marker) != "" {
			if err := up("lo"); err != nil {
				fmt.Fprintln(os.Stderr, "netns:", err)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	err := cmd.Start()
	if err != nil {
		fmt.Fprintf(os.Stderr, "netns: no namespace (%v): tests that need one are skipped\n", err)
		os.Exit(m.Run())
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(max(exit.ExitCode(), 1))
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "netns:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func isFuzzWorker() bool {
	for _, a := range os.Args {
		if strings.HasPrefix(a, "-test.fuzzworker") {
			return true
		}
	}
	return false
}

// Require skips t unless the tests run in a namespace of their own.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv(marker) == "" {
		t.Skip("needs a network namespace of its own: run as root, or where user namespaces are allowed")
	}
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// Up gives Linux's side of an interface its addresses and sets it up.
func Up(t testing.TB, name string, addrs ...netip.Prefix) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("netns: %s: %v", name, err)
	}
	for _, a := range addrs {
		na, err := netlink.ParseAddr(a.String())
		if err != nil {
			t.Fatal(err)
		}
		// no duplicate address detection: the tests do not wait for it
		na.Flags = syscall.IFA_F_NODAD
		if err := netlink.AddrAdd(l, na); err != nil {
			t.Fatalf("netns: %s: add %v: %v", name, a, err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatalf("netns: %s: up: %v", name, err)
	}
}
