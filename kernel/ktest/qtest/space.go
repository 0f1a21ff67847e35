package qtest

import (
	"fmt"

	"osv/kernel/hw/mmio"
)

// space is a register window reached by qtest commands.
type space struct {
	m    *Machine
	base uint64
	size uint32
	port bool
}

var suffix = map[int]string{1: "b", 2: "w", 4: "l"}

func (s space) at(o mmio.Off, width int) uint64 {
	if uint64(o)+uint64(width) > uint64(s.size) {
		panic(fmt.Sprintf("qtest: access of %d bytes at %#x of %#x", width, uint32(o), s.size))
	}
	return s.base + uint64(o)
}

func (s space) load(o mmio.Off, width int) uint32 {
	cmd := "read"
	if s.port {
		cmd = "in"
	}
	return uint32(s.m.do("%s%s %#x", cmd, suffix[width], s.at(o, width)))
}

func (s space) store(o mmio.Off, width int, v uint32) {
	cmd := "write"
	if s.port {
		cmd = "out"
	}
	s.m.do("%s%s %#x %#x", cmd, suffix[width], s.at(o, width), v)
}

func (s space) Load8(o mmio.Off) uint8       { return uint8(s.load(o, 1)) }
func (s space) Load16(o mmio.Off) uint16     { return uint16(s.load(o, 2)) }
func (s space) Load32(o mmio.Off) uint32     { return s.load(o, 4) }
func (s space) Store8(o mmio.Off, v uint8)   { s.store(o, 1, uint32(v)) }
func (s space) Store16(o mmio.Off, v uint16) { s.store(o, 2, uint32(v)) }
func (s space) Store32(o mmio.Off, v uint32) { s.store(o, 4, v) }
func (s space) Len() uint32                  { return s.size }

// Doorbell writes as many bits as it is told to, but to virtio-mmio, which wants 32;
// it gets memory windows of a whole slot.
func (s space) Doorbell(o mmio.Off) mmio.Doorbell {
	narrow := 2
	if !s.port && s.size == mmioSlot {
		narrow = 4
	}
	return mmio.Funcs(func(v uint16) { s.store(o, narrow, uint32(v)) }, func(v uint32) { s.store(o, 4, v) })
}
