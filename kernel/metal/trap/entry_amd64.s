#include "textflag.h"

// Offsets in cpu.CPU (reached by GS) and sched.Frame (the head of a thread).
#define CPU_SELF 0
#define CPU_CUR 8
#define CPU_SYSSTACK 16
#define CPU_SCRATCH 24
#define CPU_USER 32
#define CPU_FPOWNER 40
#define CPU_CR3 48
#define CPU_ID 56

#define F_AX 0
#define F_BX 8
#define F_CX 16
#define F_DX 24
#define F_SI 32
#define F_DI 40
#define F_BP 48
#define F_R8 56
#define F_R9 64
#define F_R10 72
#define F_R11 80
#define F_R12 88
#define F_R13 96
#define F_R14 104
#define F_R15 112
#define F_RIP 120
#define F_FLAGS 128
#define F_SP 136
#define F_FS 144
#define F_FULL 152
#define F_FX 160
#define F_USER 672

// trap.Frame, below what the processor and the stub pushed.
#define T_FS 120
#define T_GS 128
#define T_BYTES 136

// XMM and MXCSR in the layout of FXSAVE. Go uses no other part of the FPU.
#define X_MXCSR 24
#define X_XMM 160

#define SAVEXMM(base) \
	MOVUPS	X0, (X_XMM+0x00)(base) \
	MOVUPS	X1, (X_XMM+0x10)(base) \
	MOVUPS	X2, (X_XMM+0x20)(base) \
	MOVUPS	X3, (X_XMM+0x30)(base) \
	MOVUPS	X4, (X_XMM+0x40)(base) \
	MOVUPS	X5, (X_XMM+0x50)(base) \
	MOVUPS	X6, (X_XMM+0x60)(base) \
	MOVUPS	X7, (X_XMM+0x70)(base) \
	MOVUPS	X8, (X_XMM+0x80)(base) \
	MOVUPS	X9, (X_XMM+0x90)(base) \
	MOVUPS	X10, (X_XMM+0xa0)(base) \
	MOVUPS	X11, (X_XMM+0xb0)(base) \
	MOVUPS	X12, (X_XMM+0xc0)(base) \
	MOVUPS	X13, (X_XMM+0xd0)(base) \
	MOVUPS	X14, (X_XMM+0xe0)(base) \
	MOVUPS	X15, (X_XMM+0xf0)(base)

#define LOADXMM(base) \
	MOVUPS	(X_XMM+0x00)(base), X0 \
	MOVUPS	(X_XMM+0x10)(base), X1 \
	MOVUPS	(X_XMM+0x20)(base), X2 \
	MOVUPS	(X_XMM+0x30)(base), X3 \
	MOVUPS	(X_XMM+0x40)(base), X4 \
	MOVUPS	(X_XMM+0x50)(base), X5 \
	MOVUPS	(X_XMM+0x60)(base), X6 \
	MOVUPS	(X_XMM+0x70)(base), X7 \
	MOVUPS	(X_XMM+0x80)(base), X8 \
	MOVUPS	(X_XMM+0x90)(base), X9 \
	MOVUPS	(X_XMM+0xa0)(base), X10 \
	MOVUPS	(X_XMM+0xb0)(base), X11 \
	MOVUPS	(X_XMM+0xc0)(base), X12 \
	MOVUPS	(X_XMM+0xd0)(base), X13 \
	MOVUPS	(X_XMM+0xe0)(base), X14 \
	MOVUPS	(X_XMM+0xf0)(base), X15

// cpu.StackSize and where the TLS word of a trap stack lies (cpu/stack.go).
#define STACKMASK $~16383
#define TLS_END 520
#define STACK_CPU 520

// STACKG sets up the Go world of the trap stack that SP is on: R14 = its g, FS so
// that -8(FS) names it (an ABI0 callee makes the compiler reload R14 from there),
// X15 = 0. Clobbers CX.
#define STACKG \
	MOVQ	SP, R14 \
	ANDQ	STACKMASK, R14 \
	LEAQ	TLS_END(R14), CX \
	WRFSBASEQ CX \
	XORPS	X15, X15 \
	XORL	BP, BP \
	CLD

// LOADBP restores RBP; vet would have it saved first, but these frames are not ours.
#define LOADBP(base) MOVQ F_BP(base), BP;

// syscallEntry is where SYSCALL lands: RCX = return address, R11 = RFLAGS,
// interrupts off, still on the caller's stack. All registers go to the thread;
// XMM need no saving since the Go ABI has none that live across a system call.
TEXT ·syscallEntry(SB),NOSPLIT|NOFRAME,$0
	TESTQ	CX, CX
	JGE	user	// programs run in the lower half
	MOVQ	AX, CPU_SCRATCH(GS)
	MOVQ	CPU_CUR(GS), AX
	MOVQ	BX, F_BX(AX)
	MOVQ	CX, F_CX(AX)
	MOVQ	DX, F_DX(AX)
	MOVQ	SI, F_SI(AX)
	MOVQ	DI, F_DI(AX)
	MOVQ	BP, F_BP(AX)
	MOVQ	R8, F_R8(AX)
	MOVQ	R9, F_R9(AX)
	MOVQ	R10, F_R10(AX)
	MOVQ	R11, F_R11(AX)
	MOVQ	R12, F_R12(AX)
	MOVQ	R13, F_R13(AX)
	MOVQ	R14, F_R14(AX)
	MOVQ	R15, F_R15(AX)
	MOVQ	CX, F_RIP(AX)
	MOVQ	R11, F_FLAGS(AX)
	MOVQ	SP, F_SP(AX)
	RDFSBASEQ CX
	MOVQ	CX, F_FS(AX)
	MOVQ	$0, F_FULL(AX)
	MOVQ	CPU_SCRATCH(GS), BX
	MOVQ	BX, F_AX(AX)
	MOVQ	CPU_SYSSTACK(GS), SP
	STACKG
	MOVQ	CPU_SELF(GS), AX
	MOVQ	·syscallFn(SB), DX
	CALL	(DX)
	JMP	·resume(SB)
user:
	JMP	·userSyscall(SB)

// resume continues the current thread of this processor.
TEXT ·resume(SB),NOSPLIT|NOFRAME,$0
	MOVQ	CPU_CUR(GS), AX
	MOVQ	F_FS(AX), BX
	WRFSBASEQ BX
	CMPQ	F_FULL(AX), $0
	JNE	full
	// Return from SYSCALL: RCX and R11 are free to use, XMM undefined but X15 = 0,
	// which the Go ABI wants and a handler in Go leaves.
	MOVQ	F_BX(AX), BX
	MOVQ	F_DX(AX), DX
	MOVQ	F_SI(AX), SI
	MOVQ	F_DI(AX), DI
	LOADBP(AX)
	MOVQ	F_R8(AX), R8
	MOVQ	F_R9(AX), R9
	MOVQ	F_R10(AX), R10
	MOVQ	F_R12(AX), R12
	MOVQ	F_R13(AX), R13
	MOVQ	F_R14(AX), R14
	MOVQ	F_R15(AX), R15
	MOVQ	F_RIP(AX), CX
	MOVQ	F_SP(AX), SP
	MOVQ	F_AX(AX), AX
	STI	// takes effect after the next instruction
	JMP	CX
full:
	CMPQ	F_FULL(AX), $2
	JEQ	user
	LEAQ	F_FX(AX), BX
	LOADXMM(BX)
	// IRET needs its frame on a stack that no trap below can overwrite before it is
	// used: interrupts are off, and this CPU's system call stack is idle.
	MOVQ	CPU_SYSSTACK(GS), SP
	PUSHQ	$0x10
	PUSHQ	F_SP(AX)
	PUSHQ	F_FLAGS(AX)
	PUSHQ	$0x08
	PUSHQ	F_RIP(AX)
	MOVQ	F_BX(AX), BX
	MOVQ	F_CX(AX), CX
	MOVQ	F_DX(AX), DX
	MOVQ	F_SI(AX), SI
	MOVQ	F_DI(AX), DI
	LOADBP(AX)
	MOVQ	F_R8(AX), R8
	MOVQ	F_R9(AX), R9
	MOVQ	F_R10(AX), R10
	MOVQ	F_R11(AX), R11
	MOVQ	F_R12(AX), R12
	MOVQ	F_R13(AX), R13
	MOVQ	F_R14(AX), R14
	MOVQ	F_R15(AX), R15
	MOVQ	F_AX(AX), AX
	IRETQ
user:
	MOVQ	$0, F_FULL(AX)
	MOVQ	F_USER(AX), BX
	JMP	·userGo(SB)

// trapCommon is entered from a stub on an interrupt stack that holds, upwards:
// the stub's return address (which names the vector), error code, RIP, CS,
// RFLAGS, RSP, SS. It completes trap.Frame below that and calls the Go handler
// with the CPU, the frame and the area of XMM.
//
// What was interrupted may be a program, whose GS is its own, or the few
// instructions around a SWAPGS: so GS is not trusted but loaded from the stack's
// base, and put back on return.
TEXT ·trapCommon(SB),NOSPLIT|NOFRAME,$0
	SUBQ	$T_BYTES, SP
	MOVQ	AX, F_AX(SP)
	MOVQ	BX, F_BX(SP)
	MOVQ	CX, F_CX(SP)
	MOVQ	DX, F_DX(SP)
	MOVQ	SI, F_SI(SP)
	MOVQ	DI, F_DI(SP)
	MOVQ	BP, F_BP(SP)
	MOVQ	R8, F_R8(SP)
	MOVQ	R9, F_R9(SP)
	MOVQ	R10, F_R10(SP)
	MOVQ	R11, F_R11(SP)
	MOVQ	R12, F_R12(SP)
	MOVQ	R13, F_R13(SP)
	MOVQ	R14, F_R14(SP)
	MOVQ	R15, F_R15(SP)
	RDFSBASEQ CX
	MOVQ	CX, T_FS(SP)
	RDGSBASEQ CX
	MOVQ	CX, T_GS(SP)
	MOVQ	SP, BX
	// Below the frame: 16 bytes that remember it, the area of XMM, and 64 bytes
	// that an ABIInternal callee may spill its register arguments into.
	SUBQ	$592, SP
	ANDQ	$~15, SP
	MOVQ	BX, 576(SP)
	// A program's AC would let metal past SMAP, its MXCSR make arithmetic trap.
	PUSHQ	$2
	POPFQ
	LEAQ	64(SP), AX
	SAVEXMM(AX)
	STMXCSR	X_MXCSR(AX)
	LDMXCSR	·mxcsr(SB)
	STACKG
	MOVQ	STACK_CPU(R14), AX
	WRGSBASEQ AX
	LEAQ	64(SP), CX
	MOVQ	·trapFn(SB), DX
	CALL	(DX)
	TESTB	AX, AX
	JEQ	back
	JMP	·resume(SB)
back:
	LEAQ	64(SP), AX
	LOADXMM(AX)
	LDMXCSR	X_MXCSR(AX)
	MOVQ	576(SP), SP
	MOVQ	T_FS(SP), CX
	WRFSBASEQ CX
	MOVQ	T_GS(SP), CX
	WRGSBASEQ CX
	MOVQ	F_AX(SP), AX
	MOVQ	F_BX(SP), BX
	MOVQ	F_CX(SP), CX
	MOVQ	F_DX(SP), DX
	MOVQ	F_SI(SP), SI
	MOVQ	F_DI(SP), DI
	LOADBP(SP)
	MOVQ	F_R8(SP), R8
	MOVQ	F_R9(SP), R9
	MOVQ	F_R10(SP), R10
	MOVQ	F_R11(SP), R11
	MOVQ	F_R12(SP), R12
	MOVQ	F_R13(SP), R13
	MOVQ	F_R14(SP), R14
	MOVQ	F_R15(SP), R15
	ADDQ	$(T_BYTES+16), SP
	IRETQ

DATA ·mxcsr(SB)/4, $0x1f80
GLOBL ·mxcsr(SB), RODATA|NOPTR, $4

// idleLoop is the idle thread: interrupts on, wait. A handler that finds work
// never comes back here.
TEXT ·idleLoop(SB),NOSPLIT|NOFRAME,$0
	STI
	HLT
	JMP	-2(PC)

// stubs: one per vector, 7 bytes each, so that the return address of the CALL
// tells the vector. E is for exceptions where the processor pushes an error code
// (SDM vol. 3A table 6-1), N pushes a zero in its place.
#define N BYTE $0x6a; BYTE $0x00; CALL ·trapCommon(SB);
#define E BYTE $0x66; BYTE $0x90; CALL ·trapCommon(SB);
#define N8 N N N N N N N N
#define N32 N8 N8 N8 N8
TEXT ·stubs(SB),NOSPLIT|NOFRAME,$0
	N8
	E N E E E E E N
	N E N N N E N N
	N N N N N E E N
	N32 N32 N32 N32 N32 N32 N32
	RET

TEXT ·addresses(SB),NOSPLIT,$0-24
	LEAQ	·syscallEntry(SB), AX
	MOVQ	AX, syscall+0(FP)
	LEAQ	·stubs(SB), AX
	MOVQ	AX, stub0+8(FP)
	LEAQ	·idleLoop(SB), AX
	MOVQ	AX, idle+16(FP)
	RET
