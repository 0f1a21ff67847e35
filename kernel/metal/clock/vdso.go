package clock

import _ "unsafe" // for go:linkname

func vdsoAddr() uintptr

// vdsoClockgettimeSym is the runtime's pointer to the vDSO's clock_gettime. The
// runtime declares it open to linkname (badlinkname_linux.go); setting it makes
// time.Now a plain call instead of a trap.
//
//go:linkname vdsoClockgettimeSym runtime.vdsoClockgettimeSym
var vdsoClockgettimeSym uintptr

// InstallVDSO makes time.Now read the TSC directly. Called before the runtime
// starts.
func InstallVDSO() { vdsoClockgettimeSym = vdsoAddr() }
