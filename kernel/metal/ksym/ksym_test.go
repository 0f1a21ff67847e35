package ksym

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

//go:noinline
func landmark() int { return 42 }

// The table of the test binary itself must give the names that the runtime gives.
func TestNameAgreesWithRuntime(t *testing.T) {
	for _, f := range []any{landmark, strings.Index, runtime.GC, Name} {
		pc := reflect.ValueOf(f).Pointer()
		for _, d := range []uintptr{0, 3} {
			p, n, off := Name(pc + d)
			got := string(unsafe.Slice((*byte)(unsafe.Pointer(p)), n))
			if want := runtime.FuncForPC(pc).Name(); got != want || off != d {
				t.Errorf("Name(%#x+%d) = %q+%d, want %q", pc, d, got, off, want)
			}
		}
	}
	if _, n, _ := Name(1); n != 0 {
		t.Error("an address outside text has a name")
	}
}
