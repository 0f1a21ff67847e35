#include "textflag.h"

// The functions that programs call, in the C calling convention: DI, SI, DX in, AX
// out; RBX, RBP, R12 to R15 and the stack are left alone. Each ends with END, which
// is not run: it tells Image how much to copy. They may refer to nothing outside of
// themselves but the data page, which is before the page that they are in.

#define SYS_gettimeofday 96
#define SYS_time 201
#define SYS_clock_gettime 228
#define SYS_clock_getres 229
#define SYS_getcpu 309

#define SEQ 0
#define MODE 4
#define START 8
#define MUL 16
#define WALL 24

#define END QUAD $0x0b0f0b0f646e6576	// "vend", UD2, UD2

// DATA sets R8 to the data page: LEAQ 0(IP), R8.
#define DATA_PAGE \
	BYTE $0x4c; BYTE $0x8d; BYTE $0x05; LONG $0 \
	ANDQ	$~4095, R8 \
	SUBQ	$4096, R8

// READ_TSC sets AX to the ns since START. LFENCE keeps the read from going ahead of
// what the program did before.
#define READ_TSC \
	LFENCE \
	RDTSC \
	SHLQ	$32, DX \
	ORQ	DX, AX \
	SUBQ	START(R8), AX \
	MULQ	MUL(R8) \
	SHRQ	$32, DX, AX

// clock_gettime(clock, *timespec)
TEXT ·clockGettime(SB),NOSPLIT|NOFRAME,$0
	DATA_PAGE
	CMPL	DI, $11
	JHI	call
	MOVL	$0x8f3, CX	// REALTIME MONOTONIC MONOTONIC_RAW both COARSE BOOTTIME TAI
	BTL	DI, CX
	JCC	call
	MOVL	$0x821, CX	// those that tell wall time: REALTIME, its COARSE, TAI
again:
	MOVL	SEQ(R8), R9
	TESTL	$1, R9
	JNE	wait
	CMPL	MODE(R8), $1
	JNE	call
	READ_TSC
	BTL	DI, CX
	JCC	mono
	ADDQ	WALL(R8), AX
mono:
	CMPL	R9, SEQ(R8)
	JNE	again
	XORL	DX, DX
	MOVL	$1000000000, R10
	DIVQ	R10
	MOVQ	AX, 0(SI)
	MOVQ	DX, 8(SI)
	XORL	AX, AX
	RET
wait:
	PAUSE
	JMP	again
call:
	MOVL	$SYS_clock_gettime, AX
	SYSCALL
	RET
	END

// gettimeofday(*timeval, *timezone)
TEXT ·gettimeofday(SB),NOSPLIT|NOFRAME,$0
	DATA_PAGE
again:
	MOVL	SEQ(R8), R9
	TESTL	$1, R9
	JNE	wait
	CMPL	MODE(R8), $1
	JNE	call
	TESTQ	DI, DI
	JEQ	zone
	READ_TSC
	ADDQ	WALL(R8), AX
	CMPL	R9, SEQ(R8)
	JNE	again
	XORL	DX, DX
	MOVL	$1000000000, R10
	DIVQ	R10
	MOVQ	AX, 0(DI)
	MOVQ	DX, AX
	XORL	DX, DX
	MOVL	$1000, R10
	DIVQ	R10
	MOVQ	AX, 8(DI)
zone:
	TESTQ	SI, SI
	JEQ	done
	MOVQ	$0, 0(SI)	// the kernel keeps no time zone
done:
	XORL	AX, AX
	RET
wait:
	PAUSE
	JMP	again
call:
	MOVL	$SYS_gettimeofday, AX
	SYSCALL
	RET
	END

// time(*time_t)
TEXT ·time(SB),NOSPLIT|NOFRAME,$0
	DATA_PAGE
again:
	MOVL	SEQ(R8), R9
	TESTL	$1, R9
	JNE	wait
	CMPL	MODE(R8), $1
	JNE	call
	READ_TSC
	ADDQ	WALL(R8), AX
	CMPL	R9, SEQ(R8)
	JNE	again
	XORL	DX, DX
	MOVL	$1000000000, R10
	DIVQ	R10
	TESTQ	DI, DI
	JEQ	done
	MOVQ	AX, 0(DI)
done:
	RET
wait:
	PAUSE
	JMP	again
call:
	MOVL	$SYS_time, AX
	SYSCALL
	RET
	END

// clock_getres(clock, *timespec): 1 ns, or a tick of 250 Hz for the COARSE ones, as
// Linux has it.
TEXT ·clockGetres(SB),NOSPLIT|NOFRAME,$0
	CMPL	DI, $11
	JHI	call
	MOVL	$0x8f3, CX
	BTL	DI, CX
	JCC	call
	MOVL	$1, AX
	MOVL	$0x60, CX
	BTL	DI, CX
	JCC	fine
	MOVL	$4000000, AX
fine:
	TESTQ	SI, SI
	JEQ	done
	MOVQ	$0, 0(SI)
	MOVQ	AX, 8(SI)
done:
	XORL	AX, AX
	RET
call:
	MOVL	$SYS_clock_getres, AX
	SYSCALL
	RET
	END

// getcpu(*cpu, *node, unused): the limit of a segment of which each processor has its
// own is its number (metal/cpu's SelNumber).
TEXT ·getcpu(SB),NOSPLIT|NOFRAME,$0
	DATA_PAGE
	CMPL	MODE(R8), $1
	JNE	call
	MOVL	$0x43, AX
	BYTE $0x0f; BYTE $0x03; BYTE $0xc0	// LSL EAX, EAX
	JNE	call
	TESTQ	DI, DI
	JEQ	node
	MOVL	AX, 0(DI)
node:
	TESTQ	SI, SI
	JEQ	done
	MOVL	$0, 0(SI)
done:
	XORL	AX, AX
	RET
call:
	MOVL	$SYS_getcpu, AX
	SYSCALL
	RET
	END

// func addresses() (gettime, tod, time, getres, cpu uintptr)
TEXT ·addresses(SB),NOSPLIT,$0-40
	LEAQ	·clockGettime(SB), AX
	MOVQ	AX, gettime+0(FP)
	LEAQ	·gettimeofday(SB), AX
	MOVQ	AX, tod+8(FP)
	LEAQ	·time(SB), AX
	MOVQ	AX, time+16(FP)
	LEAQ	·clockGetres(SB), AX
	MOVQ	AX, getres+24(FP)
	LEAQ	·getcpu(SB), AX
	MOVQ	AX, cpu+32(FP)
	RET
