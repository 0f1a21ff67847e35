package hostcpu_test

import (
	"testing"

	"osv/kernel/ktest/hostcpu"
)

func TestArenas(t *testing.T) {
	for name, arena := range map[string]func(testing.TB, int) (uintptr, []byte){"Arena": hostcpu.Arena, "LowArena": hostcpu.LowArena} {
		t.Run(name, func(t *testing.T) {
			a, b := arena(t, 1<<20)
			if a == 0 || a%4096 != 0 || len(b) != 1<<20 {
				t.Errorf("%d bytes at %#x", len(b), a)
			}
			if name == "LowArena" && a+1<<20 > 2<<30 {
				t.Errorf("low arena at %#x", a)
			}
			for i := range b {
				if b[i] != 0 {
					t.Fatalf("byte %d is not zero", i)
				}
				b[i] = 1
			}
		})
	}
}
