// Command panics makes every kind of fault that Go turns into a panic, recovers
// each, and then ends in the way its argument says.
//
//boot:want ^panics: recovered 6
//boot:test exit
//boot:append exit
//boot:exit 7
//boot:test panic
//boot:append panic
//boot:exit 2
//boot:want ^panic: the end
//boot:want main\.finish
//boot:test nil
//boot:append nil
//boot:exit 2
//boot:want nil pointer dereference
//boot:test wild
//boot:append wild
//boot:exit 2
//boot:want ^(fatal error: fault|unexpected fault address 0xffffb00000000000)
//boot:test deadlock
//boot:append deadlock
//boot:exit 2
//boot:want all goroutines are asleep - deadlock
//boot:test metal
//boot:append metal
//boot:exit 101
//boot:want ^osv: fatal: page fault .* in metal on cpu \d+, thread \d+, address 0xffffb00000000000
//boot:want ^  rip 0x[0-9a-f]+
//boot:want ^  at 0x[0-9a-f]+ osv/kernel/metal/klog\.chunk\+0x
//boot:test reset
//boot:append reset
//boot:exit reset
//boot:test sigterm
//boot:append sigterm
//boot:exit 0
//boot:want ^panics: asked to end by terminated
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"osv/kernel/hw/gate"
	_ "osv/kernel/metal/boot"
)

var (
	sink int
	null *int
	zero int
	list []int
	m    map[string]int
	any1 any = "text"
)

func try(f func()) (ok bool) {
	defer func() { ok = recover() != nil }()
	f()
	return false
}

func main() {
	n := 0
	for _, f := range []func(){
		func() { sink = *null },
		func() { *null = 1 },
		func() { sink = 1 / zero },
		func() { sink = list[3] },
		func() { m["x"] = 1 },
		func() { sink = any1.(int) },
	} {
		// In a goroutine of its own too, so on a small stack.
		done := make(chan bool)
		go func() { done <- try(f) }()
		if <-done && try(f) {
			n++
		}
	}
	fmt.Println("panics: recovered", n)
	finish(os.Args[1])
}

func finish(how string) {
	switch how {
	case "exit":
		os.Exit(7)
	case "panic":
		panic("the end")
	case "nil":
		sink = *null
	case "wild":
		sink = *(*int)(unsafe.Pointer(uintptr(0xffffb00000000000))) // never handed out
	case "deadlock":
		select {}
	case "metal":
		// A system call of the runtime with an address that nobody ever handed out:
		// metal itself faults, and must say so.
		syscall.RawSyscall(syscall.SYS_WRITE, 1, 0xffffb00000000000, 8)
	case "reset":
		gate.Reset()
	case "sigterm":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		syscall.Kill(syscall.Getpid(), syscall.SIGTERM)
		fmt.Println("panics: asked to end by", <-c)
		os.Exit(0)
	}
	os.Exit(99)
}
