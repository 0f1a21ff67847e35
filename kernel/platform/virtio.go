package platform

import (
	"errors"
	"fmt"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtionet"
	"osv/kernel/drivers/virtiorng"
	"osv/kernel/hw/gate"
	"osv/kernel/hw/pci"
	"osv/kernel/irq"
	"osv/kernel/pkt"
)

// found is a device before a driver takes it: a virtio device, or a PCI function
// that is none.
type found struct {
	id    virtio.DeviceID // 0: not virtio
	pci   *pci.Device     // nil: virtio
	where string          // for messages: "pci 00:03.0", "mmio 0xfeb00e00"
	// open gives the driver's way in: the transport and up to n interrupt lines,
	// one where the device has a single interrupt. It is called once. Nil: not
	// virtio.
	open func(n int) (virtio.Transport, []irq.Line, error)
}

// findDevices lists the machine's devices in a stable order: PCI functions by
// address, then virtio's MMIO slots by address.
func (s *System) findDevices() []found {
	var out []found
	if !s.Options.NoPCI {
		out = append(out, s.scanPCI()...)
	}
	return append(out, s.scanMMIO()...)
}

func (s *System) attachRandom(bus []found) {
	for _, f := range bus {
		if f.id != virtio.IDEntropy {
			continue
		}
		if err := s.seedFrom(f); err != nil {
			log.Warnf("%s: %v", f.where, err)
		}
	}
}

// seedFrom mixes 64 bytes of the device into the kernel's generator and keeps
// nothing: one seed is enough for a generator with fast key erasure.
func (s *System) seedFrom(f found) error {
	t, lines, err := f.open(1)
	if err != nil {
		return err
	}
	d, err := virtiorng.New(t, s.Memory, lines[0])
	if err != nil {
		return err
	}
	defer d.Close()
	seed := make([]byte, 64)
	for n := 0; n < len(seed); {
		k, err := d.Read(seed[n:])
		if err != nil {
			return err
		}
		n += k
	}
	gate.Mix(seed)
	clear(seed)
	s.Random++
	return nil
}

// netBuffers are the buffers of each queue pair of a network card.
type netBuffers struct {
	ring    int // descriptors of each ring
	rx, tx  int // buffers to receive into, and to send from
	rxBytes int // size of a receive buffer
	txBytes int
}

// netBuffersFor sizes them for a guest with total bytes of RAM. One receive ring's
// worth can be in the ring while three times as many are with the stack; a small
// machine gets a quarter. The odd number of cache lines of a receive buffer makes
// the headers of a batch fall into all sets of a cache; sixteen take the largest
// frame, 64 KiB.
func netBuffersFor(total int) netBuffers {
	if total < 64<<20 {
		return netBuffers{ring: 128, rx: 256, tx: 128, rxBytes: 2048, txBytes: 2048}
	}
	return netBuffers{ring: 256, rx: 1024, tx: 512, rxBytes: 66 * 64, txBytes: 2048}
}

// recvMem is how many bytes of receive buffers TCP connections may hold: half of
// what one queue has beyond its ring.
func (n netBuffers) recvMem() int { return (n.rx - n.ring) * n.rxBytes / 2 }

// attachLinks makes a driver of each network card: eth0, eth1, … in scan order.
func (s *System) attachLinks(bus []found) {
	for _, f := range bus {
		driver := linkDriverOf(f.pci)
		if f.id != virtio.IDNet && driver == nil {
			continue
		}
		if o := s.Options.MaxNIC; o >= 0 && len(s.Links) >= o {
			log.Infof("%s: left alone (--maxnic=%d)", f.where, o)
			continue
		}
		attach := s.attachLink
		if driver != nil {
			attach = func(f found) error { return s.attachCard(driver, f.pci, f.where) }
		}
		if err := attach(f); err != nil {
			log.Warnf("%s: %v", f.where, err)
		}
	}
}

func (s *System) attachLink(f found) error {
	t, lines, err := f.open(1 + gate.CPUs())
	if err != nil {
		return err
	}
	name := fmt.Sprintf("eth%d", len(s.Links))
	n := netBuffersFor(int(gate.Memory().Total))
	cfg := virtionet.Config{Name: name, RxRing: n.ring, TxRing: n.ring, LRO: !s.Options.NoLRO}
	for range max(1, len(lines)-1) {
		r, err1 := pkt.NewPool(s.Memory, n.rx, n.rxBytes)
		x, err2 := pkt.NewPool(s.Memory, n.tx, n.txBytes)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		cfg.RxPools, cfg.TxPools = append(cfg.RxPools, r), append(cfg.TxPools, x)
	}
	d, err := virtionet.New(t, s.Memory, lines, cfg)
	if err != nil {
		return err
	}
	c := d.Caps()
	log.Infof("%s: %s, %02x:%02x:%02x:%02x:%02x:%02x, %d queues, mtu %d", name, f.where,
		c.MAC[0], c.MAC[1], c.MAC[2], c.MAC[3], c.MAC[4], c.MAC[5], c.RxQueues, c.MTU)
	s.irqs.nameLines(lines, name)
	s.Links = append(s.Links, d)
	return nil
}
