package vmxnet3

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/hw/dma"
)

// desc is an entry of any ring. Whose it is, the generation bit in its second
// word says: that of a new lap is the other one.
type desc struct {
	addr uint64
	word uint64
}

const descBytes = 16

// descs views r as entries.
func descs(r dma.Region) []desc {
	return unsafe.Slice((*desc)(unsafe.Pointer(unsafe.SliceData(r.Bytes))), len(r.Bytes)/descBytes)
}

// word32 is the word at off of the shared memory r, which the device writes too.
func word32(r dma.Region, off int) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.Bytes[off : off+4][0])))
}

// Receive descriptor, second word.
const (
	rxdBody = 1 << 14 // else head
	rxdGen  = 1 << 31
)

// Receive completion, first word and second.
const (
	rcdIndex   = 0xFFF
	rcdEOP     = 1 << 14
	rcdSOP     = 1 << 15
	rcdQueue   = 16 // ten bits: queue, plus the number of queues for ring 1
	rcdQueues  = 0x3FF
	rcdNoCsum  = 1 << 30
	rcdLen     = 0x3FFF
	rcdErr     = 1 << 14
	rcdTUC     = 1 << 48 // TCP or UDP checksum is right
	rcdUDP     = 1 << 49
	rcdTCP     = 1 << 50
	rcdIPC     = 1 << 51 // IPv4 header checksum is right
	rcdV6      = 1 << 52
	rcdV4      = 1 << 53
	rcdFrag    = 1 << 54
	rcdType    = 56 // seven bits
	rcdTypes   = 0x7F
	rcdTypeRx  = 3
	rcdTypeLRO = 4  // revision 2
	rcdSegs    = 32 // of rcdTypeLRO, first word, eight bits: how many segments
	rcdMSS     = 32 // of rcdTypeLRO, second word, 16 bits: their payload in bytes
	compGen    = 1 << 63
	tcdIndex   = 0xFFF
	rxMaxBytes = 1<<14 - 1
)

// Transmit descriptor, second word.
const (
	txdLen    = 0x3FFF // 0: 16384
	txdGen    = 1 << 14
	txdMSS    = 18 // 14 bits: MSS, or where the checksum goes
	txdHLen   = 32 // ten bits: bytes of headers, or where the checksum starts
	txdOMCsum = 2 << 42
	txdOMTSO  = 3 << 42
	txdEOP    = 1 << 44
	txdCQ     = 1 << 45 // completion wanted

	txMaxLen   = 8192
	txMaxDescs = 16   // of a frame that is not segmented
	txMaxCsum  = 1024 // offsets are below
)
