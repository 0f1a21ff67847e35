// Command timers checks that sleeps are never short, tickers lose no tick, timers
// fire in order, and that time agrees with itself across processors.
//
//boot:want ^timers: ok
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"sync"
	"time"

	_ "osv/kernel/metal/boot"
)

func main() {
	failed := false
	check := func(ok bool, format string, args ...any) {
		if !ok {
			failed = true
			fmt.Printf("timers: "+format+"\n", args...)
		}
	}
	var late []time.Duration
	for _, d := range []time.Duration{0, 50 * time.Microsecond, time.Millisecond, 20 * time.Millisecond, 150 * time.Millisecond} {
		for range 5 {
			t0 := time.Now()
			time.Sleep(d)
			took := time.Since(t0)
			check(took >= d, "Sleep(%v) took %v", d, took)
			late = append(late, took-d)
		}
	}
	sort.Slice(late, func(i, j int) bool { return late[i] < late[j] })
	fmt.Printf("timers: sleeps were late by median %v, worst %v\n", late[len(late)/2], late[len(late)-1])

	// Timers set in one order fire in order of their deadlines.
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for _, k := range []int{5, 1, 4, 2, 3} {
		wg.Add(1)
		time.AfterFunc(time.Duration(k)*60*time.Millisecond, func() {
			defer wg.Done()
			mu.Lock()
			order = append(order, k)
			mu.Unlock()
		})
	}
	wg.Wait()
	check(sort.IntsAreSorted(order), "fired in order %v", order)

	// A stopped timer stays silent, a reset one moves.
	fired := make(chan bool, 1)
	tm := time.AfterFunc(30*time.Millisecond, func() { fired <- true })
	check(tm.Stop(), "Stop of a pending timer said it had fired")
	time.Sleep(60 * time.Millisecond)
	check(len(fired) == 0, "a stopped timer fired")

	tk := time.NewTicker(10 * time.Millisecond)
	t0 := time.Now()
	for range 20 {
		<-tk.C
	}
	tk.Stop()
	check(time.Since(t0) >= 195*time.Millisecond, "20 ticks of 10 ms in %v", time.Since(t0))

	// Monotonic everywhere: a time read after a channel hand-over is not earlier.
	ch := make(chan time.Time)
	done := make(chan int)
	go func() {
		back := 0
		for t := range ch {
			if time.Since(t) < 0 {
				back++
			}
		}
		done <- back
	}()
	for range 20000 {
		ch <- time.Now()
		if runtime.NumCPU() > 1 {
			runtime.Gosched()
		}
	}
	close(ch)
	back := <-done
	check(back == 0, "time went backwards %d times", back)
	check(time.Now().Year() >= 2024, "the wall clock says %v", time.Now())
	if failed {
		os.Exit(1)
	}
	fmt.Println("timers: ok", time.Now().UTC().Format(time.RFC3339))
}
