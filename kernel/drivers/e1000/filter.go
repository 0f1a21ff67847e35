package e1000

import "osv/kernel/hw/mmio"

// filter is which frames the device hands up, SDM §13.5.
type filter struct {
	promiscuous  bool
	allMulticast bool
	mta          [mtaWords]uint32
}

// init passes all multicast frames, until SetMulticast names those wanted.
func (f *filter) init() { f.allMulticast = true }

// store writes receive address 0 and the multicast table, SDM §14.4.
func (f *filter) store(d *Device) {
	m := d.caps.MAC
	d.regs.Store32(regRAL, uint32(m[0])|uint32(m[1])<<8|uint32(m[2])<<16|uint32(m[3])<<24)
	d.regs.Store32(regRAH, uint32(m[4])|uint32(m[5])<<8|rahAV)
	for i := range mmio.Off(rarPairs - 1) {
		d.regs.Store32(regRAH+8*(i+1), 0)
	}
	f.storeMTA(d)
}

func (f *filter) storeMTA(d *Device) {
	for i, v := range f.mta {
		d.regs.Store32(regMTA+mmio.Off(4*i), v)
	}
}

// add is the hash of SDM §13.5.1 with RCTL.MO 0: bits 47 to 36 of the address.
func (f *filter) add(a [6]byte) {
	h := uint32(a[4])>>4 | uint32(a[5])<<4
	f.mta[h>>5&(mtaWords-1)] |= 1 << (h & 31)
}

// rctl is receive control for all that is configured.
func (d *Device) rctl() uint32 {
	v := uint32(rctlEN|rctlBAM|rctlSECRC) | d.rx.bsize
	if d.cfg.MTU > defaultMTU {
		v |= rctlLPE
	}
	if d.filter.promiscuous {
		v |= rctlUPE | rctlMPE
	}
	if d.filter.allMulticast {
		v |= rctlMPE
	}
	return v
}

// SetPromiscuous has the device hand up all frames, or only those for it.
func (d *Device) SetPromiscuous(on bool) error {
	return d.refilter(func(f *filter) { f.promiscuous = on })
}

// SetMulticast has the device hand up frames to these group addresses, and
// others that its hash of 4096 values cannot tell from them. Nil passes all, as
// it is before the first call.
func (d *Device) SetMulticast(groups [][6]byte) error {
	return d.refilter(func(f *filter) {
		f.allMulticast = groups == nil
		clear(f.mta[:])
		for _, a := range groups {
			f.add(a)
		}
		f.storeMTA(d)
	})
}

func (d *Device) refilter(change func(*filter)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.stopped(); err != nil {
		return err
	}
	change(&d.filter)
	d.regs.Store32(regRCTL, d.rctl())
	return nil
}
