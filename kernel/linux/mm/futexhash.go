package mm

import "math/bits"

// Hash is a number to find a Key's place in a table by: equal for equal keys. Words of
// different memory may share it.
func (k Key) Hash() uint64 {
	h, l := bits.Mul64(k.off>>2, 0x9e3779b97f4a7c15)
	return h ^ l ^ l>>32
}
