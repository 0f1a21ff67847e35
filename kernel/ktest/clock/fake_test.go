package clock

import (
	"slices"
	"testing"
	"time"
)

func TestAdvanceRunsTimersInOrder(t *testing.T) {
	var f Fake
	var got []string
	add := func(name string) func() {
		return func() { got = append(got, name+"@"+time.Duration(f.Now()).String()) }
	}
	f.AfterFunc(3*time.Second, add("c"))
	f.AfterFunc(1*time.Second, add("a"))
	f.AfterFunc(1*time.Second, add("b")) // equal time: order of setting
	f.AfterFunc(9*time.Second, add("never"))
	f.AfterFunc(2*time.Second, func() { f.AfterFunc(time.Second, add("nested")) })
	if n := f.Advance(4 * time.Second); n != 5 {
		t.Errorf("Advance ran %d timers, want 5", n)
	}
	if want := []string{"a@1s", "b@1s", "c@3s", "nested@3s"}; !slices.Equal(got, want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	if now := f.Now(); now != int64(4*time.Second) {
		t.Errorf("now %d, want 4 s", now)
	}
	if d, ok := f.Next(); !ok || d != 5*time.Second || f.Pending() != 1 {
		t.Errorf("next timer in %v (%v), %d pending; want 5s, 1", d, ok, f.Pending())
	}
}

func TestStopAndReset(t *testing.T) {
	var f Fake
	ran := 0
	tm := f.AfterFunc(time.Second, func() { ran++ })
	if !tm.Stop() || tm.Stop() {
		t.Error("Stop must report true once, then false")
	}
	if tm.Reset(time.Second) {
		t.Error("Reset of a stopped timer reports pending")
	}
	if !tm.Reset(2 * time.Second) {
		t.Error("Reset of a pending timer reports not pending")
	}
	f.Advance(time.Second)
	if ran != 0 {
		t.Error("timer ran at its old time")
	}
	f.Advance(time.Second)
	if ran != 1 || tm.Stop() {
		t.Errorf("ran %d times, want 1 and no longer pending", ran)
	}
	if _, ok := f.Next(); ok || f.Pending() != 0 {
		t.Error("timers left")
	}
	f.AfterFunc(-1, func() { ran++ })
	f.Advance(0)
	if ran != 2 {
		t.Error("a timer in the past does not run in Advance(0)")
	}
}
