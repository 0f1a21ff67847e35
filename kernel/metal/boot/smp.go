package boot

import (
	"sync/atomic"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/clock"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/trap"
	"osv/kernel/metal/vm"
)

// Parameter block of the start page; offsets as in stub32/ap16.S.
const (
	apCodeBytes = 0x100
	apGDT       = 0xf00
	apGDTR      = 0xf20
	apFar       = 0xf28
	apCR3       = 0xf30
	apSP        = 0xf38
	apEntry     = 0xf40
	apArg       = 0xf48
	apLong      = 0x80 // where the 64-bit part starts

	apWaitNS = 5000000000 // a loaded host may keep a vCPU waiting
)

var (
	apPage  uintptr // physical, below 640 KiB
	arrived uint32  // atomic; processors that reached apStart
	apicIDs [cpu.Max]uint32
	apicNum int
)

// startOthers starts every processor that the MADT lists as enabled, one after
// the other: INIT, 10 ms, SIPI, and a second SIPI if the first is not answered
// within 1 ms (SDM vol. 3A §9.4.4.1).
func startOthers() {
	me := cpu.All(0).APIC
	for i := 0; i < apicNum && cpu.Count() < cpu.Max; i++ {
		if apicIDs[i] != me && !startOne(apicIDs[i]) {
			break
		}
	}
}

func startOne(apic uint32) bool {
	var l klog.Line
	stacks := phys.AllocContiguous(cpu.StacksBytes/phys.FrameSize, cpu.StackSize/phys.FrameSize)
	if apPage == 0 || stacks == phys.None || !vm.Identity(apPage) {
		l.Str("osv: no memory to start the processor with APIC ID ").Dec(uint64(apic)).End()
		return false
	}
	c := cpu.Prepare(cpu.Count(), apic, phys.ToVirt(stacks))
	p := phys.ToVirt(apPage)
	_, code, apGo := addresses()
	arch.Zero(p, phys.FrameSize)
	arch.Copy(p, code, apCodeBytes)
	*arch.U64(p + apGDT + 8) = 0x00af9b000000ffff
	*arch.U64(p + apGDT + 16) = 0x00cf93000000ffff
	*arch.U16(p + apGDTR) = 23
	*arch.U16(p + apGDTR + 2), *arch.U16(p + apGDTR + 4) = uint16(apPage+apGDT), uint16((apPage+apGDT)>>16)
	*arch.U32(p + apFar), *arch.U16(p + apFar + 4) = uint32(apPage+apLong), cpu.SelCode
	*arch.Ptr(p + apCR3) = vm.Root()
	*arch.Ptr(p + apSP), *arch.Ptr(p + apEntry), *arch.Ptr(p + apArg) = c.SysStack, apGo, c.Self

	before := atomic.LoadUint32(&arrived)
	cpu.SendICR(apic, cpu.ICRInit)
	clock.Spin(200000) // 10 ms by the book; hypervisors and modern parts need far less
	cpu.SendICR(apic, cpu.ICRStartup|uint32(apPage>>12))
	if !waitArrived(before, 1000000) {
		cpu.SendICR(apic, cpu.ICRStartup|uint32(apPage>>12))
	}
	ok := waitArrived(before, apWaitNS)
	vm.Unidentity(apPage)
	if !ok {
		l.Str("osv: the processor with APIC ID ").Dec(uint64(apic)).Str(" did not start").End()
	}
	return ok
}

func waitArrived(before uint32, ns int64) bool {
	for end := clock.Now() + ns; clock.Now() < end; {
		if atomic.LoadUint32(&arrived) != before {
			return true
		}
		arch.Pause()
	}
	return false
}

// apStart is the first Go code of a further processor.
func apStart(c *cpu.CPU) {
	c.Load()
	trap.InitCPU()
	vm.Activate()
	cpu.EnableAPIC()
	sched.InitCPU(c, trap.IdlePC())
	atomic.StoreUint32(&c.Online, 1)
	cpu.Add()
	atomic.AddUint32(&arrived, 1)
	sched.Schedule(c)
}
