package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"osv/harness/vm"
)

func TestMain(m *testing.M) {
	switch os.Getenv("OSV_WIRE_TEST") {
	case "become":
		Become()
		w, err := Open(Options{})
		if err != nil {
			os.Stdout.WriteString("error " + err.Error() + "\n")
			os.Exit(3)
		}
		os.Stdout.WriteString("wire " + string(w.Kind) + " inside=" + os.Getenv(insideEnv) + "\n")
		w.Close()
		os.Exit(7)
	case "signal":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		unix.Kill(unix.Getppid(), unix.SIGTERM) // which must come back
		<-c
		os.Exit(9)
	case "killed":
		unix.Kill(unix.Getpid(), unix.SIGKILL)
	case "leak":
		w, err := Open(Options{Named: true})
		if err != nil {
			os.Exit(3)
		}
		os.Stdout.WriteString(w.Space.Name() + "\n")
		select {}
	}
	os.Exit(m.Run())
}

// open makes a wire or skips where this user may not.
func open(t *testing.T, o Options) *Wire {
	t.Helper()
	w, err := Open(o)
	if errors.Is(err, ErrPrivilege) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestTAP(t *testing.T) {
	w := open(t, Options{Kind: TAP, Queues: 2, Off: []string{"csum"}})
	n := w.NIC(0)
	if w.Note != "" || n.Kind != vm.NetTAP || n.Queues != 2 || n.MAC != GuestMAC(0) || len(n.Off) != 1 {
		t.Errorf("card %+v, note %q", n, w.Note)
	}
	err := w.Space.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil || len(links) != 2 {
			t.Errorf("%d links, want lo and tap0 (%v)", len(links), err)
		}
		tap, err := netlink.LinkByName(n.IfName)
		if err != nil {
			return err
		}
		if tt := tap.(*netlink.Tuntap); tt.Flags&netlink.TUNTAP_MULTI_QUEUE == 0 || tap.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("tap %+v", tt)
		}
		as, err := netlink.AddrList(tap, netlink.FAMILY_ALL)
		if err != nil || len(as) != 1 || as[0].IPNet.String() != Host.String() {
			t.Errorf("addresses %v, want only %s (%v)", as, Host, err)
		}
		ns, err := netlink.NeighList(tap.Attrs().Index, netlink.FAMILY_V4)
		if err != nil || len(ns) != 1 || ns[0].HardwareAddr.String() != GuestMAC(0) || ns[0].State != netlink.NUD_PERMANENT {
			t.Errorf("neighbours %v (%v)", ns, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if network, addr, err := w.Addr(0, "udp:11211"); network != "udp" || addr != "10.77.0.2:11211" || err != nil {
		t.Errorf("%s %s %v", network, addr, err)
	}
}

func TestTwoGuestsOnABridge(t *testing.T) {
	w := open(t, Options{Kind: TAP, Guests: 2, NoVNetHdr: true})
	if a, b := w.NIC(0), w.NIC(1); a.IfName == b.IfName || a.MAC == b.MAC || !b.NoVNetHdr {
		t.Errorf("%+v %+v", a, b)
	}
	err := w.Space.Do(func() error {
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		for i := range 2 {
			tap, err := netlink.LinkByName(w.NIC(i).IfName)
			if err != nil || tap.Attrs().MasterIndex != br.Attrs().Index {
				t.Errorf("tap %d is not on the bridge (%v)", i, err)
			}
		}
		ns, err := netlink.NeighList(br.Attrs().Index, netlink.FAMILY_V4)
		if err != nil || len(ns) != 2 {
			t.Errorf("neighbours %v (%v)", ns, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, addr, err := w.Addr(1, "tcp:80"); addr != "10.77.0.3:80" || err != nil {
		t.Errorf("%s %v", addr, err)
	}
}

// Sockets opened inside stay inside; this process's own network is untouched.
func TestSocketsStayInside(t *testing.T) {
	w := open(t, Options{Kind: TAP})
	var l net.Listener
	if err := w.Space.Do(func() (err error) {
		l, err = net.Listen("tcp4", Host.Addr().String()+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.WriteString(c, "inside")
			c.Close()
		}
	}()
	c, err := w.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "inside" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	c.Close()
	p, err := w.ListenPacket("udp4", Host.Addr().String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := net.Listen("tcp4", Host.Addr().String()+":0"); err == nil {
		t.Errorf("%s exists outside", Host.Addr())
	}
	if _, err := w.DialContext(t.Context(), "tcp", "localhost:80"); err == nil || !strings.Contains(err.Error(), "IP address") {
		t.Errorf("a name: %v", err)
	}
}

func TestRun(t *testing.T) {
	w := open(t, Options{Kind: TAP})
	cmd := exec.Command("cat", "/proc/net/dev")
	out, errs := new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, errs
	if err := w.Space.Run(t.Context(), cmd); err != nil || !strings.Contains(out.String(), "tap0") {
		t.Errorf("%v\n%s%s", err, out, errs)
	}
	if err := w.Space.Run(t.Context(), exec.Command("sh", "-c", "exit 4")); err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("%v", err)
	}
	if err := w.Space.Run(t.Context(), exec.Command("osv-no-such-command")); err == nil {
		t.Error("no command: no error")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("sh", "-c", "trap '' TERM INT; echo up; sleep 1000 & wait")
	sleeper.Stdout = pw
	done := make(chan error, 1)
	go func() { done <- w.Space.Run(ctx, sleeper) }()
	if _, err := pr.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("stop")
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Errorf("interrupted: %v", err)
	}
	pw.Close()
	if n, err := pr.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the sleeper's child lives on: %d %v", n, err)
	}
	if err := w.Space.Run(ctx, exec.Command("true")); !errors.Is(err, cause) {
		t.Errorf("after the end: %v", err)
	}
}

func TestCloseEndsTheSpace(t *testing.T) {
	w := open(t, Options{Kind: TAP})
	if !strings.HasPrefix(w.Space.Path(), "/proc/") {
		t.Error(w.Space.Path())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Enter(); err == nil {
		t.Error("entered a closed namespace")
	}
	if err := w.Space.Do(func() error { t.Error("ran"); return nil }); err == nil {
		t.Error("Do in a closed namespace")
	}
	if err := w.Space.Run(t.Context(), exec.Command("true")); err == nil {
		t.Error("Run in a closed namespace")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// A process killed with SIGKILL leaves a name behind; Reap takes it, and leaves
// those of living processes.
func TestReap(t *testing.T) {
	mine := open(t, Options{Kind: TAP, Named: true})
	if mine.Space.Name() == "" {
		t.Fatal("no name")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "OSV_WIRE_TEST=leak")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSpace(string(buf[:n]))
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := os.Stat(filepath.Join(runNetns, name)); err != nil {
		t.Fatal(err)
	}
	gone, err := Reap()
	if err != nil || !strings.Contains(strings.Join(gone, " "), name) {
		t.Errorf("reaped %v, want %s (%v)", gone, name, err)
	}
	if _, err := os.Stat(filepath.Join(runNetns, name)); err == nil {
		t.Errorf("%s is still there", name)
	}
	if _, err := os.Stat(filepath.Join(runNetns, mine.Space.Name())); err != nil {
		t.Errorf("took a living one: %v", err)
	}
	mine.Close()
	if _, err := os.Stat(filepath.Join(runNetns, mine.Space.Name())); err == nil {
		t.Error("Close left the name")
	}
}

func TestOwnerOf(t *testing.T) {
	for name, want := range map[string]int{"osv-bench-12-3": 12, "osv-bench-x-1": 0, "osv-bench-12": 0, "other-12-1": 0, "osv-bench--4-1": 0} {
		if pid, ok := ownerOf(name); ok != (want > 0) || ok && pid != want {
			t.Errorf("%s: %d %v", name, pid, ok)
		}
	}
}

func TestUser(t *testing.T) {
	w, err := Open(Options{Kind: User, Ports: []string{"tcp:11211", "udp:11211"}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	n := w.NIC(0)
	if !strings.Contains(w.Note, "not for claims") || len(n.HostFwd) != 2 || !regexp.MustCompile(`^tcp:127\.0\.0\.1:\d+-10\.77\.0\.2:11211$`).MatchString(n.HostFwd[0]) {
		t.Errorf("%+v %q", n, w.Note)
	}
	network, addr, err := w.Addr(0, "udp:11211")
	if err != nil || network != "udp" || !strings.HasPrefix(addr, "127.0.0.1:") {
		t.Errorf("%s %s %v", network, addr, err)
	}
	if _, _, err := w.Addr(0, "tcp:80"); err == nil || !strings.Contains(err.Error(), "not forwarded") {
		t.Errorf("%v", err)
	}
	if _, _, err := w.Addr(0, "http"); err == nil {
		t.Error("no port: no error")
	}
	// QEMU is not there: the forward is dialled and refused.
	if _, err := w.DialContext(t.Context(), "tcp4", "10.77.0.2:11211"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	for _, o := range []Options{{Kind: User, Guests: 2}, {Kind: User, Ports: []string{"x"}}, {Kind: "string"}, {Guests: 65}} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

func TestUserWithoutSpace(t *testing.T) {
	w := &Wire{Kind: User}
	if err := errors.Join(w.Enter(), w.Close()); err != nil {
		t.Error(err)
	}
	for _, network := range []string{"tcp", "udp"} {
		if a, err := w.freePort(network); err != nil || !strings.HasPrefix(a, "127.0.0.1:") {
			t.Errorf("%s %v", a, err)
		}
	}
	c, err := w.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := w.DialContext(t.Context(), "udp4", c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// An unprivileged user gets a namespace by Become where user namespaces are
// allowed, and a marked fall-back else; the status of the inner process comes
// out.
func TestBecomeUnprivileged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	exe := filepath.Join(t.TempDir(), "wire.test")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := filepath.Dir(exe); d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "OSV_WIRE_TEST=become", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
	out, _ := cmd.Output()
	code := cmd.ProcessState.ExitCode()
	userns := exec.Command("unshare", "-Ur", "true")
	userns.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
	allowed := userns.Run() == nil
	if code != 7 || allowed != strings.Contains(string(out), "inside=1") || !strings.Contains(string(out), "wire ") {
		t.Errorf("status %d, output %q, user namespaces allowed: %v", code, out, allowed)
	}
}

// The inner process gets the outer's signals, and its status is the outer's.
func TestRerun(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	for mode, want := range map[string]int{"become": 7, "signal": 9, "killed": 128 + 9} {
		t.Setenv("OSV_WIRE_TEST", mode)
		code, ok := rerun()
		if !ok {
			t.Skip("user namespaces are not allowed here")
		}
		if code != want {
			t.Errorf("%s: status %d, want %d", mode, code, want)
		}
	}
	if MayUnshare() {
		Become() // does nothing
	}
}

// A real guest and this process talk over each kind of wire: the guest of thirty
// bytes has no network, so it is QEMU's own opening of the interface that counts.
func TestQEMUOpensTheWire(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not installed")
	}
	elf := filepath.Join(t.TempDir(), "k.elf")
	if err := os.WriteFile(elf, vm.TinyGuest("up\n", 0), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"tap": {Kind: TAP}, "tap, 2 queues": {Kind: TAP, Queues: 2}, "no header": {Kind: TAP, NoVNetHdr: true, Off: vm.OffloadsOff},
		"bridge": {Kind: TAP, Guests: 2}, "user": {Kind: User, Ports: []string{"tcp:80"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, o)
			v, err := vm.Start(t.Context(), vm.Spec{Kernel: elf, Accel: vm.TCG, CPUs: 2, NICs: []vm.NIC{w.NIC(0)}}, vm.Options{Enter: w.Enter})
			if err != nil {
				t.Fatal(err)
			}
			if e, _ := v.WaitTimeout(20 * time.Second); !e.OK() {
				t.Errorf("%v", e)
			}
		})
	}
}

var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}
