package tcg

import (
	"strings"
	"testing"
)

// Any symbol list: no panic; a lookup finds the nearest symbol below.
func FuzzKallsyms(f *testing.F) {
	f.Add("ffffffff81000000 T a\nffffffff81000010 t b [m]\n", uint64(0xffffffff81000008))
	f.Fuzz(func(t *testing.T, text string, addr uint64) {
		s, err := ParseKallsyms(strings.NewReader(text))
		if err != nil {
			return
		}
		name, best := "", uint64(0)
		for i, a := range s.addrs {
			if a <= addr && a >= best {
				name, best = s.names[i], a
			}
		}
		if got := s.Lookup(addr); got != name {
			t.Errorf("%#x is %q, want %q", addr, got, name)
		}
	})
}
