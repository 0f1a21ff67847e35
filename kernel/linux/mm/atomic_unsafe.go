package mm

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

// word32 and word64 are the word at addr, good as long as what reach returns. Caller
// holds mu for reading.
func word32(s *Space, addr uint64, want Prot) (*uint32, error) {
	if addr&3 != 0 {
		return nil, syscall.EINVAL
	}
	b, err := s.reach(addr, want)
	if err != nil {
		return nil, err
	}
	return (*uint32)(unsafe.Pointer(&b[0])), nil
}

func word64(s *Space, addr uint64, want Prot) (*uint64, error) {
	if addr&7 != 0 {
		return nil, syscall.EINVAL
	}
	b, err := s.reach(addr, want)
	if err != nil {
		return nil, err
	}
	return (*uint64)(unsafe.Pointer(&b[0])), nil
}

// Load32 reads the word at addr atomically. This and its kin: EFAULT, and EINVAL for
// an address that is no multiple of the size.
func (s *Space) Load32(addr uint64) (uint32, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	w, err := word32(s, addr, ProtRead)
	if err != nil {
		return 0, err
	}
	return atomic.LoadUint32(w), nil
}

// Store32 writes the word at addr atomically.
func (s *Space) Store32(addr uint64, x uint32) error {
	s.mu.RLock()
	w, err := word32(s, addr, ProtWrite)
	if err == nil {
		atomic.StoreUint32(w, x)
	}
	s.mu.RUnlock()
	s.settle()
	return err
}

// CompareAndSwap32 writes the word at addr if it holds old, and says whether it did.
func (s *Space) CompareAndSwap32(addr uint64, old, new uint32) (bool, error) {
	s.mu.RLock()
	done := false
	w, err := word32(s, addr, ProtWrite)
	if err == nil {
		done = atomic.CompareAndSwapUint32(w, old, new)
	}
	s.mu.RUnlock()
	s.settle()
	return done, err
}

// Add32 adds to the word at addr and returns the new value.
func (s *Space) Add32(addr uint64, d uint32) (uint32, error) {
	s.mu.RLock()
	x := uint32(0)
	w, err := word32(s, addr, ProtWrite)
	if err == nil {
		x = atomic.AddUint32(w, d)
	}
	s.mu.RUnlock()
	s.settle()
	return x, err
}

// Load64 reads the two words at addr atomically.
func (s *Space) Load64(addr uint64) (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	w, err := word64(s, addr, ProtRead)
	if err != nil {
		return 0, err
	}
	return atomic.LoadUint64(w), nil
}

// Store64 writes the two words at addr atomically.
func (s *Space) Store64(addr, x uint64) error {
	s.mu.RLock()
	w, err := word64(s, addr, ProtWrite)
	if err == nil {
		atomic.StoreUint64(w, x)
	}
	s.mu.RUnlock()
	s.settle()
	return err
}

// CompareAndSwap64 writes the two words at addr if they hold old.
func (s *Space) CompareAndSwap64(addr, old, new uint64) (bool, error) {
	s.mu.RLock()
	done := false
	w, err := word64(s, addr, ProtWrite)
	if err == nil {
		done = atomic.CompareAndSwapUint64(w, old, new)
	}
	s.mu.RUnlock()
	s.settle()
	return done, err
}
