package virtioblk

import (
	"osv/kernel/blk"
)

// The border's names, for users of this driver alone.
type (
	Op      = blk.Op
	Request = blk.Request
	Error   = blk.Error
)

const (
	SectorSize = blk.SectorSize

	OpRead        = blk.OpRead
	OpWrite       = blk.OpWrite
	OpFlush       = blk.OpFlush
	OpDiscard     = blk.OpDiscard
	OpWriteZeroes = blk.OpWriteZeroes

	opGetID = blk.OpDriver // the answer goes to the first of Mem, idLen bytes of any memory
)

var (
	ErrIO          = blk.ErrIO
	ErrUnsupported = blk.ErrUnsupported
	ErrProtocol    = blk.ErrProtocol
	ErrRange       = blk.ErrRange
	ErrAlign       = blk.ErrAlign
	ErrReadOnly    = blk.ErrReadOnly
)

// reqType is the type field of a request header, §5.2.6.
type reqType uint32

const (
	typeIn          reqType = 0
	typeOut         reqType = 1
	typeFlush       reqType = 4
	typeGetID       reqType = 8
	typeDiscard     reqType = 11
	typeWriteZeroes reqType = 13
)

func typeOf(o Op) reqType {
	switch o {
	case OpRead:
		return typeIn
	case OpWrite:
		return typeOut
	case OpFlush:
		return typeFlush
	case OpDiscard:
		return typeDiscard
	case OpWriteZeroes:
		return typeWriteZeroes
	}
	return typeGetID
}

// setLimits makes limits of features and configuration. A device without FLUSH has no
// volatile cache, §5.2.6.2.
func (d *Device) setLimits() {
	f := d.dev.Features
	d.limits = blk.Limits{Driver: driverName, BlockSize: int(d.conf.blockSize), ReadOnly: f.Has(featRO), WriteCache: f.Has(featFlush)}
	if f.Has(featDiscard) {
		d.limits.MaxDiscard = uint64(d.conf.maxDiscard)
	}
	if f.Has(featWriteZeroes) {
		d.limits.MaxWriteZeroes = uint64(d.conf.maxWriteZeroes)
	}
	d.shape = blk.Shape{BlockSize: int(d.conf.blockSize), MaxSegBytes: int(d.conf.sizeMax), MaxBytes: maxPartBytes}
}

// maxPartBytes keeps the length of a part in the 32 bits of a used element.
const maxPartBytes = 1 << 30

var _ blk.Disk = (*Device)(nil)
