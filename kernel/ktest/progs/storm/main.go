// Command storm makes the scheduler's life hard: many goroutines that block,
// wake, sleep, lock, spin without calls, and allocate, all at once, then checks
// that nothing was lost and that every goroutine ended.
//
//boot:timeout 120s
//boot:want ^storm: ok
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	_ "osv/kernel/metal/boot"
)

func main() {
	before := runtime.NumGoroutine()
	fmt.Println("storm: cpus", runtime.NumCPU(), "GOMAXPROCS", runtime.GOMAXPROCS(0))
	for round := range 3 {
		if err := storm(1000); err != nil {
			fmt.Println("storm: round", round, err)
			os.Exit(1)
		}
	}
	if err := spinners(); err != nil {
		fmt.Println("storm:", err)
		os.Exit(1)
	}
	for i := 0; runtime.NumGoroutine() > before && i < 1000; i++ {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		fmt.Println("storm: goroutines left:", n-before)
		os.Exit(1)
	}
	fmt.Println("storm: ok")
}

// storm sends n*10 values through shared channels, every goroutine also taking a
// mutex, sleeping and allocating; the sum tells whether each arrived once.
func storm(n int) error {
	ch, ack := make(chan int, 7), make(chan int)
	var mu sync.Mutex
	held, total := 0, 0
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	for i := range n {
		wg.Go(func() {
			for k := range 10 {
				ch <- i*10 + k
				<-ack
				mu.Lock()
				held++
				b := make([]byte, 64+k*100)
				b[k] = 1
				held--
				mu.Unlock()
				if i%50 == k {
					time.Sleep(time.Duration(k) * time.Millisecond)
				}
			}
		})
	}
	for range n * 10 {
		select {
		case v := <-ch:
			total += v
			ack <- v
		case <-ctx.Done():
			return fmt.Errorf("timed out with sum %d", total)
		}
	}
	wg.Wait()
	if want := n * 10 * (n*10 - 1) / 2; total != want || held != 0 {
		return fmt.Errorf("sum %d, want %d; held %d", total, want, held)
	}
	return nil
}

// spinners runs more loops without a function call than there are processors:
// only a signal can stop them, so the collector's progress proves preemption.
func spinners() error {
	var stop atomic.Bool
	var wg sync.WaitGroup
	sink := make([]int, 2*runtime.NumCPU())
	for i := range sink {
		wg.Go(func() {
			for !stop.Load() {
				sink[i]++
			}
		})
	}
	for range 10 {
		time.Sleep(5 * time.Millisecond)
		runtime.GC()
	}
	stop.Store(true)
	wg.Wait()
	for i, n := range sink {
		if n == 0 {
			return fmt.Errorf("spinner %d never ran", i)
		}
	}
	return nil
}
