package boottest

import (
	"strings"
	"testing"
)

// Any source text: no panic; what is accepted can be planned.
func FuzzDirectives(f *testing.F) {
	f.Add("//boot:exit 3\n//boot:want ^x$\n//boot:test a\n//boot:cpus 1,2")
	f.Add("//boot:disk 64M,serial=x\n//boot:net user\n//boot:timeout 1s\n//boot:machine pc")
	f.Add("//boot:\n//boot:test\n//boot:qemu")
	f.Fuzz(func(t *testing.T, src string) {
		cs, err := parseCases(strings.NewReader(src), defaultCase("p", "/p"))
		if err != nil {
			return
		}
		for _, b := range (Config{}).Plan(cs) {
			if b.CPUs < 1 || b.Case.Timeout <= 0 || b.Case.MemMiB < 1 {
				t.Fatalf("%+v", b)
			}
		}
	})
}
