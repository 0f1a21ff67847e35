package cpu

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
)

// The entry code in kernel/metal/trap knows these offsets.
func TestBlockLayout(t *testing.T) {
	var c CPU
	for name, got := range map[string][2]uintptr{
		"Self":     {unsafe.Offsetof(c.Self), 0},
		"Cur":      {unsafe.Offsetof(c.Cur), 8},
		"SysStack": {unsafe.Offsetof(c.SysStack), 16},
		"Scratch":  {unsafe.Offsetof(c.Scratch), 24},
		"User":     {unsafe.Offsetof(c.User), 32},
		"FPOwner":  {unsafe.Offsetof(c.FPOwner), 40},
		"CR3":      {unsafe.Offsetof(c.CR3), 48},
		"ID":       {unsafe.Offsetof(c.ID), 56},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is at %d, want %d", name, got[0], got[1])
		}
	}
	// SDM vol. 3A §7.2.1: a TSS, and with it RSP0 and the ISTs, must not cross a
	// boundary that the hardware cares for; 4-byte alignment is what putU64 needs.
	if unsafe.Offsetof(c.tss)%4 != 0 || len(c.tss) != 104 {
		t.Errorf("TSS of %d bytes at offset %d", len(c.tss), unsafe.Offsetof(c.tss))
	}
}

func TestPrepareMakesStacks(t *testing.T) {
	addr, mem := hostcpu.Arena(t, StacksBytes+StackSize)
	stacks := (addr + StackSize - 1) &^ (StackSize - 1)
	off := int(stacks - addr)
	for i := range mem {
		mem[i] = 0xee // what was there before
	}
	c := Prepare(3, 77, stacks)
	if c != All(3) || c.Self != uintptr(unsafe.Pointer(c)) || c.ID != 3 || c.APIC != 77 {
		t.Errorf("block: %+v", c)
	}
	word := func(a uintptr) uintptr { return uintptr(binary.LittleEndian.Uint64(mem[a-addr:])) }
	for i := range uintptr(stackCount) {
		base := stacks + i*StackSize
		// runtime.g of Go 1.26: stack.lo, stack.hi, stackguard0, stackguard1.
		if word(base) != base+stackLo || word(base+8) != base+StackSize ||
			word(base+16) != base+stackLo+stackGuard || word(base+24) != base+stackLo+stackGuard {
			t.Errorf("stack %d: g is %#x %#x %#x %#x", i, word(base), word(base+8), word(base+16), word(base+24))
		}
		if word(base+gBytes) != base {
			t.Errorf("stack %d: TLS word is %#x, want %#x", i, word(base+gBytes), base)
		}
		if word(base+gBytes+8) != c.Self {
			t.Errorf("stack %d: CPU block %#x, want %#x", i, word(base+gBytes+8), c.Self)
		}
		for k := base + 32; k < base+gBytes; k++ {
			if mem[k-addr] != 0 {
				t.Fatalf("stack %d: byte %d of the g is not zero", i, k-base)
			}
		}
		top := stackTop(stacks, i)
		if top&^(StackSize-1) != base || top%16 != 0 || !c.InMetal(top) || !c.InMetal(base) {
			t.Errorf("stack %d: top %#x does not lead to its base %#x", i, top, base)
		}
	}
	if c.SysStack != stackTop(stacks, stackSyscall) {
		t.Errorf("system call stack %#x", c.SysStack)
	}
	if c.InMetal(stacks-1) || c.InMetal(stacks+StacksBytes) {
		t.Error("InMetal holds outside of the stacks")
	}
	if mem[off+StacksBytes-1] != 0xee {
		t.Error("the stacks themselves were written to")
	}
}
