package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/vm"
	"osv/harness/wire"
)

// tiny writes a guest that says text and ends with code.
func tiny(t *testing.T, text string, code byte) string {
	t.Helper()
	elf := filepath.Join(t.TempDir(), "k.elf")
	if err := os.WriteFile(elf, vm.TinyGuest(text, code), 0o644); err != nil {
		t.Fatal(err)
	}
	return elf
}

func osvrun(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestUsage(t *testing.T) {
	elf := tiny(t, "", 0)
	for want, args := range map[string][]string{
		"expected \"<kernel>\"": {},
		`"frob" is not known`:   {elf, "--net", "user,frob"},
		`disk "": no path`:      {elf, "--disk", ""},
		`pin "x"`:               {elf, "--pin", "x"},
		"must be one of":        {elf, "--machine", "pdp11"},
		"300 vCPUs":             {elf, "--cpus", "300", "--dry-run"},
		"queues=0":              {elf, "--net", "wire,queues=0"},
	} {
		if code, _, errs := osvrun(t, args...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%v: status %d, %q, want %q", args, code, errs, want)
		}
	}
}

func TestDryRunPrintsTheLine(t *testing.T) {
	elf := tiny(t, "", 0)
	code, out, _ := osvrun(t, elf, "--dry-run", "--accel", "tcg", "-c", "2", "-m", "64", "-a", "--ip=a b", "--no-rng",
		"--net", "user,fwd=tcp::80-:80", "--disk", elf+",ro", "--gdb", "--qemu-arg=-s")
	for _, want := range []string{"-smp 2 -m 64", "-append '--ip=a b'", "hostfwd=tcp::80-:80", `"read-only":true`, "-gdb tcp:127.0.0.1:25", " -s\n"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("status %d, no %q in %s", code, want, out)
		}
	}
	if strings.Contains(out, "rng") {
		t.Errorf("rng device in %s", out)
	}
}

func needQEMU(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not installed")
	}
}

func TestGuestCodeIsTheStatus(t *testing.T) {
	needQEMU(t)
	log := filepath.Join(t.TempDir(), "serial.log")
	code, out, errs := osvrun(t, tiny(t, "hello\n", 9), "--accel", "tcg", "--log", log)
	if code != 9 || out != "hello\n" || !strings.HasPrefix(errs, "qemu-system-x86_64 ") || !strings.Contains(errs, "osvrun: guest exit code 9\n") {
		t.Errorf("status %d, %q, %q", code, out, errs)
	}
	if b, err := os.ReadFile(log); err != nil || string(b) != "hello\n" {
		t.Errorf("log %q, %v", b, err)
	}
	if code, _, errs := osvrun(t, tiny(t, "hello\n", 0), "--accel", "tcg", "-q"); code != 0 || errs != "" {
		t.Errorf("status %d, %q", code, errs)
	}
	if code, _, errs := osvrun(t, tiny(t, "", 0), "--accel", "tcg", "--qemu-arg=-no-such-option"); code != 125 || !strings.Contains(errs, "no-such-option") {
		t.Errorf("status %d, %q", code, errs)
	}
	if _, err := os.Stat("/dev/full"); err == nil {
		if code, _, errs := osvrun(t, tiny(t, "hello\n", 0), "--accel", "tcg", "--log", "/dev/full"); code != 0 || !strings.Contains(errs, "serial log: ") {
			t.Errorf("full disk: status %d, %q", code, errs)
		}
	}
}

// Held for the debugger, the guest does not start; the script names it.
func TestGDBHoldsTheGuest(t *testing.T) {
	needQEMU(t)
	elf := tiny(t, "hello\n", 0)
	code, out, errs := osvrun(t, elf, "--accel", "tcg", "--gdb", "--gdb-port", "25123", "--timeout", "300ms")
	if code != 124 || out != "" || !strings.Contains(errs, "gdb -x ") || !strings.Contains(errs, "still running after 300ms") {
		t.Errorf("status %d, %q, %q", code, out, errs)
	}
	script, err := os.ReadFile(strings.TrimSuffix(elf, ".elf") + ".gdb")
	if err != nil || !strings.Contains(string(script), "127.0.0.1:25123") {
		t.Errorf("%s %v", script, err)
	}
}

// The time is over before QEMU is up: the status is that of a timeout all the same.
func TestTimeoutBeforeTheStart(t *testing.T) {
	needQEMU(t)
	if code, _, errs := osvrun(t, tiny(t, "hello\n", 0), "--accel", "tcg", "--timeout", "1ns"); code != 124 || !strings.Contains(errs, "still running after 1ns") {
		t.Errorf("status %d, %q", code, errs)
	}
}

func TestWire(t *testing.T) {
	needQEMU(t)
	w, err := wire.Open(wire.Options{Kind: wire.TAP})
	if errors.Is(err, wire.ErrPrivilege) {
		t.Skip(err)
	}
	w.Close()
	code, out, errs := osvrun(t, tiny(t, "hello\n", 3), "--accel", "tcg", "--net", "wire,queues=2")
	if code != 3 || out != "hello\n" || !strings.Contains(errs, "nsenter --net=/proc/") || !strings.Contains(errs, "ifname=tap0,script=no,downscript=no,queues=2") {
		t.Errorf("status %d, %q, %q", code, out, errs)
	}
	if code, _, errs := osvrun(t, tiny(t, "", 0), "--net", "wire", "--net", "wire"); code != 2 || !strings.Contains(errs, "one wire") {
		t.Errorf("status %d, %q", code, errs)
	}
}

func TestInterrupted(t *testing.T) {
	needQEMU(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var b bytes.Buffer
	if code := run(ctx, []string{tiny(t, "", 0), "--accel", "tcg"}, &b, &b); code != 125 || !strings.Contains(b.String(), "context canceled") {
		t.Errorf("status %d, %q", code, b.String())
	}
}
