package ahci

import "osv/kernel/hw/mmio"

// Generic host control, AHCI 1.3.1 §3.1.
const (
	regCAP  mmio.Off = 0x00 // R  capabilities
	regGHC  mmio.Off = 0x04 // RW global control
	regIS   mmio.Off = 0x08 // RW1C a bit for each port that interrupts
	regPI   mmio.Off = 0x0c // R  a bit for each port that is there
	regCAP2 mmio.Off = 0x24 // R  more capabilities
	regBOHC mmio.Off = 0x28 // RW handoff from firmware

	regPorts  mmio.Off = 0x100
	portBytes mmio.Off = 0x80
	maxPorts           = 32
)

const (
	cap64       uint32 = 1 << 31 // S64A: 64-bit addresses
	capNCQ      uint32 = 1 << 30 // SNCQ
	capStagger  uint32 = 1 << 27 // SSS: ports spin up when told
	capNCSShift        = 8       // NCS: command slots, less one
	ghcAE       uint32 = 1 << 31 // AHCI enable
	ghcIE       uint32 = 1 << 1  // interrupt enable
	ghcHR       uint32 = 1 << 0  // HBA reset
	cap2BOH     uint32 = 1 << 0  // BOHC is there
	bohcBOS     uint32 = 1 << 0  // firmware owns the HBA
	bohcOOS     uint32 = 1 << 1  // we want it, and have it once BOS is 0
	bohcBB      uint32 = 1 << 4  // firmware is busy with outstanding commands
	allOnes     uint32 = 1<<32 - 1
)

// Port registers, §3.3, from the port's base.
const (
	portCLB  mmio.Off = 0x00 // RW 64 bits: command list
	portFB   mmio.Off = 0x08 // RW 64 bits: received FISes
	portIS   mmio.Off = 0x10 // RW1C
	portIE   mmio.Off = 0x14 // RW
	portCMD  mmio.Off = 0x18 // RW
	portTFD  mmio.Off = 0x20 // R  status in bits 7:0, error in 15:8
	portSIG  mmio.Off = 0x24 // R
	portSSTS mmio.Off = 0x28 // R  SStatus
	portSCTL mmio.Off = 0x2c // RW SControl
	portSERR mmio.Off = 0x30 // RW1C SError
	portSACT mmio.Off = 0x34 // RW1S a bit for each queued command; device clears
	portCI   mmio.Off = 0x38 // RW1S a bit for each command issued; HBA clears
)

const (
	cmdST        uint32 = 1 << 0
	cmdSUD       uint32 = 1 << 1
	cmdPOD       uint32 = 1 << 2
	cmdFRE       uint32 = 1 << 4
	cmdFR        uint32 = 1 << 14
	cmdCR        uint32 = 1 << 15
	cmdICCActive uint32 = 1 << 28
	cmdICCMask   uint32 = 15 << 28

	isDHRS uint32 = 1 << 0  // a D2H register FIS
	isPSS  uint32 = 1 << 1  // a PIO setup FIS
	isDSS  uint32 = 1 << 2  // a DMA setup FIS
	isSDBS uint32 = 1 << 3  // a set device bits FIS
	isPCS  uint32 = 1 << 6  // connection changed
	isPRCS uint32 = 1 << 22 // PhyRdy changed
	isOFS  uint32 = 1 << 24 // overflow
	isIFS  uint32 = 1 << 27 // interface fatal error
	isHBDS uint32 = 1 << 28 // host bus data error
	isHBFS uint32 = 1 << 29 // host bus fatal error
	isTFES uint32 = 1 << 30 // task file error

	isLink   = isPCS | isPRCS
	isFatal  = isOFS | isIFS | isHBDS | isHBFS
	isErrors = isLink | isFatal | isTFES
	isWanted = isErrors | isDHRS | isPSS | isDSS | isSDBS

	tfdERR uint32 = 1 << 0
	tfdDRQ uint32 = 1 << 3
	tfdBSY uint32 = 1 << 7

	sstsDETMask    uint32 = 15
	sstsDETPresent uint32 = 3
	sctlDETInit    uint32 = 1      // COMRESET as long as it is set
	sctlNoSleep    uint32 = 3 << 8 // IPM: no partial, no slumber

	sigATA   uint32 = 0x00000101
	sigATAPI uint32 = 0xeb140101
	sigPMP   uint32 = 0x96690101
)

// Memory of a port: the command list, received FISes, and a command table for each
// slot with one more for the driver's own commands, §4.2.
const (
	memList   = 0    // 32 headers of 32 bytes
	memFIS    = 1024 // 256 bytes
	memTables = 2048

	headerBytes = 32
	tableBytes  = 2048
	tablePRDT   = 0x80
	tableTrim   = 1536 // ours: 512 bytes of ranges
	trimBytes   = 512
	maxPRDs     = (tableTrim - tablePRDT) / prdBytes
	prdBytes    = 16
	maxPRDLen   = 4 << 20

	headerWrite  uint32 = 1 << 6
	headerFISLen uint32 = 5 // dwords of an H2D register FIS
)

// ATA commands, ACS-3 §7.
const (
	ataDSM        = 0x06
	ataReadDMA    = 0xc8
	ataReadExt    = 0x25
	ataReadLog    = 0x2f
	ataWriteDMA   = 0xca
	ataWriteExt   = 0x35
	ataReadFPDMA  = 0x60
	ataWriteFPDMA = 0x61
	ataFlush      = 0xe7
	ataFlushExt   = 0xea
	ataIdentify   = 0xec

	dsmTrim     = 1
	logNCQError = 0x10
	deviceLBA   = 1 << 6
)
