// Package loadtest makes what the tests of several engines load with: items and a
// mix of requests. Who may use it: tests below harness/load.
package loadtest

import (
	"testing"

	"osv/harness/load/dist"
	"osv/harness/load/mctext"
)

// Items are n keys of 32 bytes with values of a size as dist.Parse reads it, most
// bytes at the most.
func Items(t testing.TB, n int, value string, most int) *mctext.Items {
	t.Helper()
	k, err := dist.Parse("32")
	if err != nil {
		t.Fatal(err)
	}
	v, err := dist.Parse(value)
	if err != nil {
		t.Fatal(err)
	}
	it, err := mctext.NewItems(n, k, v, most, 3)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// Mix asks for items evenly; sets is the share of SETs, 0 to 1.
func Mix(t testing.TB, it *mctext.Items, sets float64) *mctext.Mix {
	t.Helper()
	p, err := dist.NewPicker("uniform", it.Len())
	if err != nil {
		t.Fatal(err)
	}
	return mctext.NewMix(it, p, sets)
}
