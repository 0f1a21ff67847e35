// Package ksym names code addresses for panic output, from the line table that
// the Go linker puts into every binary.
//
// Layout: internal/abi's PCLnTab 1.20 and runtime.pcHeader of Go 1.26
// (symtab.go). Who may call it: kernel/metal when dying. It may not trust what
// it reads: every offset is checked against the table's end. Start at Name.
package ksym

import "osv/kernel/metal/arch"

func bounds() (pclntab, epclntab, text, etext uintptr)

const (
	magic = 0xfffffff1 // Go 1.20 and later

	offNFunc    = 8
	offFuncName = 32
	offPCLn     = 64
	hdrBytes    = 72
)

// Name returns the address and length of the name of the function around pc, and
// pc's offset in it. n is 0 where pc is not Go text.
func Name(pc uintptr) (p, n, off uintptr) {
	tab, end, text, etext := bounds()
	if pc < text || pc >= etext || *arch.U32(tab) != magic {
		return 0, 0, 0
	}
	nfunc := *arch.Ptr(tab + offNFunc)
	names := tab + *arch.Ptr(tab + offFuncName)
	ftab := tab + *arch.Ptr(tab + offPCLn)
	if names >= end || ftab >= end || nfunc == 0 || ftab+nfunc*8 > end {
		return 0, 0, 0
	}
	rel := uint32(pc - text)
	lo, hi := uintptr(0), nfunc // the last entry that starts at or before rel
	for hi-lo > 1 {
		m := (lo + hi) / 2
		if *arch.U32(ftab + m*8) <= rel {
			lo = m
		} else {
			hi = m
		}
	}
	fn := ftab + uintptr(*arch.U32(ftab + lo*8 + 4))
	if fn+8 > end {
		return 0, 0, 0
	}
	p = names + uintptr(*arch.U32(fn + 4)) // _func.nameOff
	for p+n < end && *arch.Byte(p + n) != 0 && n < 200 {
		n++
	}
	return p, n, uintptr(rel) - uintptr(*arch.U32(ftab + lo*8))
}
