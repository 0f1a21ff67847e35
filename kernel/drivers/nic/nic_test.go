package nic

import (
	"sync"
	"testing"

	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
)

// A line that can be woken is slept on; one that cannot needs a goroutine; none
// at all is a channel.
func TestWaiterWakes(t *testing.T) {
	l := &fakedev.Line{}
	for _, c := range []struct {
		name string
		line irq.Line
		pump bool
	}{{"own line", l, false}, {"line without Wake", struct{ irq.Line }{l}, true}, {"no line", nil, false}} {
		var w Waiter
		if got := w.Init(c.line); got != c.pump {
			t.Errorf("%s: pump %v", c.name, got)
		}
		w.Wake()
		w.Wake() // merged
		if err := w.Wait(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		done := make(chan error)
		go func() { done <- w.Wait() }()
		w.Wake()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	var w Waiter
	w.Init(l)
	l.Close()
	if w.Wait() == nil {
		t.Error("Wait on a closed line returns nil")
	}
}

func TestGate(t *testing.T) {
	var g Gate
	if !g.Enter() || g.Enter() {
		t.Fatal("the gate lets in none, or two")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if !g.Hold() {
			t.Error("an open gate cannot be held")
		}
		g.Leave()
	})
	g.Leave()
	wg.Wait()
	g.Shut()
	g.Shut()
	if g.Enter() || g.Hold() {
		t.Error("a shut gate lets in")
	}
}
