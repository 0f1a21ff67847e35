//go:build boot

package boottest_test

import (
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"osv/harness/image"
	"osv/harness/vm"
)

// The hypervisor's request to power down reaches the program as SIGTERM. The idle
// program does not catch it, so the kernel ends the machine and says why.
func TestPowerButton(t *testing.T) {
	elf := filepath.Join(t.TempDir(), "idle.elf")
	if err := image.BuildWith("./kernel/ktest/progs/idle", elf, image.Options{Dir: "../.."}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []vm.Machine{vm.Q35, vm.PC, vm.MicroVM} {
		t.Run(string(m), func(t *testing.T) {
			s, err := vm.Spec{Machine: m, CPUs: 2, Kernel: elf, RNG: true}.Resolve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			v, err := vm.Start(t.Context(), s, vm.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.WaitLine(regexp.MustCompile("^idle ready"), 20*time.Second); err != nil {
				t.Fatal(err)
			}
			if err := v.Powerdown(); err != nil {
				t.Fatal(err)
			}
			e, late := v.WaitTimeout(10 * time.Second)
			if late {
				t.Fatalf("still running after the power button\n%s", v.Tail(20))
			}
			const sigterm = 100 + 15
			if e.Kind != vm.ExitGuest || e.Code != sigterm {
				t.Errorf("ended by %v, want guest exit code %d\n%s", e, sigterm, v.Tail(20))
			}
		})
	}
}
