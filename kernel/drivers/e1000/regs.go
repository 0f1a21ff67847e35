package e1000

import "osv/kernel/hw/mmio"

// Registers, SDM 8254x table 13-2; those marked 82574 are in the datasheet of
// that one only, §10.1.
const (
	regCTRL    mmio.Off = 0x0000 // RW
	regSTATUS  mmio.Off = 0x0008 // R
	regEECD    mmio.Off = 0x0010 // RW
	regEERD    mmio.Off = 0x0014 // RW
	regCTRLEXT mmio.Off = 0x0018 // RW
	regMDIC    mmio.Off = 0x0020 // RW
	regFCAL    mmio.Off = 0x0028 // RW
	regFCAH    mmio.Off = 0x002C // RW
	regFCT     mmio.Off = 0x0030 // RW
	regICR     mmio.Off = 0x00C0 // R clears, W 1 clears
	regITR     mmio.Off = 0x00C4 // RW
	regIMS     mmio.Off = 0x00D0 // RW 1 sets
	regIMC     mmio.Off = 0x00D8 // W  1 clears
	regEIAC    mmio.Off = 0x00DC // RW 82574
	regIAM     mmio.Off = 0x00E0 // RW 82574
	regIVAR    mmio.Off = 0x00E4 // RW 82574
	regEITR    mmio.Off = 0x00E8 // RW 82574, one for each of 5 vectors
	regRCTL    mmio.Off = 0x0100 // RW
	regFCTTV   mmio.Off = 0x0170 // RW
	regTCTL    mmio.Off = 0x0400 // RW
	regTIPG    mmio.Off = 0x0410 // RW
	regPBA     mmio.Off = 0x1000 // RW
	regRDBAL   mmio.Off = 0x2800 // RW
	regRDBAH   mmio.Off = 0x2804 // RW
	regRDLEN   mmio.Off = 0x2808 // RW
	regRDH     mmio.Off = 0x2810 // RW device's, written only while receive is off
	regRDT     mmio.Off = 0x2818 // RW a doorbell
	regRDTR    mmio.Off = 0x2820 // RW
	regRXDCTL  mmio.Off = 0x2828 // RW
	regRADV    mmio.Off = 0x282C // RW
	regTDBAL   mmio.Off = 0x3800 // RW
	regTDBAH   mmio.Off = 0x3804 // RW
	regTDLEN   mmio.Off = 0x3808 // RW
	regTDH     mmio.Off = 0x3810 // RW device's, written only while transmit is off
	regTDT     mmio.Off = 0x3818 // RW a doorbell
	regTIDV    mmio.Off = 0x3820 // RW
	regTXDCTL  mmio.Off = 0x3828 // RW
	regTADV    mmio.Off = 0x382C // RW
	regRXCSUM  mmio.Off = 0x5000 // RW
	regRFCTL   mmio.Off = 0x5008 // RW 82574
	regMTA     mmio.Off = 0x5200 // RW 128 words
	regRAL     mmio.Off = 0x5400 // RW 16 pairs
	regRAH     mmio.Off = 0x5404 // RW

	// windowBytes is what BAR 0 has of registers.
	windowBytes = 0x20000

	mtaWords  = 128
	rarPairs  = 16
	allOnes   = 0xFFFFFFFF // what a device that is gone reads
	vectors   = 5          // MSI-X vectors of the 82574, §10.2.4.9
	itrTickNS = 256        // unit of ITR and EITR
)

// Device control, SDM §13.4.1; 82574 §10.2.2.1.
const (
	ctrlFD         = 1 << 0
	ctrlGIOMasterD = 1 << 2 // 82574: GIO Master Disable
	ctrlASDE       = 1 << 5 // 8254x: automatic speed detection
	ctrlSLU        = 1 << 6 // set link up
	ctrlILOS       = 1 << 7
	ctrlFRCSPD     = 1 << 11
	ctrlFRCDPX     = 1 << 12
	ctrlRST        = 1 << 26
	ctrlRFCE       = 1 << 27
	ctrlTFCE       = 1 << 28
	ctrlVME        = 1 << 30
	ctrlPHYRST     = 1 << 31
	ctrlForced     = ctrlILOS | ctrlFRCSPD | ctrlFRCDPX | ctrlVME | ctrlPHYRST | 1<<3 // 1<<3: LRST
)

// Device status, SDM §13.4.2.
const (
	statusFD         = 1 << 0
	statusLU         = 1 << 1 // link up
	statusSpeedShift = 6      // 0: 10, 1: 100, 2 and 3: 1000 Mbit/s
	statusGIOMaster  = 1 << 19
)

// Extended device control, 82574 §10.2.2.5.
const (
	ctrlExtEIAME = 1 << 24 // an MSI-X message masks by IAM
	ctrlExtIAME  = 1 << 27 // a read of ICR masks by IAM
	ctrlExtPBA   = 1 << 31 // MSI-X pending bits clear
)

// EEPROM control, SDM §13.4.3; 82574 §10.2.2.3.
const eecdAutoRD = 1 << 9

// Interrupt causes, SDM §13.4.17; from bit 20 on 82574 §10.2.4.1.
const (
	intTXDW     = 1 << 0 // a descriptor with RS was written back
	intTXQE     = 1 << 1
	intLSC      = 1 << 2 // link status change
	intRXSEQ    = 1 << 3
	intRXDMT0   = 1 << 4 // few receive descriptors are left
	intRXO      = 1 << 6 // receive overrun
	intRXT0     = 1 << 7 // receive timer
	intRXQ0     = 1 << 20
	intTXQ0     = 1 << 22
	intOther    = 1 << 24
	intAsserted = 1 << 31 // the interrupt line was raised, 82574 §10.2.4.1
	intRX       = intRXDMT0 | intRXO | intRXT0
	intAll      = allOnes
	ivarRXQ0    = 8 << 0  // valid; vector in the three bits below it
	ivarTXQ0    = 8 << 8  //
	ivarOther   = 8 << 16 //
	ivarRXVec   = 0
	ivarTXVec   = 8
	ivarOthVec  = 16
)

// Receive control, SDM §13.4.22.
const (
	rctlEN    = 1 << 1
	rctlUPE   = 1 << 3 // unicast promiscuous
	rctlMPE   = 1 << 4 // multicast promiscuous
	rctlLPE   = 1 << 5 // frames of more than 1522 bytes
	rctlBAM   = 1 << 15
	rctlBSIZE = 16 // two bits
	rctlBSEX  = 1 << 25
	rctlSECRC = 1 << 26 // strip the frame check sequence
)

// Receive checksum control, SDM §13.4.58, and receive filter control, 82574 §10.2.5.5.
const (
	rxcsumIPOFL = 1 << 8
	rxcsumTUOFL = 1 << 9
	rfctlEXSTEN = 1 << 15 // extended descriptors
)

// Transmit control, SDM §13.4.33; MULR 82574 §10.2.6.1.
const (
	tctlEN   = 1 << 1
	tctlPSP  = 1 << 3     // pad short packets
	tctlCT   = 0x0F << 4  // collision threshold
	tctlCOLD = 0x40 << 12 // collision distance, full duplex
	tctlRTLC = 1 << 24
	tctlMULR = 1 << 28
)

// Transmit descriptor control, SDM §13.4.44: a descriptor with RS is written back
// at once. Bit 22 must be 1 in an 82574, §10.2.6.11.
const (
	dctlGRAN     = 1 << 24
	dctlWTHRESH1 = 1 << 16
	txdctlSet    = 1 << 22
)

const rahAV = 1 << 31 // the address is valid, SDM §13.5.3

// MDI control, SDM §13.4.8.
const (
	mdicRegShift = 16
	mdicPHY1     = 1 << 21
	mdicWrite    = 1 << 26
	mdicRead     = 2 << 26
	mdicReady    = 1 << 28
	mdicError    = 1 << 30
)

// PHY registers, IEEE 802.3 §22.2.4.
const (
	phyControl = 0
	phyStatus  = 1
	phyID1     = 2
	phyID2     = 3

	phyRestartAN = 1 << 9
	phyIsolate   = 1 << 10
	phyPowerDown = 1 << 11
	phyEnableAN  = 1 << 12
	phyLinkUp    = 1 << 2
)
