package cpuid

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Linux says the same of this processor, but for what it hides or adds.
func TestFlagsAreLinuxs(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("nothing to read on", runtime.GOARCH)
	}
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip(err)
	}
	_, line, _ := strings.Cut(string(b), "\nflags")
	line, _, _ = strings.Cut(line, "\n")
	linux := strings.Fields(strings.TrimLeft(line, "\t: "))
	got := Flags()
	for _, f := range []string{"fpu", "tsc", "sse2", "fxsr", "syscall", "nx", "lm"} {
		if !slices.Contains(got, f) {
			t.Errorf("no flag %s in %v", f, got)
		}
	}
	same := 0
	for _, f := range got {
		if slices.Contains(linux, f) {
			same++
		}
	}
	if same < len(got)*3/4 {
		t.Errorf("of %d flags, Linux has %d: %v", len(got), same, got)
	}
}

func TestHypervisorName(t *testing.T) {
	le := func(s string) []uint32 {
		var out []uint32
		for i := 0; i < 12; i += 4 {
			out = append(out, uint32(s[i])|uint32(s[i+1])<<8|uint32(s[i+2])<<16|uint32(s[i+3])<<24)
		}
		return out
	}
	for sig, want := range map[string]string{
		"KVMKVMKVM\x00\x00\x00": "KVM", "TCGTCGTCGTCG": "QEMU", "VMwareVMware": "VMware", "SomethingNew": "SomethingNew",
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00": "unknown", "\xff\xfe\xfd\xfcabcdefgh": "?abcdefgh",
	} {
		if got := hypervisorName(le(sig)...); got != want {
			t.Errorf("%q: %q, want %q", sig, got, want)
		}
	}
	if Hypervisor() == "" {
		t.Error("no name")
	}
}
