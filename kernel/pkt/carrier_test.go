package pkt

import (
	"slices"
	"testing"
)

func TestCarrier(t *testing.T) {
	var c Carrier
	var got []bool
	c.Store(true) // nobody listens
	c.OnCarrier(func(up bool) {
		if up != c.Load() {
			t.Errorf("told %v, Load says %v", up, c.Load())
		}
		got = append(got, up)
	})
	for _, up := range []bool{true, false, false, true, true} {
		c.Store(up)
	}
	c.OnCarrier(nil)
	c.Store(false)
	if !slices.Equal(got, []bool{false, true}) || c.Load() {
		t.Errorf("told %v, in the end %v", got, c.Load())
	}
}
