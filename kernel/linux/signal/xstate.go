package signal

import "syscall"

// InitXState makes b the XSAVE image of a thread that has used no floating point.
func InitXState(b []byte) {
	mask := le.Uint32(b[mxcsrMaskAt:])
	clear(b)
	le.PutUint16(b, fcwDefault)
	le.PutUint32(b[mxcsrAt:], mxcsrDefault)
	le.PutUint32(b[mxcsrMaskAt:], mask)
}

// readX reads the XSAVE area at fp into x. An area without the magic words is an
// FXSAVE image: the rest of the state is as new (Linux's check_xstate_in_sigframe).
func (f *Frame) readX(m Memory, fp uint64, x, scratch []byte) error {
	mask := le.Uint32(x[mxcsrMaskAt:])
	if mask == 0 {
		mask = mxcsrMaskBase
	}
	sw := scratch[:xsaveLegacy-fpSoftware]
	if err := m.CopyIn(sw, fp+fpSoftware); err != nil {
		return err
	}
	size := int(le.Uint32(sw[16:]))
	full := le.Uint32(sw[0:]) == fpMagic1 && size >= xsaveMin && size <= len(x) &&
		int(le.Uint32(sw[4:])) >= size+fpMagic2Size
	if full {
		end := scratch[len(sw):][:fpMagic2Size]
		if err := m.CopyIn(end, fp+uint64(size)); err != nil {
			return err
		}
		full = le.Uint32(end) == fpMagic2
	}
	if !full {
		clear(x)
		if err := m.CopyIn(x[:fpSoftware], fp); err != nil {
			return err
		}
		le.PutUint64(x[xstateBV:], 3) // x87 and SSE
		return checkX(x, mask, f.Features)
	}
	features := le.Uint64(sw[8:])
	clear(x[size:])
	if err := m.CopyIn(x[:size], fp); err != nil {
		return err
	}
	// What the frame says to leave out is as new.
	le.PutUint64(x[xstateBV:], le.Uint64(x[xstateBV:])&features)
	return checkX(x, mask, f.Features)
}

// checkX refuses what XRSTOR would fault on (Intel SDM volume 1, §13.8.1): unknown
// features, compacted format, reserved bytes of the header, reserved bits of MXCSR.
func checkX(x []byte, mask uint32, features uint64) error {
	clear(x[fpSoftware:xsaveLegacy])
	bad := le.Uint64(x[xstateBV:])&^features != 0 || le.Uint64(x[xcompBV:]) != 0
	for at := xcompBV + 8; at < xheaderEnd; at += 8 {
		bad = bad || le.Uint64(x[at:]) != 0
	}
	bad = bad || le.Uint32(x[mxcsrAt:])&^mask != 0
	le.PutUint32(x[mxcsrMaskAt:], mask)
	if bad {
		InitXState(x)
		return syscall.EINVAL
	}
	return nil
}
