package main

import "encoding/binary"

// A few instructions in machine code: programs for ring 3 are put together by hand.
type code []byte

func (c code) raw(b ...byte) code { return append(c, b...) }

func (c code) u32(v uint32) code { return binary.LittleEndian.AppendUint32(c, v) }
func (c code) u64(v uint64) code { return binary.LittleEndian.AppendUint64(c, v) }

func (c code) movEAX(v uint32) code { return c.raw(0xb8).u32(v) }       // MOV EAX, v
func (c code) movRBX(v uint64) code { return c.raw(0x48, 0xbb).u64(v) } // MOV RBX, v
func (c code) loadRBX() code        { return c.raw(0x48, 0x8b, 0x03) }  // MOV RAX, [RBX]
func (c code) storeRBX() code       { return c.raw(0x48, 0x89, 0x03) }  // MOV [RBX], RAX
func (c code) jmpRBX() code         { return c.raw(0xff, 0xe3) }        // JMP RBX
func (c code) syscall() code        { return c.raw(0x0f, 0x05) }

// jmp jumps to an offset in the code.
func (c code) jmp(to int) code { return c.raw(0xe9).u32(uint32(to - len(c) - 5)) }

// spin jumps to itself.
func (c code) spin() code { return c.raw(0xeb, 0xfe) }

// pause is MOV ECX, n; DEC ECX; JNZ.
func (c code) pause(n uint32) code { return c.raw(0xb9).u32(n).raw(0xff, 0xc9, 0x75, 0xfc) }
