#include "textflag.h"

// vdsoGettime is __vdso_clock_gettime(DI = clock, SI = *timespec), C calling
// convention. The runtime calls it on a g0 stack; it may use caller-saved
// registers only.
TEXT ·vdsoGettime(SB),NOSPLIT|NOFRAME,$0
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	SUBQ	·start(SB), AX
	MULQ	·mul(SB)
	SHRQ	$32, DX, AX
	TESTL	$~5, DI		// CLOCK_REALTIME (0) and _COARSE (5), but also 1 and 4
	JNE	split
	CMPL	DI, $1
	JEQ	split
	CMPL	DI, $4
	JEQ	split
	ADDQ	·wallNS(SB), AX
split:
	XORL	DX, DX
	MOVL	$1000000000, CX
	DIVQ	CX
	MOVQ	AX, 0(SI)
	MOVQ	DX, 8(SI)
	XORL	AX, AX
	RET

TEXT ·vdsoAddr(SB),NOSPLIT,$0-8
	LEAQ	·vdsoGettime(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
