package gate

import (
	"slices"
	"sync/atomic"
	"time"
)

// latency raises v from one goroutine while another waits, n times.
func latency(v uint8, n int) float64 {
	var raised atomic.Int64
	took := make(chan int64)
	go func() {
		for range n {
			if WaitVector(v) != nil {
				break
			}
			took <- time.Now().UnixNano() - raised.Load()
		}
		close(took)
	}()
	var ns []int64
	for range n {
		time.Sleep(200 * time.Microsecond) // let the waiter block
		raised.Store(time.Now().UnixNano())
		RaiseVector(v)
		d, ok := <-took
		if !ok {
			break
		}
		ns = append(ns, d)
	}
	if len(ns) == 0 {
		return 0
	}
	slices.Sort(ns)
	return float64(ns[len(ns)/2])
}
