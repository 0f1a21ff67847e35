// Command atexit ends in one of the ordinary ways and shows that disks are shut down
// then: a disk whose flush the host lets fail says so. Arguments: "return" (from main),
// "exit" (os.Exit by another goroutine, while a third tries it too), "restart", "hang"
// (a function at the end never comes back), "panic" and "nil" (not ordinary: nothing is
// shut down).
//
//boot:test return
//boot:disk 16M,eio=flush_to_disk
//boot:append return
//boot:want ^atexit: second, after 8 collections$
//boot:want ^atexit: first$
//boot:want blk0: virtio-blk: flush .*I/O error
//boot:machine q35,microvm
//boot:cpus 1,2
//boot:test exit
//boot:disk 16M,bus=nvme,eio=flush_to_disk
//boot:append exit
//boot:exit 7
//boot:want ^atexit: second, after 8 collections$
//boot:want ^atexit: first$
//boot:want blk0: nvme: flush .*I/O error
//boot:machine q35
//boot:cpus 1,2
//boot:test hang
//boot:disk 16M
//boot:append hang
//boot:want ^.*disks are not shut down after 5s
//boot:machine q35
//boot:cpus 1
//boot:test panic
//boot:disk 16M,eio=flush_to_disk
//boot:append panic
//boot:exit 2
//boot:want ^panic: an error of the program$
//boot:machine q35
//boot:cpus 1,2
//boot:test nil
//boot:disk 16M
//boot:append nil
//boot:exit 2
//boot:want ^panic: runtime error: invalid memory address
//boot:machine q35
//boot:cpus 1,2
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"osv/kernel/platform"
)

func main() {
	s := platform.Start()
	s.AtExit(func() { fmt.Println("atexit: first") })
	s.AtExit(func() {
		// The goroutine that ends the program is scanned and its stack moved meanwhile,
		// as that of any other that waits.
		for range 8 {
			deep(300)
			runtime.GC()
		}
		time.Sleep(time.Millisecond)
		fmt.Println("atexit: second, after 8 collections")
	})
	if len(s.Disks) != 1 {
		fmt.Println("atexit: no disk")
		return
	}
	if _, err := s.Disks[0].WriteAt(make([]byte, 4096), 0); err != nil {
		fmt.Println("atexit:", err)
	}
	var mu sync.Mutex
	mu.Lock()
	switch os.Args[1] {
	case "return":
	case "exit":
		for range 2 {
			go func() { deep(2000); os.Exit(7) }()
		}
		mu.Lock()
	case "hang":
		s.AtExit(func() { select {} })
	case "panic":
		panic("an error of the program")
	case "nil":
		var p *int
		fmt.Println(*p)
	}
}

// deep uses n kilobytes of stack.
func deep(n int) byte {
	var b [1024]byte
	b[n%len(b)] = 1
	if n == 0 {
		return b[0]
	}
	return deep(n-1) + b[n%7]
}
