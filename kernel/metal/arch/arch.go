// Package arch holds the few x86-64 instructions that Go cannot say: port I/O,
// control and model-specific registers, descriptor tables, HLT, and raw memory
// access by address.
//
// Spec: Intel SDM vol. 2 and 4 (2024-06). Who may call it: kernel/metal only,
// in ring 0. It may not keep state. Start reading at arch_amd64.s.
package arch

import "unsafe"

// Model-specific registers (SDM vol. 4, table 2-2; KVM's from its own document,
// "KVM-specific MSRs").
const (
	MSRAPICBase      = 0x1b
	MSRTSCDeadline   = 0x6e0
	MSRX2APICBase    = 0x800
	MSREFER          = 0xc0000080
	MSRSTAR          = 0xc0000081
	MSRLSTAR         = 0xc0000082
	MSRCSTAR         = 0xc0000083
	MSRFMASK         = 0xc0000084
	MSRKernelGSBase  = 0xc0000102
	MSRTSCAux        = 0xc0000103
	MSRKVMWallClock  = 0x4b564d00
	MSRKVMSystemTime = 0x4b564d01
)

// RFLAGS bits.
const (
	FlagIF = 1 << 9
	FlagTF = 1 << 8
	FlagDF = 1 << 10
	FlagNT = 1 << 14
	FlagRF = 1 << 16
	FlagAC = 1 << 18
)

// CR0 and CR4 bits (SDM vol. 3A §2.5).
const (
	CR0MP = 1 << 1
	CR0NE = 1 << 5
	CR0AM = 1 << 18

	CR4UMIP    = 1 << 11
	CR4OSXSAVE = 1 << 18
	CR4SMEP    = 1 << 20
	CR4SMAP    = 1 << 21
)

func Out8(port uint16, v uint8)
func Out16(port uint16, v uint16)
func Out32(port uint16, v uint32)
func In8(port uint16) uint8
func In16(port uint16) uint16
func In32(port uint16) uint32

func ReadMSR(reg uint32) uint64
func WriteMSR(reg uint32, v uint64)
func CPUID(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
func ReadTSC() uint64
func ReadCR0() uintptr
func WriteCR0(v uintptr)
func ReadCR2() uintptr
func ReadCR3() uintptr
func WriteCR3(v uintptr)
func ReadCR4() uintptr
func WriteCR4(v uintptr)
func WriteGSBase(v uintptr)
func LoadGDT(desc uintptr)
func LoadIDT(desc uintptr)
func LoadTR(sel uint16)
func InvalidatePage(va uintptr)

// NullSegments loads the null selector into DS, ES, FS and GS; FS keeps its base,
// GS does not.
func NullSegments()

// WriteXCR0 sets the extended control register that XSAVE obeys; CR4.OSXSAVE is on.
func WriteXCR0(v uint64)

// XSave and XRestore move the state components in mask to and from an area in the
// standard format, aligned to 64 bytes.
func XSave(area uintptr, mask uint64)
func XRestore(area uintptr, mask uint64)

// FXSave and FXRestore are for processors without those; 512 bytes, aligned to 16.
func FXSave(area uintptr)
func FXRestore(area uintptr)
func Pause()

// Halt stops this CPU for good: interrupts off, HLT in a loop.
func Halt()

// TripleFault resets this machine the hard way.
func TripleFault()

// RandomSeed returns a word of RDSEED, RDRAND; ok is false where the instruction
// has nothing to give. The caller has checked CPUID.
func RandomSeed() (v uint64, ok bool)
func RandomWord() (v uint64, ok bool)

// Byte, U16, U32, U64, Ptr and I64 view the memory at an address. The caller
// knows that it is mapped, or accepts the page fault. Addresses are what they are
// and belong to no Go object, hence nocheckptr, which matters in hosted tests only.
//
//go:nocheckptr
func Byte(a uintptr) *uint8 { return (*uint8)(unsafe.Pointer(a)) }

// U16 is explained at Byte.
//
//go:nocheckptr
func U16(a uintptr) *uint16 { return (*uint16)(unsafe.Pointer(a)) }

// U32 is explained at Byte.
//
//go:nocheckptr
func U32(a uintptr) *uint32 { return (*uint32)(unsafe.Pointer(a)) }

// U64 is explained at Byte.
//
//go:nocheckptr
func U64(a uintptr) *uint64 { return (*uint64)(unsafe.Pointer(a)) }

// Ptr is explained at Byte.
//
//go:nocheckptr
func Ptr(a uintptr) *uintptr { return (*uintptr)(unsafe.Pointer(a)) }

// I64 is explained at Byte.
//
//go:nocheckptr
func I64(a uintptr) *int64 { return (*int64)(unsafe.Pointer(a)) }

// Zero clears n bytes at a.
//
//go:nocheckptr
func Zero(a, n uintptr) { clear(unsafe.Slice((*byte)(unsafe.Pointer(a)), n)) }

// Copy copies n bytes from src to dst, which do not overlap.
//
//go:nocheckptr
func Copy(dst, src, n uintptr) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(dst)), n), unsafe.Slice((*byte)(unsafe.Pointer(src)), n))
}
