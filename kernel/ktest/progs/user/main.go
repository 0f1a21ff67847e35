// Command user enters ring 3 with programs made by hand, and checks what a program
// can see and do, and what it cannot.
//
//boot:want ^user: ok$
//boot:timeout 120s
//boot:machine q35,microvm
package main

import (
	"fmt"
	"runtime"
	"time"

	"osv/kernel/hw/gate"
	_ "osv/kernel/metal/boot"
)

func main() {
	x, n := gate.UserXFeatures()
	fmt.Printf("user: %d cpus, XCR0 %#x, %d bytes\n", gate.CPUs(), x, n)
	procs := runtime.GOMAXPROCS(0)
	for _, t := range []struct {
		name string
		f    func()
	}{
		{"round trip", roundTrip},
		{"faults", faults},
		{"garbage", garbage},
		{"flags", flags},
		{"state", state},
		{"many", many},
		{"spin", spin},
		{"kick", kick},
		{"sticky", sticky},
		{"copy", copies},
		{"dirty", dirty},
		{"shootdown", shootdown},
		{"kernel's half", upperHalf},
		{"storm", storm},
		{"leaks", leaks},
	} {
		// A program keeps its P while it runs; so there are more of them than processors,
		// but for the tests of exactly that.
		if t.name == "spin" || t.name == "round trip" {
			runtime.GOMAXPROCS(procs)
		} else {
			runtime.GOMAXPROCS(procs + 4)
		}
		t0 := time.Now()
		t.f()
		fmt.Printf("user: %s: %d ms\n", t.name, time.Since(t0).Milliseconds())
	}
	fmt.Println("user: ok")
}
