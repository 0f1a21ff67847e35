#include "textflag.h"
#include "stub_amd64.h"

// CLEARBP ends the chain of frame pointers here.
#define CLEARBP XORL BP, BP;

DATA ·highEntry(SB)/8, $·high(SB)
GLOBL ·highEntry(SB), RODATA|NOPTR, $8

// linkedHere holds its own linked address, from which the stub learns how far the
// image was moved.
DATA ·linkedHere(SB)/8, $·linkedHere(SB)
GLOBL ·linkedHere(SB), RODATA|NOPTR, $8

// pvhEntry is the ELF entry point (go build -ldflags '-E …'): 32-bit code up to
// LRET, then 64-bit at the identity-mapped physical address. ESI = start info.
// The source of the macros is stub32/pvh32.S.
TEXT ·pvhEntry(SB),NOSPLIT|NOFRAME,$0
	PVH32_PART1
	LEAQ	·bootTables(SB), AX
	PVH32_PART2
	LEAQ	·linkedHere(SB), AX
	PVH32_PART3
	MOVQ	·highEntry(SB), AX
	JMP	AX

// high runs at the linked address, on the boot page tables.
TEXT ·high(SB),NOSPLIT|NOFRAME,$0
	MOVL	$0x10, AX
	BYTE $0x8e; BYTE $0xd8	// MOVL AX, DS
	BYTE $0x8e; BYTE $0xc0	// MOVL AX, ES
	BYTE $0x8e; BYTE $0xd0	// MOVL AX, SS
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, ·entryTSC(SB)
	MOVL	SI, SI
	MOVQ	SI, ·startInfo(SB)
	MOVLQSX	DI, DI
	MOVQ	DI, ·imageDelta(SB)
	// FSGSBASE is needed from the first Go instruction on. CPUID leaf 7, EBX bit 0;
	// without it there is nothing to print with but the port.
	MOVL	$7, AX
	XORL	CX, CX
	CPUID
	TESTL	$1, BX
	JNE	ok
	LEAQ	·noFSGSBase(SB), SI
say:
	MOVL	$0x3f8, DX
next:
	MOVB	(SI), AX
	TESTB	AX, AX
	JEQ	stop
	OUTB
	INCQ	SI
	JMP	next
stop:
	MOVL	$0xf4, DX
	MOVL	$103, AX	// shim.StatusBoot
	OUTB
	CLI
	HLT
	JMP	-1(PC)
ok:
	MOVQ	CR4, AX
	ORQ	$0x10000, AX	// FSGSBASE
	MOVQ	AX, CR4
	// .bss up to here must be RAM; what follows is checked in Go.
	LEAQ	·bootStacks(SB), AX
	ADDQ	$81912, AX
	MOVQ	$0x5af0a505, BX
	MOVQ	BX, (AX)
	MOVQ	(AX), CX
	LEAQ	·noRAM(SB), SI
	CMPQ	BX, CX
	JNE	say
	// The boot processor's trap stacks are static. The first of them serves now.
	LEAQ	·bootStacks(SB), AX
	ADDQ	$16383, AX
	ANDQ	$~16383, AX
	LEAQ	16320(AX), SP
	MOVQ	AX, R14
	// A g good enough until cpu.Prepare writes the real one to the same place.
	LEAQ	1024(AX), BX
	MOVQ	BX, 0(AX)
	LEAQ	16384(AX), BX
	MOVQ	BX, 8(AX)
	LEAQ	1952(AX), BX
	MOVQ	BX, 16(AX)
	MOVQ	BX, 24(AX)
	MOVQ	AX, 512(AX)
	LEAQ	520(AX), BX
	WRFSBASEQ BX
	XORPS	X15, X15
	CLEARBP
	CLD
	MOVQ	·startFn(SB), DX
	CALL	(DX)		// AX = base of the trap stacks
	JMP	osv∕kernel∕metal∕trap·resume(SB)

DATA ·noFSGSBase+0(SB)/8, $"osv: thi"
DATA ·noFSGSBase+8(SB)/8, $"s proces"
DATA ·noFSGSBase+16(SB)/8, $"sor has "
DATA ·noFSGSBase+24(SB)/8, $"no FSGSB"
DATA ·noFSGSBase+32(SB)/8, $"ASE (CPU"
DATA ·noFSGSBase+40(SB)/8, $"ID.7.EBX"
DATA ·noFSGSBase+48(SB)/8, $" bit 0)\n"
DATA ·noFSGSBase+56(SB)/8, $"\x00\x00\x00\x00\x00\x00\x00\x00"
GLOBL ·noFSGSBase(SB), RODATA|NOPTR, $64

DATA ·noRAM+0(SB)/8, $"osv: too"
DATA ·noRAM+8(SB)/8, $" little "
DATA ·noRAM+16(SB)/8, $"memory: "
DATA ·noRAM+24(SB)/8, $"RAM ends"
DATA ·noRAM+32(SB)/8, $" inside "
DATA ·noRAM+40(SB)/8, $"the imag"
DATA ·noRAM+48(SB)/8, $"e\n\x00\x00\x00\x00\x00\x00"
GLOBL ·noRAM(SB), RODATA|NOPTR, $56

// apHigh is where a further processor arrives: long mode, its own stack, RDI =
// its *cpu.CPU.
TEXT ·apHigh(SB),NOSPLIT|NOFRAME,$0
	MOVQ	CR4, AX
	ORQ	$0x10000, AX	// FSGSBASE
	MOVQ	AX, CR4
	MOVQ	SP, R14
	ANDQ	$~16383, R14
	LEAQ	520(R14), CX
	WRFSBASEQ CX
	XORPS	X15, X15
	CLEARBP
	CLD
	MOVQ	DI, AX
	MOVQ	·apStartFn(SB), DX
	CALL	(DX)
	JMP	osv∕kernel∕metal∕trap·resume(SB)

// goEntry hands over to the Go runtime, as the Linux kernel would: SP points at
// argc.
TEXT ·goEntry(SB),NOSPLIT|NOFRAME,$0
	JMP	_rt0_amd64_linux(SB)

TEXT ·ap16(SB),NOSPLIT|NOFRAME,$0
	AP16

TEXT ·addresses(SB),NOSPLIT,$0-24
	LEAQ	·goEntry(SB), AX
	MOVQ	AX, rt0+0(FP)
	LEAQ	·ap16(SB), AX
	MOVQ	AX, ap+8(FP)
	LEAQ	·apHigh(SB), AX
	MOVQ	AX, apGo+16(FP)
	RET
