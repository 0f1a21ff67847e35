#include "textflag.h"

TEXT ·Barrier(SB),NOSPLIT,$0
	MFENCE
	RDTSC
	RET
