// Command gc allocates fifty times the guest's RAM in trees and slices, and looks
// at every fresh object for bytes that are not zero: memory that the collector
// gave back and took again must read as zero (madvise in kernel/metal/vm).
//
//boot:mem 96
//boot:timeout 240s
//boot:want ^gc: ok
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	_ "osv/kernel/metal/boot"
)

const (
	ramMiB  = 96 // as in //boot:mem
	factor  = 50
	nodePad = 4
)

type node struct {
	l, r *node
	pad  [nodePad]int
}

var bad atomic.Int64

func tree(depth int) *node {
	n := new(node)
	if n.l != nil || n.r != nil || n.pad != [nodePad]int{} {
		bad.Add(1)
		*n = node{}
	}
	if depth > 0 {
		n.l, n.r = tree(depth-1), tree(depth-1)
	}
	n.pad[0] = depth
	return n
}

func (n *node) count() int {
	if n == nil {
		return 0
	}
	return 1 + n.l.count() + n.r.count()
}

func main() {
	debug.SetMemoryLimit(ramMiB << 20 * 6 / 10)
	var done atomic.Uint64
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; done.Load() < ramMiB<<20*factor; i++ {
				const depth = 13
				if c := tree(depth).count(); c != 2<<depth-1 {
					fmt.Println("gc: a tree of", c, "nodes, want", 2<<depth-1)
					os.Exit(1)
				}
				big := make([]byte, (1+(i*7+w)%24)<<18)
				for k := 0; k < len(big); k += 509 {
					if big[k] != 0 {
						bad.Add(1)
					}
					big[k] = 0xaa
				}
				done.Add(uint64(len(big)) + (2<<depth-1)*48)
				if i%16 == w {
					debug.FreeOSMemory()
				}
			}
		})
	}
	wg.Wait()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	fmt.Printf("gc: allocated %d MiB in %d collections, released %d MiB, heap %d MiB\n",
		ms.TotalAlloc>>20, ms.NumGC, ms.HeapReleased>>20, ms.HeapSys>>20)
	if n := bad.Load(); n != 0 || ms.TotalAlloc < ramMiB<<20*factor {
		fmt.Println("gc: objects that were not zero:", n)
		os.Exit(1)
	}
	fmt.Println("gc: ok")
}
