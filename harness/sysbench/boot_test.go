//go:build boot

package sysbench

import (
	"bytes"
	"os/exec"
	"testing"
)

// One boot of each guest: all measure all operations.
func TestBoot(t *testing.T) {
	for _, name := range []string{"qemu-system-x86_64", "gcc"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(name + " is not installed")
		}
	}
	r, err := Bench{Top: "../..", Work: t.TempDir(), Runs: 1, Rounds: 1, Log: func(s string) { t.Log(s) }}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.Table(&b); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &b)
	for _, op := range Ops {
		for _, g := range r.Guests {
			if len(r.Values[op][g]) != 1 {
				t.Errorf("%s on %s: %v: want one value", op, g, r.Values[op][g])
			}
		}
	}
}
