package vdso

// What an unwinder needs to get out of one of the functions: none of them moves the
// stack pointer, so that the return address is always at RSP.
//
// Spec: Linux Standard Base 5.0 core, chapter 10 (.eh_frame, .eh_frame_hdr); DWARF 5
// §6.4; System V ABI for x86-64, figure 3.36 (register numbers).

const ptGNUEhFrame = 0x6474e550

// span is a function in .text.
type span struct{ at, n uint64 }

// Encodings of pointers (DW_EH_PE).
const (
	encPCRel = 0x1b // relative to where it stands, 4 bytes, signed
	encCount = 0x03 // absolute, 4 bytes
	encTable = 0x3b // relative to .eh_frame_hdr, 4 bytes, signed

	cieBytes = 24
	fdeBytes = 20
)

// cie is the common part: the canonical frame address is RSP+8, the return address
// (register 16) lies 8 below it.
var cie = [cieBytes]byte{
	cieBytes - 4, 0, 0, 0, // length
	0, 0, 0, 0, // a CIE
	1, 'z', 'R', 0, // version, augmentation
	1, 0x78, 16, // code alignment 1, data alignment -8, return address
	1, encPCRel, // augmentation data
	0x0c, 7, 8, // DW_CFA_def_cfa RSP+8
	0x90, 1, // DW_CFA_offset register 16 at CFA-8
}

// frames is .eh_frame at address at, for functions in .text.
func frames(at, text uint64, funcs []span) []byte {
	b := append([]byte(nil), cie[:]...)
	for _, f := range funcs {
		here := uint64(len(b))
		b = append(b, encode([]uint32{fdeBytes - 4, uint32(here + 4), uint32(text + f.at - (at + here + 8)), uint32(f.n), 0})...)
	}
	return append(b, 0, 0, 0, 0)
}

// frameHdr is .eh_frame_hdr: a table of functions, by address, and where their entries
// in .eh_frame are.
func frameHdr(at, frame, text uint64, funcs []span) []byte {
	b := []byte{1, encPCRel, encCount, encTable}
	b = append(b, encode([]uint32{uint32(frame - (at + 4)), uint32(len(funcs))})...)
	for i, f := range funcs {
		b = append(b, encode([]uint32{uint32(text + f.at - at), uint32(frame + cieBytes + uint64(i)*fdeBytes - at)})...)
	}
	return b
}
