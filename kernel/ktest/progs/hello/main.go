// Command hello is the smallest program that boots.
//
//boot:want ^hello$
package main

import (
	"fmt"

	_ "osv/kernel/metal/boot"
)

func main() { fmt.Println("hello") }
