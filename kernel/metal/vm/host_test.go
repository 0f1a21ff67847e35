package vm

import (
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
)

const ramBytes = 32 << 20

// ram gives the frame allocator an arena that stands for physical memory from 0
// to ramBytes, once for all tests: it has state that outlives them.
var ram = sync.OnceValue(func() error {
	b, err := syscall.Mmap(-1, 0, ramBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return err
	}
	phys.SetBase(uintptr(unsafe.Pointer(&b[0])))
	phys.Init(0, ramBytes)
	for i := 1 << 20; i < ramBytes; i++ {
		b[i] = 0xef // RAM holds anything
	}
	phys.AddRange(1<<20, ramBytes)
	return nil
})

// fresh makes the calling goroutine processor 0 and the address space new.
func fresh(t testing.TB) {
	t.Helper()
	c := cpu.All(0)
	c.Self = uintptr(unsafe.Pointer(c))
	hostcpu.Become(t, c.Self)
	if err := ram(); err != nil {
		t.Fatal(err)
	}
	image, haveGiB, largeFloor = Image{}, false, 0
	nextHeap, nextDevice = heapBase, deviceBase
	nspans = 0
	if root = allocTable(); root == phys.None {
		t.Fatal("no memory left for a page table")
	}
}

// mapping is one entry of the page tables.
type mapping struct {
	va, pa, size uintptr
	flags        uintptr
}

// mappings walks the page tables as the processor would (SDM vol. 3A §4.5.4).
func mappings() (out []mapping) {
	var walk func(table, va uintptr, level uint)
	walk = func(table, va uintptr, level uint) {
		for i := range uintptr(512) {
			e := *arch.Ptr(phys.ToVirt(table) + i*8)
			if e&ptePresent == 0 {
				continue
			}
			a := va | i<<level
			if level == 39 && i >= 256 {
				a |= 0xffff << 48 // canonical form
			}
			if level > 12 && e&pteLarge == 0 {
				walk(e&pteAddr, a, level-9)
				continue
			}
			size := uintptr(1) << level
			out = append(out, mapping{a, e & pteAddr &^ (size - 1), size, e &^ pteAddr})
		}
	}
	walk(root, 0, 39)
	return out
}
