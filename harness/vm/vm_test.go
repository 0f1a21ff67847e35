package vm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The fake QEMU is this test binary run again: a script named by the kernel
// command line says what it does on console and QMP (see fakeqemu_test.go).
func TestMain(m *testing.M) {
	if os.Getenv("OSV_FAKE_QEMU") != "" {
		fakeQEMU()
		return
	}
	os.Exit(m.Run())
}

// beFake makes this binary a QEMU when it is run again.
func beFake(t *testing.T) {
	t.Setenv("OSV_FAKE_QEMU", "1")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
}

// startFake runs script in the fake QEMU.
func startFake(t *testing.T, ctx context.Context, script string, o Options) (*VM, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beFake(t)
	v, err := Start(ctx, Spec{QEMU: self, Accel: TCG, Append: script}, o)
	if err == nil {
		t.Cleanup(func() { v.Kill() })
	}
	return v, err
}

const patience = 20 * time.Second // of a test for something that must happen

func TestGuestExitCodes(t *testing.T) {
	for _, c := range []struct {
		script string
		want   Exit
		ok     bool
		code   int
	}{
		{"cont; exit 1", Exit{Kind: ExitGuest, Code: 0, Status: 1}, true, 0},
		{"cont; exit 87", Exit{Kind: ExitGuest, Code: 43, Status: 87}, false, 43},
		{"cont; shutdown guest-shutdown; exit 0", Exit{Kind: ExitShutdown}, true, 0},
		{"cont; shutdown guest-reset; exit 0", Exit{Kind: ExitReset}, false, 126},
		{"cont; shutdown host-qmp-quit; exit 0", Exit{Kind: ExitQuit}, false, 0},
		{"cont; stderr boom; exit 4", Exit{Kind: ExitFailed, Status: 4, Stderr: "boom"}, false, 125},
		{"cont; crash", Exit{Kind: ExitFailed, Status: -1, Signal: syscall.SIGKILL}, false, 125},
	} {
		v, err := startFake(t, t.Context(), c.script, Options{})
		if err != nil {
			t.Errorf("%s: %v", c.script, err)
			continue
		}
		e, late := v.WaitTimeout(patience)
		if late || e != c.want || e.OK() != c.ok || e.ProcessCode() != c.code {
			t.Errorf("%s: %+v late=%v ok=%v code=%d, want %+v %v %d", c.script, e, late, e.OK(), e.ProcessCode(), c.want, c.ok, c.code)
		}
	}
}

// Status 1 before QMP has answered is QEMU's complaint, not the guest's code 0.
func TestStartFailureShowsStderr(t *testing.T) {
	_, err := startFake(t, t.Context(), "early-exit 1 -device: no such thing", Options{})
	if err == nil || !strings.Contains(err.Error(), "no such thing") || !strings.Contains(err.Error(), "qemu failed with status 1") {
		t.Errorf("error %v", err)
	}
}

func TestStartFailures(t *testing.T) {
	if _, err := Start(t.Context(), Spec{QEMU: "osv-no-such-qemu", Accel: TCG}, Options{}); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("missing binary: %v", err)
	}
	if _, err := Start(t.Context(), Spec{Machine: "x"}, Options{}); err == nil {
		t.Error("bad spec: no error")
	}
	if _, err := startFake(t, t.Context(), "", Options{LogPath: filepath.Join(t.TempDir(), "no", "dir")}); err == nil || !strings.Contains(err.Error(), "serial log") {
		t.Errorf("bad log path: %v", err)
	}
	if _, err := startFake(t, t.Context(), "", Options{Enter: func() error { return errors.New("no namespace") }}); err == nil || !strings.Contains(err.Error(), "no namespace") {
		t.Errorf("Enter fails: %v", err)
	}
	if _, err := startFake(t, t.Context(), "deaf", Options{StartTimeout: 50 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "no greeting") {
		t.Errorf("deaf QEMU: %v", err)
	}
	if _, err := startFake(t, t.Context(), "no-cpus", Options{}); err == nil || !strings.Contains(err.Error(), "query-cpus-fast") {
		t.Errorf("command refused: %v", err)
	}
	notExec := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(notExec, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Spec{QEMU: notExec, Accel: TCG}, Options{}); err == nil || !strings.Contains(err.Error(), "start QEMU") {
		t.Errorf("not executable: %v", err)
	}
}

func TestConsoleIsKeptAndMatched(t *testing.T) {
	log := filepath.Join(t.TempDir(), "serial.log")
	var echo, line bytes.Buffer
	v, err := startFake(t, t.Context(), "cont; print boot; print READY 10.0.0.2; wait-quit", Options{LogPath: log, Echo: &echo, Print: &line})
	if err != nil {
		t.Fatal(err)
	}
	l, err := v.WaitLine(regexp.MustCompile(`^READY (\S+)`), patience)
	if err != nil || l.N != 1 || l.At.Before(v.Continued()) || v.Continued().Before(v.Started) {
		t.Errorf("line %+v, %v", l, err)
	}
	if _, err := v.WaitLineFrom(2, regexp.MustCompile("READY"), 30*time.Millisecond); err == nil || !strings.Contains(err.Error(), "not seen within") || !strings.Contains(err.Error(), "| READY 10.0.0.2") {
		t.Errorf("after the match: %v", err)
	}
	if e := v.Quit(); e.Kind != ExitQuit {
		t.Errorf("quit: %v", e)
	}
	if _, err := v.WaitLine(regexp.MustCompile("never"), patience); err == nil || !strings.Contains(err.Error(), "ended first (quit)") {
		t.Errorf("after the end: %v", err)
	}
	kept, err := os.ReadFile(log)
	if err != nil || string(kept) != "boot\nREADY 10.0.0.2\n" || echo.String() != string(kept) {
		t.Errorf("log %q, echo %q, %v", kept, echo.String(), err)
	}
	if !strings.Contains(line.String(), "-serial stdio") || strings.Contains(line.String(), "fd=3") {
		t.Errorf("printed line: %s", line.String())
	}
	if n := len(v.Lines()); n != 2 || v.LogErr() != nil {
		t.Errorf("%d lines, log error %v", n, v.LogErr())
	}
}

func TestStdinReachesTheGuest(t *testing.T) {
	v, err := startFake(t, t.Context(), "cont; echo-stdin; exit 1", Options{Stdin: strings.NewReader("ping\n")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.WaitLine(regexp.MustCompile("^ping$"), patience); err != nil {
		t.Error(err)
	}
}

func TestHoldThenContinue(t *testing.T) {
	v, err := startFake(t, t.Context(), "cont; exit 3", Options{Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	if !v.Continued().IsZero() {
		t.Error("continued while held")
	}
	if err := v.Continue(); err != nil {
		t.Fatal(err)
	}
	if e, _ := v.WaitTimeout(patience); e.Code != 1 || e.Kind != ExitGuest {
		t.Errorf("%v", e)
	}
}

func TestPowerdown(t *testing.T) {
	v, err := startFake(t, t.Context(), "cont; wait-powerdown; shutdown guest-shutdown; exit 0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Powerdown(); err != nil {
		t.Fatal(err)
	}
	if e, _ := v.WaitTimeout(patience); e.Kind != ExitShutdown {
		t.Errorf("%v", e)
	}
}

// The end of the context ends QEMU and what QEMU has started, even when both
// ignore polite signals.
func TestContextEndLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	v, err := startFake(t, ctx, "cont; stubborn; child; print up; sleep", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.WaitLine(regexp.MustCompile("^up$"), patience); err != nil {
		t.Fatal(err)
	}
	l, err := v.WaitLine(regexp.MustCompile(`^child`), patience)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("interrupted")
	cancel(cause)
	e := v.Wait()
	if e.Kind != ExitKilled || !errors.Is(e.Cause, cause) || e.ProcessCode() != 124 || !strings.Contains(e.String(), "interrupted") {
		t.Errorf("%+v", e)
	}
	child := atoi(t, strings.TrimPrefix(l.Text, "child "))
	waitGone(t, child)
}

func TestContextEndedBeforeStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := startFake(t, ctx, "deaf", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestWaitTimeoutKills(t *testing.T) {
	v, err := startFake(t, t.Context(), "cont; sleep", Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, late := v.WaitTimeout(20 * time.Millisecond)
	if !late || e.Kind != ExitKilled || !strings.Contains(e.String(), "still running after") {
		t.Errorf("%v late=%v", e, late)
	}
	if again := v.Kill(); again != e {
		t.Errorf("second kill: %v", again)
	}
}

// A full disk stops the log, not the guest.
func TestLogOnFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	v, err := startFake(t, t.Context(), "cont; print hello; exit 1", Options{LogPath: "/dev/full"})
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := v.WaitTimeout(patience); !e.OK() {
		t.Errorf("%v", e)
	}
	if !errors.Is(v.LogErr(), unix.ENOSPC) {
		t.Errorf("log error %v, want ENOSPC", v.LogErr())
	}
}

func TestThreadsAndPinning(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beFake(t)
	v, err := Start(t.Context(), Spec{QEMU: self, Accel: TCG, Append: "cont; sleep", Pin: Pin{VCPU: []int{0}, Rest: []int{0}}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Kill()
	ts, err := v.Threads()
	if err != nil {
		t.Fatal(err)
	}
	roles := map[Role]int{}
	for _, th := range ts {
		roles[th.Role]++
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(th.TID, &set); err != nil || set.Count() != 1 || !set.IsSet(0) {
			t.Errorf("thread %d (%s): cores %v, %v", th.TID, th.Role, set, err)
		}
	}
	if roles[RoleMain] != 1 || roles[RoleVCPU] != 1 {
		t.Errorf("roles %v, want one main and one vcpu", roles)
	}
	u, err := v.Usage()
	if err != nil || u.Total() <= 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	if err := v.Repin(Pin{Rest: []int{100000}}); err == nil {
		t.Error("core 100000: no error")
	}
}

// A real QEMU boots a guest of thirty bytes on each board: firmware, loader,
// serial port, exit device, pinning and clocks, without a kernel of ours.
func TestRealQEMU(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not installed")
	}
	elf := filepath.Join(t.TempDir(), "tiny.elf")
	if err := os.WriteFile(elf, TinyGuest("one\r\ntwo\n", 5), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, m := range []Machine{Q35, PC, MicroVM} {
		s := Spec{Machine: m, Accel: TCG, CPUs: 2, MemMiB: 64, Kernel: elf, RNG: true, Pin: Pin{VCPU: []int{0}, Rest: []int{0}},
			NICs: []NIC{{Kind: NetUser, Restrict: true}}, Disks: []Disk{{Path: elf, ReadOnly: true, Errors: []InjectError{{IO: "write"}}}}}
		v, err := Start(t.Context(), s, Options{Hold: true})
		if err != nil {
			t.Errorf("%s: %v", m, err)
			continue
		}
		ts, err := v.Threads()
		vcpus := 0
		for _, th := range ts {
			if th.Role == RoleVCPU {
				vcpus++
			}
		}
		if err != nil || vcpus != 2 {
			t.Errorf("%s: %d vCPU threads, want 2 (%v)", m, vcpus, err)
		}
		if err := v.Continue(); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		if l, err := v.WaitLine(regexp.MustCompile("^two$"), patience); err != nil || l.N != 1 {
			t.Errorf("%s: %+v %v", m, l, err)
		}
		if e, late := v.WaitTimeout(patience); late || e.Kind != ExitGuest || e.Code != 5 {
			t.Errorf("%s: %v", m, e)
		}
	}
	v, err := Start(t.Context(), Spec{Accel: TCG}, Options{}) // firmware only
	if err != nil {
		t.Fatal(err)
	}
	if e := v.Quit(); e.Kind != ExitQuit {
		t.Errorf("quit: %v", e)
	}
	if _, err := Start(t.Context(), Spec{Accel: TCG, Extra: []string{"-device", "no-such-device"}}, Options{}); err == nil || !strings.Contains(err.Error(), "no-such-device") {
		t.Errorf("bad device: %v", err)
	}
}

func TestProbe(t *testing.T) {
	t.Setenv(ProbeEnv, "KVM")
	if a := Probe(t.Context(), "x"); a != KVM {
		t.Errorf("override: %s", a)
	}
	t.Setenv(ProbeEnv, "")
	dir := t.TempDir()
	if probeKVM(t.Context(), "x", filepath.Join(dir, "kvm")) {
		t.Error("without the device: kvm")
	}
	device := filepath.Join(dir, "kvm")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for status, want := range map[string]bool{"85": true, "1": false} {
		qemu := filepath.Join(dir, "qemu"+status)
		if err := os.WriteFile(qemu, []byte("#!/bin/sh\nexit "+status+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := probeKVM(t.Context(), qemu, device); got != want {
			t.Errorf("QEMU that exits with %s: %v", status, got)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beFake(t)
	if a, b := Probe(t.Context(), self), Probe(t.Context(), self); a != TCG || b != TCG {
		t.Errorf("fake QEMU: %s, then %s", a, b)
	}
	s, err := Spec{QEMU: self}.Resolve(t.Context())
	if err != nil || s.Accel != TCG || s.CPU != "max,-erms" {
		t.Errorf("resolved %+v, %v", s, err)
	}
}
