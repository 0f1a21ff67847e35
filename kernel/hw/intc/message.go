package intc

import (
	"fmt"

	"osv/kernel/hw/pci/msi"
)

// Message address and data registers, SDM vol. 3A §11.11.1 and §11.11.2.
// Redirection hint 0 and destination mode 0: to the one CPU with that APIC ID.
// Delivery mode 0 (fixed), trigger mode 0 (edge).
const (
	messageAddr      = 0xFEE0_0000
	messageDestShift = 12
)

// Message composes what a device writes in order to raise vector on the CPU
// with this APIC ID, which must be below 255.
func Message(apicID uint32, vector uint8) (msi.Message, error) {
	if err := checkTarget(apicID, vector); err != nil {
		return msi.Message{}, fmt.Errorf("intc: message: %w", err)
	}
	return msi.Message{Addr: messageAddr | uint64(apicID)<<messageDestShift, Data: uint32(vector)}, nil
}
