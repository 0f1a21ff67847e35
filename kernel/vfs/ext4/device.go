package ext4

// Device is the disk that a file system is on; a blk.Disk is one. Any goroutine may
// call anything.
type Device interface {
	// Size is in bytes.
	Size() int64
	// BlockSize is the smallest unit of writing in bytes, a power of two.
	BlockSize() int
	ReadOnly() bool
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	// Flush returns when all writes that had completed are on the medium.
	Flush() error
}

// Mem is a piece of memory that a device can reach.
type Mem struct {
	Frame uint64 // physical address
	Bytes []byte
}

// MemDevice is a Device that transfers to and from cache pages without a copy in
// between. Lengths and the offset are multiples of BlockSize; the pieces are one
// range of the device. mem is the caller's again when the call returns.
type MemDevice interface {
	ReadMem(mem []Mem, off int64) error
	WriteMem(mem []Mem, off int64) error
}
