package boot

import (
	"unsafe"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/rand"
	"osv/kernel/metal/sched"
)

// The command line becomes argv[1:], one argument a word; double quotes keep
// spaces. `--env=NAME=value` also becomes an environment string, because the
// runtime reads GODEBUG, GOGC and GOMAXPROCS before any of our code runs. All
// other options are parsed above the runtime (kernel/platform/options.go).
const (
	maxLine  = 4096
	maxWords = 256

	mainStack = 256 << 10
	atPagesz  = 6
	atSecure  = 23
	atRandom  = 25
)

var (
	line    [maxLine + 1]byte
	argv0   = [4]byte{'o', 's', 'v', 0}
	words   [maxWords]uintptr
	nwords  int
	dropped bool // the line or the words were cut
)

// copyCommandLine copies the NUL-terminated line at physical p and splits it.
func copyCommandLine(p uintptr) {
	if p == 0 || p >= lowLimit-maxLine {
		return
	}
	n := 0
	for n < maxLine && *arch.Byte(p + uintptr(n)) != 0 {
		line[n] = *arch.Byte(p + uintptr(n))
		n++
	}
	dropped = n == maxLine
	out, i := 0, 0
	for i < n {
		for i < n && isSpace(line[i]) {
			i++
		}
		if i == n {
			break
		}
		if nwords == maxWords {
			dropped = true
			break
		}
		words[nwords] = uintptr(unsafe.Pointer(&line)) + uintptr(out)
		nwords++
		quoted := false
		for i < n && (quoted || !isSpace(line[i])) {
			if line[i] == '"' {
				quoted = !quoted
			} else {
				line[out] = line[i] // out never overtakes i
				out++
			}
			i++
		}
		i++ // the separator, before its place is overwritten
		line[out] = 0
		out++
	}
	for i := 0; i < nwords; i++ {
		if hasPrefix(words[i], "--verbose") {
			verbose = true
		}
		if !isOption(words[i]) {
			break // the program's own arguments begin
		}
	}
	if dropped {
		var l klog.Line
		l.Str("osv: the command line was cut: at most ").Dec(maxLine).Str(" bytes and ").Dec(maxWords).Str(" words").End()
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }

func hasPrefix(p uintptr, s string) bool {
	for i := 0; i < len(s); i++ {
		if *arch.Byte(p + uintptr(i)) != s[i] {
			return false
		}
	}
	return true
}

// spawnMain makes the thread that enters the Go runtime, with the stack that a
// Linux process starts with.
func spawnMain() {
	var l klog.Line
	p := phys.AllocContiguous(mainStack/phys.FrameSize, 1)
	if p == phys.None {
		l.Str("osv: too little memory: no ").Dec(mainStack >> 10).Str(" KiB for the main stack")
		fatal(&l)
	}
	top := phys.ToVirt(p) + mainStack
	random := top - 16
	rand.Fill(random, 16)
	n := uintptr(1+1+nwords+1+nwords+1+8) * 8
	sp := (random - n) &^ 15
	w := sp
	w = put(w, uintptr(1+nwords))
	w = put(w, uintptr(unsafe.Pointer(&argv0)))
	for i := 0; i < nwords; i++ {
		w = put(w, words[i])
	}
	w = put(w, 0)
	for i := 0; i < nwords && isOption(words[i]); i++ {
		if hasPrefix(words[i], "--env=") {
			w = put(w, words[i]+uintptr(len("--env=")))
		}
	}
	w = put(w, 0)
	w = put(put(w, atPagesz), phys.FrameSize)
	w = put(put(w, atSecure), 0)
	w = put(put(w, atRandom), random)
	put(put(w, 0), 0)
	rt0, _, _ := addresses()
	if !sched.Spawn(rt0, sp) {
		l.Str("osv: too little memory: no frame for the first thread")
		fatal(&l)
	}
}

func put(a, v uintptr) uintptr {
	*arch.Ptr(a) = v
	return a + 8
}

// isOption says whether a word belongs to the kernel: it starts with two dashes
// and is more than those ("--" alone ends the kernel's options).
func isOption(p uintptr) bool { return hasPrefix(p, "--") && *arch.Byte(p + 2) != 0 }
