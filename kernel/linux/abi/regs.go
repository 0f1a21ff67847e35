package abi

// Regs are a thread's integer registers in user mode, in the order in which the
// kernel's entry keeps them.
type Regs struct {
	RAX, RBX, RCX, RDX, RSI, RDI, RBP    uint64
	R8, R9, R10, R11, R12, R13, R14, R15 uint64
	RIP, RFlags, RSP                     uint64
	FSBase, GSBase                       uint64
}

// Flags of RFlags that a program may set (Linux's FIX_EFLAGS: arch/x86/kernel/signal_64.c).
const (
	FlagCF, FlagPF, FlagAF, FlagZF, FlagSF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7
	FlagTF, FlagIF, FlagDF, FlagOF         = 1 << 8, 1 << 9, 1 << 10, 1 << 11
	FlagRF, FlagAC                         = 1 << 16, 1 << 18

	FlagsUser = FlagAC | FlagOF | FlagDF | FlagTF | FlagSF | FlagZF | FlagAF | FlagPF | FlagCF | FlagRF
)

// Selectors of user mode as Linux has them; programs see them in signal frames.
const (
	UserCS = 0x33
	UserSS = 0x2b
)

// Exception vectors of the processor (Intel SDM volume 3, table 6-1).
const (
	VectorDE = 0
	VectorDB = 1
	VectorBP = 3
	VectorOF = 4
	VectorBR = 5
	VectorUD = 6
	VectorNM = 7
	VectorDF = 8
	VectorTS = 10
	VectorNP = 11
	VectorSS = 12
	VectorGP = 13
	VectorPF = 14
	VectorMF = 16
	VectorAC = 17
	VectorXM = 19
	VectorCP = 21
)
