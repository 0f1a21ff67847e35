package task

// exitRobust tells those who wait for mutexes that t still holds.
func (t *Task) exitRobust() {
	if head := t.RobustList.Swap(0); head != 0 {
		t.k.Futexes.ExitRobust(t.mem, head, uint32(t.TID()))
	}
}
