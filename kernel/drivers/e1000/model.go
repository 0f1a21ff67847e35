package e1000

import "fmt"

// Model is a kind of card.
type Model int

const (
	Model82540EM Model = 1 + iota
	Model82545EM
	Model82574L
)

func (m Model) String() string {
	if s := models[m]; s != nil {
		return s.name
	}
	return fmt.Sprintf("model %d", int(m))
}

// model is what tells the kinds apart.
type model struct {
	name      string
	ext       bool // 82574: PCI Express, MSI-X, extended descriptors
	tso6      bool
	eerdDone  uint32 // EERD, SDM §13.4.4; 82574 §10.2.2.4
	eerdShift int    // of the word's address
	tipg      uint32 // SDM §13.4.34; 82574 §10.2.6.2
	pba       uint32 // KiB of the packet buffer for receive at the usual MTU, SDM §13.4.13
	pbaJumbo  uint32 // and with frames beyond 8 KiB
}

var models = map[Model]*model{
	Model82540EM: {name: "82540EM", eerdDone: 1 << 4, eerdShift: 8, tipg: 0x0060200A, pba: 48, pbaJumbo: 40},
	Model82545EM: {name: "82545EM", eerdDone: 1 << 4, eerdShift: 8, tipg: 0x0060200A, pba: 48, pbaJumbo: 40},
	Model82574L:  {name: "82574L", ext: true, tso6: true, eerdDone: 1 << 1, eerdShift: 2, tipg: 0x00602008, pba: 20, pbaJumbo: 20},
}

// Lookup is the model of a PCI function, SDM §5.2 and 82574 §9.1.
func Lookup(vendor, device uint16) (Model, bool) {
	if vendor != 0x8086 {
		return 0, false
	}
	switch device {
	case 0x100E, 0x1015:
		return Model82540EM, true
	case 0x100F:
		return Model82545EM, true
	case 0x10D3, 0x10F6:
		return Model82574L, true
	}
	return 0, false
}
