package blk

// Turn is a mutex for what takes as long as a device does: a reset, a restart. It
// is a channel, so that tests in false time see who waits for it as asleep.
// NewTurn makes one.
type Turn chan struct{}

// NewTurn makes a Turn that nobody has.
func NewTurn() Turn { return make(Turn, 1) }

// Lock waits for its turn.
func (t Turn) Lock() { t <- struct{}{} }

// Unlock gives it to the next.
func (t Turn) Unlock() { <-t }
