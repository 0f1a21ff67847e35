// Command user enters ring 3 with programs made by hand and checks what a program
// may see and do.
//
//boot:want ^user: ok$
//boot:timeout 120s
package main

import (
	"fmt"
	"time"

	"osv/kernel/hw/gate"
	_ "osv/kernel/metal/boot"
)

func main() {
	roundTrip()
	fmt.Println("user: ok")
}

// roundTrip measures the way into ring 3 and back by a system call.
func roundTrip() {
	s := newSpace(code{}.movEAX(39).syscall().jmp(0), 0)
	u := thread()
	const n = 100000
	for range 3 {
		t0 := time.Now()
		kicks := 0
		for range n {
			if r := u.Enter(s.Root()); r.Kind != gate.UserSyscall {
				if r.Kind != gate.UserKick {
					fail("%v %+v at %#x", r.Kind, r, u.Regs().RIP)
				}
				kicks++
			}
		}
		d := time.Since(t0)
		want("RAX", u.Regs().RAX, 39)
		fmt.Printf("user: %d ns for a round trip (%d kicks)\n", d.Nanoseconds()/n, kicks)
	}
	u.Free()
	s.free()
}
