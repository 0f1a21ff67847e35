package rand

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/cpu"
)

// fresh makes the calling goroutine processor 0 and the generator new.
func fresh(t *testing.T) {
	t.Helper()
	c := cpu.All(0)
	c.Self = uintptr(unsafe.Pointer(c))
	hostcpu.Become(t, c.Self)
	key, block, counter, hardware, mixed = [8]uint32{}, [16]uint32{}, 0, false, false
}

// RFC 8439 §2.3.2.
func TestChaChaBlock(t *testing.T) {
	s := [16]uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}
	for i := range 8 {
		s[4+i] = binary.LittleEndian.Uint32([]byte{byte(4 * i), byte(4*i + 1), byte(4*i + 2), byte(4*i + 3)})
	}
	s[12], s[13], s[14], s[15] = 1, 0x09000000, 0x4a000000, 0
	chacha(&s)
	var got []byte
	for _, w := range s {
		got = binary.LittleEndian.AppendUint32(got, w)
	}
	const want = "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e" +
		"d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
	if hex.EncodeToString(got) != want {
		t.Errorf("block is %x, want %s", got, want)
	}
}

// RFC 8439 §2.1.1.
func TestQuarterRound(t *testing.T) {
	a, b, c, d := uint32(0x11111111), uint32(0x01020304), uint32(0x9b8d6f43), uint32(0x01234567)
	quarter(&a, &b, &c, &d)
	if a != 0xea2a92f4 || b != 0xcb1cf8ce || c != 0x4581472e || d != 0x5881c4bb {
		t.Errorf("quarter round: %08x %08x %08x %08x", a, b, c, d)
	}
}

func fill(n int) []byte {
	b := make([]byte, n+1)
	Fill(uintptr(unsafe.Pointer(&b[0])), uintptr(n))
	return b
}

// Fill writes as much as it is told, and never the same.
func TestFill(t *testing.T) {
	fresh(t)
	seen := map[string]bool{}
	for _, n := range []int{0, 1, 7, 8, 31, 32, 33, 64, 100, 1000} {
		for range 3 {
			b := fill(n)
			if b[n] != 0 {
				t.Errorf("Fill of %d bytes wrote one more", n)
			}
			if n >= 8 && (seen[string(b)] || string(b) == string(make([]byte, n+1))) {
				t.Errorf("Fill of %d bytes: the same again, or nothing: %x", n, b)
			}
			seen[string(b)] = true
		}
	}
	// Each bit of a large output is set about half the time: 8000 draws, 6 sigma.
	b := fill(8000)
	for bit := range 8 {
		n := 0
		for _, v := range b[:8000] {
			n += int(v >> bit & 1)
		}
		if n < 4000-270 || n > 4000+270 {
			t.Errorf("bit %d is set in %d of 8000 bytes", bit, n)
		}
	}
}

// What went out cannot be told from the state afterwards: the key was replaced,
// and is not what was handed out.
func TestFillErasesTheKey(t *testing.T) {
	fresh(t)
	before := key
	out := fill(32)
	if key == before || counter != 1 {
		t.Error("the key is the same after output")
	}
	for i := range key {
		if key[i] == binary.LittleEndian.Uint32(out[4*i:]) {
			t.Errorf("word %d of the key was handed out", i)
		}
	}
}

// Blocks of one call differ, and no word of the key that is left went out.
func TestFillOfManyBlocks(t *testing.T) {
	fresh(t)
	out := fill(64*40 + 5)
	seen := map[string]bool{}
	for i := 0; i+64 <= len(out); i += 64 {
		if b := string(out[i : i+64]); seen[b] {
			t.Fatalf("block %d is an earlier one", i/64)
		} else {
			seen[b] = true
		}
	}
	words := map[uint32]bool{}
	for i := 0; i+4 <= len(out); i += 4 {
		words[binary.LittleEndian.Uint32(out[i:])] = true
	}
	for i, w := range key {
		if words[w] {
			t.Errorf("word %d of the key was handed out", i)
		}
	}
	if counter != 1 {
		t.Errorf("%d draws for one call", counter)
	}
}

func TestMix(t *testing.T) {
	fresh(t)
	if Seeded() {
		t.Error("a new generator is seeded")
	}
	words := [3]uint64{1, 2, 0xffffffffffffffff}
	before := key
	Mix(uintptr(unsafe.Pointer(&words)), 20) // two words; the rest of 4 bytes is left out
	if key == before || !Seeded() {
		t.Error("Mix changed nothing")
	}
	// The same state and other data make another key. The TSC goes in as well, so
	// compare absorb, which it does not enter but as a nonce: a difference of one
	// bit must spread.
	key = [8]uint32{}
	absorb(1)
	one := key
	key = [8]uint32{}
	absorb(3)
	for i := range key {
		if key[i] == one[i] {
			t.Errorf("word %d does not depend on what was mixed in", i)
		}
	}
}

func TestInit(t *testing.T) {
	fresh(t)
	got := Init()
	if got != hardware || got != Seeded() || key == ([8]uint32{}) {
		t.Errorf("Init() = %v, seeded is %v", got, Seeded())
	}
}
