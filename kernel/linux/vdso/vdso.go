// Package vdso makes the shared object that Linux maps into every program, so that
// asking for the time needs no system call.
//
// Spec: vdso(7); Linux 6.1, arch/x86/entry/vdso (names, version LINUX_2.6); System V
// ABI, chapters 4 and 5 (ELF); Intel SDM vol. 3B §18.17 (TSC). Functions:
// __vdso_clock_gettime, __vdso_gettimeofday, __vdso_time, __vdso_clock_getres and
// __vdso_getcpu, and their names without the prefix.
//
// Who may use it: kernel/linux, which maps Pages at one address for each program:
// first the data (read-only, shared by all), then the image (read, execute), whose
// address is AT_SYSINFO_EHDR. The code finds the data in the page before its own, so
// it must be one page. Nothing here runs in the kernel.
//
// The code is code_amd64.s, position independent, copied from the kernel's own text.
//
// Start reading at Image, then code_amd64.s.
package vdso

// PageSize is the size of the data, and of the image.
const PageSize = 4096

// Params are how the TSC becomes time (kernel/hw/gate's ClockParameters): ns since
// Start = (TSC - Start) * Mul >> 32; WallNS is Unix time in ns at Start. Usable says
// that programs may read the TSC and it goes on evenly on all processors; otherwise
// they make system calls.
type Params struct {
	Start, Mul, WallNS uint64
	Usable             bool
}

// Layout of the data page; code_amd64.s knows it.
const (
	offSeq   = 0 // odd while it is written
	offMode  = 4 // 1: the TSC may be used
	offStart = 8
	offMul   = 16
	offWall  = 24
)
