package store

import "sync/atomic"

// Time and what makes an item go: expiry and flush_all. Time is counted in
// relative seconds, moved only by Tick.

// maxDelta: an expiry beyond 30 days is a Unix time (protocol.txt, "Expiration
// times").
const maxDelta = 60 * 60 * 24 * 30

// fate says why an item is no longer there.
type fate uint8

const (
	alive fate = iota
	expired
	flushed
)

func (it *item) expires() uint32    { return atomic.LoadUint32(&it.exptime) }
func (it *item) lastAccess() uint32 { return atomic.LoadUint32(&it.time) }

// gone says whether it is past its expiry or flushed at relative second now.
func (s *Store) gone(it *item, now uint32) fate {
	if atomic.LoadUint64(&it.cas) < s.flushCAS.Load() {
		return flushed
	}
	if e := it.expires(); e != 0 && e <= now {
		return expired
	}
	return alive
}

// Tick sets the time to Unix second unix. A clock that runs backwards is taken
// to stand still.
func (s *Store) Tick(unix int64) {
	now := unix - s.epoch0
	if now <= int64(s.rel.Load()) || now > 1<<32-2 {
		return
	}
	s.rel.Store(uint32(now))
	if at := s.flushAt.Load(); at != 0 && at <= uint32(now) && s.flushAt.CompareAndSwap(at, 0) {
		s.flushNow()
	}
}

// Now is the current time in relative seconds, Unix the same as Unix time.
func (s *Store) Now() uint32 { return s.rel.Load() }

// Unix is the current time in Unix seconds, as of the last Tick.
func (s *Store) Unix() int64 { return s.UnixOf(s.rel.Load()) }

// UnixOf converts relative seconds to Unix time.
func (s *Store) UnixOf(rel uint32) int64 { return s.epoch0 + int64(rel) }

// Uptime is the number of seconds since New.
func (s *Store) Uptime() int64 { return int64(s.rel.Load()) - relStart }

// Deadline converts a client's expiry to relative seconds: 0 is never, up to 30
// days count from now, more is Unix time, negative is the past.
func (s *Store) Deadline(exptime int64) uint32 {
	switch {
	case exptime == 0:
		return 0
	case exptime < 0:
		return 1
	case exptime <= maxDelta:
		return s.rel.Load() + uint32(exptime)
	}
	r := exptime - s.epoch0
	switch {
	case r <= 1:
		return 1
	case r > 1<<32-2:
		return 1<<32 - 2
	}
	return uint32(r)
}

// Flush makes all items there are now vanish, at once where exptime <= 0, or at
// the time that exptime says; then it takes those that are there then. A later
// Flush replaces one that is still to come.
func (s *Store) Flush(exptime int64) {
	if exptime > 0 {
		// One second early, as upstream.
		if at := s.Deadline(exptime) - 1; at > s.rel.Load() {
			s.flushAt.Store(at)
			return
		}
	}
	s.flushAt.Store(0)
	s.flushNow()
}

func (s *Store) flushNow() {
	// Whoever links an item later gets a higher CAS.
	c := s.cas.Add(1)
	for {
		was := s.flushCAS.Load()
		if was >= c || s.flushCAS.CompareAndSwap(was, c) {
			break
		}
	}
	s.crawler.wanted.Store(true)
}

// reclaim takes an item out that is gone. Caller must hold sh.mu.
func (sh *shard) reclaim(it *item, why fate) {
	cl := &sh.classes[it.cls]
	cl.st.Reclaimed++
	if why == expired && it.loadState()&stFetched == 0 {
		cl.st.ExpiredUnfetched++
	}
	sh.unlink(it)
}
