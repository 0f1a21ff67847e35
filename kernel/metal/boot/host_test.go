package boot

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/klog"
)

// low is memory below 4 GiB, where loaders leave their tables.
type low struct {
	at  uintptr
	mem []byte
}

// fresh forgets what earlier tests found, and returns memory for the next.
func fresh(t testing.TB) *low {
	t.Helper()
	line, words, nwords, dropped, verbose = [maxLine + 1]byte{}, [maxWords]uintptr{}, 0, false, false
	ram, ranges, ramTop = [maxRanges]extent{}, 0, 0
	rsdp, startInfo, apPage = 0, 0, 0
	apicNum = 0
	at, mem := hostcpu.LowArena(t, 2<<20)
	return &low{at, mem}
}

func (m *low) put32(off int, v uint32) { binary.LittleEndian.PutUint32(m.mem[off:], v) }
func (m *low) put64(off int, v uint64) { binary.LittleEndian.PutUint64(m.mem[off:], v) }

// printed returns what do printed on the console.
func printed(do func()) string {
	pos := consoleEnd()
	do()
	b := make([]byte, 1<<16)
	n, _ := klog.Read(pos, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return string(b[:n])
}

// consoleEnd is the position behind all that was printed.
func consoleEnd() (pos uint64) {
	var b [4096]byte
	for {
		n, next := klog.Read(pos, uintptr(unsafe.Pointer(&b)), uintptr(len(b)))
		if n == 0 {
			return next
		}
		pos = next
	}
}
