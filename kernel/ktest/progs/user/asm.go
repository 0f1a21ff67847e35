package main

import "encoding/binary"

// A few instructions in machine code: programs for ring 3 are put together by hand.
type code []byte

func (c code) raw(b ...byte) code { return append(c, b...) }

// movEAX is MOV EAX, imm32.
func (c code) movEAX(v uint32) code { return binary.LittleEndian.AppendUint32(append(c, 0xb8), v) }

// movRBX is MOV RBX, imm64.
func (c code) movRBX(v uint64) code {
	return binary.LittleEndian.AppendUint64(append(c, 0x48, 0xbb), v)
}

func (c code) syscall() code { return append(c, 0x0f, 0x05) }

// jmp jumps to an offset in the code.
func (c code) jmp(to int) code {
	return binary.LittleEndian.AppendUint32(append(c, 0xe9), uint32(to-len(c)-5))
}

func (c code) loadRBX() code  { return append(c, 0x48, 0x8b, 0x03) } // MOV RAX, [RBX]
func (c code) storeRBX() code { return append(c, 0x48, 0x89, 0x03) } // MOV [RBX], RAX
