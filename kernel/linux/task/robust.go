package task

// exitRobust tells those who wait for mutexes that t still holds.
func (t *Task) exitRobust() {
	if t.RobustList == 0 {
		return
	}
	t.k.Futexes.ExitRobust(t.mem, t.RobustList, uint32(t.TID()))
	t.RobustList = 0
}
