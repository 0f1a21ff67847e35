package pio

// The port instructions. Ring 0 only: at a lower privilege each is a general
// protection fault (SDM vol. 2, IN and OUT).

// In8 reads one byte from port.
func In8(port uint16) uint8

// In16 reads two bytes from port.
func In16(port uint16) uint16

// In32 reads four bytes from port.
func In32(port uint16) uint32

// Out8 writes one byte to port.
func Out8(port uint16, v uint8)

// Out16 writes two bytes to port.
func Out16(port uint16, v uint16)

// Out32 writes four bytes to port.
func Out32(port uint16, v uint32)

var instructions = &accessor{In8, In16, In32, Out8, Out16, Out32}
