package e1000

import (
	"unsafe"

	"osv/kernel/hw/dma"
)

// desc is a descriptor of either ring: an address, and a word that says what is
// with it. The device reads both and writes the word back; an extended receive
// descriptor overwrites the address as well.
type desc struct {
	addr uint64
	word uint64
}

const descBytes = 16

// descs views r as descriptors.
func descs(r dma.Region) []desc {
	return unsafe.Slice((*desc)(unsafe.Pointer(unsafe.SliceData(r.Bytes))), len(r.Bytes)/descBytes)
}

// Receive, SDM §3.2.3 (legacy) and 82574 §7.1.4 (extended), with the halves of an
// extended word swapped: status and errors then have the same bits.
//
//	legacy    63..48 VLAN    47..40 errors   39..32 status    31..16 checksum  15..0 length
//	extended  63..56 errors                  51..32 status    31..16 VLAN      15..0 length
const (
	rxLenMask  = 0xFFFF
	rxStatus   = 32
	rxErrors   = 40
	rxErrorExt = 56

	rxDD    = 1 << (rxStatus + 0)
	rxEOP   = 1 << (rxStatus + 1)
	rxIXSM  = 1 << (rxStatus + 2) // ignore the checksum bits
	rxUDPCS = 1 << (rxStatus + 4) // extended: UDP checksum was looked at
	rxTCPCS = 1 << (rxStatus + 5) // TCP or UDP checksum was looked at

	// Errors, shifted down.
	rxTCPE   = 1 << 5
	rxIPE    = 1 << 6
	rxDamage = 1<<0 | 1<<1 | 1<<2 | 1<<4 | 1<<7 // CE, SE, SEQ, CXE, RXE
)

// Transmit data descriptor, SDM §3.3.7.
//
//	63..48 VLAN  47..40 POPTS  35..32 STA  31..24 DCMD  23..20 DTYP  19..0 DTALEN
//
// and context descriptor, §3.3.6, whose first word is
//
//	63..48 TUCSE  47..40 TUCSO  39..32 TUCSS  31..16 IPCSE  15..8 IPCSO  7..0 IPCSS
//
// and whose second is
//
//	63..48 MSS  47..40 HDRLEN  35..32 STA  31..24 TUCMD  23..20 DTYP  19..0 PAYLEN
const (
	txDTYPData = 1 << 20
	txEOP      = 1 << 24
	txIFCS     = 1 << 25 // insert the frame check sequence
	txTSE      = 1 << 26
	txRS       = 1 << 27 // report status
	txDEXT     = 1 << 29
	txDD       = 1 << 32
	txIXSM     = 1 << 40 // insert the IP header checksum
	txTXSM     = 1 << 41 // insert the TCP or UDP checksum

	ctxTCP = 1 << 24
	ctxIP  = 1 << 25 // IPv4
	ctxTSE = 1 << 26

	// txMaxLen bounds the bytes of one descriptor; SDM §3.3.3 allows 16288.
	txMaxLen = 8192
)
