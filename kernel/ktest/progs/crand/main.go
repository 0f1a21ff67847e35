// Command crand draws from crypto/rand and math/rand/v2 and rejects what is
// plainly not random: repeats, or a byte distribution that is off.
//
//boot:want ^crand: ok
package main

import (
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"os"

	_ "osv/kernel/metal/boot"
)

func main() {
	seen := map[[16]byte]bool{}
	for range 10000 {
		var b [16]byte
		rand.Read(b[:])
		if seen[b] {
			fmt.Println("crand: 16 bytes came twice")
			os.Exit(1)
		}
		seen[b] = true
	}
	const n = 1 << 20
	buf := make([]byte, n)
	rand.Read(buf)
	var hist [256]float64
	for _, x := range buf {
		hist[x]++
	}
	chi := 0.0
	for _, h := range hist {
		d := h - n/256
		chi += d * d / (n / 256)
	}
	// 255 degrees of freedom: mean 255, standard deviation 22.6; 8 deviations
	// either way does not happen by chance.
	if chi < 75 || chi > 435 {
		fmt.Println("crand: chi-square", chi)
		os.Exit(1)
	}
	if mrand.Uint64() == mrand.Uint64() {
		fmt.Println("crand: math/rand repeats")
		os.Exit(1)
	}
	fmt.Printf("crand: ok, chi-square %.0f, first %x\n", chi, buf[:8])
}
