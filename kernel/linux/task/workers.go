package task

import "sync"

// workers are goroutines whose task has ended and that wait for the next: their stacks
// have grown to what system calls need, which a new one's has to do step by step.
type workers struct {
	mu   sync.Mutex
	idle []chan *Task // the last to come is the first to go
	over bool
}

// maxIdle is how many wait at most.
const maxIdle = 16

// spawn runs t in a goroutine.
func (w *workers) spawn(t *Task) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		c <- t
		return
	}
	w.mu.Unlock()
	go w.work(t)
}

func (w *workers) work(t *Task) {
	t.run()
	c := make(chan *Task, 1)
	for w.park(c) {
		t := <-c
		if t == nil {
			return
		}
		t.run()
	}
}

// park says whether a task may come by c.
func (w *workers) park(c chan *Task) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || len(w.idle) == maxIdle {
		return false
	}
	w.idle = append(w.idle, c)
	return true
}

// end lets those that wait go, now and from now on.
func (w *workers) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	for _, c := range w.idle {
		c <- nil
	}
	w.idle = nil
}
