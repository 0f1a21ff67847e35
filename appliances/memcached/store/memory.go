package store

import "fmt"

// Memory gives and takes memory outside the Go heap. On a plain host it is
// HostMemory; in the guest the platform provides it. All methods may be called
// from any goroutine.
type Memory interface {
	// Map returns n zeroed bytes, aligned to 4096. Large mappings are backed
	// when first touched; a Memory that backs them at once needs
	// Config.Reserve == Config.Limit.
	Map(n int) ([]byte, error)
	// Unmap ends b, which is what one Map returned.
	Unmap(b []byte)
	// Drop gives the frames behind b back, a part of one mapping aligned to
	// 4096; b stays usable and reads as zeroes.
	Drop(b []byte)
	// Available is the number of bytes that Map could back now.
	Available() int
}

// ErrNoRoom says that the Memory had nothing to give.
type ErrNoRoom struct {
	Bytes int
	Err   error
}

func (e ErrNoRoom) Error() string {
	return fmt.Sprintf("store: no memory for %d bytes: %v", e.Bytes, e.Err)
}

// Unwrap returns the cause.
func (e ErrNoRoom) Unwrap() error { return e.Err }

// pageBytes is the size of a slab page, as upstream's. It is a multiple of the
// 4096 that Memory promises.
const pageBytes = 1 << 20
