// Package rand is the kernel's random number generator: ChaCha20 with fast key
// erasure, seeded from RDSEED/RDRAND, TSC jitter, and later from virtio-rng.
//
// Spec: RFC 8439 §2.3 (ChaCha20 block function); D. J. Bernstein, "Fast-key-
// erasure random-number generators" (2017). Who may call it: kernel/metal. It
// serves getrandom and AT_RANDOM. It may not allocate. Start reading at Fill.
package rand

import (
	"math/bits"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
)

var (
	mu       cpu.SpinLock
	key      [8]uint32
	block    [16]uint32 // last output of stir
	counter  uint64     // blocks made; keeps blocks distinct under one key
	hardware bool       // seeded by RDSEED or RDRAND
	mixed    bool       // seeded by a device
)

// Init seeds from what the processor offers. It reports whether that includes a
// hardware generator: without one, output is guessable until Mix is called.
func Init() bool {
	_, _, ecx, _ := arch.CPUID(1, 0)
	haveRDRAND := ecx>>30&1 != 0
	haveRDSEED := false
	if m, _, _, _ := arch.CPUID(0, 0); m >= 7 {
		_, ebx, _, _ := arch.CPUID(7, 0)
		haveRDSEED = ebx>>18&1 != 0
	}
	for i := 0; i < 16; i++ {
		var v uint64
		ok := false
		for try := 0; try < 32 && !ok; try++ {
			switch {
			case haveRDSEED && try < 16:
				v, ok = arch.RandomSeed()
			case haveRDRAND:
				v, ok = arch.RandomWord()
			}
		}
		hardware = hardware || ok
		absorb(v ^ bits.RotateLeft64(arch.ReadTSC(), i*4))
	}
	return hardware
}

// absorb folds v into the key and stirs.
func absorb(v uint64) {
	key[0] ^= uint32(v)
	key[1] ^= uint32(v >> 32)
	stir()
	for i := range key {
		key[i] = block[i]
	}
}

// Mix folds n bytes at p, from a device that makes random data, into the state.
func Mix(p, n uintptr) {
	mu.Lock()
	for ; n >= 8; p, n = p+8, n-8 {
		absorb(*arch.U64(p))
	}
	absorb(arch.ReadTSC())
	mixed = true
	mu.Unlock()
}

// Seeded says whether the state holds true randomness.
func Seeded() bool { return hardware || mixed }

// Fill writes n random bytes at p, which is mapped or may fault: the lock is not
// held while writing. More than 32 bytes come from blocks under a key that is drawn
// for this call and gone after it.
func Fill(p, n uintptr) {
	if n == 0 {
		return
	}
	var s [16]uint32
	mu.Lock()
	counter++
	stir()
	for i := range key { // the first half replaces the key, the second goes out
		key[i], s[i+4] = block[i], block[i+8]
	}
	mu.Unlock()
	if n <= 32 {
		for i := uintptr(0); i < n; i++ {
			*arch.Byte(p + i) = byte(s[4+i/4] >> (i % 4 * 8))
		}
		return
	}
	s[0], s[1], s[2], s[3] = sigma0, sigma1, sigma2, sigma3
	for n > 0 {
		out := s
		chacha(&out)
		if s[12]++; s[12] == 0 {
			s[13]++
		}
		if n < 64 {
			for i := uintptr(0); i < n; i++ {
				*arch.Byte(p + i) = byte(out[i/4] >> (i % 4 * 8))
			}
			return
		}
		for i, w := range out {
			*arch.U32(p + uintptr(i)*4) = w
		}
		p, n = p+64, n-64
	}
}

// The constants of a block's first words, RFC 8439 §2.3.
const sigma0, sigma1, sigma2, sigma3 = 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574

// stir computes the next output block under the key. What would be the nonce
// carries the time, for what little that adds.
func stir() {
	block = [16]uint32{sigma0, sigma1, sigma2, sigma3,
		key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7],
		uint32(counter), uint32(counter >> 32), uint32(arch.ReadTSC()), 0}
	chacha(&block)
}

// chacha replaces the initial state of a ChaCha20 block by the block (RFC 8439
// §2.3).
func chacha(s *[16]uint32) {
	x := *s
	for range 10 {
		quarter(&x[0], &x[4], &x[8], &x[12])
		quarter(&x[1], &x[5], &x[9], &x[13])
		quarter(&x[2], &x[6], &x[10], &x[14])
		quarter(&x[3], &x[7], &x[11], &x[15])
		quarter(&x[0], &x[5], &x[10], &x[15])
		quarter(&x[1], &x[6], &x[11], &x[12])
		quarter(&x[2], &x[7], &x[8], &x[13])
		quarter(&x[3], &x[4], &x[9], &x[14])
	}
	for i := range s {
		s[i] += x[i]
	}
}

func quarter(a, b, c, d *uint32) {
	*a += *b
	*d = bits.RotateLeft32(*d^*a, 16)
	*c += *d
	*b = bits.RotateLeft32(*b^*c, 12)
	*a += *b
	*d = bits.RotateLeft32(*d^*a, 8)
	*c += *d
	*b = bits.RotateLeft32(*b^*c, 7)
}
