package sysbench

// reasons say why an operation is slower here than on Linux. Only what was found in
// the code or by a profile, and seen in a measured table, goes in.
var reasons = map[string]string{
	"getpid":      crossing,
	"sigprocmask": crossing,
	"clock_call":  crossing,
	"read_zero":   crossing + "; user memory is reached by a walk of the page table",
	"signal_self": "a kick that is not needed (some 700) and the vector state in the frame",
}

// crossing is what each system call pays here: about 150 instructions into ring 3 and
// back, with XMM0 to 15, which Go code uses and Linux's kernel does not.
const crossing = "the vector registers are saved at each crossing"

// unknown stands where an operation is slower and nobody has looked why.
const unknown = "slower, cause not looked into"

func reason(op string) string {
	if r := reasons[op]; r != "" {
		return r
	}
	return unknown
}
