// Package boot takes the machine from the PVH entry to the Go runtime's.
//
// Spec: Xen PVH boot protocol (docs/misc/pvh.pandoc, hvm_start_info version 1);
// Intel SDM vol. 3A (2024-06) chapters 9 (initialisation) and 11.4.4 (MP). Who
// may call it: nobody; a program imports it blank and links with
// -E osv/kernel/metal/boot.pvhEntry (harness/image does). It may not use the
// heap. Start reading at entry_amd64.s, then start below: it is the boot story.
package boot

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/clock"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/rand"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/shim"
	"osv/kernel/metal/trap"
	"osv/kernel/metal/vm"
)

var (
	bootTables [9 * 4096]byte                 // 8 page tables, aligned by the stub
	bootStacks [cpu.StacksBytes + 16<<10]byte // the boot processor's trap stacks
	entryTSC   uint64
	startInfo  uintptr // physical; read before the boot tables go
	imageDelta uintptr // where the image lies, less where it was linked for; mod 2^64
	rsdp       uintptr
	booted     bool
	verbose    bool

	startFn   = start
	apStartFn = apStart
)

// linked is where the linker put things, as virtual addresses. The post-link tool
// (harness/image) stores them here: what lies between loadedEnd and bssEnd is
// .bss that no code below the runtime uses; it is not loaded, but demand-zero.
var linked = struct{ magic, start, textEnd, rodataEnd, loadedEnd, bssEnd uintptr }{magic: linkedMagic}

const (
	linkedMagic = 0x6b6e696c76736f // "osvlink"
	lowLimit    = 4 << 30          // what the boot tables map
)

func addresses() (rt0, ap, apGo uintptr)

// Booted says whether this program runs as the kernel; RSDP is the physical
// address of the ACPI root pointer, 0 if the loader did not pass one.
func Booted() bool     { return booted }
func RSDP() uintptr    { return rsdp }
func EntryTSC() uint64 { return entryTSC }
func Verbose() bool    { return verbose }

// start runs on the boot processor with the boot tables: the first 4 GiB at
// their physical address, the image where it is linked.
func start(stacks uintptr) {
	booted = true
	klog.Init() // console
	checkCPU()  // what the kernel cannot do without
	c := cpu.Prepare(0, 0, stacks)
	c.Load()         // GDT, TSS, GS: locks need to know who we are
	readStartInfo()  // memory map, command line, RSDP; copied
	findProcessors() // APIC IDs, while low memory is mapped as is
	initMemory()     // frame allocator, page tables, direct map
	trap.Init()      // IDT
	trap.InitCPU()   // IDT, SYSCALL
	maskPIC()
	clock.Init(entryTSC, imageDelta) // TSC rate, wall time
	initAPIC(c)                      // local APIC and its timer
	sched.InitCPU(c, trap.IdlePC())
	seeded := rand.Init()
	startOthers() // INIT-SIPI for each processor in the MADT
	report(seeded)
	clock.InstallVDSO()
	spawnMain() // argc, argv, envp, auxv; then the runtime's entry
	sched.Schedule(c)
}

// Fatal ends the boot with one line that says why.
func fatal(l *klog.Line) {
	l.End()
	shim.Exit(shim.StatusBoot)
}

// checkCPU names the first missing feature. FSGSBASE was checked at entry.
func checkCPU() {
	_, _, ecx, edx := arch.CPUID(1, 0)
	missing := ""
	switch {
	case edx>>9&1 == 0:
		missing = "a local APIC"
	case edx>>4&1 == 0:
		missing = "a time stamp counter"
	case edx>>24&1 == 0:
		missing = "FXSAVE"
	case ecx>>13&1 == 0:
		missing = "CMPXCHG16B"
	}
	if missing != "" {
		var l klog.Line
		l.Str("osv: this processor lacks ").Str(missing)
		fatal(&l)
	}
}

// initMemory builds the frame allocator and the kernel's page tables, and leaves
// the boot tables.
func initMemory() {
	if linked.start == 0 {
		klog.Print("osv: this image was not post-linked (use make build)")
		shim.Exit(shim.StatusBoot)
	}
	img := vm.Image{
		Start: linked.start, TextEnd: pageUp(linked.textEnd), RodataEnd: pageUp(linked.rodataEnd),
		LoadedEnd: pageUp(linked.loadedEnd), BSSEnd: pageUp(linked.bssEnd), Delta: imageDelta,
	}
	imgLo, imgHi := img.Phys(img.Start), img.Phys(img.LoadedEnd)

	// Frame state goes right behind the image.
	metaAt, metaEnd := imgHi, imgHi+phys.MetaBytes(ramTop)
	if !ramHolds(imgLo, metaEnd) {
		var l klog.Line
		l.Str("osv: too little memory: the image and its tables need ").Dec(uint64(metaEnd) >> 10).
			Str(" KiB from ").Hex(uint64(imgLo)).Str(", RAM ends at ").Hex(uint64(ramTop))
		fatal(&l)
	}
	phys.Init(metaAt, ramTop)
	addRAM(0, lowLimit, imgLo, metaEnd)
	haveGiB := false
	if m, _, _, _ := arch.CPUID(0x80000000, 0); m >= 0x80000001 {
		_, _, _, edx := arch.CPUID(0x80000001, 0)
		haveGiB = edx>>26&1 != 0
	}
	ok := vm.Init(img, haveGiB)
	for i := 0; i < ranges && ok; i++ {
		ok = vm.Direct(ram[i].start, ram[i].end)
	}
	if !ok {
		var l klog.Line
		all, _, _ := phys.Counts()
		l.Str("osv: too little memory: no room for page tables in ").Dec(uint64(all) * 4).Str(" KiB")
		fatal(&l)
	}
	vm.Activate()
	phys.SetBase(phys.DirectBase)
	addRAM(lowLimit, ^uintptr(0), 0, 0)
	all, _, _ := phys.Counts()
	// A machine with little memory keeps to small pages; a large one stops using
	// large pages for the heap when a sixteenth is left.
	floor := all / 16
	if all < 64<<20/phys.FrameSize {
		floor = all
	}
	vm.SetLargeFloor(floor)
}

func pageUp(a uintptr) uintptr { return (a + phys.FrameSize - 1) &^ (phys.FrameSize - 1) }

// maskPIC silences the 8259 pair; interrupts come by APIC.
func maskPIC() {
	arch.Out8(0x21, 0xff)
	arch.Out8(0xa1, 0xff)
}

func initAPIC(c *cpu.CPU) {
	_, _, ecx, _ := arch.CPUID(1, 0)
	haveX2, haveDeadline := ecx>>21&1 != 0, ecx>>24&1 != 0
	base := vm.MapDevice(cpu.APICPhys, phys.FrameSize)
	if base == 0 {
		var l klog.Line
		l.Str("osv: too little memory: no page table for the local APIC")
		fatal(&l)
	}
	cpu.SetAPIC(base, haveX2, haveDeadline)
	cpu.EnableAPIC()
	c.APIC = cpu.APICID()
	if !haveDeadline {
		const measure = 2000000 // ns
		cpu.CalibrateTimerStart()
		t0 := arch.ReadTSC()
		clock.Spin(measure)
		cpu.CalibrateTimerStop(arch.ReadTSC() - t0)
	}
	c.Online = 1
}

func report(seeded bool) {
	if !seeded {
		klog.Print("osv: warning: no RDRAND or RDSEED; random numbers are weak until a virtio-rng device is found")
	}
	if !verbose {
		return
	}
	var l klog.Line
	all, _, _ := phys.Counts()
	l.Str("osv: ").Dec(uint64(cpu.Count())).Str(" cpu, ").Dec(uint64(all) * 4).Str(" KiB, tsc ").
		Dec(clock.Hz() / 1000).Str(" kHz by ").Str(clock.From().String()).Str(", ").
		Dec(uint64(clock.Now()) / 1000).Str(" us since entry").End()
}
