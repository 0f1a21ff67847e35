// Command options ends well, unless the kernel rejects its command line first.
//
//boot:machine q35
//boot:cpus 1
//boot:test unknown
//boot:append --frobnicate
//boot:exit 64
//boot:want ^osv: unknown option --frobnicate
//boot:want ^usage:
//boot:test value
//boot:append --ip=eth0,10.0.0.300,24
//boot:exit 64
//boot:want ^osv: option --ip: .*"10.0.0.300" is not an IP address
//boot:test nonic
//boot:append --ip=eth7,10.0.0.3,24
//boot:exit 1
//boot:want ^options: option --ip: there is no network card eth7 \(found: none\)
//boot:test help
//boot:append --help
//boot:exit 0
//boot:want ^usage:
//boot:test tracelist
//boot:append --trace-list
//boot:exit 0
//boot:test env
//boot:append --env=COLOUR=blue --verbose "--env=TWO=a b" --cwd=/data -- --one "two words" three
//boot:exit 0
//boot:want ^options: "blue" "a b" "/data" \["--one" "two words" "three"\]
//boot:want ^osv: 1 cpu, \d+ KiB
//boot:test quiet
//boot:append --console=none
//boot:exit 0
//boot:reject ^options
package main

import (
	"fmt"
	"os"

	"osv/kernel/platform"
)

func main() {
	s := platform.Start()
	if _, err := s.Network(); err != nil {
		fmt.Println("options:", err)
		os.Exit(1)
	}
	fmt.Printf("options: %q %q %q %q\n", os.Getenv("COLOUR"), os.Getenv("TWO"), os.Getenv("PWD"), os.Args[1:])
}
