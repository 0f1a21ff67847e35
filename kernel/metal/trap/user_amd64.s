#include "textflag.h"

// See entry_amd64.s.
#define CPU_SELF 0
#define CPU_CUR 8
#define CPU_SYSSTACK 16
#define CPU_SCRATCH 24
#define CPU_USER 32
#define CPU_FPOWNER 40
#define CPU_CR3 48
#define CPU_ID 56
#define F_BP 48
#define F_RIP 120
#define F_FLAGS 128
#define F_SP 136
#define F_FS 144
#define F_USER 672
#define STACKMASK $~16383
#define TLS_END 520

// cpu.User
#define U_AX 0
#define U_BX 8
#define U_CX 16
#define U_DX 24
#define U_SI 32
#define U_DI 40
#define U_BP 48
#define U_R8 56
#define U_R9 64
#define U_R10 72
#define U_R11 80
#define U_R12 88
#define U_R13 96
#define U_R14 104
#define U_R15 112
#define U_RIP 120
#define U_FLAGS 128
#define U_SP 136
#define U_FS 144
#define U_GS 152
#define U_ROOT 160
#define U_KIND 168
#define U_VECTOR 172
#define U_ERR 176
#define U_MXCSR 180
#define U_CPU 192
#define U_KICK 196
#define U_XMM (512+160)

#define KIND_SYSCALL 0
#define KIND_FAULT 1
#define KIND_KICK 2

#define SEL_UCODE 0x2b
#define SEL_UDATA 0x23

// RFLAGS that a program may set: CF PF AF ZF SF TF DF OF, RF, AC, ID. IF is always on.
#define FLAGS_USER 0x250dd5
#define FLAGS_ALWAYS 0x202
#define FLAGS_NO_SYSRET 0x10100	// RF, which it cannot load, and TF

// LOADREGS loads what both ways into ring 3 load alike; R8 = the base of GS.
#define LOADREGS \
	SWAPGS \
	WRGSBASEQ R8 \
	MOVQ	U_AX(BX), AX \
	MOVQ	U_DX(BX), DX \
	MOVQ	U_SI(BX), SI \
	MOVQ	U_DI(BX), DI \
	MOVQ	U_BP(BX), BP \
	MOVQ	U_R8(BX), R8 \
	MOVQ	U_R9(BX), R9 \
	MOVQ	U_R10(BX), R10 \
	MOVQ	U_R12(BX), R12 \
	MOVQ	U_R13(BX), R13 \
	MOVQ	U_R14(BX), R14 \
	MOVQ	U_R15(BX), R15

// vet would have RBP saved before it is changed, but these frames are not ours.
#define CLEARBP XORL BP, BP;
#define LOADBP MOVQ F_BP(AX), BP;

// func Enter(u uintptr)
//
// The thread's frame is made to look as after a system call that this function's
// caller made: whoever resumes it returns there.
TEXT ·Enter(SB),NOSPLIT|NOFRAME,$0-8
	MOVQ	u+0(FP), BX
	CLI
	MOVQ	CPU_CUR(GS), AX
	MOVQ	0(SP), CX
	MOVQ	CX, F_RIP(AX)
	LEAQ	8(SP), CX
	MOVQ	CX, F_SP(AX)
	MOVQ	BP, F_BP(AX)
	MOVQ	$FLAGS_ALWAYS, F_FLAGS(AX)
	MOVQ	BX, F_USER(AX)
	JMP	·userGo(SB)

// userGo enters ring 3 with BX = *cpu.User, for the current thread. Interrupts are
// off: one that comes now is taken in ring 3.
TEXT ·userGo(SB),NOSPLIT|NOFRAME,$0
	MOVQ	BX, CPU_USER(GS)
again:
	CMPQ	BX, CPU_FPOWNER(GS)
	JNE	prepare
	MOVQ	U_ROOT(BX), CX
	CMPQ	CX, CPU_CR3(GS)
	JNE	prepare
	// First say where we are, then look whether somebody wants us back: who kicks
	// does it the other way round.
	MOVL	CPU_ID(GS), CX
	MOVL	CX, U_CPU(BX)
	XORL	CX, CX
	XCHGL	CX, U_KICK(BX)
	TESTL	CX, CX
	JNE	kicked
	MOVQ	U_RIP(BX), CX
	MOVQ	U_FLAGS(BX), R11
	ANDL	$FLAGS_USER, R11
	ORL	$FLAGS_ALWAYS, R11
	LDMXCSR	U_MXCSR(BX)
	MOVUPS	(U_XMM+0x00)(BX), X0
	MOVUPS	(U_XMM+0x10)(BX), X1
	MOVUPS	(U_XMM+0x20)(BX), X2
	MOVUPS	(U_XMM+0x30)(BX), X3
	MOVUPS	(U_XMM+0x40)(BX), X4
	MOVUPS	(U_XMM+0x50)(BX), X5
	MOVUPS	(U_XMM+0x60)(BX), X6
	MOVUPS	(U_XMM+0x70)(BX), X7
	MOVUPS	(U_XMM+0x80)(BX), X8
	MOVUPS	(U_XMM+0x90)(BX), X9
	MOVUPS	(U_XMM+0xa0)(BX), X10
	MOVUPS	(U_XMM+0xb0)(BX), X11
	MOVUPS	(U_XMM+0xc0)(BX), X12
	MOVUPS	(U_XMM+0xd0)(BX), X13
	MOVUPS	(U_XMM+0xe0)(BX), X14
	MOVUPS	(U_XMM+0xf0)(BX), X15
	MOVQ	U_FS(BX), R8
	WRFSBASEQ R8
	MOVQ	U_GS(BX), R8
	MOVQ	CX, DX
	SARQ	$47, DX
	JNE	high
	CMPQ	CX, U_CX(BX)
	JNE	iret
	CMPQ	R11, U_R11(BX)
	JNE	iret
	TESTL	$FLAGS_NO_SYSRET, R11
	JNE	iret
	LOADREGS
	MOVQ	U_SP(BX), SP
	MOVQ	U_BX(BX), BX
	BYTE $0x48; BYTE $0x0f; BYTE $0x07	// SYSRETQ
high:
	// An address in the kernel's half faults in ring 3. One that is none would fault
	// here, on the program's GS.
	CMPQ	DX, $-1
	JNE	noRIP
iret:
	MOVQ	CPU_SYSSTACK(GS), SP	// idle
	PUSHQ	$SEL_UDATA
	PUSHQ	U_SP(BX)
	PUSHQ	R11
	PUSHQ	$SEL_UCODE
	PUSHQ	CX
	LOADREGS
	MOVQ	U_CX(BX), CX
	MOVQ	U_R11(BX), R11
	MOVQ	U_BX(BX), BX
	IRETQ
prepare:
	MOVQ	CPU_SYSSTACK(GS), SP
	MOVQ	SP, R14
	ANDQ	STACKMASK, R14
	LEAQ	TLS_END(R14), CX
	WRFSBASEQ CX
	XORPS	X15, X15
	CLEARBP
	CLD
	MOVQ	CPU_SELF(GS), AX
	MOVQ	·prepareFn(SB), DX
	CALL	(DX)
	MOVQ	CPU_USER(GS), BX
	JMP	again
kicked:
	MOVL	$KIND_KICK, U_KIND(BX)
	JMP	·userLeave(SB)
noRIP:
	LDMXCSR	·mxcsr(SB)
	MOVL	$KIND_FAULT, U_KIND(BX)
	MOVL	$13, U_VECTOR(BX)
	MOVL	$0, U_ERR(BX)
	JMP	·userLeave(SB)

// userSyscall is where SYSCALL of a program lands: RCX = return address, R11 =
// RFLAGS, the program's stack and GS.
TEXT ·userSyscall(SB),NOSPLIT|NOFRAME,$0
	SWAPGS
	MOVQ	BX, CPU_SCRATCH(GS)
	MOVQ	CPU_USER(GS), BX
	MOVQ	AX, U_AX(BX)
	MOVQ	CX, U_CX(BX)
	MOVQ	DX, U_DX(BX)
	MOVQ	SI, U_SI(BX)
	MOVQ	DI, U_DI(BX)
	MOVQ	BP, U_BP(BX)
	MOVQ	R8, U_R8(BX)
	MOVQ	R9, U_R9(BX)
	MOVQ	R10, U_R10(BX)
	MOVQ	R11, U_R11(BX)
	MOVQ	R12, U_R12(BX)
	MOVQ	R13, U_R13(BX)
	MOVQ	R14, U_R14(BX)
	MOVQ	R15, U_R15(BX)
	MOVQ	CX, U_RIP(BX)
	MOVQ	R11, U_FLAGS(BX)
	MOVQ	SP, U_SP(BX)
	MOVQ	CPU_SCRATCH(GS), AX
	MOVQ	AX, U_BX(BX)
	RDFSBASEQ AX
	MOVQ	AX, U_FS(BX)
	SWAPGS	// interrupts are off, and an NMI does not rely on GS
	RDGSBASEQ AX
	SWAPGS
	MOVQ	AX, U_GS(BX)
	STMXCSR	U_MXCSR(BX)
	LDMXCSR	·mxcsr(SB)
	MOVUPS	X0, (U_XMM+0x00)(BX)
	MOVUPS	X1, (U_XMM+0x10)(BX)
	MOVUPS	X2, (U_XMM+0x20)(BX)
	MOVUPS	X3, (U_XMM+0x30)(BX)
	MOVUPS	X4, (U_XMM+0x40)(BX)
	MOVUPS	X5, (U_XMM+0x50)(BX)
	MOVUPS	X6, (U_XMM+0x60)(BX)
	MOVUPS	X7, (U_XMM+0x70)(BX)
	MOVUPS	X8, (U_XMM+0x80)(BX)
	MOVUPS	X9, (U_XMM+0x90)(BX)
	MOVUPS	X10, (U_XMM+0xa0)(BX)
	MOVUPS	X11, (U_XMM+0xb0)(BX)
	MOVUPS	X12, (U_XMM+0xc0)(BX)
	MOVUPS	X13, (U_XMM+0xd0)(BX)
	MOVUPS	X14, (U_XMM+0xe0)(BX)
	MOVUPS	X15, (U_XMM+0xf0)(BX)
	XORPS	X15, X15
	MOVL	$KIND_SYSCALL, U_KIND(BX)
	JMP	·userLeave(SB)

// userLeave returns from the current thread's Enter; BX = its *cpu.User. The ABI
// leaves all registers but SP and BP to us.
TEXT ·userLeave(SB),NOSPLIT|NOFRAME,$0
	MOVL	$-1, U_CPU(BX)
	MOVQ	CPU_CUR(GS), AX
	MOVQ	F_FS(AX), CX
	WRFSBASEQ CX
	LOADBP
	MOVQ	F_SP(AX), SP
	MOVQ	F_RIP(AX), CX
	STI	// takes effect after the next instruction
	JMP	CX
