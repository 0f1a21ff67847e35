// Command deep recurses a million frames deep, on several stacks at once, then
// without end: the runtime's own limit must stop it.
//
//boot:mem 512
//boot:want ^deep: 4 stacks of 200000 frames
//boot:exit 2
//boot:want ^runtime: goroutine stack exceeds
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	_ "osv/kernel/metal/boot"
)

//go:noinline
func down(n int, pad [8]int) int {
	if n == 0 {
		return pad[0]
	}
	pad[0]++
	return down(n-1, pad) + 0
}

//go:noinline
func forever(n int) int { return forever(n+1) + 1 }

func main() {
	const frames = 200000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got := down(frames, [8]int{}); got != frames {
				fmt.Println("deep: got", got)
				os.Exit(1)
			}
		})
	}
	wg.Wait()
	fmt.Println("deep: 4 stacks of", frames, "frames")
	debug.SetMaxStack(32 << 20)
	fmt.Println(forever(0))
}
