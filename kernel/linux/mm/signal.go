package mm

import (
	"errors"
	"fmt"
	"syscall"
)

// The si_code values of faults, from asm-generic/siginfo.h.
const (
	SegvMapErr = 1 // nothing is mapped there
	SegvAccErr = 2 // the mapping does not allow it
	BusAdrErr  = 2 // there is no page behind the mapping
)

// Signal is what a fault that cannot be served does to the thread that made it.
type Signal struct {
	Sig  syscall.Signal
	Code int32
	Addr uint64
}

func (e *Signal) Error() string {
	return fmt.Sprintf("mm: %v at %#x, code %d", e.Sig, e.Addr, e.Code)
}

// ErrOOM is a fault that there is no memory for: the program is to be killed.
var ErrOOM = errors.New("mm: out of memory")

func segv(code int32, addr uint64) error { return &Signal{syscall.SIGSEGV, code, addr} }
