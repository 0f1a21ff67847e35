package e1000

import (
	"time"

	"osv/kernel/hw/mmio"
	"osv/kernel/pkt"
)

const (
	pollStep  = time.Millisecond
	pollTries = 100
)

// until polls f, and reports whether it came true within pollTries steps.
func (d *Device) until(f func() bool) bool {
	for range pollTries {
		if f() {
			return true
		}
		d.cfg.Pause(pollStep)
	}
	return f()
}

// halt ends all that the device does with memory: SDM §14.3, 82574 §4.6.1.
func (d *Device) halt() error {
	d.regs.Store32(regIMC, intAll)
	d.regs.Store32(regRCTL, 0)
	d.regs.Store32(regTCTL, tctlPSP)
	if d.model.ext {
		// 82574 §5.2.3: no new requests on the bus, then wait for those under way.
		d.regs.Store32(regCTRL, d.regs.Load32(regCTRL)|ctrlGIOMasterD)
		if !d.until(func() bool { return d.regs.Load32(regSTATUS)&statusGIOMaster == 0 }) {
			return d.errorf("STATUS reads %#x after GIO Master Disable: %w", d.regs.Load32(regSTATUS), errStuck)
		}
	}
	d.regs.Load32(regSTATUS) // the writes have arrived
	d.cfg.Pause(10 * time.Millisecond)
	return d.reset()
}

// reset is the global reset, SDM §14.3 and 82574 §4.6.2, §4.6.3.
func (d *Device) reset() error {
	d.regs.Store32(regCTRL, d.regs.Load32(regCTRL)|ctrlRST)
	d.cfg.Pause(time.Millisecond) // 1 µs at least, and the NVM is read again
	if !d.until(func() bool { return d.regs.Load32(regCTRL)&ctrlRST == 0 }) {
		return d.errorf("CTRL reads %#x: the reset does not end: %w", d.regs.Load32(regCTRL), errStuck)
	}
	if d.model.ext && !d.until(func() bool { return d.regs.Load32(regEECD)&eecdAutoRD != 0 }) {
		return d.errorf("EECD reads %#x: the NVM was not read", d.regs.Load32(regEECD))
	}
	d.regs.Store32(regIMC, intAll)
	d.regs.Load32(regICR)
	return nil
}

// start brings the device from any state to work.
func (d *Device) start() error {
	if d.regs.Load32(regSTATUS) == allOnes {
		return d.errorf("STATUS reads %#x: there is no device", uint32(allOnes))
	}
	if err := d.halt(); err != nil {
		return err
	}
	mac, err := d.readMAC()
	if err != nil {
		return err
	}
	if err := d.rx.init(d); err != nil {
		return err
	}
	if err := d.tx.init(d); err != nil {
		return err
	}
	d.setCaps(mac)
	if err := d.configure(); err != nil {
		return err
	}
	if d.rx.posted == 0 {
		return d.errorf("the pool has no buffer to start with")
	}
	return nil
}

// configure programs a device that was just reset: general, receive, transmit,
// interrupts, in the order of SDM §14.3 to §14.5.
func (d *Device) configure() error {
	if err := d.setupLink(); err != nil {
		return err
	}
	w := d.regs.Store32
	for _, r := range []mmio.Off{regFCAL, regFCAH, regFCT, regFCTTV} {
		w(r, 0) // no flow control, §14.3
	}
	pba := d.model.pba
	if d.cfg.MTU > 8192 {
		pba = d.model.pbaJumbo
	}
	w(regPBA, pba)
	d.setupInterrupts()

	// Receive, §14.4.
	d.filter.store(d)
	w(regRDTR, 0)
	w(regRADV, 0)
	if d.model.ext {
		w(regRFCTL, rfctlEXSTEN)
	}
	var sum uint32
	if d.caps.RxCsum {
		sum = rxcsumIPOFL | rxcsumTUOFL
	}
	w(regRXCSUM, sum)
	w(regRXDCTL, dctlGRAN|dctlWTHRESH1)
	d.rx.program()
	w(regRCTL, d.rctl())
	d.rx.refill()

	// Transmit, §14.5.
	d.tx.program()
	w(regTIDV, 0)
	w(regTADV, 0)
	ctl := uint32(tctlEN | tctlPSP | tctlCT | tctlCOLD | tctlRTLC)
	dctl := uint32(dctlGRAN | dctlWTHRESH1)
	if d.model.ext {
		ctl |= tctlMULR
		dctl |= txdctlSet
	}
	w(regTXDCTL, dctl)
	w(regTIPG, d.model.tipg)
	w(regTCTL, ctl)

	d.readLink()
	d.armLink()
	return nil
}

func (d *Device) setCaps(mac [6]byte) {
	on := !d.cfg.NoOffload
	d.caps = pkt.Caps{
		MAC: mac, MTU: d.cfg.MTU, RxQueues: 1, TxQueues: 1,
		TxCsum: on, RxCsum: on, TSO4: on, TSO6: on && d.model.tso6,
		TxScatter: d.tx.maxPieces(),
	}
	if on {
		d.caps.GSOMax = etherLen + 65535
	}
}

// Reset brings the device back from any state, with the same configuration. What
// was received and not yet taken, and what was taken to be sent and is not
// reported as sent, is dropped; the latter is counted in TxErrors. It may be
// called at any time.
func (d *Device) Reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.restart()
}

// restart is Reset. Caller holds mu.
func (d *Device) restart() error {
	if d.closing {
		return ErrClosed
	}
	if err := d.stopped(); err != nil {
		return err
	}
	if !d.rx.gate.Hold() {
		return ErrClosed
	}
	d.tx.mu.Lock()
	d.resets.Add(1)
	err := d.halt()
	if err == nil {
		d.rx.restart()
		d.tx.restart()
		err = d.configure()
	}
	d.tx.mu.Unlock()
	d.rx.gate.Leave()
	if err != nil {
		d.fail(err)
		return err
	}
	d.wait.Wake() // whoever slept arms the interrupt anew
	return nil
}
