#include "textflag.h"

TEXT ·bounds(SB),NOSPLIT,$0-32
	LEAQ	runtime·pclntab(SB), AX
	MOVQ	AX, pclntab+0(FP)
	LEAQ	runtime·epclntab(SB), AX
	MOVQ	AX, epclntab+8(FP)
	LEAQ	runtime·text(SB), AX
	MOVQ	AX, text+16(FP)
	LEAQ	runtime·etext(SB), AX
	MOVQ	AX, etext+24(FP)
	RET
