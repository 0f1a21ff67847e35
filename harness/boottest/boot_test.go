//go:build boot

package boottest_test

import (
	"errors"
	"os/exec"
	"testing"

	"osv/harness/boottest"
	"osv/harness/image"
)

// TestBoot is harness/cmd/boottest for go test: every program, board and number
// of vCPUs, one boot each. -run 'TestBoot/prog/q35/2cpu' selects.
func TestBoot(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatal("qemu-system-x86_64 is not installed (Debian: apt-get install qemu-system-x86)")
	}
	cases, err := boottest.Discover("../../kernel/ktest/progs")
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no program in kernel/ktest/progs")
	}
	cfg := boottest.Config{Build: image.Build, BuildDir: t.TempDir()}
	for _, b := range cfg.Plan(cases) {
		t.Run(b.Name(), func(t *testing.T) {
			rs, err := cfg.Run(t.Context(), []boottest.Boot{b})
			if err != nil && !errors.Is(err, boottest.ErrFailed) {
				t.Fatal(err)
			}
			for _, r := range rs {
				if r.Skipped != "" {
					t.Skip(r.Skipped)
				}
				for _, f := range r.Faults {
					t.Error(f)
				}
				if !r.OK {
					t.Logf("%s\n%s", r.QEMU, r.Tail)
				}
			}
		})
	}
}
