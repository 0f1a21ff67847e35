package task

import "testing"

// A thread goes to the goroutine that has waited least, no more wait than may, and at
// the end none is left.
func TestWorkers(t *testing.T) {
	var w workers
	var all []chan *Task
	for range maxIdle {
		c := make(chan *Task, 1)
		if !w.park(c) {
			t.Fatal("there is room")
		}
		all = append(all, c)
	}
	if w.park(make(chan *Task, 1)) {
		t.Error("one too many waits")
	}
	x := new(Task)
	w.spawn(x)
	if got := <-all[maxIdle-1]; got != x {
		t.Errorf("the last to wait got %p, want %p", got, x)
	}
	w.end()
	for i, c := range all[:maxIdle-1] {
		select {
		case got := <-c:
			if got != nil {
				t.Errorf("goroutine %d got a thread at the end", i)
			}
		default:
			t.Errorf("goroutine %d waits for ever", i)
		}
	}
	if w.park(all[0]) {
		t.Error("one waits after the end")
	}
}

// Who is alone hardly ever gives the processor away, who is not always.
func TestYield(t *testing.T) {
	n := 0
	k := &Kernel{cfg: Config{Yield: func() { n++ }}}
	x := &Task{k: k}
	k.load.busy.Store(1)
	for range 8 {
		x.Yield()
	}
	if n != 2 {
		t.Errorf("alone: %d of 8", n)
	}
	k.load.busy.Store(2)
	for range 8 {
		x.Yield()
	}
	if n != 10 {
		t.Errorf("not alone: %d of 8", n-2)
	}
}
