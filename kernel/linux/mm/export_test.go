package mm

import "fmt"

// Check looks at what must always hold of a space that nothing uses at the moment.
func Check(s *Space) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, inPlace := 0, 0
	total, locked, data, commit := uint64(0), uint64(0), uint64(0), uint64(0)
	end := uint64(0)
	for v := s.tree.first; v != nil; v = v.next {
		n++
		if v.start < end || v.start >= v.end || (v.start|v.end)&(PageSize-1) != 0 {
			return fmt.Errorf("mapping %#x-%#x after %#x", v.start, v.end, end)
		}
		end = v.end
		size := v.end - v.start
		total += size
		if v.flags&vmLocked != 0 {
			locked += size
		}
		if v.isData() {
			data += size
		}
		if v.accounted() {
			commit += size
		}
		if v.writesInPlace() {
			inPlace++
		}
	}
	if n != s.tree.n || total != s.total || locked != s.locked || data != s.data ||
		commit != s.commit || inPlace != s.inPlace {
		return fmt.Errorf("sums: %d mappings (%d), %d bytes (%d), locked %d (%d), data %d (%d), commit %d (%d), in place %d (%d)",
			s.tree.n, n, s.total, total, s.locked, locked, s.data, data, s.commit, commit, s.inPlace, inPlace)
	}
	if err := checkTree(s.tree.root, 0, ^uint64(0)); err != nil {
		return err
	}
	var anon, files int64
	s.table.Walk(0, TaskSize, func(va uint64, e PTE) bool {
		if s.refs.page(e.Frame) != nil {
			files++
		} else {
			anon += 1 << e.Order
		}
		return true
	})
	if anon != s.anon.Load() || files != s.files.Load() {
		return fmt.Errorf("resident: %d anonymous (%d), %d of files (%d)", s.anon.Load(), anon, s.files.Load(), files)
	}
	return nil
}

func checkTree(n *vma, low, high uint64) error {
	if n == nil {
		return nil
	}
	if n.start < low || n.end > high {
		return fmt.Errorf("node %#x-%#x outside of %#x-%#x", n.start, n.end, low, high)
	}
	if d := height(n.left) - height(n.right); d < -1 || d > 1 {
		return fmt.Errorf("node %#x: heights %d and %d", n.start, height(n.left), height(n.right))
	}
	if err := checkTree(n.left, low, n.start); err != nil {
		return err
	}
	if err := checkTree(n.right, n.end, high); err != nil {
		return err
	}
	was := *n
	n.update()
	if n.gap != was.gap || n.maxGap != was.maxGap || n.height != was.height {
		return fmt.Errorf("node %#x: gap %d, largest %d, height %d, want %d, %d, %d", n.start,
			was.gap, was.maxGap, was.height, n.gap, n.maxGap, n.height)
	}
	return nil
}

// HoldReading keeps what copies on write replace from being released until the function
// that it returns is called.
func HoldReading(s *Space) (release func()) {
	s.mu.RLock()
	return s.mu.RUnlock
}
