package e1000

import "time"

// startWatch has the ring looked at after Config.Hang, if that is not under way:
// one timer for all frames sent meanwhile. Caller holds mu.
func (t *txQueue) startWatch() {
	if t.watch || t.d.cfg.Hang < 0 {
		return
	}
	t.watch = true
	if t.timer == nil {
		t.timer = time.AfterFunc(t.d.cfg.Hang, t.d.look)
	} else {
		t.timer.Reset(t.d.cfg.Hang)
	}
}

// look resets a device that has reported nothing since the last look although it
// had frames to send and a link to send them on.
func (d *Device) look() {
	t := &d.tx
	t.mu.Lock()
	t.watch = false
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.reap()
	hung := t.used > 0 && t.stuck && d.linkUp.Load()
	// Without a link nothing is sent: that is no hang.
	t.stuck = t.used > 0 && d.linkUp.Load()
	if t.used > 0 {
		t.startWatch()
	}
	used := t.used
	t.mu.Unlock()
	if !hung {
		return
	}
	head, tail := d.regs.Load32(regTDH), d.regs.Load32(regTDT)
	if head == allOnes {
		d.fail(d.errorf("TDH reads %#x: the device is gone", head))
		return
	}
	d.faultf("transmit hangs: %d descriptors, TDH %d, TDT %d; the device is reset", used, head, tail)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closing && d.stopped() == nil {
		_ = d.restart() // Err has it
	}
}
