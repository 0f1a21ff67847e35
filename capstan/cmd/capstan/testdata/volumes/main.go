// Command volumes writes a block to the data partition and to each further disk that
// holds none yet, reads it back in a later run, and ends with the number of those.
package main

import (
	"bytes"
	"fmt"
	"os"

	"osv/kernel/blk"
	"osv/kernel/platform"
)

func main() {
	s := platform.Start()
	data, err := s.DataPartition()
	if err != nil {
		fmt.Println("volumes:", err)
		os.Exit(99)
	}
	found := 0
	for _, d := range append([]blk.Disk{data}, s.Disks[1:]...) {
		want := bytes.Repeat([]byte(d.Name()+"!"), 4096)[:4096]
		got := make([]byte, 4096)
		if _, err := d.ReadAt(got, 8192); err != nil {
			fmt.Println("volumes:", err)
			os.Exit(98)
		}
		if bytes.Equal(got, want) {
			found++
		} else if _, err := d.WriteAt(want, 8192); err != nil {
			fmt.Println("volumes:", err)
			os.Exit(97)
		}
		fmt.Printf("volumes: %s has %d bytes\n", d.Name(), d.Size())
	}
	os.Exit(10 + found)
}
