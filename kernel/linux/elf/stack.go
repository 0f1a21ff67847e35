package elf

import (
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/mm"
)

// Limits of arguments and environment (linux/binfmts.h): one string, and all together
// as a part of the stack.
const (
	maxString  = 32 * pageSize
	maxStrings = 0x7fffffff
	minArgs    = 32 * pageSize
	maxArgs    = 6 << 20
)

// Start is what a program finds on its stack.
type Start struct {
	Argv, Env []string
	ExecFn    string // path as it was given
	Platform  string
	Random    [16]byte
	// Aux is the auxiliary vector, without AT_RANDOM, AT_EXECFN, AT_PLATFORM and
	// AT_NULL, which are added.
	Aux [][2]uint64
}

// Built is where its parts are.
type Built struct {
	SP                                 uint64 // of argc
	ArgStart, ArgEnd, EnvStart, EnvEnd uint64
	Auxv                               []byte
}

// CheckArgs is E2BIG where arguments and environment are too large for a stack limit.
func CheckArgs(argv, env []string, stackLimit uint64) error {
	limit := min(uint64(maxArgs), max(uint64(minArgs), stackLimit/4))
	var sum uint64
	for _, list := range [][]string{argv, env} {
		if len(list) > maxStrings {
			return syscall.E2BIG
		}
		for _, s := range list {
			if len(s)+1 > maxString {
				return syscall.E2BIG
			}
			sum += uint64(len(s)) + 1 + 8
		}
	}
	if sum > limit {
		return syscall.E2BIG
	}
	return nil
}

// Size is how many bytes Build needs at most.
func (s *Start) Size() uint64 {
	n := uint64(8 + len(s.ExecFn) + 1 + len(s.Platform) + 1 + 16 + 64 + 16*(len(s.Aux)+4) + 8*(3+len(s.Argv)+len(s.Env)))
	for _, a := range s.Argv {
		n += uint64(len(a)) + 1
	}
	for _, e := range s.Env {
		n += uint64(len(e)) + 1
	}
	return n
}

// Build writes the stack below top, a multiple of the page size:
//
//	top  8 zeros, the path, environment, arguments (strings in order, upwards)
//	     platform, 16 random bytes
//	     auxiliary vector, 0, envp, 0, argv
//	SP   argc, at a multiple of 16
func (s *Start) Build(m interface {
	CopyOut(addr uint64, p []byte) error
}, top uint64) (Built, error) {
	var o Built
	size := s.Size()
	b := make([]byte, size) // b[i] is at top-size+i
	low := top - size
	at := top - 8
	put := func(str string) uint64 {
		at -= uint64(len(str)) + 1
		copy(b[at-low:], str)
		return at
	}
	execfn := put(s.ExecFn)
	env := make([]uint64, len(s.Env))
	o.EnvEnd = at
	for n := len(s.Env) - 1; n >= 0; n-- {
		env[n] = put(s.Env[n])
	}
	o.EnvStart, o.ArgEnd = at, at
	argv := make([]uint64, len(s.Argv))
	for n := len(s.Argv) - 1; n >= 0; n-- {
		argv[n] = put(s.Argv[n])
	}
	o.ArgStart = at
	platform := put(s.Platform)
	at -= 16
	random := at
	copy(b[at-low:], s.Random[:])

	aux := append(append([][2]uint64(nil), s.Aux...),
		[2]uint64{abi.AT_RANDOM, random}, [2]uint64{abi.AT_EXECFN, execfn}, [2]uint64{abi.AT_PLATFORM, platform}, [2]uint64{abi.AT_NULL, 0})
	words := 1 + len(argv) + 1 + len(env) + 1 + 2*len(aux)
	o.SP = (at - uint64(8*words)) &^ 15
	w := o.SP - low
	word := func(v uint64) {
		le.PutUint64(b[w:], v)
		w += 8
	}
	word(uint64(len(argv)))
	for _, a := range argv {
		word(a)
	}
	word(0)
	for _, e := range env {
		word(e)
	}
	word(0)
	auxv := w
	for _, a := range aux {
		word(a[0])
		word(a[1])
	}
	o.Auxv = append([]byte(nil), b[auxv:w]...)
	return o, m.CopyOut(o.SP, b[o.SP-low:])
}

// stackProt is how the stack is mapped.
func stackProt(exec bool) mm.Prot {
	if exec {
		return mm.ProtRead | mm.ProtWrite | mm.ProtExec
	}
	return mm.ProtRead | mm.ProtWrite
}

// MapStack maps the stack below top: n bytes now, growing down.
func MapStack(s Space, top, n uint64, exec bool) error {
	n = (n + pageSize - 1) &^ (pageSize - 1)
	_, err := s.Mmap(mm.MapRequest{
		Addr: top - n, Length: n, Prot: stackProt(exec), Name: "[stack]",
		Flags: syscall.MAP_PRIVATE | syscall.MAP_ANON | syscall.MAP_GROWSDOWN | syscall.MAP_FIXED,
	})
	return err
}
