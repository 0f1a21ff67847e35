package cpu

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/metal/arch"
)

// User is the processor's state in ring 3, and how it came back from there. It
// fills one frame of memory. Above the runtime it is kernel/hw/gate's User; who
// has it entered owns it, but for Kick.
//
// X is an image in the standard format of XSAVE (SDM vol. 1 §13.4). It is complete
// while no processor has the state (FPCPU < 0); else x87 and the upper halves of
// the YMM registers are in processor FPCPU, and the image has the XMM registers as
// they were when ring 3 was left last.
type User struct {
	RAX, RBX, RCX, RDX, RSI, RDI, RBP    uint64 // 0…48
	R8, R9, R10, R11, R12, R13, R14, R15 uint64 // 56…112
	RIP, RFlags, RSP, FSBase, GSBase     uint64 // 120…152

	Root   uintptr // 160 page table to run on
	Kind   uint32  // 168 why ring 3 was left
	Vector uint32  // 172 of a fault: exception vector …
	Err    uint32  // 176 … error code …
	MXCSR  uint32  // 180
	Addr   uint64  // 184 … and CR2

	CPU   int32  // 192 atomic; processor that is in ring 3 with it, or about to be; -1 = none
	Kick  uint32 // 196 atomic; 1 = come back
	FPCPU int32  // 200 atomic; processor that has its x87 and YMM registers, -1 = none
	_     uint32

	_ [512 - 208]byte
	X [4096 - 512]byte // 512
}

// InRing3 says whether c runs a program just now. It is a hint: c may be another
// processor, and its last User gone.
func (c *CPU) InRing3() bool {
	u := (*User)(unsafe.Pointer(atomic.LoadUintptr(&c.User)))
	return u != nil && atomic.LoadInt32(&u.CPU) == c.ID
}

// Kinds of return.
const (
	UserSyscall = iota
	UserFault
	UserKick
)

// Offsets in an XSAVE area (SDM vol. 1 §13.4) and its components.
const (
	xFCW       = 0
	xMXCSR     = 24
	xXMM       = 160
	xHeader    = 512 // XSTATE_BV, XCOMP_BV, 48 bytes reserved
	fxBytes    = 512
	xsaveBytes = 576 + 256 // with AVX's component, which is at 576 on every processor

	compX87 = 1 << 0
	compSSE = 1 << 1
	compAVX = 1 << 2

	mxcsrInit = 0x1f80
	mxcsrBits = 0xffff
)

// features is XCR0 for user mode, 0 where there is no XSAVE. It is set when the
// first User is made: by then the Go runtime has looked for AVX and found it
// disabled, so that no Go code touches what stays in the registers.
var (
	features   uint64
	featuresOK bool
)

// UserFeatures returns XCR0 as user mode sees it and the size of a User's image.
func UserFeatures() (xcr0 uint64, size uintptr) {
	if !featuresOK {
		_, _, ecx, _ := arch.CPUID(1, 0)
		if ecx>>26&1 != 0 {
			features = compX87 | compSSE
			if lo, _, _, _ := arch.CPUID(0xd, 0); lo&compAVX != 0 && ecx>>28&1 != 0 {
				if n, at, _, _ := arch.CPUID(0xd, 2); n == 256 && at == 576 {
					features |= compAVX
				}
			}
		}
		featuresOK = true
	}
	switch {
	case features == 0:
		return 0, fxBytes
	case features&compAVX == 0:
		return features, 576
	}
	return features, xsaveBytes
}

// InitUser sets u to what a new program starts with. u's memory is zero.
func InitUser(u *User) {
	UserFeatures()
	u.CPU, u.FPCPU = -1, -1
	u.RFlags, u.MXCSR = arch.FlagIF|2, mxcsrInit
	x := uintptr(unsafe.Pointer(&u.X))
	*arch.U16(x + xFCW) = 0x37f
	*arch.U32(x + xMXCSR) = mxcsrInit
	*arch.U64(x + xHeader) = compSSE
}

// PrepareUser makes this processor ready to enter u: its page table, its x87 and
// YMM registers. Interrupts are off.
func PrepareUser(c *CPU, u *User) {
	if c.xcr0 != features {
		arch.WriteCR4(arch.ReadCR4() | arch.CR4OSXSAVE)
		arch.WriteXCR0(features)
		c.xcr0 = features
	}
	if c.FPOwner != uintptr(unsafe.Pointer(u)) {
		dropFP(c)
		TakeFP(c, u)
		restoreFP(u)
		c.FPOwner = uintptr(unsafe.Pointer(u))
		atomic.StoreInt32(&u.FPCPU, c.ID)
	}
	useRoot(c, u.Root)
}

// TakeFP completes u's image, wherever its registers are.
func TakeFP(c *CPU, u *User) {
	if c.FPOwner == uintptr(unsafe.Pointer(u)) {
		dropFP(c)
		return
	}
	if k := atomic.LoadInt32(&u.FPCPU); k >= 0 {
		ask(c, reqDropFP, uintptr(unsafe.Pointer(u)), 1<<uint(k))
	}
}

// dropFP completes the image of the User whose registers this processor has.
func dropFP(c *CPU) {
	if c.FPOwner == 0 {
		return
	}
	u := (*User)(unsafe.Pointer(c.FPOwner))
	saveFP(u)
	c.FPOwner = 0
	atomic.StoreInt32(&u.FPCPU, -1)
}

// fxScratch is where FXSAVE, which cannot leave XMM out, goes first.
var fxScratch [Max][fxBytes + 16]byte

func saveFP(u *User) {
	x := uintptr(unsafe.Pointer(&u.X))
	if features != 0 {
		arch.XSave(x, features&^compSSE)
	} else {
		s := (uintptr(unsafe.Pointer(&fxScratch[Current().ID])) + 15) &^ 15
		arch.FXSave(s)
		arch.Copy(x, s, xMXCSR)
		arch.Copy(x+xMXCSR+8, s+xMXCSR+8, xXMM-xMXCSR-8)
	}
	*arch.U32(x + xMXCSR) = u.MXCSR // the register holds the kernel's by now
}

// restoreFP loads u's image. What is above may have written anything there, of
// which XRSTOR would fault on a part (SDM vol. 1 §13.8.1).
func restoreFP(u *User) {
	x := uintptr(unsafe.Pointer(&u.X))
	u.MXCSR = *arch.U32(x + xMXCSR) & mxcsrBits
	*arch.U32(x + xMXCSR) = mxcsrInit
	if features == 0 {
		arch.FXRestore(x)
	} else {
		*arch.U64(x + xHeader) &= features
		if *arch.U64(x + xHeader)&compSSE == 0 { // XRSTOR would not look at XMM, entry does
			arch.Zero(x+xXMM, 256)
		}
		*arch.U64(x + xHeader) |= compSSE
		arch.Zero(x+xHeader+8, 56)
		arch.XRestore(x, features&^compSSE)
	}
	*arch.U32(x + xMXCSR) = u.MXCSR
}
