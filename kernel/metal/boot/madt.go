package boot

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/klog"
)

// The processors are needed before the runtime starts, since it reads their
// number once. So metal walks RSDP → XSDT/RSDT → MADT itself, just far enough;
// kernel/hw/acpi does the rest later. ACPI 6.5 §5.2.5, §5.2.7, §5.2.12.
const (
	sigRSDP = 0x2052545020445352 // "RSD PTR "
	sigMADT = 0x43495041         // "APIC"
	sigXSDT = 0x54445358
	sigRSDT = 0x54445352

	sdtLength  = 4
	sdtHeader  = 36
	madtFirst  = 44
	madtLAPIC  = 0
	madtX2APIC = 9
	maxTable   = 1 << 20
)

// findProcessors fills apicIDs. Runs on the boot tables: physical addresses
// below 4 GiB can be read as they are.
func findProcessors() {
	if rsdp == 0 {
		rsdp = scanRSDP(0xe0000, 0x100000)
	}
	if rsdp == 0 {
		return // no ACPI: one processor
	}
	var l klog.Line
	if rsdp >= lowLimit-64 || *arch.U64(rsdp) != sigRSDP || sum(rsdp, 20) != 0 {
		l.Str("osv: acpi: no valid RSDP at ").Hex(uint64(rsdp)).Str("; one processor is used").End()
		return
	}
	table, size := uintptr(*arch.U32(rsdp + 16)), uintptr(4)
	sig := uint32(sigRSDT)
	if *arch.Byte(rsdp + 15) >= 2 && *arch.U64(rsdp + 24) != 0 {
		table, size, sig = *arch.Ptr(rsdp + 24), 8, sigXSDT
	}
	n := checked(table, sig)
	if n == 0 {
		l.Str("osv: acpi: garbled root table at ").Hex(uint64(table)).Str("; one processor is used").End()
		return
	}
	for a := table + sdtHeader; a+size <= table+n; a += size {
		p := uintptr(*arch.U32(a))
		if size == 8 {
			p |= uintptr(*arch.U32(a + 4)) << 32
		}
		if p < lowLimit-sdtHeader && p != 0 && *arch.U32(p) == sigMADT {
			if m := checked(p, sigMADT); m != 0 {
				readMADT(p, m)
				return
			}
			l.Str("osv: acpi: garbled MADT at ").Hex(uint64(p)).Str("; one processor is used").End()
			return
		}
	}
}

// checked returns the length of the table at p if signature, length and checksum
// are right, else 0.
func checked(p uintptr, sig uint32) uintptr {
	if p == 0 || p >= lowLimit-sdtHeader || *arch.U32(p) != sig {
		return 0
	}
	n := uintptr(*arch.U32(p + sdtLength))
	if n < sdtHeader || n > maxTable || p+n > lowLimit || sum(p, n) != 0 {
		return 0
	}
	return n
}

func readMADT(p, n uintptr) {
	for a := p + madtFirst; a+2 <= p+n; {
		kind, size := *arch.Byte(a), uintptr(*arch.Byte(a + 1))
		if size < 2 || a+size > p+n {
			return
		}
		switch {
		case kind == madtLAPIC && size >= 8 && *arch.U32(a + 4)&1 != 0:
			addProcessor(uint32(*arch.Byte(a + 3)))
		case kind == madtX2APIC && size >= 16 && *arch.U32(a + 8)&1 != 0:
			addProcessor(*arch.U32(a + 4))
		}
		a += size
	}
}

func addProcessor(id uint32) {
	for i := 0; i < apicNum; i++ {
		if apicIDs[i] == id {
			return
		}
	}
	if apicNum < cpu.Max {
		apicIDs[apicNum] = id
		apicNum++
	}
}

func scanRSDP(from, to uintptr) uintptr {
	for p := from; p < to; p += 16 {
		if *arch.U64(p) == sigRSDP && sum(p, 20) == 0 {
			return p
		}
	}
	return 0
}

func sum(p, n uintptr) (s byte) {
	for i := uintptr(0); i < n; i++ {
		s += *arch.Byte(p + i)
	}
	return s
}
