package ext4

import (
	"encoding/binary"
	"hash/crc32"
)

var le, be = binary.LittleEndian, binary.BigEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c goes on with a checksum as the spec does: not inverted before and after.
func crc32c(crc uint32, p []byte) uint32 { return ^crc32.Update(^crc, castagnoli, p) }

func crc32c32(crc, v uint32) uint32 {
	var b [4]byte
	le.PutUint32(b[:], v)
	return crc32c(crc, b[:])
}

func crc32c64(crc uint32, v uint64) uint32 {
	var b [8]byte
	le.PutUint64(b[:], v)
	return crc32c(crc, b[:])
}

// crc16 is the checksum of group descriptors with gdt_csum (polynomial 0x8005,
// reflected).
func crc16(crc uint16, p []byte) uint16 {
	for _, b := range p {
		crc ^= uint16(b)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xa001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}

var zeros [4]byte
