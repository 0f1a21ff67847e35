package platform

import (
	"errors"
	"fmt"

	"osv/kernel/drivers/e1000"
	"osv/kernel/drivers/vmxnet3"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/gate"
	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pci"
	"osv/kernel/irq"
	"osv/kernel/pkt"
)

// card is what a driver of a network card that is not virtio is given.
type card struct {
	name   string
	device *pci.Device
	regs   []mmio.Space // of the driver's BARs
	lines  []irq.Line
	msix   bool
	mem    dma.Allocator
	mtu    int
	lro    bool        // received TCP segments are to be merged
	ring   int         // descriptors of each ring
	rx, tx []*pkt.Pool // one for each of the queues that the lines can serve
}

// linkDriver is one line of the table of network cards.
type linkDriver struct {
	name string
	is   func(*pci.Device) bool
	bars []int // with the registers
	// lines is how many message interrupts it wants with so many processors; 0:
	// its pin, although it may have messages.
	lines func(cpus int) int
	// queues is how many queues those of the lines that it got serve.
	queues func(lines int) int
	// bufs is how many buffers a queue's rings take beside one for each
	// descriptor, for frames that take several.
	bufs func(ring int, c *card) int
	// rxBytes is the size of a receive buffer.
	rxBytes func(c *card) int
	open    func(c *card) (pkt.Link, error)
}

// e1000Driver is the part that the members of Intel's family share.
func e1000Driver(name string, lines int, is func(e1000.Model) bool) linkDriver {
	return linkDriver{
		name: name, bars: []int{0},
		is: func(d *pci.Device) bool {
			m, ok := e1000.Lookup(d.VendorID, d.DeviceID)
			return ok && is(m)
		},
		lines:   func(int) int { return lines },
		queues:  func(int) int { return 1 },
		bufs:    func(int, *card) int { return 0 },
		rxBytes: func(c *card) int { return e1000.RxBufBytes(rxPiece(c.mtu)) },
		open: func(c *card) (pkt.Link, error) {
			m, _ := e1000.Lookup(c.device.VendorID, c.device.DeviceID)
			return link(e1000.New(c.regs[0], c.mem, c.lines, e1000.Config{Name: c.name, Model: m, MSIX: c.msix,
				MTU: c.mtu, RxPool: c.rx[0], TxPool: c.tx[0], RxRing: c.ring, TxRing: c.ring}))
		},
	}
}

// linkDrivers is asked from top to bottom.
var linkDrivers = []linkDriver{
	// Some of the older cards say that they can send messages, and cannot.
	e1000Driver("e1000", 0, func(m e1000.Model) bool { return m != e1000.Model82574L }),
	e1000Driver("e1000e", 2, func(m e1000.Model) bool { return m == e1000.Model82574L }),
	{
		name: "vmxnet3", bars: []int{0, 1},
		is:     func(d *pci.Device) bool { return d.VendorID == vmxnet3.VendorID && d.DeviceID == vmxnet3.DeviceID },
		lines:  func(cpus int) int { return 2 + min(cpus, vmxnet3.MaxQueues) },
		queues: func(lines int) int { return max(1, lines-2) },
		bufs: func(ring int, c *card) int {
			if c.lro || c.mtu > rxPieceMTU {
				return 2 * ring // body buffers
			}
			return 64
		},
		rxBytes: func(c *card) int {
			if c.lro {
				return vmxnet3.RxBufBytes(largePiece)
			}
			return vmxnet3.RxBufBytes(rxPiece(c.mtu))
		},
		open: func(c *card) (pkt.Link, error) {
			return link(vmxnet3.New(c.regs[0], c.regs[1], c.mem, c.lines, vmxnet3.Config{Name: c.name, MSIX: c.msix,
				MTU: c.mtu, RxPools: c.rx, TxPools: c.tx, RxRing: c.ring, TxRing: c.ring, LRO: c.lro}))
		},
	},
}

// link is l as the interface, nil where there is an error.
func link[T pkt.Link](l T, err error) (pkt.Link, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}

// rxPieceMTU is the largest MTU whose frames are received into one buffer of 2 KiB.
const rxPieceMTU = 2048 - 18

// largePiece is the size of the pieces that larger frames are received into.
const largePiece = 4096

// rxPiece is how much of a frame a receive buffer takes: all of a usual frame, a
// page of a jumbo frame.
func rxPiece(mtu int) int {
	if mtu > rxPieceMTU {
		return largePiece
	}
	return 2048
}

// linkDriverOf is the driver that knows d, nil where none does or d is nil.
func linkDriverOf(d *pci.Device) *linkDriver {
	for i := range linkDrivers {
		if k := &linkDrivers[i]; d != nil && k.is(d) {
			return k
		}
	}
	return nil
}

// attachCard makes a driver of the network card at d, with buffers for its MTU.
func (s *System) attachCard(k *linkDriver, d *pci.Device, where string) (err error) {
	c := &card{name: fmt.Sprintf("eth%d", len(s.Links)), device: d, mem: s.Memory, mtu: s.Options.MTU}
	if c.mtu == 0 {
		c.mtu = 1500
	}
	for _, i := range k.bars {
		regs, err := d.MapBAR(i, portMapper{})
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		c.regs = append(c.regs, regs)
	}
	if n := k.lines(gate.CPUs()); n > 0 {
		c.lines, c.msix, err = s.pciLines(d, n)
	} else {
		c.lines, err = s.pinLine(d)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	n := netBuffersFor(int(gate.Memory().Total))
	c.ring, c.lro = n.ring, !s.Options.NoLRO && n.rxBytes > largePiece
	for range k.queues(len(c.lines)) {
		r, err1 := pkt.NewPool(s.Memory, n.rx+k.bufs(n.ring, c), k.rxBytes(c))
		x, err2 := pkt.NewPool(s.Memory, n.tx, n.txBytes)
		if r != nil {
			c.rx = append(c.rx, r)
		}
		if x != nil {
			c.tx = append(c.tx, x)
		}
		err = errors.Join(err, err1, err2)
	}
	var l pkt.Link
	if err == nil {
		d.SetBusMaster(true)
		l, err = k.open(c)
	}
	if err != nil {
		c.close()
		return fmt.Errorf("%s: %w", k.name, err)
	}
	s.irqs.nameLines(c.lines, c.name)
	s.Links = append(s.Links, l)
	a := l.Caps()
	log.Infof("%s: %s %s, %02x:%02x:%02x:%02x:%02x:%02x, %d queues, mtu %d", c.name, where, k.name,
		a.MAC[0], a.MAC[1], a.MAC[2], a.MAC[3], a.MAC[4], a.MAC[5], a.RxQueues, a.MTU)
	return nil
}

// close gives back what a card without a driver holds. A pool that the device may
// still write to has buffers out, and stays.
func (c *card) close() {
	for _, l := range c.lines {
		l.Close()
	}
	for _, p := range append(c.rx, c.tx...) {
		if err := p.Close(c.mem); err != nil {
			log.Warnf("%s: %v", c.name, err)
		}
	}
}

// pinLine is the line of a function's interrupt pin.
func (s *System) pinLine(d *pci.Device) ([]irq.Line, error) {
	if d.IntPin == 0 {
		return nil, errors.New("no interrupt pin")
	}
	d.SetINTx(true)
	l, err := s.irqs.pci(d.IntLine)
	if err != nil {
		return nil, err
	}
	return []irq.Line{l}, nil
}
