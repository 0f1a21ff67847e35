// Command badmachine boots on machines that make no sense. The kernel says what
// is wrong and goes on where it can.
//
//boot:machine q35,pc
//boot:cpus 1
//boot:net user
//boot:test hpet
//boot:want ^badmachine: up with 1 links
//boot:qemu -no-hpet -acpitable sig=HPET,data=$PROG/garbage.bin
//boot:want warn .*HPET
//boot:test mcfg
//boot:machine pc
//boot:want ^badmachine: up with 1 links
//boot:qemu -acpitable sig=MCFG,data=$PROG/garbage.bin
//boot:want warn .*MCFG
//boot:test ssdt
//boot:want ^badmachine: up with 1 links
//boot:qemu -acpitable sig=SSDT,data=$PROG/garbage.bin
//boot:test hugebar
//boot:want ^badmachine: up with 1 links
//boot:qemu -device ivshmem-plain,memdev=m -object memory-backend-ram,id=m,size=1M,share=on -device pci-testdev,membar=64G
//boot:test legacy
//boot:qemu -device virtio-net-pci,disable-modern=on,netdev=n9 -netdev user,id=n9
//boot:want ^badmachine: up with 2 links
package main

import (
	"fmt"

	"osv/kernel/platform"
)

func main() {
	s := platform.Start()
	fmt.Printf("badmachine: up with %d links\n", len(s.Links))
}
