// Command idle does nothing, with a network card that has an address: what a
// guest costs its host while nobody asks anything of it.
//
//boot:skip it never ends; harness/cmd/bootbench watches it
package main

import (
	"fmt"
	"os"

	"osv/kernel/platform"
)

func main() {
	s := platform.Start()
	if _, _, err := s.Sockets(); err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
	fmt.Println("idle ready")
	select {}
}
