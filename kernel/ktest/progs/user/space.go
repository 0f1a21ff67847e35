package main

import (
	"fmt"
	"os"

	"osv/kernel/hw/gate"
	"osv/kernel/linux/mm"
	"osv/kernel/linux/usermem"
)

var machine = usermem.New(usermem.Guest{})

// Where each space has its pages.
const (
	codeAt  = 0x400000
	stackAt = 0x7fffff000000
	dataAt  = 0x10000000
	stackKB = 64
)

const rw = mm.ProtRead | mm.ProtWrite

// space is an address space with code, a stack and some data.
type space struct {
	mm.Table
	code, data []mm.Frame
}

func newSpace(c code, dataPages int) *space {
	t, err := machine.NewTable()
	check(err)
	s := &space{Table: t, code: make([]mm.Frame, (len(c)+4095)/4096), data: make([]mm.Frame, dataPages)}
	check(machine.Alloc(s.code, 0, true))
	for i, f := range s.code {
		copy(machine.Bytes(f, 0), c[i*4096:])
	}
	check(t.Map(codeAt, s.code, 0, mm.ProtRead|mm.ProtExec))
	check(machine.Alloc(s.data, 0, true))
	check(t.Map(dataAt, s.data, 0, rw))
	n, err := t.MapZero(stackAt-stackKB<<10, stackKB<<10, rw, false)
	check(err)
	want("bytes of stack", n, stackKB<<10)
	return s
}

func (s *space) free() {
	check(s.Unmap(0, 1<<47, func(_ uint64, e mm.PTE) {
		f := [1]mm.Frame{e.Frame}
		machine.Free(f[:], e.Order)
	}))
	s.Free()
}

// thread makes a User at the start of the code.
func thread() *gate.User {
	u, err := gate.NewUser()
	check(err)
	u.Regs().RIP, u.Regs().RSP = codeAt, stackAt
	return u
}

// enter enters until something other than a kick comes back.
func enter(u *gate.User, s *space) gate.UserReason {
	for {
		if r := u.Enter(s.Root()); r.Kind != gate.UserKick {
			return r
		}
	}
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func want[T comparable](what string, got, want T) {
	if got != want {
		fail("%s: %v (%#[2]v), want %v (%#[3]v)", what, got, want)
	}
}

func fail(format string, args ...any) {
	fmt.Printf("user: "+format+"\n", args...)
	os.Exit(1)
}
