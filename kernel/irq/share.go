package irq

import "sync"

// Shared is one source that several devices raise, a level-triggered pin: each has a
// Line of its own, and each is woken when it fires. The pin stays masked until all of
// them have come back to Wait, that is have quieted their devices: so nobody's request
// is lost, and one device's does not keep the others' from being seen. A driver whose
// goroutine does not come back to Wait holds up those that it shares with.
//
// The Lines are no Wakers: Wait is for a goroutine that does nothing else.
type Shared struct {
	hw Line

	mu      sync.Mutex // guards all below, and the state of lines
	lines   []*sharedLine
	serving int           // lines that have the latest firing still before them
	quiet   chan struct{} // serving became 0
	running bool
	err     error // the source is closed
}

// sharedLine is one device's share.
type sharedLine struct {
	s       *Shared
	fired   chan struct{} // one: a firing that Wait has not returned yet
	stop    chan struct{}
	pending bool // counted in serving
	taken   bool // Wait has returned it
	closed  bool
}

// Share makes hw a source for several Lines. hw is closed with the last of them.
func Share(hw Line) *Shared {
	return &Shared{hw: hw, quiet: make(chan struct{}, 1)}
}

// Line adds a device.
func (s *Shared) Line() (Line, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	l := &sharedLine{s: s, fired: make(chan struct{}, 1), stop: make(chan struct{})}
	s.lines = append(s.lines, l)
	if !s.running {
		s.running = true
		go s.run()
	}
	return l, nil
}

// run passes firings on.
func (s *Shared) run() {
	for s.hw.Wait() == nil {
		s.mu.Lock()
		s.serving = len(s.lines)
		for _, l := range s.lines {
			l.pending = true
			l.fired <- struct{}{} // there is room: the one before was taken and served
		}
		n := s.serving
		s.mu.Unlock()
		if n > 0 {
			<-s.quiet
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = ErrClosed
	for _, l := range s.lines {
		l.end()
	}
}

// served notes that l has the latest firing behind it. Caller holds mu.
func (l *sharedLine) served() {
	if !l.pending {
		return
	}
	l.pending, l.taken = false, false
	if l.s.serving--; l.s.serving == 0 {
		l.s.quiet <- struct{}{} // there is room: one for each firing, which waits for it
	}
}

// end wakes the waiter for good. Caller holds mu.
func (l *sharedLine) end() {
	if !l.closed {
		l.closed = true
		close(l.stop)
	}
}

// Wait is Line's.
func (l *sharedLine) Wait() error {
	l.s.mu.Lock()
	if l.taken {
		l.served()
	}
	l.s.mu.Unlock()
	select {
	case <-l.stop:
		return ErrClosed
	default:
	}
	select {
	case <-l.fired:
	case <-l.stop:
		return ErrClosed
	}
	l.s.mu.Lock()
	l.taken = l.pending
	l.s.mu.Unlock()
	return nil
}

// Close is Line's. The source is masked when the last device has closed its Line, so
// that a device is quiet before it does.
func (l *sharedLine) Close() error {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.closed {
		return nil
	}
	l.end()
	l.served()
	for i, x := range s.lines {
		if x == l {
			s.lines = append(s.lines[:i], s.lines[i+1:]...)
			break
		}
	}
	if len(s.lines) == 0 {
		s.err = ErrClosed
		return s.hw.Close()
	}
	return nil
}
