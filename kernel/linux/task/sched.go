package task

import (
	"sync"
)

// schedule is what the sched_* calls set and tell. The scheduler itself is the Go
// runtime's with metal's below it: it treats all alike.
type schedule struct {
	mu       sync.Mutex
	policy   int32
	priority int32
	nice     int32
	affinity [maxCPUs / 64]uint64
	reset    bool
}

// maxCPUs is the size of affinity masks.
const maxCPUs = 64

func (s *schedule) init(cpus int) {
	for i := range min(cpus, maxCPUs) {
		s.affinity[i/64] |= 1 << (i % 64)
	}
}

func (s *schedule) inherit(from *schedule) {
	from.mu.Lock()
	defer from.mu.Unlock()
	s.policy, s.priority, s.nice, s.affinity = from.policy, from.priority, from.nice, from.affinity
	if from.reset {
		s.policy, s.priority, s.nice = 0, 0, max(0, from.nice)
	}
}

// Policy, priority and nice value; any goroutine may ask.
func (t *Task) Policy() (policy, priority int32, reset bool) {
	t.sched.mu.Lock()
	defer t.sched.mu.Unlock()
	return t.sched.policy, t.sched.priority, t.sched.reset
}

// SetPolicy sets them.
func (t *Task) SetPolicy(policy, priority int32, reset bool) {
	t.sched.mu.Lock()
	defer t.sched.mu.Unlock()
	t.sched.policy, t.sched.priority, t.sched.reset = policy, priority, reset
}

// Nice is the nice value, -20 to 19.
func (t *Task) Nice() int32 {
	t.sched.mu.Lock()
	defer t.sched.mu.Unlock()
	return t.sched.nice
}

// SetNice sets it.
func (t *Task) SetNice(n int32) {
	t.sched.mu.Lock()
	defer t.sched.mu.Unlock()
	t.sched.nice = n
}

// Affinity is the mask of processors that it was told to run on.
func (t *Task) Affinity() uint64 {
	t.sched.mu.Lock()
	defer t.sched.mu.Unlock()
	return t.sched.affinity[0]
}

// SetAffinity keeps the mask; false where it names no processor.
func (t *Task) SetAffinity(m uint64) bool {
	t.sched.mu.Lock()
	defer t.sched.mu.Unlock()
	all := ^uint64(0)
	if n := t.k.cfg.CPUs; n < 64 {
		all = 1<<n - 1
	}
	if m&all == 0 {
		return false
	}
	t.sched.affinity[0] = m & all
	return true
}
