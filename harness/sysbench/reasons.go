package sysbench

// reasons say why an operation is slower here than on Linux: where its instructions go,
// by a profile by function (harness/tcg) of the same program in the same guest. Only
// what was measured goes in. "The page" is the way to the program's memory: a read lock
// and a look-up.
var reasons = map[string]string{
	"clock_call":     "reading the clock through the runtime takes 67, the page 52",
	"read_zero":      "calls between the layers of a file take 211, the page 164, a counted reference to the file 65",
	"pipe_rw_4k":     "the two copies take 1,268; on Linux 4 KiB cost 976 more than a byte",
	"epoll_round":    "saving and loading registers with XMM0 to 15 takes 331 in three calls, the ready list and its notification 412, counted references to files 194",
	"pipe_ping_pong": "each wait is a select of the runtime over three channels: select and its locks take 1,800",
	"signal_self":    "the frame with 832 bytes of vector state, built, copied out and in, and checked, takes 2,500; XSAVE and XRSTOR by way of metal calls 640",
	"sigprocmask":    "the way in and out takes 270, with XMM0 to 15, the page 51",
	"fork_wait":      "page tables that are walked, copied and emptied take 64,000, the runtime, mostly allocation and collection, 48,000",
	"pread_file_4k":  "the copy takes 629, the page 164, the clock for the access time 147",
	"pwrite_file_4k": "the copy takes 605, the page 162, the clock for the modification time some 140",
}

// unknown stands where an operation is slower and nobody has looked why.
const unknown = "slower, cause not looked into"

func reason(op string) string {
	if r := reasons[op]; r != "" {
		return r
	}
	return unknown
}
