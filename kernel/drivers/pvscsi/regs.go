package pvscsi

import (
	"fmt"

	"osv/kernel/drivers/scsi"
	"osv/kernel/hw/mmio"
)

// Registers of BAR 0, 32 bits each.
const (
	regCommand       mmio.Off = 0x0000
	regCommandData   mmio.Off = 0x0004 // the command's descriptor, word by word
	regCommandStatus mmio.Off = 0x0008
	regIntrStatus    mmio.Off = 0x100c // write 1 to clear
	regIntrMask      mmio.Off = 0x2010 // 1: enabled
	regKickNonRW     mmio.Off = 0x3014 // look at the request ring
	regKickRW        mmio.Off = 0x4018 // so too, where there are only reads and writes

	regBytes = 0x401c
)

// Values of the command register.
const (
	cmdAdapterReset = 1
	cmdSetupRings   = 3
	cmdResetDevice  = 5
	cmdAbort        = 6
	cmdConfig       = 7
	cmdSetupMsgRing = 8
)

const (
	commandFailed = 1<<32 - 1 // command status, of commands that are not known, too
	allOnes       = 1<<32 - 1 // what is read where nothing is
)

// Bits of the interrupt registers.
const (
	intrCompletion = 3 << 0
	intrMessage    = 3 << 2
	intrAll        = intrCompletion | intrMessage
)

const page = 4096

// Rings state, one page. An index counts on and on; its entry is the index modulo
// the ring's size.
const (
	stateReqProd = 0  // driver writes
	stateReqCons = 4  // adapter writes
	stateReqLog2 = 8  // adapter writes: entries of the request ring
	stateCmpProd = 12 // adapter writes
	stateCmpCons = 16 // driver writes
	stateCmpLog2 = 20
	stateMsgProd = 128 // adapter writes
	stateMsgCons = 132 // driver writes
	stateMsgLog2 = 136
)

// Request descriptor.
const (
	reqBytes    = 128
	reqContext  = 0  // 64 bits, but below 2^32 and not 0
	reqDataAddr = 8  // 64 bits: of the data, or of the list of pieces
	reqDataLen  = 16 // 64 bits
	reqSense    = 24 // 64 bits: where sense data goes
	reqSenseLen = 32 // 32 bits
	reqFlags    = 36 // 32 bits
	reqCDB      = 40 // 16 bytes
	reqCDBLen   = 56
	reqLUN      = 57 // 8 bytes
	reqTag      = 65
	reqBus      = 66
	reqTarget   = 67

	flagList      = 1 << 0
	flagNoData    = 1 << 2
	flagToHost    = 1 << 3
	flagToDevice  = 1 << 4
	tagSimple     = 0x20 // the queue tag message of SPI-4
	sgBytes       = 16   // an element of a list: address (64 bits), length, flags (32 bits each)
	maxSegs       = 128  // a list does not cross a page, and is half of one
	senseBytes    = 128  // room for each; scsi.SenseBytes are used
	reqPerPage    = page / reqBytes
	maxRingPages  = 32
	defaultTarget = 16
)

// Completion descriptor.
const (
	cmpBytes      = 32
	cmpContext    = 0  // 64 bits
	cmpDataLen    = 8  // 64 bits
	cmpSenseLen   = 16 // 32 bits
	cmpHostStatus = 20 // 16 bits
	cmpSCSIStatus = 22 // 16 bits
)

// Message descriptor.
const (
	msgBytes  = 128
	msgType   = 0 // 32 bits
	msgTarget = 8 // 32 bits
	msgLUN    = 12

	msgAdded   = 0
	msgRemoved = 1
)

// hostStatus is the adapter's status of a command.
type hostStatus uint16

const (
	btSuccess       hostStatus = 0x00
	btLinked        hostStatus = 0x0a
	btLinkedFlag    hostStatus = 0x0b
	btUnderrun      hostStatus = 0x0c
	btSelTimeout    hostStatus = 0x11
	btDataRun       hostStatus = 0x12 // overrun or underrun
	btBusFree       hostStatus = 0x13
	btInvalidPhase  hostStatus = 0x14
	btLUNMismatch   hostStatus = 0x17
	btInvalidParam  hostStatus = 0x1a
	btSenseFailed   hostStatus = 0x1b
	btTagReject     hostStatus = 0x1c
	btBadMessage    hostStatus = 0x1d
	btHardware      hostStatus = 0x20
	btNoResponse    hostStatus = 0x21
	btSentReset     hostStatus = 0x22
	btReceivedReset hostStatus = 0x23
	btDisconnect    hostStatus = 0x24
	btBusReset      hostStatus = 0x25
	btAbortQueue    hostStatus = 0x26
	btSoftware      hostStatus = 0x27
	btTimeout       hostStatus = 0x30
	btParity        hostStatus = 0x34
)

var hostNames = map[hostStatus]string{
	btBusFree: "unexpected bus free", btInvalidPhase: "invalid bus phase", btInvalidParam: "invalid parameter", btTagReject: "tag rejected",
	btBadMessage: "unsupported message", btHardware: "adapter's hardware failed", btNoResponse: "target did not respond",
	btDisconnect: "target reconnected improperly", btSoftware: "adapter's software failed", btTimeout: "adapter's hardware timed out",
	btParity: "parity error",
}

func (s hostStatus) String() string {
	if n := hostNames[s]; n != "" {
		return n
	}
	return fmt.Sprintf("host status %02xh", uint16(s))
}

// judge fills in the result of c, of which the adapter says that length bytes were
// moved. Adapters leave length 0 where all were moved, and some where an unknown
// number was.
func judge(c *scsi.Command, host hostStatus, status uint16, length uint64) {
	c.Status = scsi.Status(status)
	short := length > 0 && length < uint64(c.Len)
	switch host {
	case btSuccess, btLinked, btLinkedFlag, btSenseFailed:
		if short {
			c.Residual = c.Len - int(length)
		}
	case btUnderrun, btDataRun:
		switch {
		case c.Status != scsi.Good || c.Len == 0:
		case short:
			c.Residual = c.Len - int(length)
		case length == 0:
			c.Residual = -1
		default:
			c.Host = scsi.HostOverrun
		}
	case btSelTimeout:
		c.Host = scsi.HostNoTarget
	case btLUNMismatch:
		c.Host = scsi.HostNoUnit
	case btAbortQueue:
		c.Host = scsi.HostAborted
	case btSentReset, btReceivedReset, btBusReset:
		c.Host = scsi.HostReset
	default:
		c.Host, c.Err = scsi.HostFailed, fmt.Errorf("%v", host)
	}
}
