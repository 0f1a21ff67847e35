package vm

import (
	"fmt"
	"strings"
	"syscall"
)

// ExitKind is why a machine ended.
type ExitKind int

// The ways a machine ends.
const (
	ExitGuest    ExitKind = iota // the guest wrote its code to the debug-exit port
	ExitShutdown                 // the guest powered off (ACPI S5)
	ExitReset                    // the guest asked for a reset or took a triple fault
	ExitQuit                     // QMP quit, or a polite signal to QEMU
	ExitKilled                   // Kill, or the context ended
	ExitFailed                   // QEMU did not start, gave up or crashed
)

var exitNames = [...]string{"guest exit", "power-off", "reset or triple fault", "quit", "killed", "qemu failed"}

func (k ExitKind) String() string {
	if k < 0 || int(k) >= len(exitNames) {
		return fmt.Sprintf("ExitKind(%d)", int(k))
	}
	return exitNames[k]
}

// Exit is how a machine ended.
type Exit struct {
	Kind   ExitKind
	Code   int            // ExitGuest: the guest's code, 0 to 127
	Status int            // QEMU's exit status; -1 where a signal ended it
	Signal syscall.Signal // the signal that ended QEMU, else 0
	Stderr string         // the end of QEMU's standard error
	Cause  error          // ExitKilled by a context: its cause
}

func (e Exit) String() string {
	s := e.Kind.String()
	switch {
	case e.Kind == ExitGuest:
		s = fmt.Sprintf("guest exit code %d", e.Code)
	case e.Signal != 0:
		s += fmt.Sprintf(" (%v)", e.Signal)
	case e.Kind == ExitFailed:
		s += fmt.Sprintf(" with status %d", e.Status)
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	if e.Kind == ExitFailed && e.Stderr != "" {
		s += ": " + strings.ReplaceAll(strings.TrimSpace(e.Stderr), "\n", "; ")
	}
	return s
}

// OK reports a guest that ended by itself and without complaint: code 0 or a
// power-off.
func (e Exit) OK() bool {
	return e.Kind == ExitGuest && e.Code == 0 || e.Kind == ExitShutdown
}

// ProcessCode folds e into an exit status for a command: the guest's own code,
// 0 for a power-off or quit, 124 killed (as timeout(1)), 125 QEMU failed, 126
// reset or triple fault.
func (e Exit) ProcessCode() int {
	switch e.Kind {
	case ExitGuest:
		return e.Code
	case ExitShutdown, ExitQuit:
		return 0
	case ExitKilled:
		return 124
	case ExitReset:
		return 126
	}
	return 125
}

// decodeExit turns what is known at the end into an Exit. running says that QEMU
// had finished its start (it had answered on QMP): before that, status 1 is
// QEMU's own "cannot start", after it the guest's code 0, since isa-debug-exit
// ends QEMU with (value<<1)|1. reason is that of the last SHUTDOWN event.
func decodeExit(ws syscall.WaitStatus, running, killed bool, reason string) Exit {
	e := Exit{Status: -1}
	if ws.Signaled() {
		e.Signal = ws.Signal()
		e.Kind = ExitFailed
		if killed {
			e.Kind = ExitKilled
		}
		return e
	}
	e.Status = ws.ExitStatus()
	switch {
	case !running:
		e.Kind = ExitFailed
	case e.Status&1 == 1:
		e.Kind, e.Code = ExitGuest, e.Status>>1
	case e.Status != 0:
		e.Kind = ExitFailed
	default:
		switch reason {
		case "guest-shutdown":
			e.Kind = ExitShutdown
		case "guest-reset", "guest-panic":
			e.Kind = ExitReset
		default:
			e.Kind = ExitQuit
		}
	}
	return e
}
