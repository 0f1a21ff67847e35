// Command idle sleeps for the seconds that its argument gives, none without one;
// harness/cmd/bootbench reads what a guest costs meanwhile.
//
//boot:append 1
//boot:want ^idle 1$
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	_ "osv/kernel/metal/boot"
)

func main() {
	n := 0
	if len(os.Args) > 1 {
		n, _ = strconv.Atoi(os.Args[len(os.Args)-1])
	}
	fmt.Println("idle", n)
	time.Sleep(time.Duration(n) * time.Second)
}
