// Package blk is the border between disk drivers and those who use disks, as pkt
// is for packets: what a request is, how it fails, and how large a piece of one a
// device command may be.
//
// Two ways to use a Disk. Submit takes a Request on device-visible memory and
// calls back when it is done: no copy, any number in flight (those beyond the
// device's queue wait in the driver). ReadAt, WriteAt, Flush, Discard and
// WriteZeroes block, take ordinary memory, and copy through a fixed number of
// bounce buffers.
//
// A driver has a Limits for checks (Begin), a Shape for its commands
// (Cursor.Gather), a List of waiting Requests, a Watch for commands that the
// device never answers, and embeds Blocking, which makes the blocking calls of its
// Submit.
//
// Who may use it: drivers and platform. It knows no device and no file system.
//
// Durability: a write is on the medium once a Flush that was called after the
// write's completion has returned.
//
// Start reading at Disk, then Request.
package blk

import (
	"errors"
	"fmt"
)

// SectorSize is the unit of all sector numbers in bytes, whatever a disk's block
// size.
const SectorSize = 512

// Disk is a block device as its users see it. Any goroutine may call anything.
type Disk interface {
	// Name is the system's name for it: blk0.
	Name() string
	// Size is the capacity in bytes.
	Size() int64
	// BlockSize is the smallest unit of transfer in bytes, a power of two of at
	// least SectorSize: offsets and lengths of writes are multiples of it.
	BlockSize() int
	// ReadOnly reports a disk that takes no writes.
	ReadOnly() bool
	// Submit starts r and returns at once; Done is called when it ended, by
	// another goroutine, or by this one where r is not even begun. Done must not
	// block. Request and memory are the driver's until then.
	Submit(r *Request)
	// ReadAt fills p from byte offset off; any offset and length will do. It
	// returns io.EOF where p reaches beyond the end.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes p at byte offset off, both multiples of BlockSize. It returns
	// how many bytes were written before the first error.
	WriteAt(p []byte, off int64) (int, error)
	// Flush returns when all writes that had completed are on the medium.
	Flush() error
	// Discard tells that n bytes at off are not needed; what is read from there is
	// anything from then on. ErrUnsupported where the device cannot.
	Discard(off, n int64) error
	// WriteZeroes makes n bytes at off zero without sending them. ErrUnsupported
	// where the device cannot.
	WriteZeroes(off, n int64) error
	// ID is the device's serial number, empty where it tells none.
	ID() (string, error)
	// Err says why the disk stopped for good, nil while it works.
	Err() error
	// Close ends all requests and stops the device.
	Close() error
}

// Op is what a Request asks for.
type Op uint8

const (
	OpRead Op = iota
	OpWrite
	OpFlush
	OpDiscard
	OpWriteZeroes

	// OpDriver and above are a driver's own; Begin refuses them.
	OpDriver Op = 0x80
)

var opNames = [...]string{"read", "write", "flush", "discard", "write-zeroes"}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return fmt.Sprintf("op %d", uint8(o))
}

// Why a request failed; errors.Is finds them in an Error.
var (
	ErrIO          = errors.New("device reports an I/O error")
	ErrUnsupported = errors.New("device does not support it")
	ErrProtocol    = errors.New("device breaks the protocol")
	ErrRange       = errors.New("beyond the end of the device")
	ErrAlign       = errors.New("not a multiple of the block size")
	ErrReadOnly    = errors.New("device is read-only")
	ErrTimeout     = errors.New("device does not answer")
	ErrReset       = errors.New("device was reset")
	ErrGone        = errors.New("device is gone")
	ErrClosed      = errors.New("device is closed")
)

// Error says which request failed: Count sectors from Sector. Of a request that
// the driver split up, it names the part that failed first.
type Error struct {
	Driver string // "nvme"
	Op     Op
	Sector uint64
	Count  uint64
	Why    error  // one of the above, or why the device stopped
	Detail string // what the device said; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s of %d sectors at sector %d: %v", e.Driver, e.Op, e.Count, e.Sector, e.Why)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns Why.
func (e *Error) Unwrap() error { return e.Why }
