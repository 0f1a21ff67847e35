package gate

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"osv/kernel/metal/cpu"
	"osv/kernel/metal/shim"
	"osv/kernel/metal/trap"
)

// UserRegs are a program's registers, outside of Enter. After a system call RCX is
// RIP and R11 is RFlags, as SYSCALL leaves them; as long as they are left alone the
// way back is the fast one. RFlags are cut to what a program may set. FSBase and
// GSBase must be canonical addresses, else Enter returns a #GP.
type UserRegs struct {
	RAX, RBX, RCX, RDX, RSI, RDI, RBP    uint64
	R8, R9, R10, R11, R12, R13, R14, R15 uint64
	RIP, RFlags, RSP, FSBase, GSBase     uint64
}

// UserKind is why a program came back.
type UserKind uint32

const (
	UserSyscall UserKind = cpu.UserSyscall // it made a system call: Regs
	UserFault   UserKind = cpu.UserFault   // an exception: Vector, Err, Addr
	UserKick    UserKind = cpu.UserKick    // Kick, or the Go runtime wanted this thread
)

func (k UserKind) String() string {
	switch k {
	case UserSyscall:
		return "system call"
	case UserFault:
		return "fault"
	case UserKick:
		return "kick"
	}
	return fmt.Sprintf("UserKind(%d)", uint32(k))
}

// UserReason says why Enter returned. Vector and Err are as in Intel SDM vol. 3A
// table 6-1, Addr is CR2 of a page fault.
type UserReason struct {
	Kind        UserKind
	Vector, Err uint32
	Addr        uint64
}

// vectorGP is the general protection exception.
const vectorGP = 13

// User is a thread of a program: the state of the processor in ring 3. One
// goroutine at a time may use it, but for Kick.
type User struct{ b *cpu.User }

// NewUser makes one, with registers of zero and the FPU as for a new program.
func NewUser() (*User, error) {
	r := call(shim.CallUserNew, 0, 0, 0)
	if err := errno(r); err != nil {
		return nil, fmt.Errorf("no memory for a program's registers: %w", err)
	}
	return &User{(*cpu.User)(unsafe.Pointer(r))}, nil
}

// Free gives its memory back. Nobody may Kick it any more.
func (u *User) Free() {
	call(shim.CallUserFree, uintptr(unsafe.Pointer(u.b)), 0, 0)
	u.b = nil
}

// Regs are its registers, for reading and writing.
func (u *User) Regs() *UserRegs { return (*UserRegs)(unsafe.Pointer(u.b)) }

// Enter runs the program with page table root until it makes a system call, faults
// or is kicked. The goroutine keeps its thread and its P: the Go runtime gets them
// by a kick where it wants them. UserKick may come without a Kick.
func (u *User) Enter(root uint64) UserReason {
	k := u.Run(root)
	if k != UserFault {
		return UserReason{Kind: k}
	}
	return u.Fault()
}

// Run is Enter that leaves the particulars of a fault to Fault.
func (u *User) Run(root uint64) UserKind {
	b := u.b
	const half = 1 << 47
	if ((b.FSBase+half)|(b.GSBase+half))>>48 != 0 {
		b.Kind, b.Vector, b.Err, b.Addr = cpu.UserFault, vectorGP, 0, 0
	} else {
		b.Root = uintptr(root)
		trap.Enter(uintptr(unsafe.Pointer(b)))
	}
	return UserKind(b.Kind)
}

// Fault is why Run returned UserFault, until the next Run.
func (u *User) Fault() UserReason { return UserReason{UserFault, u.b.Vector, u.b.Err, u.b.Addr} }

// Kick makes Enter return, or the next Enter where it is not inside: UserKick,
// unless something else ends it first; then the kick waits for the next.
func (u *User) Kick() {
	atomic.StoreUint32(&u.b.Kick, 1)
	if atomic.LoadInt32(&u.b.CPU) >= 0 {
		call(shim.CallUserKick, uintptr(unsafe.Pointer(u.b)), 0, 0)
	}
}

// Processor is where it ran last, as it could tell by LSL, RDTSCP or RDPID.
func (u *User) Processor() int { return max(0, int(atomic.LoadInt32(&u.b.FPCPU))) }

// UserXFeatures returns XCR0 as programs see it and the size of a User's XState;
// xcr0 is 0 where the processor has no XSAVE, the image then FXSAVE's.
func UserXFeatures() (xcr0 uint64, size int) {
	f, n := cpu.UserFeatures()
	return f, int(n)
}

// XState is the image of its FPU in the standard format of XSAVE, for reading and
// writing until the next Enter. A header or MXCSR that the processor would refuse
// is put right.
func (u *User) XState() []byte {
	u.take()
	_, n := cpu.UserFeatures()
	return u.b.X[:n]
}

// take completes the image where the registers are still in a processor.
func (u *User) take() {
	if atomic.LoadInt32(&u.b.FPCPU) >= 0 {
		call(shim.CallUserTake, uintptr(unsafe.Pointer(u.b)), 0, 0)
	}
}

// CopyFrom makes u's registers and FPU those of o, which is not inside Enter.
func (u *User) CopyFrom(o *User) {
	o.take()
	u.take()
	*u.Regs() = *o.Regs()
	u.b.X = o.b.X
}

// NewRoot makes a page table that maps nothing below the kernel's half, and returns
// its physical address; its lower 256 entries are the caller's to fill.
func NewRoot() (uint64, error) {
	r := call(shim.CallRootNew, 0, 0, 0)
	if err := errno(r); err != nil {
		return 0, fmt.Errorf("no memory for a page table: %w", err)
	}
	return uint64(r), nil
}

// FreeRoot ends a page table. No Enter uses it any more; processors that are still
// on it leave it. The tables below it are the caller's to free before, or after.
func FreeRoot(root uint64) { call(shim.CallRootFree, uintptr(root), 0, 0) }

// MaxFlush is how many pages a flush names one by one.
const MaxFlush = cpu.MaxPages

// FlushPages makes all processors that use root drop their translations of pages,
// or of everything below the kernel's half where there are more than MaxFlush. The
// entries have been changed already, by locked instructions (sync/atomic).
func FlushPages(root uint64, pages []uint64) {
	if len(pages) > 0 {
		call(shim.CallFlush, uintptr(root), uintptr(unsafe.Pointer(&pages[0])), uintptr(len(pages)))
	}
}

// FlushRoot makes all processors that use root drop all its translations.
func FlushRoot(root uint64) { call(shim.CallFlush, uintptr(root), 0, MaxFlush+1) }

// listChunk is how many blocks one call takes or gives.
const listChunk = 256

// AllocFrames fills list with the physical addresses of blocks of 4096<<order
// bytes, aligned to their size, contents undefined; all or, with ENOMEM, none.
func AllocFrames(list []uint64, order uint) error {
	for n := 0; n < len(list); n += listChunk {
		part := list[n:min(n+listChunk, len(list))]
		if errno(call(shim.CallFrameList, uintptr(unsafe.Pointer(&part[0])), uintptr(len(part)), uintptr(order))) != nil {
			FreeFrameList(list[:n], order)
			return syscall.ENOMEM
		}
	}
	return nil
}

// FreeFrameList gives back what AllocFrames returned.
func FreeFrameList(list []uint64, order uint) {
	for n := 0; n < len(list); n += listChunk {
		part := list[n:min(n+listChunk, len(list))]
		if err := errno(call(shim.CallFreeList, uintptr(unsafe.Pointer(&part[0])), uintptr(len(part)), uintptr(order))); err != nil {
			panic(fmt.Sprintf("a frame of %#x was freed twice, or never allocated", part))
		}
	}
}
