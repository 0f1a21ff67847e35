package linux

import (
	"io"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
)

// newTTY is the console as the first program's terminal.
func (s *System) newTTY() *fd.TTY {
	tty := fd.NewTTY(s.cfg.Console)
	tty.Signal = func(pgrp int, sig syscall.Signal) {
		// A group that has ended is not an error.
		_ = s.Kernel.SignalGroup(pgrp, abi.Siginfo{Signo: int32(sig), Code: abi.SI_KERNEL})
	}
	if in := s.cfg.ConsoleIn; in != nil {
		go typing(tty, in)
	}
	return tty
}

// typing hands on what is typed, until the input ends.
func typing(tty *fd.TTY, in io.Reader) {
	b := make([]byte, 256)
	for {
		n, err := in.Read(b)
		if n > 0 {
			tty.Input(b[:n])
		}
		if err != nil {
			return
		}
	}
}
