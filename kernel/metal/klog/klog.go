// Package klog is the console below the runtime: it prints without a heap and
// keeps what it printed in a ring that the kernel above reads as dmesg.
//
// Hardware: 16550 UART (National Semiconductor PC16550D data sheet, §8) at I/O
// port 0x3f8, and the QEMU debug port 0xe9. Who may call it: kernel/metal, and
// kernel/trace to read the ring. It may not allocate, nor wait for anything
// but the UART. Start reading at Write.
package klog

import (
	"sync/atomic"

	"osv/kernel/metal/arch"
)

// UART registers, offsets from the base port (PC16550D §8.0, table II).
const (
	uartBase = 0x3f8
	regTHR   = uartBase + 0 // W  transmit holding register
	regIER   = uartBase + 1 // RW interrupt enable
	regFCR   = uartBase + 2 // W  FIFO control
	regLCR   = uartBase + 3 // RW line control
	regMCR   = uartBase + 4 // RW modem control
	regLSR   = uartBase + 5 // R  line status
	lsrTHRE  = 1 << 5       // transmitter FIFO empty
	fifoSize = 16

	debugPort = 0xe9
	ringSize  = 1 << 16
)

// Console is where output goes: bits, set from the command line.
type Console uint32

const (
	Serial Console = 1 << iota
	DebugPort
)

var (
	target   uint32 = uint32(Serial)
	uartOK   uint32
	lockWord uint32
	ring     [ringSize]byte
	written  uint64 // bytes ever put into ring; read by Read
)

// Init programs the UART for 115200 8N1 with FIFOs on and its interrupts off.
// A port that floats (reads 0xff) has no UART behind it; output then goes to
// the ring and the debug port only.
func Init() {
	if arch.In8(regLSR) == 0xff {
		return
	}
	arch.Out8(regIER, 0)
	arch.Out8(regLCR, 0x80) // DLAB
	arch.Out8(regTHR, 1)    // divisor 1 = 115200
	arch.Out8(regIER, 0)
	arch.Out8(regLCR, 3) // 8N1
	arch.Out8(regFCR, 7) // enable and clear FIFOs
	arch.Out8(regMCR, 3) // DTR, RTS
	uartOK = 1
}

// SetTarget chooses the outputs.
func SetTarget(c Console) { atomic.StoreUint32(&target, uint32(c)) }

// Write prints the n bytes at address p. Interrupts are off or the caller may be
// preempted while it holds the lock; metal always calls it with them off.
func Write(p, n uintptr) {
	lock()
	for i := uintptr(0); i < n; {
		i += chunk(p+i, n-i)
	}
	unlock()
}

// chunk prints at most one FIFO full and returns how much.
func chunk(p, n uintptr) uintptr {
	n = min(n, fifoSize)
	t := Console(atomic.LoadUint32(&target))
	serial := t&Serial != 0 && uartOK != 0
	if serial {
		for arch.In8(regLSR)&lsrTHRE == 0 {
			arch.Pause()
		}
	}
	w := written
	for i := uintptr(0); i < n; i++ {
		c := *arch.Byte(p + i)
		ring[w%ringSize] = c
		w++
		if serial {
			arch.Out8(regTHR, c)
		}
		if t&DebugPort != 0 {
			arch.Out8(debugPort, c)
		}
	}
	atomic.StoreUint64(&written, w)
	return n
}

// lock spins, but not for ever: a CPU that died while printing must not silence
// the others' last words.
func lock() {
	for n := 0; !atomic.CompareAndSwapUint32(&lockWord, 0, 1) && n < 1<<22; n++ {
		arch.Pause()
	}
}

func unlock() { atomic.StoreUint32(&lockWord, 0) }

// Read copies ring contents from position pos (a count of bytes ever written)
// into the n bytes at p; it returns the number copied and the next position. A
// reader that fell behind by more than the ring is moved forward.
func Read(pos uint64, p, n uintptr) (copied uintptr, next uint64) {
	w := atomic.LoadUint64(&written)
	if w > ringSize && pos < w-ringSize {
		pos = w - ringSize
	}
	for pos < w && copied < n {
		*arch.Byte(p + copied) = ring[pos%ringSize]
		pos++
		copied++
	}
	return copied, pos
}
