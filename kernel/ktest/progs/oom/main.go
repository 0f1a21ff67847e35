// Command oom keeps all it allocates. The kernel must say that memory ran out and
// end with its own status, not hang.
//
//boot:mem 48
//boot:exit 102
//boot:want ^osv: out of memory: \d+ of \d+ KiB in use
package main

import (
	"fmt"

	_ "osv/kernel/metal/boot"
)

var keep [][]byte

func main() {
	fmt.Println("oom: filling memory")
	for {
		b := make([]byte, 64<<10)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
}
