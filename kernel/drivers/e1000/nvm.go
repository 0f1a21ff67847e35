package e1000

import (
	"encoding/binary"
	"fmt"
)

const (
	nvmWords = 0x40
	nvmSum   = 0xBABA // of all words, SDM §5.6.35
)

// readNVM reads a word of the EEPROM, SDM §13.4.4.
func (d *Device) readNVM(word int) (uint16, error) {
	d.regs.Store32(regEERD, 1|uint32(word)<<d.model.eerdShift)
	var v uint32
	if !d.until(func() bool { v = d.regs.Load32(regEERD); return v&d.model.eerdDone != 0 }) {
		return 0, fmt.Errorf("NVM word %d is not read: EERD %#x", word, v)
	}
	if v == allOnes {
		return 0, fmt.Errorf("NVM word %d is not read: EERD %#x", word, v)
	}
	return uint16(v >> 16), nil
}

// nvmMAC is the address in the first three words of the NVM, SDM §5.6.1, if its
// checksum holds.
func (d *Device) nvmMAC() (mac [6]byte, err error) {
	var sum uint16
	for i := range nvmWords {
		v, err := d.readNVM(i)
		if err != nil {
			return mac, err
		}
		sum += v
		if i < 3 {
			binary.LittleEndian.PutUint16(mac[2*i:], v)
		}
	}
	if sum != nvmSum {
		return mac, fmt.Errorf("NVM words add up to %#04x, want %#04x", sum, nvmSum)
	}
	return mac, checkMAC(mac)
}

// readMAC is the card's address: of the NVM, else what the device itself took
// from there into its first receive address (a hypervisor may play one without
// the other).
func (d *Device) readMAC() ([6]byte, error) {
	mac, err := d.nvmMAC()
	if err == nil {
		return mac, nil
	}
	d.faultf("%w", err)
	lo, hi := d.regs.Load32(regRAL), d.regs.Load32(regRAH)
	binary.LittleEndian.PutUint32(mac[:], lo)
	binary.LittleEndian.PutUint16(mac[4:], uint16(hi))
	if err2 := checkMAC(mac); err2 != nil || hi&rahAV == 0 {
		return mac, d.errorf("%w, and receive address 0 is %x, RAH %#x", err, mac, hi)
	}
	return mac, nil
}

func checkMAC(mac [6]byte) error {
	if mac == [6]byte{} || mac[0]&1 != 0 {
		return fmt.Errorf("the MAC address is %x", mac)
	}
	return nil
}
