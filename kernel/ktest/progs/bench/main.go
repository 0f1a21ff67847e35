// Command bench measures what metal costs a program and prints one line each:
// BENCH name value unit. harness/cmd/bootbench reads them.
//
//boot:want ^BENCH time_now
package main

import (
	"fmt"
	"runtime"
	"sort"
	"time"

	"osv/kernel/hw/gate"
	_ "osv/kernel/metal/boot"
)

// perOp runs f n times in each of several rounds and returns the median ns.
func perOp(n int, f func(n int)) float64 {
	var rounds []float64
	for range 7 {
		t0 := time.Now()
		f(n)
		rounds = append(rounds, float64(time.Since(t0).Nanoseconds())/float64(n))
	}
	sort.Float64s(rounds)
	return rounds[len(rounds)/2]
}

func main() {
	print := func(name string, v float64, unit string) { fmt.Printf("BENCH %s %.1f %s\n", name, v, unit) }
	print("main_after_entry", float64(gate.SinceEntry().Microseconds()), "us")
	print("metal_call", perOp(20000, func(n int) {
		for range n {
			gate.Nop()
		}
	}), "ns")
	print("time_now", perOp(50000, func(n int) {
		for range n {
			_ = time.Now()
		}
	}), "ns")
	print("gosched", perOp(20000, func(n int) {
		for range n {
			runtime.Gosched()
		}
	}), "ns")
	print("goroutine_wake", perOp(2000, func(n int) {
		ping, pong := make(chan int), make(chan int)
		go func() {
			for i := range ping {
				pong <- i
			}
		}()
		for i := range n {
			ping <- i
			<-pong
		}
		close(ping)
	})/2, "ns")
	if runtime.NumCPU() > 1 {
		print("thread_wake_across_cpus", perOp(500, func(n int) {
			ping, pong := make(chan int), make(chan int)
			go func() {
				runtime.LockOSThread()
				for i := range ping {
					pong <- i
				}
			}()
			runtime.LockOSThread()
			for i := range n {
				ping <- i
				<-pong
			}
			runtime.UnlockOSThread()
			close(ping)
		})/2, "ns")
	}
	print("interrupt_to_goroutine", gate.InterruptLatency(200), "ns")
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	print("go_sys_memory", float64(ms.Sys>>10), "KiB")
	m := gate.Memory()
	print("frames_used", float64(m.Total-m.Free)/1024, "KiB")
}
