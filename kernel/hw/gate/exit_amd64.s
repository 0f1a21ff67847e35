#include "funcdata.h"
#include "textflag.h"

// exitHook is where metal lets a goroutine go on that ends the program, as if
// runtime·exit had called it. DI is the status.
TEXT ·exitHook(SB), NOSPLIT, $8-0
	NO_LOCAL_POINTERS
	MOVQ DI, 0(SP)
	CALL ·exiting(SB)
	UNDEF

DATA ·exitHookPC(SB)/8, $·exitHook(SB)
GLOBL ·exitHookPC(SB), NOPTR|RODATA, $8
