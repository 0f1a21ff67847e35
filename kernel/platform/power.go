package platform

import (
	"osv/kernel/hw/acpi"
	"osv/kernel/hw/gate"
	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pio"
)

// preparePower tells metal how this machine is switched off, so that every way
// out of the program, a crash included, ends the machine.
func (s *System) preparePower() {
	if s.ACPI == nil {
		return
	}
	if w, err := s.ACPI.ResetWrite(); err == nil && w.Bits == 8 {
		if k, a, _, err := s.register(w.Reg, 1); err == nil {
			gate.SetReset(k, a, uintptr(w.Set))
		}
	}
	seq, err := s.ACPI.PowerOff()
	if err != nil {
		log.Warnf("%v; the machine can only be reset", err)
		return
	}
	var addr, value [2]uintptr
	kind, n := 0, 0
	for _, w := range seq {
		k, a, regs, err := s.register(w.Reg, int(w.Bits)/8)
		if err != nil {
			log.Warnf("power off: %v", err)
			return
		}
		cur := uint32(0)
		if w.Bits == 8 {
			cur = uint32(regs.Load8(0))
		} else {
			cur = uint32(regs.Load16(0))
		}
		v := uintptr(cur&^w.Clear | w.Set)
		// Of the writes to one register the last, which enables, is enough.
		if n > 0 && addr[0] == a {
			value[0] = v
		} else if n > 1 && addr[1] == a {
			value[1] = v
		} else if n < 2 {
			addr[n], value[n] = a, v
			kind, n = k, n+1
		}
	}
	gate.SetPowerOff(kind, addr[0], value[0], addr[1], value[1])
}

// register makes a register of n bytes reachable and says how metal would
// write it.
func (s *System) register(g acpi.GAS, n int) (kind int, addr uintptr, regs mmio.Space, err error) {
	if g.Space == acpi.SystemIO {
		kind = gate.OffPort16
		if n == 1 {
			kind = gate.OffPort8
		}
		regs, err = pio.New(uint16(g.Addr), uint32(n))
		return kind, uintptr(g.Addr), regs, err
	}
	regs, p, err := deviceMapper{}.window(g.Addr, n)
	return gate.OffMemory, uintptr(p), regs, err
}

// PM1 event registers, ACPI 6.5 §4.8.3.1: status and enable have the same bits.
const (
	pm1PowerButton = 1 << 8
	pm1ControlSCI  = 1 << 0 // PM1 control: SCI_EN
)

// watchPowerButton turns the hypervisor's request to shut down into SIGTERM for
// the program, whose default is to end.
func (s *System) watchPowerButton() {
	t := s.ACPI
	switch {
	case t == nil || t.FADT == nil:
	case t.FADT.HardwareReduced():
		s.watchGED()
	default:
		s.watchFixedButton(t.FADT)
	}
}

func (s *System) watchFixedButton(f *acpi.FADT) {
	if !f.PM1aEvent.Valid() || f.PM1aEvent.Space != acpi.SystemIO || f.PM1EventLen < 4 {
		return
	}
	half := mmio.Off(f.PM1EventLen / 2)
	regs, err := pio.New(uint16(f.PM1aEvent.Addr), uint32(f.PM1EventLen))
	if err != nil {
		log.Warnf("power button: %v", err)
		return
	}
	if ctl, err := pio.New(uint16(f.PM1aControl.Addr), 2); err == nil && ctl.Load16(0)&pm1ControlSCI == 0 && f.SMICommand != 0 && f.ACPIEnable != 0 {
		pio.Out8(uint16(f.SMICommand), f.ACPIEnable)
	}
	l, err := s.irqs.sci(f.SCI)
	if err != nil {
		log.Warnf("power button: %v", err)
		return
	}
	regs.Store16(0, pm1PowerButton) // clear what is pending
	regs.Store16(half, pm1PowerButton)
	go func() {
		for l.Wait() == nil {
			if regs.Load16(0)&pm1PowerButton != 0 {
				regs.Store16(0, pm1PowerButton)
				s.terminate()
			}
		}
	}()
}

// gedPowerDown is the bit of QEMU's event selector that asks for a power down.
const gedPowerDown = 1 << 1

func (s *System) watchGED() {
	g := s.ACPI.GED
	if g == nil || g.EventReg == 0 || len(g.Interrupts) == 0 {
		return
	}
	regs, err := deviceMapper{}.Map(g.EventReg, 4)
	if err != nil {
		log.Warnf("power button: %v", err)
		return
	}
	in := g.Interrupts[0]
	l, err := s.irqs.gsi(in.GSI, in.Polarity, in.Trigger)
	if err != nil {
		log.Warnf("power button: %v", err)
		return
	}
	go func() {
		for l.Wait() == nil {
			if regs.Load32(0)&gedPowerDown != 0 {
				s.terminate()
			}
		}
	}()
}
