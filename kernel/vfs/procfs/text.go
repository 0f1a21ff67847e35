package procfs

import (
	"fmt"
	"strings"
	"time"
)

// text is a file being written.
type text struct{ b []byte }

func (t *text) f(format string, a ...any) { t.b = fmt.Appendf(t.b, format, a...) }

// hz is USER_HZ: the ticks that times are told in.
const hz = 100

func ticks(d time.Duration) int64 { return int64(d / (time.Second / hz)) }

func kb(n uint64) uint64 { return n >> 10 }

// escape writes a path as maps, mounts and mountinfo do: octal for what separates.
func escape(s, special string) string {
	if !strings.ContainsAny(s, special) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(special, s[i]) >= 0 {
			fmt.Fprintf(&b, "\\%03o", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
