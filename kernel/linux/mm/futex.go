package mm

import "syscall"

// Key names the word that a futex is: equal for all who mean the same memory. It is
// comparable.
type Key struct {
	obj any // the space, or what the memory is shared by
	off uint64
}

// FutexKey is the key of the word at addr, a multiple of 4 (EINVAL): of this space, or
// with shared set of what is behind the mapping there (EFAULT where nothing is).
func (s *Space) FutexKey(addr uint64, shared bool) (Key, error) {
	if addr&3 != 0 {
		return Key{}, syscall.EINVAL
	}
	if addr >= TaskSize {
		return Key{}, syscall.EFAULT
	}
	if !shared {
		return Key{s, addr}, nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.tree.at(addr)
	if v == nil || v.prot == 0 {
		return Key{}, syscall.EFAULT
	}
	if v.flags&vmShared != 0 {
		return Key{v.back.key, v.offset(addr)}, nil
	}
	return Key{s, addr}, nil
}
