// Package mctext speaks memcached's text protocol from the client's side: the
// items of a load, the requests for them, and the check of every reply.
//
// Spec: protocol.txt of memcached 1.6 ("Storage commands", "Retrieval command",
// "UDP protocol"); replies as memcached 1.6.18 gives them.
//
// An item's key, size and bytes follow from its number and the seed alone, so a
// reply is checked against what was stored without keeping a copy. Values are
// random bytes, CR and LF among them. Each item has two values, epoch 0 (stored
// before the load) and epoch 1 (stored by the SETs of the load): a GET may see
// either while SETs run, a read-back after the load must see the last.
//
// Who may use it: engines below harness/load. Nothing here allocates after
// NewItems, and Check never reads past its buffer (fuzzed). Start reading at
// items.go, then codec.go.
package mctext

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"osv/harness/load/dist"
)

// Limits of memcached's text protocol and default item size.
const (
	MaxKey   = 250
	MinKey   = 8 // "k", six hex digits, "_"
	MaxValue = 1 << 20
)

// blockBytes is the random block that values are windows of.
const blockBytes = 1<<21 + 4099

// Items is the key space of one load. It is read-only after NewItems and may be
// shared between threads.
type Items struct {
	keys   []byte
	keyEnd []uint32
	valLen []uint32
	valOff []uint32 // window of epoch 0; epoch 1 starts epochShift later
	block  []byte
	maxVal int
	maxKey int
}

// epochShift separates the two values of an item in the block.
const epochShift = 2053

// NewItems makes n items. Sizes drawn outside the protocol's limits, or above
// maxValue bytes, are clamped.
func NewItems(n int, keySize, valueSize dist.Dist, maxValue int, seed uint64) (*Items, error) {
	if n < 1 || n > 1<<24 {
		return nil, fmt.Errorf("mctext: %d items, want 1 to %d", n, 1<<24)
	}
	if maxValue < 0 || maxValue > MaxValue {
		return nil, fmt.Errorf("mctext: largest value %d, want up to %d", maxValue, MaxValue)
	}
	it := &Items{keyEnd: make([]uint32, n+1), valLen: make([]uint32, n), valOff: make([]uint32, n), block: make([]byte, blockBytes)}
	rng := rand.New(rand.NewPCG(seed, 0x6d63))
	for i := 0; i < len(it.block); i += 8 {
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], rng.Uint64())
		copy(it.block[i:], w[:])
	}
	sizes := dist.NewRand(seed)
	room := blockBytes - epochShift - maxValue
	for i := range n {
		k := clamp(dist.Draw(keySize, sizes), MinKey, MaxKey)
		v := clamp(dist.Draw(valueSize, sizes), 0, maxValue)
		it.keys = appendKey(it.keys, uint32(i), k)
		it.keyEnd[i+1] = uint32(len(it.keys))
		it.valLen[i] = uint32(v)
		it.valOff[i] = uint32(rng.IntN(room))
		it.maxKey, it.maxVal = max(it.maxKey, k), max(it.maxVal, v)
	}
	return it, nil
}

func clamp(f float64, lo, hi int) int {
	if !(f > float64(lo)) {
		return lo
	}
	return int(min(f+0.5, float64(hi)))
}

const hexDigits = "0123456789abcdef"

// appendKey writes item i's key of size bytes: its number first, so that the
// null server can answer without a table, then letters.
func appendKey(dst []byte, i uint32, size int) []byte {
	start := len(dst)
	dst = append(dst, 'k')
	for s := 20; s >= 0; s -= 4 {
		dst = append(dst, hexDigits[i>>s&15])
	}
	dst = append(dst, '_')
	for x := i; len(dst)-start < size; x = x*1664525 + 1013904223 {
		dst = append(dst, 'a'+byte(x>>24)%26)
	}
	return dst
}

// Len is the number of items.
func (it *Items) Len() int { return len(it.valLen) }

// Key is the key of item i. The slice is the Items' own.
func (it *Items) Key(i uint32) []byte { return it.keys[it.keyEnd[i]:it.keyEnd[i+1]] }

// Value is the value of item i in an epoch (0 or 1). The slice is the Items' own.
func (it *Items) Value(i uint32, epoch uint8) []byte {
	off := it.valOff[i] + uint32(epoch)*epochShift
	return it.block[off : off+it.valLen[i]]
}

// MaxValue and MaxKey are the largest sizes drawn, in bytes.
func (it *Items) MaxValue() int { return it.maxVal }
func (it *Items) MaxKey() int   { return it.maxKey }

// Flags is the client flags word that item i is stored with.
func Flags(i uint32) uint32 { return i & 0xffff }

// Find gives the number of the item with this key, false if there is none.
func (it *Items) Find(key []byte) (uint32, bool) {
	if len(key) < MinKey || key[0] != 'k' || key[7] != '_' {
		return 0, false
	}
	var i uint32
	for _, c := range key[1:7] {
		switch {
		case c >= '0' && c <= '9':
			i = i<<4 | uint32(c-'0')
		case c >= 'a' && c <= 'f':
			i = i<<4 | uint32(c-'a'+10)
		default:
			return 0, false
		}
	}
	if int(i) >= it.Len() || string(it.Key(i)) != string(key) {
		return 0, false
	}
	return i, true
}
