package sock

// Sockets that are in messages to each other, and that no descriptor names any more,
// would live for ever. The collector finds them as Linux's did (net/unix/garbage.c): a
// socket whose every reference is a message under way is garbage, unless a socket that
// is none can read one of those messages; then it is not, nor is what it can read.

// launch notes rights that begin to travel, land those that arrive.
func (t *unixTable) launch(rights []Right) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count += len(rights)
	for _, r := range rights {
		if s, ok := r.File().(*unix); ok {
			t.flying[s]++
		}
	}
}

func (t *unixTable) land(rights []Right) {
	if len(rights) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count -= len(rights)
	for _, r := range rights {
		if s, ok := r.File().(*unix); ok {
			if t.flying[s]--; t.flying[s] <= 0 {
				delete(t.flying, s)
			}
		}
	}
}

// maxInFlight bounds the files in messages: ETOOMANYREFS beyond.
const maxInFlight = 16384

// InFlight says whether n more files may travel.
func (n *Net) InFlight(more int) bool {
	t := &n.unix
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count+more <= maxInFlight
}

// counted is a Right that knows how many references it has.
type counted interface{ Refs() int64 }

// collect drops the messages of sockets that nobody can reach.
func (n *Net) collect() {
	t := &n.unix
	t.mu.Lock()
	if len(t.flying) == 0 {
		t.mu.Unlock()
		return
	}
	refs := map[*unix]int64{}   // of the open file, where it can be told
	internal := map[*unix]int{} // messages to sockets that are under way themselves
	for s := range t.flying {
		s.each(func(r Right) {
			if o, ok := r.File().(*unix); ok {
				internal[o]++
				if c, ok := r.(counted); ok {
					refs[o] = c.Refs()
				}
			}
		})
	}
	reached := map[*unix]bool{}
	var reach func(s *unix)
	reach = func(s *unix) {
		if reached[s] {
			return
		}
		reached[s] = true
		s.each(func(r Right) {
			if o, ok := r.File().(*unix); ok {
				reach(o)
			}
		})
	}
	for s, k := range t.flying {
		if refs[s] != int64(k) || internal[s] < k { // a descriptor, or a socket outside, has it
			reach(s)
		}
	}
	var garbage []*unix
	for s := range t.flying {
		if !reached[s] {
			garbage = append(garbage, s)
		}
	}
	t.mu.Unlock()
	for _, s := range garbage {
		s.in.drop(false)
	}
}

// each calls f for the rights in s's inbox, and in those of what waits to be accepted
// from it. The caller holds unixTable.mu.
func (s *unix) each(f func(r Right)) {
	s.in.mu.Lock()
	for l := s.in.head; l != nil; l = l.next {
		for _, r := range l.rights {
			if r != nil {
				f(r)
			}
		}
	}
	s.in.mu.Unlock()
	for _, n := range s.pending {
		n.each(f)
	}
}

// MayPass says whether n more files may travel.
func (s *unix) MayPass(n int) bool { return s.net.InFlight(n) }
