package signal

import (
	"osv/kernel/linux/abi"
)

// The frame on a handler's stack, struct rt_sigframe: from the stack pointer up
//
//	  0  pretcode   where the handler returns to: the restorer
//	  8  uc_flags, uc_link
//	 24  uc_stack   ss_sp, ss_flags, ss_size
//	 48  uc_mcontext: r8 … r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags,
//	     cs gs fs ss, err, trapno, oldmask, cr2, fpstate, 64 bytes reserved
//	304  uc_sigmask
//	312  siginfo
//	440  end
//
// and above it, at a multiple of 64, the XSAVE area that fpstate points to: bytes 464
// to 511 of its legacy part say that there is one and how large, and four bytes after
// it end it.
const (
	frameFlags   = 8
	frameStack   = 24
	frameRegs    = 48
	frameSels    = frameRegs + 18*8
	frameErr     = frameSels + 8
	frameTrap    = frameErr + 8
	frameOldMask = frameTrap + 8
	frameCR2     = frameOldMask + 8
	frameFP      = frameCR2 + 8
	frameMask    = 304
	frameInfo    = 312
	FrameSize    = 440

	ucFPXstate    = 1
	ucSigcontext  = 2
	ucStrictSS    = 4
	redZone       = 128
	fpSoftware    = 464 // sw_reserved within the legacy area
	fpMagic1      = 0x46505853
	fpMagic2      = 0x46505845
	fpMagic2Size  = 4
	xsaveLegacy   = 512
	xsaveMin      = 512 + 64 // with the header
	mxcsrAt       = 24
	mxcsrMaskAt   = 28
	xstateBV      = 512
	xcompBV       = 520
	xheaderEnd    = 576
	mxcsrDefault  = 0x1f80
	mxcsrMaskBase = 0xffbf // of a processor that reports none
	fcwDefault    = 0x37f
)

// Stack is struct sigaltstack.
type Stack struct {
	SP, Size uint64
	Flags    uint32
}

// StackSize is its size in bytes.
const StackSize = 24

// Contains says whether sp is on the stack.
func (s *Stack) Contains(sp uint64) bool {
	return s.Flags&abi.SS_DISABLE == 0 && s.Flags&abi.SS_AUTODISARM == 0 && sp > s.SP && sp-s.SP <= s.Size
}

// raw writes the stack as it was set.
func (s *Stack) raw(b []byte) {
	le.PutUint64(b[0:], s.SP)
	le.PutUint32(b[8:], s.Flags)
	le.PutUint32(b[12:], 0)
	le.PutUint64(b[16:], s.Size)
}

// Encode writes the stack with its state as sp sees it.
func (s *Stack) Encode(b []byte, sp uint64) {
	f := s.Flags & abi.SS_AUTODISARM
	switch {
	case s.Size == 0:
		f |= abi.SS_DISABLE
	case s.Contains(sp):
		f |= abi.SS_ONSTACK
	}
	le.PutUint64(b[0:], s.SP)
	le.PutUint32(b[8:], f)
	le.PutUint32(b[12:], 0)
	le.PutUint64(b[16:], s.Size)
}

// DecodeStack reads a struct sigaltstack.
func DecodeStack(b []byte) Stack {
	return Stack{SP: le.Uint64(b[0:]), Flags: le.Uint32(b[8:]), Size: le.Uint64(b[16:])}
}

// Memory is the user memory that frames are written to and read from.
type Memory interface {
	CopyIn(p []byte, addr uint64) error
	CopyOut(addr uint64, p []byte) error
}

// Frame is what a handler is entered with, and what it leaves for sigreturn.
type Frame struct {
	Regs     abi.Regs // as they were; what sigreturn goes on with
	Info     abi.Siginfo
	Mask     Set // to be restored
	Stack    Stack
	Err      uint64 // of the last fault
	Trap     uint64
	CR2      uint64
	Features uint64 // XCR0
	// XState is the thread's XSAVE image in standard format.
	XState []byte
}

// MinStack is what a frame with an XSAVE image of n bytes needs at most
// (AT_MINSIGSTKSZ).
func MinStack(n int) uint64 {
	return uint64(FrameSize + n + fpMagic2Size + 64 + 16 + 8)
}

// Place finds where a frame goes for a thread whose stack pointer is sp; with alt
// set, on the alternate stack unless it is there already. Overflow is true where the
// alternate stack is too small.
func (f *Frame) Place(sp uint64, alt bool) (at, fp uint64, overflow bool) {
	s := sp - redZone
	onAlt := f.Stack.Contains(sp)
	if alt && !onAlt && f.Stack.Size != 0 && f.Stack.Flags&abi.SS_DISABLE == 0 {
		s = f.Stack.SP + f.Stack.Size
		onAlt = true
	}
	fp = (s - uint64(len(f.XState)+fpMagic2Size)) &^ 63
	at = (fp-FrameSize)&^15 - 8
	if onAlt && (at < f.Stack.SP || at >= f.Stack.SP+f.Stack.Size) {
		overflow = true
	}
	return at, fp, overflow
}

// Write puts the frame at at, with the XSAVE area at fp, both as Place found them.
// Scratch holds the frame on its way: FrameSize bytes.
func (f *Frame) Write(m Memory, at, fp, restorer uint64, scratch []byte) error {
	b := scratch[:FrameSize]
	clear(b)
	le.PutUint64(b[0:], restorer)
	le.PutUint64(b[frameFlags:], ucFPXstate|ucSigcontext|ucStrictSS)
	f.Stack.raw(b[frameStack:])
	r := &f.Regs
	for n, v := range [...]uint64{r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15, r.RDI, r.RSI, r.RBP, r.RBX,
		r.RDX, r.RAX, r.RCX, r.RSP, r.RIP, r.RFlags} {
		le.PutUint64(b[frameRegs+8*n:], v)
	}
	le.PutUint16(b[frameSels:], abi.UserCS)
	le.PutUint16(b[frameSels+6:], abi.UserSS)
	le.PutUint64(b[frameErr:], f.Err)
	le.PutUint64(b[frameTrap:], f.Trap)
	le.PutUint64(b[frameOldMask:], uint64(f.Mask))
	le.PutUint64(b[frameCR2:], f.CR2)
	le.PutUint64(b[frameFP:], fp)
	le.PutUint64(b[frameMask:], uint64(f.Mask))
	f.Info.Encode((*[abi.SiginfoSize]byte)(b[frameInfo:]))
	if err := m.CopyOut(at, b); err != nil {
		return err
	}
	return f.writeX(m, fp, b)
}

// writeX writes the XSAVE area. The image itself gets the words that say how long it
// is: bytes 464 to 511 belong to software, the processor leaves them alone.
func (f *Frame) writeX(m Memory, fp uint64, scratch []byte) error {
	sw := f.XState[fpSoftware:xsaveLegacy]
	clear(sw)
	le.PutUint32(sw[0:], fpMagic1)
	le.PutUint32(sw[4:], uint32(len(f.XState)+fpMagic2Size))
	le.PutUint64(sw[8:], f.Features)
	le.PutUint32(sw[16:], uint32(len(f.XState)))
	if err := m.CopyOut(fp, f.XState); err != nil {
		return err
	}
	end := scratch[:fpMagic2Size]
	le.PutUint32(end, fpMagic2)
	return m.CopyOut(fp+uint64(len(f.XState)), end)
}

// Enter sets the registers for the handler of a frame at at.
func Enter(r *abi.Regs, sig int, handler, at uint64) {
	r.RDI, r.RSI, r.RDX = uint64(sig), at+frameInfo, at+frameFlags
	r.RAX = 0
	r.RIP, r.RSP = handler, at
	r.RFlags &^= abi.FlagDF | abi.FlagRF | abi.FlagTF
}

// Read reads the frame that a handler has returned from; rsp is the stack pointer at
// rt_sigreturn, after the handler's return took the first word off. Registers, mask
// and stack come back in f; the XSAVE image is put into xstate, whose length is that
// of the processor's, with all that would fault there refused. It fails with EFAULT
// or, where the image makes no sense, EINVAL: the program gets SIGSEGV for both.
func (f *Frame) Read(m Memory, rsp uint64, xstate []byte, scratch []byte) error {
	b := scratch[:FrameSize]
	if err := m.CopyIn(b[:frameInfo], rsp-8); err != nil {
		return err
	}
	r := &f.Regs
	for n, p := range [...]*uint64{&r.R8, &r.R9, &r.R10, &r.R11, &r.R12, &r.R13, &r.R14, &r.R15, &r.RDI, &r.RSI,
		&r.RBP, &r.RBX, &r.RDX, &r.RAX, &r.RCX, &r.RSP, &r.RIP} {
		*p = le.Uint64(b[frameRegs+8*n:])
	}
	flags := le.Uint64(b[frameRegs+8*17:])
	r.RFlags = r.RFlags&^abi.FlagsUser | flags&abi.FlagsUser
	f.Mask = Set(le.Uint64(b[frameMask:])) &^ Unblockable
	f.Stack = DecodeStack(b[frameStack:])
	fp := le.Uint64(b[frameFP:])
	if fp == 0 {
		InitXState(xstate)
		return nil
	}
	return f.readX(m, fp, xstate, b)
}
