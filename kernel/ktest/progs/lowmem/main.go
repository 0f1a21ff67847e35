// Command lowmem is started with less memory than it needs, in steps: each time
// there is a line that says so and a status, never silence.
//
//boot:cpus 1
//boot:machine q35,pc
//boot:test runs
//boot:mem 20
//boot:want ^lowmem: 8 MiB
//boot:test heap
//boot:mem 10
//boot:exit 102
//boot:want ^osv: out of memory
//boot:test image
//boot:mem 6
//boot:exit 103
//boot:want ^osv: too little memory
package main

import (
	"fmt"

	_ "osv/kernel/metal/boot"
)

var sink []byte

func main() {
	sink = make([]byte, 8<<20)
	for i := range sink {
		sink[i] = 1
	}
	fmt.Println("lowmem:", len(sink)>>20, "MiB")
}
