package mm

import (
	"bytes"
	"syscall"
)

// reach returns the memory at addr up to the end of its page, after making sure that
// want can be done to it. What it returns is good until mu is released, which happens
// in reach only before it looks. Caller holds mu for reading.
func (s *Space) reach(addr uint64, want Prot) ([]byte, error) { return s.reachFor(addr, want, 1) }

// reachFor is reach as part of a copy of n bytes.
func (s *Space) reachFor(addr uint64, want Prot, n int) ([]byte, error) {
	var p *[PageSize]byte
	if want == ProtWrite {
		p = s.nearWrite(addr)
	} else {
		p = s.nearRead(addr)
	}
	if p != nil {
		return p[addr%PageSize:], nil
	}
	return s.lookUp(addr, want, n)
}

// lookUp is reachFor of a page that is not remembered. Those of long copies are not
// remembered then: they would drive each other out, at more than a look at the table
// costs.
func (s *Space) lookUp(addr uint64, want Prot, n int) ([]byte, error) {
	if s.reacher != nil && addr < TaskSize {
		if b, dirty, ok := s.reacher.Reach(addr, want); ok && (dirty || want != ProtWrite || s.inPlace == 0) {
			if want != ProtExec && n <= PageSize {
				s.remember(addr, want)
			}
			return b, nil
		}
	}
	for {
		if addr >= TaskSize {
			return nil, syscall.EFAULT
		}
		e, ok := s.table.Lookup(addr)
		if ok && e.grants(want) {
			if want == ProtWrite && s.inPlace != 0 && !e.Dirty {
				s.wrote(addr, e)
			}
			b := s.m.Bytes(e.Frame, e.Order)
			return b[addr&(uint64(PageSize)<<e.Order-1):], nil
		}
		if s.fault(addr, want) != nil {
			return nil, syscall.EFAULT
		}
	}
}

// put copies p to addr and on, up to what cannot be written. Caller holds mu for
// reading.
func (s *Space) put(addr uint64, p []byte) (n int, err error) {
	all := len(p)
	for {
		var k int
		if g := s.nearWrite(addr); g != nil {
			k = move(g[addr%PageSize:], p)
		} else {
			b, err := s.lookUp(addr, ProtWrite, all)
			if err != nil {
				return n, err
			}
			k = move(b, p)
		}
		n += k
		if k == len(p) {
			return n, nil
		}
		addr, p = addr+uint64(k), p[k:]
	}
}

// get copies from addr and on to p, up to what cannot be read. Caller holds mu for
// reading.
func (s *Space) get(p []byte, addr uint64) (n int, err error) {
	all := len(p)
	for {
		var k int
		if g := s.nearRead(addr); g != nil {
			k = move(p, g[addr%PageSize:])
		} else {
			b, err := s.lookUp(addr, ProtRead, all)
			if err != nil {
				return n, err
			}
			k = move(p, b)
		}
		n += k
		if k == len(p) {
			return n, nil
		}
		addr, p = addr+uint64(k), p[k:]
	}
}

// wrote tells a file's page that the kernel is about to write to it: the processor
// does not see that.
func (s *Space) wrote(addr uint64, e PTE) {
	if v := s.tree.at(addr); v != nil && v.writesInPlace() {
		if p := s.refs.page(e.Frame); p != nil {
			p.Dirty()
		}
	}
}

// CopyIn copies from user memory at addr: EFAULT where that cannot be read.
func (s *Space) CopyIn(p []byte, addr uint64) error {
	_, err := s.ReadAt(p, addr)
	return err
}

// CopyOut copies p to user memory at addr: EFAULT where that cannot be written; what
// comes before is written all the same.
func (s *Space) CopyOut(addr uint64, p []byte) error {
	_, err := s.WriteAt(addr, p)
	return err
}

// ReadAt is CopyIn that also tells how much was copied before the error.
func (s *Space) ReadAt(p []byte, addr uint64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.mu.RLock()
	n, err := s.get(p, addr)
	s.mu.RUnlock()
	return n, err
}

// WriteAt is CopyOut that also tells how much was copied before the error.
func (s *Space) WriteAt(addr uint64, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.mu.RLock()
	n, err := s.put(addr, p)
	s.mu.RUnlock()
	s.settle()
	return n, err
}

// Zero clears n bytes of user memory at addr.
func (s *Space) Zero(addr, n uint64) error {
	var err error
	s.mu.RLock()
	for n > 0 {
		var b []byte
		if b, err = s.reach(addr, ProtWrite); err != nil {
			break
		}
		b = b[:min(uint64(len(b)), n)]
		clear(b)
		addr, n = addr+uint64(len(b)), n-uint64(len(b))
	}
	s.mu.RUnlock()
	s.settle()
	return err
}

// String reads a string that ends in a zero byte, without it: EFAULT, and ENAMETOOLONG
// where the first max bytes have no zero.
func (s *Space) String(addr uint64, max int) (string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var long []byte
	for {
		b, err := s.reach(addr, ProtRead)
		if err != nil {
			return "", err
		}
		b = b[:min(len(b), max-len(long))]
		if i := bytes.IndexByte(b, 0); i >= 0 {
			if long == nil {
				return string(b[:i]), nil
			}
			return string(append(long, b[:i]...)), nil
		}
		long = append(long, b...)
		addr += uint64(len(b))
		if len(long) >= max {
			return "", syscall.ENAMETOOLONG
		}
	}
}
