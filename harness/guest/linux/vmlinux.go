package linux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// unpackKernel takes the ELF kernel out of a bzImage. Booted directly (by its PVH
// note), it spares the guest the unpacking and the move: the quickest start that
// Linux has under QEMU.
//
// Spec: the Linux/x86 boot protocol 2.15 (Documentation/arch/x86/boot.rst), fields
// setup_sects, HdrS, payload_offset, payload_length.
func unpackKernel(bz []byte) ([]byte, error) {
	const sector = 512
	if len(bz) < 0x250 || string(bz[0x202:0x206]) != "HdrS" {
		return nil, errors.New("not a bzImage: no HdrS")
	}
	sects := int(bz[0x1f1])
	if sects == 0 {
		sects = 4
	}
	off, size := int(binary.LittleEndian.Uint32(bz[0x248:])), int(binary.LittleEndian.Uint32(bz[0x24c:]))
	start := (sects+1)*sector + off
	if start > len(bz) || size > len(bz)-start || size < 8 {
		return nil, fmt.Errorf("bzImage: payload of %d bytes at %d, file of %d", size, start, len(bz))
	}
	payload := bz[start : start+size]
	if binary.LittleEndian.Uint32(payload) != lz4Legacy {
		return nil, fmt.Errorf("bzImage: packed with something else than LZ4 (%x)", payload[:6])
	}
	// The build appends the unpacked size.
	want := binary.LittleEndian.Uint32(payload[size-4:])
	if want > 1<<30 {
		return nil, fmt.Errorf("bzImage: unpacked size %d", want)
	}
	elf, err := unpackLZ4(payload[4:size-4], int(want))
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(elf, []byte("\x7fELF")) {
		return nil, errors.New("bzImage: the payload is not an ELF")
	}
	return elf, nil
}

// lz4Legacy is the magic number of the LZ4 legacy frame: then blocks, each with
// its packed size in front, unpacking to 8 MiB (the last to less).
const lz4Legacy = 0x184c2102

var errLZ4 = errors.New("LZ4 data is damaged")

// unpackLZ4 unpacks the blocks of a legacy frame to exactly want bytes. Spec: LZ4
// frame format 1.6.1, "Legacy frame"; LZ4 block format.
func unpackLZ4(src []byte, want int) ([]byte, error) {
	dst := make([]byte, 0, min(want, 64<<20))
	for len(src) > 0 && len(dst) < want {
		if len(src) < 4 {
			return nil, errLZ4
		}
		n := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return nil, errLZ4
		}
		var err error
		if dst, err = unpackBlock(dst, src[:n], want); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	if len(dst) != want {
		return nil, errLZ4
	}
	return dst, nil
}

// unpackBlock appends one block to dst, which may not grow beyond limit. Matches
// do not reach back before the block.
func unpackBlock(dst, src []byte, limit int) ([]byte, error) {
	start := len(dst)
	// length reads a length whose first part is a nibble: 15 is followed by bytes
	// that add up, until one that is not 255.
	length := func(n int) (int, bool) {
		if n < 15 {
			return n, true
		}
		for len(src) > 0 && n <= limit {
			b := src[0]
			src = src[1:]
			n += int(b)
			if b != 255 {
				return n, true
			}
		}
		return 0, false
	}
	for len(src) > 0 {
		token := src[0]
		src = src[1:]
		lit, ok := length(int(token >> 4))
		if !ok || lit > len(src) || lit > limit-len(dst) {
			return nil, errLZ4
		}
		dst = append(dst, src[:lit]...)
		src = src[lit:]
		if len(src) == 0 {
			return dst, nil // the last sequence is literals only
		}
		if len(src) < 2 {
			return nil, errLZ4
		}
		back := int(binary.LittleEndian.Uint16(src))
		src = src[2:]
		match, ok := length(int(token & 15))
		match += 4
		if !ok || back == 0 || back > len(dst)-start || match > limit-len(dst) {
			return nil, errLZ4
		}
		for match > 0 { // the match may overlap what it makes
			n := min(match, back)
			from := len(dst) - back
			dst = append(dst, dst[from:from+n]...)
			match -= n
		}
	}
	return dst, nil
}
