package gate

import (
	"reflect"
	"runtime"
	"syscall"
	"unsafe"

	"osv/kernel/metal/shim"
)

// exitHook is in exit_amd64.s; metal goes there by its address, exitHookPC.
func exitHook()

var exitHookPC uintptr

// exitFunc is OnExit's.
var exitFunc func(status int)

// OnExit has f called where the program ends in the ordinary way: main returns, or
// somebody calls os.Exit. It runs on the goroutine that ends the program, which may
// wait; others go on meanwhile, and may come to f as well. f does not return: it ends
// the machine (EndProgram). A panic, a fatal error, a fault and a signal that the
// program leaves alone end the machine without f.
//
// It is called once, from the main goroutine. It reports whether the end of main is
// among what f is called for, which takes a look at the caller's stack.
func OnExit(f func(status int)) (main bool) {
	exitFunc = f
	words := [5]uintptr{exitHookPC}
	words[1], words[2] = extent(reflect.ValueOf(syscall.Exit).Pointer())
	var pcs [64]uintptr
	for _, pc := range pcs[:runtime.Callers(1, pcs[:])] {
		if fn := runtime.FuncForPC(pc - 1); fn != nil && fn.Name() == "runtime.main" {
			words[3], words[4] = extent(fn.Entry())
			main = true
		}
	}
	call(shim.CallExitHook, uintptr(unsafe.Pointer(&words)), 0, 0)
	return main
}

// exiting is called by exitHook.
func exiting(status int64) { exitFunc(int(int32(status))) }

// extent is where the function that starts at entry lies.
func extent(entry uintptr) (from, to uintptr) {
	const longest = 64 << 10
	for to = entry + 1; to < entry+longest; to++ {
		if f := runtime.FuncForPC(to); f == nil || f.Entry() != entry {
			break
		}
	}
	return entry, to
}

// EndProgram ends the machine with the program's status, as its end does without
// OnExit.
func EndProgram(status int) { call(shim.CallEndProgram, uintptr(status), 0, 0) }
