package virtionet

import (
	"time"

	"osv/kernel/drivers/virtio"
	"osv/kernel/irq"
)

// waiter is where the receive goroutine of one pair sleeps: on the pair's own
// line, if that can be woken by others too, else on a channel that the line's
// goroutine (pump) feeds.
type waiter struct {
	line irq.Line  // nil: ch
	wakr irq.Waker // line's
	ch   chan struct{}
}

func (w *waiter) init(lines []irq.Line, pair int) {
	if len(lines) > 1 {
		if k, ok := lines[1+pair].(irq.Waker); ok {
			w.line, w.wakr = lines[1+pair], k
			return
		}
	}
	w.ch = make(chan struct{}, 1)
}

// wait returns an error where the line was closed.
func (w *waiter) wait() error {
	if w.line == nil {
		<-w.ch
		return nil
	}
	return w.line.Wait()
}

func (w *waiter) wake() {
	if w.line != nil {
		w.wakr.Wake()
		return
	}
	select {
	case w.ch <- struct{}{}:
	default:
	}
}

// startLines starts the goroutines of all lines on which no receive loop waits
// by itself. They end when the line is closed.
func (d *Device) startLines() {
	if len(d.lines) == 1 {
		d.pump(d.lines[0], d.sharedInterrupt)
		return
	}
	d.pump(d.lines[0], d.configChanged)
	for i := range d.wait {
		if w := &d.wait[i]; w.line == nil {
			d.pump(d.lines[1+i], w.wake)
		}
	}
}

func (d *Device) pump(l irq.Line, work func()) {
	d.pumps.Go(func() {
		for l.Wait() == nil {
			work()
		}
		d.lineClosed()
	})
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
	if !d.dev.Transport.MSIX() {
		isr := d.dev.Transport.AckInterrupt()
		if isr&virtio.ISRConfig != 0 {
			d.configChanged()
		}
		if isr&virtio.ISRQueue == 0 {
			return
		}
	}
	for i := range d.wait {
		if d.rx[i].vq.Fired() || d.tx[i].wanted.Load() && d.tx[i].vq.Fired() {
			d.wait[i].wake()
		}
	}
}

// RxWake is pkt.Link's.
func (d *Device) RxWake(q int) { d.wait[q].wake() }

// RxWait is pkt.Link's. It may return with nothing to receive.
func (d *Device) RxWait(q int) error {
	if err := d.stopped(); err != nil {
		return err
	}
	r, t := &d.rx[q], &d.tx[q]
	t.idle()
	if !r.enter() {
		return virtio.ErrClosed
	}
	r.refillIfStarved()
	// From here on the device interrupts for the next frame; one that came
	// before is seen by Arm. So no wake-up is lost.
	quiet := r.vq.Arm()
	r.leave()
	if quiet {
		if d.wait[q].wait() != nil {
			d.lineClosed()
		}
		r.irqs.Add(1)
		t.woken()
	}
	if r.enter() {
		r.vq.Disarm()
		r.leave()
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
