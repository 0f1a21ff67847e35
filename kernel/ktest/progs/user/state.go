package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"

	"osv/kernel/hw/gate"
)

// counter is a program that counts in every register it has, in its red zone, and
// in memory behind FS and GS, and then makes a system call.
func counter(avx bool, pause uint32) code {
	c := code{}.raw(0xd9, 0xee) // FLDZ
	loop := len(c)
	for _, r := range []byte{0xc2, 0xc3, 0xc5, 0xc6, 0xc7} { // INC RDX RBX RBP RSI RDI
		c = c.raw(0x48, 0xff, r)
	}
	for _, r := range []byte{0xc0, 0xc1, 0xc2, 0xc4, 0xc5, 0xc6, 0xc7} { // INC R8 R9 R10 R12 to R15
		c = c.raw(0x49, 0xff, r)
	}
	c = c.raw(0x48, 0xff, 0x44, 0x24, 0xf8)             // INCQ [RSP-8]
	c = c.raw(0x64, 0x48, 0xff, 0x04, 0x25, 0, 0, 0, 0) // INCQ FS:[0]
	c = c.raw(0x65, 0x48, 0xff, 0x04, 0x25, 8, 0, 0, 0) // INCQ GS:[8]
	c = c.raw(0xd9, 0xe8, 0xde, 0xc1)                   // FLD1; FADDP
	for x := byte(0); x < 15; x++ {                     // VPADDQ YMMx, YMMx, YMM15, or PADDQ
		lo, hi := x&7, x>>3
		if avx {
			c = c.raw(0xc4, 0x41|(1-hi)<<7, 0x05|(^x&15)<<3, 0xd4, 0xc7|lo<<3)
		} else {
			c = c.raw(0x66, 0x41|hi<<2, 0x0f, 0xd4, 0xc7|lo<<3)
		}
	}
	if pause > 0 {
		c = c.pause(pause)
	}
	return c.syscall().jmp(loop)
}

// Offsets in the XSAVE image.
const (
	xMXCSR = 24
	xST0   = 32
	xXMM   = 160
	xYMM   = 576
)

// counting runs a counter n times and checks all that it counted.
func counting(name string, pause uint32, n int, each func(i int)) {
	xcr0, _ := gate.UserXFeatures()
	avx := xcr0&4 != 0
	s := newSpace(counter(avx, pause), 1)
	u := thread()
	r := u.Regs()
	r.FSBase, r.GSBase = dataAt+16, dataAt+24
	x := u.XState()
	binary.LittleEndian.PutUint32(x[xMXCSR:], 0x7f80) // round to zero
	for w := range 16 {
		v := uint64(w) << 32
		if w == 15 {
			v = 1
		}
		for k := range 2 {
			binary.LittleEndian.PutUint64(x[xXMM+w*16+k*8:], v)
			if avx {
				binary.LittleEndian.PutUint64(x[xYMM+w*16+k*8:], v<<1)
			}
		}
	}
	if avx {
		x[512] |= 4 // XSTATE_BV
	}
	for i := range n {
		if q := enter(u, s); q.Kind != gate.UserSyscall {
			fail("%s: round %d: %+v at %#x", name, i, q, r.RIP)
		}
		if each != nil {
			each(i)
		}
		if i%64 != 63 && i != n-1 {
			continue
		}
		c := uint64(i + 1)
		for w, v := range []uint64{r.RDX, r.RBX, r.RBP, r.RSI, r.RDI, r.R8, r.R9, r.R10, r.R12, r.R13, r.R14, r.R15} {
			want(fmt.Sprintf("%s: register %d", name, w), v, c)
		}
		data := machine.Bytes(s.data[0], 0)
		want(name+": memory at FS", binary.LittleEndian.Uint64(data[16:]), c)
		want(name+": memory at GS", binary.LittleEndian.Uint64(data[32:]), c)
		e, _ := s.Lookup(stackAt - 4096)
		want(name+": red zone", binary.LittleEndian.Uint64(machine.Bytes(e.Frame, 0)[4088:]), c)
		x := u.XState()
		want(name+": MXCSR", binary.LittleEndian.Uint32(x[xMXCSR:]), 0x7f80)
		want(name+": x87", extended(x[xST0:]), float64(c))
		for w := range 15 {
			for k := range 2 {
				want(fmt.Sprintf("%s: XMM%d", name, w), binary.LittleEndian.Uint64(x[xXMM+w*16+k*8:]), uint64(w)<<32+c)
				if avx {
					want(fmt.Sprintf("%s: YMM%d", name, w), binary.LittleEndian.Uint64(x[xYMM+w*16+k*8:]), uint64(w)<<33+2*c)
				}
			}
		}
	}
	u.Free()
	s.free()
}

// extended reads an 80-bit number.
func extended(b []byte) float64 {
	m, e := binary.LittleEndian.Uint64(b), int(binary.LittleEndian.Uint16(b[8:]))
	return math.Ldexp(float64(m), e-16383-63)
}

// state is kept over system calls, over what the kernel does meanwhile, and over
// preemption.
func state() {
	counting("plain", 0, 2000, nil)
	counting("slow", 100000, 200, nil)
	sink := 0.0
	counting("kernel floats", 0, 500, func(i int) {
		for k := range 20 {
			sink += math.Sqrt(float64(i * k)) // XMM registers of our own
		}
	})
	counting("moving", 0, 500, func(int) { runtime.Gosched() })
}

// many programs run at once, on all processors, and are moved between them.
func many() {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
				runtime.Gosched()
			}
		}
	}()
	for i := range 8 {
		wg.Go(func() {
			counting(fmt.Sprintf("program %d", i), uint32(i%4*20000), 400, func(k int) {
				if k%(i+2) == 0 {
					runtime.Gosched()
				}
			})
		})
	}
	wg.Wait()
	close(stop)
}
