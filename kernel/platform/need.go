package platform

// Need makes room for n bytes that somebody could not get, at the cost of caches and
// of garbage on the Go heap, and reports whether there may be some now.
func (s *System) Need(n int) bool { return s.balance.Need(n) }
