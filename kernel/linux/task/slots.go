package task

import (
	"sync"
	"sync/atomic"
	"time"
)

// slots bounds how many threads are in ring 3 at once. Each holds a P of the Go
// runtime; those that are left run the kernel. As long as there are no more threads
// than slots it costs one load. Beyond that threads take turns, first come first
// served, each for what the runtime gives a goroutine (10 ms).
type slots struct {
	n    int32
	used atomic.Int32
	want atomic.Int32 // that wait

	mu    sync.Mutex
	queue []chan struct{}
}

func (s *slots) init(n int) { s.n = int32(n) }

// enter takes a slot, waiting for its turn.
func (s *slots) enter(c chan struct{}) {
	for {
		u := s.used.Load()
		if u >= s.n || s.want.Load() > 0 {
			break
		}
		if s.used.CompareAndSwap(u, u+1) {
			return
		}
	}
	s.mu.Lock()
	s.want.Add(1)
	// With want up, nobody passes by; what was free meanwhile is handed out.
	s.queue = append(s.queue, c)
	s.hand()
	s.mu.Unlock()
	<-c
}

// leave gives it back.
func (s *slots) leave() {
	s.used.Add(-1)
	if s.want.Load() > 0 {
		s.mu.Lock()
		s.hand()
		s.mu.Unlock()
	}
}

// hand gives free slots to those who have waited longest. The caller holds mu.
func (s *slots) hand() {
	for len(s.queue) > 0 {
		u := s.used.Load()
		if u >= s.n {
			return
		}
		if !s.used.CompareAndSwap(u, u+1) {
			continue
		}
		c := s.queue[0]
		copy(s.queue, s.queue[1:])
		s.queue = s.queue[:len(s.queue)-1]
		s.want.Add(-1)
		c <- struct{}{}
	}
}

// loadAverage is what sysinfo and /proc/loadavg tell: threads that run or want to,
// averaged over 1, 5 and 15 minutes, brought up to date when somebody asks.
type loadAverage struct {
	mu   sync.Mutex
	at   time.Time
	avg  [3]float64
	busy atomic.Int32 // threads that do not sleep
}
