package vmxnet3

import "osv/kernel/irq"

// startLines starts a goroutine for each line that no receiver waits on itself.
// They end when the line is closed.
func (d *Device) startLines() {
	if !d.cfg.MSIX {
		for i := range d.rx {
			d.rx[i].wait.Init(nil)
		}
		d.pump(d.lines[0], d.sharedInterrupt)
		return
	}
	for i := range d.rx {
		if w := &d.rx[i].wait; w.Init(d.lines[1+i]) {
			d.pump(d.lines[1+i], w.Wake)
		}
	}
	d.pump(d.lines[0], func() { // wakes receivers, so it comes after their Inits
		d.masked(0)
		d.events()
		d.mask(0, 0)
	})
	d.pump(d.lines[d.txIntr()], func() {
		d.masked(d.txIntr())
		d.room()
	})
}

func (d *Device) pump(l irq.Line, work func()) {
	d.pumps.Go(func() { irq.Serve(l, work, d.lineClosed) })
}

// lineClosed is for a line that ended: if not by Close, the device is of no use.
func (d *Device) lineClosed() {
	if !d.closed.Load() {
		d.fail(d.errorf("interrupt line was closed"))
	}
}

// masked is called when an interrupt came: the device has masked it, or has left
// that to us.
func (d *Device) masked(intr int) {
	if d.active {
		d.mask(intr, 1)
	}
}

// sharedInterrupt finds out what the one line has to say. Reading ICR quiets a
// pin, before the line is unmasked; it is 0 for a message.
func (d *Device) sharedInterrupt() {
	d.vd.Load32(regICR)
	d.masked(0)
	d.events()
	d.room()
	d.wakeAll() // who looks, finds nothing, and arms again
}

// events handles what the device says beside frames.
func (d *Device) events() {
	e := word32(d.shared, dsECR)
	if e == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		return
	}
	d.vd.Store32(regECR, e)
	if e&eventLink != 0 {
		d.readLink()
	}
	if e&(eventRxQueue|eventTxQueue) != 0 {
		d.queueStopped()
	}
}

// queueStopped notes which queues stopped and why, and resets the device.
func (d *Device) queueStopped() {
	d.command(cmdQueueStatus)
	for i := range 2 * len(d.rx) {
		q := d.queues.Bytes[i*queueDescBytes:]
		if q[qdStopped]&1 == 0 {
			continue
		}
		kind, k := "transmit", i
		if i >= len(d.rx) {
			kind, k = "receive", i-len(d.rx)
		}
		code := le.Uint32(q[qdError:])
		d.faultf("%s queue %d stopped, error %#x: %s; the device is reset", kind, k, code, stopReason(code))
	}
	_ = d.restart() // Err has it
}

// RxWake is pkt.Link's.
func (d *Device) RxWake(q int) { d.rx[q].wait.Wake() }

// RxWait is pkt.Link's. It may return with nothing to receive.
func (d *Device) RxWait(q int) error {
	if err := d.stopped(); err != nil {
		return err
	}
	r := &d.rx[q]
	d.tx[q].idle()
	if !r.gate.Hold() {
		return ErrClosed
	}
	r.refillIfStarved()
	// From here on the device interrupts for the next frame; one that came before
	// is seen in the ring. So no wake-up is lost.
	d.mask(d.rxIntr(q), 0)
	quiet := !r.ready()
	r.gate.Leave()
	if quiet {
		if r.wait.Wait() != nil {
			d.lineClosed()
		}
		r.irqs.Add(1)
		if d.cfg.MSIX {
			d.masked(d.rxIntr(q))
		}
	}
	return d.stopped()
}

// room is the transmit interrupt: it takes back what was sent, and wakes those
// who waited for it.
func (d *Device) room() {
	for i := range d.tx {
		if d.tx[i].woken() {
			d.rx[i].wait.Wake()
		}
	}
}
