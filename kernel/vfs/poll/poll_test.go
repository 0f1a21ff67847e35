package poll

import (
	"fmt"
	"sync"
	"testing"
)

// Waiters that are always told come first, the latest before the others; of the
// exclusive ones, in the order in which they came, one takes the event.
func TestNotifyOrder(t *testing.T) {
	var l List
	told := ""
	add := func(name string, exclusive, takes bool) *Waiter {
		w := &Waiter{Exclusive: exclusive, Notify: func(e Events) bool { told += name; return takes }}
		l.Add(w)
		l.Add(w) // twice is once
		return w
	}
	if !l.Empty() {
		t.Fatal("a new list is not empty")
	}
	l.Notify(In)
	add("a", false, true)
	x := add("X", true, false)
	add("Y", true, true)
	add("Z", true, true)
	b := add("b", false, true)
	l.Notify(In)
	if told != "baXY" {
		t.Fatal(told)
	}
	l.Remove(x)
	l.Remove(x)
	l.Remove(b)
	told = ""
	l.Notify(Out)
	if told != "aY" || l.Empty() {
		t.Fatal(told)
	}
	var other List
	defer func() {
		if recover() == nil {
			t.Fatal("a waiter got on two lists")
		}
	}()
	w := &Waiter{}
	l.Add(w)
	other.Add(w)
}

// flag is a source: what is set before Notify is seen by who adds himself and then
// looks, or he is told.
func TestNobodyIsMissed(t *testing.T) {
	for range 3000 {
		var l List
		var mu sync.Mutex
		set := false
		c := make(chan struct{}, 1)
		w := Waiter{Notify: func(Events) bool { c <- struct{}{}; return true }}
		go func() {
			mu.Lock()
			set = true
			mu.Unlock()
			l.Notify(In)
		}()
		l.Add(&w)
		mu.Lock()
		is := set
		mu.Unlock()
		if !is {
			<-c
		}
		l.Remove(&w)
	}
}

func ExampleList() {
	var l List
	l.Add(&Waiter{Notify: func(e Events) bool { fmt.Printf("%#x\n", uint32(e)); return true }})
	l.Notify(In | Hup)
	// Output: 0x11
}
