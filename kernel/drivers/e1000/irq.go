package e1000

import (
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
)

// Causes of the queue and of the link, by the way interrupts come.
func (d *Device) rxCauses() uint32 {
	if d.cfg.MSIX {
		return intRXQ0
	}
	return intRX
}

func (d *Device) txCauses() uint32 {
	if d.cfg.MSIX {
		return intTXQ0
	}
	return intTXDW
}

// setupInterrupts chooses moderation and who masks, with all causes still off.
func (d *Device) setupInterrupts() {
	w := d.regs.Store32
	var ticks uint32
	if r := d.cfg.IntRate; r > 0 {
		ticks = min(uint32(1_000_000_000/r/itrTickNS), 0xFFFF)
	}
	w(regITR, ticks)
	if !d.model.ext {
		return
	}
	ext := d.regs.Load32(regCTRLEXT) &^ (ctrlExtEIAME | ctrlExtIAME)
	if d.cfg.MSIX {
		// 82574 §7.4.3: the queue's causes clear and mask themselves with the
		// message; the link's stay.
		for i := range mmio.Off(vectors) {
			w(regEITR+4*i, ticks)
		}
		w(regIVAR, ivarRXQ0|1<<ivarRXVec|ivarTXQ0|1<<ivarTXVec|ivarOther|0<<ivarOthVec)
		w(regEIAC, intRXQ0|intTXQ0)
		w(regIAM, intRXQ0|intTXQ0)
		w(regCTRLEXT, ext|ctrlExtEIAME|ctrlExtPBA)
		return
	}
	// A read of ICR masks the queue's causes, §7.4.5.
	w(regIAM, intRX|intTXDW)
	w(regCTRLEXT, ext|ctrlExtIAME)
}

// armLink lets link changes interrupt, which they do for good.
func (d *Device) armLink() {
	v := uint32(intLSC)
	if d.cfg.MSIX {
		v |= intOther
	}
	d.regs.Store32(regIMS, v)
}

// startLines starts a goroutine for each line that no receiver waits on itself.
// They end when the line is closed.
func (d *Device) startLines() {
	if !d.cfg.MSIX {
		d.wait.Init(nil)
		d.pump(d.lines[0], d.sharedInterrupt)
		return
	}
	if d.wait.Init(d.lines[1]) {
		d.pump(d.lines[1], d.wait.Wake)
	}
	d.pump(d.lines[0], d.linkInterrupt) // wakes it, so it comes after its Init
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

// sharedInterrupt finds out what the one line has to say. Reading ICR quiets the
// device, before the line is unmasked.
func (d *Device) sharedInterrupt() {
	icr := d.regs.Load32(regICR)
	if icr == allOnes {
		d.linkChanged()
		return
	}
	// The read of an interrupt that was asserted has masked the queue's causes there,
	// also where none of them is left since RxWait cleared it meanwhile: the receiver
	// must be woken to unmask them, or it sleeps for ever.
	masked := d.model.ext && icr&intAsserted != 0
	if icr&(intRX|intTXDW) != 0 || masked {
		if !d.model.ext {
			d.regs.Store32(regIMC, intRX|intTXDW)
		}
		d.wait.Wake()
	}
	if icr&(intLSC|intRXSEQ) != 0 {
		d.linkChanged()
	}
}

// linkInterrupt is MSI-X vector 0's. The causes are cleared by writing them, so
// that those of the queue stay.
func (d *Device) linkInterrupt() {
	d.regs.Store32(regICR, intLSC|intOther|intRXO|intRXDMT0)
	d.linkChanged()
	d.armLink()
}

// RxWake is pkt.Link's.
func (d *Device) RxWake(int) { d.wait.Wake() }

// RxWait is pkt.Link's. It may return with nothing to receive.
func (d *Device) RxWait(int) error {
	if err := d.stopped(); err != nil {
		return err
	}
	r, t := &d.rx, &d.tx
	t.idle()
	if !r.gate.Hold() {
		return ErrClosed
	}
	r.refillIfStarved()
	if r.batches > 1 && !d.cfg.MSIX {
		// Frames that were polled left their cause behind, which would interrupt
		// at once. One that comes after this line sets it again.
		d.regs.Store32(regICR, intRX)
	}
	r.batches = 0
	// From here on the device interrupts for the next frame; one that came before
	// is seen in the ring. So no wake-up is lost.
	d.regs.Store32(regIMS, d.rxCauses())
	quiet := !r.ready()
	r.gate.Leave()
	if quiet {
		if d.wait.Wait() != nil {
			d.lineClosed()
		}
		r.irqs.Add(1)
		t.woken()
	}
	return d.stopped()
}
