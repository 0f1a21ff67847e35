package platform

import (
	"runtime/debug"

	"osv/kernel/hw/gate"
	"osv/kernel/platform/reclaim"
)

// newBalance makes the border between the Go heap and caches outside it. Nothing
// is limited before AddShrinker.
func newBalance() *reclaim.Balance {
	return reclaim.New(reclaim.Config{
		State: func() reclaim.State {
			held, needed := reclaim.Runtime()
			return reclaim.State{Free: int(gate.Memory().Free), Held: held, Needed: needed}
		},
		SetLimit: reclaim.Limiter(),
		Release:  debug.FreeOSMemory,
		Reserve:  reserve(int(gate.Memory().Total)),
	})
}

// reserve is what drivers, page tables and threads may still need in a guest with
// total bytes of RAM, once it serves.
func reserve(total int) int { return max(2<<20, total/64) }

// AddShrinker lets a cache outside the Go heap take part in sharing the guest's
// memory. It may have to shrink before AddShrinker returns, whenever the Go heap
// needs more, and when a driver finds no memory; it may grow again when there is
// plenty. The first one starts the watch over the heap.
func (s *System) AddShrinker(sh reclaim.Shrinker) {
	s.watch.Do(s.balance.Watch)
	s.balance.Add(sh)
}

// Reclaimed tells what the sharing of memory has done so far.
func (s *System) Reclaimed() reclaim.Stats { return s.balance.Stats() }

// tcpChunks is how many send buffers all TCP connections share in a guest with
// total bytes of RAM: up to a sixteenth of it, 1 MiB at least and 16 at most.
func tcpChunks(total int) int { return min(max(total/16, 1<<20), 16<<20) / tcpChunk }

// tcpChunk is the size of one, which is also the least that a connection with
// octets to send holds. Large frames are sent out of them: with 8 KiB in 9 pieces,
// where 4 KiB take 17.
const tcpChunk = 8192

// RAM is how many bytes of memory the kernel manages.
func (s *System) RAM() uint64 { return gate.Memory().Total }
