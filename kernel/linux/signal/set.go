// Package signal is what signals are made of: sets, dispositions, queues of pending
// ones, and the frame that a handler finds on its stack.
//
// Spec: signal(7), sigaction(2), sigreturn(2) of man-pages 6.03; the frame is that of
// Linux 6.1 for x86-64 (arch/x86/include/asm/sigframe.h, uapi/asm/sigcontext.h). Who
// may use it: kernel/linux/task, which decides who gets a signal and when, and
// kernel/linux/sys/proc. Nothing here locks, blocks or knows a thread. Start reading
// at Queue, then Frame.
package signal

import (
	"math/bits"
	"syscall"

	"osv/kernel/linux/abi"
)

// Set is a set of signals: bit n-1 is signal n.
type Set uint64

// Of is the set of those signals.
func Of(sigs ...syscall.Signal) (s Set) {
	for _, g := range sigs {
		s |= 1 << (g - 1)
	}
	return s
}

// Bit is the set of one signal, empty for what is none.
func Bit(sig int) Set {
	if sig < 1 || sig > abi.NSIG {
		return 0
	}
	return 1 << (sig - 1)
}

// Has says whether sig is in the set.
func (s Set) Has(sig int) bool { return s&Bit(sig) != 0 }

// First is the lowest signal of the set, 0 where it is empty.
func (s Set) First() int {
	if s == 0 {
		return 0
	}
	return bits.TrailingZeros64(uint64(s)) + 1
}

// Sets of signals that belong together.
var (
	// Unblockable can be neither blocked, ignored nor caught.
	Unblockable = Of(syscall.SIGKILL, syscall.SIGSTOP)
	// Sync come from what the thread itself does: they are delivered first.
	Sync = Of(syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGFPE, syscall.SIGSYS)
	// Stop stop the process by default.
	Stop = Of(syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	// Cont goes on.
	Cont = Of(syscall.SIGCONT)
	// ignored are those whose default is that nothing happens.
	ignored = Of(syscall.SIGCHLD, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGCONT)
	// core are those whose default leaves a core file, or would.
	core = Of(syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGFPE, syscall.SIGSEGV,
		syscall.SIGBUS, syscall.SIGSYS, syscall.SIGXCPU, syscall.SIGXFSZ)
)

// Effect is what a signal does that has no handler.
type Effect uint8

const (
	Terminate Effect = iota
	Core             // ends the process, and says more about it
	Ignore
	StopAll
)

// Default is what sig does by default (signal(7)).
func Default(sig int) Effect {
	b := Bit(sig)
	switch {
	case b&ignored != 0:
		return Ignore
	case b&Stop != 0:
		return StopAll
	case b&core != 0:
		return Core
	}
	return Terminate
}

// Action is a signal's disposition: struct sigaction of the kernel.
type Action struct {
	Handler  uint64 // SIG_DFL, SIG_IGN or an address
	Flags    uint64
	Restorer uint64
	Mask     Set
}

// ActionSize is the size of the kernel's struct sigaction in bytes, SetSize that of
// sigset_t.
const (
	ActionSize = 32
	SetSize    = 8
)

// Ignores says whether a signal with that disposition has no effect.
func (a *Action) Ignores(sig int) bool {
	return a.Handler == abi.SIG_IGN || a.Handler == abi.SIG_DFL && Default(sig) == Ignore
}

// Encode writes a as struct sigaction.
func (a *Action) Encode(b *[ActionSize]byte) {
	le.PutUint64(b[0:], a.Handler)
	le.PutUint64(b[8:], a.Flags)
	le.PutUint64(b[16:], a.Restorer)
	le.PutUint64(b[24:], uint64(a.Mask))
}

// DecodeAction reads a struct sigaction.
func DecodeAction(b *[ActionSize]byte) Action {
	return Action{
		Handler: le.Uint64(b[0:]), Flags: le.Uint64(b[8:]) & abi.SA_KNOWN,
		Restorer: le.Uint64(b[16:]), Mask: Set(le.Uint64(b[24:])) &^ Unblockable,
	}
}
