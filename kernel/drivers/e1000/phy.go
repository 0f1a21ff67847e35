package e1000

import "fmt"

// mdic does one access of a PHY register, SDM §13.4.8.
func (d *Device) mdic(cmd uint32) (uint16, error) {
	d.regs.Store32(regMDIC, cmd|mdicPHY1)
	var v uint32
	if !d.until(func() bool { v = d.regs.Load32(regMDIC); return v&mdicReady != 0 }) || v == allOnes {
		return 0, fmt.Errorf("MDIC reads %#x: PHY register %d does not answer", v, cmd>>mdicRegShift&31)
	}
	if v&mdicError != 0 {
		return 0, fmt.Errorf("MDIC reads %#x: an error of PHY register %d", v, cmd>>mdicRegShift&31)
	}
	return uint16(v), nil
}

func (d *Device) readPHY(reg uint32) (uint16, error) {
	return d.mdic(mdicRead | reg<<mdicRegShift)
}

func (d *Device) writePHY(reg uint32, v uint16) error {
	_, err := d.mdic(mdicWrite | reg<<mdicRegShift | uint32(v))
	return err
}

// setupLink sets the link up, SDM §14.3 and §8.6, and has the PHY negotiate if it
// does not.
func (d *Device) setupLink() error {
	ctrl := d.regs.Load32(regCTRL)&^(ctrlForced|ctrlRFCE|ctrlTFCE|ctrlGIOMasterD) | ctrlSLU
	if d.model.ext {
		ctrl |= ctrlFD
	} else {
		ctrl |= ctrlASDE
	}
	d.regs.Store32(regCTRL, ctrl)
	v, err := d.readPHY(phyControl)
	if err != nil {
		return d.errorf("%w", err)
	}
	if v&phyEnableAN == 0 || v&(phyIsolate|phyPowerDown) != 0 {
		v = v&^(phyIsolate|phyPowerDown) | phyEnableAN | phyRestartAN
		if err := d.writePHY(phyControl, v); err != nil {
			return d.errorf("%w", err)
		}
	}
	return nil
}

// readLink learns the state of the link. Caller holds mu, or is New.
func (d *Device) readLink() {
	s := d.regs.Load32(regSTATUS)
	if s == allOnes {
		d.fail(d.errorf("STATUS reads %#x: the device is gone", s))
		return
	}
	d.link, d.speed = s&statusLU != 0, 0
	if d.link {
		d.speed = [4]int{10, 100, 1000, 1000}[s>>statusSpeedShift&3]
	}
	d.linkUp.Store(d.link && d.Err() == nil)
}

// linkChanged is the interrupt of that name.
func (d *Device) linkChanged() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closing {
		d.readLink()
	}
}
