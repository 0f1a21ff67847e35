// Command pingpong has 10,000 goroutines in pairs hand a ball back and forth, on
// all processors at once.
//
//boot:timeout 120s
//boot:mem 256
//boot:want ^pingpong: ok
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	_ "osv/kernel/metal/boot"
)

func main() {
	const pairs, rounds = 5000, 20
	var sum atomic.Int64
	var wg sync.WaitGroup
	t0 := time.Now()
	for range pairs {
		ping, pong := make(chan int), make(chan int)
		wg.Go(func() {
			for i := range rounds {
				ping <- i
				if <-pong != i+1 {
					fmt.Println("pingpong: wrong ball")
					os.Exit(1)
				}
			}
			close(ping)
		})
		wg.Go(func() {
			for i := range ping {
				sum.Add(1)
				pong <- i + 1
			}
		})
	}
	wg.Wait()
	if got := sum.Load(); got != pairs*rounds {
		fmt.Println("pingpong: rounds", got, "want", pairs*rounds)
		os.Exit(1)
	}
	fmt.Printf("pingpong: %d hand-overs on %d processors, %v each\n", 2*pairs*rounds, runtime.NumCPU(),
		time.Since(t0)/(2*pairs*rounds))
	fmt.Println("pingpong: ok")
}
