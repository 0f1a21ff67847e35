package platform

import "osv/kernel/hw/gate"

// Anonymous is memory outside the Go heap for large stores, which the collector
// never sees: demand-zero, in 2 MiB pages while there is plenty. Its methods may
// be called from any goroutine.
type Anonymous struct{}

// Map returns n zeroed bytes, page-aligned, backed when first touched.
func (Anonymous) Map(n int) ([]byte, error) { return gate.MapAnonymous(n) }

// Unmap ends b, which is what one Map returned.
func (Anonymous) Unmap(b []byte) {
	if err := gate.Unmap(b); err != nil {
		panic(err) // not a range of Map's
	}
}

// Drop gives the frames behind b back; it stays usable and reads as zero.
func (Anonymous) Drop(b []byte) {
	if err := gate.Discard(b); err != nil {
		panic(err)
	}
}

// Available is the number of bytes of free memory. The Go heap takes from the
// same.
func (Anonymous) Available() int { return int(gate.Memory().Free) }
