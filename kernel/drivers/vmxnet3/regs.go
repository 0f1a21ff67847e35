package vmxnet3

import "osv/kernel/hw/mmio"

// Registers of BAR 1, 32 bits wide and 8 bytes apart.
const (
	regVRRS mmio.Off = 0x00 // RW revisions that the device offers; the one chosen
	regUVRS mmio.Off = 0x08 // RW UPT versions, likewise
	regDSAL mmio.Off = 0x10 // RW driver shared area, low
	regDSAH mmio.Off = 0x18 // RW high; the device looks at it from here on
	regCMD  mmio.Off = 0x20 // RW command; its answer
	regMACL mmio.Off = 0x28 // RW
	regMACH mmio.Off = 0x30 // RW
	regICR  mmio.Off = 0x38 // R  INTx: whether it was this device; clears
	regECR  mmio.Off = 0x40 // RW events, 1 acknowledges

	vdBytes = 4096
)

// Registers of BAR 0, one for each interrupt or queue, 8 bytes apart.
const (
	regIMR     mmio.Off = 0x000 // W 1 masks the interrupt
	regTXPROD  mmio.Off = 0x600 // W a doorbell: next descriptor to fill
	regRXPROD  mmio.Off = 0x800 // W likewise, ring 0
	regRXPROD2 mmio.Off = 0xA00 // W likewise, ring 1
	regStride           = 8

	ptBytes = 4096
)

// Commands.
const (
	cmdActivate         = 0xCAFE0000 // answer 0: done
	cmdQuiesce          = 0xCAFE0001
	cmdReset            = 0xCAFE0002
	cmdUpdateRxMode     = 0xCAFE0003
	cmdUpdateMACFilters = 0xCAFE0004
	cmdUpdateVLAN       = 0xCAFE0005
	cmdQueueStatus      = 0xF00D0000
	cmdGetLink          = 0xF00D0002 // speed in Mbit/s << 16 | up
	cmdGetConfIntr      = 0xF00D0008 // type, mask mode << 2
)

const (
	revision1  = 1 << 0 // VRRS, UVRS
	revision2  = 1 << 1 // VRRS: completions tell the size of merged segments
	maskActive = 1      // mask mode: the driver masks
	linkUpBit  = 1
	speedShift = 16
	allOnes    = 0xFFFFFFFF
	maxIntrs   = 25
)

// MaxQueues is how many queues of either kind revision 1 has.
const MaxQueues = 8

// Events.
const (
	eventRxQueue = 1 << 0 // a receive queue stopped
	eventTxQueue = 1 << 1
	eventLink    = 1 << 2
)

// Driver shared area, all little-endian. Offsets in bytes.
const (
	sharedBytes = 720
	sharedMagic = 0xBABEFEE1

	dsMagic        = 0
	dsVersion      = 8
	dsGOS          = 12 // guest: 64 bits, Linux
	dsRevisions    = 16
	dsUPTVersions  = 20
	dsFeatures     = 24
	dsDriverData   = 32
	dsQueueDesc    = 40
	dsQueueDescLen = 52
	dsMTU          = 56
	dsMaxRxSG      = 60 // 16 bits
	dsTxQueues     = 62 // 8 bits
	dsRxQueues     = 63 // 8 bits
	dsAutoMask     = 80 // 8 bits
	dsIntrs        = 81 // 8 bits
	dsEventIntr    = 82 // 8 bits
	dsModLevels    = 83 // 25 of 8 bits
	dsIntrCtrl     = 108
	dsRxMode       = 120
	dsMFTableLen   = 124 // 16 bits, bytes
	dsMFTable      = 128
	dsVLANTable    = 136 // 4096 bits
	dsRSSVersion   = 648
	dsRSSLen       = 652
	dsRSSConf      = 656
	dsECR          = 696 // device writes

	gosLinux64 = 2 | 1<<2
	modAdapt   = 8 // the device finds the moderation
)

// Features.
const (
	featRxCsum = 1 << 0
	featRSS    = 1 << 1
	featLRO    = 1 << 3
)

// Receive modes.
const (
	modeUnicast      = 1 << 0
	modeMulticast    = 1 << 1
	modeBroadcast    = 1 << 2
	modeAllMulticast = 1 << 3
	modePromiscuous  = 1 << 4
)

// Queue descriptors: those of all transmit queues, then of all receive queues.
// The second ring address and length are only in those of receive.
const (
	queueDescBytes = 256
	queueDescAlign = 128

	qdUpdateRxProd = 0 // 8 bits, device writes: it wants to know of new buffers
	qdRing         = 16
	qdRing2        = 24
	qdComp         = 32
	qdDriverData   = 40
	qdRingSize     = 56
	qdRing2Size    = 60
	qdCompSize     = 64
	qdIntr         = 72 // 8 bits
	qdStopped      = 80 // 8 bits, device writes
	qdError        = 84 // device writes
)

// RSS configuration.
const (
	rssBytes    = 8 + rssKeyBytes + rssTable
	rssKeyBytes = 40
	rssTable    = 128
	rssTypes    = 1<<0 | 1<<1 | 1<<2 | 1<<3 // IPv4, TCP over it, IPv6, TCP over it
	rssToeplitz = 1
)

const ringAlign = 512

// stopReason is a queue's error, in words.
func stopReason(code uint32) string {
	switch code {
	case 0x80000000:
		return "no end of a packet"
	case 0x80000001:
		return "a descriptor used again before it was done"
	case 0x80000002:
		return "too many descriptors for a packet"
	case 0x80000003:
		return "a type of descriptor that is not supported"
	case 0x80000004:
		return "a buffer that is too small"
	case 0x80000005:
		return "a stress test of the hypervisor"
	case 0x80000006:
		return "a failed switch of modes"
	case 0x80000007:
		return "an invalid descriptor"
	}
	return "no known reason"
}
