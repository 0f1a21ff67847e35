package mm

// Barrier has every processor that is in the program pass a full barrier, and take up
// changed code, before it returns: it takes a page away that nobody can reach, which no
// processor may miss.
func (s *Space) Barrier() error {
	s.lock()
	defer s.unlock()
	var f [1]Frame
	if err := s.m.Alloc(f[:], 0, true); err != nil {
		return err
	}
	defer s.m.Free(f[:], 0)
	// The page above TaskSize is in the table's half, but in no mapping.
	if err := s.table.Map(TaskSize, f[:], 0, 0); err != nil {
		return err
	}
	return s.table.Unmap(TaskSize, TaskSize+PageSize, ignorePage)
}

// Mapped says whether all of [start, end) is.
func (s *Space) Mapped(start, end uint64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for a := start; a < end; {
		v := s.tree.at(a)
		if v == nil {
			return false
		}
		a = v.end
	}
	return true
}
