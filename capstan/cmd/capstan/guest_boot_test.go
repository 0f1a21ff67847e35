//go:build boot

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"osv/capstan/hypervisor"
)

// The base image, asked by the commands that speak to a guest.
func TestBootGuestCommands(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not installed (Debian: apt-get install qemu-system-x86)")
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.host = hypervisor.Local()
	w.ok("build", filepath.Join(root, "appliances", "osv"))
	port := freePort(t)
	w.ok("run", "-d", "--direct", "-i", "base", "-f", fmt.Sprintf("%d:8000", port), "--boot", "--rest-token=0123456789abcdef", "osv")
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if code, _, errs := w.run("ps", "base"); code == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatal(errs)
		}
	}
	if out := w.ok("ps", "base"); !strings.Contains(out, `"idle0"`) {
		t.Errorf("ps: %q", out)
	}
	if out := w.ok("top", "-n", "1", "-d", "200ms", "base"); !strings.Contains(out, "eth0 channels: fast") {
		t.Errorf("top: %q", out)
	}
	if out := w.ok("exec", "--token", "0123456789abcdef", "-w", "base", "echo", "said by capstan"); strings.TrimSpace(out) == "" {
		t.Error("exec prints no number")
	}
	if out := w.ok("logs", "base"); !strings.Contains(out, "said by capstan") {
		t.Errorf("logs: %q", out)
	}
	if out := w.ok("logs", "--console", "base"); !strings.Contains(out, "said by capstan") {
		t.Errorf("logs --console: %q", out)
	}
	if code, _, errs := w.run("exec", "base", "echo", "x"); code != 1 || !strings.Contains(errs, "401") {
		t.Errorf("without a token: %d %q", code, errs)
	}
	w.ok("stop", "base")
	w.fails(1, "instance base: is stopped", "ps", "base")
	w.ok("delete", "base")
}
