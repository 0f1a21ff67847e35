package store

import "sync/atomic"

// Reclamation by epochs. A reader counts itself in under the current epoch and
// out when it is done. The epoch moves from e to e+1 only when no reader of e-1
// is left. Whoever takes something out of readers' sight stamps it with the
// epoch read afterwards, e, and may reuse it once the epoch is e+2:
//
//   - a reader that can hold it counted itself in under some r <= e, since it
//     found the thing before it was taken out and the epoch only grows;
//   - going from e+1 to e+2 waits for readers of e, going from e to e+1 for
//     those of e-1, and older ones cannot be left by induction.
//
// Readers are counted per slot, so that CPUs do not share a line, and by the
// epoch's low bit: readers of e-1 and of e+1 use the same counter, but those of
// e+1 exist only after those of e-1 are gone.

// readerSlot is the pair of reader counts of one slot, on its own cache lines.
type readerSlot struct {
	n [2]atomic.Int64
	_ [112]byte
}

type epochs struct {
	now   atomic.Uint64
	_     [56]byte
	slots []readerSlot
}

func (e *epochs) init(slots int) {
	e.slots = make([]readerSlot, slots)
	e.now.Store(2) // so that now-2 is a valid stamp
}

// enter counts a reader in and returns which counter holds it.
func (e *epochs) enter(s *readerSlot) uint64 {
	for {
		v := e.now.Load()
		s.n[v&1].Add(1)
		// The epoch may have moved between load and count; then nobody may
		// have waited for us, so count again.
		if e.now.Load() == v {
			return v & 1
		}
		s.n[v&1].Add(-1)
	}
}

func (e *epochs) leave(s *readerSlot, which uint64) { s.n[which].Add(-1) }

// advance moves the epoch on if the readers of the last one are gone.
func (e *epochs) advance() bool {
	v := e.now.Load()
	for i := range e.slots {
		if e.slots[i].n[(v-1)&1].Load() != 0 {
			return false
		}
	}
	return e.now.CompareAndSwap(v, v+1)
}

// passed reports whether what was stamped with epoch stamp may be reused.
func (e *epochs) passed(stamp uint64) bool { return e.now.Load() >= stamp+2 }
