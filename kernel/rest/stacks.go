package rest

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxStacks is how much text of stacks is read, in bytes: of some thousand
// goroutines. Reading stops the world.
const maxStacks = 1 << 20

// stack is one goroutine as runtime.Stack tells of it.
type stack struct {
	state  string // running, runnable, IO wait, …
	frames []frame
}

// frame is one function on a stack; the innermost comes first.
type frame struct {
	function, file string
	line           int
}

// readStacks reads the stacks of all goroutines into buf, the caller's first. text is
// what buf had room for.
func readStacks(buf []byte) (text []byte) { return buf[:runtime.Stack(buf, true)] }

// parseStacks calls f for each goroutine of such a text: "goroutine 7 [IO wait, 2
// minutes]:", then two lines for each frame. A last one that the buffer cut off is
// left out where its frame is not whole.
func parseStacks(text []byte, f func(stack)) {
	for block := range bytes.SplitSeq(text, []byte("\n\n")) {
		head, rest, ok := bytes.Cut(block, []byte("\n"))
		if !ok || !bytes.HasPrefix(head, []byte("goroutine ")) {
			continue
		}
		_, state, _ := bytes.Cut(head, []byte("["))
		state, _, _ = bytes.Cut(state, []byte("]"))
		state, _, _ = bytes.Cut(state, []byte(","))
		s := stack{state: string(state)}
		for len(rest) > 0 {
			var fn, at []byte
			fn, rest, _ = bytes.Cut(rest, []byte("\n"))
			at, rest, _ = bytes.Cut(rest, []byte("\n"))
			if bytes.HasPrefix(fn, []byte("created by ")) || len(at) == 0 || at[0] != '\t' {
				break
			}
			if i := bytes.LastIndexByte(fn, '('); i > 0 {
				fn = fn[:i]
			}
			file, line := place(at[1:])
			s.frames = append(s.frames, frame{string(fn), file, line})
		}
		if len(s.frames) > 0 {
			f(s)
		}
	}
}

// place reads "/path/file.go:123 +0x1d".
func place(b []byte) (file string, line int) {
	b, _, _ = bytes.Cut(b, []byte(" +0x"))
	i := bytes.LastIndexByte(b, ':')
	if i < 0 {
		return string(b), 0
	}
	for _, d := range b[i+1:] {
		if d < '0' || d > '9' {
			break
		}
		line = line*10 + int(d-'0')
	}
	return string(b[:i]), line
}

// goroutines is the document's model Goroutines.
type goroutines struct {
	Function string `json:"function"`
	At       string `json:"at"`
	State    string `json:"state"`
	Count    int    `json:"count"`
}

// stackAge is for how long one look at the stacks serves all who ask.
const stackAge = time.Second

// stackCache remembers the last look.
type stackCache struct {
	mu     sync.Mutex
	at     time.Time
	buf    []byte
	latest []goroutines
}

// groups returns the goroutines by what they do, most frequent first, and how many
// there are.
func (k *stackCache) groups() ([]goroutines, int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := runtime.NumGoroutine()
	if time.Since(k.at) < stackAge {
		return k.latest, n
	}
	k.at = time.Now()
	size := min(maxStacks, 2048*n+4096)
	if len(k.buf) < size {
		k.buf = make([]byte, size)
	}
	count := map[goroutines]int{}
	parseStacks(readStacks(k.buf), func(s stack) {
		count[goroutines{Function: s.frames[len(s.frames)-1].function, At: innermost(s.frames), State: s.state}]++
	})
	out := []goroutines{}
	for g, n := range count {
		g.Count = n
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b goroutines) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return strings.Compare(a.Function+a.At+a.State, b.Function+b.At+b.State)
	})
	k.latest = out
	if len(k.buf) > 256<<10 {
		k.buf = nil
	}
	return out, n
}

// innermost is the function that a goroutine is in, the runtime's left out.
func innermost(frames []frame) string {
	for _, f := range frames {
		if !strings.HasPrefix(f.function, "runtime.") && !strings.HasPrefix(f.function, "internal/") && !strings.HasPrefix(f.function, "sync.") {
			return f.function
		}
	}
	return frames[0].function
}
