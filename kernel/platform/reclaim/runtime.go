package reclaim

import (
	"runtime/debug"
	"runtime/metrics"
)

// The Go runtime's part of State. Reading these stops nothing.
var names = [...]string{
	"/memory/classes/total:bytes",
	"/memory/classes/heap/released:bytes",
	"/memory/classes/heap/objects:bytes",
	"/memory/classes/heap/unused:bytes",
	"/memory/classes/heap/free:bytes",
	"/gc/heap/live:bytes",
}

// Runtime returns what the Go runtime holds and needs, for a State.
func Runtime() (held, needed int) {
	var m [len(names)]metrics.Sample
	for i := range m {
		m[i].Name = names[i]
	}
	metrics.Read(m[:])
	v := func(i int) int { return int(m[i].Value.Uint64()) }
	held = v(0) - v(1)
	// Beside live objects: stacks and the runtime's own structures.
	return held, held - v(2) - v(3) - v(4) + v(5)
}

// Limiter returns a Config.SetLimit that keeps to the limit that the environment
// (GOMEMLIMIT) set, if that is lower.
func Limiter() func(n int) {
	given := debug.SetMemoryLimit(-1)
	return func(n int) { debug.SetMemoryLimit(min(given, int64(n))) }
}

// Reserve is how much of a machine with ram bytes of memory caches and programs leave
// free for those who have no one to ask: drivers, threads, and the Go heap, which may
// double before its next collection looks at how much memory there is.
func Reserve(ram uint64) uint64 {
	held, needed := Runtime()
	return min(max(ram/32, 6<<20), 32<<20) + uint64(max(2*needed+4<<20-held, 0))
}
