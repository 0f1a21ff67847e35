package vmxnet3

// fillFilter writes receive mode and multicast table into the shared area.
func (d *Device) fillFilter() {
	s := d.shared.Bytes
	le.PutUint32(s[dsRxMode:], d.mode)
	le.PutUint16(s[dsMFTableLen:], uint16(6*len(d.groups)))
	le.PutUint64(s[dsMFTable:], uint64(d.shared.Bus)+tableOff)
	for i, g := range d.groups {
		copy(s[tableOff+6*i:], g[:])
	}
}

// SetPromiscuous has the device hand up all frames, or only those for it.
func (d *Device) SetPromiscuous(on bool) error {
	return d.refilter(func() {
		d.mode &^= modePromiscuous
		if on {
			d.mode |= modePromiscuous
		}
	})
}

// SetMulticast has the device hand up frames to these group addresses only, or to
// all where there are more than 512. Nil passes all, as it is before the first
// call.
func (d *Device) SetMulticast(groups [][6]byte) error {
	return d.refilter(func() {
		d.mode &^= modeAllMulticast
		if d.groups = append(d.groups[:0], groups...); groups == nil || len(groups) > maxGroups {
			d.mode |= modeAllMulticast
			d.groups = d.groups[:0]
		}
	})
}

func (d *Device) refilter(change func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.stopped(); err != nil {
		return err
	}
	change()
	d.fillFilter()
	d.command(cmdUpdateRxMode)
	d.command(cmdUpdateMACFilters)
	return nil
}
