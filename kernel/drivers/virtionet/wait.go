package virtionet

import (
	"time"

	"osv/kernel/drivers/virtio"
	"osv/kernel/irq"
)

// startLines starts the goroutines of all lines on which no receive loop waits
// by itself. They end when the line is closed.
func (d *Device) startLines() {
	if len(d.lines) == 1 {
		for i := range d.wait {
			d.wait[i].Init(nil)
		}
		d.pump(d.lines[0], d.sharedInterrupt)
		return
	}
	for i := range d.wait {
		if w := &d.wait[i]; w.Init(d.lines[1+i]) {
			d.pump(d.lines[1+i], w.Wake)
		}
	}
	d.pump(d.lines[0], d.configChanged) // wakes them, so it comes after their Init
}

func (d *Device) pump(l irq.Line, work func()) {
	d.pumps.Go(func() { irq.Serve(l, work, d.lineClosed) })
}

// lineClosed is for a line that ended: if not by Close, the device is of no use.
func (d *Device) lineClosed() {
	if !d.closed.Load() {
		d.fail(d.dev.Errorf("interrupt line was closed"))
	}
}

// sharedInterrupt finds out what a line that all share has to say. On INTx and
// MMIO, reading the ISR also quiets the device, before the line is unmasked.
func (d *Device) sharedInterrupt() {
	config, queues := d.dev.Interrupt()
	if config {
		d.configChanged()
	}
	if !queues {
		return
	}
	for i := range d.wait {
		if d.rx[i].vq.Fired() || d.tx[i].wanted.Load() && d.tx[i].vq.Fired() {
			d.wait[i].Wake()
		}
	}
}

// RxWake is pkt.Link's.
func (d *Device) RxWake(q int) { d.wait[q].Wake() }

// RxWait is pkt.Link's. It may return with nothing to receive.
func (d *Device) RxWait(q int) error {
	if err := d.stopped(); err != nil {
		return err
	}
	r, t := &d.rx[q], &d.tx[q]
	t.idle()
	if !r.gate.Enter() {
		return virtio.ErrClosed
	}
	r.refillIfStarved()
	// From here on the device interrupts for the next frame; one that came
	// before is seen by Arm. So no wake-up is lost.
	quiet := r.vq.Arm()
	r.gate.Leave()
	if quiet {
		if d.wait[q].Wait() != nil {
			d.lineClosed()
		}
		r.irqs.Add(1)
		t.woken()
	}
	if r.gate.Enter() {
		r.vq.Disarm()
		r.gate.Leave()
	}
	return d.stopped()
}

// refillIfStarved tries to fill a ring that got low when the pool was empty.
// Where the device may have too few buffers for the frame it has, no interrupt can
// come, so a timer wakes the goroutine to try again.
func (r *rxQueue) refillIfStarved() {
	if r.vq.Free() < r.refillAt {
		return
	}
	r.refill()
	if r.vq.InFlight() >= r.least {
		return
	}
	if r.retry == nil {
		r.retry = time.AfterFunc(rxRetry, func() { r.d.RxWake(int(r.index)) })
	} else {
		r.retry.Reset(rxRetry)
	}
}
