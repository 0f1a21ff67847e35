package pci

// Configuration header, PCI 3.0 §6.1 figure 6-1. Names follow the spec.
const (
	regVendorID      = 0x00 // R
	regDeviceID      = 0x02 // R
	regCommand       = 0x04 // RW see command bits
	regStatus        = 0x06 // R
	regRevisionID    = 0x08 // R
	regProgIF        = 0x09 // R
	regSubClass      = 0x0A // R
	regBaseClass     = 0x0B // R
	regHeaderType    = 0x0E // R
	regBAR0          = 0x10 // RW six of them, two in a bridge
	regSubVendorID   = 0x2C // R not in bridges
	regSubsystemID   = 0x2E // R not in bridges
	regCapPointer    = 0x34 // R
	regInterruptLine = 0x3C // RW
	regInterruptPin  = 0x3D // R
	headerLen        = 0x40
)

// Command register, §6.2.2 table 6-1.
const (
	cmdIO          = 1 << 0
	cmdMemory      = 1 << 1
	cmdBusMaster   = 1 << 2
	cmdINTxDisable = 1 << 10
)

// Status register, §6.2.3 table 6-2.
const (
	statusINTx    = 1 << 3
	statusCapList = 1 << 4
)

// Header type, §6.2.1.
const (
	headerTypeMask  = 0x7F
	headerDevice    = 0x00
	headerBridge    = 0x01
	headerMultiFunc = 0x80
)

// Bridge header, PCI-to-PCI Bridge 1.2 §3.2.
const (
	regPrimaryBus      = 0x18 // RW
	regSecondaryBus    = 0x19 // RW
	regSubordinateBus  = 0x1A // RW
	regIOBase          = 0x1C // RW bits 7-4 are address bits 15-12; bits 3-0 are 1 where 32 bits are decoded
	regIOLimit         = 0x1D // RW
	regMemoryBase      = 0x20 // RW bits 15-4 are address bits 31-20
	regMemoryLimit     = 0x22 // RW
	regPrefBase        = 0x24 // RW as above; bits 3-0 are 1 where 64 bits are decoded
	regPrefLimit       = 0x26 // RW
	regPrefBaseUpper   = 0x28 // RW
	regPrefLimitUpper  = 0x2C // RW
	regIOBaseUpper16   = 0x30 // RW
	regIOLimitUpper16  = 0x32 // RW
	bridgeBARs         = 2
	deviceBARs         = 6
	bridgeWideDecode   = 1
	bridgeMemoryGrain  = 1 << 20
	bridgeIOGrain      = 1 << 12
	classBridge        = 0x06
	subClassHostBridge = 0x00
)
