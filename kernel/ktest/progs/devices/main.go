// Command devices boots with one of each virtio device, on every transport, and
// says what was found. The power button ends it.
//
//boot:disk 8M
//boot:want ^devices: 1 links, 1 disks, 1 random
//boot:want ^devices: powered by S5
//boot:append --verbose
//boot:test msix
//boot:net user
//boot:test intx
//boot:machine q35,pc
//boot:net user,nomsix
package main

import (
	"fmt"

	"osv/kernel/platform"
)

func main() {
	s := platform.Start()
	fmt.Printf("devices: %d links, %d disks, %d random\n", len(s.Links), len(s.Disks), s.Random)
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i * 7)
	}
	if len(s.Disks) > 0 {
		d := s.Disks[0]
		if _, err := d.WriteAt(buf, 4096); err != nil {
			fmt.Println("devices: write:", err)
		}
		got := make([]byte, len(buf))
		if _, err := d.ReadAt(got, 4096); err != nil || string(got) != string(buf) {
			fmt.Println("devices: read differs", err)
		}
	}
	fmt.Println("devices: powered by S5", s.ACPI != nil && s.ACPI.S5 != nil)
}
