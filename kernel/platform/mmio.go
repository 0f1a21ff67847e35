package platform

import (
	"errors"
	"fmt"
	"sort"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/acpi"
	"osv/kernel/irq"
)

// mmioSlot is a virtio-mmio slot from either source.
type mmioSlot struct {
	base, size uint64
	gsi        uint32
	polarity   acpi.Polarity
	trigger    acpi.Trigger
}

// scanMMIO finds the occupied virtio-mmio slots that the firmware tables
// (microvm with ACPI) or the command line (Firecracker) name.
func (s *System) scanMMIO() []found {
	var slots []mmioSlot
	for _, m := range s.Options.MMIO {
		slots = append(slots, mmioSlot{base: m.Base, size: m.Size, gsi: m.GSI, polarity: acpi.ActiveHigh, trigger: acpi.Edge})
	}
	if s.ACPI != nil {
		for _, m := range s.ACPI.VirtioMMIO {
			slots = append(slots, mmioSlot{m.Base, m.Size, m.Interrupt.GSI, m.Interrupt.Polarity, m.Interrupt.Trigger})
		}
	}
	sort.Slice(slots, func(i, j int) bool { return slots[i].base < slots[j].base })
	var out []found
	for i, m := range slots {
		if i > 0 && slots[i-1].base == m.base {
			continue // named twice
		}
		if f, ok := s.probeMMIO(m); ok {
			out = append(out, f)
		}
	}
	return out
}

func (s *System) probeMMIO(m mmioSlot) (found, bool) {
	where := fmt.Sprintf("mmio %#x", m.base)
	if m.size < 0x100 || m.size > 1<<20 {
		log.Warnf("%s: a slot of %#x bytes", where, m.size)
		return found{}, false
	}
	regs, err := deviceMapper{}.Map(m.base, int(m.size))
	if err != nil {
		log.Warnf("%s: %v", where, err)
		return found{}, false
	}
	t, err := virtio.NewMMIO(regs)
	if err != nil {
		if !errors.Is(err, virtio.ErrNoDevice) {
			log.Warnf("%s: %v", where, err)
		}
		return found{}, false
	}
	open := func(int) (virtio.Transport, []irq.Line, error) {
		l, err := s.irqs.gsi(m.gsi, m.polarity, m.trigger)
		if err != nil {
			return nil, nil, err
		}
		return t, []irq.Line{l}, nil
	}
	return found{id: t.DeviceID(), where: where, open: open}, true
}
